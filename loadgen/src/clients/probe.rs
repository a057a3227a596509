//! One connection before all others: does the server answer an upgrade, and does it have the rooms?

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use bytes::Bytes;
use uproar_protocol::connection::{Action, Connection, Event};
use uproar_protocol::frames::{MessageKind, Violation};
use uproar_protocol::upgrade::{self, Refusal};

use crate::clients::endpoint::{CONFIG, NO_SUBPROTOCOLS};
use crate::clients::failure::refused;
use crate::dialect::chat::{self, INITIAL_ROOM, Notice};
use crate::dialect::join::{JoinStep, Progress};
use crate::error::Error;
use crate::network::security::{Security, TlsFailure};
use crate::network::target::Target;
use crate::network::wire::{ConnectError, Wire, receive};

const TIMEOUT: Duration = Duration::from_secs(5);
/// How long the probe waits for the server to end the connection.
const GOODBYE_TIMEOUT: Duration = Duration::from_secs(1);
/// How much is received at a time.
const PIECE_BYTES: usize = 4096;

/// A connection that has been upgraded.
#[derive(Debug)]
pub struct Probe {
    tcp: TcpStream,
    connection: Connection<Bytes>,
    /// When the connection began; its time is counted from there.
    begun: Instant,
    /// The version and the cipher suite of TLS, where there is TLS.
    agreed: Option<String>,
    url: String,
}

impl Probe {
    /// Connects and upgrades.
    ///
    /// # Errors
    ///
    /// [`Error::Preflight`], with what the server did instead.
    pub fn upgrade(
        address: SocketAddr,
        target: &Target,
        path: &str,
        security: Option<&Security>,
    ) -> Result<Self, Error> {
        let url = target.url_of(path);
        let failed = |why: String| Error::Preflight(format!("{url}: {why}"));
        let at = |what: String| failed(format!("{what}; is it up, and are --url and --dialect right?"));
        let connected = Wire::connect(address, TIMEOUT, security);
        let mut stream = connected.map_err(|error| match error {
            ConnectError::Unreachable(..) => at(error.to_string()),
            // What to do about TLS it says itself.
            ConnectError::Tls(_) | ConnectError::Handshake(_) => failed(error.to_string()),
        })?;
        let key = upgrade::key(*b"loadgen's probe!");
        let silent = |error: io::Error| match error.kind() {
            // What a read that timed out says depends on the system (SO_RCVTIMEO in socket(7)).
            ErrorKind::WouldBlock | ErrorKind::TimedOut => {
                at("no answer to an upgrade within 5 s".to_owned())
            }
            _ => at(format!("no answer to an upgrade: {error}")),
        };
        stream.write_all(upgrade::request(&target.authority, path, &key, []).as_bytes()).map_err(silent)?;
        let mut response = Vec::new();
        let mut piece = [0; 4096];
        let deadline = Instant::now() + TIMEOUT;
        loop {
            let received = stream.read(&mut piece).map_err(silent)?;
            if Instant::now() > deadline {
                return Err(silent(ErrorKind::TimedOut.into()));
            }
            match received {
                0 => {
                    let hint =
                        if security.is_none() { "; if it speaks TLS, write wss:// in --url" } else { "" };
                    return Err(at(format!("the server closed the connection instead of answering{hint}")));
                }
                count => response.extend_from_slice(&piece[..count]),
            }
            let checked = upgrade::check_response(&response, &key, NO_SUBPROTOCOLS);
            let refusal = |why: Refusal| match why {
                Refusal::Tls => failed(refused(&why)),
                _ => at(refused(&why)),
            };
            if let Some(accepted) = checked.map_err(refusal)? {
                let agreed = stream.agreed();
                let (tcp, tls, unread) = stream.into_parts();
                let mut connection = Connection::new(&CONFIG, tls, 0);
                connection.keep(&response[accepted.head_bytes..]);
                connection.keep(&unread);
                return Ok(Self { tcp, connection, begun: Instant::now(), agreed, url });
            }
        }
    }

    /// The version and the cipher suite of TLS, where there is TLS.
    #[must_use]
    pub fn agreed(&self) -> Option<&str> {
        self.agreed.as_deref()
    }

    /// Joins each of the chat rooms in turn.
    ///
    /// # Errors
    ///
    /// [`Error::Preflight`], naming the first room that cannot be joined.
    pub fn join(&mut self, rooms: &[String]) -> Result<(), Error> {
        let mut step = JoinStep::Welcome;
        // The first room is where everybody begins.
        for room in std::iter::once(INITIAL_ROOM).chain(rooms.iter().map(String::as_str)) {
            if room == INITIAL_ROOM && step != JoinStep::Welcome {
                continue;
            }
            if step != JoinStep::Welcome {
                let pushed =
                    self.connection.push_message(MessageKind::Text, chat::join_room(room).as_bytes());
                pushed.expect("Bug: a probe that joins has nothing else to send");
                self.transmit().map_err(|error| Error::Preflight(format!("{}: {error}", self.url)))?;
            }
            self.await_join(step, room)?;
            step = JoinStep::RoomJoined;
        }
        Ok(())
    }

