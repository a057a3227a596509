//! The addresses of clients, and the limits of each, over all shards.
//!
//! An address is counted by its *network*: an IPv4 address, or 64 bits of an IPv6 address. A connection is counted
//! when it is accepted, when it is upgraded, and when it ends, so no message takes the lock that all threads share.
//! Addresses without limits are not counted.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// The time in which upgrades are counted.
const WINDOW_MS: u64 = 1_000;

/// Addresses whose upgrades of the last second are counted, some 100 bytes each. Those of further addresses are not: an
/// attacker with that many addresses is not held back by a limit for each anyway.
const WINDOWS_MAX: usize = 65_536;

/// The network by which an address is counted. A household has at least a /64 of IPv6 (RFC 6177). An IPv4 address in
/// IPv6 notation counts as IPv4.
#[must_use]
pub fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() >> 64 << 64)),
    }
}

/// The address of a client: that of its socket, or the one that a trusted proxy tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ClientAddress {
    ip: IpAddr,
    /// `None` when the proxy does not tell it.
    port: Option<u16>,
}

impl ClientAddress {
    /// An address. One of IPv4 in IPv6 notation is one of IPv4: a listener of both sees clients of IPv4 as
    /// ::ffff:192.0.2.1 (RFC 4291, 2.5.5.2).
    #[must_use]
    pub fn new(ip: IpAddr, port: Option<u16>) -> Self {
        Self { ip: ip.to_canonical(), port }
    }

    /// The address without its port.
    #[must_use]
    pub fn ip(self) -> IpAddr {
        self.ip
    }
}

impl From<SocketAddr> for ClientAddress {
    fn from(address: SocketAddr) -> Self {
        Self::new(address.ip(), Some(address.port()))
    }
}

impl fmt::Display for ClientAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.port {
            Some(port) => SocketAddr::new(self.ip, port).fmt(f),
            None => self.ip.fmt(f),
        }
    }
}

/// An address or a range of addresses, in CIDR notation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AddressRange(IpNet);

impl AddressRange {
    /// The addresses of the same machine.
    pub const LOOPBACK: [Self; 2] = [
        Self(IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(127, 0, 0, 0), 8))),
        Self(IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::LOCALHOST, 128))),
    ];

    /// True for an address in this range, in either notation.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        self.0.contains(&address.to_canonical())
    }
}

impl fmt::Display for AddressRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for AddressRange {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let address = text.parse::<IpAddr>().map(IpNet::from);
        let range = address.or_else(|_| text.parse()).map_err(
            |_| "allowed is an address or a range of them, such as 192.0.2.1, 10.0.0.0/8 or 2001:db8::/32",
        )?;
        Ok(Self(canonical(range)))
    }
}

/// A range of IPv4 addresses in IPv6 notation, such as `::ffff:10.0.0.0/104`, as an IPv4 range.
fn canonical(range: IpNet) -> IpNet {
    let mapped = match (range.addr().to_canonical(), range) {
        (IpAddr::V4(address), IpNet::V6(range)) => {
            range.prefix_len().checked_sub(96).and_then(|prefix| Ipv4Net::new(address, prefix).ok())
        }
        _ => None,
    };
    mapped.map_or(range, IpNet::V4)
}

/// The limits of each address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AddressLimits {
    /// The most WebSocket connections; 0 for any number.
    pub clients_max: usize,
    /// The most upgrades in a second; 0 for any number.
    pub upgrades_max: usize,
    /// The most connections that are not yet upgraded or answered; 0 for any number.
    pub handshakes_max: usize,
    /// Addresses without these limits: those that are exempt, and trusted proxies, whose clients are counted.
    pub unlimited: Vec<AddressRange>,
}

/// Why an address may not upgrade another connection now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddressRefusal {
    /// It has as many clients as allowed.
    Clients,
    /// It has upgraded as many connections within a second as allowed.
    Rate,
}

/// Counts the connections of all addresses, and limits them. A clone is another handle to the same counts.
#[derive(Clone, Debug)]
pub struct AddressLimiter {
    limits: Arc<AddressLimits>,
    counts: Arc<Mutex<Counts>>,
    started: Instant,
}

/// Invariant: an address has an entry while it has connections or a window, and windows are in the order of their
/// end. So there are at most as many entries as connections and [`WINDOWS_MAX`].
#[derive(Debug, Default)]
struct Counts {
    addresses: HashMap<IpAddr, Count>,
    /// When each window ends.
    windows: VecDeque<(u64, IpAddr)>,
}

/// The counts of one address.
#[derive(Debug, Default)]
struct Count {
    handshakes: usize,
    clients: usize,
    /// The upgrades in its window, if it has one.
    upgrades: Option<usize>,
}

impl AddressLimiter {
    /// A limiter without connections.
    #[must_use]
    pub fn new(limits: AddressLimits) -> Self {
        Self { limits: Arc::new(limits), counts: Arc::default(), started: Instant::now() }
    }

