//! The endpoints of upgrades: a dialect, and for raw a topic.

use std::fmt;
use std::str::FromStr;

use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};

use crate::metrics::Dialect;

/// The longest name of a topic in bytes, after normalisation.
const TOPIC_BYTES_MAX: usize = 1024;

/// The dialect of an upgraded connection, by its path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// `/` and `/chat`.
    Chat,
    /// `/ws`.
    Hub,
    /// `/broadcast` and below.
    Raw {
        /// The path after `/broadcast/`, with percent-encoding normalised; it may contain slashes. Empty for
        /// `/broadcast` itself, with and without a slash. At most 1,024 bytes.
        topic: String,
    },
    /// `/echo`.
    Echo,
}

impl Endpoint {
    /// The endpoint at a path, if there is one.
    #[must_use]
    pub fn of(path: &str) -> Option<Self> {
        Some(match path {
            "/" | "/chat" => Self::Chat,
            "/ws" => Self::Hub,
            "/broadcast" => Self::Raw { topic: String::new() },
            "/echo" => Self::Echo,
            _ => {
                let topic = normalised(path.strip_prefix("/broadcast/")?);
                return (topic.len() <= TOPIC_BYTES_MAX).then_some(Self::Raw { topic });
            }
        })
    }

    /// Its dialect.
    #[must_use]
    pub fn dialect(&self) -> Dialect {
        match self {
            Self::Chat => Dialect::Chat,
            Self::Hub => Dialect::Hub,
            Self::Raw { .. } => Dialect::Raw,
            Self::Echo => Dialect::Echo,
        }
    }

    /// The subprotocol that names the dialect, for clients that offer some.
    pub(super) fn subprotocol(&self) -> &'static str {
        match self {
            Self::Chat => "uproar.chat",
            Self::Hub => "uproar.hub",
            Self::Raw { .. } => "uproar.raw",
            Self::Echo => "uproar.echo",
        }
    }
}

/// A path in which equal names are equal bytes (RFC 3986, 6.2.2): unreserved characters are not percent-encoded, and
/// the encoding of others has upper-case digits. A `%` without two digits stays as it is.
fn normalised(path: &str) -> String {
    let mut pieces = path.split('%');
    let mut normalised = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        let digits = piece.get(..2).filter(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()));
        match digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) if is_unreserved(byte) => normalised.push(char::from(byte)),
            Some(byte) => normalised.push_str(&format!("%{byte:02X}")),
            None => {
                normalised.push('%');
                normalised.push_str(piece);
                continue;
            }
        }
        normalised.push_str(&piece[2..]);
    }
    normalised
}

/// The characters that a browser escapes in a path (the path percent-encode set in the URL standard), and `%`, which
/// begins an escape.
const ESCAPED_IN_PATHS: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'#')
    .add(b'%')
    .add(b'<')
    .add(b'>')
    .add(b'?')
    .add(b'^')
    .add(b'`')
    .add(b'{')
    .add(b'}');

/// The topic of this name, as its path is written; `None` if it is too long.
#[must_use]
pub fn topic_of(name: &str) -> Option<String> {
    let topic = utf8_percent_encode(name, ESCAPED_IN_PATHS).to_string();
    (topic.len() <= TOPIC_BYTES_MAX).then_some(topic)
}

/// True for the unreserved characters of RFC 3986, 2.3.
fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~".contains(&byte)
}

/// The dialects that a server speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dialects([bool; Dialect::ALL.len()]);

impl Dialects {
    /// All of them.
    pub const ALL: Self = Self([true; Dialect::ALL.len()]);

    /// True when this one is spoken.
    #[must_use]
    pub fn contains(self, dialect: Dialect) -> bool {
        self.0[dialect as usize]
    }
}

impl fmt::Display for Dialects {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let spoken = Dialect::ALL.iter().filter(|dialect| self.contains(**dialect));
        f.write_str(&spoken.map(ToString::to_string).collect::<Vec<_>>().join(","))
    }
}

impl FromStr for Dialects {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut spoken = Self([false; Dialect::ALL.len()]);
        for name in text.split(',') {
            let known = Dialect::ALL.iter().find(|dialect| dialect.to_string() == name.trim());
            let dialect = known.ok_or_else(|| format!("allowed is a list of {}", Self::ALL))?;
            spoken.0[*dialect as usize] = true;
        }
        Ok(spoken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_topics_are_equal_bytes() {
        for (path, topic) in [
            ("a%2db", "a-b"),
            ("a%2Db", "a-b"),
            ("%41%5a%61%7A%30%39%2d%2e%5f%7e", "AZaz09-._~"),
            ("a%2fb", "a%2Fb"),
            ("a%2Fb/c", "a%2Fb/c"),
            ("%e4%bd%a0", "%E4%BD%A0"),
            ("a%20b", "a%20b"),
            ("a+b", "a+b"),
            ("%", "%"),
            ("a%", "a%"),
            ("%4", "%4"),
            ("%zz", "%zz"),
            ("%4g%41", "%4gA"),
            ("%%41", "%A"),
            ("%2541", "%2541"),
            ("%+1", "%+1"),
            ("%4\u{e9}", "%4\u{e9}"),
            ("A", "A"),
        ] {
            let endpoint = Endpoint::of(&format!("/broadcast/{path}"));
            assert_eq!(endpoint, Some(Endpoint::Raw { topic: topic.to_owned() }), "{path}");
        }
    }

    #[test]
    fn dialects_are_listed_by_their_names() {
        let parsed = |text: &str| text.parse::<Dialects>();
        assert_eq!(parsed("echo,hub,raw,chat"), Ok(Dialects::ALL));
        assert_eq!(parsed("raw, chat").map(|dialects| dialects.to_string()), Ok("chat,raw".to_owned()));
        assert_eq!(Dialects::ALL.to_string(), "chat,hub,raw,echo");
        for text in ["", "chat,", "Chat", "all"] {
            assert_eq!(parsed(text), Err("allowed is a list of chat,hub,raw,echo".to_owned()), "{text}");
        }
    }
}
