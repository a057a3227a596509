//! What users of two servers of a cluster tell each other: private messages, who is writing, and that one has come back.

use std::sync::Arc;

use super::Shard;
use super::client_io::ClientIo;
use super::user::User;
use crate::clock::Now;
use crate::mail::{Delivery, NodeMail, NodeNotice, PrivateMessage, PrivateTyping};
use crate::metrics::EndReason;
use crate::rooms::{self, ClientRef, NodeLife, RoomRefusal, UserId, Visit};

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
            notice: NodeNotice::Private { from, from_name, from_account, to, content },
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
        io.context.mail.post(NodeMail {
            to: node,
            room: Arc::clone(&self.room_name),
            notice: NodeNotice::Typing { from, from_name, to, is_typing },
            origin,
            sent: None,
            failed: None,
            awaits: None,
        });
    }

    /// Has the user's earlier connection, on another server, closed. It goes on once the user has left there.
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
            // It is a new user then.
            failed: Some(Delivery::SessionEnded { to: origin }),
            awaits: Some(user),
        });
    }
}

impl Shard {
    /// Takes what another server tells a user of this one. It follows a user that has come back on another shard.
    pub(super) fn take_from_node(&mut self, notice: NodeNotice, now: Now) {
        let Some(user) = notice.user() else { return };
        let Some(found) = self.context.directory.users().find(user) else { return };
        if found.shard != self.context.settings.index {
            return self.context.mail.deliver(found.shard, Delivery::FromNode(Box::new(notice)));
        }
        match notice {
            NodeNotice::Private { from, from_name, from_account, content, .. } => {
                let (from, origin) = (UserId::from_stored(from), ClientRef::ELSEWHERE);
                let private = PrivateMessage { from, from_name, from_account, origin, to: user, content };
                self.with_welcomed_user(user, now, |user, io| user.receive_private(private, io));
            }
            NodeNotice::Typing { from, from_name, is_typing, .. } => {
                let (from, origin) = (UserId::from_stored(from), ClientRef::ELSEWHERE);
                let typing = PrivateTyping { from, from_name, origin, to: user, is_typing };
                self.with_welcomed_user(user, now, |user, io| user.receive_typing(&typing, io));
            }
            // These do not come as mail to a user.
            NodeNotice::Order { .. } | NodeNotice::OrderEnd { .. } => {}
            NodeNotice::TakeOver { visit, .. } => {
                self.with_user(found.connection, now, |user, io| {
                    if user.visit == Visit(visit) {
                        io.close(1008, "session resumed elsewhere", EndReason::SessionResumed);
                    }
                });
            }
        }
    }
}
