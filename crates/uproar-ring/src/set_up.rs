//! Setting up what has a ring in it.

use std::io;
use std::thread;
use std::time::{Duration, Instant};

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
