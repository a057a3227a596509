//! What the options come to, and which of them contradict each other: the pure half of a plan, known
//! before anything is looked at.

use std::time::Duration;

use crate::cli::{Dialect, RunOptions};
use crate::dialect::payload::{BINARY_BYTES_MIN, TEXT_BYTES_MIN};
use crate::error::Error;
use crate::measure::presence::Absence;
use crate::measure::recorder::{Broadcast, TIME_NS_MAX, histogram};
use crate::network::target::Target;
use crate::options::threshold::{Metric, Threshold, Time};
use crate::plan::INITIAL_ROOM;
use crate::plan::rooms::Rooms;
use crate::plan::schedule::{Arrivals, BROADCASTS_MAX, POISSON_BROADCASTS_MAX};

/// How often one client speaks in chat, at most, unless the senders are counted out: a chat server may
/// limit a client to 50 messages a second, and a limit that is only just met would be met unevenly.
pub const CHAT_SPEAKER_RATE_MAX: f64 = 40.0;

/// What is under way when measuring ends takes some time in any case.
const DRAIN_MIN: Duration = Duration::from_millis(1);
/// What is undelivered counts as the time waited, and that is recorded in a histogram.
const DRAIN_MAX: Duration = Duration::from_nanos(TIME_NS_MAX);

/// Refuses options that contradict each other.
///
/// # Errors
///
/// [`Error::Usage`], naming the option and what is allowed.
pub fn check(options: &RunOptions) -> Result<(), Error> {
    check_payload_and_time(options)?;
    check_rooms(options)?;
    check_members(options)?;
    options.thresholds.iter().try_for_each(|threshold| check_threshold(options, threshold, "--threshold"))?;
    match &options.find_max {
        Some(condition) if !condition.limits_load() => refuse(format!(
            "--find-max {condition}: give an upper limit of a time or of cpu, or a lower one of reach"
        )),
        Some(condition) => check_threshold(options, condition, "--find-max"),
        None => Ok(()),
    }
}

fn refuse<T>(why: impl Into<String>) -> Result<T, Error> {
    Err(Error::Usage(why.into()))
}

fn check_payload_and_time(options: &RunOptions) -> Result<(), Error> {
    let least = if options.dialect.joins_chat() { TEXT_BYTES_MIN } else { BINARY_BYTES_MIN };
    if !(least..=1 << 20).contains(&options.payload) {
        let (name, payload) = (options.dialect.name(), options.payload);
        return refuse(format!("--payload {payload}: {name} takes {least} to 1,048,576 bytes"));
    }
    let duration = options.measured_duration();
    if duration.is_zero() {
        return refuse("--duration 0: there is nothing to measure in no time");
    }
    if let Some(short) = options.stages().iter().find(|stage| stage.count() == 0) {
        // Of --stages, which parses them, each has one.
        return refuse(format!(
            "--duration {}: too short for a single broadcast at --rate {}",
            humantime::format_duration(short.duration),
            short.rate
        ));
    }
    if !(DRAIN_MIN..=DRAIN_MAX).contains(&options.drain) {
        return refuse(format!(
            "--drain {}: allowed are 1ms to 60s: in no time nothing arrives, and times are told apart up to 60 s",
            humantime::format_duration(options.drain)
        ));
    }
    let span = options.warmup.saturating_add(duration).saturating_add(options.drain);
    let count = options.peak_rate() * options.warmup.as_secs_f64()
        + options.mean_rate() * (duration + options.drain).as_secs_f64();
    if count > BROADCASTS_MAX as f64 || span.as_secs() > 72 * 3600 {
        return refuse(format!("--rate and --duration: at most {BROADCASTS_MAX} broadcasts in 72 hours"));
    }
    if options.arrivals == Arrivals::Poisson && count > POISSON_BROADCASTS_MAX as f64 {
        return refuse(format!("--arrivals poisson: at most {POISSON_BROADCASTS_MAX} broadcasts in a run"));
    }
    Ok(())
}

