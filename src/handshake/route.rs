//! Routes requests: the table of paths, and the checks of an upgrade.
//!
//! The first error is the answer, in this order: draining (503), an unknown path (404), for plain requests the method
//! (405), and for upgrades the version (426, before the rest, since another version may have other keys), other
//! errors (400), the origin (403), and last a missing sign-in (403). The limits of addresses and bans, which come
//! between these two, are checked by the caller.

use bytes::Bytes;

use super::endpoint::Dialects;
pub use super::endpoint::Endpoint;
use super::origin::{OriginPolicy, OriginRefusal};
use super::resource::Resource;
use crate::metrics::Dialect;
use uproar_protocol::head::Head;
use uproar_protocol::response::{Response, StatusCode};
use uproar_protocol::upgrade;

/// The methods of plain requests.
const METHODS: &str = "GET, HEAD, OPTIONS";

/// The field with which the page asks whether its origin may connect, and of the answer, which also tells a banned
/// address: a page cannot read why an upgrade was rejected, and browsers send no `Origin` in the requests that it can
/// make.
pub const ORIGIN_QUESTION: &str = "Uproar-Origin";

/// The decision on a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Route {
    /// Answer with the web client.
    Page {
        /// Whether an upgrade from the origin in [`ORIGIN_QUESTION`] would be accepted, if the request has that field.
        origin: Option<Result<(), OriginRefusal>>,
    },
    /// Answer with the metrics.
    Metrics,
    /// Answer the health check.
    Health,
    /// Answer the readiness check.
    Readiness,
    /// Upgrade the connection to a WebSocket.
    Upgrade {
        /// The endpoint.
        endpoint: Endpoint,
        /// The 101, to be sent before anything else.
        response: Bytes,
    },
    /// Answer with this.
    Respond(Response),
    /// Answer with this, because pages of this origin may not connect.
    OriginRefused(Response, OriginRefusal),
    /// Answer with this, because users must sign in, and outside chat only a token does that.
    SignInRequired(Response),
}

/// The state of the server that the decision depends on.
#[derive(Clone, Copy, Debug)]
pub struct RoutePolicy<'a> {
    /// The origins whose pages may connect.
    pub origins: &'a OriginPolicy,
    /// True when the request comes from a trusted proxy.
    pub is_from_proxy: bool,
    /// The dialects that are spoken. The paths of others do not exist.
    pub dialects: Dialects,
    /// True once the server shuts down.
    pub draining: bool,
    /// True when users must sign in, and the request has no token. In chat they may do that after the upgrade.
    pub requires_sign_in: bool,
    /// True when the server has keys for tokens.
    pub takes_tokens: bool,
    /// True when the metrics are served here.
    pub has_metrics: bool,
}

impl RoutePolicy<'_> {
    fn check_origin(&self, origin: &[u8], head: &Head<'_>) -> Result<(), OriginRefusal> {
        self.origins.check(origin, head.authority(), self.is_from_proxy)
    }
}

/// Decides on a request.
#[must_use]
pub fn route(head: &Head<'_>, policy: RoutePolicy<'_>) -> Route {
    if policy.draining {
        return Route::Respond(Response::text(StatusCode::SERVICE_UNAVAILABLE, "draining"));
    }
    // "An OPTIONS request with an asterisk as the request target applies to the server in general" (RFC 9110, 9.3.7).
    if head.method == "OPTIONS" && head.target == "*" {
        return Route::Respond(Response::options(METHODS));
    }
    let Some(resource) = Resource::of(head.path(), policy.dialects, policy.has_metrics) else {
        return not_found();
    };
    if head.lists("upgrade", "websocket") {
        let Resource::Endpoint(endpoint) = resource else { return not_found() };
        return upgrade(head, endpoint, policy);
    }
    match head.method {
        "GET" | "HEAD" => {}
        "OPTIONS" => return Route::Respond(Response::options(METHODS)),
        _ => return Route::Respond(Response::method_not_allowed(METHODS)),
    }
    match resource {
        Resource::Endpoint(Endpoint::Chat) => {
            let asked = head.values(ORIGIN_QUESTION).next();
            Route::Page { origin: asked.map(|origin| policy.check_origin(origin, head)) }
        }
        Resource::Endpoint(_) => Route::Respond(Response::upgrade_required(
            "Upgrade Required: connect here with a WebSocket client",
        )),
        Resource::Health => Route::Health,
        Resource::Ready => Route::Readiness,
        Resource::Metrics => Route::Metrics,
    }
}

