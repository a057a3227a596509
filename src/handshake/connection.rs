//! A connection before it is upgraded: its socket, and its TLS where the server speaks that.
//!
//! One rule holds the reading and writing together. A tokio-uring operation whose future is dropped is
//! *not* cancelled: it keeps its buffer and the descriptor until the peer does something. So a connection shuts
//! its socket down when it is dropped, and with that ends whatever operation a deadline has left behind.

use std::future::Future;
use std::io;
use std::mem;
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout_at};
use tokio_uring::buf::BoundedBuf;
use tokio_uring::net::TcpStream;
use uproar_protocol::tls::{self, ServerConfig, TlsStream};

use super::pending::{Progress, Ticket};

/// What a connection's first read may hold. Programs send heads of 200 bytes, browsers of 500 to 900;
/// a larger one makes the buffer grow.
pub(super) const FIRST_READ_BYTES: usize = 1024;

/// What a read of TLS may hold: the first message of a browser has up to 1,800 bytes.
const TLS_READ_BYTES: usize = 2048;

/// How late a deadline may be noticed before this thread is taken to have stood still; and how long the peer then has.
const LATE_MAX: Duration = Duration::from_secs(1);

/// How long sending an answer may take: as long as a phone on a poor line needs for the page.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(10);

/// How long a peer that has been answered may take to end the connection.
const LINGER_TIME_MAX: Duration = Duration::from_secs(2);

/// How much of what such a peer still sends is read and thrown away.
const LINGER_BYTES_MAX: usize = 64 * 1024;

/// Why nothing more can be read.
#[derive(Debug)]
pub(super) enum ReadFailure {
    /// The deadline has passed.
    Expired,
    /// The connection is broken.
    Lost,
    /// The peer has never spoken TLS, though it should: it can be answered in plain text.
    NotTls,
    /// The peer broke TLS. It has been told, where that can be.
    Tls(tls::Error),
}

impl From<Expired> for ReadFailure {
    fn from(_: Expired) -> Self {
        Self::Expired
    }
}

impl From<io::Error> for ReadFailure {
    fn from(_: io::Error) -> Self {
        Self::Lost
    }
}

/// What goes to a shard: the socket, and its TLS where it has any.
pub(super) type Released = (OwnedFd, Option<Box<TlsStream>>);

/// A connection that has not been upgraded or answered.
pub(super) struct PendingConnection {
    stream: TcpStream,
    tls: Option<Box<TlsStream>>,
    ticket: Ticket,
    /// True once the socket goes to a shard, and is no longer ours to shut down.
    is_released: bool,
}

impl PendingConnection {
    pub(super) fn new(stream: TcpStream, ticket: Ticket) -> Self {
        Self { stream, tls: None, ticket, is_released: false }
    }

    /// Completes the TLS handshake, and appends what is said behind it. True when a session of the past was
    /// resumed.
    pub(super) async fn secure(
        &mut self,
        config: &Arc<ServerConfig>,
        received: &mut Vec<u8>,
        deadline: Instant,
    ) -> Result<bool, ReadFailure> {
        let mut tls = Box::new(TlsStream::server(config).map_err(ReadFailure::Tls)?);
        let mut has_answered = false;
        while tls.is_handshaking() {
            let ciphertext = self.receive(TLS_READ_BYTES, deadline).await?;
            if ciphertext.is_empty() {
                return Err(ReadFailure::Tls(tls::Error::Truncated));
            }
            let outcome = tls.handle_received(&ciphertext, received);
            if !has_answered && outcome == Err(tls::Error::NotTls) {
                return Err(ReadFailure::NotTls);
            }
            has_answered |= tls.has_outgoing();
            self.transmit(tls.poll_transmit(), deadline).await?;
            outcome.map_err(ReadFailure::Tls)?;
        }
        let is_resumed = tls.is_resumed();
        self.tls = Some(tls);
        Ok(is_resumed)
    }

    /// Reads behind what `received` holds, which is less than `bytes_max`. When nothing was added, the peer has ended
    /// its side.
    pub(super) async fn read(
        &mut self,
        received: &mut Vec<u8>,
        bytes_max: usize,
        deadline: Instant,
    ) -> Result<(), ReadFailure> {
        if self.tls.is_none() {
            return self.read_plain(received, bytes_max, deadline).await;
        }
        let received_before = received.len();
        while let Some(tls) = &self.tls
            && !tls.peer_has_closed()
            && received.len() == received_before
        {
            let ciphertext = self.receive(TLS_READ_BYTES, deadline).await?;
            let Some(tls) = self.tls.as_mut().filter(|_| !ciphertext.is_empty()) else {
                // It has ended its side without the end of TLS: what it said before was whole records.
                break;
            };
            let outcome = tls.handle_received(&ciphertext, received);
            let answer = tls.poll_transmit();
            self.transmit(answer, deadline).await?;
            outcome.map_err(ReadFailure::Tls)?;
        }
        Ok(())
    }

