//! Log lines about rejected connections: at most one line a second of each kind.

use std::io;
use std::net::IpAddr;

use uproar_protocol::head::Head;

use super::origin::OriginRefusal;
use crate::address::AddressRefusal;
use crate::log_limit::LogLimit;

/// The most bytes of a request field in the log: as long as a host name may be.
const SHOWN_BYTES_MAX: usize = 253;

/// Logs a failed accept.
pub(super) fn log_failed_accept(error: &io::Error) {
    static LINES: LogLimit = LogLimit::new();
    if let Some(left_out) = LINES.allow() {
        tracing::warn!(%error, left_out, "cannot accept; if there are too many open files, raise the limit (ulimit -n)");
    }
}

/// Logs a page that may not connect. The usual reason is a proxy that replaces `Host`.
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
            "upgrade rejected: its origin differs from its Host; --allow-origin lets other origins in, and a proxy should \
             pass Host on"
        ),
        OriginRefusal::UnknownHost => tracing::warn!(
            origin,
            host,
            left_out,
            "upgrade rejected: this server listens on loopback, and Host is another name; allow it with --allow-host"
        ),
    }
}

/// Logs an upgrade that was rejected because of the limits of its address.
pub(super) fn log_refused_address(address: IpAddr, refusal: AddressRefusal) {
    static CLIENTS: LogLimit = LogLimit::new();
    static RATE: LogLimit = LogLimit::new();
    let address = address.to_canonical();
    match refusal {
        AddressRefusal::Clients => {
            if let Some(left_out) = CLIENTS.allow() {
                tracing::info!(
                    %address, left_out,
                    "upgrade rejected: its address has as many clients as --max-clients-per-address allows"
                );
            }
        }
        AddressRefusal::Rate => {
            if let Some(left_out) = RATE.allow() {
                tracing::info!(
                    %address, left_out,
                    "upgrade rejected: its address connects more often than --connect-rate-per-address allows"
                );
            }
        }
    }
}

/// Logs a trusted proxy that does not speak the PROXY protocol.
pub(super) fn log_missing_proxy_header(proxy: IpAddr) {
    static LINES: LogLimit = LogLimit::new();
    if let Some(left_out) = LINES.allow() {
        tracing::warn!(
            %proxy, left_out,
            "connection closed: no header of the PROXY protocol came from a trusted proxy; have it send one (nginx: \
             proxy_protocol on, HAProxy: send-proxy-v2), or leave out --proxy-protocol"
        );
    }
}

/// Logs an upgrade that was rejected because of the number of topics.
pub(super) fn log_too_many_topics() {
    static LINES: LogLimit = LogLimit::new();
    if let Some(left_out) = LINES.allow() {
        tracing::warn!(left_out, "upgrade rejected: there are as many topics as --topics-max allows");
    }
}

/// Logs an address with too many connections that are not upgraded or answered.
pub(super) fn log_crowded_address(network: Option<IpAddr>) {
    static LINES: LogLimit = LogLimit::new();
    if let (Some(address), Some(left_out)) = (network, LINES.allow()) {
        tracing::warn!(
            %address, left_out,
            "an address has too many unfinished handshakes; closing its oldest ones"
        );
    }
}

/// Logs that there are too many connections that are not upgraded or answered.
pub(super) fn log_too_many_handshakes(connections_max: usize) {
    static LINES: LogLimit = LogLimit::new();
    if let Some(left_out) = LINES.allow() {
        tracing::warn!(connections_max, left_out, "too many unfinished handshakes; closing the oldest ones");
    }
}

/// Bytes from a client, cut and escaped for a terminal. As a field of a log line it is quoted, so it cannot imitate
/// another field.
fn escaped(sent: &[u8]) -> String {
    sent[..sent.len().min(SHOWN_BYTES_MAX)].escape_ascii().to_string()
}
