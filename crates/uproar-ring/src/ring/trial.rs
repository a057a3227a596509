//! Tries a new ring out: whether it works at all, and the features that the kernel does not report.

use std::io::{self, Read as _};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use io_uring::{opcode, squeue, types};

use super::kernel::is_passing;
use super::{NO_CONNECTION, Ring};
use crate::slot::IMMEDIATE;
use crate::token::{self, Operation};

/// How long a no-op may take. It completes at once if the ring works.
const TIME_MAX: Duration = Duration::from_secs(1);

/// How often a signal may come in between.
const ATTEMPTS_MAX: u32 = 10;

/// More than a socket with the smallest send buffer takes at once.
static ZEROES: [u8; 1 << 16] = [0; 1 << 16];

/// How often the kernel may leave a send in the queue, for want of memory or because of a signal.
const SUBMITS_MAX: u32 = 100;

impl Ring {
    /// Whether the kernel does with immediate sends what `Ring::settle_sends` relies on: one that succeeds has no
    /// completion and has left, and one that the socket takes in part or not at all has its completion when the call
    /// that submits it returns. For a new ring, which has nothing else under way. A send of several frames is not
    /// tried: the kernel ends it by the same rule.
    ///
    /// # Errors
    ///
    /// What `socketpair(2)` and `io_uring_enter(2)` report.
    pub(super) fn try_immediate_sends(&mut self) -> io::Result<bool> {
        let (ours, mut peer) = UnixStream::pair()?;
        rustix::net::sockopt::set_socket_send_buffer_size(&ours, 0)?;
        peer.set_nonblocking(true)?;
        let succeeds = self.try_send(&ours, 1)?.is_none();
        let has_left = peer.read(&mut [0; 2]).is_ok_and(|bytes| bytes == 1);
        let is_short = self.try_send(&ours, ZEROES.len())?;
        let is_short = is_short.is_some_and(|sent| 0 < sent && (sent as usize) < ZEROES.len());
        let is_refused = self.try_send(&ours, 1)? == Some(-libc::EAGAIN);
        Ok(succeeds && has_left && is_short && is_refused)
    }

    /// Whether a message to a ring ends its wait. For a new ring, which has nothing else under way; it sends one to
    /// itself.
    ///
    /// # Errors
    ///
    /// As for [`Ring::try_out`].
    pub(super) fn try_message(&mut self) -> io::Result<bool> {
        self.push_message(self.ring.as_raw_fd(), 0);
        match self.wait_for_one() {
            Ok(token) => Ok(token == token::pack(Operation::Woken, NO_CONNECTION)),
            Err(error) if error.raw_os_error() == Some(libc::ETIME) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Sends so many bytes, and returns the result if there is a completion.
    fn try_send(&mut self, socket: &UnixStream, bytes: usize) -> io::Result<Option<i32>> {
        let entry = opcode::Send::new(types::Fd(socket.as_raw_fd()), ZEROES.as_ptr(), bytes as u32)
            .flags(IMMEDIATE)
            .build()
            .flags(squeue::Flags::SKIP_SUCCESS)
            .user_data(token::pack(Operation::Cancel, NO_CONNECTION));
        // SAFETY: the kernel reads at most all of a static, however long the send takes.
        unsafe { self.push(&entry) };
        for _ in 0..SUBMITS_MAX {
            self.flush_submissions()?;
            if self.ring.submission().is_empty() {
                return Ok(self.ring.completion().next().map(|entry| entry.result()));
            }
        }
        Err(io::Error::from_raw_os_error(libc::EAGAIN))
    }

    /// Submits a no-op (`IORING_OP_NOP`), and waits for its completion: a filter of system calls
    /// may allow to set a ring up, and not to use it. For a new ring, which has nothing else under way.
    ///
    /// # Errors
    ///
    /// What `io_uring_enter(2)` reports; `ETIME` when nothing has come back.
    pub fn try_out(&mut self) -> io::Result<()> {
        let entry = opcode::Nop::new().build().user_data(token::pack(Operation::Cancel, NO_CONNECTION));
        // SAFETY: the kernel reads and writes no memory of ours for it.
        unsafe { self.push(&entry) };
        self.wait_for_one().map(drop)
    }

    /// The token of the only completion there is to be.
    fn wait_for_one(&mut self) -> io::Result<u64> {
        let timespec = types::Timespec::new().sec(TIME_MAX.as_secs());
        let args = types::SubmitArgs::new().timespec(&timespec);
        for _ in 0..ATTEMPTS_MAX {
            match self.ring.submitter().submit_with_args(1, &args) {
                Err(error) if !is_passing(&error) => return Err(error),
                _ => {
                    if let Some(entry) = self.ring.completion().next() {
                        return Ok(entry.user_data());
                    }
                }
            }
        }
        Err(io::Error::from_raw_os_error(libc::ETIME))
    }
}
