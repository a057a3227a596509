//! A TCP connection of tokio-uring's, with TLS or without: the bytes below a [`Socket`](super::Socket).

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::SystemTime;

use tokio_uring::net::TcpStream;

use super::error::Failure;
use super::link::Link;
use uproar_protocol::frames::Role;
use uproar_protocol::response::Response;
use uproar_protocol::tls::{ClientConfig, ServerConfig, ServerName, TlsStream};

/// The least and the most that is received at a time: what fills its buffer gets one of twice the size next
/// time, what fills less than a quarter one of half.
const RECEIVE_BYTES_MIN: usize = 2 * 1024;
const RECEIVE_BYTES_MAX: usize = 64 * 1024;

type Receiving = Pin<Box<dyn Future<Output = (io::Result<usize>, Vec<u8>)>>>;

/// A connection that does not speak WebSocket yet.
///
/// It is what [`upgrade`](super::upgrade) makes a socket of, for programs that serve HTTP themselves. Dropping
/// it ends the connection once what was written has left.
pub struct Stream {
    pub(super) link: Rc<Link>,
    /// The receive under way, kept here so that it is not lost when the future that awaits it is dropped.
    receiving: Option<Receiving>,
    /// How much to receive next.
    receive_bytes: usize,
    /// Decrypted, and not yet used.
    pub(super) received: Vec<u8>,
    /// A buffer for the next receive.
    pub(super) spare: Vec<u8>,
}

impl std::fmt::Debug for Stream {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Stream").field("peer", &self.link.peer).finish_non_exhaustive()
    }
}

impl Stream {
    /// A connection that a server has accepted, without TLS. Nagle's algorithm is turned off, since messages do
    /// not wait for each other.
    ///
    /// # Errors
    ///
    /// When the connection has ended already.
    pub fn plain(tcp: TcpStream, peer: SocketAddr) -> io::Result<Self> {
        Self::new(tcp, peer, Role::Server)
    }

    pub(super) fn new(tcp: TcpStream, peer: SocketAddr, role: Role) -> io::Result<Self> {
        tcp.set_nodelay(true)?;
        let link = Link::new(tcp, peer, role);
        Ok(Self {
            link,
            receiving: None,
            receive_bytes: RECEIVE_BYTES_MIN,
            received: Vec::new(),
            spare: Vec::new(),
        })
    }

    /// Completes the TLS handshake as a server.
    ///
    /// It waits for as long as the peer does, which may be for ever: give it a deadline.
    ///
    /// ```
    /// use std::sync::Arc;
    /// use std::time::Duration;
    ///
    /// use tokio::time::timeout;
    /// use uproar_protocol::tls::ServerConfig;
    /// use uproar_websocket::{Stream, receive_head};
    ///
    /// async fn begin(stream: &mut Stream, tls: &Arc<ServerConfig>) -> Result<(), Box<dyn std::error::Error>> {
    ///     let beginning = async {
    ///         stream.accept_tls(tls).await?;
    ///         receive_head(stream).await
    ///     };
    ///     Ok(timeout(Duration::from_secs(10), beginning).await??)
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// [`Failure`]; a peer that does not speak TLS is [`Error::NotTls`](uproar_protocol::tls::Error::NotTls).
    ///
    /// # Panics
    ///
    /// When the connection has TLS already.
    pub async fn accept_tls(&mut self, config: &Arc<ServerConfig>) -> Result<(), Failure> {
        self.begin_tls(TlsStream::server(config)?).await
    }

    /// Completes the TLS handshake as a client of a server that has a certificate for `name`. It has no deadline
    /// of its own.
    ///
    /// # Errors
    ///
    /// [`Failure`].
    ///
    /// # Panics
    ///
    /// When the connection has TLS already.
    pub async fn connect_tls(
        &mut self,
        config: &Arc<ClientConfig>,
        name: ServerName<'static>,
    ) -> Result<(), Failure> {
        self.begin_tls(TlsStream::client(config, name)?).await
    }

    async fn begin_tls(&mut self, tls: TlsStream) -> Result<(), Failure> {
        self.link.change(|connection| connection.start_tls(tls));
        let received = std::mem::take(&mut self.received);
        if !received.is_empty() {
            self.decrypt(&received)?;
        }
        while self.is_handshaking() == Some(true) {
            if !self.receive().await? {
                return Err(Failure::EndOfStream);
            }
        }
        Ok(())
    }

