//! The web client: the files of `web/`, bundled into one response.
//!
//! Style and script are inline in the HTML, because the server has one path for the page, and the
//! Content-Security-Policy allows only their hashes. Each module becomes a function that returns its exports, because
//! an inline script cannot import. Comments and most blanks are removed.

use std::fmt::Write as _;
use std::sync::LazyLock;

use bytes::Bytes;
use data_encoding::BASE64;
use sha2::{Digest, Sha256};
use uproar_protocol::response::{Response, StatusCode};

const HTML: &str = include_str!("../web/index.html");
const STYLE: &str = include_str!("../web/style.css");

/// Each module after those that it imports.
const MODULES: [(&str, &str); 14] = [
    ("words", include_str!("../web/words.js")),
    ("node", include_str!("../web/node.js")),
    ("signal", include_str!("../web/signal.js")),
    ("connection", include_str!("../web/connection.js")),
    ("talks", include_str!("../web/talks.js")),
    ("roster", include_str!("../web/roster.js")),
    ("outbox", include_str!("../web/outbox.js")),
    ("chat", include_str!("../web/chat.js")),
    ("courtesies", include_str!("../web/courtesies.js")),
    ("timeline", include_str!("../web/timeline.js")),
    ("members", include_str!("../web/members.js")),
    ("composer", include_str!("../web/composer.js")),
    ("dialogs", include_str!("../web/dialogs.js")),
    ("app", include_str!("../web/app.js")),
];

const STYLE_LINK: &str = r#"<link rel="stylesheet" href="style.css">"#;
const SCRIPT_LINK: &str = r#"<script type="module" src="app.js"></script>"#;

/// The blanks of the style that a browser does not need. No value contains one of these.
const STYLE_BLANKS: [(&str, &str); 8] = [
    ("; }", "}"),
    (";\n}", "}"),
    ("\n\t", ""),
    (" {", "{"),
    ("{ ", "{"),
    ("; ", ";"),
    (": ", ":"),
    (", ", ","),
];

/// Those of the script, outside its strings.
const SCRIPT_BLANKS: [(&str, &str); 14] = [
    (" => ", "=>"),
    (" = ", "="),
    (" === ", "==="),
    (" !== ", "!=="),
    (" && ", "&&"),
    (" || ", "||"),
    (" ? ", "?"),
    (" : ", ":"),
    (" + ", "+"),
    (") {", "){"),
    ("{ ", "{"),
    (" }", "}"),
    (": ", ":"),
    (", ", ","),
];

fn without_blanks(text: &str, blanks: &[(&str, &str)]) -> String {
    blanks.iter().fold(text.to_owned(), |text, (blank, shorter)| text.replace(blank, shorter))
}

/// A line of a script and its end, without the blanks outside its strings: they are the odd parts between quotation
/// marks. Lines with a template stay as they are.
fn shorter(line: &str) -> String {
    let parts = line.split('"').enumerate().map(|(nth, part)| match nth % 2 {
        0 => without_blanks(part, &SCRIPT_BLANKS),
        _ => part.to_owned(),
    });
    let mut line = parts.collect::<Vec<_>>().join("\"");
    // Behind these no statement can end that has no semicolon.
    if !line.ends_with([';', ',', '{', '(']) {
        line.push('\n');
    }
    line
}

static STYLE_TEXT: LazyLock<String> = LazyLock::new(|| without_blanks(STYLE, &STYLE_BLANKS));

static SCRIPT: LazyLock<String> =
    LazyLock::new(|| MODULES.iter().map(|(name, text)| scope(name, text)).collect());

static PAGE: LazyLock<Bytes> = LazyLock::new(|| {
    assert!(HTML.contains(STYLE_LINK) && HTML.contains(SCRIPT_LINK), "Bug: index.html links neither part");
    Bytes::from(
        HTML.replace(STYLE_LINK, &format!("<style>{}</style>", *STYLE_TEXT))
            .replace(SCRIPT_LINK, &format!("<script type=\"module\">{}</script>", *SCRIPT)),
    )
});

/// A module as a function that returns its exports. Variables are getters, so that importers see their changes.
///
/// # Panics
///
/// When the module uses an unsupported form of export or import.
fn scope(module: &str, text: &str) -> String {
    let mut scoped = format!("const m_{module}=(()=>{{\n");
    let mut exports = String::new();
    let mut is_in_template = false;
    for line in text.lines().map(without_comment).filter(|line| !line.is_empty()) {
        let has_template = is_in_template || line.contains('`');
        is_in_template ^= line.matches('`').count() % 2 == 1;
        let code = |text: &str| if has_template { format!("{text}\n") } else { shorter(text) };
        if let Some(import) = line.strip_prefix("import ") {
            let (what, from) = import.split_once(" from \"./").expect("Bug: an import in an unknown form");
            let what = what.strip_prefix("* as ").unwrap_or(what);
            write!(scoped, "const {}=m_{};", code(what).trim_end(), from.trim_end_matches(".js\";"))
        } else if let Some(declaration) = line.strip_prefix("export ") {
            let mut words = declaration.split([' ', '(']);
            let (kind, name) = (words.next(), words.next().expect("Bug: an export without a name"));
            match kind {
                Some("let") => write!(exports, "get {name}(){{return {name}}},"),
                _ => write!(exports, "{name},"),
            }
            .expect("Bug: writing to a String failed");
            write!(scoped, "{}", code(declaration))
        } else {
            write!(scoped, "{}", code(line))
        }
        .expect("Bug: writing to a String failed");
    }
    writeln!(scoped, "return {{{exports}}};\n}})();").expect("Bug: writing to a String failed");
    scoped
}

