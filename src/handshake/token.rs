//! Tokens at the upgrade: where a request has one, and the answers to those that open no connection.

use std::borrow::Cow;
use std::net::IpAddr;
use std::time::SystemTime;

use tracing::info;
use uproar_protocol::head::Head;
use uproar_protocol::response::{Response, StatusCode};

use super::connection::PendingConnection;
use super::services::{AuthorizationRefusal, HandshakeEvent, HandshakeServices};
use crate::log_limit::LogLimit;

/// The scheme in `Authorization` (RFC 6750, 2.1). Others are those of a proxy.
const SCHEME: &str = "Bearer";

/// The token of a request: that in `Authorization`, or else the one of the query.
pub(super) fn of(head: &Head<'_>, in_query: Option<String>) -> Option<String> {
    let in_field = head.values("authorization").find_map(|value| {
        let (scheme, token) = value.split_at_checked(SCHEME.len())?;
        let is_bearer =
            scheme.eq_ignore_ascii_case(SCHEME.as_bytes()) && token.first().is_none_or(|byte| *byte == b' ');
        is_bearer.then(|| String::from_utf8_lossy(token.trim_ascii()).into_owned())
    });
    in_field.or(in_query)
}

/// Rejects an upgrade because of its token, because it has none, or because of a ban.
pub(super) async fn refuse_unauthorized(
    services: &dyn HandshakeServices,
    connection: PendingConnection,
    address: IpAddr,
    refusal: AuthorizationRefusal,
) {
    static REFUSED: LogLimit = LogLimit::new();
    services.note(HandshakeEvent::Unauthorized(refusal));
    let reason: Cow<'static, str> = match refusal {
        AuthorizationRefusal::BadToken(error) => format!("Bad token: {error}").into(),
        AuthorizationRefusal::Banned => "banned".into(),
        AuthorizationRefusal::Forbidden => "Permission denied".into(),
    };
    if let Some(left_out) = REFUSED.allow() {
        info!(%address, %reason, left_out, "upgrade refused");
    }
    let response = match refusal {
        AuthorizationRefusal::BadToken(_) => Response::text(StatusCode::UNAUTHORIZED, reason)
            .with_field("WWW-Authenticate", "Bearer error=\"invalid_token\""),
        AuthorizationRefusal::Banned | AuthorizationRefusal::Forbidden => {
            Response::text(StatusCode::FORBIDDEN, reason)
        }
    };
    connection.finish(response.encode(true, SystemTime::now())).await;
}

#[cfg(test)]
mod tests {
    use uproar_protocol::head::parse;

    use super::*;

    fn token(fields: &str, in_query: Option<&str>) -> Option<String> {
        let received = format!("GET / HTTP/1.1\r\nHost: here\r\n{fields}\r\n");
        let head = parse(received.as_bytes()).expect("readable").expect("complete");
        of(&head, in_query.map(str::to_owned))
    }

    #[test]
    fn the_field_counts_where_both_are_there() {
        for (fields, wanted) in [
            ("", Some("query")),
            ("Authorization: Bearer field\r\n", Some("field")),
            ("authorization: bEARER   field \r\n", Some("field")),
            ("Authorization: Basic YTpi\r\nAuthorization: Bearer field\r\n", Some("field")),
            ("Authorization: Basic YTpi\r\n", Some("query")),
            ("Authorization: Bearers field\r\n", Some("query")),
            ("Authorization: Bear\r\n", Some("query")),
            ("Authorization: Bearer\r\n", Some("")),
            ("Authorization: Bearer \u{e9}\r\n", Some("\u{e9}")),
        ] {
            assert_eq!(token(fields, Some("query")).as_deref(), wanted, "{fields}");
        }
        assert_eq!(token("", None), None);
    }
}
