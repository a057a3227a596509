//! Whether a run has the memory that it needs.

use std::fs;

use crate::dialect::Dialect;
use crate::error::Error;
use crate::measure::broadcast::Broadcast;
use crate::measure::presence::Absence;
use crate::numbers::grouped;
use crate::options::RunOptions;
use crate::options::arrivals::Arrivals;
use crate::plan::layout::rooms;
use crate::timings::histogram;

/// About how much memory a run takes at most, while nothing is lost: what each thread and the whole needs in
/// any case, the table of broadcasts (of each thread, and merged), what each client has heard of each speaker,
/// the clients, and who was away. How long it measures matters for broadcasts and absences alone.
#[must_use]
fn memory_bytes(options: &RunOptions, threads: usize) -> u64 {
    /// With what its connection holds in this process.
    const CLIENT_BYTES: u64 = 2048;
    /// What it records (three), how its clients connected (four), and a second on its way to the main thread.
    const THREAD_HISTOGRAMS: u64 = 8;
    /// The whole, its halves, what is merged of it, and what is made of that for the result.
    const MAIN_HISTOGRAMS: u64 = 20;
    let threads = threads as u64;
    let (count, clients) = (rooms(options), u64::from(options.clients));
    let seconds = options.measured_duration().as_secs_f64();
    let broadcasts = (options.mean_rate() * seconds).ceil() as u64;
    let (tables, speakers_heard) = match options.dialect {
        Dialect::Echo => (0, 1),
        Dialect::Chat | Dialect::Private | Dialect::Raw => (threads + 1, u64::from(count.tracks_max())),
    };
    // How many are to receive it, and when it is due where that is random.
    let random_times = u64::from(options.arrivals == Arrivals::Poisson);
    let broadcast_bytes = tables * size_of::<Broadcast>() as u64 + 8 * (tables.min(1) + random_times);
    let absences = (options.churn.unwrap_or(0.0) * (seconds + options.warmup.as_secs_f64())).ceil() as u64;
    let stages = options.stages.as_ref().map_or(0, |stages| stages.0.len() as u64);
    // One a thread for each pair of servers, what is merged of them, and the undelivered among it.
    let pairs = if options.urls.len() > 1 { (options.urls.len() * options.urls.len()) as u64 } else { 0 };
    let histograms =
        threads * (THREAD_HISTOGRAMS + 2 * stages + pairs) + MAIN_HISTOGRAMS + 3 * stages + 2 * pairs;
    let ring = uproar_ring::Options::default();
    let ring_bytes = u64::from(ring.buffers) * ring.buffer_bytes as u64;
    histograms * histogram().distinct_values() as u64 * size_of::<u64>() as u64
        + threads * ring_bytes
        + broadcasts * broadcast_bytes
        + clients * speakers_heard * size_of::<u32>() as u64
        + clients * CLIENT_BYTES
        + absences * size_of::<Absence>() as u64
}

/// What the kernel could give without swapping.
pub(super) fn available_bytes() -> Option<u64> {
    let meminfo = fs::read_to_string("/proc/meminfo").ok()?;
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? << 10)
}

pub(super) fn check_memory(
    options: &RunOptions,
    threads: usize,
    available: Option<u64>,
) -> Result<((), String), Error> {
    let needed = memory_bytes(options, threads);
    let mebibytes = |bytes: u64| grouped(bytes >> 20);
    match available {
        Some(available) if available < needed => Err(Error::Preflight(format!(
            "about {} MiB are needed, for every broadcast and for every speaker that a client hears, and {} MiB \
             are available: lower --rate or --duration, or --clients or --senders",
            mebibytes(needed),
            mebibytes(available)
        ))),
        _ => Ok(((), format!("about {} MiB are needed", mebibytes(needed)))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::tests::options;

    #[test]
    fn memory_grows_with_broadcasts_and_not_with_time() {
        let bytes = |arguments: &[&str]| memory_bytes(&options(arguments), 1);
        let (short, long) = (["--duration", "10s", "--rate", "40"], ["--duration", "400s", "--rate", "1"]);
        assert_eq!(bytes(&short), bytes(&long));
        // 400 broadcasts more, in the tables of the thread and of the whole, and how many are to receive each.
        assert_eq!(bytes(&["--duration", "20s", "--rate", "40"]) - bytes(&short), 400 * (2 * 40 + 8));
        // 10,000 absences more.
        let churn = bytes(&["--duration", "10s", "--rate", "40", "--warmup", "0s", "--churn", "1000"]);
        assert_eq!(churn - bytes(&short), 10_000 * size_of::<Absence>() as u64);
    }

    #[test]
    fn each_pair_of_servers_has_a_histogram() {
        let bytes = |urls: &[&str]| memory_bytes(&options(&[urls, &["--senders", "2"]].concat()), 1);
        let each = (histogram().distinct_values() * size_of::<u64>()) as u64;
        let two = ["--url", "ws://a", "--url", "ws://b"];
        assert_eq!(bytes(&two) - bytes(&[]), 4 * 3 * each);
        assert!(256 * each < 60 << 20, "{each}");
    }

    #[test]
    fn what_does_not_fit_into_memory_is_found_before_it_is_tried() {
        let gibibyte = Some(1 << 30);
        let check = |line: &[&str]| check_memory(&options(line), 1, gibibyte).is_ok();
        assert!(check(&["--clients", "10000", "--duration", "1h"]));
        assert!(!check(&["--dialect", "raw", "--rate", "10000", "--duration", "72h"]));
        assert!(!check(&["--dialect", "raw", "--clients", "100000", "--senders", "100000"]));
    }
}
