//! An io_uring driver for connected sockets, for one thread, behind an interface that safe code cannot misuse.
//!
//! A [`Ring`] owns the sockets that are attached to it. Submitting a send hands over the frames; its completion hands
//! them back. Received bytes are lent until the next call of the ring. A connection's slot, descriptor and memory are
//! released only when the kernel has reported the last operation on it (the invariant *terminal completion*).
//!
//! One turn of a caller: [`Ring::enter`], then [`Ring::next_completion`] until `None`, with
//! [`Ring::submit`] in between. Nothing here knows what the bytes mean.
//!
//! [`Probe`] asks the kernel beforehand whether it has what a ring needs. This crate is the only one with unsafe code.
#![allow(unsafe_code)]

mod allocator;
mod buffers;
mod connection_id;
mod descriptor;
mod features;
mod options;
mod probe;
mod ring;
mod set_up;
mod shared_bytes;
mod slot;
mod submission;
mod token;
mod waker;

pub use allocator::{Heap, give_back_ends, give_back_own_end, heap, trim};
pub use connection_id::ConnectionId;
pub use descriptor::{TcpFacts, duplicate, incoming_cpu, tcp_facts, unacknowledged_bytes};
pub use features::{Feature, Features, UnknownFeature};
pub use options::Options;
pub use probe::{Operations, Probe, ProbeError};
pub use ring::{Counts, Ring};
pub use set_up::retrying_enomem;
pub use shared_bytes::SharedBytes;
pub use submission::{BATCH_FRAMES_MAX, CloseMode, Completion, Frames, SendBatch, Submission};
pub use waker::Waker;
