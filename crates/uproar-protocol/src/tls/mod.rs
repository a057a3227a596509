//! TLS as a value: ciphertext goes in and plaintext comes out, plaintext goes in and ciphertext comes out.
//!
//! [`TlsStream`] is one connection, as a client or as a server, TLS 1.2 or 1.3. It has no socket and no
//! clock of its own (rustls asks the system for the time when it looks at a certificate). [`config`] makes
//! of PEM files what all connections of one kind share.
//!
//! Nothing is kept between two calls but the beginning of a record that has not come whole, so an idle
//! connection holds no buffer.

pub mod config;
mod error;

use std::fmt;
use std::sync::Arc;

use rustls::client::UnbufferedClientConnection;
pub use rustls::pki_types::ServerName;
use rustls::server::UnbufferedServerConnection;
use rustls::unbuffered::{
    ConnectionState, EncodeError, EncryptError, InsufficientSizeError, UnbufferedStatus, WriteTraffic,
};
pub use rustls::{ClientConfig, ServerConfig};
use rustls::{CommonState, HandshakeKind};

pub use error::Error;

/// The most ciphertext that is kept because something in it has not come whole.
///
/// A record has at most 16,384 + 256 bytes behind its header of 5 (RFC 8446, section 5.2). Only a message of
/// the handshake may be longer, and has at most 65,535 bytes in as few records as the peer likes.
pub const INCOMPLETE_BYTES_MAX: usize = 80 * 1024;
/// What a record adds to its plaintext in the worst case: header, explicit nonce or content type, tag.
const RECORD_OVERHEAD_BYTES: usize = 5 + 8 + 1 + 16;
/// The most plaintext that a record holds.
const RECORD_PLAINTEXT_BYTES: usize = 16 * 1024;
/// An alert, encrypted or not, has room in this.
const ALERT_BYTES_MAX: usize = 64;

/// One TLS connection, without a socket.
///
/// Drain rule: after the beginning and after every other call, transmit what [`TlsStream::poll_transmit`]
/// yields, also after an error: the peer is told by an alert.
pub struct TlsStream {
    side: Side,
    /// Received, and not yet complete. Invariant: at most [`INCOMPLETE_BYTES_MAX`] between two calls.
    incoming: Vec<u8>,
    /// To be transmitted.
    outgoing: Vec<u8>,
    /// True once the peer has said that it sends nothing more.
    peer_has_closed: bool,
    /// True once we have.
    has_closed: bool,
    /// What ended it.
    failure: Option<Error>,
}

enum Side {
    Client(UnbufferedClientConnection),
    Server(UnbufferedServerConnection),
}

impl fmt::Debug for TlsStream {
    /// Without keys, and without what is on its way.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("TlsStream")
            .field("agreed", &self.agreed())
            .field("is_handshaking", &self.is_handshaking())
            .field("failure", &self.failure)
            .finish_non_exhaustive()
    }
}

impl TlsStream {
    /// A client that expects the server to be `name`. Its first message waits to be transmitted.
    ///
    /// # Errors
    ///
    /// [`Error::Own`].
    pub fn client(config: &Arc<ClientConfig>, name: ServerName<'static>) -> Result<Self, Error> {
        let connection = UnbufferedClientConnection::new(Arc::clone(config), name)?;
        Self::begin(Side::Client(connection))
    }

    /// A server, which waits for its client.
    ///
    /// # Errors
    ///
    /// [`Error::Own`].
    pub fn server(config: &Arc<ServerConfig>) -> Result<Self, Error> {
        Self::begin(Side::Server(UnbufferedServerConnection::new(Arc::clone(config))?))
    }

    fn begin(side: Side) -> Result<Self, Error> {
        let mut stream = Self {
            side,
            incoming: Vec::new(),
            outgoing: Vec::new(),
            peer_has_closed: false,
            has_closed: false,
            failure: None,
        };
        stream.drive(&mut PendingOp::Nothing, &mut Vec::new())?;
        Ok(stream)
    }

    /// True until plaintext can be written. It may be read no sooner.
    #[must_use]
    pub fn is_handshaking(&self) -> bool {
        self.common().is_handshaking()
    }

    /// True once the peer has said that it sends nothing more.
    #[must_use]
    pub fn peer_has_closed(&self) -> bool {
        self.peer_has_closed
    }

    /// What ended the connection, if that was no close.
    #[must_use]
    pub fn failure(&self) -> Option<&Error> {
        self.failure.as_ref()
    }

    /// The version and the cipher suite, such as `TLSv1_3 TLS13_AES_256_GCM_SHA384`, once they are agreed on.
    #[must_use]
    pub fn agreed(&self) -> Option<String> {
        let common = self.common();
        let (version, suite) = (common.protocol_version()?, common.negotiated_cipher_suite()?);
        Some(format!("{version:?} {:?}", suite.suite()))
    }

