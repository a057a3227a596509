//! The web client: the files of `web/`, put together into one response.
//!
//! The server has one path for the page and none for its parts, so style and script become part of the
//! HTML, and the Content-Security-Policy names them by their hashes. Nothing else may run in the page.

use std::sync::LazyLock;

use bytes::Bytes;
use data_encoding::BASE64;
use sha2::{Digest, Sha256};

use crate::protocol::response::{Response, Status};

const HTML: &str = include_str!("../web/index.html");
const STYLE: &str = include_str!("../web/style.css");
const SCRIPT: &str = include_str!("../web/app.js");

const STYLE_LINK: &str = r#"<link rel="stylesheet" href="style.css">"#;
const SCRIPT_LINK: &str = r#"<script type="module" src="app.js"></script>"#;

static PAGE: LazyLock<Bytes> = LazyLock::new(|| {
    assert!(HTML.contains(STYLE_LINK) && HTML.contains(SCRIPT_LINK), "Bug: index.html links neither part");
    Bytes::from(
        HTML.replace(STYLE_LINK, &format!("<style>{STYLE}</style>"))
            .replace(SCRIPT_LINK, &format!("<script type=\"module\">{SCRIPT}</script>")),
    )
});

/// The part of the policy that does not depend on the request.
static POLICY: LazyLock<String> = LazyLock::new(|| {
    format!(
        "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; img-src data:; \
         style-src {}; script-src {}; connect-src 'self'",
        source(STYLE),
        source(SCRIPT),
    )
});

/// The page, for a browser that calls this server by the name `host` (the value of `Host`).
///
/// The policy allows WebSockets to `host`. `'self'` covers them in current browsers, but older ones take
/// it for http and https alone.
#[must_use]
pub fn response(host: Option<&str>) -> Response {
    let mut policy = POLICY.clone();
    if let Some(host) = host.filter(|host| is_host_source(host)) {
        policy.push_str(&format!(" ws://{host} wss://{host}"));
    }
    Response::new(Status::Ok, "text/html; charset=utf-8", PAGE.clone())
        .with_field("Content-Security-Policy", policy)
        .with_field("X-Content-Type-Options", "nosniff")
        .with_field("Referrer-Policy", "no-referrer")
        .with_field("Cache-Control", "no-cache")
}

/// The name of an inline part in a policy (CSP Level 3, 2.3.1, hash-source).
fn source(part: &str) -> String {
    format!("'sha256-{}'", BASE64.encode(&Sha256::digest(part)))
}

/// True when `host` can stand in a policy without ending the directive that it stands in. An IPv6
/// address cannot stand there at all (CSP Level 3, 2.3.1, host-source).
fn is_host_source(host: &str) -> bool {
    !host.is_empty()
        && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b':'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(host: Option<&str>) -> String {
        String::from_utf8(response(host).encode(true)).expect("text")
    }

    fn between<'a>(text: &'a str, start: &str, end: &str) -> &'a str {
        text.split_once(start).and_then(|(_, rest)| rest.split_once(end)).expect("both ends").0
    }

    #[test]
    fn the_policy_names_exactly_what_is_inline() {
        let page = encoded(Some("chat.example:8080"));
        let policy = between(&page, "Content-Security-Policy: ", "\r\n");
        let style = between(&page, "<style>", "</style>");
        let script = between(&page, "<script type=\"module\">", "</script>");
        assert!(policy.contains(&format!("style-src {};", source(style))));
        assert!(policy.contains(&format!("script-src {};", source(script))));
        assert!(policy.ends_with("connect-src 'self' ws://chat.example:8080 wss://chat.example:8080"));
        assert!(!policy.contains("unsafe"));
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
    fn the_page_is_small_and_needs_no_other_request() {
        let page = encoded(None);
        assert!(page.len() < 30_000, "{} bytes", page.len());
        for forbidden in
            [" src=", "href=\"style", "style=\"", "onclick=\"", "innerHTML", "insertAdjacentHTML"]
        {
            assert!(!page.contains(forbidden), "{forbidden}");
        }
    }
}
