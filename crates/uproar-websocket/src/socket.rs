//! A WebSocket, of either side.

use std::future::pending;
use std::net::SocketAddr;
use std::rc::Rc;

use super::error::{Failure, ReadError, WriteError};
use super::heartbeat::Pulse;
use super::message::{Close, Message};
use super::options::Options;
use super::stream::Stream;
use super::writer::Writer;
use uproar_protocol::connection::Event;
use uproar_protocol::tls;

/// A WebSocket: a connection after its opening handshake.
///
/// A task must always read, even if no message is expected: a ping is answered by a pong, a close by a close, and the
/// end of the connection is noticed only while [`Socket::read`] is awaited. To write in the
/// meantime, wait for both (`select!`), or write from another task.
///
/// One task reads. Others of the same thread may write at the same time, each with a [`Writer`].
///
/// Dropping the socket closes it with 1000, or with 1011 while the thread panics: what was written leaves, the
/// close follows, and the connection ends in the background. [`Socket::close`] waits for the answer.
///
/// ```
/// # async fn example(mut socket: uproar_websocket::Socket) -> Result<(), Box<dyn std::error::Error>> {
/// while let Some(message) = socket.read().await? {
///     if message.is_data() {
///         socket.write(message).await?;
///     }
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Socket {
    stream: Stream,
    writer: Writer,
    /// How much of what was received has been read.
    read_bytes: usize,
    /// True once the peer's close was read.
    is_closed: bool,
    failure: Option<Failure>,
    pulse: Option<Pulse>,
    target: String,
    subprotocol: Option<String>,
    /// Of the response that the client has got.
    pub(super) response_fields: Vec<(String, String)>,
}

impl Socket {
    pub(super) fn new(
        stream: Stream,
        options: &Options,
        target: String,
        subprotocol: Option<String>,
    ) -> Self {
        stream.link.set_options(options);
        Self {
            writer: Writer::new(Rc::clone(&stream.link), options),
            stream,
            read_bytes: 0,
            is_closed: false,
            failure: None,
            pulse: options.heartbeat.map(Pulse::new),
            target,
            subprotocol,
            response_fields: Vec::new(),
        }
    }

    /// Reads the next message, and answers it where the protocol asks for that (ping and close). `None` after
    /// the close.
    ///
    /// It can be dropped while it waits, as in `select!`; nothing is lost.
    ///
    /// # Errors
    ///
    /// A [`ReadError`], with what had arrived of an unfinished message; the same failure again from then on. A
    /// peer that broke the protocol has been told.
    pub async fn read(&mut self) -> Result<Option<Message>, ReadError> {
        loop {
            if let Some(failure) = &self.failure {
                return Err(ReadError { failure: failure.clone(), unfinished: None });
            }
            if self.is_closed {
                return Ok(None);
            }
            match self.next_message() {
                Ok(Some(message)) => return Ok(Some(message)),
                Ok(None) => {}
                Err(failure) => return Err(self.fail(failure)),
            }
            if let Err(failure) = self.receive().await {
                return Err(self.fail(failure));
            }
        }
    }

    /// What has been received already.
    fn next_message(&mut self) -> Result<Option<Message>, Failure> {
        let received = &self.stream.received[self.read_bytes..];
        let mut rest = received;
        // Pings and closes are answered by this.
        let link = &self.stream.link;
        let event = link.change(|connection| connection.poll_event(&mut rest, || link.now_ms()));
        self.read_bytes += received.len() - rest.len();
        Ok(Some(match event {
            Some(Event::Text(text)) => Message::Text(text.into_owned()),
            Some(Event::Binary(bytes)) => Message::Binary(bytes.into_owned()),
            Some(Event::Ping(payload)) => Message::Ping(payload.into_owned()),
            Some(Event::Pong(payload)) => Message::Pong(payload.into_owned()),
            Some(Event::Closed(close)) => {
                self.is_closed = true;
                Message::Close(close)
            }
            Some(Event::Failed(violation)) => return Err(violation.into()),
            None => {
                self.stream.used_up();
                self.read_bytes = 0;
                return Ok(None);
            }
        }))
    }