    /// True when both sides remembered a session of the past, and resumed it.
    #[must_use]
    pub fn is_resumed(&self) -> bool {
        self.common().handshake_kind() == Some(HandshakeKind::Resumed)
    }

    /// The protocol that both sides have agreed on by ALPN, if any.
    #[must_use]
    pub fn application_protocol(&self) -> Option<&[u8]> {
        self.common().alpn_protocol()
    }

    fn common(&self) -> &CommonState {
        match &self.side {
            Side::Client(connection) => connection,
            Side::Server(connection) => connection,
        }
    }

    /// Decrypts received bytes and appends them to `plaintext`: never more than arrived, and at most
    /// one record that came in part before.
    ///
    /// # Errors
    ///
    /// An [`Error`], after which the connection is of no use, and the same again from then on. What was
    /// complete before is in `plaintext`.
    pub fn handle_received(&mut self, ciphertext: &[u8], plaintext: &mut Vec<u8>) -> Result<(), Error> {
        if let Some(failure) = &self.failure {
            return Err(failure.clone());
        }
        if self.peer_has_closed {
            // RFC 8446, 6.1: any data received after a closure alert is to be ignored.
            return Ok(());
        }
        self.incoming.extend_from_slice(ciphertext);
        self.drive(&mut PendingOp::Nothing, plaintext)?;
        if self.incoming.len() > INCOMPLETE_BYTES_MAX {
            return Err(self.fail(Error::Oversized));
        }
        Ok(())
    }

    /// Notes that TCP has ended.
    ///
    /// # Errors
    ///
    /// [`Error::Truncated`] unless the peer had closed TLS before.
    pub fn handle_end_of_stream(&mut self) -> Result<(), Error> {
        match &self.failure {
            Some(failure) => Err(failure.clone()),
            None if self.peer_has_closed => Ok(()),
            None => Err(self.fail(Error::Truncated)),
        }
    }

    /// Encrypts, to be transmitted.
    ///
    /// # Errors
    ///
    /// [`Error::Own`] when the keys are used up, or what ended the connection.
    ///
    /// # Panics
    ///
    /// While handshaking, and after [`TlsStream::close`].
    pub fn write_plaintext(&mut self, plaintext: &[u8]) -> Result<(), Error> {
        assert!(!self.is_handshaking() && !self.has_closed, "Bug: plaintext written outside the session");
        self.run(PendingOp::Encrypt(plaintext))
    }

    /// Says that nothing more will be written (`close_notify`). Without effect while handshaking and when it
    /// was said before.
    ///
    /// # Errors
    ///
    /// As for [`TlsStream::write_plaintext`].
    pub fn close(&mut self) -> Result<(), Error> {
        if self.is_handshaking() || self.has_closed {
            return Ok(());
        }
        self.has_closed = true;
        self.run(PendingOp::Close)
    }

    fn run(&mut self, mut op: PendingOp<'_>) -> Result<(), Error> {
        if let Some(failure) = &self.failure {
            return Err(failure.clone());
        }
        let mut plaintext = Vec::new();
        self.drive(&mut op, &mut plaintext)?;
        assert!(plaintext.is_empty(), "Bug: a complete record was left behind");
        Ok(())
    }

    /// True when [`TlsStream::poll_transmit`] has something to yield.
    #[must_use]
    pub fn has_outgoing(&self) -> bool {
        !self.outgoing.is_empty()
    }

    /// What is to be transmitted now.
    #[must_use]
    pub fn poll_transmit(&mut self) -> Option<Vec<u8>> {
        (!self.outgoing.is_empty()).then(|| std::mem::take(&mut self.outgoing))
    }

    /// Advances until bytes of the peer are needed.
    fn drive(&mut self, op: &mut PendingOp<'_>, plaintext: &mut Vec<u8>) -> Result<(), Error> {
        loop {
            match self.step(op, plaintext) {
                Ok(Step::Again) => {}
                Ok(Step::PeerClosed) => self.peer_has_closed = true,
                Ok(Step::Blocked) => break,
                Err(error) => return Err(self.fail(error)),
            }
        }
        if self.incoming.is_empty() {
            self.incoming = Vec::new();
        }
        Ok(())
    }

    fn step(&mut self, op: &mut PendingOp<'_>, plaintext: &mut Vec<u8>) -> Result<Step, Error> {
        let Self { side, incoming, outgoing, .. } = self;
        let (discard, step) = match side {
            Side::Client(connection) => {
                handle(connection.process_tls_records(incoming), op, outgoing, plaintext)
            }
            Side::Server(connection) => {
                handle(connection.process_tls_records(incoming), op, outgoing, plaintext)
            }
        };
        incoming.drain(..discard);
        step
    }

