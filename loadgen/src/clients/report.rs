//! The messages between the main thread and the workers.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64};

use crate::measure::broadcast::Broadcast;
use crate::measure::counts::{ChurnCounts, Counts};
use crate::measure::openings::Openings;
use crate::measure::pairs::Pairs;
use crate::measure::presence::Absence;
use crate::measure::stages::StageTimings;
use crate::timings::Timings;

/// What the main thread tells all workers.
#[derive(Debug, Default)]
pub struct Signals {
    /// When the warm-up begins; 0 until that is known.
    pub start_ns: AtomicU64,
    /// When measuring ends, where that is earlier than planned; 0 while it is not.
    pub cut_ns: AtomicU64,
    /// True once all workers have finished, or one has failed: close and return.
    pub stop: AtomicBool,
}

/// What a worker tells the main thread.
#[derive(Debug)]
pub enum Report {
    /// So many more clients became ready, or failed.
    Progress {
        /// Ready since the last report.
        ready: u32,
    },
    /// Every client is ready or has failed.
    Connected(Box<Connected>),
    /// The latencies recorded in one interval, counted from 0 at the beginning of measuring.
    Interval {
        /// The worker.
        thread: u32,
        /// Which interval.
        index: usize,
        /// Its latencies.
        latency: Box<Timings>,
    },
    /// Every client of this worker that was to receive anything has lost its connection.
    Deserted {
        /// Why, with how often.
        lost: BTreeMap<String, u64>,
    },
    /// Everything is measured.
    Finished(Box<Finished>),
    /// The worker cannot go on.
    Failed(String),
}

/// How connecting went.
#[derive(Debug, Default)]
pub struct Connected {
    /// Clients that are ready, and read, by server and room.
    pub readers: Vec<Vec<u64>>,
    /// Clients that are ready, and have stopped reading.
    pub slow: u64,
    /// How often which failure occurred.
    pub failures: BTreeMap<String, u64>,
    /// How long it took.
    pub openings: Openings,
}

/// What a worker has measured.
#[derive(Debug, Default)]
pub struct Finished {
    /// The worker.
    pub thread: u32,
    /// Actual send → received.
    pub service: Timings,
    /// Intended → actual send.
    pub send_lag: Timings,
    /// One for each measured broadcast.
    pub broadcasts: Vec<Broadcast>,
    /// Each stage by itself, when there are several.
    pub stages: Vec<StageTimings>,
    /// Each pair of servers by itself, when there are several.
    pub pairs: Pairs,
    /// How often what happened.
    pub counts: Counts,
    /// When the last broadcast was handed to the kernel.
    pub last_sent_ns: u64,
    /// When this worker stopped waiting for deliveries.
    pub drained_ns: u64,
    /// How long it was busy while measuring.
    pub busy_ns: u64,
    /// Clients that were lost after they had become ready, by reason.
    pub lost: BTreeMap<String, u64>,
    /// Slow clients that the server closed, by close code; 1006 stands for one closed without a close
    /// frame (RFC 6455, 7.4.1).
    pub slow_closed: BTreeMap<u16, u64>,
    /// The times in which clients were away.
    pub absences: Vec<Absence>,
    /// How often clients left and rejoined.
    pub churn: ChurnCounts,
    /// The first error message of the server.
    pub server_error: Option<String>,
}
