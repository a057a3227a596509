//! Whether the history that a chat client is shown has all that it must have, in order.

use serde_json::Value;

use super::hear::{content_of, number_of, text_of};
use super::{Chat, Shown};
use crate::record::{Record, Said};
use crate::scenario::Scenario;
use crate::violation::{Checked, ensure};

impl Chat {
    pub(super) fn hear_history(
        &mut self,
        message: &Value,
        record: &mut Record,
        scenario: &Scenario,
    ) -> Checked {
        let content = &message["content"];
        let resumed_after = self.resumed_after.take();
        let complete = message.get("complete").and_then(Value::as_bool);
        if !scenario.is_rate_limited() {
            // Otherwise it is not known which of several requests was dropped.
            ensure!(
                Protocol,
                complete.is_some() == resumed_after.is_some(),
                "complete: {complete:?} after {resumed_after:?}"
            );
        }
        ensure!(OneOrder, self.shown == Shown::Users, "a history that is no part of a snapshot");
        self.shown = Shown::All;
        let kept = content.as_array().map(Vec::as_slice).unwrap_or_default();
        ensure!(EverythingBounded, kept.len() <= scenario.history, "a history of {}", kept.len());
        let mut before = None;
        for message in kept {
            let id = number_of(message, "message_id")?;
            ensure!(
                OneOrder,
                before.is_none_or(|before| record.is_lost_between(&self.room, before, id)),
                "{id} after {before:?} in a history"
            );
            before = Some(id);
            let said = Said {
                from: number_of(message, "from_id")?,
                name: text_of(message, "sender")?,
                content: content_of(message)?,
            };
            record.see_message(&self.room, id, said)?;
        }
        if scenario.has_failing_disk {
            if complete == Some(true)
                && let Some(after) = resumed_after.filter(|_| !scenario.is_rate_limited())
            {
                let wanted = (after + 1..).take(kept.len());
                let ids = kept.iter().filter_map(|message| message["message_id"].as_u64());
                ensure!(OneOrder, ids.eq(wanted), "complete behind {after}: {content}");
            }
            // The last ones that it has heard may have been lost since.
            self.last_id = before.max(self.last_id);
            return Ok(());
        }
        if let Some(complete) = complete {
            let after = resumed_after.filter(|_| !scenario.is_rate_limited());
            return self.check_resumed(kept, after, complete, record, scenario);
        }
        if let Some(last) = before {
            let len = scenario.history.min(last as usize);
            ensure!(OneOrder, kept.len() == len, "{} of {len} messages kept", kept.len());
        }
        let last = before.or((scenario.history > 0).then_some(0));
        if let (Some(last), Some(own)) = (last, self.last_id) {
            ensure!(OneOrder, last == own, "the same room again: at {last} and not at {own}");
        }
        self.last_id = last.or(self.last_id);
        Ok(())
    }

    /// What was kept behind an id, and whether that is all that there was.
    fn check_resumed(
        &mut self,
        kept: &[Value],
        after: Option<u64>,
        complete: bool,
        record: &mut Record,
        scenario: &Scenario,
    ) -> Checked {
        let first = kept.first().and_then(|message| message["message_id"].as_u64());
        let last = kept.last().and_then(|message| message["message_id"].as_u64());
        if let (Some(last), Some(own)) = (last, self.last_id) {
            ensure!(OneOrder, last == own, "the same room again: at {last} and not at {own}");
        }
        let Some(after) = after else {
            self.last_id = last.or(self.last_id);
            return Ok(());
        };
        if let Some(last) = last
            && last < after
        {
            // The room has never given it out, and shows all that it keeps.
            let len = scenario.history.min(last as usize);
            ensure!(
                OneOrder,
                !complete && kept.len() == len,
                "complete: {complete}, {} of {len} up to {last}, behind {after}",
                kept.len()
            );
            self.last_id = Some(last);
            return Ok(());
        }
        if let (Some(first), Some(last)) = (first, last) {
            ensure!(OneOrder, first > after, "{first} was asked to be behind {after}");
            let behind = (last - after) as usize;
            let len = behind.min(scenario.history);
            ensure!(
                OneOrder,
                kept.len() == len,
                "{} of {len} messages behind {after} up to {last}",
                kept.len()
            );
            ensure!(
                OneOrder,
                complete == (behind == len),
                "complete: {complete}, {len} of {behind} are kept"
            );
        } else if let Some(own) = self.last_id {
            // Nothing behind it, nothing kept, or an id that the room has never given out.
            ensure!(OneOrder, complete == (after == own), "complete: {complete} behind {after} at {own}");
        }
        if complete {
            // So the room has given it out, even if nobody who heard it is left.
            record.see_id(&self.room, after);
        }
        self.last_id = last.or(complete.then_some(after)).or(self.last_id);
        Ok(())
    }

    /// One's own messages that were lost are not heard, and newcomers are not shown those of others.
    pub(super) fn follow(&mut self, id: u64, record: &Record) -> Checked {
        if let Some(last) = self.last_id {
            let is_next = record.is_lost_between(&self.room, last, id);
            ensure!(OneOrder, is_next, "message {id} of {} after {last}", self.room);
        }
        self.last_id = Some(id);
        Ok(())
    }
}