/// The part of a line that a browser needs. In code, nothing else looks like a comment.
fn without_comment(line: &str) -> &str {
    let line = line.trim_start_matches('\t');
    if line.starts_with("//") || (line.starts_with("/**") && line.ends_with("*/")) {
        return "";
    }
    line.split_once(" // ").map_or(line, |(code, _)| code)
}

/// The part of the policy that does not depend on the request.
static POLICY: LazyLock<String> = LazyLock::new(|| {
    format!(
        "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; img-src data: http: https:; \
         style-src {}; script-src {}; connect-src 'self'",
        source(&STYLE_TEXT),
        source(&SCRIPT),
    )
});

/// The page, for a browser that uses the name `host` (the value of `Host`) for this server.
///
/// The policy allows WebSockets to `host`. `'self'` includes them in current browsers, but only http and https in older
/// ones.
#[must_use]
pub fn response(host: Option<&str>) -> Response {
    let mut policy = POLICY.clone();
    if let Some(host) = host.filter(|host| is_host_source(host)) {
        policy.push_str(&format!(" ws://{host} wss://{host}"));
    }
    Response::new(StatusCode::OK, "text/html; charset=utf-8", PAGE.clone())
        .try_with_field("Content-Security-Policy", policy)
        .expect("Bug: a host source has no line break")
        .with_field("X-Content-Type-Options", "nosniff")
        .with_field("Referrer-Policy", "no-referrer")
        .with_field("Cache-Control", "no-cache")
}

/// The source expression of an inline part in a policy (CSP Level 3, 2.3.1, hash-source).
fn source(part: &str) -> String {
    format!("'sha256-{}'", BASE64.encode(&Sha256::digest(part)))
}

/// True when `host` can be part of a policy without ending its directive. An IPv6 address cannot (CSP Level 3, 2.3.1,
/// host-source).
fn is_host_source(host: &str) -> bool {
    !host.is_empty()
        && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b':'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(host: Option<&str>) -> String {
        String::from_utf8(response(host).encode(true, std::time::SystemTime::UNIX_EPOCH)).expect("text")
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
    fn the_page_is_small() {
        assert!(PAGE.len() < 60_000, "{} bytes", PAGE.len());
    }

    #[test]
    fn the_page_needs_no_other_request() {
        let page = encoded(None);
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

    #[test]
    fn what_changes_is_imported_with_its_module() {
        let variables = MODULES
            .iter()
            .flat_map(|(_, text)| text.lines())
            .filter_map(|line| line.strip_prefix("export let ")?.split([' ', ';']).next());
        let named: Vec<_> = MODULES
            .iter()
            .flat_map(|(_, text)| text.lines())
            .filter_map(|line| line.strip_prefix("import {")?.split('}').next())
            .flat_map(|names| names.split(',').map(str::trim))
            .collect();
        for variable in variables {
            assert!(!named.contains(&variable), "{variable} would be imported as it was at the start");
        }
    }

    #[test]
    fn no_string_is_cut_as_a_comment() {
        for line in MODULES.iter().flat_map(|(_, text)| text.lines()) {
            let Some((code, _)) = line.split_once(" // ") else { continue };
            assert!(['"', '`'].iter().all(|quote| code.matches(*quote).count() % 2 == 0), "{line}");
        }
    }

    #[test]
    fn strings_and_templates_keep_their_blanks() {
        let text = "const a = f(\"b, c = d\", e);\nconst g = `h, ${i}`;\nconst j = `\nk, l`;\nm = n ? o : { p: q };\n";
        let scoped = "const m_z=(()=>{\nconst a=f(\"b, c = d\",e);const g = `h, ${i}`;\nconst j = `\nk, l`;\n\
                      m=n?o:{p:q};return {};\n})();\n";
        assert_eq!(scope("z", text), scoped);
    }

    #[test]
    fn no_quotation_mark_stands_alone() {
        // In a comment it does not matter, and in the expression for links nothing follows that has blanks.
        for line in MODULES.iter().flat_map(|(_, text)| text.lines()).map(without_comment) {
            assert!(line.matches('"').count() % 2 == 0 || line.starts_with("const LINK = "), "{line}");
            assert!(!line.contains("\\\""), "{line}");
        }
    }

    #[test]
    fn a_module_becomes_a_function_that_returns_its_exports() {
        let text = "// Z.\n\nimport { a } from \"./x.js\";\nimport * as y from \"./y.js\";\n\n/** B. */\nexport let b = {\n\ta, // A.\n};\n";
        let scoped = "const m_z=(()=>{\nconst {a}=m_x;const y=m_y;let b={a,};\
                      return {get b(){return b},};\n})();\n";
        assert_eq!(scope("z", text), scoped);
    }
}
