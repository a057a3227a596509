//! Time as the state machines see it: a value that is handed in, never read. (The one exception measures
//! and decides nothing: [`crate::hub::FanOutTimer`].)

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// One moment, on two clocks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// Milliseconds since the server started; never goes back. For every deadline.
    pub monotonic_ms: u64,
    /// Whole seconds since 1970, UTC. For every timestamp that a client sees.
    pub unix_seconds: u64,
}

/// Where the running server's [`Now`] comes from.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    started: Instant,
}

impl Clock {
    /// A clock that starts now.
    #[must_use]
    pub fn start() -> Self {
        Self { started: Instant::now() }
    }

    /// The present moment.
    #[must_use]
    pub fn now(&self) -> Now {
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        Now { monotonic_ms: self.started.elapsed().as_millis() as u64, unix_seconds: unix.as_secs() }
    }
}
