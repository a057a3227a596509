//! Encoded WebSocket frames, shared by every connection that they go to.
//!
//! An event is encoded once into a [`Frame`]; what a connection queues is a reference. The count is
//! local to the shard (`Rc`), so that cores do not fight over its cache line.

use std::any::Any;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;

/// Bytes ready for the wire: one WebSocket frame, several, or an HTTP response.
///
/// Cloning copies a pointer. The bytes never move and never change while a clone lives, which is what
/// lets the ring hand their address to the kernel.
#[derive(Clone, Debug)]
pub struct Frame(Rc<Inner>);

#[derive(Debug)]
struct Inner {
    bytes: Bytes,
    /// Dropped with the last reference, that is, when the last send of these bytes has completed.
    _on_last_drop: Option<Arc<dyn Any + Send + Sync>>,
}

impl Frame {
    /// A frame of these bytes.
    #[must_use]
    pub fn new(bytes: Bytes) -> Self {
        Self(Rc::new(Inner { bytes, _on_last_drop: None }))
    }

    /// A frame that keeps `witness` alive until the last connection has sent it or given it up.
    #[must_use]
    pub fn witnessed(bytes: Bytes, witness: Arc<dyn Any + Send + Sync>) -> Self {
        Self(Rc::new(Inner { bytes, _on_last_drop: Some(witness) }))
    }

    /// The bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.0.bytes
    }

    /// How many bytes there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.bytes.len()
    }

    /// True when there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.bytes.is_empty()
    }
}