fn not_found() -> Route {
    Route::Respond(Response::of_status(StatusCode::NOT_FOUND))
}

/// Decides on an upgrade.
fn upgrade(head: &Head<'_>, endpoint: Endpoint, policy: RoutePolicy<'_>) -> Route {
    let key = match upgrade::check_request(head) {
        Ok(key) => key,
        Err(refusal) => return Route::Respond(refusal),
    };
    let mut origins = head.values("origin");
    if let Err(refusal) = origins.try_for_each(|origin| policy.check_origin(origin, head)) {
        let body = match refusal {
            OriginRefusal::OtherOrigin => "Forbidden origin",
            OriginRefusal::UnknownHost => "Forbidden origin: this server does not go by the name in Host",
        };
        return Route::OriginRefused(Response::text(StatusCode::FORBIDDEN, body), refusal);
    }
    if policy.requires_sign_in && endpoint != Endpoint::Chat {
        let hint = match (policy.takes_tokens, policy.dialects.contains(Dialect::Chat)) {
            (true, true) => "Sign-in is required here: bring a token, or sign in at /chat",
            (true, false) => "Sign-in is required here: bring a token",
            (false, _) => "Users must sign in here, for which only the chat dialect (/chat) has a way",
        };
        return Route::SignInRequired(Response::text(StatusCode::FORBIDDEN, hint));
    }
    let name = endpoint.subprotocol();
    // Names of subprotocols are compared exactly (RFC 6455, 4.1: "Such a selection MUST be one of those offered").
    let is_offered = head.listed("sec-websocket-protocol").any(|offered| offered == name.as_bytes());
    Route::Upgrade { response: upgrade::accepted(key, is_offered.then_some(name)), endpoint }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use proptest::prelude::*;

    use super::*;
    use uproar_protocol::head::parse;

    const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
    const OWN: OriginPolicy = OriginPolicy { allowed: Vec::new(), is_on_loopback: false, hosts: Vec::new() };
    const OPEN: RoutePolicy<'_> = RoutePolicy {
        origins: &OWN,
        is_from_proxy: false,
        dialects: Dialects::ALL,
        draining: false,
        requires_sign_in: false,
        takes_tokens: false,
        has_metrics: true,
    };

    fn decide(received: &str, policy: RoutePolicy<'_>) -> Route {
        route(&parse(received.as_bytes()).expect("readable").expect("complete"), policy)
    }

    fn upgrade(path: &str) -> String {
        format!(
            "GET {path} HTTP/1.1\r\nHost: here:8080\r\nUpgrade: websocket\r\n\
             Connection: keep-alive, Upgrade\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: {KEY}\r\n\r\n"
        )
    }

    /// The status of the answer, 101 for an upgrade, 200 for the page and the metrics.
    fn status(received: &str, policy: RoutePolicy<'_>) -> u16 {
        match decide(received, policy) {
            Route::Page { .. } | Route::Metrics | Route::Health | Route::Readiness => 200,
            Route::Upgrade { .. } => 101,
            Route::Respond(response)
            | Route::OriginRefused(response, _)
            | Route::SignInRequired(response) => response.status().as_u16(),
        }
    }

    fn response(received: &str) -> String {
        let Route::Respond(response) = decide(received, OPEN) else { panic!("not a response") };
        String::from_utf8(response.encode(true, SystemTime::UNIX_EPOCH)).expect("text")
    }

    #[test]
    fn plain_requests_follow_the_table() {
        for (path, expected) in [
            ("/", 200),
            ("/chat", 200),
            ("/chat?path=/nowhere", 200),
            ("/ws", 426),
            ("/broadcast", 426),
            ("/broadcast/", 426),
            ("/broadcast/a/b", 426),
            ("/echo", 426),
            ("/healthz", 200),
            ("/readyz", 200),
            ("/metrics", 200),
            ("/chat/", 404),
            ("/broadcasting", 404),
            ("/CHAT", 404),
            ("*", 404),
        ] {
            for method in ["GET", "HEAD"] {
                let received = format!("{method} {path} HTTP/1.1\r\nHost: here\r\n\r\n");
                assert_eq!(status(&received, OPEN), expected, "{method} {path}");
            }
            let is_there = expected != 404;
            for (method, expected) in [("POST", 405), ("OPTIONS", 204), ("get", 405)] {
                let expected = if is_there || (method, path) == ("OPTIONS", "*") { expected } else { 404 };
                let received = format!("{method} {path} HTTP/1.0\r\n\r\n");
                assert_eq!(status(&received, OPEN), expected, "{method} {path}");
            }
        }
    }

    #[test]
    fn upgrades_follow_the_table() {
        let raw = |topic: &str| Some(Endpoint::Raw { topic: topic.to_owned() });
        for (path, expected) in [
            ("/", Some(Endpoint::Chat)),
            ("/chat?x", Some(Endpoint::Chat)),
            ("/ws", Some(Endpoint::Hub)),
            ("/broadcast", raw("")),
            ("/broadcast/", raw("")),
            ("/broadcast?topic", raw("")),
            ("/broadcast/a%20b/c?d", raw("a%20b/c")),
            ("/echo", Some(Endpoint::Echo)),
            ("/healthz", None),
            ("/readyz", None),
            ("/metrics", None),
            ("/nowhere", None),
        ] {
            match (decide(&upgrade(path), OPEN), expected) {
                (Route::Upgrade { endpoint, response }, Some(expected)) => {
                    assert_eq!(endpoint, expected, "{path}");
                    assert!(response.starts_with(b"HTTP/1.1 101 "));
                }
                (Route::Respond(refusal), None) => assert_eq!(refusal.status(), StatusCode::NOT_FOUND),
                (other, _) => panic!("{path}: {other:?}"),
            }
        }
    }

    #[test]
    fn a_malformed_upgrade_is_refused_with_its_own_status() {
        let good = upgrade("/chat");
        for (from, to, expected) in [
            ("Upgrade: websocket", "upgrade: h2c, WebSocket", 101),
            ("Upgrade: websocket", "Upgrade: h2c\r\nUpgrade: WEBSOCKET", 101),
            ("Upgrade: websocket", "Upgrade: websockets", 200),
            ("Connection: keep-alive, Upgrade", "Connection: keep-alive", 400),
            ("Connection: keep-alive, Upgrade\r\n", "", 400),
            ("HTTP/1.1", "HTTP/1.0", 400),
            ("GET ", "POST ", 400),
            ("GET ", "HEAD ", 400),
            ("Version: 13", "Version: 8", 426),
            ("Version: 13", "Version: 13, 8", 426),
            ("Version: 13", "Version: 013", 426),
            ("Version: 13", "Version: 13\r\nSec-WebSocket-Version: 13", 426),
            ("Sec-WebSocket-Version: 13\r\n", "", 426),
            ("Sec-WebSocket-Key:", "Other:", 400),
            (KEY, "", 400),
            (KEY, "dGhlIHNhbXBsZSBub25jZQ", 400),
            (KEY, "dGhlIHNhbXBsZSBub25jZQo=", 400),
            (KEY, "dGhlIHNhbXBsZSBub25j-Q==", 400),
            (KEY, "AQIDBAUGBwgJCgsMDQ4PEC==", 101),
            ("Sec-WebSocket-Key", "Sec-WebSocket-Key: AQIDBAUGBwgJCgsMDQ4PEA==\r\nSec-WebSocket-Key", 400),
            ("\r\n\r\n", "\r\nContent-Length: 0\r\n\r\n", 101),
            ("\r\n\r\n", "\r\nContent-Length: 4\r\n\r\n", 400),
            ("\r\n\r\n", "\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
        ] {
            assert!(good.contains(from));
            let received = good.replace(from, to);
            assert_eq!(status(&received, OPEN), expected, "{from:?} replaced by {to:?}");
        }
    }

    #[test]
    fn the_first_refusal_in_order_is_the_answer() {
        let nothing_allowed = "\r\nOrigin: http://elsewhere\r\n\r\n";
        let everything_wrong = upgrade("/nowhere")
            .replace("GET", "POST")
            .replace("Connection: keep-alive, Upgrade\r\n", "")
            .replace("Version: 13", "Version: 7")
            .replace(KEY, "short")
            .replace("\r\n\r\n", nothing_allowed);
        let draining = RoutePolicy { draining: true, ..OPEN };
        assert_eq!(status(&everything_wrong, draining), 503);
        assert_eq!(status(&everything_wrong, OPEN), 404);
        let path_good = everything_wrong.replace("/nowhere", "/chat");
        assert_eq!(status(&path_good, OPEN), 426);
        let version_good = path_good.replace("Version: 7", "Version: 13");
        assert_eq!(status(&version_good, OPEN), 400);
        let method_good = version_good.replace("POST", "GET");
        assert_eq!(status(&method_good, OPEN), 400);
        let connection_good =
            method_good.replace("Upgrade: websocket", "Upgrade: websocket\r\nConnection: upgrade");
        assert_eq!(status(&connection_good, OPEN), 400);
        let key_good = connection_good.replace("short", KEY);
        assert!(matches!(decide(&key_good, OPEN), Route::OriginRefused(..)));
    }

    #[test]
    fn where_users_must_sign_in_they_are_let_in_where_they_can() {
        let strict = RoutePolicy { requires_sign_in: true, ..OPEN };
        for path in ["/", "/chat"] {
            assert_eq!(status(&upgrade(path), strict), 101, "{path}");
        }
        for path in ["/ws", "/broadcast", "/broadcast/news", "/echo"] {
            assert!(matches!(decide(&upgrade(path), strict), Route::SignInRequired(_)), "{path}");
            assert_eq!(status(&upgrade(path), strict), 403, "{path}");
            assert_eq!(status(&upgrade(path).replace("Version: 13", "Version: 7"), strict), 426, "{path}");
            assert_eq!(status(&format!("GET {path} HTTP/1.0\r\n\r\n"), strict), 426, "{path}");
        }
    }

    #[test]
    fn who_must_sign_in_hears_how() {
        let only_chat = "Users must sign in here, for which only the chat dialect (/chat) has a way";
        for (takes_tokens, dialects, wanted) in [
            (false, "chat,echo", only_chat),
            (true, "chat,echo", "Sign-in is required here: bring a token, or sign in at /chat"),
            (true, "echo", "Sign-in is required here: bring a token"),
        ] {
            let dialects = dialects.parse().expect("dialects");
            let policy = RoutePolicy { requires_sign_in: true, takes_tokens, dialects, ..OPEN };
            let hint = Response::text(StatusCode::FORBIDDEN, wanted);
            assert_eq!(decide(&upgrade("/echo"), policy), Route::SignInRequired(hint));
        }
    }

    #[test]
    fn the_paths_of_dialects_that_are_not_spoken_do_not_exist() {
        let paths =
            [("/", "chat"), ("/chat", "chat"), ("/ws", "hub"), ("/broadcast", "raw"), ("/echo", "echo")];
        for (path, dialect) in paths {
            let others = ["chat", "hub", "raw", "echo"].into_iter().filter(|other| *other != dialect);
            let others = others.collect::<Vec<_>>().join(",");
            for (dialects, is_there) in [(dialect, true), (&others, false)] {
                let policy = RoutePolicy { dialects: dialects.parse().expect("dialects"), ..OPEN };
                assert_eq!(status(&upgrade(path), policy) == 101, is_there, "{path} {dialects}");
                for method in ["GET", "POST", "OPTIONS"] {
                    let status = status(&format!("{method} {path} HTTP/1.0\r\n\r\n"), policy);
                    assert_eq!(status != 404, is_there, "{method} {path} {dialects}");
                }
                assert_eq!(status("GET /healthz HTTP/1.0\r\n\r\n", policy), 200);
            }
        }
    }

    #[test]
    fn draining_answers_everything_with_503() {
        let draining = RoutePolicy { draining: true, ..OPEN };
        for received in [
            "GET /healthz HTTP/1.0\r\n\r\n",
            "GET /nowhere HTTP/1.0\r\n\r\n",
            "POST / HTTP/1.0\r\n\r\n",
            "OPTIONS * HTTP/1.0\r\n\r\n",
            &upgrade("/chat"),
        ] {
            let Route::Respond(response) = decide(received, draining) else { panic!("{received}") };
            assert_eq!(response, Response::text(StatusCode::SERVICE_UNAVAILABLE, "draining"));
        }
    }

    #[test]
    fn refusals_carry_what_the_client_needs_to_know() {
        let required = response("GET /ws HTTP/1.0\r\n\r\n");
        assert!(required.contains("\r\nUpgrade: websocket\r\n"));
        assert!(required.contains("\r\nSec-WebSocket-Version: 13\r\n"));
        for method in ["PUT", "OPTIONS"] {
            let response = response(&format!("{method} / HTTP/1.0\r\n\r\n"));
            assert!(response.contains("\r\nAllow: GET, HEAD, OPTIONS\r\n"), "{response}");
        }
    }

    #[test]
    fn the_subprotocol_of_the_dialect_is_taken_where_it_is_offered() {
        for (path, offered, taken) in [
            ("/chat", "uproar.chat", Some("uproar.chat")),
            ("/", "v1, uproar.chat,uproar.hub", Some("uproar.chat")),
            ("/ws", "uproar.chat\r\nSec-WebSocket-Protocol: uproar.hub", Some("uproar.hub")),
            ("/broadcast/news", "uproar.raw", Some("uproar.raw")),
            ("/echo", "uproar.echo", Some("uproar.echo")),
            ("/echo", "uproar.chat", None),
            ("/chat", "soap, wamp", None),
            ("/chat", "Uproar.Chat", None),
            ("/chat", "chat", None),
        ] {
            let offer = format!("\r\nSec-WebSocket-Protocol: {offered}\r\n\r\n");
            let Route::Upgrade { response, .. } = decide(&upgrade(path).replace("\r\n\r\n", &offer), OPEN)
            else {
                panic!("{path} {offered}");
            };
            let response = str::from_utf8(&response).expect("text");
            let named = response.split("\r\n").find_map(|line| line.strip_prefix("Sec-WebSocket-Protocol: "));
            assert_eq!(named, taken, "{path} {offered}");
        }
    }

    #[test]
    fn the_page_may_ask_whether_its_origin_is_let_in() {
        let loopback = OriginPolicy { is_on_loopback: true, ..OWN };
        let policy = RoutePolicy { origins: &loopback, ..OPEN };
        let asked = |method: &str, fields: &str| {
            let received = format!("{method} /chat HTTP/1.1\r\n{fields}\r\n");
            let Route::Page { origin } = decide(&received, policy) else { panic!("no page") };
            origin
        };
        assert_eq!(asked("GET", "Host: localhost\r\n"), None);
        for method in ["GET", "HEAD"] {
            let asked = |host: &str, origin: &str| {
                asked(method, &format!("Host: {host}\r\n{ORIGIN_QUESTION}: {origin}\r\n"))
            };
            assert_eq!(asked("localhost", "http://localhost"), Some(Ok(())));
            let other = Some(Err(OriginRefusal::OtherOrigin));
            assert_eq!(asked("localhost", "https://chat.example"), other);
            let unknown = Some(Err(OriginRefusal::UnknownHost));
            assert_eq!(asked("chat.example", "https://chat.example"), unknown);
        }
    }

    #[test]
    fn pages_of_other_sites_are_refused_unless_allowed() {
        let parsed = |origins: &[&str]| {
            let allowed = origins.iter().map(|origin| origin.parse().expect("an origin")).collect();
            OriginPolicy { allowed, ..OWN }
        };
        let (listed, everyone) = (parsed(&["https://Friend.example", "null"]), parsed(&["*"]));
        for (origin, same, with_list, with_star) in [
            ("http://here:8080", 101, 101, 101),
            ("https://HERE:8080", 101, 101, 101),
            ("https://here", 403, 403, 101),
            ("ws://here:8080", 403, 403, 101),
            ("http://here:8080.evil.example", 403, 403, 101),
            ("https://friend.example", 403, 101, 101),
            ("null", 403, 101, 101),
            ("", 403, 403, 101),
            ("http://", 403, 403, 101),
            ("http://here:8080\r\nOrigin: http://elsewhere", 403, 403, 101),
        ] {
            let received = upgrade("/chat").replace("\r\n\r\n", &format!("\r\nOrigin: {origin}\r\n\r\n"));
            assert_eq!(status(&received, OPEN), same, "{origin}");
            assert_eq!(status(&received, RoutePolicy { origins: &listed, ..OPEN }), with_list, "{origin}");
            assert_eq!(status(&received, RoutePolicy { origins: &everyone, ..OPEN }), with_star, "{origin}");
            let without_host = received.replace("Host: here:8080", "Host:");
            if !origin.contains("elsewhere") && same == 101 {
                assert_eq!(status(&without_host, OPEN), 403, "{origin}");
            }
            let absolute = without_host.replace("GET /chat", "GET http://here:8080/chat");
            assert_eq!(status(&absolute, OPEN), same, "{origin}");
        }
        let plain = "GET / HTTP/1.0\r\nOrigin: http://elsewhere\r\n\r\n";
        assert_eq!(status(plain, OPEN), 200);
    }

    proptest! {
        #[test]
        fn any_readable_request_gets_an_answer(
            target in "/[!-~]{0,40}",
            fields in prop::collection::vec(
                "(Host|Origin|Upgrade|Connection|Sec-WebSocket-(Key|Version)): (websocket|upgrade|13|[ -~]{0,30})\r\n",
                0..8,
            ),
        ) {
            let received = format!("GET {target} HTTP/1.1\r\n{}\r\n", fields.concat());
            if let Ok(Some(head)) = parse(received.as_bytes()) {
                let _ = route(&head, OPEN);
            }
        }
    }
}
