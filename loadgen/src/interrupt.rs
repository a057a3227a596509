//! SIGINT: the first asks a run to end with what it has, the second ends the process at once.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use signal_hook::consts::SIGINT;

/// The status of a process that was ended by the second SIGINT: 128 + 2, as shells say it.
const SECOND_STATUS: i32 = 130;

/// Tells whether SIGINT has come.
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
        // In this order, so that the first signal finds the flag not yet set.
        signal_hook::flag::register_conditional_shutdown(SIGINT, SECOND_STATUS, Arc::clone(&interrupt.0))?;
        signal_hook::flag::register(SIGINT, Arc::clone(&interrupt.0))?;
        Ok(interrupt)
    }

    /// True once it has come.
    #[must_use]
    pub fn is_set(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}
