//! Users, of whatever dialect: what a shard knows of one of its own, and what they have in common.

use std::sync::Arc;

use uproar_protocol::frames::MessageKind;
use uproar_ring::ConnectionId;

use super::Shard;
use super::rate::{AnswerBudget, Rate, TokenBucket};
use crate::clock::Now;
use crate::dialect::chat::{self, Direct};
use crate::dialect::{Refusal, UserDialect, hub};
use crate::mail::{Delivery, Private};
use crate::rooms::{Member, Request, ResumePoint, RoomIndex, UserId};

/// A user.
#[derive(Debug)]
pub(super) struct User {
    /// `None` until it is registered; see [`Shard::register`].
    pub(super) id: Option<UserId>,
    pub(super) dialect: UserDialect,
    /// Empty until it is greeted or has said a name.
    pub(super) name: Arc<str>,
    pub(super) connected_at: u64,
    pub(super) bucket: TokenBucket,
    pub(super) answers: AnswerBudget,
    /// When it last sent a message, whatever it was worth.
    pub(super) last_message_ms: u64,
    pub(super) membership: RoomMembership,
    /// True while its own room, or the names in it, are to be shown to it.
    pub(super) awaits_snapshot: bool,
    /// True once it was shown a room for the first time.
    pub(super) welcomed: bool,
    pub(super) standing: Standing,
    /// True while the verifier has its name and password.
    pub(super) awaits_verdict: bool,
    /// Until when it may say nothing.
    pub(super) muted_until_ms: u64,
}

impl User {
    /// A user of whom nobody has heard yet.
    pub(super) fn new(dialect: UserDialect, rate: Rate, now: Now) -> Self {
        Self {
            id: None,
            dialect,
            name: "".into(),
            connected_at: now.unix_seconds,
            bucket: TokenBucket::full(rate, now.monotonic_ms),
            answers: AnswerBudget::default(),
            last_message_ms: now.monotonic_ms,
            membership: RoomMembership::None,
            awaits_snapshot: false,
            welcomed: false,
            standing: Standing::Guest,
            awaits_verdict: false,
            muted_until_ms: 0,
        }
    }

    /// The id of one who has been registered, as everybody is ahead of the first join.
    pub(super) fn registered_id(&self) -> UserId {
        self.id.expect("Bug: in a room without an id")
    }

    /// True while what it has sent must wait for an answer from a home or from the verifier.
    pub(super) fn is_awaiting(&self) -> bool {
        self.awaits_snapshot
            || self.awaits_verdict
            || matches!(self.membership, RoomMembership::Joining(_) | RoomMembership::Leaving { .. })
    }

    /// True while it is to be answered with no more lists. A server without a rate has no limit here either.
    pub(super) fn has_spent_answers(&self, rate: Rate, now: Now) -> bool {
        rate.per_second > 0 && self.answers.is_spent(now.monotonic_ms)
    }

    /// Whether an admin has forbidden it to speak.
    pub(super) fn is_muted(&self, now: Now) -> bool {
        now.monotonic_ms < self.muted_until_ms
    }

    /// When its time to sign in is over.
    pub(super) fn sign_in_due_ms(&self) -> u64 {
        match self.standing {
            Standing::Stranger { until_ms } if !self.awaits_verdict => until_ms,
            Standing::Stranger { .. } | Standing::Guest | Standing::SignedIn { .. } => u64::MAX,
        }
    }
}

/// Who a user is known to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// Nobody, and it must sign in by this time before it may do anything else.
    Stranger { until_ms: u64 },
    /// Whoever it says it is.
    Guest,
    /// Somebody with an account.
    SignedIn { is_admin: bool },
}

