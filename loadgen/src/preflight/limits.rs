//! What the kernel allows: descriptors, io_uring, ports and the backlog.

use std::fs;
use std::net::{IpAddr, Ipv4Addr};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use uproar_ring::{Features, Options, Ring, Waker};

use crate::error::Error;
use crate::options::RunOptions;
use crate::plan::CONNECTING_MAX;

/// The share of a source address's ports that is used, so that others find one, too.
const PORT_SHARE: f64 = 0.9;

pub(super) fn raise_descriptor_limit(needed: u64) -> Result<(), Error> {
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|current| current >= needed) {
        return Ok(());
    }
    // The hard limit may only be raised by root; where it is high enough it stays as it is.
    let maximum = limit.maximum.map(|maximum| maximum.max(needed));
    let raised = Rlimit { current: Some(needed), maximum };
    setrlimit(Resource::Nofile, raised).map_err(|_| {
        let maximum = limit.maximum.map_or("unlimited".to_owned(), |maximum| maximum.to_string());
        Error::Preflight(format!(
            "{needed} descriptors are needed and the hard limit is {maximum}: raise it (ulimit -Hn {needed} as \
             root, or LimitNOFILE of the unit)"
        ))
    })
}

pub(super) fn check_ring() -> Result<(), Error> {
    let options =
        Options { submissions: 2, completions: 4, buffers: 1, buffer_bytes: 64, features: Features::NONE };
    Waker::new().and_then(|waker| Ring::new(options, waker)).map(drop).map_err(|error| {
        Error::Preflight(format!(
            "io_uring cannot be used ({error}): it needs Linux 6.1, kernel.io_uring_disabled=0, and a \
                 seccomp profile that allows it"
        ))
    })
}

pub(super) fn ephemeral_ports() -> u32 {
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
pub(super) fn sources(server: IpAddr, clients: u32, ports: u32) -> Result<Vec<Ipv4Addr>, Error> {
    let per_source = (f64::from(ports) * PORT_SHARE).max(1.0) as u32;
    let needed = clients.div_ceil(per_source);
    if needed <= 1 {
        return Ok(Vec::new());
    }
    if !(server.is_ipv4() && server.is_loopback()) {
        return Err(Error::Preflight(format!(
            "{clients} connections from one address exceed its {ports} ephemeral ports: widen \
             net.ipv4.ip_local_port_range, or connect to 127.0.0.1, where more source addresses are taken"
        )));
    }
    Ok((0..needed).map(|index| Ipv4Addr::from(0x7f00_0001 + index)).collect())
}

/// The longest queue of connections that nobody has accepted yet, which every listener on this host is held
/// to (listen(2)).
pub(super) fn somaxconn() -> Option<u32> {
    fs::read_to_string("/proc/sys/net/core/somaxconn").ok()?.trim().parse().ok()
}

/// A SYN that finds the queue full is dropped and sent again a second later, and connecting would take
/// seconds that are not the server's. Of another host nothing is known.
pub(super) fn check_backlog(
    options: &RunOptions,
    server: IpAddr,
    somaxconn: Option<u32>,
) -> Result<((), String), Error> {
    let connecting = CONNECTING_MAX.min(options.clients);
    match somaxconn {
        _ if !server.is_loopback() => Ok(((), "of another host, not known".to_owned())),
        None => Ok(((), "not known".to_owned())),
        Some(longest) if longest < connecting && options.connect_rate.is_none() => {
            Err(Error::Preflight(format!(
                "{connecting} clients connect at a time, and a backlog holds {longest} at most: raise it (sysctl -w \
             net.core.somaxconn=4096, and restart the server), or pace them (--connect-rate)"
            )))
        }
        Some(longest) => Ok(((), format!("at most {longest}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::tests::options;

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
}
