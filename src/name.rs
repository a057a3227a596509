//! Names of users and accounts: which are valid, and which look the same.
//!
//! Unicode's data comes from ICU4X, except for grapheme clusters.

use std::sync::Arc;

use icu_casemap::CaseMapper;
use icu_normalizer::ComposingNormalizerBorrowed;
use icu_properties::props::{
    BidiControl, DefaultIgnorableCodePoint, GeneralCategory, NoncharacterCodePoint,
    PrependedConcatenationMark,
};
use icu_properties::{CodePointMapData, CodePointSetData};
use unicode_segmentation::UnicodeSegmentation as _;

/// The most characters of a name, as people count them: grapheme clusters (UAX 29).
const CHARACTERS_MAX: usize = 20;

/// The most Unicode scalar values of a name: four for each character. An emoji of a family has seven.
const SCALARS_MAX: usize = 80;

/// After so many rounds a key is stable. Two are enough for every name of the tests.
const KEY_ROUNDS_MAX: usize = 8;

/// The name in messages of the server itself, and of backends that give no other.
pub const SYSTEM: &str = "System";

/// The key of [`SYSTEM`].
const SYSTEM_KEY: &str = "system";

/// The requested name, without the white space (Unicode's White_Space) at its ends.
///
/// `None` unless 1 to 20 grapheme clusters of at most 80 scalar values are left, of which at least one shows something.
/// Characters that could break or reorder the text around the name are not allowed: control characters (category Cc),
/// line and paragraph separators, bidirectional controls and noncharacters.
#[must_use]
pub fn parse(asked: &str) -> Option<Arc<str>> {
    let name = asked.trim();
    let is_valid = name.chars().nth(SCALARS_MAX).is_none()
        && name.graphemes(true).nth(CHARACTERS_MAX).is_none()
        && !name.contains(is_forbidden)
        && name.contains(is_visible);
    is_valid.then(|| name.into())
}

/// What names that look the same have in common: the name without default-ignorable code points and without white space
/// at its ends, case-folded and in NFKC. The key of a key is the key itself.
#[must_use]
pub fn key(name: &str) -> String {
    let mut key = name.to_owned();
    for _ in 0..KEY_ROUNDS_MAX {
        let next = fold(&key);
        if next == key {
            break;
        }
        key = next;
    }
    key
}

/// True for the key of a name that would be taken for the server itself.
#[must_use]
pub fn is_system(key: &str) -> bool {
    key == SYSTEM_KEY
}

/// One round of [`key`]. Each step can undo another one: case folding decomposes, for example.
fn fold(text: &str) -> String {
    let nfkc = ComposingNormalizerBorrowed::new_nfkc();
    let ignorable = CodePointSetData::new::<DefaultIgnorableCodePoint>();
    let shown: String = text.chars().filter(|&c| !ignorable.contains(c)).collect();
    let folded = CaseMapper::new().fold_string(&nfkc.normalize(&shown)).into_owned();
    nfkc.normalize(&folded).trim().to_owned()
}

fn is_forbidden(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{2028}' | '\u{2029}')
        || CodePointSetData::new::<BidiControl>().contains(c)
        || CodePointSetData::new::<NoncharacterCodePoint>().contains(c)
}

