//! Setting up rings when memory is short.

use std::io;
use std::thread;
use std::time::{Duration, Instant};

/// How long and how often it tries again.
const ENOMEM_RETRY_TIME: Duration = Duration::from_secs(2);
const ENOMEM_RETRY_PAUSE: Duration = Duration::from_millis(20);

/// Sets up a ring, or something that contains one. On ENOMEM it tries again for up to two seconds, and blocks
/// meanwhile: the kernel frees the memory of a closed ring, also of another process, with a delay.
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
