//! What must be right before the first connection; each failure names what to change.
//!
//! A run stops at the first check that fails; `loadgen check` goes on, as far as the others can be made.

use std::collections::BTreeSet;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::ExitCode;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::sched_getaffinity;
use uproar_ring::{Features, Options, Ring, Waker};

use crate::cli::{Dialect, RunOptions};
use crate::clients::probe::Probe;
use crate::error::Error;
use crate::network::security::Security;
use crate::network::target::Target;
use crate::plan::layout;
use crate::plan::{CONNECTING_MAX, Findings, INITIAL_ROOM};
use crate::results;
use crate::results::text::grouped;
use crate::saved::baseline;
use crate::server::process::ServerProcess;
use crate::server::process_group::any_listener;

/// Descriptors beside the clients': rings, eventfds, standard streams, files, the probe.
const OTHER_DESCRIPTORS: u64 = 64;
/// The share of a source address's ports that is used, so that others find one, too.
const PORT_SHARE: f64 = 0.9;

/// What preflight decides besides the plan's findings.
#[derive(Clone, Debug)]
pub struct Ready {
    /// For the plan.
    pub findings: Findings,
    /// The core of each thread, where they are pinned.
    pub cores: Vec<usize>,
    /// Cores that the server may run on, too, where both are known.
    pub shared_cores: Vec<usize>,
    /// True when threads are pinned, and it is not known where the server runs.
    pub cores_unknown: bool,
    /// The server's process.
    pub server: Option<ServerProcess>,
}

