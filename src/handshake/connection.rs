//! A connection before it is upgraded: its socket, and its TLS state, if it has TLS.
//!
//! A tokio-uring operation whose future is dropped is *not* cancelled: it keeps its buffer and the descriptor until
//! the peer does something. So a connection shuts its socket down when it is dropped, which ends the operations that
//! a deadline has left behind.

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
use super::proxy_protocol::{self, NotProxyHeader};
use crate::address::ClientAddress;

/// The size of a connection's first read. Programs send heads of 200 bytes, browsers of 500 to 900; for a larger one
/// the buffer grows.
pub(super) const FIRST_READ_BYTES: usize = 1024;

/// The size of a TLS read: a browser's first message has up to 1,800 bytes.
const TLS_READ_BYTES: usize = 2048;

/// When a deadline is noticed later than this, the thread was not running, and the peer gets this time again.
const LATE_MAX: Duration = Duration::from_secs(1);

/// How long sending an answer may take: enough for the page to a phone with a poor connection.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(10);

/// How long an answered peer may take to end the connection.
const LINGER_TIME_MAX: Duration = Duration::from_secs(2);

/// The most bytes that are read and discarded from such a peer.
const LINGER_BYTES_MAX: usize = 64 * 1024;

/// Why nothing more can be read.
#[derive(Debug)]
pub(super) enum ReadFailure {
    /// The deadline has passed.
    Expired,
    /// The connection is broken.
    Lost,
    /// The first bytes are not TLS; the answer can be plain text.
    NotTls,
    /// The peer violated TLS. An alert was sent if possible.
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

/// Why there is no header of the PROXY protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HeaderFailure {
    /// The peer has ended the connection without a byte, as health checks do.
    NothingSent,
    /// It has sent something else or not enough, or nothing in time.
    Missing,
}

impl From<NotProxyHeader> for HeaderFailure {
    fn from(_: NotProxyHeader) -> Self {
        Self::Missing
    }
}

/// What a shard gets: the socket, and the TLS state, if it has TLS.
pub(super) type Released = (OwnedFd, Option<Box<TlsStream>>);

/// A connection that has not been upgraded or answered.
pub(super) struct PendingConnection {
    stream: TcpStream,
    tls: Option<Box<TlsStream>>,
    ticket: Ticket,
    /// Bytes that have arrived with a header of the PROXY protocol, behind it.
    unread: Vec<u8>,
    /// True once the socket belongs to a shard, and must not be shut down here.
    is_released: bool,
}

impl PendingConnection {
    pub(super) fn new(stream: TcpStream, ticket: Ticket) -> Self {
        Self { stream, tls: None, ticket, unread: Vec::new(), is_released: false }
    }

    /// Reads the header of the PROXY protocol, which comes ahead of TLS. Returns the client's address, if it is told.
    pub(super) async fn read_proxy_header(
        &mut self,
        deadline: Instant,
    ) -> Result<Option<ClientAddress>, HeaderFailure> {
        let mut received = Vec::with_capacity(FIRST_READ_BYTES);
        loop {
            if let Some(header) = proxy_protocol::parse(&received)? {
                self.unread = received.split_off(header.bytes);
                return Ok(header.client);
            }
            let filled = received.len();
            let read = self.read_plain(&mut received, proxy_protocol::HEADER_BYTES_MAX, deadline).await;
            match read {
                Ok(()) if received.len() > filled => {}
                Ok(()) | Err(ReadFailure::Lost) if filled == 0 => return Err(HeaderFailure::NothingSent),
                Ok(()) | Err(_) => return Err(HeaderFailure::Missing),
            }
        }
    }

    /// The entry of this connection among the pending ones.
    pub(super) fn ticket_mut(&mut self) -> &mut Ticket {
        &mut self.ticket
    }

    /// Completes the TLS handshake, and appends the plaintext that follows it. True when a session was resumed.
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

    /// Appends to `received`, which holds less than `bytes_max`. What has come with a header of the PROXY protocol may
    /// exceed it. If nothing was appended, the peer has ended its side.
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
                // It has ended its side without a TLS close; all records before were complete.
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
        if !self.unread.is_empty() {
            received.append(&mut self.unread);
            return Ok(());
        }
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

    /// Reads up to so many bytes; none at the end.
    async fn receive(&mut self, bytes_max: usize, deadline: Instant) -> Result<Vec<u8>, ReadFailure> {
        if !self.unread.is_empty() {
            return Ok(mem::take(&mut self.unread));
        }
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

    /// Sends the final bytes, and closes the connection after the peer has.
    pub(super) async fn finish(mut self, bytes: Vec<u8>) {
        self.ticket.advance(Progress::Answering);
        let bytes = match &mut self.tls {
            None => bytes,
            Some(tls) => {
                // Fails only when TLS has failed, and then there is at most an alert to send.
                let written = if bytes.is_empty() { Ok(()) } else { tls.write_plaintext(&bytes) };
                let _ = written.and_then(|()| tls.close());
                tls.poll_transmit().unwrap_or_default()
            }
        };
        if self.transmit(Some(bytes), Instant::now() + ANSWER_TIME_MAX).await.is_ok() {
            self.see_off().await;
        }
    }

    /// Closes the connection of a peer that has ended its side without a request.
    pub(super) async fn leave(self) {
        if self.tls.is_some() {
            self.finish(Vec::new()).await;
        }
    }

    /// Ends our side, and waits for the peer to end its own.
    ///
    /// Closing a socket with unread data sends a reset, which makes the peer's kernel discard what it has received
    /// from us. So our side ends first, and what the peer still sends is read until it ends too (RFC 9112, 9.6),
    /// within limits.
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

    /// The connection can no longer be closed in favour of a new one.
    pub(super) fn withdraw(&mut self) {
        self.ticket.withdraw();
    }

    /// The core on which the kernel has received the last packet, if known.
    pub(super) fn incoming_cpu(&self) -> Option<usize> {
        usize::try_from(uproar_ring::incoming_cpu(&self.stream).ok()?).ok()
    }

    /// Releases the socket and the TLS state. No operation is under way: each one was awaited.
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
            // Fails only when the connection, and with it all operations, has ended already.
            let _ = self.stream.shutdown(Shutdown::Both);
        }
    }
}

/// A deadline has passed.
#[derive(Debug)]
struct Expired;

/// Waits for an operation until a deadline. If that is noticed far too late, this thread was not running, and what has
/// arrived meanwhile still has to be read.
async fn within<F: Future>(deadline: Instant, operation: F) -> Result<F::Output, Expired> {
    let mut operation = pin!(operation);
    match timeout_at(deadline, operation.as_mut()).await {
        Err(_) if deadline.elapsed() > LATE_MAX => {
            timeout_at(Instant::now() + LATE_MAX, operation).await.map_err(|_| Expired)
        }
        outcome => outcome.map_err(|_| Expired),
    }
}
