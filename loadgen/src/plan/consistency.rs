//! Which options contradict each other.

use std::time::Duration;

use crate::dialect::Dialect;
use crate::dialect::payload::{BINARY_BYTES_MIN, TEXT_BYTES_MIN};
use crate::error::Error;
use crate::options::RunOptions;
use crate::options::arrivals::{Arrivals, BROADCASTS_MAX, POISSON_BROADCASTS_MAX};
use crate::options::threshold::{Metric, Threshold, Time};
use crate::plan::layout::{CHAT_SPEAKER_RATE_MAX, rooms, slow_count};
use crate::plan::rooms::Rooms;
use crate::plan::servers::SERVERS_MAX;
use crate::timings::TIME_NS_MAX;

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
    check_servers(options)?;
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

fn check_servers(options: &RunOptions) -> Result<(), Error> {
    let count = options.urls.len();
    if count == 1 {
        return Ok(());
    }
    if count > SERVERS_MAX {
        return refuse(format!("--url: {count} servers, and a run tells {SERVERS_MAX} apart at most"));
    }
    let mut sorted = options.urls.clone();
    sorted.sort_unstable();
    if let Some(twice) = sorted.windows(2).find(|pair| pair[0] == pair[1]) {
        return refuse(format!("--url: {} is named twice", twice[0]));
    }
    if options.dialect == Dialect::Echo {
        return refuse("--url: an echo does not leave its server, so measure one server at a time");
    }
    if options.server_pid.is_some() {
        return refuse(format!(
            "--server-pid: it tells what one server costs, and there are {count} --url; measure one server at a time"
        ));
    }
    let rooms = if options.dialect == Dialect::Private { 2 } else { rooms(options).count };
    let least = u64::from(rooms) * count as u64;
    let readers = u64::from(options.clients - slow_count(options));
    if readers < least {
        return match options.dialect {
            Dialect::Private => refuse(format!(
                "--clients {}: {count} servers need two clients each, so at least {least}",
                options.clients
            )),
            _ => refuse(format!(
                "--clients {}: each room needs a client that reads on each of {count} servers, so at least {least} \
                 that read",
                options.clients
            )),
        };
    }
    Ok(())
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
             and as many in each of {count} rooms on each of {} servers, see --help), and {readers} read",
            options.peak_rate(),
            options.urls.len()
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::tests::options;

    #[test]
    fn there_are_sixteen_servers_at_most() {
        let urls: Vec<_> = (1..=17).map(|port| format!("ws://a:{port}")).collect();
        let check = |count: usize| {
            check(&options(&urls[..count].iter().flat_map(|url| ["--url", url]).collect::<Vec<_>>()))
        };
        check(16).expect("are told apart");
        let refusal = check(17).expect_err("too many").to_string();
        assert!(refusal.contains("17 servers, and a run tells 16 apart at most"), "{refusal}");
    }

    #[test]
    fn contradictions_are_refused() {
        for (arguments, why) in [
            (&["--payload", "46"][..], "--payload"),
            (&["--url", "ws://a", "--url", "ws://b", "--url", "ws://a"], "ws://a is named twice"),
            (&["--url", "ws://a", "--url", "ws://b", "--dialect", "echo"], "does not leave its server"),
            (&["--url", "ws://a", "--url", "ws://b", "--server-pid", "1"], "there are 2 --url"),
            (&["--url", "ws://a", "--url", "ws://b", "--room", "a,b,c", "--clients", "5"], "at least 6"),
            (&["--url", "ws://a", "--url", "ws://b", "--dialect", "private", "--clients", "2"], "at least 4"),
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
}
