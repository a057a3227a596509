//! SIGINT, SIGTERM and SIGHUP: the first asks a run to end with what it has, the second ends the process at
//! once.

use std::fs;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

/// What a process that is ended by a signal has as its status: this and the signal, as shells say it.
const SIGNAL_STATUS: i32 = 128;

/// Tells whether a signal to end has come.
#[derive(Clone, Debug, Default)]
pub struct Interrupt(Arc<AtomicBool>);

impl Interrupt {
    /// Listens from now on. To be called once.
    ///
    /// # Errors
    ///
    /// What sigaction(2) reports.
    pub fn listen() -> io::Result<Self> {
        let interrupt = Self::default();
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        for signal in [SIGINT, SIGTERM, SIGHUP] {
            // nohup(1) has a process ignore SIGHUP, so that it outlives its terminal.
            if signal == SIGHUP && is_ignored(&status, signal) {
                continue;
            }
            let flag = || Arc::clone(&interrupt.0);
            // In this order, so that the first signal finds the flag not yet set.
            signal_hook::flag::register_conditional_shutdown(signal, SIGNAL_STATUS + signal, flag())?;
            signal_hook::flag::register(signal, flag())?;
        }
        Ok(interrupt)
    }

    /// True once one has come.
    #[must_use]
    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// Whether a process ignores a signal, by its `/proc/PID/status` (proc_pid_status(5)): bit 0 stands for
/// signal 1.
fn is_ignored(status: &str, signal: i32) -> bool {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| mask >> (signal - 1) & 1 == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nohup_has_ignored_stays_ignored() {
        let status = "Name:\tloadgen\nSigIgn:\t0000000000001001\n";
        assert!(is_ignored(status, SIGHUP) && !is_ignored(status, SIGTERM));
        assert!(!is_ignored("", SIGHUP));
    }
}