fn check_rooms(options: &RunOptions) -> Result<(), Error> {
    let (names, rooms) = (options.room.len() as u32, options.rooms.unwrap_or(1));
    if options.dialect == Dialect::Echo && (rooms > 1 || names > 0) {
        return refuse("--rooms and --room: an echo has no room");
    }
    if options.dialect == Dialect::Private && (options.rooms.is_some() || names > 0) {
        return refuse("--rooms and --room: private messages pass beside the rooms");
    }
    if names > 1 && options.rooms.is_some_and(|rooms| rooms != names) {
        return refuse(format!("--rooms {rooms}: --room names {names}"));
    }
    if options.dialect == Dialect::Chat && rooms > names.max(1) {
        return refuse(format!(
            "--rooms {rooms}: chat rooms are the server's, so name {rooms} that it has: --room general,..."
        ));
    }
    let mut sorted = options.room.clone();
    sorted.sort_unstable();
    if let Some(twice) = sorted.windows(2).find(|pair| pair[0] == pair[1]) {
        return refuse(format!("--room: {} is named twice", twice[0]));
    }
    if sorted.iter().any(String::is_empty) {
        return refuse("--room: a name is empty");
    }
    let is_plain =
        |topic: &&String| !topic.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte));
    match options.room.iter().find(is_plain) {
        Some(topic) if options.dialect == Dialect::Raw => {
            refuse(format!("--topic {topic:?}: it is part of a path; letters, digits and -._~ are allowed"))
        }
        _ => Ok(()),
    }
}

fn check_members(options: &RunOptions) -> Result<(), Error> {
    let (slow, clients) = (slow_count(options), options.clients);
    let Rooms { count, senders } = rooms(options);
    let readers = clients - slow;
    if options.slow_clients > 0.0 && slow == 0 {
        return refuse(format!("--slow-clients {}: of {clients} clients that is none", options.slow_clients));
    }
    if options.dialect == Dialect::Private && !clients.is_multiple_of(2) {
        return refuse(format!(
            "--clients {clients}: private messages pass between two, so take an even number"
        ));
    }
    if options.dialect == Dialect::Private && (slow > 0 || options.churn.is_some()) {
        return refuse("--slow-clients and --churn: in private each client is the only receiver of another");
    }
    if options.dialect == Dialect::Echo && slow > 0 {
        return refuse("--slow-clients: an echo goes to its sender alone, so nobody waits for the slow");
    }
    if options.dialect == Dialect::Echo && options.churn.is_some() {
        return refuse("--churn: an echo goes to its sender alone, so nobody waits for those who leave");
    }
    if let Some(asked) = options.senders {
        if asked < count {
            return refuse(format!("--senders {asked}: each of the {count} rooms needs one that speaks"));
        }
        if asked > readers {
            return refuse(format!("--senders {asked}: only {readers} clients read, and who speaks must"));
        }
    }
    if senders > readers {
        return refuse(format!(
            "--rate {}: needs {senders} clients that speak ({CHAT_SPEAKER_RATE_MAX} messages a second each, \
             and as many in each of {count} rooms, see --help), and {readers} read",
            options.peak_rate()
        ));
    }
    if options.dialect == Dialect::Chat && readers < 2 * count {
        return refuse(format!(
            "--clients {clients}: each chat room needs one that speaks and one that receives, so at least {} \
             that read",
            2 * count
        ));
    }
    if options.churn.is_some() && senders == readers {
        return refuse("--churn: all clients speak or are slow, and only the others leave");
    }
    Ok(())
}

fn check_threshold(options: &RunOptions, threshold: &Threshold, flag: &str) -> Result<(), Error> {
    match threshold.metric() {
        Metric::Cpu if options.server_pid.is_none() => {
            refuse(format!("{flag} {threshold}: needs --server-pid to know the server's CPU time"))
        }
        Metric::Time(Time::First | Time::Complete | Time::Spread, _) if options.dialect == Dialect::Echo => {
            refuse(format!("{flag} {threshold}: an echo has one receiver; take latency"))
        }
        _ => Ok(()),
    }
}

