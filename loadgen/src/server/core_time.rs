//! What the server's cores did in all: the wall time less what they were idle, from `/proc/stat`
//! (proc_stat(5)).
//!
//! The CPU time of a process leaves out what the kernel does for it and bills to nobody: interrupts and the
//! network's softirqs that run while a core is idle, and kernel threads. On a core that the server has to
//! itself, all of that is part of what a delivery costs.
//!
//! The idle time is exact: the kernel notes in nanoseconds when a core goes idle and when an interrupt or a
//! thread ends that (as long as it stops its ticks while idle, `CONFIG_NO_HZ`, as all distributions do), and
//! rounds only when it prints. The busy columns are sampled by ticks and miss what is shorter. Waiting for
//! I/O is idle, too: a ring that waits for completions was counted as that until Linux 6.15
//! (`IORING_ENTER_NO_IOWAIT`).

use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

use rustix::param::clock_ticks_per_second;
use rustix::time::{ClockId, clock_gettime};

/// How far off the time of one core can be: idle time and time of waiting for I/O are printed in whole ticks
/// of 10 ms (`USER_HZ`), each rounded down.
pub const ERROR_A_CORE: Duration = Duration::from_millis(20);

/// What some cores had done by one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CoreTime {
    /// Which cores.
    pub cores: BTreeSet<usize>,
    /// The moment, on the monotonic clock.
    pub at: Duration,
    /// How long they had been idle, together.
    pub idle: Duration,
    /// How long a hypervisor had kept them from running, together.
    pub stolen: Duration,
}

/// What some cores did between two moments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Busy {
    /// How long they were not idle, together.
    pub busy: Duration,
    /// How much of it a hypervisor gave to others.
    pub stolen: Duration,
}

impl CoreTime {
    /// Looks at cores now; `None` when one of them is not listed, or there are none.
    #[must_use]
    pub fn now(cores: BTreeSet<usize>) -> Option<Self> {
        let stat = fs::read_to_string("/proc/stat").ok()?;
        let now = clock_gettime(ClockId::Monotonic);
        let at = Duration::new(now.tv_sec as u64, now.tv_nsec as u32);
        let [idle, stolen] = parse(&stat, &cores, clock_ticks_per_second())?;
        Some(Self { cores, at, idle, stolen })
    }

    /// What was done since `earlier`; `None` when the cores are others.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Option<Busy> {
        (self.cores == earlier.cores).then(|| {
            let wall = self.at.saturating_sub(earlier.at) * self.cores.len() as u32;
            Busy {
                busy: wall.saturating_sub(self.idle.saturating_sub(earlier.idle)),
                stolen: self.stolen.saturating_sub(earlier.stolen),
            }
        })
    }
}

/// The cores of this machine that are on; empty when they cannot be read.
#[must_use]
pub fn all_cores() -> BTreeSet<usize> {
    let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
    lines(&stat).map(|(core, _)| core).collect()
}

/// Each core with its columns: user, nice, system, idle, iowait, irq, softirq, steal and more.
fn lines(stat: &str) -> impl Iterator<Item = (usize, Vec<u64>)> {
    stat.lines().filter_map(|line| {
        let mut fields = line.strip_prefix("cpu")?.split_ascii_whitespace();
        // The sum of all cores has no number.
        let core = fields.next().filter(|_| !line.starts_with("cpu "))?.parse().ok()?;
        Some((core, fields.map_while(|field| field.parse().ok()).collect()))
    })
}

/// Idle and stolen time of these cores.
fn parse(stat: &str, cores: &BTreeSet<usize>, ticks_per_second: u64) -> Option<[Duration; 2]> {
    let (mut found, mut idle, mut stolen) = (0, 0, 0);
    for (_, columns) in lines(stat).filter(|(core, _)| cores.contains(core)) {
        found += 1;
        idle += columns.get(3)? + columns.get(4)?;
        stolen += columns.get(7).copied().unwrap_or(0);
    }
    let ticks = |count: u64| Duration::from_nanos(count * (1_000_000_000 / ticks_per_second));
    (found > 0 && found == cores.len()).then(|| [ticks(idle), ticks(stolen)])
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAT: &str = "cpu  30 0 60 900 100 0 6 4 0 0\n\
                        cpu0 10 0 20 300 50 0 2 1 0 0\n\
                        cpu10 20 0 40 600 50 0 4 3 0 0\n\
                        intr 1 2 3\n";

    #[test]
    fn idle_time_includes_waiting_for_io_and_is_of_these_cores_alone() {
        let of = |cores: &[usize]| parse(STAT, &cores.iter().copied().collect(), 100);
        assert_eq!(of(&[0]), Some([Duration::from_millis(3_500), Duration::from_millis(10)]));
        assert_eq!(of(&[0, 10]), Some([Duration::from_secs(10), Duration::from_millis(40)]));
        assert_eq!(of(&[1]), None);
        assert_eq!(of(&[0, 1]), None);
        assert_eq!(of(&[]), None);
        assert_eq!(lines(STAT).map(|(core, _)| core).collect::<Vec<_>>(), [0, 10]);
    }

    #[test]
    fn what_is_not_idle_is_busy() {
        let time = |at, idle, stolen| CoreTime {
            cores: [0, 1].into(),
            at: Duration::from_millis(at),
            idle: Duration::from_millis(idle),
            stolen: Duration::from_millis(stolen),
        };
        let busy = time(6_000, 9_500, 120).since(&time(1_000, 1_000, 20)).expect("the same cores");
        let expected = Busy { busy: Duration::from_millis(1_500), stolen: Duration::from_millis(100) };
        assert_eq!(busy, expected);
        // Idle time is rounded, so a core that did nothing may seem to have been idle longer than there was time.
        let none = time(2_000, 3_010, 0).since(&time(1_000, 1_000, 0)).expect("the same cores");
        assert_eq!(none.busy, Duration::ZERO);
        let other = CoreTime { cores: [0].into(), ..time(0, 0, 0) };
        assert_eq!(time(1, 1, 0).since(&other), None);
    }

    #[test]
    fn the_cores_of_this_machine_can_be_read() {
        let cores = all_cores();
        let begin = CoreTime::now(cores.clone()).expect("they are listed");
        let end = CoreTime::now(cores).expect("they are listed");
        assert!(end.since(&begin).is_some());
    }
}