/// The checks so far.
struct Checklist {
    /// Go on after a failure.
    goes_on: bool,
    /// Each with what was found.
    done: Vec<(&'static str, Result<String, Error>)>,
}

impl Checklist {
    /// Makes a check, unless one has failed and that is the end of it.
    fn check<T>(
        &mut self,
        name: &'static str,
        check: impl FnOnce() -> Result<(T, String), Error>,
    ) -> Option<T> {
        if !self.goes_on && self.done.iter().any(|(_, result)| result.is_err()) {
            return None;
        }
        let (value, result) = match check() {
            Ok((value, found)) => (Some(value), Ok(found)),
            Err(error) => (None, Err(error)),
        };
        self.done.push((name, result));
        value
    }
}

/// Checks everything, raises the descriptor limit, and upgrades one connection as a probe.
///
/// # Errors
///
/// [`Error::Preflight`] or [`Error::Usage`], with what to change.
pub fn check(options: &RunOptions, target: &Target) -> Result<Ready, Error> {
    let mut list = Checklist { goes_on: false, done: Vec::new() };
    let ready = examine(options, target, &mut list);
    list.done.into_iter().try_for_each(|(_, result)| result.map(drop))?;
    Ok(ready.expect("Bug: nothing failed, and nothing is ready"))
}

/// Makes all checks and prints each with what was found, or what to change. Exit code 0 or 2.
///
/// # Errors
///
/// [`Error::Write`] when it cannot be printed.
pub fn report(options: &RunOptions) -> Result<ExitCode, Error> {
    let mut list = Checklist { goes_on: true, done: Vec::new() };
    let consistent = || layout::check(options).map(|()| ((), "they agree".to_owned()));
    let is_consistent = list.check("options", consistent).is_some();
    let target = list.check("url", || {
        let target = Target::parse(&options.url)?;
        let paths = layout::paths(options, &target)?.join(", ");
        Ok((target, paths))
    });
    if let (Some(target), true) = (target, is_consistent) {
        let _ = examine(options, &target, &mut list);
    }
    for (name, result) in &list.done {
        results::print(&match result {
            Ok(found) => format!("{name:<12} ok: {found}\n"),
            Err(Error::Usage(why) | Error::Preflight(why)) => format!("{name:<12} FAILED: {why}\n"),
            Err(error) => format!("{name:<12} FAILED: {error}\n"),
        })?;
    }
    let all_passed = list.done.iter().all(|(_, result)| result.is_ok());
    Ok(ExitCode::from(if all_passed { 0 } else { 2 }))
}

fn examine(options: &RunOptions, target: &Target, list: &mut Checklist) -> Option<Ready> {
    let allowed = list.check("cores", allowed_cores)?;
    let cores = list.check("pinning", || {
        let cores = pinned_cores(options, &allowed)?;
        let found = if cores.is_empty() { "not pinned".to_owned() } else { format!("to {}", joined(&cores)) };
        Ok((cores, found))
    });
    let server = list.check("server pid", || {
        let server = server_process(options)?;
        Ok((server, options.server_pid.map_or("not given".to_owned(), |pid| format!("{pid} can be read"))))
    });
    list.check("output", || match &options.out {
        Some(directory) => {
            check_out(directory).map(|()| ((), format!("{} can be written", directory.display())))
        }
        None => Ok(((), "nothing is written".to_owned())),
    });
    list.check("baseline", || match &options.save_baseline {
        Some(name) => baseline::check(name).map(|place| ((), format!("{} has room", place.display()))),
        None => Ok(((), "not asked for".to_owned())),
    });
    list.check("descriptors", || {
        let needed = u64::from(options.clients) + OTHER_DESCRIPTORS;
        raise_descriptor_limit(needed).map(|()| ((), format!("{} are allowed", grouped(needed))))
    });
    list.check("io_uring", || check_ring().map(|()| ((), "can be used".to_owned())));
    let address = list.check("address", || {
        let address = target.resolve()?;
        Ok((address, address.to_string()))
    })?;
    let security = list.check("tls", || {
        let security = Security::of(options, target)?;
        let found = security.as_ref().map_or("not asked for".to_owned(), Security::description);
        Ok((security, found))
    });
    let sources = list.check("ports", || {
        let ports = ephemeral_ports();
        let sources = sources(address.ip(), options.clients, ports)?;
        let count = sources.len().max(1);
        Ok((sources, format!("{} on each of {count} source address(es)", grouped(ports.into()))))
    });
    list.check("backlog", || check_backlog(options, address.ip(), somaxconn()));
    let threads = cores.as_ref().map_or(1, |cores| cores.len().max(1));
    list.check("memory", || check_memory(options, threads, available_bytes()));
    let security = security?;
    list.check("server", || probe(options, target, address, security.as_ref()));
    let (cores, server) = (cores?, server?);
    let own_cores = if cores.is_empty() { &allowed } else { &cores };
    let server_cores = match server {
        Some(server) => Some(server.cores()),
        None => cores_of_listener(address),
    };
    let shared = |core: &usize| server_cores.as_ref().is_some_and(|cores| cores.contains(core));
    let shared_cores: Vec<_> = own_cores.iter().copied().filter(shared).collect();
    list.check("busy polling", || {
        let found = match (&server_cores, options.busy_poll) {
            (_, Some(asked)) => format!("{}, as asked for", if asked { "on" } else { "off" }),
            _ if cores.is_empty() => "off: not pinned".to_owned(),
            (None, None) => "on; which cores the server uses is not known (--server-pid tells)".to_owned(),
            (Some(_), None) if shared_cores.is_empty() => "on: the server uses none of the cores".to_owned(),
            (Some(_), None) => format!("off: the server may use {}, too", joined(&shared_cores)),
        };
        Ok(((), found))
    });
    let pinned_alone = !cores.is_empty() && shared_cores.is_empty();
    let cores_unknown = !cores.is_empty() && server_cores.is_none();
    let findings = Findings {
        server: address,
        security,
        sources: sources?,
        threads: (cores.len() as u32).clamp(1, options.clients),
        busy_poll: options.busy_poll.unwrap_or(pinned_alone),
    };
    Some(Ready { findings, cores, shared_cores, cores_unknown, server })
}

/// The cores that a server on this host may run on. `None` where its process is not known: on another host, in
/// a container, of another user.
fn cores_of_listener(address: SocketAddr) -> Option<BTreeSet<usize>> {
    let listener = address.ip().is_loopback().then(|| any_listener(address.port()))??;
    Some(ServerProcess::open(listener).ok()?.cores()).filter(|cores| !cores.is_empty())
}

fn joined(cores: &[usize]) -> String {
    cores.iter().map(ToString::to_string).collect::<Vec<_>>().join(",")
}

fn preflight(why: impl Into<String>) -> Error {
    Error::Preflight(why.into())
}

fn allowed_cores() -> Result<(Vec<usize>, String), Error> {
    let set = sched_getaffinity(None).map_err(|error| preflight(format!("sched_getaffinity: {error}")))?;
    let cores: Vec<_> = (0..rustix::thread::CpuSet::MAX_CPU).filter(|&core| set.is_set(core)).collect();
    let found = format!("{} may be used", joined(&cores));
    Ok((cores, found))
}

fn pinned_cores(options: &RunOptions, allowed: &[usize]) -> Result<Vec<usize>, Error> {
    let Some(list) = &options.cores else {
        return Ok(Vec::new());
    };
    let cores = parse_cores(list).map_err(|why| Error::Usage(format!("--cores {list}: {why}")))?;
    if let Some(core) = cores.iter().find(|core| !allowed.contains(core)) {
        let allowed = joined(allowed);
        return Err(preflight(format!("--cores {list}: core {core} may not be used; allowed are {allowed}")));
    }
    Ok(cores)
}

/// Parses a list of cores such as `1,4-6`; each may be named once.
///
/// # Errors
///
/// What is wrong with it.
pub fn parse_cores(list: &str) -> Result<Vec<usize>, String> {
    let number = |text: &str| text.trim().parse::<usize>().map_err(|_| format!("{text:?} is no core"));
    let mut cores = Vec::new();
    for item in list.split(',') {
        match item.split_once('-') {
            None => cores.push(number(item)?),
            Some((first, last)) => {
                let (first, last) = (number(first)?, number(last)?);
                if first > last || last > 4096 {
                    return Err(format!("{item:?} is no range of cores"));
                }
                cores.extend(first..=last);
            }
        }
    }
    match cores.iter().collect::<BTreeSet<_>>().len() == cores.len() {
        true => Ok(cores),
        false => Err("a core is named twice".to_owned()),
    }
}

fn server_process(options: &RunOptions) -> Result<Option<ServerProcess>, Error> {
    let Some(pid) = options.server_pid else {
        return Ok(None);
    };
    let failed = |error| preflight(format!("--server-pid {pid}: cannot read /proc/{pid}: {error}"));
    ServerProcess::open(pid).map(Some).map_err(failed)
}

/// The directory exists or is made, holds no result, and can be written to.
fn check_out(directory: &Path) -> Result<(), Error> {
    let shown = directory.display();
    let unwritable = |error| Error::Usage(format!("--out {shown}: cannot be written: {error}"));
    fs::create_dir_all(directory).map_err(unwritable)?;
    for name in ["run.json", "run.hlog", "run.hgrm", "find-max.json"] {
        if directory.join(name).exists() {
            return Err(Error::Usage(format!("--out {shown}: it holds a {name} already; name another")));
        }
    }
    let trial = directory.join("run.json.partial");
    fs::write(&trial, "").and_then(|()| fs::remove_file(&trial)).map_err(unwritable)
}

fn raise_descriptor_limit(needed: u64) -> Result<(), Error> {
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|current| current >= needed) {
        return Ok(());
    }
    // The hard limit may only be raised by root; where it is high enough it stays as it is.
    let maximum = limit.maximum.map(|maximum| maximum.max(needed));
    let raised = Rlimit { current: Some(needed), maximum };
    setrlimit(Resource::Nofile, raised).map_err(|_| {
        let maximum = limit.maximum.map_or("unlimited".to_owned(), |maximum| maximum.to_string());
        preflight(format!(
            "{needed} descriptors are needed and the hard limit is {maximum}: raise it (ulimit -Hn {needed} as \
             root, or LimitNOFILE of the unit)"
        ))
    })
}

