//! Valid user names, the same in every dialect.

use std::sync::Arc;

/// The most characters (Unicode scalar values) of a name.
const CHARACTERS_MAX: usize = 20;

/// The requested name, without the white space (Unicode's White_Space) at its ends.
/// `None` unless 1 to 20 characters are left, none of them a control character (category Cc).
#[must_use]
pub fn parse(asked: &str) -> Option<Arc<str>> {
    let name = asked.trim();
    let is_valid = (1..=CHARACTERS_MAX).contains(&name.chars().count()) && !name.contains(char::is_control);
    is_valid.then(|| name.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_trimmed_and_held_to_the_rules() {
        let longest = "你".repeat(20);
        for (asked, expected) in [
            ("  \u{3000}Ann\u{a0} ", Some("Ann")),
            ("a b", Some("a b")),
            (&longest, Some(&*longest)),
            (&"x".repeat(21), None),
            ("", None),
            (" \n ", None),
            ("a\u{7}b", None),
            ("a\u{85}b", None),
            ("\u{202e}nnA", Some("\u{202e}nnA")),
        ] {
            assert_eq!(parse(asked).as_deref(), expected, "{asked:?}");
        }
    }
}
