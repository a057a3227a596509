//! Bundles the files of a page into one response.
//!
//! Style and script are inline in the HTML, because a page has one path, and the Content-Security-Policy allows only their
//! hashes. Each module becomes a function that returns its exports, because an inline script cannot import. Comments and most
//! blanks are removed.

use std::fmt::Write as _;

use bytes::Bytes;
use data_encoding::BASE64;
use sha2::{Digest, Sha256};

/// The files of a page.
pub(super) struct PageFiles {
    /// It links `style.css` and `app.js`.
    pub(super) html: &'static str,
    /// They are joined in this order.
    pub(super) styles: &'static [&'static str],
    /// Each module after those that it imports.
    pub(super) modules: &'static [(&'static str, &'static str)],
}

/// A page in one piece.
pub(super) struct Bundle {
    /// The HTML.
    pub(super) html: Bytes,
    /// The sources of style and script for the page's policy (CSP Level 3, 2.3.1, hash-source).
    pub(super) style_source: String,
    pub(super) script_source: String,
}

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

impl Bundle {
    /// # Panics
    ///
    /// When the HTML links neither part, or a module uses an unsupported form of export or import.
    pub(super) fn of(files: &PageFiles) -> Self {
        let PageFiles { html, styles, modules } = files;
        assert!(html.contains(STYLE_LINK) && html.contains(SCRIPT_LINK), "Bug: the page links neither part");
        let style = without_blanks(&styles.concat(), &STYLE_BLANKS);
        let script: String = modules.iter().map(|(name, text)| scope(name, text)).collect();
        let html = html
            .replace(STYLE_LINK, &format!("<style>{style}</style>"))
            .replace(SCRIPT_LINK, &format!("<script type=\"module\">{script}</script>"));
        Self { html: html.into(), style_source: source(&style), script_source: source(&script) }
    }
}

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
            let (what, from) = import.split_once(" from \".").expect("Bug: an import in an unknown form");
            let what = what.strip_prefix("* as ").unwrap_or(what);
            write!(
                scoped,
                "const {}=m_{};",
                code(what).trim_end(),
                from.rsplit('/').next().unwrap_or_default().trim_end_matches(".js\";")
            )
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

/// The source expression of an inline part in a policy (CSP Level 3, 2.3.1, hash-source).
pub(super) fn source(part: &str) -> String {
    format!("'sha256-{}'", BASE64.encode(&Sha256::digest(part)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::page::{ADMIN, CHAT};

    fn modules() -> impl Iterator<Item = &'static (&'static str, &'static str)> {
        [&CHAT, &ADMIN].into_iter().flat_map(|page| page.modules)
    }

    #[test]
    fn what_changes_is_imported_with_its_module() {
        let variables = modules()
            .flat_map(|(_, text)| text.lines())
            .filter_map(|line| line.strip_prefix("export let ")?.split([' ', ';']).next());
        let named: Vec<_> = modules()
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
        for line in modules().flat_map(|(_, text)| text.lines()) {
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
        for line in modules().flat_map(|(_, text)| text.lines()).map(without_comment) {
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
