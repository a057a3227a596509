//! The proxies in front of the server: which are trusted, and how they tell the address of a client.

use std::net::IpAddr;

use crate::address::AddressRange;

/// The settings of proxies.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProxyPolicy {
    /// Addresses of proxies whose word about a client's address is taken.
    pub trusted: Vec<AddressRange>,
    /// True when all of them begin each connection with a header of the PROXY protocol.
    pub has_proxy_protocol: bool,
}

impl ProxyPolicy {
    /// True for the address of a trusted proxy.
    #[must_use]
    pub fn trusts(&self, address: IpAddr) -> bool {
        self.trusted.iter().any(|range| range.contains(address))
    }
}
