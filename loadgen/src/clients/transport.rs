//! What lies between the clients of a thread and their sockets: nothing, or TLS where the URL is `wss://`.
//! Clients do not know which. What they are handed is plaintext, and so is what they yield.
//!
//! A channel keeps the rule of a client, at most one batch with the kernel. Batches of the handshake are not
//! the client's, which is asked for one only when it can be encrypted.

use bytes::Bytes;
use uproar_protocol::tls::TlsStream;
use uproar_ring::SendBatch;
use uproar_ring::SharedBytes;

use crate::clients::client::{Client, Phase};
use crate::clients::context::Context;
use crate::clients::failure::Failure;
use crate::network::security::{Security, TlsFailure};

/// What carries the bytes of one thread's clients. A client is named by its local index.
#[derive(Debug)]
pub enum Transport {
    /// The socket alone.
    Plain,
    /// TLS.
    Tls(Channels),
}

impl Transport {
    /// For so many clients.
    #[must_use]
    pub fn new(security: Option<&Security>, count: usize) -> Self {
        security.map_or(Self::Plain, |security| Self::Tls(Channels::new(security.clone(), count)))
    }

    /// Begins anew with a client's connection.
    ///
    /// # Errors
    ///
    /// A [`Failure`] of this side.
    pub fn open(&mut self, index: usize) -> Result<(), Failure> {
        match self {
            Self::Plain => Ok(()),
            Self::Tls(channels) => channels.open(index),
        }
    }

    /// Takes bytes that arrived at `now_ns`, and hands the client what they say.
    ///
    /// # Errors
    ///
    /// A [`Failure`], after which the connection is of no use.
    pub fn handle_received(
        &mut self,
        index: usize,
        client: &mut Client,
        context: &mut Context,
        now_ns: u64,
        bytes: &[u8],
    ) -> Result<(), Failure> {
        match self {
            Self::Plain => client.handle_received(context, now_ns, bytes),
            Self::Tls(channels) => channels.handle_received(index, client, context, now_ns, bytes),
        }
    }

    /// True when `poll_batch` may have something to yield, now or after the send under way.
    #[must_use]
    pub fn has_outgoing(&self, index: usize, client: &Client) -> bool {
        match self {
            Self::Plain => client.has_outgoing(),
            Self::Tls(channels) => client.has_outgoing() || channels.has_outgoing(index),
        }
    }

    /// What to send now, if anything; then `handle_sent` must come before there is more.
    ///
    /// # Errors
    ///
    /// A [`Failure`], after which the connection is of no use.
    pub fn poll_batch(
        &mut self,
        index: usize,
        client: &mut Client,
        context: &mut Context,
        now_ns: u64,
    ) -> Result<Option<SendBatch>, Failure> {
        match self {
            Self::Plain => Ok(client.poll_batch(context, now_ns)),
            Self::Tls(channels) => channels.poll_batch(index, client, context, now_ns),
        }
    }

    /// Notes that the batch last polled has left entirely.
    pub fn handle_sent(&mut self, index: usize, client: &mut Client, context: &mut Context, now_ns: u64) {
        match self {
            Self::Plain => client.handle_sent(context, now_ns),
            Self::Tls(channels) => channels.handle_sent(index, client, context, now_ns),
        }
    }

    /// True while TCP is connected and TLS is not.
    #[must_use]
    pub fn is_handshaking(&self, index: usize, client: &Client) -> bool {
        match self {
            Self::Plain => false,
            Self::Tls(channels) => client.phase == Phase::Upgrading && channels.is_handshaking(index),
        }
    }
}

/// The channels of one thread's clients.
#[derive(Debug)]
pub struct Channels {
    security: Security,
    /// By local index; nothing where no connection was opened.
    channels: Vec<Option<Box<Channel>>>,
    /// What a client is handed; here so that no channel keeps one.
    plaintext: Vec<u8>,
}

#[derive(Debug)]
struct Channel {
    stream: TlsStream,
    /// What is with the kernel.
    under_way: UnderWay,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum UnderWay {
    Nothing,
    /// Bytes of TLS itself.
    Own,
    /// A batch of the client's, and perhaps bytes of TLS in front.
    Client,
}

impl Channels {
    fn new(security: Security, count: usize) -> Self {
        Self { security, channels: (0..count).map(|_| None).collect(), plaintext: Vec::new() }
    }

    fn open(&mut self, index: usize) -> Result<(), Failure> {
        let channel = Channel { stream: self.security.begin()?, under_way: UnderWay::Nothing };
        self.channels[index] = Some(Box::new(channel));
        Ok(())
    }

    fn channel(&mut self, index: usize) -> &mut Channel {
        self.channels[index].as_mut().expect("Bug: a connection without its channel")
    }

    fn is_handshaking(&self, index: usize) -> bool {
        self.channels[index].as_ref().is_some_and(|channel| channel.stream.is_handshaking())
    }

    fn has_outgoing(&self, index: usize) -> bool {
        self.channels[index].as_ref().is_some_and(|channel| channel.stream.has_outgoing())
    }

    fn handle_received(
        &mut self,
        index: usize,
        client: &mut Client,
        context: &mut Context,
        now_ns: u64,
        bytes: &[u8],
    ) -> Result<(), Failure> {
        let mut plaintext = std::mem::take(&mut self.plaintext);
        plaintext.clear();
        let stream = &mut self.channel(index).stream;
        let was_handshaking = stream.is_handshaking();
        let result = stream.handle_received(bytes, &mut plaintext);
        if was_handshaking {
            // Bytes may overtake the completion of the first send.
            client.handle_connected(context, now_ns);
            if let (false, Some(since_ns)) = (stream.is_handshaking(), client.opening_since_ns()) {
                context.openings.tls.record(now_ns - since_ns);
            }
        }
        // RFC 8446, 6.1: the other side's end is answered with one's own, unless there is more to say.
        let result = if stream.peer_has_closed() { result.and_then(|()| stream.close()) } else { result };
        // What came before a failure counts: it may be the server's reason.
        let handled = match plaintext.is_empty() {
            true => Ok(()),
            false => client.handle_received(context, now_ns, &plaintext),
        };
        self.plaintext = plaintext;
        handled.and(result.map_err(|error| TlsFailure::from(error).into()))
    }

    fn poll_batch(
        &mut self,
        index: usize,
        client: &mut Client,
        context: &mut Context,
        now_ns: u64,
    ) -> Result<Option<SendBatch>, Failure> {
        let Channel { stream, under_way } = self.channel(index);
        if *under_way != UnderWay::Nothing {
            return Ok(None);
        }
        *under_way = UnderWay::Own;
        // Once the server has closed, so have we.
        if !stream.is_handshaking()
            && !stream.peer_has_closed()
            && let Some(batch) = client.poll_batch(context, now_ns)
        {
            for frame in 0..batch.frame_count() {
                stream.write_plaintext(batch.slice(frame)).map_err(TlsFailure::from)?;
            }
            *under_way = UnderWay::Client;
        }
        let Some(bytes) = stream.poll_transmit() else {
            *under_way = UnderWay::Nothing;
            return Ok(None);
        };
        Ok(Some(SendBatch::one(SharedBytes::new(Bytes::from(bytes)), 0)))
    }

    fn handle_sent(&mut self, index: usize, client: &mut Client, context: &mut Context, now_ns: u64) {
        match std::mem::replace(&mut self.channel(index).under_way, UnderWay::Nothing) {
            UnderWay::Client => client.handle_sent(context, now_ns),
            UnderWay::Own | UnderWay::Nothing => client.handle_connected(context, now_ns),
        }
    }
}