fn check_ring() -> Result<(), Error> {
    let options =
        Options { submissions: 2, completions: 4, buffers: 1, buffer_bytes: 64, features: Features::NONE };
    Waker::new().and_then(|waker| Ring::new(options, waker)).map(drop).map_err(|error| {
        preflight(format!(
            "io_uring cannot be used ({error}): it needs Linux 6.1, kernel.io_uring_disabled=0, and a \
                 seccomp profile that allows it"
        ))
    })
}

fn ephemeral_ports() -> u32 {
    // The kernel's default, in case /proc is not there.
    const DEFAULT: u32 = 60_999 - 32_768 + 1;
    let range = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    let mut bounds = range.split_ascii_whitespace().map(str::parse::<u32>);
    match (bounds.next(), bounds.next()) {
        (Some(Ok(first)), Some(Ok(last))) if first <= last => last - first + 1,
        _ => DEFAULT,
    }
}

/// The source addresses that so many connections to one server need: none when the kernel's choice is
/// enough, otherwise 127.0.0.1, 127.0.0.2 and so on.
fn sources(server: IpAddr, clients: u32, ports: u32) -> Result<Vec<Ipv4Addr>, Error> {
    let per_source = (f64::from(ports) * PORT_SHARE).max(1.0) as u32;
    let needed = clients.div_ceil(per_source);
    if needed <= 1 {
        return Ok(Vec::new());
    }
    if !(server.is_ipv4() && server.is_loopback()) {
        return Err(preflight(format!(
            "{clients} connections from one address exceed its {ports} ephemeral ports: widen \
             net.ipv4.ip_local_port_range, or connect to 127.0.0.1, where more source addresses are taken"
        )));
    }
    Ok((0..needed).map(|index| Ipv4Addr::from(0x7f00_0001 + index)).collect())
}

