//! What a signed-in user may do.

use crate::pattern::{Pattern, any_matches};

/// The rooms and topics that a user may publish in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PublishRights {
    /// Patterns of rooms.
    pub rooms: Vec<Pattern>,
    /// Patterns of raw topics.
    pub topics: Vec<Pattern>,
}

/// What a signed-in user may do.
///
/// The default is what an account of `uproar user` gives: every room, no topic to publish in, and its own name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rights {
    /// Patterns of the rooms that it may join. `None`: every room.
    pub rooms: Option<Vec<Pattern>>,
    /// Patterns of the raw topics that it may hear. `None`: every topic.
    pub topics: Option<Vec<Pattern>>,
    /// Where it may publish. `None`: in every room that it may join, and on no topic.
    pub publish: Option<PublishRights>,
    /// True when it may change its display name.
    pub may_rename: bool,
    /// The messages that it may send in a second, in place of the server's rate; 0 is no limit.
    pub messages_per_second: Option<u32>,
    /// When the rights end, in Unix seconds.
    pub expires_at: Option<u64>,
}

impl Rights {
    /// Whether it may join a room.
    #[must_use]
    pub fn may_join(&self, room: &str) -> bool {
        self.rooms.as_ref().is_none_or(|patterns| any_matches(patterns, room))
    }

    /// Whether it may send messages to a room.
    #[must_use]
    pub fn may_publish_in(&self, room: &str) -> bool {
        match &self.publish {
            None => self.may_join(room),
            Some(publish) => any_matches(&publish.rooms, room),
        }
    }

    /// Whether it may hear a raw topic.
    #[must_use]
    pub fn may_hear(&self, topic: &str) -> bool {
        self.topics.as_ref().is_none_or(|patterns| any_matches(patterns, topic))
    }

    /// Whether it may publish on a raw topic.
    #[must_use]
    pub fn may_publish_on(&self, topic: &str) -> bool {
        self.publish.as_ref().is_some_and(|publish| any_matches(&publish.topics, topic))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn patterns(texts: &[&str]) -> Vec<Pattern> {
        texts.iter().map(|text| Pattern::parse(text)).collect()
    }

    #[test]
    fn without_patterns_every_room_may_be_joined_and_no_topic_published_on() {
        let rights = Rights::default();
        assert!(rights.may_join("general") && rights.may_publish_in("general"));
        assert!(rights.may_hear("prices") && !rights.may_publish_on("prices"));
    }

    #[test]
    fn publishing_follows_joining_unless_it_has_patterns() {
        let rights = Rights { rooms: Some(patterns(&["team-*"])), ..Rights::default() };
        assert!(rights.may_publish_in("team-a") && !rights.may_publish_in("general"));
        let publish = PublishRights { rooms: patterns(&["team-a"]), topics: patterns(&["prices.*"]) };
        let rights = Rights { publish: Some(publish), ..rights };
        assert!(rights.may_publish_in("team-a") && !rights.may_publish_in("team-b"));
        assert!(rights.may_publish_on("prices.eur") && !rights.may_publish_on("news"));
        assert!(rights.may_join("team-b"));
        let nothing = Rights { rooms: Some(Vec::new()), topics: Some(Vec::new()), ..Rights::default() };
        assert!(!nothing.may_join("general") && !nothing.may_publish_in("general") && !nothing.may_hear(""));
    }
}