    fn await_join(&mut self, mut step: JoinStep, room: &str) -> Result<(), Error> {
        let deadline = Instant::now() + TIMEOUT;
        let at = |url: &str, what: String| Error::Preflight(format!("{url}: {what}"));
        loop {
            while let Some(text) =
                self.next_text().map_err(|why| at(&self.url, format!("protocol violation: {why}")))?
            {
                let notice = chat::parse_notice(text.as_bytes());
                if let Some(Notice::Error(answer)) = &notice {
                    return Err(Error::Preflight(format!(
                        "--room: the server has no room {room:?} to join ({answer}); name one that it has, or \
                         start it with that room"
                    )));
                }
                match step.next(notice, INITIAL_ROOM) {
                    Ok(Progress::Await(next)) => step = next,
                    Ok(Progress::Ask(_) | Progress::Done) => return Ok(()),
                    Err(why) => {
                        let why = why.unwrap_or(text);
                        return Err(at(&self.url, format!("room {room:?} cannot be joined: {why}")));
                    }
                }
            }
            let late = Instant::now() > deadline;
            match self.receive() {
                Ok(true) if !late => {}
                _ => return Err(at(&self.url, format!("room {room:?} was not joined within 5 s"))),
            }
        }
    }

    /// The next text message of what has been received.
    fn next_text(&mut self) -> Result<Option<String>, Violation> {
        let now_ms = self.now_ms();
        while self.connection.is_reading() {
            let received = self.connection.take_pending();
            let mut input = &received[..];
            let found = match self.connection.poll_event(&mut input, || now_ms) {
                None => Some(Ok(None)),
                Some(Event::Text(text)) => Some(Ok(Some(text.into_owned()))),
                Some(Event::Failed(violation)) => Some(Err(violation)),
                // None of ours; or a ping or a close, whose answer leaves with what is sent next.
                Some(Event::Binary(_) | Event::Ping(_) | Event::Pong(_) | Event::Closed(_)) => None,
            };
            let read_bytes = received.len() - input.len();
            self.connection.put_back(received, read_bytes);
            if let Some(found) = found {
                return found;
            }
        }
        Ok(None)
    }

    /// Sends what waits, then waits for more and keeps it to be read. False when there will be no more.
    fn receive(&mut self) -> io::Result<bool> {
        self.transmit()?;
        let mut piece = [0; PIECE_BYTES];
        let count = receive(&self.tcp, &mut piece)?;
        if count == 0 {
            return Ok(false);
        }
        if !self.connection.is_encrypted() {
            self.connection.keep(&piece[..count]);
            return Ok(true);
        }
        let mut plaintext = Vec::new();
        let result = self.connection.decrypt(&piece[..count], &mut plaintext);
        self.connection.keep(&plaintext);
        result.map_err(|error| io::Error::other(TlsFailure::from(error)))?;
        Ok(!self.connection.peer_has_closed_tls())
    }

    /// Sends what waits.
    fn transmit(&mut self) -> io::Result<()> {
        let mut scratch = Vec::new();
        while let Some(action) = self
            .connection
            .poll_action(&mut scratch)
            .map_err(|error| io::Error::other(TlsFailure::from(error)))?
        {
            match action {
                Action::Send(batch) => {
                    for index in 0..batch.entry_count() {
                        self.tcp.write_all(batch.slice(index))?;
                    }
                    let sent_bytes = batch.remaining_bytes();
                    let now_ms = self.now_ms();
                    self.connection.handle_sent(batch, sent_bytes, now_ms);
                }
                // Nothing is received but to be read, and the server ends TCP (RFC 6455, 7.1.1).
                Action::PauseReceive | Action::ResumeReceive | Action::ShutdownWrite | Action::Close(_) => {}
            }
        }
        Ok(())
    }

    /// Says goodbye and waits for the server to be done with it: a probe that is not would still be a
    /// member when measuring begins.
    pub fn close(mut self) {
        let now_ms = self.now_ms();
        self.connection.close(1000, "", now_ms);
        let _ = self.tcp.set_read_timeout(Some(GOODBYE_TIMEOUT));
        let deadline = Instant::now() + GOODBYE_TIMEOUT;
        while Instant::now() < deadline && self.receive().is_ok_and(|goes_on| goes_on) {
            // What still comes is of no interest, but for the answer to the close.
            while let Ok(Some(_)) = self.next_text() {}
        }
    }

    fn now_ms(&self) -> u64 {
        self.begun.elapsed().as_millis() as u64
    }
}
