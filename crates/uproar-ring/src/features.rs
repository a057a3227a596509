//! Features of io_uring that a ring uses where the kernel has them.
//!
//! Linux 6.1 has all that a ring needs. These features came later, or work only on some kernels, and make it cheaper.
//! A new ring asks the kernel which of them it has, or tries them.

use std::fmt::{self, Display, Formatter};
use std::str::FromStr;

use io_uring::IoUring;
use rustix::system::uname;
use thiserror::Error;

/// An optional feature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Feature {
    /// A send that succeeds at once has no completion, which spares a system call for each message. Tried out by each
    /// ring: see `trial`.
    ImmediateSends,
    /// A shard wakes another one with a message between their rings (`IORING_OP_MSG_RING`), submitted with the other
    /// operations of the turn, instead of a write to an eventfd.
    RingMessages,
    /// Waiting counts as idle, and not as waiting for a disk (`IORING_ENTER_NO_IOWAIT`, Linux 6.15): without it,
    /// monitoring shows an idle server as busy with its disk.
    NoIowait,
}

impl Feature {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::ImmediateSends, Self::RingMessages, Self::NoIowait];

    /// Its name on the command line and in messages.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::ImmediateSends => "immediate-sends",
            Self::RingMessages => "ring-messages",
            Self::NoIowait => "no-iowait",
        }
    }
}

/// A set of features. As text it is `all`, `none`, or their names with commas between them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Features(u8);

/// An unknown name of a feature.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("unknown feature {0:?}: known are all, none, {names}", names = Features::ALL.names())]
pub struct UnknownFeature(String);

impl Features {
    /// All features.
    pub const ALL: Self = Self((1 << Feature::ALL.len()) - 1);
    /// No feature: as on a kernel that has none of them.
    pub const NONE: Self = Self(0);

    /// True when it has this one.
    #[must_use]
    pub const fn has(self, feature: Feature) -> bool {
        self.0 & 1 << feature as u8 != 0
    }

    /// These features and this one.
    #[must_use]
    pub const fn with(self, feature: Feature) -> Self {
        Self(self.0 | 1 << feature as u8)
    }

    /// These features without this one.
    #[must_use]
    pub const fn without(self, feature: Feature) -> Self {
        Self(self.0 & !(1 << feature as u8))
    }

    fn iter(self) -> impl Iterator<Item = Feature> {
        Feature::ALL.into_iter().filter(move |feature| self.has(*feature))
    }

    /// Their names, for people to read.
    #[must_use]
    pub fn names(self) -> String {
        match self {
            Self::NONE => "none".to_owned(),
            some => some.iter().map(Feature::name).collect::<Vec<_>>().join(", "),
        }
    }

    /// The features that another set lacks.
    #[must_use]
    pub const fn missing_in(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }
}

impl Display for Features {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        match *self {
            Self::ALL => formatter.write_str("all"),
            some => formatter.write_str(&some.names().replace(", ", ",")),
        }
    }
}

impl FromStr for Features {
    type Err = UnknownFeature;

    fn from_str(text: &str) -> Result<Self, UnknownFeature> {
        match text {
            "all" => Ok(Self::ALL),
            "none" => Ok(Self::NONE),
            names => names.split(',').try_fold(Self::NONE, |features, name| {
                let feature = Feature::ALL.into_iter().find(|feature| feature.name() == name.trim());
                feature.map(|feature| features.with(feature)).ok_or_else(|| UnknownFeature(name.to_owned()))
            }),
        }
    }
}

/// The wanted features that the kernel may have; it does not report all of them, so the others have to be tried.
pub(super) fn of(ring: &IoUring, wanted: Features) -> Features {
    let mut features = wanted;
    if !ring.params().is_feature_no_iowait() {
        features = features.without(Feature::NoIowait);
    }
    let release = uname();
    if release.release().to_str().ok().and_then(version).is_none_or(has_message_fault) {
        features = features.without(Feature::RingMessages);
    }
    features
}

/// Major, minor and patch of a kernel's release, such as `6.12.46-amd64`. A part that is missing is 0.
fn version(release: &str) -> Option<[u32; 3]> {
    let numbers = release.split(|sign: char| !sign.is_ascii_digit() && sign != '.').next()?;
    let mut parts = numbers.split('.').map(str::parse);
    let mut next = || parts.next().and_then(Result::ok);
    Some([next()?, next()?, next().unwrap_or(0)])
}

/// True for kernels that may free a message between rings while it is in use (CVE-2025-38453): from 6.11 on, mended in
/// 6.12.46 and 6.15.7.
fn has_message_fault(version: [u32; 3]) -> bool {
    let is_mended_in_6_12 = ([6, 12, 46]..[6, 13, 0]).contains(&version);
    ([6, 11, 0]..[6, 15, 7]).contains(&version) && !is_mended_in_6_12
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn features_are_read_and_written_by_their_names() {
        let some = Features::NONE.with(Feature::RingMessages).with(Feature::NoIowait);
        for (text, features) in
            [("all", Features::ALL), ("none", Features::NONE), ("ring-messages,no-iowait", some)]
        {
            assert_eq!(text.parse(), Ok(features));
            assert_eq!(features.to_string(), text);
        }
        let unknown = "no-iowait,fast".parse::<Features>().map_err(|error| error.to_string());
        assert_eq!(
            unknown,
            Err("unknown feature \"fast\": known are all, none, immediate-sends, ring-messages, no-iowait"
                .to_owned())
        );
    }

    #[test]
    fn kernels_that_may_free_a_message_in_use_are_known_by_their_version() {
        for (release, has_fault) in [
            ("6.1.0-9-amd64", false),
            ("6.10.14", false),
            ("6.11.0-19-generic", true),
            ("6.12.45", true),
            ("6.12.46+deb13-amd64", false),
            ("6.12.99", false),
            ("6.13.0-rc1", true),
            ("6.15.6", true),
            ("6.15.7", false),
            ("6.18.44-fc-v669", false),
            ("7.0", false),
        ] {
            assert_eq!(version(release).map(has_message_fault), Some(has_fault), "{release}");
        }
        assert_eq!(version("unknown"), None);
    }
}
