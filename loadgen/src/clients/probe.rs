//! One connection before all others: does the server answer an upgrade, and does it have the rooms?

use std::io::{self, ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use uproar_protocol::frames::{self, Event, Opcode, Reader, Role};
use uproar_protocol::upgrade::{self, Refusal};

use crate::clients::failure::refused;
use crate::clients::{MESSAGE_BYTES_MAX, NO_SUBPROTOCOLS};
use crate::dialect::chat::{self, INITIAL_ROOM, Notice};
use crate::dialect::join::{JoinStep, Progress};
use crate::error::Error;
use crate::network::security::Security;
use crate::network::target::Target;
use crate::network::wire::{ConnectError, Wire};

const TIMEOUT: Duration = Duration::from_secs(5);
/// How long the probe waits for the server to end the connection.
const GOODBYE_TIMEOUT: Duration = Duration::from_secs(1);
/// A server reads masks, and does not care which.
const MASK: [u8; 4] = [1, 2, 3, 4];

/// A connection that has been upgraded.
#[derive(Debug)]
pub struct Probe {
    stream: Wire,
    /// What came behind the response's head and has not been read.
    rest: Vec<u8>,
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
                let rest = response.split_off(accepted.head_bytes);
                return Ok(Self { stream, rest, url });
            }
        }
    }

    /// The version and the cipher suite of TLS, where there is TLS.
    #[must_use]
    pub fn agreed(&self) -> Option<String> {
        self.stream.agreed()
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
                self.send(Opcode::Text, chat::join_room(room).as_bytes())?;
            }
            self.await_join(step, room)?;
            step = JoinStep::RoomJoined;
        }
        Ok(())
    }

    fn await_join(&mut self, mut step: JoinStep, room: &str) -> Result<(), Error> {
        let deadline = Instant::now() + TIMEOUT;
        let at = |url: &str, what: String| Error::Preflight(format!("{url}: {what}"));
        let mut reader = Reader::new(Role::Client, MESSAGE_BYTES_MAX);
        loop {
            let received = std::mem::take(&mut self.rest);
            let mut input = &received[..];
            while let Some(event) =
                reader.next(&mut input).map_err(|why| at(&self.url, format!("protocol violation: {why}")))?
            {
                let Event::Text(text) = event else { continue };
                let notice = chat::parse_notice(text.as_bytes());
                if let Some(Notice::Error(answer)) = &notice {
                    return Err(Error::Preflight(format!(
                        "--room: the server has no room {room:?} to join ({answer}); name one that it has, or \
                         start it with that room"
                    )));
                }
                match step.next(notice, INITIAL_ROOM) {
                    Ok(Progress::Await(next)) => step = next,
                    Ok(Progress::Ask(_) | Progress::Done) => {
                        self.rest = input.to_vec();
                        return Ok(());
                    }
                    Err(why) => {
                        let why = why.unwrap_or_else(|| text.into_owned());
                        return Err(at(&self.url, format!("room {room:?} cannot be joined: {why}")));
                    }
                }
            }
            let mut piece = [0; 4096];
            let late = Instant::now() > deadline;
            match self.stream.read(&mut piece) {
                Ok(count) if count > 0 && !late => self.rest.extend_from_slice(&piece[..count]),
                _ => return Err(at(&self.url, format!("room {room:?} was not joined within 5 s"))),
            }
        }
    }

    fn send(&mut self, opcode: Opcode, payload: &[u8]) -> Result<(), Error> {
        let frame = frames::frame(opcode, payload, Some(MASK));
        self.stream.write_all(&frame).map_err(|error| Error::Preflight(format!("{}: {error}", self.url)))
    }

    /// Says goodbye and waits for the server to be done with it: a probe that is not would still be a
    /// member when measuring begins.
    pub fn close(mut self) {
        let _ = self.send(Opcode::Close, &1000_u16.to_be_bytes());
        let _ = self.stream.set_read_timeout(GOODBYE_TIMEOUT);
        let deadline = Instant::now() + GOODBYE_TIMEOUT;
        let mut piece = [0; 4096];
        while Instant::now() < deadline && self.stream.read(&mut piece).is_ok_and(|count| count > 0) {}
    }
}
