//! What users of two servers of a cluster tell each other: private messages, who is writing, and that one has come back.

use std::sync::Arc;

use super::Shard;
use super::client_io::ClientIo;
use super::user::User;
use crate::clock::Now;
use crate::dialect::ChatError;
use crate::mail::{Delivery, NodeMail, NodeNotice, PrivateMessage, PrivateTyping};
use crate::metrics::EndReason;
use crate::rooms::{self, ClientRef, NodeLife, RoomRefusal, UserId, Visit, Whereabouts};

/// To how many servers a private message is passed on that follows its receiver.
const HOPS_MAX: u8 = 3;

impl User {
    /// Sends a private message to a user of another server, who has this name there. It is answered once it is in the log, which
    /// the other server reads.
    pub(super) fn write_elsewhere(
        &self,
        private: PrivateMessage,
        node: Arc<NodeLife>,
        receiver_name: Arc<str>,
        io: &mut ClientIo<'_>,
    ) {
        let PrivateMessage { from, from_name, from_account, origin, to, content } = private;
        if content.is_empty() {
            return;
        }
        let sent =
            Delivery::PrivateSent { to: origin, receiver: to, receiver_name, content: Arc::clone(&content) };
        let failed = rooms::Delivery::Refused { to: origin, refusal: RoomRefusal::NotStored };
        let (from, to) = (from.get(), to.get());
        io.context.mail.post(NodeMail {
            to: node,
            room: Arc::clone(&self.room_name),
            notice: NodeNotice::Private { from, from_name, from_account, to, content, hops: 0 },
            origin,
            sent: Some(sent),
            failed: Some(failed.into()),
            awaits: None,
        });
    }

    /// Tells a user of another server that this one is writing to it, or not any more.
    pub(super) fn type_elsewhere(&self, typing: PrivateTyping, node: Arc<NodeLife>, io: &mut ClientIo<'_>) {
        let PrivateTyping { from, from_name, origin, to, is_typing } = typing;
        let (from, to) = (from.get(), to.get());
        let (room, notice) =
            (Arc::clone(&self.room_name), NodeNotice::Typing { from, from_name, to, is_typing });
        io.context.mail.post(NodeMail::unanswered(node, room, notice, origin));
    }

    /// Has the user's earlier connection, on another server, closed. It goes on once that has ended.
    pub(super) fn take_over_elsewhere(
        &self,
        user: UserId,
        node: Arc<NodeLife>,
        visit: Visit,
        io: &mut ClientIo<'_>,
    ) {
        let origin = io.origin();
        io.context.mail.post(NodeMail {
            to: node,
            room: Arc::clone(&self.room_name),
            notice: NodeNotice::TakeOver { user: user.get(), visit: visit.0 },
            origin,
            sent: None,
            failed: Some(Delivery::SessionNotReached { to: origin }),
            awaits: Some((user, visit)),
        });
    }
}

impl Shard {
    /// Takes what another server tells a user of this one. It follows a user that has come back on another shard.
    pub(super) fn take_from_node(&mut self, notice: NodeNotice, now: Now) {
        let Some(user) = notice.user() else { return };
        let found = self.context.directory.users().find(user);
        if let Some(found) = found
            && found.shard != self.context.settings.index
        {
            return self.context.mail.deliver(found.shard, Delivery::FromNode(Box::new(notice)));
        }
        let origin = ClientRef::ELSEWHERE;
        match notice {
            NodeNotice::Private { from, from_name, from_account, to, content, hops } => {
                let private = PrivateMessage {
                    from: UserId::from_stored(from),
                    from_name: Arc::clone(&from_name),
                    from_account: from_account.clone(),
                    origin,
                    to: user,
                    content: Arc::clone(&content),
                };
                if !self.with_welcomed_user(user, now, |user, io| user.receive_private(private, io)) {
                    let hops = hops.saturating_add(1);
                    let notice = NodeNotice::Private { from, from_name, from_account, to, content, hops };
                    self.pass_on(notice, (UserId::from_stored(from), user), hops);
                }
            }
            NodeNotice::Unreached { .. } => {
                self.with_welcomed_user(user, now, |user, io| user.refuse(&ChatError::UserNotFound, io));
            }
            NodeNotice::Typing { from, from_name, is_typing, .. } => {
                let from = UserId::from_stored(from);
                let typing = PrivateTyping { from, from_name, origin, to: user, is_typing };
                self.with_welcomed_user(user, now, |user, io| user.receive_typing(&typing, io));
            }
            // These do not come as mail to a user.
            NodeNotice::Order { .. } | NodeNotice::OrderEnd { .. } => {}
            NodeNotice::TakeOver { visit, .. } => {
                let Some(found) = found else { return };
                self.with_user(found.connection, now, |user, io| {
                    if user.visit == Visit(visit) {
                        io.close(1008, "session resumed elsewhere", EndReason::SessionResumed);
                    }
                });
            }
        }
    }

    /// Passes a private message on to the server where its receiver is by now, or tells its sender that it is nowhere.
    fn pass_on(&mut self, private: NodeNotice, (from, to): (UserId, UserId), hops: u8) {
        let users = self.context.directory.users();
        // All of a sender go through the same log, so they keep their order.
        let room: Arc<str> = from.to_string().into();
        let mail = |node, notice| NodeMail::unanswered(node, room, notice, ClientRef::ELSEWHERE);
        match (users.locate(to), users.locate(from)) {
            (Some(Whereabouts::Elsewhere(node, _)), _) if hops <= HOPS_MAX => {
                self.context.mail.post(mail(node, private));
            }
            (_, Some(Whereabouts::Elsewhere(node, _))) => {
                self.context.mail.post(mail(node, NodeNotice::Unreached { to: from.get() }));
            }
            (_, Some(Whereabouts::Here(to))) => {
                self.context.mail.deliver(to.shard, Delivery::UserNotFound { to });
            }
            (_, None) => {}
        }
    }
}
