//! A user of either dialect, as its shard knows it.

use std::sync::Arc;

use super::rate::{AnswerBudget, Rate, TokenBucket};
use crate::accounts::{Identity, Rights};
use crate::clock::Now;
use crate::dialect::UserDialect;
use crate::moderation::Mute;
use crate::name;
use crate::rooms::{MemberAccount, ResumePoint, RoomIndex, UserId, Visit};

/// A user.
#[derive(Debug)]
pub(super) struct User {
    /// `None` until it is registered; see [`User::register`].
    pub(super) id: Option<UserId>,
    pub(super) dialect: UserDialect,
    /// Empty until the user is greeted or has chosen a name.
    pub(super) name: Arc<str>,
    pub(super) connected_at: u64,
    /// Its messages: the server's rate, or that of its token.
    pub(super) rate: Rate,
    pub(super) bucket: TokenBucket,
    pub(super) answers: AnswerBudget,
    /// When it last sent a message, valid or not.
    pub(super) last_message_ms: u64,
    pub(super) membership: RoomMembership,
    /// The name of the room that it is in or on its way to, once it has asked for one.
    pub(super) room_name: Arc<str>,
    /// The room that clients create and that a home opens or finds for it, before it leaves the one that it is in.
    pub(super) opening: Option<Opening>,
    /// A move that it has not asked for, and that waits for an answer.
    pub(super) ordered_move: Option<Box<OrderedMove>>,
    /// True while it waits for a snapshot of its own room, or for the names in it.
    pub(super) awaits_snapshot: bool,
    /// True once it got its first room.
    pub(super) welcomed: bool,
    pub(super) standing: Standing,
    /// True once it was told that its token has expired.
    pub(super) has_expired: bool,
    /// True while the verifier has its name and password.
    pub(super) awaits_sign_in: bool,
    /// How many shards have not answered to the order of this admin.
    pub(super) answers_awaited: u32,
    /// How long it may not speak.
    pub(super) mute: Mute,
    /// The user whose session it has brought, until that is decided.
    pub(super) claimed: Option<UserId>,
    /// True while the earlier connection of that session is being closed.
    pub(super) awaits_session: bool,
    /// True where it had to sign in first, before it was greeted.
    pub(super) signed_in_late: bool,
    /// The account that its session belonged to when it came back. It gives the user nothing.
    pub(super) owner: Option<Arc<str>>,
    /// Which of the user's connections this is.
    pub(super) visit: Visit,
}

impl User {
    /// A new user.
    pub(super) fn new(dialect: UserDialect, rate: Rate, now: Now) -> Self {
        Self {
            id: None,
            dialect,
            name: "".into(),
            connected_at: now.unix_seconds,
            rate,
            bucket: TokenBucket::full(rate, now.monotonic_ms),
            answers: AnswerBudget::default(),
            last_message_ms: now.monotonic_ms,
            membership: RoomMembership::None,
            room_name: "".into(),
            opening: None,
            ordered_move: None,
            awaits_snapshot: false,
            welcomed: false,
            standing: Standing::Guest,
            has_expired: false,
            awaits_sign_in: false,
            answers_awaited: 0,
            mute: Mute::default(),
            claimed: None,
            awaits_session: false,
            signed_in_late: false,
            owner: None,
            visit: Visit::default(),
        }
    }

    /// The id of a registered user; users are registered before their first join.
    pub(super) fn registered_id(&self) -> UserId {
        self.id.expect("Bug: in a room without an id")
    }

    /// True while its input must wait for an answer from a home or from the verifier, about its session, or to an order.
    pub(super) fn is_awaiting(&self) -> bool {
        self.awaits_snapshot
            || self.awaits_sign_in
            || self.opening.is_some()
            || self.awaits_session
            || self.answers_awaited > 0
            || matches!(self.membership, RoomMembership::Joining(_) | RoomMembership::Leaving { .. })
    }

    /// True while its requests for lists are refused. A server without a rate has no limit here either.
    pub(super) fn has_spent_answers(&self, rate: Rate, now: Now) -> bool {
        rate.per_second > 0 && self.answers.is_spent(now.monotonic_ms)
    }