    /// Waits for more, and for the heart to beat.
    async fn receive(&mut self) -> Result<(), Failure> {
        let Self { stream, writer, pulse, .. } = self;
        loop {
            // What this side has cut off may still have something to say, but nobody is to wait for that.
            if let Some(failure @ (Failure::Stalled(_) | Failure::NotClosed(_) | Failure::Ended)) =
                stream.link.failure()
            {
                return Err(failure);
            }
            let beat = async {
                match pulse {
                    Some(pulse) => pulse.next().await,
                    None => pending().await,
                }
            };
            tokio::select! {
                biased;
                received = stream.receive() => {
                    if let Some(pulse) = pulse {
                        pulse.heard();
                    }
                    return match received {
                        Ok(true) => Ok(()),
                        // Who writes may know better why it has ended.
                        Ok(false) => Err(stream.link.failure().unwrap_or(Failure::EndOfStream)),
                        Err(failure) => Err(stream.link.failure().unwrap_or(failure)),
                    };
                }
                () = beat => {}
            }
            if let Some(pulse) = pulse {
                pulse.beat(&stream.link, writer)?;
            }
        }
    }

    /// Notes what has ended the connection.
    fn fail(&mut self, failure: Failure) -> ReadError {
        let link = &self.stream.link;
        let unfinished = link.change(|connection| connection.take_unfinished());
        match &failure {
            // A close that says so waits to be sent.
            Failure::Violation(_) => {}
            // So does an alert.
            Failure::Tls(error) if *error != tls::Error::Truncated => {
                link.change(|connection| connection.handle_broken_tls(link.now_ms()));
            }
            _ => link.fail(failure.clone()),
        }
        self.failure = Some(failure.clone());
        ReadError { failure, unfinished }
    }

    /// Writes a message: see [`Writer::write`].
    ///
    /// # Errors
    ///
    /// A [`WriteError`]; nothing was queued.
    pub async fn write(&self, message: impl Into<Message>) -> Result<(), WriteError> {
        self.writer.write(message).await
    }

    /// A writer for another task of this thread.
    #[must_use]
    pub fn writer(&self) -> Writer {
        self.writer.clone()
    }

    /// Sends a close and waits for that of the peer, for at most
    /// [`Options::close_timeout`](super::Options::close_timeout). Messages that are still on their way here are
    /// read and ignored. Returns the peer's close.
    ///
    /// # Errors
    ///
    /// A [`WriteError`] for a close that cannot be sent. When the peer does not answer, that is
    /// [`Failure::NotClosed`]; its other failures are as they are.
    pub async fn close(mut self, code: u16, reason: &str) -> Result<Option<Close>, WriteError> {
        if !self.writer.has_closed() {
            self.writer.close(Some(&Close { code, reason: reason.to_owned() }))?;
        }
        loop {
            match self.read().await {
                Ok(Some(Message::Close(close))) => return Ok(close),
                Ok(Some(_)) => {}
                Ok(None) => return Ok(None),
                Err(error) => return Err(WriteError::Failed(error.failure)),
            }
        }
    }

    /// The address of the peer.
    #[must_use]
    pub fn peer_address(&self) -> SocketAddr {
        self.stream.peer_address()
    }

    /// The path and query that the client asked for.
    #[must_use]
    pub fn target(&self) -> &str {
        &self.target
    }

    /// The subprotocol that both sides have agreed on.
    #[must_use]
    pub fn subprotocol(&self) -> Option<&str> {
        self.subprotocol.as_deref()
    }

    /// The fields of the response with which the server accepted, at most 64 in 16 KiB, names and values as they
    /// were sent. Empty for a server's socket.
    #[must_use]
    pub fn response_fields(&self) -> &[(String, String)] {
        &self.response_fields
    }

    /// The version and the cipher suite of TLS, such as `TLSv1_3 TLS13_AES_256_GCM_SHA384`; `None` without TLS.
    #[must_use]
    pub fn tls(&self) -> Option<String> {
        self.stream.tls()
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        if !self.stream.link.is_at_home() {
            return;
        }
        // 1011: a server that meets what it did not expect (RFC 6455, section 7.4.1).
        let code = if std::thread::panicking() { 1011 } else { 1000 };
        let link = &self.stream.link;
        link.change(|connection| connection.leave(code, "", link.now_ms()));
    }
}
