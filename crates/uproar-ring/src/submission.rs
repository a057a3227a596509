//! Submissions to the ring, and completions from it: plain values without descriptors.

use std::collections::VecDeque;
use std::io;

use crate::connection_id::ConnectionId;
use crate::shared_bytes::SharedBytes;

/// The most frames that leave in one vectored send.
///
/// Below the kernel's `UIO_MAXIOV` (1,024, readv(2)); with frames of 100 bytes it is 25 KiB a send, for which the fixed
/// cost of a send is small.
pub const BATCH_FRAMES_MAX: usize = 256;

/// The frames of one send, and how much of the first one has been sent already.
///
/// Invariant: `head_offset` is less than the first frame's length, and there is a first frame.
#[derive(Debug)]
pub struct SendBatch {
    frames: Frames,
    head_offset: usize,
}

/// The frames of a [`SendBatch`].
#[derive(Debug)]
pub enum Frames {
    /// The usual case has no allocation.
    One(SharedBytes),
    /// Several, in the order in which they are sent.
    Many(VecDeque<SharedBytes>),
}

impl SendBatch {
    /// A batch of one frame of which `head_offset` bytes have been sent already.
    #[must_use]
    pub fn one(frame: SharedBytes, head_offset: usize) -> Self {
        debug_assert!(head_offset < frame.len());
        Self { frames: Frames::One(frame), head_offset }
    }

    /// A batch of several frames, the first of which has had `head_offset` bytes sent.
    ///
    /// # Panics
    ///
    /// When `frames` is empty or longer than [`BATCH_FRAMES_MAX`].
    #[must_use]
    pub fn many(frames: VecDeque<SharedBytes>, head_offset: usize) -> Self {
        assert!((1..=BATCH_FRAMES_MAX).contains(&frames.len()), "a batch of {} frames", frames.len());
        debug_assert!(head_offset < frames[0].len());
        Self { frames: Frames::Many(frames), head_offset }
    }

    /// The frames, and how many bytes of the first one have been sent already.
    #[must_use]
    pub fn into_parts(self) -> (Frames, usize) {
        (self.frames, self.head_offset)
    }

    /// The number of frames.
    #[must_use]
    pub fn frame_count(&self) -> usize {
        match &self.frames {
            Frames::One(_) => 1,
            Frames::Many(frames) => frames.len(),
        }
    }

    /// The frame at `index`; of the first one only the part that has not been sent.
    #[must_use]
    pub fn slice(&self, index: usize) -> &[u8] {
        let (frame, offset) = match &self.frames {
            Frames::One(frame) => (frame, self.head_offset),
            Frames::Many(frames) => (&frames[index], if index == 0 { self.head_offset } else { 0 }),
        };
        &frame.bytes()[offset..]
    }

    /// The number of bytes still to be sent.
    #[must_use]
    pub fn remaining_bytes(&self) -> usize {
        (0..self.frame_count()).map(|index| self.slice(index).len()).sum()
    }

    /// Removes `sent` bytes from the front. Returns the rest, if any, to be sent next.
    #[must_use]
    pub fn advance(mut self, sent: usize) -> Option<Self> {
        match self.frames {
            Frames::One(frame) => {
                self.head_offset += sent;
                assert!(self.head_offset <= frame.len(), "Bug: more was sent than there was");
                (self.head_offset < frame.len()).then_some(Self { frames: Frames::One(frame), ..self })
            }
            Frames::Many(mut frames) => {
                self.head_offset += sent;
                while let Some(first) = frames.front()
                    && self.head_offset >= first.len()
                {
                    self.head_offset -= first.len();
                    frames.pop_front();
                }
                assert!(!frames.is_empty() || self.head_offset == 0, "Bug: more was sent than there was");
                (!frames.is_empty()).then_some(Self { frames: Frames::Many(frames), ..self })
            }
        }
    }
}

/// How a connection is ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseMode {
    /// The kernel sends its unsent bytes.
    Graceful,
    /// Unsent bytes in the kernel are discarded, and the peer sees a reset (`SO_LINGER` of zero,
    /// socket(7)): for a peer that does not read.
    Abort,
}

/// An operation for the ring.
#[derive(Debug)]
pub enum Submission {
    /// Send a batch; at most one per connection is under way.
    Send(ConnectionId, SendBatch),
    /// Stop receiving. Bytes on their way still arrive.
    PauseReceive(ConnectionId),
    /// Receive again.
    ResumeReceive(ConnectionId),
    /// Send a FIN after all sent bytes (shutdown(2), `SHUT_WR`).
    ShutdownWrite(ConnectionId),
    /// Close the connection. [`Completion::Closed`] follows once no operation on it is left.
    Close(ConnectionId, CloseMode),
}

/// A completion that the ring reports.
#[derive(Debug)]
pub enum Completion<'a> {
    /// Bytes from the peer.
    Received(ConnectionId, &'a [u8]),
    /// The peer will send nothing more.
    EndOfStream(ConnectionId),
    /// Receiving failed, and nothing more will come.
    ReceiveFailed(ConnectionId, io::Error),
    /// A send has ended: with the number of bytes sent, or an error.
    Sent(ConnectionId, SendBatch, io::Result<usize>),
    /// The connection's descriptor is closed and no operation on it is left. Always the last.
    Closed(ConnectionId),
}
