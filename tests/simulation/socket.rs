//! One connection as the ring and the network have it: what the client has written, what the server has
//! sent, and which operations the kernel holds. It follows `uproar_ring`: nothing but `Closed` comes
//! after a close, and what was submitted in a turn has its effect after the turn.

use std::collections::VecDeque;
use std::io;

use uproar_ring::ConnectionId;
use uproar_ring::{CloseMode, SendBatch, Submission};

use crate::random::Random;
use crate::violation::{Checked, ensure};

/// The most bytes of one receive: a provided buffer.
pub(crate) const RECEIVE_BYTES_MAX: usize = 4_096;

/// Receives that may still come after a pause.
const LATE_RECEIVES_MAX: usize = 2;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Receive {
    Armed,
    /// Paused, with so many receives on their way.
    Late(usize),
    Paused,
    /// The stream has ended or failed.
    Ended,
}

#[derive(Debug)]
struct InFlight {
    batch: SendBatch,
    /// What has become of it, once that is known.
    outcome: Option<Result<usize, i32>>,
}

/// How the server's side of the stream has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DownEnd {
    Fin,
    Reset,
}

#[derive(Debug)]
pub(crate) struct Socket {
    /// Present from its admission to its `Closed`.
    pub(crate) id: Option<ConnectionId>,
    /// Written by the client, not yet received.
    pub(crate) up: VecDeque<u8>,
    pub(crate) up_fin: bool,
    /// The client has reset the connection, or the network has.
    pub(crate) is_reset: bool,
    /// A failed send has reported the reset. A socket reports its error once (`SO_ERROR`, socket(7)), so a
    /// receive then sees the end of the stream and no error.
    is_reset_reported: bool,
    /// Sent, not yet read by the client.
    pub(crate) down: VecDeque<u8>,
    pub(crate) down_end: Option<DownEnd>,
    /// How much `down` takes before the client has read.
    pub(crate) down_bytes_max: usize,
    receive: Receive,
    send: Option<InFlight>,
    has_shut_down: bool,
    closing: Option<CloseMode>,
}

/// Completions as values that own their bytes.
#[derive(Debug)]
pub(crate) enum Completed {
    Received(Vec<u8>),
    EndOfStream,
    ReceiveFailed(i32),
    Sent(SendBatch, io::Result<usize>),
    Closed,
}

impl Socket {
    pub(crate) fn new(down_bytes_max: usize) -> Self {
        Self {
            id: None,
            up: VecDeque::new(),
            up_fin: false,
            is_reset: false,
            is_reset_reported: false,
            down: VecDeque::new(),
            down_end: None,
            down_bytes_max,
            receive: Receive::Armed,
            send: None,
            has_shut_down: false,
            closing: None,
        }
    }

    /// Takes a submission, as [`uproar_ring::Ring::submit`] would.
    pub(crate) fn submit(&mut self, submission: Submission, random: &mut Random) -> Checked {
        ensure!(TerminalCompletion, self.closing.is_none(), "{submission:?} after a close");
        match submission {
            Submission::Send(_, batch) => {
                ensure!(TerminalCompletion, self.send.is_none(), "a second send under way");
                ensure!(Protocol, !self.has_shut_down, "a send behind the FIN");
                self.send = Some(InFlight { batch, outcome: None });
            }
            Submission::PauseReceive(_) if self.receive == Receive::Armed => {
                self.receive = match random.between(0, LATE_RECEIVES_MAX) {
                    0 => Receive::Paused,
                    late => Receive::Late(late),
                };
            }
            Submission::ResumeReceive(_) if self.receive != Receive::Ended => self.receive = Receive::Armed,
            Submission::PauseReceive(_) | Submission::ResumeReceive(_) => {}
            Submission::ShutdownWrite(_) => {
                ensure!(Protocol, !self.has_shut_down, "a second FIN");
                ensure!(Protocol, self.send.is_none(), "a FIN while a send is under way");
                self.has_shut_down = true;
                if !self.is_reset {
                    self.down_end = Some(DownEnd::Fin);
                }
            }
            Submission::Close(_, mode) => {
                self.closing = Some(mode);
                if self.send.as_ref().is_some_and(|send| send.outcome.is_none()) {
                    // Cancelled.
                    self.send = None;
                }
                match mode {
                    _ if self.is_reset => {}
                    CloseMode::Graceful => self.down_end = Some(DownEnd::Fin),
                    CloseMode::Abort => {
                        self.down.clear();
                        self.down_end = Some(DownEnd::Reset);
                    }
                }
            }
        }
        Ok(())
    }

