//! A WebSocket, of either side.

use std::future::pending;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until, timeout};

use super::error::{Failure, ReadError, WriteError};
use super::message::{Close, Message};
use super::options::{Heartbeat, Options};
use super::stream::Stream;
use super::writer::Writer;
use crate::protocol::frames::{self, Event, Role};

/// A WebSocket: a connection after its opening handshake.
///
/// Somebody has to read, also where nothing is expected: a ping is answered by a pong, a close by a close, and the
/// end of the connection is noticed only while [`Socket::read`] is waited for. Who has something to say in the
/// meantime waits for both (`select!`), or writes from another task.
///
/// One task reads. Others of the same thread may write at the same time, each with a [`Writer`]. Dropping the
/// socket ends the connection once what was written has left; [`Socket::close`] is the polite way.
///
/// ```
/// # async fn example(mut socket: uproar::websocket::Socket) -> Result<(), Box<dyn std::error::Error>> {
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
    frames: frames::Reader,
    writer: Writer,
    /// How much of what was received has been read.
    read_bytes: usize,
    /// True once the peer's close was read.
    is_closed: bool,
    failure: Option<Failure>,
    pulse: Option<Pulse>,
    close_timeout: Duration,
    target: String,
    subprotocol: Option<String>,
    /// Of the response that the client has got.
    pub(super) response_fields: Vec<(String, String)>,
}

/// A heartbeat at work.
#[derive(Debug)]
struct Pulse {
    heartbeat: Heartbeat,
    heard_at: Instant,
    due: Pin<Box<Sleep>>,
}

impl Socket {
    pub(super) fn new(
        stream: Stream,
        role: Role,
        options: &Options,
        target: String,
        subprotocol: Option<String>,
    ) -> Self {
        let pulse = options.heartbeat.map(|heartbeat| {
            let heard_at = Instant::now();
            let due = Box::pin(sleep_until(heard_at + heartbeat.interval));
            Pulse { heartbeat, heard_at, due }
        });
        let patience = options.heartbeat.map(|heartbeat| heartbeat.timeout);
        Self {
            writer: Writer::new(Rc::clone(&stream.link), role, options.queue_bytes_max, patience),
            stream,
            frames: frames::Reader::new(role, options.message_bytes_max),
            read_bytes: 0,
            is_closed: false,
            failure: None,
            pulse,
            close_timeout: options.close_timeout,
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
            match self.receive().await {
                Ok(true) => {}
                Ok(false) => return Err(self.fail(Failure::EndOfStream)),
                Err(failure) => return Err(self.fail(failure)),
            }
        }
    }

    /// What has been received already.
    fn next_message(&mut self) -> Result<Option<Message>, Failure> {
        let received = &self.stream.received[self.read_bytes..];
        let mut rest = received;
        let event = self.frames.next(&mut rest);
        self.read_bytes += received.len() - rest.len();
        let message = match event? {
            Some(Event::Text(text)) => Message::Text(text.into_owned()),
            Some(Event::Binary(bytes)) => Message::Binary(bytes.into_owned()),
            Some(Event::Ping(payload)) => {
                self.writer.answer(&payload);
                Message::Ping(payload.into_owned())
            }
            Some(Event::Pong(payload)) => Message::Pong(payload.into_owned()),
            Some(Event::Close(close)) => {
                self.is_closed = true;
                Message::Close(close)
            }
            None => {
                self.stream.used_up();
                self.read_bytes = 0;
                return Ok(None);
            }
        };
        if let Message::Close(close) = &message {
            // "When sending a Close frame in response, the endpoint typically echos the status code it
            // received" (RFC 6455, section 5.5.1). It fails when ours came first, or nothing can be sent.
            let echo = close.as_ref().map(|close| Close { code: close.code, reason: String::new() });
            let _ = self.writer.close(echo.as_ref());
            self.stream.finish();
        }
        Ok(Some(message))
    }

    /// Waits for more, and for the heart to beat.
    async fn receive(&mut self) -> Result<bool, Failure> {
        loop {
            let Self { stream, pulse, .. } = self;
            let due = async {
                match pulse {
                    Some(pulse) => pulse.due.as_mut().await,
                    None => pending().await,
                }
            };
            tokio::select! {
                biased;
                received = stream.receive() => {
                    if let Some(pulse) = pulse {
                        pulse.heard_at = Instant::now();
                    }
                    return received;
                }
                () = due => {}
            }
            self.beat()?;
        }
    }

    /// Looks whether the peer has been silent for long.
    fn beat(&mut self) -> Result<(), Failure> {
        let Some(pulse) = &mut self.pulse else { return Ok(()) };
        let Heartbeat { interval, timeout } = pulse.heartbeat;
        let silence = pulse.heard_at.elapsed();
        if silence >= timeout {
            return Err(Failure::Silent(timeout));
        }
        if silence >= interval {
            self.writer.ping();
            let next = Instant::now() + interval.min(timeout - silence);
            pulse.due.as_mut().reset(next);
        } else {
            pulse.due.as_mut().reset(pulse.heard_at + interval);
        }
        Ok(())
    }

    /// Notes what has ended the connection, and tells the peer if it is its doing.
    fn fail(&mut self, failure: Failure) -> ReadError {
        let unfinished = self.frames.take_unfinished();
        if let Failure::Violation(violation) = &failure {
            let reason = violation.close_reason().to_owned();
            let _ = self.writer.close(Some(&Close { code: violation.close_code(), reason }));
            self.stream.finish();
        } else {
            self.stream.link.fail(failure.clone());
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

    /// Says goodbye and waits for the peer to do so, for at most
    /// [`Options::close_timeout`](super::Options::close_timeout). Messages that are still on their way here are
    /// read and ignored. Yields what the peer's close says.
    ///
    /// # Errors
    ///
    /// A [`WriteError`] for a close that cannot be sent. When the peer does not answer, that is
    /// [`Failure::Silent`]; its other failures are as they are.
    pub async fn close(mut self, code: u16, reason: &str) -> Result<Option<Close>, WriteError> {
        if !self.writer.has_closed() {
            self.writer.close(Some(&Close { code, reason: reason.to_owned() }))?;
        }
        let limit = self.close_timeout;
        let answer = async {
            loop {
                match self.read().await {
                    Ok(Some(Message::Close(close))) => return Ok(close),
                    Ok(Some(_)) => {}
                    Ok(None) => return Ok(None),
                    Err(error) => return Err(WriteError::Failed(error.failure)),
                }
            }
        };
        let answered = timeout(limit, answer).await;
        answered.unwrap_or_else(|_| {
            self.stream.finish();
            Err(Failure::Silent(limit).into())
        })
    }

    /// Who is at the other end.
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