/// True for a character that can be seen. An unknown character shows as a box.
fn is_visible(c: char) -> bool {
    // Blank glyphs, although their properties are those of symbols, letters and marks.
    let is_blank = matches!(c, '\u{2800}' | '\u{16fe4}' | '\u{1d159}');
    let is_format = CodePointMapData::<GeneralCategory>::new().get(c) == GeneralCategory::Format
        // Arabic number signs, for example.
        && !CodePointSetData::new::<PrependedConcatenationMark>().contains(c);
    !is_blank
        && !is_format
        && !c.is_whitespace()
        && !CodePointSetData::new::<DefaultIgnorableCodePoint>().contains(c)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_are_trimmed_and_held_to_the_rules() {
        let longest = "你".repeat(20);
        let families = "👨\u{200d}👩\u{200d}👧\u{200d}👦".repeat(11);
        let accented = "e\u{301}".repeat(20);
        let thumbs = "👍🏽".repeat(20);
        for (asked, expected) in [
            ("  \u{3000}Ann\u{a0} ", Some("Ann")),
            ("a b", Some("a b")),
            ("\u{2028}Ann\u{2029}", Some("Ann")),
            (&longest, Some(&*longest)),
            (&accented, Some(&*accented)),
            (&thumbs, Some(&*thumbs)),
            (&families, Some(&*families)),
            (&format!("{families}👨\u{200d}👩\u{200d}👧"), None),
            (&format!("Z{}", "\u{336}".repeat(79)), Some(&*format!("Z{}", "\u{336}".repeat(79)))),
            (&format!("Z{}", "\u{336}".repeat(80)), None),
            ("Ann\u{e0041}\u{200b}", Some("Ann\u{e0041}\u{200b}")),
            ("\u{600}", Some("\u{600}")),
            ("\u{e000}", Some("\u{e000}")),
            (&"x".repeat(21), None),
            (&"e\u{301}".repeat(21), None),
            ("", None),
            (" \n ", None),
            ("a\u{7}b", None),
            ("a\u{85}b", None),
            ("a\u{2028}b", None),
            ("a\u{2029}b", None),
        ] {
            assert_eq!(parse(asked).as_deref(), expected, "{asked:?}");
        }
    }

    #[test]
    fn names_that_show_nothing_or_reorder_text_are_invalid() {
        let blank = "\u{ad}\u{34f}\u{115f}\u{180e}\u{200b}\u{200d}\u{2060}\u{2800}\u{3164}\u{fe0f}\u{feff}\u{ffa0}\u{fff9}\u{16fe4}\u{1d159}\u{e0020}";
        for c in blank.chars() {
            assert_eq!(parse(&c.to_string()), None, "{c:?}");
            assert_eq!(parse(&format!("{c} \u{a0}{c}")), None, "{c:?}");
        }
        let turning =
            "\u{61c}\u{200e}\u{200f}\u{202a}\u{202b}\u{202c}\u{202d}\u{202e}\u{2066}\u{2067}\u{2068}\u{2069}";
        for c in turning.chars().chain(['\u{fdd0}', '\u{fffe}', '\u{ffff}', '\u{10ffff}']) {
            assert_eq!(parse(&format!("a{c}b")), None, "{c:?}");
        }
    }

    #[test]
    fn names_that_look_the_same_have_one_key() {
        for (name, same) in [
            ("Ann", "ann"),
            ("Ann", "\u{200b}A\u{ad}NN\u{e0041}"),
            ("Ann", "\u{feff} Ann"),
            ("Ann", "Ａｎｎ"),
            ("Zoë", "ZOE\u{308}"),
            ("Straße", "STRASSE"),
            ("ﬁx", "FIX"),
            ("Σίσυφος", "ΣΊΣΥΦΟΣ"),
            ("\u{1e9e}", "ss"),
            ("한", "\u{1112}\u{1161}\u{11ab}"),
        ] {
            assert_eq!(key(name), key(same), "{name:?} {same:?}");
        }
        // Of Unicode's confusables, only the forms of one character are equal, not characters that resemble each other.
        for (name, form) in
            [("l", "\u{217c}"), ("l", "\u{2113}"), ("a", "\u{1d41a}"), ("System", "\u{24c8}ystem")]
        {
            assert_eq!(key(name), key(form), "{name:?} {form:?}");
        }
        for (name, other) in [
            ("Ann", "\u{410}nn"),
            ("System", "\u{405}ystem"),
            ("scope", "\u{455}\u{441}\u{43e}\u{440}\u{435}"),
            ("l", "I"),
            ("0", "O"),
            ("rn", "m"),
            ("Ann", "Anna"),
        ] {
            assert_ne!(key(name), key(other), "{name:?} {other:?}");
        }
        assert!(is_system(&key("SYS\u{200b}TEM")) && !is_system(&key("Systems")));
    }

    proptest! {
        #[test]
        fn a_key_is_stable(name in "\\PC*") {
            let key = key(&name);
            prop_assert_eq!(super::key(&key), key);
        }

        #[test]
        fn the_key_of_a_valid_name_is_not_empty(asked in "[\\p{L}\\p{M}\\p{S}\\p{Cf}\\p{Zs}\\p{Co}]{1,8}") {
            if let Some(name) = parse(&asked) {
                prop_assert!(!key(&name).is_empty());
            }
        }
    }
}