    /// Receives more behind what is there. False when the peer has ended its side.
    ///
    /// It can be dropped while it waits; nothing is lost.
    ///
    /// # Errors
    ///
    /// [`Failure`].
    pub async fn receive(&mut self) -> Result<bool, Failure> {
        let before = self.received.len();
        loop {
            // The end may have come together with what was received last.
            if let Some(tls) = self.link.connection().tls() {
                if let Some(error) = tls.failure() {
                    return Err(error.clone().into());
                }
                if tls.peer_has_closed() {
                    return Ok(false);
                }
            }
            let receiving = self.receiving.get_or_insert_with(|| {
                let tcp = self.link.tcp();
                let buffer = match std::mem::take(&mut self.spare) {
                    spare if spare.capacity() == self.receive_bytes => spare,
                    _ => Vec::with_capacity(self.receive_bytes),
                };
                Box::pin(async move {
                    match tcp {
                        Some(tcp) => tcp.read(buffer).await,
                        None => (Err(io::ErrorKind::NotConnected.into()), buffer),
                    }
                })
            });
            let (result, buffer) = receiving.await;
            self.receiving = None;
            let count = result?;
            if count == 0 {
                self.link.change(|connection| connection.handle_end_of_tls())?;
                return Ok(false);
            }
            if count == buffer.capacity() {
                self.receive_bytes = (self.receive_bytes * 2).min(RECEIVE_BYTES_MAX);
            } else if count < buffer.capacity() / 4 {
                self.receive_bytes = (self.receive_bytes / 2).max(RECEIVE_BYTES_MIN);
            }
            match self.is_handshaking() {
                Some(was_handshaking) => {
                    let decrypted = self.decrypt(&buffer);
                    if self.received.len() > before {
                        // What came before a failure is read before it.
                        return Ok(true);
                    }
                    decrypted?;
                    if was_handshaking {
                        // Whoever drives the handshake looks how far it has come.
                        return Ok(true);
                    }
                }
                None if self.received.is_empty() => self.received = buffer,
                None => self.received.extend_from_slice(&buffer),
            }
            if self.received.len() > before {
                return Ok(true);
            }
        }
    }

    fn decrypt(&mut self, ciphertext: &[u8]) -> Result<(), Failure> {
        // It may have an answer: of the handshake, or the alert that tells the peer what is wrong.
        Ok(self.link.change(|connection| connection.decrypt(ciphertext, &mut self.received))?)
    }

    /// Whether TLS is shaking hands, where there is any.
    fn is_handshaking(&self) -> Option<bool> {
        self.link.connection().tls().map(|tls| tls.is_handshaking())
    }

    /// What has been received and not been used.
    #[must_use]
    pub fn received(&self) -> &[u8] {
        &self.received
    }

    /// Puts bytes in front of what has been received: what a program has read before it made a stream of its
    /// connection.
    pub fn unread(&mut self, bytes: &[u8]) {
        self.received.splice(..0, bytes.iter().copied());
    }

    /// Takes bytes off the front of what has been received.
    ///
    /// # Panics
    ///
    /// When there are not so many.
    pub fn consume(&mut self, count: usize) {
        self.received.drain(..count);
    }

    /// Notes that all that was received has been used.
    pub(super) fn used_up(&mut self) {
        if self.received.capacity() > 0 {
            self.spare = std::mem::take(&mut self.received);
            self.spare.clear();
        }
    }

    /// Sends bytes, and waits until they are with the kernel.
    ///
    /// # Errors
    ///
    /// [`Failure`]; after [`Stream::finish`], that is [`Failure::Ended`].
    pub async fn write(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.link.push_http(bytes)?;
        self.link.sent().await
    }

    /// Answers an HTTP request and ends our side. `with_body` is false for HEAD. Without a deadline of its own, it
    /// waits for a peer that takes nothing.
    ///
    /// # Errors
    ///
    /// [`Failure`].
    pub async fn respond(mut self, response: &Response, with_body: bool) -> Result<(), Failure> {
        self.link.push_http(&response.encode(with_body, SystemTime::now()))?;
        self.finish();
        self.link.sent().await
    }

    /// Ends our side behind what was written, and then the connection.
    pub fn finish(&mut self) {
        self.link.finish();
    }

    /// The address of the peer.
    #[must_use]
    pub fn peer_address(&self) -> SocketAddr {
        self.link.peer
    }

    /// The version and the cipher suite of TLS, such as `TLSv1_3 TLS13_AES_256_GCM_SHA384`; `None` without TLS.
    #[must_use]
    pub fn tls(&self) -> Option<String> {
        self.link.connection().tls().and_then(|tls| tls.agreed())
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.link.finish();
    }
}
