//! The decision on a request: the table of paths, and what makes an upgrade good.
//!
//! The first refusal that applies is the answer, in this order: draining (503), a path that there is
//! not (404), then for plain requests the method (405), and for upgrades what makes them an upgrade at
//! all (400), the version (426, before the key, since another version may have other keys), the key
//! (400), the origin (403) and last whether one can sign in there (403).

use bytes::Bytes;

use super::head::Head;
use super::response::{Response, Status};
use super::upgrade;

/// Which dialect an upgraded connection is to speak, as its path says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// `/` and `/chat`.
    Chat,
    /// `/ws`.
    Hub,
    /// `/broadcast` and below.
    Raw {
        /// What follows `/broadcast/`, byte for byte: it is a name, so percent-encoding is not undone
        /// and a slash is a character of it. Empty for `/broadcast` itself, with and without a slash.
        topic: String,
    },
    /// `/echo`.
    Echo,
}

/// What is to be done about a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Route {
    /// Answer with the web client.
    Page,
    /// Answer with the metrics.
    Metrics,
    /// Let the connection become a WebSocket.
    Upgrade {
        /// What it is to speak.
        endpoint: Endpoint,
        /// The 101, complete, to be sent before anything else.
        response: Bytes,
    },
    /// Answer with this.
    Respond(Response),
    /// Answer with this, because the dialect has no way to sign in, and that is required.
    SignInRequired(Response),
}

/// What the decision depends on besides the request.
#[derive(Clone, Copy, Debug)]
pub struct Policy<'a> {
    /// Origins of other sites whose pages may connect; `*` stands for all, `null` for pages opened
    /// from a file.
    pub allowed_origins: &'a [String],
    /// True from the moment when the server begins to shut down.
    pub draining: bool,
    /// True where users must sign in, for which only the chat dialect has a way.
    pub requires_sign_in: bool,
}

/// Decides on a request.
#[must_use]
pub fn route(head: &Head<'_>, policy: Policy<'_>) -> Route {
    if policy.draining {
        return Route::Respond(Response::text(Status::SERVICE_UNAVAILABLE, "draining"));
    }
    // "A server MUST respond with a 400 … to any request message that contains more than one Host
    // header field line" (RFC 9112, 3.2). The same section asks for a 400 where HTTP/1.1 has no Host; we
    // are lenient there, since nothing depends on it: such a request has no same origin.
    if head.values("host").count() > 1 {
        return Route::Respond(Response::bad_request("More than one Host"));
    }
    let Some(place) = Place::of(head.path()) else { return not_found() };
    if head.lists("upgrade", "websocket") {
        let Place::Endpoint(endpoint) = place else { return not_found() };
        return match accept(head, policy) {
            Ok(_) if policy.requires_sign_in && endpoint != Endpoint::Chat => {
                let hint = "Users must sign in here, for which only the chat dialect (/chat) has a way";
                Route::SignInRequired(Response::text(Status::FORBIDDEN, hint))
            }
            Ok(response) => Route::Upgrade { endpoint, response },
            Err(refusal) => Route::Respond(refusal),
        };
    }
    if !matches!(head.method, "GET" | "HEAD") {
        return Route::Respond(Response::method_not_allowed());
    }
    match place {
        Place::Endpoint(Endpoint::Chat) => Route::Page,
        Place::Endpoint(_) => Route::Respond(Response::upgrade_required(
            "Upgrade Required: connect here with a WebSocket client",
        )),
        Place::Health => Route::Respond(Response::text(Status::OK, "ok")),
        Place::Metrics => Route::Metrics,
    }
}

/// What there is at a path.
enum Place {
    Endpoint(Endpoint),
    Health,
    Metrics,
}

impl Place {
    fn of(path: &str) -> Option<Self> {
        Some(match path {
            "/" | "/chat" => Self::Endpoint(Endpoint::Chat),
            "/ws" => Self::Endpoint(Endpoint::Hub),
            "/broadcast" => Self::Endpoint(Endpoint::Raw { topic: String::new() }),
            "/echo" => Self::Endpoint(Endpoint::Echo),
            "/healthz" => Self::Health,
            "/metrics" => Self::Metrics,
            _ => {
                let topic = path.strip_prefix("/broadcast/")?.to_owned();
                Self::Endpoint(Endpoint::Raw { topic })
            }
        })
    }
}

fn not_found() -> Route {
    Route::Respond(Response::text(Status::NOT_FOUND, Status::NOT_FOUND.reason()))
}

/// The 101 for an upgrade, or the refusal.
fn accept(head: &Head<'_>, policy: Policy<'_>) -> Result<Bytes, Response> {
    let key = upgrade::check_request(head)?;
    if !head.values("origin").all(|origin| is_allowed(origin, head, policy.allowed_origins)) {
        return Err(Response::text(Status::FORBIDDEN, "Forbidden origin"));
    }
    Ok(upgrade::accepted(key, None))
}