    /// The network by which an address is counted; `None` for one without limits.
    #[must_use]
    pub fn counted(&self, address: IpAddr) -> Option<IpAddr> {
        let AddressLimits { clients_max, upgrades_max, handshakes_max, unlimited } = &*self.limits;
        let has_limits = *clients_max > 0 || *upgrades_max > 0 || *handshakes_max > 0;
        (has_limits && !unlimited.iter().any(|range| range.contains(address))).then(|| network(address))
    }

    /// Counts a connection that is to be upgraded or answered. False when it is one too many; it is counted
    /// nevertheless, because another one can be closed in its favour.
    #[must_use]
    pub fn begin_handshake(&self, address: IpAddr) -> (AddressPermit, bool) {
        let Some(network) = self.counted(address) else { return (AddressPermit { _counted: None }, true) };
        let mut counts = lock(&self.counts);
        let count = counts.addresses.entry(network).or_default();
        count.handshakes += 1;
        let is_within = self.limits.handshakes_max == 0 || count.handshakes <= self.limits.handshakes_max;
        (self.permit(network, Kind::Handshake), is_within)
    }

    /// Counts an upgrade.
    ///
    /// # Errors
    ///
    /// An [`AddressRefusal`]; nothing is counted.
    pub fn upgrade(&self, address: IpAddr) -> Result<AddressPermit, AddressRefusal> {
        self.upgrade_at(address, self.started.elapsed().as_millis() as u64)
    }

    fn upgrade_at(&self, address: IpAddr, now_ms: u64) -> Result<AddressPermit, AddressRefusal> {
        let Some(network) = self.counted(address) else { return Ok(AddressPermit { _counted: None }) };
        let mut counts = lock(&self.counts);
        counts.end_windows(now_ms);
        counts.upgrade(network, &self.limits, now_ms)?;
        Ok(self.permit(network, Kind::Client))
    }

    fn permit(&self, network: IpAddr, kind: Kind) -> AddressPermit {
        AddressPermit { _counted: Some(Counted { network, kind, counts: Arc::clone(&self.counts) }) }
    }
}

impl Counts {
    fn upgrade(
        &mut self,
        network: IpAddr,
        limits: &AddressLimits,
        now_ms: u64,
    ) -> Result<(), AddressRefusal> {
        let count = self.addresses.get(&network);
        if limits.clients_max > 0 && count.is_some_and(|count| count.clients >= limits.clients_max) {
            return Err(AddressRefusal::Clients);
        }
        let upgrades = count.and_then(|count| count.upgrades);
        if limits.upgrades_max > 0 && upgrades.is_some_and(|upgrades| upgrades >= limits.upgrades_max) {
            return Err(AddressRefusal::Rate);
        }
        let count = self.addresses.entry(network).or_default();
        count.clients += 1;
        match &mut count.upgrades {
            Some(upgrades) => *upgrades += 1,
            None if limits.upgrades_max > 0 && self.windows.len() < WINDOWS_MAX => {
                count.upgrades = Some(1);
                self.windows.push_back((now_ms + WINDOW_MS, network));
            }
            None => {}
        }
        Ok(())
    }

    fn end_windows(&mut self, now_ms: u64) {
        while let Some(&(end_ms, network)) = self.windows.front()
            && end_ms <= now_ms
        {
            self.windows.pop_front();
            if let Some(count) = self.addresses.get_mut(&network) {
                count.upgrades = None;
            }
            self.forget_idle(network);
        }
    }

    fn forget_idle(&mut self, network: IpAddr) {
        let is_idle = |count: &Count| count.handshakes == 0 && count.clients == 0 && count.upgrades.is_none();
        if self.addresses.get(&network).is_some_and(is_idle) {
            self.addresses.remove(&network);
        }
    }
}

/// Counts a connection for its address until it is dropped.
#[derive(Debug)]
pub struct AddressPermit {
    /// `None` for an address without limits.
    _counted: Option<Counted>,
}

#[derive(Debug)]
struct Counted {
    network: IpAddr,
    kind: Kind,
    counts: Arc<Mutex<Counts>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Handshake,
    Client,
}

impl Drop for Counted {
    fn drop(&mut self) {
        let mut counts = lock(&self.counts);
        if let Some(count) = counts.addresses.get_mut(&self.network) {
            let counted = match self.kind {
                Kind::Handshake => &mut count.handshakes,
                Kind::Client => &mut count.clients,
            };
            debug_assert!(*counted > 0, "Bug: a connection was counted once and left twice");
            *counted = counted.saturating_sub(1);
        }
        counts.forget_idle(self.network);
    }
}