    /// Ends it, with the alert that rustls has for the peer.
    fn fail(&mut self, error: Error) -> Error {
        // While there is something to say, a step says it and looks no further. After that it would look at
        // what was received a second time, and rustls asserts that it sends one alert.
        while self.common().wants_write() {
            if !matches!(self.step(&mut PendingOp::Nothing, &mut Vec::new()), Ok(Step::Again)) {
                break;
            }
        }
        self.incoming = Vec::new();
        self.failure.insert(error).clone()
    }
}

/// What is to be done as soon as it can be.
enum PendingOp<'a> {
    Nothing,
    Encrypt(&'a [u8]),
    Close,
}

/// The result of a step.
enum Step {
    Again,
    PeerClosed,
    Blocked,
}

/// Does what rustls asks for; also tells how many received bytes are done with.
fn handle<Data>(
    status: UnbufferedStatus<'_, '_, Data>,
    op: &mut PendingOp<'_>,
    outgoing: &mut Vec<u8>,
    plaintext: &mut Vec<u8>,
) -> (usize, Result<Step, Error>) {
    let UnbufferedStatus { mut discard, state } = status;
    let step = match state {
        Err(error) => Err(error.into()),
        Ok(ConnectionState::ReadTraffic(mut records)) => loop {
            match records.next_record() {
                Some(Ok(record)) => {
                    discard += record.discard;
                    plaintext.extend_from_slice(record.payload);
                }
                Some(Err(error)) => break Err(error.into()),
                None => break Ok(Step::Again),
            }
        },
        Ok(ConnectionState::EncodeTlsData(mut message)) => {
            append(outgoing, ALERT_BYTES_MAX, |buffer| match message.encode(buffer) {
                Err(EncodeError::AlreadyEncoded) => unreachable!("Bug: a message is encoded once"),
                Err(EncodeError::InsufficientSize(size)) => Ok(Err(size)),
                Ok(count) => Ok(Ok(count)),
            })
        }
        Ok(ConnectionState::TransmitTlsData(transmission)) => {
            // The drain rule passes the duty on to the caller.
            transmission.done();
            Ok(Step::Again)
        }
        Ok(ConnectionState::WriteTraffic(session)) => write(op, session, outgoing),
        Ok(ConnectionState::PeerClosed) => Ok(Step::PeerClosed),
        // There is no early data, since no configuration of ours allows it, and what else may come is for
        // callers that verify certificates themselves.
        Ok(_) => Ok(Step::Blocked),
    };
    (discard, step)
}

fn write<Data>(
    op: &mut PendingOp<'_>,
    mut session: WriteTraffic<'_, Data>,
    outgoing: &mut Vec<u8>,
) -> Result<Step, Error> {
    let exhausted = |error| match error {
        EncryptError::InsufficientSize(size) => Ok(Err(size)),
        EncryptError::EncryptExhausted => Err(Error::Own(rustls::Error::EncryptError)),
    };
    match std::mem::replace(op, PendingOp::Nothing) {
        PendingOp::Nothing => Ok(Step::Blocked),
        PendingOp::Encrypt(plaintext) => {
            let records = plaintext.len().div_ceil(RECORD_PLAINTEXT_BYTES);
            let bytes = plaintext.len() + records * RECORD_OVERHEAD_BYTES;
            append(outgoing, bytes, |buffer| session.encrypt(plaintext, buffer).map(Ok).or_else(exhausted))
        }
        PendingOp::Close => append(outgoing, ALERT_BYTES_MAX, |buffer| {
            session.queue_close_notify(buffer).map(Ok).or_else(exhausted)
        }),
    }
}

/// Appends what `write` puts into a buffer of so many bytes, or of as many as it then asks for.
fn append(
    outgoing: &mut Vec<u8>,
    bytes: usize,
    mut write: impl FnMut(&mut [u8]) -> Result<Result<usize, InsufficientSizeError>, Error>,
) -> Result<Step, Error> {
    let begin = outgoing.len();
    outgoing.resize(begin + bytes, 0);
    let written = match write(&mut outgoing[begin..])? {
        Ok(count) => count,
        Err(InsufficientSizeError { required_size }) => {
            outgoing.resize(begin + required_size, 0);
            write(&mut outgoing[begin..])?.expect("Bug: too little room, and it was as asked for")
        }
    };
    outgoing.truncate(begin + written);
    Ok(Step::Again)
}

#[cfg(test)]
mod tests;
