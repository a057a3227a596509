//! Chat clients that come back with the session of an earlier one, also while that one is still there.

use crate::client::{Client, Talk};
use crate::random::Random;
use crate::record::Record;

impl Client {
    /// Brings the session of an earlier client, or something that is none.
    pub(crate) fn come_back(&mut self, record: &mut Record, random: &mut Random) {
        let Talk::Chat(chat) = &mut self.talk else { return };
        if record.sessions.is_empty() {
            return;
        }
        // Those who came last are most likely still there.
        let count = record.sessions.len();
        let place = if random.percent(50) { count - 1 } else { random.below(count) };
        let (user, mut session) = record.sessions[place].clone();
        if random.percent(10) {
            let place = random.below(session.len());
            let other = if session.as_bytes()[place] == b'A' { "B" } else { "A" };
            session.replace_range(place..=place, other);
        } else {
            chat.claimed = Some(user);
            *record.claims.entry(user).or_default() += 1;
            record.clients_of.entry(user).or_default().insert(self.number);
        }
        self.session = Some(session);
    }

    /// True when it may be this user, whether or not it knows.
    pub(crate) fn may_be(&self, user: u64) -> bool {
        matches!(&self.talk, Talk::Chat(chat) if chat.user.is_none_or(|own| own == user) && chat.claimed == Some(user))
    }
}
