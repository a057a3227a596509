//! TCP, or TLS over TCP: what clients speak through. The TLS is tokio-rustls', with sockets of its own.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::{ClientConfig, ClientConnection};

use super::{Server, within};

pub(crate) enum Transport {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Transport {
    /// Shakes hands, where the server speaks TLS.
    pub(crate) async fn over(tcp: TcpStream, server: &Server) -> Self {
        tcp.set_nodelay(true).unwrap();
        let Some(certificate) = server.certificate() else { return Self::Plain(tcp) };
        let session = Self::shake_hands(tcp, server, &certificate.usual_client()).await;
        session.expect("a TLS session")
    }

    /// Shakes hands as this client.
    pub(crate) async fn shake_hands(
        tcp: TcpStream,
        server: &Server,
        client: &Arc<ClientConfig>,
    ) -> io::Result<Self> {
        let name = server.certificate().expect("a server that speaks TLS").name();
        let handshake = TlsConnector::from(Arc::clone(client)).connect(name, tcp);
        Ok(Self::Tls(Box::new(within("TLS handshake", handshake).await?)))
    }

    pub(crate) fn tcp(&self) -> &TcpStream {
        match self {
            Self::Plain(tcp) => tcp,
            Self::Tls(tls) => tls.get_ref().0,
        }
    }

    /// The TLS session.
    pub(crate) fn session(&self) -> &ClientConnection {
        match self {
            Self::Plain(_) => panic!("not over TLS"),
            Self::Tls(tls) => tls.get_ref().1,
        }
    }

    pub(crate) fn tcp_mut(&mut self) -> &mut TcpStream {
        match self {
            Self::Plain(tcp) => tcp,
            Self::Tls(tls) => tls.get_mut().0,
        }
    }

    pub(crate) fn session_mut(&mut self) -> &mut ClientConnection {
        match self {
            Self::Plain(_) => panic!("not over TLS"),
            Self::Tls(tls) => tls.get_mut().1,
        }
    }
}

impl AsyncRead for Transport {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_read(cx, buf),
            Self::Tls(tls) => Pin::new(tls).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Transport {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_write(cx, buf),
            Self::Tls(tls) => Pin::new(tls).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_flush(cx),
            Self::Tls(tls) => Pin::new(tls).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_shutdown(cx),
            Self::Tls(tls) => Pin::new(tls).poll_shutdown(cx),
        }
    }
}
