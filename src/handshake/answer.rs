//! Answers to connections that are not handed over.

use std::borrow::Cow;
use std::net::IpAddr;
use std::time::SystemTime;

use uproar_protocol::response::{Response, StatusCode};

use super::connection::PendingConnection;
use super::operator_log::log_refused_address;
use super::origin::OriginRefusal;
use super::services::{HandshakeEvent, HandshakeServices};
use crate::address::AddressRefusal;

/// Answers a connection, and counts the answer.
pub(super) async fn respond(
    services: &dyn HandshakeServices,
    connection: PendingConnection,
    response: &Response,
    with_body: bool,
) {
    services.note(HandshakeEvent::Responded(response.status()));
    connection.finish(response.encode(with_body, SystemTime::now())).await;
}

/// Rejects an upgrade because of the limits of its address.
pub(super) async fn refuse_address(
    services: &dyn HandshakeServices,
    connection: PendingConnection,
    address: IpAddr,
    refusal: AddressRefusal,
) {
    log_refused_address(address, refusal);
    services.note(HandshakeEvent::AddressRefused(refusal));
    let response = match refusal {
        AddressRefusal::Clients => {
            Response::text(StatusCode::TOO_MANY_REQUESTS, "Too many connections from your address")
        }
        AddressRefusal::Rate => {
            Response::text(StatusCode::TOO_MANY_REQUESTS, "Too many upgrades from your address in a second")
                .with_field("Retry-After", "1")
        }
    };
    connection.finish(response.encode(true, SystemTime::now())).await;
}

/// The response to a health check.
pub(super) fn state(problem: Option<impl Into<Cow<'static, str>>>, all_is_well: &'static str) -> Response {
    match problem {
        Some(problem) => Response::text(StatusCode::SERVICE_UNAVAILABLE, problem),
        None => Response::text(StatusCode::OK, all_is_well),
    }
}

/// The value that answers [`ORIGIN_QUESTION`](super::route::ORIGIN_QUESTION).
pub(super) fn about_origin(origin: Result<(), OriginRefusal>) -> &'static str {
    match origin {
        Ok(()) => "allowed",
        Err(OriginRefusal::OtherOrigin) => "other-origin",
        Err(OriginRefusal::UnknownHost) => "unknown-host",
    }
}