/// A thread that has panicked has ended the server, so the counts no longer matter.
fn lock(counts: &Mutex<Counts>) -> MutexGuard<'_, Counts> {
    counts.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().expect(text)
    }

    fn limits(clients_max: usize, upgrades_max: usize, handshakes_max: usize) -> AddressLimiter {
        let unlimited = AddressRange::LOOPBACK.to_vec();
        AddressLimiter::new(AddressLimits { clients_max, upgrades_max, handshakes_max, unlimited })
    }

    #[test]
    fn an_address_has_so_many_clients_until_one_has_left() {
        let limits = limits(2, 0, 0);
        let upgrade = |text| limits.upgrade_at(address(text), 0);
        let first = upgrade("192.0.2.1").expect("the first");
        let _second = upgrade("::ffff:192.0.2.1").expect("the second, in other words");
        assert_eq!(upgrade("192.0.2.1").err(), Some(AddressRefusal::Clients));
        let _other = upgrade("192.0.2.2").expect("another address");
        drop(first);
        let _third = upgrade("192.0.2.1").expect("a free permit");
    }

    #[test]
    fn an_address_shows_the_port_that_it_has() {
        let shown = |ip, port| ClientAddress::new(address(ip), port).to_string();
        assert_eq!(shown("192.0.2.1", Some(80)), "192.0.2.1:80");
        assert_eq!(shown("::ffff:192.0.2.1", None), "192.0.2.1");
        assert_eq!(shown("2001:db8::1", Some(80)), "[2001:db8::1]:80");
        assert_eq!(shown("2001:db8::1", None), "2001:db8::1");
    }

    #[test]
    fn a_household_of_ipv6_is_one_address() {
        let limits = limits(1, 0, 0);
        let _one = limits.upgrade_at(address("2001:db8:0:1::1"), 0).expect("the first");
        let again = limits.upgrade_at(address("2001:db8:0:1:ffff::2"), 0);
        assert_eq!(again.err(), Some(AddressRefusal::Clients));
        let _neighbour = limits.upgrade_at(address("2001:db8:0:2::1"), 0).expect("another household");
    }

    #[test]
    fn an_address_upgrades_so_often_in_a_second() {
        let limits = limits(0, 3, 0);
        let upgrade = |now_ms| limits.upgrade_at(address("192.0.2.1"), now_ms).map(drop);
        assert_eq!([0, 10, 999].map(upgrade), [Ok(()); 3]);
        assert_eq!(upgrade(999), Err(AddressRefusal::Rate));
        assert_eq!([1_000, 1_001, 1_999].map(upgrade), [Ok(()); 3]);
        assert_eq!(upgrade(1_999), Err(AddressRefusal::Rate));
        assert_eq!(limits.upgrade_at(address("192.0.2.2"), 1_999).map(drop), Ok(()));
    }

    #[test]
    fn a_handshake_too_many_is_told_and_counted() {
        let limits = limits(0, 0, 2);
        let begin = || limits.begin_handshake(address("192.0.2.1"));
        let (first, second, third) = (begin(), begin(), begin());
        assert_eq!([first.1, second.1, third.1], [true, true, false]);
        drop(first);
        assert!(!begin().1, "two are left, and this one");
        drop((second, third));
        assert!(begin().1);
    }

    #[test]
    fn a_range_of_ipv4_may_be_written_as_one_of_ipv6() {
        for (written, meant) in [
            ("::ffff:10.0.0.0/104", "10.0.0.0/8"),
            ("::ffff:192.0.2.1", "192.0.2.1/32"),
            ("::ffff:0:0/96", "0.0.0.0/0"),
            ("2001:db8::/32", "2001:db8::/32"),
            ("::/0", "::/0"),
        ] {
            assert_eq!(written.parse::<AddressRange>(), meant.parse(), "{written}");
        }
    }

    #[test]
    fn loopback_and_a_server_without_limits_count_nobody() {
        let limited = limits(1, 1, 1);
        for text in ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"] {
            assert_eq!(limited.counted(address(text)), None, "{text}");
            for _ in 0..3 {
                let upgraded = limited.upgrade_at(address(text), 0).map(std::mem::forget);
                assert_eq!(upgraded, Ok(()));
                assert!(limited.begin_handshake(address(text)).1);
            }
        }
        assert_eq!(limits(0, 0, 0).counted(address("192.0.2.1")), None);
    }

    #[test]
    fn addresses_without_connections_are_forgotten() {
        let limits = limits(1, 1, 1);
        for n in 0..100_000_u32 {
            let stranger = IpAddr::from((0xc000_0000 + n).to_be_bytes());
            let handshake = limits.begin_handshake(stranger);
            let client = limits.upgrade_at(stranger, 0).expect("the first of its address");
            drop((handshake, client));
        }
        assert_eq!(lock(&limits.counts).addresses.len(), WINDOWS_MAX);
        drop(limits.upgrade_at(address("192.0.2.1"), WINDOW_MS));
        assert_eq!(lock(&limits.counts).addresses.len(), 1);
        drop(limits.upgrade_at(address("192.0.2.2"), 2 * WINDOW_MS));
        assert_eq!(lock(&limits.counts).windows.len(), 1);
    }

    #[test]
    fn ranges_are_addresses_and_cidr() {
        let range = |text: &str| text.parse::<AddressRange>();
        assert!(range("10.0.0.0/8").is_ok_and(|range| range.contains(address("::ffff:10.1.2.3"))));
        assert!(range("192.0.2.1").is_ok_and(|range| !range.contains(address("192.0.2.2"))));
        for text in ["", "10.0.0.0/33", "10.0.0", "localhost"] {
            assert!(range(text).is_err_and(|error| error.contains("10.0.0.0/8")), "{text}");
        }
    }
}
