//! Who may delete a message.

use std::sync::Arc;

use super::{MessageId, RoomMessage, UserId};

/// The wish to delete a message, and who has it.
#[expect(missing_docs, reason = "the fields are what their names and types say")]
#[derive(Clone, Debug)]
pub struct Deletion {
    pub message: MessageId,
    pub user: UserId,
    pub name: Arc<str>,
    pub account: Option<Arc<str>>,
    pub is_admin: bool,
}

impl Deletion {
    /// True for one's own messages: those of the same user or account, and for an admin of anyone.
    pub(super) fn is_permitted(&self, message: &RoomMessage) -> bool {
        self.is_admin || self.is_own(message)
    }

    /// True when the message is from the same user or account.
    pub(super) fn is_own(&self, message: &RoomMessage) -> bool {
        message.from == self.user || self.account.is_some() && message.from_account == self.account
    }

    /// Its author as lists of bans name admins: `account:boss`, `user:7` or `key:shop`. The name of a backend is that of its
    /// key.
    pub(super) fn author_label(&self) -> Arc<str> {
        match (&self.account, self.user) {
            (Some(account), _) => format!("account:{account}").into(),
            (None, UserId::SYSTEM) => format!("key:{}", self.name).into(),
            (None, user) => format!("user:{user}").into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rooms::Content;

    #[test]
    fn ones_own_messages_are_those_of_the_same_user_or_account() {
        let deletion = |user, account: Option<&str>, is_admin| Deletion {
            message: MessageId(1),
            user: UserId::from_wire(user).unwrap(),
            name: "a".into(),
            account: account.map(Into::into),
            is_admin,
        };
        let message = |account: Option<&str>| RoomMessage {
            id: MessageId(1),
            from: UserId::from_wire(1).unwrap(),
            from_name: "a".into(),
            from_account: account.map(Into::into),
            content: Content::Text("a".into()),
            timestamp: 9,
        };
        assert!(deletion(1, None, false).is_permitted(&message(None)));
        assert!(
            deletion(1, None, false).is_permitted(&message(Some("ann"))),
            "said before it lost the account"
        );
        assert!(deletion(2, Some("ann"), false).is_permitted(&message(Some("ann"))), "from another device");
        assert!(!deletion(2, None, false).is_permitted(&message(None)), "two guests are two people");
        assert!(!deletion(2, Some("ben"), false).is_permitted(&message(Some("ann"))));
        assert!(!deletion(2, Some("ben"), false).is_permitted(&message(None)));
        assert!(deletion(2, Some("boss"), true).is_permitted(&message(Some("ann"))));
        assert!(!deletion(2, Some("boss"), true).is_own(&message(Some("ann"))));
    }
}