/// How many deliveries one broadcast comes to when so many clients of its room read.
#[must_use]
pub fn deliveries(dialect: Dialect, readers: u64) -> u64 {
    match dialect {
        Dialect::Chat | Dialect::Private => readers.saturating_sub(1),
        Dialect::Raw => readers,
        Dialect::Echo => 1,
    }
}

/// About how much memory a run takes at most, while nothing is lost: what each thread and the whole needs in
/// any case, the table of broadcasts (of each thread, and merged), what each client has heard of each speaker,
/// the clients, and who was away. How long it measures matters for broadcasts and absences alone.
#[must_use]
pub fn memory_bytes(options: &RunOptions, threads: usize) -> u64 {
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
    let histograms = threads * (THREAD_HISTOGRAMS + 2 * stages) + MAIN_HISTOGRAMS + 3 * stages;
    let ring = uproar_ring::Options::default();
    let ring_bytes = u64::from(ring.buffers) * ring.buffer_bytes as u64;
    histograms * histogram().distinct_values() as u64 * size_of::<u64>() as u64
        + threads * ring_bytes
        + broadcasts * broadcast_bytes
        + clients * speakers_heard * size_of::<u32>() as u64
        + clients * CLIENT_BYTES
        + absences * size_of::<Absence>() as u64
}

/// How many clients stop reading.
#[must_use]
pub fn slow_count(options: &RunOptions) -> u32 {
    (f64::from(options.clients) * options.slow_clients / 100.0).round() as u32
}

/// How many rooms there are, and how many clients speak in them.
#[must_use]
pub fn rooms(options: &RunOptions) -> Rooms {
    if options.dialect == Dialect::Private {
        // Two who write to each other are a room of their own, in which both speak.
        return Rooms { count: options.clients / 2, senders: options.senders.unwrap_or(options.clients) };
    }
    let count = options.rooms.unwrap_or(1).max(options.room.len() as u32);
    let senders = options.senders.unwrap_or_else(|| match options.dialect {
        Dialect::Chat => {
            let needed = (options.peak_rate() / CHAT_SPEAKER_RATE_MAX).ceil().max(1.0) as u32;
            needed.next_multiple_of(count)
        }
        Dialect::Raw => count,
        Dialect::Private | Dialect::Echo => options.clients,
    });
    Rooms { count, senders }
}

/// The names of the chat rooms or topics: the room that a chat client is in from the beginning, and the
/// topic that only loadgen uses, where none is given.
#[must_use]
pub fn room_names(options: &RunOptions) -> Vec<String> {
    let count = rooms(options).count;
    let default = match options.dialect {
        Dialect::Chat => INITIAL_ROOM,
        Dialect::Private => "pair",
        Dialect::Raw | Dialect::Echo => "loadgen",
    };
    match &options.room[..] {
        [] | [_] if count > 1 => {
            let name = options.room.first().map_or(default, String::as_str);
            (0..count).map(|index| format!("{name}-{index}")).collect()
        }
        [] => vec![default.to_owned()],
        names => names.to_vec(),
    }
}

