//! Bytes that are sent to many connections, and held once.
//!
//! An event is encoded once into [`SharedBytes`], and each connection queues a reference. The count belongs to one
//! thread (`Rc`), so that cores do not fight over its cache line.

use std::any::Any;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;

/// Bytes ready for the wire: one WebSocket frame, several, or an HTTP response.
///
/// Cloning copies a pointer. The bytes never move and never change while a clone lives, which is what
/// lets the ring hand their address to the kernel.
#[derive(Clone, Debug)]
pub struct SharedBytes(Rc<Inner>);

#[derive(Debug)]
struct Inner {
    bytes: Bytes,
    charged_bytes: usize,
    /// Dropped with the last reference, when the last send of these bytes has completed.
    _on_last_drop: Option<Arc<dyn Any + Send + Sync>>,
}

impl SharedBytes {
    /// The memory overhead of waiting bytes, with glibc's allocator. It is charged to each connection that they wait
    /// for, because a broadcast may wait for a single connection.
    ///
    /// - 80: the `Rc` with its counts, 72 bytes and a chunk's header
    /// - 32: the overhead of the bytes' own chunk; the shortest chunk has 32
    /// - 64: the guard that is kept until the last drop; or, behind a gate, the larger entry of the queue
    /// - 16: an entry of the queue, whose capacity may be twice its length
    pub const OVERHEAD_BYTES: usize = 80 + 32 + 64 + 16;

    /// Shares these bytes.
    #[must_use]
    pub fn new(bytes: Bytes) -> Self {
        Self::of(bytes, None)
    }

    /// Shares these bytes, and keeps `guard` alive until the last connection has sent or dropped them.
    #[must_use]
    pub fn with_completion_guard(bytes: Bytes, guard: Arc<dyn Any + Send + Sync>) -> Self {
        Self::of(bytes, Some(guard))
    }

    fn of(bytes: Bytes, on_last_drop: Option<Arc<dyn Any + Send + Sync>>) -> Self {
        let charged_bytes = if bytes.is_empty() { 0 } else { bytes.len() + Self::OVERHEAD_BYTES };
        Self(Rc::new(Inner { bytes, charged_bytes, _on_last_drop: on_last_drop }))
    }

    /// The bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.0.bytes
    }

    /// The number of bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.bytes.len()
    }

    /// The charge for a queue: the bytes and [`SharedBytes::OVERHEAD_BYTES`]; 0 for no bytes, which no queue takes.
    #[inline]
    #[must_use]
    pub fn charged_bytes(&self) -> usize {
        self.0.charged_bytes
    }

    /// True when there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.bytes.is_empty()
    }
}

impl AsRef<[u8]> for SharedBytes {
    #[inline]
    fn as_ref(&self) -> &[u8] {
        self.bytes()
    }
}

impl From<Bytes> for SharedBytes {
    fn from(bytes: Bytes) -> Self {
        Self::new(bytes)
    }
}

impl From<Vec<u8>> for SharedBytes {
    fn from(bytes: Vec<u8>) -> Self {
        Self::new(bytes.into())
    }
}
