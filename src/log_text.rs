//! Text from clients in the log, such as names and reasons: bounded, and without characters that disturb a line.

/// The most characters (Unicode scalar values) of such a text: twice the longest name.
const CHARS_MAX: usize = 160;

/// The text for a field of a log line, which is quoted in both formats.
///
/// Control characters, and characters that are invisible or change the direction of text, are replaced by U+FFFD. After
/// 160 characters comes an ellipsis.
#[must_use]
pub fn shown(words: &str) -> String {
    let mut chars = words.chars();
    let mut text: String = chars
        .by_ref()
        .take(CHARS_MAX)
        .map(|c| if is_hidden(c) { char::REPLACEMENT_CHARACTER } else { c })
        .collect();
    if chars.next().is_some() {
        text.push('…');
    }
    text
}

/// Controls (category Cc), separators of lines, and the formats (Cf) that hide or reorder.
fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}'
        )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_shown_without_what_hides_or_turns_them() {
        assert_eq!(shown("Zoë \"你好\" 👋"), "Zoë \"你好\" 👋");
        assert_eq!(shown("a\nb\x1b[31m\u{202e}c\u{200b}\u{feff}"), "a�b�[31m�c��");
    }

    #[test]
    fn long_words_are_cut() {
        let longest = "é".repeat(CHARS_MAX);
        assert_eq!(shown(&longest), longest);
        assert_eq!(shown(&format!("{longest}é")), format!("{longest}…"));
        assert_eq!(shown(""), "");
    }
}
