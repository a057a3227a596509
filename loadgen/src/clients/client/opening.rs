//! How a client's connection begins: TLS, where there is any, and the upgrade, until it is accepted.

use std::mem;

use uproar_protocol::tls::TlsStream;
use uproar_protocol::upgrade;

use crate::clients::context::Context;
use crate::clients::endpoint::NO_SUBPROTOCOLS;
use crate::clients::failure::Failure;
use crate::network::security::TlsFailure;

/// What only matters until a client is ready.
///
/// Drain rule: after the beginning and after every other call, send what [`Opening::poll_transmit`] yields.
#[derive(Debug)]
pub(super) struct Opening {
    /// When connect(2) was called.
    pub(super) started_ns: u64,
    key: String,
    /// The request, until it is handed out.
    request: Vec<u8>,
    /// The beginning of the response's head.
    head: Vec<u8>,
    /// Until the upgrade is accepted; then it is the connection's.
    tls: Option<Box<TlsStream>>,
}

impl Opening {
    /// Begins to ask for an upgrade.
    ///
    /// # Errors
    ///
    /// [`Failure::Tls`], of this side.
    pub(super) fn begin(context: &mut Context, client: u32, now_ns: u64) -> Result<Self, Failure> {
        let plan = &context.plan;
        let server = plan.server_of(client);
        let tls = server.security.as_ref().map(|security| security.begin().map(Box::new)).transpose()?;
        let mut nonce = [0; 16];
        context.random.fill(&mut nonce);
        let key = upgrade::key(nonce);
        let request = upgrade::request(&server.authority, plan.path_of(client), &key, []).into_bytes();
        Ok(Self { started_ns: now_ns, key, request, head: Vec::new(), tls })
    }

    /// True where bytes pass through TLS.
    pub(super) fn is_encrypted(&self) -> bool {
        self.tls.is_some()
    }

    /// True until TLS is agreed on, where there is any.
    pub(super) fn is_handshaking(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.is_handshaking())
    }

    /// True when [`Opening::poll_transmit`] has something to yield.
    pub(super) fn has_outgoing(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.has_outgoing())
            || (!self.request.is_empty() && !self.is_handshaking())
    }

    /// What is to be sent now.
    ///
    /// # Errors
    ///
    /// [`Failure::Tls`], when nothing can be encrypted.
    pub(super) fn poll_transmit(&mut self) -> Result<Option<Vec<u8>>, Failure> {
        let is_handshaking = self.is_handshaking();
        let Some(tls) = &mut self.tls else {
            return Ok((!self.request.is_empty()).then(|| mem::take(&mut self.request)));
        };
        if !is_handshaking && !self.request.is_empty() {
            tls.write_plaintext(&mem::take(&mut self.request)).map_err(TlsFailure::from)?;
        }
        Ok(tls.poll_transmit())
    }

    /// Appends to `plaintext` what bytes say that have come through TLS.
    ///
    /// # Errors
    ///
    /// [`Failure::Tls`]; what was complete before is in `plaintext`.
    pub(super) fn decrypt(
        &mut self,
        context: &mut Context,
        now_ns: u64,
        ciphertext: &[u8],
        plaintext: &mut Vec<u8>,
    ) -> Result<(), Failure> {
        let Some(tls) = &mut self.tls else { return Ok(()) };
        let was_handshaking = tls.is_handshaking();
        let result = tls.handle_received(ciphertext, plaintext);
        if was_handshaking && !tls.is_handshaking() {
            context.openings.tls.record(now_ns - self.started_ns);
        }
        result.map_err(TlsFailure::from)?;
        if tls.peer_has_closed() {
            // RFC 8446, 6.1: the other side's end is answered with one's own. There is nothing more to ask for.
            self.request.clear();
            tls.close().map_err(TlsFailure::from)?;
        }
        Ok(())
    }

    /// Takes bytes of the response. Once it is complete and accepts the upgrade, tells how many of them belong to it.
    ///
    /// # Errors
    ///
    /// [`Failure::Refused`].
    pub(super) fn handle_response(
        &mut self,
        context: &mut Context,
        now_ns: u64,
        bytes: &[u8],
    ) -> Result<Option<usize>, Failure> {
        let earlier_bytes = self.head.len();
        self.head.extend_from_slice(bytes);
        let Some(accepted) = upgrade::check_response(&self.head, &self.key, NO_SUBPROTOCOLS)? else {
            return Ok(None);
        };
        context.openings.upgrade.record(now_ns - self.started_ns);
        Ok(Some(accepted.head_bytes - earlier_bytes))
    }

    /// The TLS of a connection whose upgrade was accepted.
    pub(super) fn take_tls(&mut self) -> Option<Box<TlsStream>> {
        self.tls.take()
    }
}
