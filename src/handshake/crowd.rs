//! Counts pending connections for their addresses.

use std::net::IpAddr;

use tokio::time::Instant;

use super::operator_log::log_crowded_address;
use super::pending::PendingConnections;
use super::services::{HandshakeEvent, HandshakeServices};
use crate::address::AddressPermit;

/// Counts a connection for its address. If it is one too many, another one of the address is closed in its favour;
/// `None` when this acceptor has no other, and the new one must go.
pub(super) fn count_handshake(
    services: &dyn HandshakeServices,
    pending: &PendingConnections,
    address: IpAddr,
) -> Option<AddressPermit> {
    let addresses = services.addresses();
    let (permit, is_within) = addresses.begin_handshake(address);
    if is_within {
        return Some(permit);
    }
    let network = addresses.counted(address);
    log_crowded_address(network);
    services.note(HandshakeEvent::AddressDisplaced);
    pending.displace(network, Instant::now()).then_some(permit)
}
