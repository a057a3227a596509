//! What must be right before the first connection; each failure names what to change.
//!
//! A run stops at the first check that fails; `loadgen check` goes on, as far as the others can be made.

mod limits;
mod memory;

use std::collections::BTreeSet;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;

use rustix::thread::sched_getaffinity;

use crate::clients::probe::Probe;
use crate::dialect::Dialect;
use crate::dialect::chat::INITIAL_ROOM;
use crate::error::Error;
use crate::network::security::Security;
use crate::network::target::Target;
use crate::numbers::grouped;
use crate::options::RunOptions;
use crate::plan::Findings;
use crate::plan::consistency;
use crate::plan::layout;
use crate::plan::servers::Server;
use crate::results;
use crate::saved::baseline;
use crate::server::cores::parse_cores;
use crate::server::process::ServerProcess;
use crate::server::process_group::any_listener;

/// Descriptors beside the clients': rings, eventfds, standard streams, files, the probe.
const OTHER_DESCRIPTORS: u64 = 64;

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

/// Checks everything, raises the descriptor limit, and upgrades one connection to each server as a probe.
///
/// # Errors
///
/// [`Error::Preflight`] or [`Error::Usage`], with what to change.
pub fn check(options: &RunOptions, targets: &[Target]) -> Result<Ready, Error> {
    let mut list = Checklist { goes_on: false, done: Vec::new() };
    let ready = examine(options, targets, &mut list);
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
    let consistent = || consistency::check(options).map(|()| ((), "they agree".to_owned()));
    let is_consistent = list.check("options", consistent).is_some();
    let targets = list.check("url", || {
        let targets = Target::parse_all(&options.urls)?;
        let (_, paths) = each(&targets, |target| Ok(((), layout::paths(options, target)?.join(", "))))?;
        Ok((targets, paths))
    });
    if let (Some(targets), true) = (targets, is_consistent) {
        let _ = examine(options, &targets, &mut list);
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

/// Makes a check of each server. What was found is told once where it is the same of all.
fn each<I, T>(
    servers: impl IntoIterator<Item = I>,
    check: impl FnMut(I) -> Result<(T, String), Error>,
) -> Result<(Vec<T>, String), Error> {
    let checked: Vec<_> = servers.into_iter().map(check).collect::<Result<_, _>>()?;
    let (values, mut found): (Vec<_>, Vec<_>) = checked.into_iter().unzip();
    found.dedup();
    Ok((values, found.join("; ")))
}

fn examine(options: &RunOptions, targets: &[Target], list: &mut Checklist) -> Option<Ready> {
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
        limits::raise_descriptor_limit(needed).map(|()| ((), format!("{} are allowed", grouped(needed))))
    });
    list.check("io_uring", || limits::check_ring().map(|()| ((), "can be used".to_owned())));
    let addresses = list.check("address", || {
        each(targets, |target| target.resolve().map(|address| (address, address.to_string())))
    })?;
    let securities = list.check("tls", || {
        each(targets, |target| {
            let security = Security::of(options, target)?;
            let found = security.as_ref().map_or("not asked for".to_owned(), Security::description);
            Ok((security, found))
        })
    });
    let sources = list.check("ports", || {
        let ports = limits::ephemeral_ports();
        let on_each = options.clients.div_ceil(targets.len() as u32);
        each(&addresses, |address| {
            // One port serves several destinations.
            let alike = addresses.iter().filter(|other| *other == address).count() as u32;
            let sources = limits::sources(address.ip(), on_each * alike, ports)?;
            let count = sources.len().max(1);
            Ok((sources, format!("{} on each of {count} source address(es)", grouped(ports.into()))))
        })
    });
    list.check("backlog", || {
        each(&addresses, |address| limits::check_backlog(options, address.ip(), limits::somaxconn()))
    });
    let threads = cores.as_ref().map_or(1, |cores| cores.len().max(1));
    list.check("memory", || memory::check_memory(options, threads, memory::available_bytes()));
    let securities = securities?;
    for (target, (address, security)) in targets.iter().zip(addresses.iter().zip(&securities)) {
        list.check("server", || {
            let ((), found) = probe(options, target, *address, security.as_ref())?;
            Ok(((), if targets.len() > 1 { format!("{}: {found}", target.url) } else { found }))
        });
    }
    let (cores, server) = (cores?, server?);
    let own_cores = if cores.is_empty() { &allowed } else { &cores };
    let server_cores = match server {
        Some(server) => Some(server.cores()),
        None => cores_of_listeners(&addresses),
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
    let reached = targets.iter().zip(addresses).zip(securities.into_iter().zip(sources?));
    let servers = reached.map(|((target, address), (security, sources))| {
        let (url, authority) = (target.url.clone(), target.authority.clone());
        // The probe has asked for one of them.
        let paths = layout::paths(options, target).ok()?;
        Some(Server { url, address, security, authority, paths, sources })
    });
    let findings = Findings {
        servers: servers.collect::<Option<_>>()?,
        threads: (cores.len() as u32).clamp(1, options.clients),
        busy_poll: options.busy_poll.unwrap_or(pinned_alone),
    };
    Some(Ready { findings, cores, shared_cores, cores_unknown, server })
}

/// The cores that the servers may run on. `None` where one of them is not known.
fn cores_of_listeners(addresses: &[SocketAddr]) -> Option<BTreeSet<usize>> {
    let each = addresses.iter().map(|address| cores_of_listener(*address)).collect::<Option<Vec<_>>>()?;
    Some(each.into_iter().flatten().collect())
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
