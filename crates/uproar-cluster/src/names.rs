//! The names of nodes and of their batches.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// The name of a node: 1 to 64 ASCII letters, digits, `.`, `_` and `-`. It is part of tags and of connection names, so
/// it has no spaces.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct NodeName(Arc<str>);

/// Text that is not a node's name, an incarnation or a tag.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not 1 to 64 letters, digits, dots, underscores and hyphens")]
pub struct BadName;

impl NodeName {
    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for NodeName {
    type Err = BadName;

    fn from_str(text: &str) -> Result<Self, BadName> {
        let is_valid = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
        let is_name = (1..=64).contains(&text.len()) && text.bytes().all(is_valid);
        is_name.then(|| Self(text.into())).ok_or(BadName)
    }
}

impl TryFrom<String> for NodeName {
    type Error = BadName;

    fn try_from(text: String) -> Result<Self, BadName> {
        text.parse()
    }
}

impl From<NodeName> for String {
    fn from(name: NodeName) -> Self {
        name.0.as_ref().to_owned()
    }
}

impl fmt::Display for NodeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One life of a node, from its start to its end or until others have declared it gone: a random number. Written as 16
/// hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Incarnation(pub u64);

impl fmt::Display for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl FromStr for Incarnation {
    type Err = BadName;

    fn from_str(text: &str) -> Result<Self, BadName> {
        let number = u64::from_str_radix(text, 16).map_err(|_| BadName)?;
        Some(Self(number)).filter(|it| it.to_string() == text).ok_or(BadName)
    }
}

/// One life of a node.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LiveNode {
    /// Its name.
    pub node: NodeName,
    /// Which one.
    pub incarnation: Incarnation,
}

/// Names a batch, and the entry that it became: no two batches have the same. Written as `node incarnation number`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Tag {
    /// Whose it is.
    pub node: NodeName,
    /// In which of the node's lives.
    pub incarnation: Incarnation,
    /// 1, 2, 3 … in each of them.
    pub batch: u64,
}

impl Tag {
    /// The life of the node that has sent it.
    #[must_use]
    pub fn live(&self) -> LiveNode {
        LiveNode { node: self.node.clone(), incarnation: self.incarnation }
    }

    /// True for a batch of the same incarnation.
    #[must_use]
    pub fn is_same_life(&self, other: &Self) -> bool {
        (&self.node, self.incarnation) == (&other.node, other.incarnation)
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.node, self.incarnation, self.batch)
    }
}

impl FromStr for Tag {
    type Err = BadName;

    fn from_str(text: &str) -> Result<Self, BadName> {
        let mut parts = text.split(' ');
        let mut part = || parts.next().ok_or(BadName);
        let (node, incarnation, batch) = (part()?, part()?, part()?);
        let tag = Self {
            node: node.parse()?,
            incarnation: incarnation.parse()?,
            batch: batch.parse().map_err(|_| BadName)?,
        };
        Some(tag).filter(|tag| tag.to_string() == text).ok_or(BadName)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_they_are_written() {
        let tag: Tag = "eu-1.a 00000000000000ff 17".parse().unwrap();
        assert_eq!(tag.to_string(), "eu-1.a 00000000000000ff 17");
        assert_eq!((tag.node.as_str(), tag.incarnation, tag.batch), ("eu-1.a", Incarnation(255), 17));
    }

    #[test]
    fn what_is_no_name_is_refused() {
        for text in ["", "a b", "é", "a:b", &"n".repeat(65)] {
            assert_eq!(text.parse::<NodeName>(), Err(BadName), "{text}");
        }
        for text in [
            "",
            "a",
            "a ff 1",
            "a 00000000000000ff",
            "a 00000000000000ff 01",
            "a 00000000000000FF 1",
            "a 00000000000000ff 1 2",
        ] {
            assert_eq!(text.parse::<Tag>(), Err(BadName), "{text}");
        }
    }
}
