//! The sizes of a ring.

use crate::features::Features;

/// Sizes of a ring.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Entries of the submission queue; a power of two. When it is full, what is queued is submitted, so
    /// this bounds how many submissions enter the kernel at once.
    pub submissions: u32,
    /// Entries of the completion queue; a power of two, at least twice `submissions`. When it is full the
    /// kernel keeps what follows in a list of its own, which is slower, and nothing is lost.
    pub completions: u32,
    /// Receive buffers, shared by all connections; a power of two up to 32,768.
    pub buffers: u16,
    /// Bytes of a receive buffer.
    pub buffer_bytes: u32,
    /// Features to use where the kernel has them.
    pub features: Features,
}

impl Default for Options {
    /// For thousands of connections on one core.
    fn default() -> Self {
        Self {
            // A fan-out to thousands submits this many sends at a time; larger queues only leave the cache.
            submissions: 1024,
            // One completion each for a send and a receive of 16,384 connections.
            completions: 32_768,
            // 1 MiB, which stays in the core's cache, and as much as a turn can read of small messages. What has come
            // beyond that waits in its socket, where TCP slows its sender down; a shard that is behind and receives it
            // all the same spends its time with moving it. With 4,096 buffers a core that is offered 300,000 echoes of
            // 512 bytes a second answers less than half of them.
            buffers: 512,
            buffer_bytes: 2048,
            features: Features::ALL,
        }
    }
}
