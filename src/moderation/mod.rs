//! Moderation: what admins can order, and the bans and mutes that are in force.
//!
//! [`Moderation`] is shared by all threads, behind a lock. It is looked at when a client is upgraded, welcomed or signs in,
//! and by admins' orders. A message looks only at its own user. `terms` has the rules, without a lock or a clock.
//!
//! A ban is of an account, or else of an address. A mute is of an account; or else of a session, and of the clients that
//! come later from its address without signing in.

mod bans;
mod change;
mod order;
mod register;
mod subject;
mod terms;

pub use bans::{Ban, BanId};
pub use change::{MuteTerm, TermsChange};
pub use order::{Admin, ModerationAction, ModerationNotice, NewBan, OrderRefusal};
pub use register::{BansPage, LISTED_MAX, ModeratedUser, Moderation, Mute, Muted, StoredTerms, TERMS_MAX};
pub use subject::{BanSubject, MuteSubject};