/// True when a page of this origin may connect.
fn is_allowed(origin: &[u8], head: &Head<'_>, allowed_origins: &[String]) -> bool {
    let is_listed = allowed_origins
        .iter()
        .any(|allowed| allowed == "*" || allowed.as_bytes().eq_ignore_ascii_case(origin));
    let authority = [b"http://".as_slice(), b"https://"].iter().find_map(|scheme| {
        let (start, rest) = origin.split_at_checked(scheme.len())?;
        start.eq_ignore_ascii_case(scheme).then_some(rest)
    });
    let is_same = authority.is_some_and(|authority| {
        !authority.is_empty()
            && head.only_value("host").is_some_and(|host| host.as_bytes().eq_ignore_ascii_case(authority))
    });
    is_listed || is_same
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::protocol::head::parse;

    const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
    const OPEN: Policy<'_> = Policy { allowed_origins: &[], draining: false, requires_sign_in: false };

    fn decide(received: &str, policy: Policy<'_>) -> Route {
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
    fn status(received: &str, policy: Policy<'_>) -> u16 {
        match decide(received, policy) {
            Route::Page | Route::Metrics => 200,
            Route::Upgrade { .. } => 101,
            Route::Respond(response) | Route::SignInRequired(response) => response.status().code(),
        }
    }

    fn response(received: &str) -> String {
        let Route::Respond(response) = decide(received, OPEN) else { panic!("not a response") };
        String::from_utf8(response.encode(true)).expect("text")
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
            let expected = if expected == 404 { 404 } else { 405 };
            for method in ["POST", "OPTIONS", "get"] {
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
            ("/metrics", None),
            ("/nowhere", None),
        ] {
            match (decide(&upgrade(path), OPEN), expected) {
                (Route::Upgrade { endpoint, response }, Some(expected)) => {
                    assert_eq!(endpoint, expected, "{path}");
                    assert!(response.starts_with(b"HTTP/1.1 101 "));
                }
                (Route::Respond(refusal), None) => assert_eq!(refusal.status(), Status::NOT_FOUND),
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
            ("Host: here:8080\r\n", "", 101),
            ("Host: here:8080", "Host: here:8080\r\nHost: there", 400),
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
        let draining = Policy { draining: true, ..OPEN };
        assert_eq!(status(&everything_wrong, draining), 503);
        assert_eq!(status(&everything_wrong, OPEN), 404);
        let path_good = everything_wrong.replace("/nowhere", "/chat");
        assert_eq!(status(&path_good, OPEN), 400);
        let connection_good = path_good
            .replace("POST", "GET")
            .replace("Upgrade: websocket", "Upgrade: websocket\r\nConnection: upgrade");
        assert_eq!(status(&connection_good, OPEN), 426);
        let version_good = connection_good.replace("Version: 7", "Version: 13");
        assert_eq!(status(&version_good, OPEN), 400);
        let key_good = version_good.replace("short", KEY);
        assert_eq!(status(&key_good, OPEN), 403);
    }

    #[test]
    fn where_users_must_sign_in_they_are_let_in_where_they_can() {
        let strict = Policy { requires_sign_in: true, ..OPEN };
        for path in ["/", "/chat"] {
            assert_eq!(status(&upgrade(path), strict), 101, "{path}");
        }
        for path in ["/ws", "/broadcast", "/broadcast/news", "/echo"] {
            assert!(matches!(decide(&upgrade(path), strict), Route::SignInRequired(_)), "{path}");
            assert_eq!(status(&upgrade(path), strict), 403, "{path}");
            assert_eq!(status(&upgrade(path).replace("Version: 13", "Version: 7"), strict), 426, "{path}");
            assert_eq!(status(&format!("GET {path} HTTP/1.1\r\n\r\n"), strict), 426, "{path}");
        }
    }

    #[test]
    fn draining_answers_everything_with_503() {
        let draining = Policy { draining: true, ..OPEN };
        for received in [
            "GET /healthz HTTP/1.1\r\n\r\n",
            "GET /nowhere HTTP/1.1\r\n\r\n",
            "POST / HTTP/1.1\r\n\r\n",
            &upgrade("/chat"),
        ] {
            let Route::Respond(response) = decide(received, draining) else { panic!("{received}") };
            assert_eq!(response, Response::text(Status::SERVICE_UNAVAILABLE, "draining"));
        }
    }

    #[test]
    fn refusals_carry_what_the_client_needs_to_know() {
        let required = response("GET /ws HTTP/1.1\r\n\r\n");
        assert!(required.contains("\r\nUpgrade: websocket\r\n"));
        assert!(required.contains("\r\nSec-WebSocket-Version: 13\r\n"));
        assert!(response("PUT / HTTP/1.1\r\n\r\n").contains("\r\nAllow: GET, HEAD\r\n"));
    }

    #[test]
    fn pages_of_other_sites_are_refused_unless_allowed() {
        let listed = ["https://Friend.example".to_owned(), "null".to_owned()];
        let everyone = ["*".to_owned()];
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
            let policy = Policy { allowed_origins: &listed, ..OPEN };
            assert_eq!(status(&received, policy), with_list, "{origin}");
            let policy = Policy { allowed_origins: &everyone, ..OPEN };
            assert_eq!(status(&received, policy), with_star, "{origin}");
            let without_host = received.replace("Host: here:8080\r\n", "");
            if !origin.contains("elsewhere") && same == 101 {
                assert_eq!(status(&without_host, OPEN), 403, "{origin}");
            }
        }
        let plain = "GET / HTTP/1.1\r\nOrigin: http://elsewhere\r\n\r\n";
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
