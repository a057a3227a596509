//! The pages for browsers: the web client of `web/` and the admin page of `web/admin/`, each bundled into one response.

mod bundle;

use std::sync::LazyLock;

use bytes::Bytes;
use uproar_protocol::response::{Response, StatusCode};

use self::bundle::{Bundle, PageFiles};

/// What both pages share.
const BASE_STYLE: &str = include_str!("../../web/base.css");
const ELEMENTS: (&str, &str) = ("elements", include_str!("../../web/elements.js"));

const CHAT: PageFiles = PageFiles {
    html: include_str!("../../web/index.html"),
    styles: &[BASE_STYLE, include_str!("../../web/style.css")],
    modules: &[
        ELEMENTS,
        ("words", include_str!("../../web/words.js")),
        ("node", include_str!("../../web/node.js")),
        ("signal", include_str!("../../web/signal.js")),
        ("connection", include_str!("../../web/connection.js")),
        ("talks", include_str!("../../web/talks.js")),
        ("roster", include_str!("../../web/roster.js")),
        ("outbox", include_str!("../../web/outbox.js")),
        ("chat", include_str!("../../web/chat.js")),
        ("courtesies", include_str!("../../web/courtesies.js")),
        ("timeline", include_str!("../../web/timeline.js")),
        ("members", include_str!("../../web/members.js")),
        ("composer", include_str!("../../web/composer.js")),
        ("dialogs", include_str!("../../web/dialogs.js")),
        ("app", include_str!("../../web/app.js")),
    ],
};

const ADMIN: PageFiles = PageFiles {
    html: include_str!("../../web/admin/index.html"),
    styles: &[BASE_STYLE, include_str!("../../web/admin/style.css")],
    modules: &[
        ELEMENTS,
        ("words", include_str!("../../web/admin/words.js")),
        ("dialogs", include_str!("../../web/admin/dialogs.js")),
        ("api", include_str!("../../web/admin/api.js")),
        ("table", include_str!("../../web/admin/table.js")),
        ("links", include_str!("../../web/admin/links.js")),
        ("orders", include_str!("../../web/admin/orders.js")),
        ("history", include_str!("../../web/admin/history.js")),
        ("rooms", include_str!("../../web/admin/rooms.js")),
        ("connections", include_str!("../../web/admin/connections.js")),
        ("accounts", include_str!("../../web/admin/accounts.js")),
        ("live", include_str!("../../web/admin/live.js")),
        ("nodes", include_str!("../../web/admin/nodes.js")),
        ("app", include_str!("../../web/admin/app.js")),
    ],
};

static CHAT_PAGE: LazyLock<Bundle> = LazyLock::new(|| Bundle::of(&CHAT));
static ADMIN_PAGE: LazyLock<Bundle> = LazyLock::new(|| Bundle::of(&ADMIN));

/// A policy that allows the parts of a page, images from `images`, and requests to its own server.
fn policy(page: &Bundle, images: &str) -> String {
    let Bundle { style_source, script_source, .. } = page;
    format!(
        "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; img-src {images}; \
         style-src {style_source}; script-src {script_source}; connect-src 'self'"
    )
}

/// The part of the chat's policy that does not depend on the request.
static CHAT_POLICY: LazyLock<String> = LazyLock::new(|| policy(&CHAT_PAGE, "data: http: https:"));
static ADMIN_POLICY: LazyLock<String> = LazyLock::new(|| policy(&ADMIN_PAGE, "data:"));

/// The admin page and its Content-Security-Policy.
#[must_use]
pub fn admin() -> (Bytes, &'static str) {
    (ADMIN_PAGE.html.clone(), &ADMIN_POLICY)
}

/// The web client, for a browser that uses the name `host` (the value of `Host`) for this server.
///
/// The policy allows WebSockets to `host`. `'self'` includes them in current browsers, but only http and https in older
/// ones.
#[must_use]
pub fn response(host: Option<&str>) -> Response {
    let mut policy = CHAT_POLICY.clone();
    if let Some(host) = host.filter(|host| is_host_source(host)) {
        policy.push_str(&format!(" ws://{host} wss://{host}"));
    }
    Response::new(StatusCode::OK, "text/html; charset=utf-8", CHAT_PAGE.html.clone())
        .try_with_field("Content-Security-Policy", policy)
        .expect("Bug: a host source has no line break")
        .with_field("X-Content-Type-Options", "nosniff")
        .with_field("Referrer-Policy", "no-referrer")
        .with_field("Cache-Control", "no-cache")
}

/// True when `host` can be part of a policy without ending its directive. An IPv6 address cannot (CSP Level 3, 2.3.1,
/// host-source).
fn is_host_source(host: &str) -> bool {
    !host.is_empty()
        && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b':'))
}

#[cfg(test)]
mod tests {
    use super::bundle::source;
    use super::*;

    fn encoded(host: Option<&str>) -> String {
        String::from_utf8(response(host).encode(true, std::time::SystemTime::UNIX_EPOCH)).expect("text")
    }

    fn admin_html() -> String {
        String::from_utf8(admin().0.to_vec()).expect("text")
    }

    fn between<'a>(text: &'a str, start: &str, end: &str) -> &'a str {
        text.split_once(start).and_then(|(_, rest)| rest.split_once(end)).expect("both ends").0
    }

    #[test]
    fn the_policy_names_exactly_what_is_inline() {
        let chat = encoded(Some("chat.example:8080"));
        let chat_policy = between(&chat, "Content-Security-Policy: ", "\r\n");
        assert!(chat_policy.ends_with("connect-src 'self' ws://chat.example:8080 wss://chat.example:8080"));
        let (admin, admin_policy) = (admin_html(), admin().1);
        assert!(admin_policy.ends_with("connect-src 'self'") && admin_policy.contains("img-src data:;"));
        for (page, policy) in [(&chat, chat_policy), (&admin, admin_policy)] {
            let style = between(page, "<style>", "</style>");
            let script = between(page, "<script type=\"module\">", "</script>");
            assert!(policy.contains(&format!("style-src {};", source(style))));
            assert!(policy.contains(&format!("script-src {};", source(script))));
            assert!(policy.contains("default-src 'none';") && policy.contains("frame-ancestors 'none';"));
            assert!(!policy.contains("unsafe"));
        }
        assert_eq!(source(""), "'sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU='");
    }

    #[test]
    fn a_host_cannot_add_to_the_policy() {
        for host in ["evil; script-src *", "a b", "[::1]:8080", "a,b", ""] {
            let page = encoded(Some(host));
            assert!(page.contains("; connect-src 'self'\r\n"), "{host}");
        }
    }

    #[test]
    fn the_page_is_small() {
        let [chat, admin] = [&CHAT_PAGE, &ADMIN_PAGE].map(|page| page.html.len());
        assert!(chat < 60_000, "{chat} bytes");
        assert!(admin < 40_000, "{admin} bytes");
    }

    #[test]
    fn no_page_needs_another_request_or_makes_elements_of_texts() {
        for page in [encoded(None), admin_html()] {
            for forbidden in [
                " src=",
                "href=\"style",
                "style=\"",
                "onclick=\"",
                "innerHTML",
                "insertAdjacentHTML",
                "document.write",
            ] {
                assert!(!page.contains(forbidden), "{forbidden}");
            }
        }
    }

    #[test]
    fn the_admin_page_keeps_nothing_in_the_browser() {
        for forbidden in ["localStorage", "sessionStorage", "indexedDB", "document.cookie", "caches"] {
            assert!(!admin_html().contains(forbidden), "{forbidden}");
        }
    }
}