    /// Its account as other members see it, if it has signed in.
    pub(super) fn member_account(&self) -> Option<MemberAccount> {
        match &self.standing {
            Standing::SignedIn(Identity { account, is_admin, .. }) => {
                Some(MemberAccount { account: Arc::clone(account), is_admin: *is_admin })
            }
            Standing::Guest | Standing::Listener | Standing::MustSignIn { .. } => None,
        }
    }

    /// The account with which it has signed in.
    pub(super) fn account(&self) -> Option<Arc<str>> {
        match &self.standing {
            Standing::SignedIn(identity) => Some(Arc::clone(&identity.account)),
            Standing::MustSignIn { .. } | Standing::Guest | Standing::Listener => None,
        }
    }

    /// Whether it may moderate.
    pub(super) fn is_admin(&self) -> bool {
        matches!(&self.standing, Standing::SignedIn(Identity { is_admin: true, .. }))
    }

    /// Whether an admin has forbidden it to speak.
    pub(super) fn is_muted(&self, now: Now) -> bool {
        self.mute.holds(now.unix_seconds)
    }

    /// What its account or token allows. `None` where it has not signed in.
    pub(super) fn rights(&self) -> Option<&Rights> {
        match &self.standing {
            Standing::SignedIn(identity) => Some(&identity.rights),
            Standing::MustSignIn { .. } | Standing::Guest | Standing::Listener => None,
        }
    }

    /// Whether it has signed in.
    pub(super) fn is_signed_in(&self) -> bool {
        self.rights().is_some()
    }

    /// Whether it may join a room.
    pub(super) fn may_join(&self, room: &str) -> bool {
        self.rights().is_none_or(|rights| rights.may_join(room))
    }

    /// Whether it may send messages to a room.
    pub(super) fn may_publish_in(&self, room: &str) -> bool {
        self.rights().is_none_or(|rights| rights.may_publish_in(room))
    }

    /// Whether it has signed in with a token.
    pub(super) fn has_token(&self) -> bool {
        self.rights().is_some_and(|rights| rights.expires_at.is_some())
    }

    /// Whether a name looks like the one that its account or token gives.
    pub(super) fn is_own_name(&self, name: &str) -> bool {
        matches!(&self.standing, Standing::SignedIn(own) if name::key(&own.name) == name::key(name))
    }

    /// Whether it may change its name.
    pub(super) fn may_rename(&self) -> bool {
        self.rights().is_none_or(|rights| rights.may_rename)
    }
}

/// Whether a user has signed in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// It must sign in before anything else; the connection is closed at this time.
    MustSignIn { until_ms: u64 },
    /// It has not signed in and need not: it chooses its own name.
    Guest,
    /// It has not signed in, and may only listen.
    Listener,
    /// It has signed in.
    SignedIn(Identity),
}

/// What a user does once the room that it has asked for is open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Opening {
    /// The room's name.
    pub(super) name: Arc<str>,
    /// The position from which it resumes.
    pub(super) after: Option<ResumePoint>,
    /// True where the user has not asked for it, and so is told nothing when it cannot be opened.
    pub(super) is_ordered: bool,
}

/// An order to move a user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct OrderedMove {
    /// It moves only if it is in the room of this name.
    pub(super) from: Option<Arc<str>>,
    /// The name of the room that it enters, which is configured or can be opened.
    pub(super) to: Arc<str>,
}

/// Which room a user is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RoomMembership {
    /// In none: not yet, or not any more.
    None,
    /// The home has been asked, and has not answered yet.
    Joining(RoomIndex),
    /// In this one, at this place of the shard's list of members.
    In { room: RoomIndex, place: u32 },
    /// Still in `from`, whose home was told. Once it has answered, `to`, which is held until then, is asked, or,
    /// without one, the connection is closed.
    Leaving { from: RoomIndex, place: u32, to: Option<RoomIndex>, after: Option<ResumePoint> },
}