/// Which room a user is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RoomMembership {
    /// In none, and in none any more.
    None,
    /// The home has been asked, and has not answered yet.
    Joining(RoomIndex),
    /// In this one, at this place of the shard's list of members.
    In { room: RoomIndex, place: u32 },
    /// Still in `from`, whose home was told. Once it has answered, `to` is asked, or, without one, the
    /// connection is closed.
    Leaving { from: RoomIndex, place: u32, to: Option<RoomIndex>, after: Option<ResumePoint> },
}

impl Shard {
    /// Gives a user whom this shard is about to greet its id, and a name if it has none. From now on others can reach it.
    ///
    /// It comes ahead of the user's first join: who hears of that may answer at once.
    pub(super) fn register(&mut self, id: ConnectionId) {
        let origin = self.origin(id);
        let Some(user) = self.clients.user(id) else { return };
        debug_assert_eq!(user.id, None, "registered twice");
        let user_id = self.directory.users().register(origin);
        user.id = Some(user_id);
        if user.name.is_empty() {
            user.name = format!("User{user_id}").into();
        }
    }

    /// A user of this shard, once it has been welcomed and until it goes.
    pub(super) fn find_user(&mut self, user: UserId) -> Option<(ConnectionId, &mut User)> {
        let at = self.directory.users().find(user).filter(|at| at.shard == self.settings.index)?;
        let user = self.clients.user(at.connection).filter(|user| user.welcomed)?;
        Some((at.connection, user))
    }

    pub(super) fn request_join(&mut self, id: ConnectionId, room: RoomIndex, after: Option<ResumePoint>) {
        let origin = self.origin(id);
        let Some(user) = self.clients.user(id) else { return };
        let &mut User { dialect, ref name, connected_at, .. } = user;
        let (user, name) = (user.registered_id(), Arc::clone(name));
        let wants_names = dialect == UserDialect::Hub;
        let member = Member { user, name, connected_at, origin, wants_names };
        self.request(self.directory.home(room), Request::Join { room, member, after });
    }

    /// Takes what a user has said, and answers when it has no effect.
    pub(super) fn handle_user_message(
        &mut self,
        id: ConnectionId,
        kind: MessageKind,
        payload: &[u8],
        now: Now,
    ) {
        let rate = self.settings.limits.rate;
        let Some(user) = self.clients.user(id) else { return };
        user.last_message_ms = now.monotonic_ms;
        let outcome = if !user.bucket.take(rate, now.monotonic_ms) {
            Err(Refusal::TooMany)
        } else {
            match user.dialect {
                UserDialect::Chat => self.handle_chat_message(id, kind, payload, now),
                UserDialect::Hub => self.handle_hub_message(id, kind, payload, now),
            }
        };
        if let Err(refusal) = outcome {
            self.refuse(id, &refusal, now);
        }
    }

    /// Tells a user why something had no effect.
    pub(super) fn refuse(&mut self, id: ConnectionId, refusal: &Refusal, now: Now) {
        let Some(user) = self.clients.user(id) else { return };
        let message = match user.dialect {
            UserDialect::Chat => chat::direct(&Direct::Error { message: refusal.to_string() }, now),
            UserDialect::Hub => hub::system(&refusal.to_string(), self.names()),
        };
        self.push(id, message, now);
    }

    /// Gives a private message to the user that it is for, who is one of this shard's if anyone's.
    pub(super) fn receive_private(&mut self, private: Private, now: Now) {
        let Private { from, from_name, origin, to, content } = private;
        let Some((id, &mut User { dialect, ref name, .. })) = self.find_user(to) else {
            self.reply(origin.shard, Delivery::UserNotFound { to: origin });
            return;
        };
        let receiver_name = Arc::clone(name);
        if content.is_empty() {
            return;
        }
        let message = match dialect {
            UserDialect::Chat => chat::private_message(from, &from_name, &content, now),
            UserDialect::Hub => hub::message(&from_name, &content, self.names()),
        };
        self.push(id, message, now);
        self.reply(origin.shard, Delivery::PrivateSent { to: origin, receiver: to, receiver_name, content });
    }
}
