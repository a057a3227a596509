//! What must be right before the first connection; each failure names what to change.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::sched_getaffinity;
use uproar::ring::{Options, Ring};

use crate::cli::RunOptions;
use crate::error::Error;
use crate::frames::{self, Opcode};
use crate::plan::{self, Findings};
use crate::server_process::ServerProcess;
use crate::target::Target;
use crate::upgrade;

/// Descriptors beside the clients': rings, eventfds, standard streams, files, the probe.
const OTHER_DESCRIPTORS: u64 = 64;
/// The share of a source address's ports that is used, so that others find one, too.
const PORT_SHARE: f64 = 0.9;
const PROBE_TIMEOUT: Duration = Duration::from_secs(5);
/// How long the probe waits for the server to end the connection.
const GOODBYE_TIMEOUT: Duration = Duration::from_secs(1);

/// What preflight decides besides the plan's findings.
#[derive(Debug)]
pub struct Ready {
    /// For the plan.
    pub findings: Findings,
    /// The core of each thread, where they are pinned.
    pub cores: Vec<usize>,
    /// Cores that the server may run on, too, where both are known.
    pub shared_cores: Vec<usize>,
    /// The server's process.
    pub server: Option<ServerProcess>,
}

/// Checks everything, raises the descriptor limit, and upgrades one connection as a probe.
///
/// # Errors
///
/// [`Error::Preflight`] or [`Error::Usage`], with what to change.
pub fn check(options: &RunOptions, target: &Target) -> Result<Ready, Error> {
    let allowed = allowed_cores()?;
    let cores = pinned_cores(options, &allowed)?;
    let server = server_process(options)?;
    let own_cores = if cores.is_empty() { &allowed } else { &cores };
    let server_cores = server.map(ServerProcess::cores).unwrap_or_default();
    let shared_cores: Vec<_> = own_cores.iter().copied().filter(|core| server_cores.contains(core)).collect();
    if let Some(directory) = &options.out {
        check_out(directory)?;
    }
    raise_descriptor_limit(u64::from(options.clients) + OTHER_DESCRIPTORS)?;
    check_ring()?;
    let address = target.resolve()?;
    let sources = sources(address.ip(), options.clients, ephemeral_ports())?;
    probe(address, target, &plan::path(options, target))?;
    let pinned_alone = !cores.is_empty() && shared_cores.is_empty();
    let findings = Findings {
        server: address,
        sources,
        threads: (cores.len() as u32).clamp(1, options.clients),
        busy_poll: options.busy_poll.unwrap_or(pinned_alone),
    };
    Ok(Ready { findings, cores, shared_cores, server })
}

fn preflight(why: impl Into<String>) -> Error {
    Error::Preflight(why.into())
}

fn allowed_cores() -> Result<Vec<usize>, Error> {
    let set = sched_getaffinity(None).map_err(|error| preflight(format!("sched_getaffinity: {error}")))?;
    Ok((0..rustix::thread::CpuSet::MAX_CPU).filter(|&core| set.is_set(core)).collect())
}

fn pinned_cores(options: &RunOptions, allowed: &[usize]) -> Result<Vec<usize>, Error> {
    let Some(list) = &options.cores else {
        return Ok(Vec::new());
    };
    let cores = parse_cores(list).map_err(|why| Error::Usage(format!("--cores {list}: {why}")))?;
    if let Some(core) = cores.iter().find(|core| !allowed.contains(core)) {
        let allowed = allowed.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
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

fn check_out(directory: &Path) -> Result<(), Error> {
    let failed = |error| Error::Write { path: directory.display().to_string(), source: error };
    fs::create_dir_all(directory).map_err(|error| Error::Usage(failed(error).to_string()))?;
    for name in ["run.json", "run.hlog", "run.hgrm"] {
        if directory.join(name).exists() {
            let directory = directory.display();
            return Err(Error::Usage(format!("--out {directory}: it holds a {name} already; name another")));
        }
    }
    Ok(())
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
    Ring::new(Options { submissions: 2, completions: 4, buffers: 1, buffer_bytes: 64 }).map(drop).map_err(
        |error| {
            preflight(format!(
                "io_uring cannot be used ({error}): it needs Linux 6.1, kernel.io_uring_disabled=0, and a \
                 seccomp profile that allows it"
            ))
        },
    )
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

/// Upgrades one connection, and closes it again.
fn probe(address: SocketAddr, target: &Target, path: &str) -> Result<(), Error> {
    let at = |what: String| preflight(format!("ws://{}{path}: {what}", target.authority));
    let unreachable = |error: io::Error| at(format!("cannot reach the server at {address}: {error}"));
    let mut stream = TcpStream::connect_timeout(&address, PROBE_TIMEOUT).map_err(unreachable)?;
    stream.set_read_timeout(Some(PROBE_TIMEOUT)).map_err(unreachable)?;
    let key = upgrade::key(*b"loadgen's probe!");
    let silent = |error: io::Error| at(format!("no answer to an upgrade within 5 s: {error}"));
    stream.write_all(upgrade::request(&target.authority, path, &key).as_bytes()).map_err(silent)?;
    let mut response = Vec::new();
    let mut piece = [0; 4096];
    loop {
        match stream.read(&mut piece).map_err(silent)? {
            0 => return Err(at("the server closed the connection instead of answering".to_owned())),
            count => response.extend_from_slice(&piece[..count]),
        }
        if upgrade::check_response(&response, &key).map_err(|why| at(format!("the server {why}")))?.is_some()
        {
            break;
        }
    }
    // A probe that is not said goodbye to would still be a member when measuring begins.
    let close = frames::encode(Opcode::Close, &1000_u16.to_be_bytes(), [1, 2, 3, 4]);
    let _ = stream.write_all(&close);
    let _ = stream.set_read_timeout(Some(GOODBYE_TIMEOUT));
    while stream.read(&mut piece).is_ok_and(|count| count > 0) {}
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

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
    fn a_directory_with_a_run_is_not_written_to() {
        let directory = tempfile::tempdir().expect("a directory");
        check_out(&directory.path().join("new")).expect("is made");
        fs::write(directory.path().join("run.json"), "{}").expect("writes");
        assert!(check_out(directory.path()).is_err());
    }
}