    async fn read_plain(
        &mut self,
        received: &mut Vec<u8>,
        bytes_max: usize,
        deadline: Instant,
    ) -> Result<(), ReadFailure> {
        let filled = received.len();
        if filled == received.capacity() {
            received.reserve_exact(filled.min(bytes_max.saturating_sub(filled)));
        }
        assert!(filled < received.capacity(), "Bug: no room to read into");
        let buffer = mem::take(received).slice(filled..);
        let (result, slice) = within(deadline, self.stream.read(buffer)).await?;
        *received = slice.into_inner();
        if result? > 0 {
            self.ticket.note_received();
        }
        Ok(())
    }

    /// Reads what the socket has, up to so many bytes; nothing at its end.
    async fn receive(&mut self, bytes_max: usize, deadline: Instant) -> Result<Vec<u8>, ReadFailure> {
        let (result, buffer) = within(deadline, self.stream.read(Vec::with_capacity(bytes_max))).await?;
        if result? > 0 {
            self.ticket.note_received();
        }
        Ok(buffer)
    }

    async fn transmit(&self, bytes: Option<Vec<u8>>, deadline: Instant) -> Result<(), ReadFailure> {
        if let Some(bytes) = bytes {
            within(deadline, self.stream.write_all(bytes)).await?.0?;
        }
        Ok(())
    }

    /// Sends the last that this connection will hear and sees it off.
    pub(super) async fn finish(mut self, bytes: Vec<u8>) {
        self.ticket.advance(Progress::Answering);
        let bytes = match &mut self.tls {
            None => bytes,
            Some(tls) => {
                // It fails only when TLS has, and then there is at most an alert to send.
                let written = if bytes.is_empty() { Ok(()) } else { tls.write_plaintext(&bytes) };
                let _ = written.and_then(|()| tls.close());
                tls.poll_transmit().unwrap_or_default()
            }
        };
        if self.transmit(Some(bytes), Instant::now() + ANSWER_TIME_MAX).await.is_ok() {
            self.see_off().await;
        }
    }

    /// Lets a peer go that has ended its side and asked for nothing.
    pub(super) async fn leave(self) {
        if self.tls.is_some() {
            self.finish(Vec::new()).await;
        }
    }

    /// Ends our side, and waits for the peer to end its own.
    ///
    /// A socket that is closed with unread data makes the kernel send a reset, and a reset makes the
    /// peer's kernel throw away what it has received from us. So our side ends first, and what the peer
    /// still sends is read until it ends too (RFC 9112, 9.6), within limits.
    pub(super) async fn see_off(mut self) {
        self.ticket.advance(Progress::Answered);
        if self.stream.shutdown(Shutdown::Write).is_err() {
            return;
        }
        let deadline = Instant::now() + LINGER_TIME_MAX;
        let mut discarded_bytes = 0;
        while discarded_bytes < LINGER_BYTES_MAX {
            match self.receive(FIRST_READ_BYTES, deadline).await {
                Ok(discarded) if !discarded.is_empty() => discarded_bytes += discarded.len(),
                _ => return,
            }
        }
    }

    /// Takes the connection out of the order in which connections make place.
    pub(super) fn withdraw(&mut self) {
        self.ticket.withdraw();
    }

    /// The core on which the kernel has handled what came last, if it says.
    pub(super) fn incoming_cpu(&self) -> Option<usize> {
        usize::try_from(uproar_ring::incoming_cpu(&self.stream).ok()?).ok()
    }

    /// Gives the socket away, and its TLS. Nothing is under way on it: each operation that was begun was
    /// waited for.
    pub(super) fn release(mut self) -> Result<Released, (Self, io::Error)> {
        match uproar_ring::duplicate(&self.stream) {
            Ok(socket) => {
                self.is_released = true;
                Ok((socket, self.tls.take()))
            }
            Err(error) => Err((self, error)),
        }
    }
}

impl Drop for PendingConnection {
    fn drop(&mut self) {
        if !self.is_released {
            // It fails only when the connection has ended already, and with it all operations.
            let _ = self.stream.shutdown(Shutdown::Both);
        }
    }
}

/// A deadline has passed.
#[derive(Debug)]
struct Expired;

/// Waits for an operation until a deadline. One that is noticed far too late has passed while this thread could not
/// run: then what has come meanwhile is still to be looked at.
async fn within<F: Future>(deadline: Instant, operation: F) -> Result<F::Output, Expired> {
    let mut operation = pin!(operation);
    match timeout_at(deadline, operation.as_mut()).await {
        Err(_) if deadline.elapsed() > LATE_MAX => {
            timeout_at(Instant::now() + LATE_MAX, operation).await.map_err(|_| Expired)
        }
        outcome => outcome.map_err(|_| Expired),
    }
}