    /// True when a close was submitted.
    pub(crate) fn is_closing(&self) -> bool {
        self.closing.is_some()
    }

    /// Breaks the connection, as a reset by the peer or a dead network does. Bytes that had arrived before the
    /// reset can still be received behind it; `arrived_bytes` of them have.
    pub(crate) fn reset(&mut self, arrived_bytes: usize) {
        self.is_reset = true;
        self.up.truncate(arrived_bytes);
        self.down.clear();
        self.down_end = Some(DownEnd::Reset);
    }

    /// Lets the kernel take up to `bytes` of a send that is under way.
    pub(crate) fn take(&mut self, is_short: bool, random: &mut Random) {
        let Some(InFlight { batch, outcome: outcome @ None }) = &mut self.send else { return };
        if self.is_reset {
            self.is_reset_reported = true;
            *outcome = Some(Err(if random.percent(50) { libc::EPIPE } else { libc::ECONNRESET }));
            return;
        }
        let room = self.down_bytes_max.saturating_sub(self.down.len()).min(batch.remaining_bytes());
        if room == 0 {
            return;
        }
        let taken = if is_short { random.between(1, room) } else { room };
        let mut left = taken;
        for index in 0..batch.frame_count() {
            let slice = batch.slice(index);
            let part = slice.len().min(left);
            self.down.extend(&slice[..part]);
            left -= part;
            if left == 0 {
                break;
            }
        }
        *outcome = Some(Ok(taken));
    }

    /// Reports how a send has ended, if it has.
    pub(crate) fn complete_send(&mut self) -> Option<Completed> {
        if self.closing.is_some() {
            return None;
        }
        let InFlight { outcome: Some(_), .. } = self.send.as_ref()? else { return None };
        let InFlight { batch, outcome } = self.send.take()?;
        let result = outcome?.map_err(io::Error::from_raw_os_error);
        Some(Completed::Sent(batch, result))
    }

    /// Reports what was received, up to `bytes_max`.
    pub(crate) fn complete_receive(&mut self, bytes_max: usize) -> Option<Completed> {
        if self.closing.is_some() || matches!(self.receive, Receive::Paused | Receive::Ended) {
            return None;
        }
        if self.up.is_empty() {
            if self.is_reset && !self.is_reset_reported {
                self.receive = Receive::Ended;
                return Some(Completed::ReceiveFailed(libc::ECONNRESET));
            }
            if !self.up_fin && !self.is_reset {
                return None;
            }
            self.receive = Receive::Ended;
            return Some(Completed::EndOfStream);
        }
        if let Receive::Late(late) = self.receive {
            self.receive = if late == 1 { Receive::Paused } else { Receive::Late(late - 1) };
        }
        let len = self.up.len().min(bytes_max).min(RECEIVE_BYTES_MAX);
        Some(Completed::Received(self.up.drain(..len).collect()))
    }

    /// Reports the end of a connection whose close was submitted.
    pub(crate) fn complete_close(&mut self) -> Option<Completed> {
        self.closing?;
        // What the kernel had already taken is dropped with its completion.
        self.send = None;
        Some(Completed::Closed)
    }

    /// Reads up to `bytes_max` as the client.
    pub(crate) fn read(&mut self, bytes_max: usize) -> Vec<u8> {
        let len = self.down.len().min(bytes_max);
        self.down.drain(..len).collect()
    }
}
