//! What the log tells the operator of refused connections, a line a second of each kind.

use std::net::IpAddr;

use uproar_protocol::head::Head;

use super::origin::OriginRefusal;
use crate::address::AddressRefusal;
use crate::log_limit::LogLimit;

/// How much of a field of a client's the log repeats: as much as a name may have.
const SHOWN_BYTES_MAX: usize = 253;

/// Tells the operator of a page that could not connect, which is mostly due to a proxy that replaces `Host`.
pub(super) fn log_refused_origin(head: &Head<'_>, refusal: OriginRefusal) {
    static LINES: LogLimit = LogLimit::new();
    let Some(left_out) = LINES.allow() else { return };
    let origins: Vec<&[u8]> = head.values("origin").collect();
    let origin = escaped(&origins.join(&b", "[..]));
    let host = head.authority().map(|authority| escaped(authority.text.as_bytes())).unwrap_or_default();
    match refusal {
        OriginRefusal::OtherOrigin => tracing::warn!(
            origin,
            host,
            left_out,
            "an upgrade was refused because its origin is not that of its Host; --allow-origin lets other origins in, \
             and a proxy should pass Host on"
        ),
        OriginRefusal::UnknownHost => tracing::warn!(
            origin,
            host,
            left_out,
            "an upgrade was refused because this server listens on loopback, and its Host is another name; \
             --allow-host lets it in"
        ),
    }
}

/// Tells the operator of an address that was refused an upgrade.
pub(super) fn log_refused_address(address: IpAddr, refusal: AddressRefusal) {
    static CLIENTS: LogLimit = LogLimit::new();
    static RATE: LogLimit = LogLimit::new();
    let address = address.to_canonical();
    match refusal {
        AddressRefusal::Clients => {
            if let Some(left_out) = CLIENTS.allow() {
                tracing::info!(
                    %address, left_out,
                    "an upgrade was refused because its address has as many clients as --max-clients-per-address allows"
                );
            }
        }
        AddressRefusal::Rate => {
            if let Some(left_out) = RATE.allow() {
                tracing::info!(
                    %address, left_out,
                    "an upgrade was refused because its address upgrades more often than --connect-rate-per-address allows"
                );
            }
        }
    }
}

/// Tells the operator of an address with too many connections that want nothing.
pub(super) fn log_crowded_address(network: Option<IpAddr>) {
    static LINES: LogLimit = LogLimit::new();
    if let (Some(address), Some(left_out)) = (network, LINES.allow()) {
        tracing::warn!(
            %address, left_out,
            "an address has too many connections without an upgrade or an answer; its oldest ones are closed"
        );
    }
}

/// Tells the operator that there are too many connections that want nothing.
pub(super) fn log_too_many_handshakes(connections_max: usize) {
    static LINES: LogLimit = LogLimit::new();
    if let Some(left_out) = LINES.allow() {
        tracing::warn!(
            connections_max,
            left_out,
            "too many connections without an upgrade or an answer; the oldest ones are closed"
        );
    }
}

/// What a client has sent, cut, and without what could disturb a terminal. As a field of a log line it is quoted, so it
/// cannot look like another field.
fn escaped(sent: &[u8]) -> String {
    sent[..sent.len().min(SHOWN_BYTES_MAX)].escape_ascii().to_string()
}
