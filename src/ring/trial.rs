//! Whether there is memory for a ring, and whether a ring does anything at all.

use std::io;
use std::thread;
use std::time::{Duration, Instant};

use io_uring::{opcode, types};

use super::token::{self, Operation};
use super::{Ring, is_passing};
use crate::connection_id::ConnectionId;

/// How long the kernel may take to do nothing: it does so at once, when it does.
const TIME_MAX: Duration = Duration::from_secs(1);

/// How often a signal may come in between.
const ATTEMPTS_MAX: u32 = 10;

/// How long memory for a ring is asked for again, and how often.
const ENOMEM_RETRY_TIME: Duration = Duration::from_secs(2);
const ENOMEM_RETRY_PAUSE: Duration = Duration::from_millis(20);

/// Sets up something with a ring in it, and blocks for up to two seconds where there is no memory for it: the kernel
/// counts that of a closed ring, this process's or an earlier one's, for a moment longer.
///
/// # Errors
///
/// The last of `set_up`.
pub fn retrying_enomem<T>(set_up: impl Fn() -> io::Result<T>) -> io::Result<T> {
    let deadline = Instant::now() + ENOMEM_RETRY_TIME;
    loop {
        match set_up() {
            Err(error) if error.raw_os_error() == Some(libc::ENOMEM) && Instant::now() < deadline => {
                thread::sleep(ENOMEM_RETRY_PAUSE);
            }
            outcome => return outcome,
        }
    }
}

impl Ring {
    /// Has the kernel do nothing (`IORING_OP_NOP`), and waits for its word that it has: a filter of system calls
    /// may allow to set a ring up, and not to use it. For a new ring, which has nothing else under way.
    ///
    /// # Errors
    ///
    /// What `io_uring_enter(2)` reports; `ETIME` when nothing has come back.
    pub fn try_out(&mut self) -> io::Result<()> {
        let nobody = ConnectionId { index: 0, generation: 0 };
        let entry = opcode::Nop::new().build().user_data(token::pack(Operation::Cancel, nobody));
        // SAFETY: the kernel reads and writes no memory of ours for it.
        unsafe { self.push(&entry) };
        let timespec = types::Timespec::new().sec(TIME_MAX.as_secs());
        let args = types::SubmitArgs::new().timespec(&timespec);
        for _ in 0..ATTEMPTS_MAX {
            match self.ring.submitter().submit_with_args(1, &args) {
                Err(error) if !is_passing(&error) => return Err(error),
                _ if self.ring.completion().next().is_some() => return Ok(()),
                _ => {}
            }
        }
        Err(io::Error::from_raw_os_error(libc::ETIME))
    }
}
