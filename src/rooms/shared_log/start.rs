//! A room as the shared log has it when a server starts.

use std::sync::Arc;

use uproar_cluster::{IDS_RAISED, KeptMember, KeptMessage as Kept, RoomState};

use super::log::{remote_member, room_message};
use super::{MemberPayload, member_of};
use crate::rooms::{ClientRef, Epoch, KeptMessage, Member, MessageId, RestoredRoom};

/// By how much message ids go on higher when the epoch of the log changes.
pub(in crate::rooms) const RAISED_BY: u64 = IDS_RAISED;

/// The history of a room.
pub(in crate::rooms) fn restored(epoch: Epoch, state: &RoomState) -> RestoredRoom {
    let kept: Vec<KeptMessage> = state.history.iter().map(kept_message).collect();
    // Ids have gaps only where they went on higher.
    let mut kept_from = state.last + 1;
    for message in kept.iter().rev() {
        if message.id().0 + 1 != kept_from {
            break;
        }
        kept_from = message.id().0;
    }
    RestoredRoom {
        epoch,
        kept,
        last_id: MessageId(state.last),
        kept_from: MessageId(kept_from),
        reserved: MessageId(u64::MAX),
    }
}

/// A message whose content cannot be read is shown as one that was deleted.
fn kept_message(kept: &Kept) -> KeptMessage {
    let Kept::Whole { id, time_ms, user, account, message } = kept else {
        return KeptMessage::Deleted(MessageId(kept.id()));
    };
    let account = (!account.is_empty()).then(|| account.as_str().into());
    match room_message(*id, time_ms / 1_000, *user, account, message) {
        Some(message) => KeptMessage::Whole(Arc::new(message)),
        None => KeptMessage::Deleted(MessageId(*id)),
    }
}

/// A member, which is on another node. `None` for what no node writes.
pub(in crate::rooms) fn kept_member(user: u64, kept: &KeptMember, elsewhere: ClientRef) -> Option<Member> {
    let (user, visit) = member_of(user, kept.visit)?;
    let payload = MemberPayload::decode(&kept.member)?;
    Some(remote_member(user, visit, payload, elsewhere))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rooms::{Content, MessagePayload};

    fn state(ids: &[u64], last: u64) -> RoomState {
        let message = |id: &u64| Kept::Whole {
            id: *id,
            time_ms: 7_999,
            user: 1,
            account: String::new(),
            message: MessagePayload::new(&"Ann".into(), &Content::Text("a".into())).encode(),
        };
        let mut state = RoomState::opened_by(1);
        state.last = last;
        state.history = ids.iter().map(message).collect();
        state
    }

    #[test]
    fn a_history_is_whole_from_where_its_ids_have_no_gap() {
        let kept_from = |ids: &[u64], last| restored(Epoch::random(), &state(ids, last)).kept_from.0;
        assert_eq!(kept_from(&[], 0), 1);
        assert_eq!(kept_from(&[], 5), 6);
        assert_eq!(kept_from(&[4, 5, 6], 6), 4);
        assert_eq!(kept_from(&[4, 5, 70_001, 70_002], 70_002), 70_001);
        assert_eq!(kept_from(&[4, 5], 65_541), 65_542, "the ids have just been raised");
    }

    #[test]
    fn what_cannot_be_read_keeps_its_place() {
        let mut state = state(&[1, 2], 2);
        state.history[0] =
            Kept::Whole { id: 1, time_ms: 0, user: 1, account: String::new(), message: "".into() };
        let kept = restored(Epoch::random(), &state).kept;
        assert_eq!(kept[0], KeptMessage::Deleted(MessageId(1)));
        let message = kept[1].message().unwrap();
        assert_eq!((message.timestamp, message.content.as_str()), (7, "a"));
    }
}
