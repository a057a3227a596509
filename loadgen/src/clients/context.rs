//! The state that the clients of a thread share, so that a client holds only its own.

use std::sync::Arc;

use crate::dialect::chat;
use crate::measure::openings::Openings;
use crate::measure::recorder::Recorder;
use crate::plan::Plan;

/// What all clients of a thread share.
#[derive(Debug)]
pub struct Context {
    /// The run.
    pub plan: Arc<Plan>,
    /// What is measured.
    pub recorder: Recorder,
    /// How long the beginning took.
    pub openings: Openings,
    /// Reads a room's messages.
    pub decoder: chat::Decoder,
    /// Keys and masks.
    pub random: fastrand::Rng,
    /// The content being written, or encrypted.
    pub scratch: Vec<u8>,
    /// What has come through TLS. Here, so that no client keeps one.
    pub plaintext: Vec<u8>,
    /// The first error message that the server sent to a client that had joined.
    pub server_error: Option<String>,
}

impl Context {
    /// What the clients of `thread`, the one that calls, share.
    #[must_use]
    pub fn new(plan: Arc<Plan>, thread: u32) -> Self {
        // Threads differ in their masks and keys, and each is the same again with the same seed.
        let seed = plan.seed.wrapping_add(u64::from(thread));
        // The masks of control frames, which connections send by themselves.
        fastrand::seed(seed);
        Self {
            recorder: Recorder::new(Arc::clone(&plan), thread),
            openings: Openings::default(),
            decoder: chat::Decoder::new(plan.template.clone()),
            random: fastrand::Rng::with_seed(seed),
            scratch: Vec::new(),
            plaintext: Vec::new(),
            server_error: None,
            plan,
        }
    }

    /// A mask for one frame.
    pub fn mask(&mut self) -> [u8; 4] {
        self.random.u32(..).to_ne_bytes()
    }
}