/// The longest queue of connections that nobody has accepted yet, which every listener on this host is held
/// to (listen(2)).
fn somaxconn() -> Option<u32> {
    fs::read_to_string("/proc/sys/net/core/somaxconn").ok()?.trim().parse().ok()
}

/// A SYN that finds the queue full is dropped and sent again a second later, and connecting would take
/// seconds that are not the server's. Of another host nothing is known.
fn check_backlog(
    options: &RunOptions,
    server: IpAddr,
    somaxconn: Option<u32>,
) -> Result<((), String), Error> {
    let connecting = CONNECTING_MAX.min(options.clients);
    match somaxconn {
        _ if !server.is_loopback() => Ok(((), "of another host, not known".to_owned())),
        None => Ok(((), "not known".to_owned())),
        Some(longest) if longest < connecting && options.connect_rate.is_none() => Err(preflight(format!(
            "{connecting} clients connect at a time, and a backlog holds {longest} at most: raise it (sysctl -w \
             net.core.somaxconn=4096, and restart the server), or pace them (--connect-rate)"
        ))),
        Some(longest) => Ok(((), format!("at most {longest}"))),
    }
}

/// What the kernel could give without swapping.
fn available_bytes() -> Option<u64> {
    let meminfo = fs::read_to_string("/proc/meminfo").ok()?;
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? << 10)
}

fn check_memory(options: &RunOptions, threads: usize, available: Option<u64>) -> Result<((), String), Error> {
    let needed = layout::memory_bytes(options, threads);
    let mebibytes = |bytes: u64| grouped(bytes >> 20);
    match available {
        Some(available) if available < needed => Err(preflight(format!(
            "about {} MiB are needed, for every broadcast and for every speaker that a client hears, and {} MiB \
             are available: lower --rate or --duration, or --clients or --senders",
            mebibytes(needed),
            mebibytes(available)
        ))),
        _ => Ok(((), format!("about {} MiB are needed", mebibytes(needed)))),
    }
}

