//! How a client's connection begins: the upgrade, until it is accepted, and since when.

use uproar_protocol::upgrade;

use crate::clients::NO_SUBPROTOCOLS;
use crate::clients::context::Context;
use crate::clients::failure::Failure;

/// What only matters until a client is ready.
#[derive(Debug)]
pub(super) struct Opening {
    /// When connect(2) was called.
    pub(super) started_ns: u64,
    key: String,
    /// The beginning of the response's head.
    head: Vec<u8>,
}

impl Opening {
    /// Begins, and yields the request that asks for the upgrade.
    pub(super) fn begin(context: &mut Context, client: u32, now_ns: u64) -> (Self, Vec<u8>) {
        let mut nonce = [0; 16];
        context.random.fill(&mut nonce);
        let key = upgrade::key(nonce);
        let request = upgrade::request(&context.plan.authority, context.plan.path_of(client), &key, []);
        (Self { started_ns: now_ns, key, head: Vec::new() }, request.into_bytes())
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
}
