//! One connection that waits for its answers, over TLS or not: for what is asked before a run begins.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use uproar_protocol::tls::TlsStream;

use crate::network::security::{Security, TlsFailure};

/// How much is received at a time.
const PIECE_BYTES: usize = 4096;

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// TCP is not connected.
    #[error("cannot reach the server at {0}: {1}")]
    Unreachable(SocketAddr, #[source] io::Error),
    /// TLS failed.
    #[error(transparent)]
    Tls(TlsFailure),
    /// TCP failed while TLS was under way.
    #[error("the server did not complete the TLS handshake: {0}")]
    Handshake(#[source] io::Error),
}

/// A connection.
#[derive(Debug)]
pub struct Wire {
    tcp: TcpStream,
    tls: Option<Box<TlsStream>>,
    /// Decrypted, and not read yet.
    plaintext: Vec<u8>,
}

impl Wire {
    /// Connects, and completes the TLS handshake where there is one, each within `timeout`. After that each
    /// single read waits at most as long.
    ///
    /// # Errors
    ///
    /// A [`ConnectError`].
    pub fn connect(
        address: SocketAddr,
        timeout: Duration,
        security: Option<&Security>,
    ) -> Result<Self, ConnectError> {
        let unreachable = |error| ConnectError::Unreachable(address, error);
        let tcp = TcpStream::connect_timeout(&address, timeout).map_err(unreachable)?;
        tcp.set_read_timeout(Some(timeout)).map_err(unreachable)?;
        let mut wire = Self { tcp, tls: None, plaintext: Vec::new() };
        if let Some(security) = security {
            wire.tls = Some(Box::new(security.begin().map_err(ConnectError::Tls)?));
            wire.shake_hands(Instant::now() + timeout)?;
        }
        Ok(wire)
    }

    fn shake_hands(&mut self, deadline: Instant) -> Result<(), ConnectError> {
        let failed = |error: io::Error| match error.downcast::<TlsFailure>() {
            Ok(failure) => ConnectError::Tls(failure),
            Err(error) => ConnectError::Handshake(error),
        };
        loop {
            self.transmit().map_err(failed)?;
            if self.tls.as_ref().is_none_or(|tls| !tls.is_handshaking()) {
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(ConnectError::Handshake(ErrorKind::TimedOut.into()));
            }
            if !self.receive().map_err(failed)? {
                return Err(ConnectError::Handshake(ErrorKind::UnexpectedEof.into()));
            }
        }
    }

    /// The version and the cipher suite of TLS, where there is TLS.
    #[must_use]
    pub fn agreed(&self) -> Option<String> {
        self.tls.as_ref().and_then(|tls| tls.agreed())
    }

    /// The socket, its TLS where there is TLS, and what was decrypted and not read: for who goes on by other means.
    #[must_use]
    pub fn into_parts(self) -> (TcpStream, Option<Box<TlsStream>>, Vec<u8>) {
        (self.tcp, self.tls, self.plaintext)
    }

    /// Sends what TLS has to say.
    fn transmit(&mut self) -> io::Result<()> {
        match self.tls.as_mut().and_then(|tls| tls.poll_transmit()) {
            Some(bytes) => self.tcp.write_all(&bytes),
            None => Ok(()),
        }
    }

    /// Waits for more and decrypts it. False when there will be no more.
    fn receive(&mut self) -> io::Result<bool> {
        let mut piece = [0; PIECE_BYTES];
        let count = receive(&self.tcp, &mut piece)?;
        let Some(tls) = &mut self.tls else {
            self.plaintext.extend_from_slice(&piece[..count]);
            return Ok(count > 0);
        };
        let result = match count {
            0 => tls.handle_end_of_stream(),
            count => tls.handle_received(&piece[..count], &mut self.plaintext),
        };
        let goes_on = count > 0 && !tls.peer_has_closed();
        // Where TLS has failed, the server is to learn why, if it still listens.
        let transmitted = self.transmit();
        result.map_err(|error| io::Error::other(TlsFailure::from(error)))?;
        transmitted.map(|()| goes_on)
    }
}

/// Waits for bytes of a socket, as long as its timeout says. 0 when there will be no more.
///
/// # Errors
///
/// What read(2) reports; for a timeout, that depends on the system (`SO_RCVTIMEO` in socket(7)).
pub fn receive(mut tcp: &TcpStream, piece: &mut [u8]) -> io::Result<usize> {
    loop {
        match tcp.read(piece) {
            // A ring that was taken down shortly before may interrupt a call that has a timeout, which the kernel then
            // does not restart (signal(7)).
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

impl Read for Wire {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.plaintext.is_empty() {
            if !self.receive()? {
                break;
            }
        }
        let count = buffer.len().min(self.plaintext.len());
        buffer[..count].copy_from_slice(&self.plaintext[..count]);
        self.plaintext.drain(..count);
        Ok(count)
    }
}

impl Write for Wire {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let Some(tls) = &mut self.tls else { return self.tcp.write(bytes) };
        tls.write_plaintext(bytes).map_err(|error| io::Error::other(TlsFailure::from(error)))?;
        self.transmit()?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.tcp.flush()
    }
}