/// The path to upgrade for each room, or one for all.
///
/// # Errors
///
/// [`Error::Usage`] when the URL names the path of one topic and there are several.
pub fn paths(options: &RunOptions, target: &Target) -> Result<Vec<String>, Error> {
    match (&target.path, options.dialect) {
        (Some(path), Dialect::Raw) if rooms(options).count > 1 || !options.room.is_empty() => {
            refuse(format!("--rooms and --topic: the URL's path {path} names the topic; leave it out"))
        }
        (Some(path), _) => Ok(vec![path.clone()]),
        (None, Dialect::Chat | Dialect::Private) => Ok(vec!["/chat".to_owned()]),
        (None, Dialect::Echo) => Ok(vec!["/echo".to_owned()]),
        (None, Dialect::Raw) => {
            Ok(room_names(options).iter().map(|topic| format!("/broadcast/{topic}")).collect())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::tests::options;

    #[test]
    fn contradictions_are_refused() {
        for (arguments, why) in [
            (&["--payload", "46"][..], "--payload"),
            (&["--payload", "31", "--dialect", "raw"], "--payload"),
            (&["--clients", "1"], "one that receives"),
            (&["--clients", "2", "--rate", "81"], "needs 3 clients that speak"),
            (&["--clients", "5", "--room", "a,b,c"], "at least 6"),
            (&["--duration", "0s"], "--duration"),
            (&["--duration", "300ms", "--rate", "1"], "too short for a single broadcast"),
            (&["--drain", "0s"], "--drain"),
            (&["--drain", "61s"], "--drain 1m 1s: allowed are 1ms to 60s"),
            (&["--clients", "10", "--slow-clients", "1"], "of 10 clients that is none"),
            (
                &["--rate", "1000000", "--duration", "1h", "--dialect", "raw", "--arrivals", "poisson"],
                "poisson",
            ),
            (&["--dialect", "private", "--clients", "3"], "--clients 3"),
            (&["--dialect", "private", "--room", "general"], "beside the rooms"),
            (&["--dialect", "private", "--churn", "1"], "--churn"),
            (&["--dialect", "private", "--slow-clients", "10"], "--slow-clients"),
            (&["--dialect", "private", "--payload", "46"], "--payload"),
            (&["--dialect", "echo", "--slow-clients", "10"], "--slow-clients"),
            (&["--dialect", "echo", "--churn", "1"], "--churn"),
            (&["--dialect", "echo", "--rooms", "2"], "--rooms"),
            (&["--dialect", "raw", "--topic", "a b"], "part of a path"),
            (&["--rooms", "2"], "name 2"),
            (&["--rooms", "3", "--room", "a,b"], "--room names 2"),
            (&["--room", "a,b,a"], "a is named twice"),
            (&["--room", "a,"], "empty"),
            (&["--room", "a,b", "--senders", "1"], "each of the 2 rooms"),
            (&["--clients", "4", "--senders", "5"], "--senders 5"),
            (&["--clients", "4", "--senders", "4", "--churn", "1"], "--churn"),
            (&["--threshold", "cpu<1us"], "--server-pid"),
            (&["--dialect", "echo", "--threshold", "spread.p50<1ms"], "one receiver"),
            (&["--find-max", "latency.p50>1ms"], "upper limit"),
        ] {
            match check(&options(arguments)) {
                Err(Error::Usage(text)) => assert!(text.contains(why), "{arguments:?}: {text}"),
                other => panic!("{arguments:?}: {other:?}"),
            }
        }
    }

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
    fn a_path_names_one_topic() {
        let target = Target::parse("ws://a/b").expect("parses");
        for contradiction in [["--rooms", "2"], ["--topic", "t"]] {
            let options = options(&[&["--dialect", "raw"], &contradiction[..]].concat());
            assert!(paths(&options, &target).is_err(), "{contradiction:?}");
        }
        assert_eq!(paths(&options(&["--room", "a,b"]), &target).expect("one"), ["/b"]);
    }

    #[test]
    fn every_room_has_as_many_senders() {
        assert_eq!(rooms(&options(&["--room", "a,b,c", "--rate", "150"])), Rooms { count: 3, senders: 6 });
        let raw = options(&["--dialect", "raw", "--rooms", "4"]);
        assert_eq!(rooms(&raw), Rooms { count: 4, senders: 4 });
        assert_eq!(room_names(&raw), ["loadgen-0", "loadgen-1", "loadgen-2", "loadgen-3"]);
    }
}