/// Upgrades one connection, in chat joins the rooms, and closes it again.
fn probe(
    options: &RunOptions,
    target: &Target,
    address: SocketAddr,
    security: Option<&Security>,
) -> Result<((), String), Error> {
    let paths = layout::paths(options, target)?;
    let mut probe = Probe::upgrade(address, target, &paths[0], security)?;
    let over = probe.agreed().map_or(String::new(), |agreed| format!(" over {agreed}"));
    let mut found = format!("answers an upgrade{over}");
    if options.dialect.joins_chat() {
        let rooms = match options.dialect {
            Dialect::Private => vec![INITIAL_ROOM.to_owned()],
            _ => layout::room_names(options),
        };
        probe.join(&rooms)?;
        found = format!("{found} and has {}", rooms.join(", "));
    }
    probe.close();
    Ok(((), found))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::tests::options;

    #[test]
    fn cores_are_listed_singly_and_in_ranges() {
        assert_eq!(parse_cores("1,2-3"), Ok(vec![1, 2, 3]));
        for wrong in ["", "a", "3-1", "1,1", "0-2,2", "1-"] {
            assert!(parse_cores(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn more_clients_than_ports_take_more_source_addresses() {
        let loopback = IpAddr::from([127, 0, 0, 1]);
        assert_eq!(sources(loopback, 900, 1000).expect("enough"), Vec::<Ipv4Addr>::new());
        let three: Vec<Ipv4Addr> = [1, 2, 3].map(|last| Ipv4Addr::new(127, 0, 0, last)).into();
        assert_eq!(sources(loopback, 2000, 1000).expect("loopback"), three);
        assert!(sources(IpAddr::from([10, 0, 0, 1]), 2000, 1000).is_err());
    }

    #[test]
    fn a_backlog_that_is_shorter_than_what_connects_at_a_time_is_found() {
        let loopback = IpAddr::from([127, 0, 0, 1]);
        let check = |line: &[&str], ip, longest| check_backlog(&options(line), ip, longest).is_ok();
        assert!(!check(&["--clients", "1000"], loopback, Some(128)));
        assert!(check(&["--clients", "1000", "--connect-rate", "100"], loopback, Some(128)));
        assert!(check(&["--clients", "1000"], loopback, Some(4096)));
        assert!(check(&["--clients", "100"], loopback, Some(128)));
        assert!(check(&["--clients", "1000"], IpAddr::from([10, 0, 0, 1]), Some(128)));
        assert!(check(&["--clients", "1000"], loopback, None));
    }

    #[test]
    fn what_does_not_fit_into_memory_is_found_before_it_is_tried() {
        let gibibyte = Some(1 << 30);
        let check = |line: &[&str]| check_memory(&options(line), 1, gibibyte).is_ok();
        assert!(check(&["--clients", "10000", "--duration", "1h"]));
        assert!(!check(&["--dialect", "raw", "--rate", "10000", "--duration", "72h"]));
        assert!(!check(&["--dialect", "raw", "--clients", "100000", "--senders", "100000"]));
    }

    #[test]
    fn a_directory_with_a_run_is_not_written_to() {
        let directory = tempfile::tempdir().expect("a directory");
        check_out(&directory.path().join("new")).expect("is made");
        fs::write(directory.path().join("run.json"), "{}").expect("writes");
        assert!(check_out(directory.path()).is_err());
    }

    #[test]
    fn a_directory_that_cannot_be_written_is_found() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        for unwritable in [&file.path().join("out"), file.path(), Path::new("/proc/self")] {
            let error = check_out(unwritable).expect_err("cannot be written").to_string();
            assert!(error.contains("cannot be written"), "{error}");
        }
    }
}
