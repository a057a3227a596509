//! Whether the history that a chat client is shown has all that it must have, in order.

use serde_json::Value;

use super::hear::{content_of, number_of, text_of};
use super::{Chat, Ordered, Shown};
use crate::record::{Record, Said};
use crate::scenario::{ON_DEMAND, Scenario};
use crate::violation::{Checked, ensure, violated};

impl Chat {
    pub(super) fn hear_history(
        &mut self,
        message: &Value,
        record: &mut Record,
        scenario: &Scenario,
    ) -> Checked {
        let content = &message["content"];
        let resumed_after = self.resumed_after.take();
        let epoch = text_of(message, "epoch")?;
        let is_of_other_life =
            self.resumed_epoch.take().is_some_and(|resumed| resumed != epoch) && !scenario.is_rate_limited();
        let life = match self.room.starts_with(ON_DEMAND) {
            true => format!("{}@{epoch}", self.room),
            false => self.room.clone(),
        };
        ensure!(OneOrder, self.last_id.is_none() || life == self.life, "{life} follows {}", self.life);
        self.life = life;
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
        let ids = self.see_rows(kept, record, scenario)?;
        let before = ids.last().copied();
        if is_of_other_life {
            ensure!(OneOrder, complete == Some(false), "complete: {complete:?} in another life");
            self.check_window(&ids, 0, record, scenario)?;
            self.last_id = before.max(self.last_id);
            return Ok(());
        }
        if !scenario.is_rate_limited() {
            self.check_deleted(message, resumed_after, &ids, record, scenario)?;
        }
        if scenario.has_failing_disk {
            if complete == Some(true)
                && let Some(after) = resumed_after.filter(|_| !scenario.is_rate_limited())
            {
                let is_whole = ids.last().is_none_or(|last| {
                    (after + 1..=*last).all(|id| ids.contains(&id) || record.deletions.contains(&id))
                });
                ensure!(OneOrder, is_whole, "complete behind {after}: {content}");
            }
            // The last ones that it has heard may have been lost since.
            self.last_id = before.max(self.last_id);
            return Ok(());
        }
        if let Some(complete) = complete {
            let after = resumed_after.filter(|_| !scenario.is_rate_limited());
            return self.check_resumed(&ids, after, complete, record, scenario);
        }
        self.check_window(&ids, 0, record, scenario)?;
        let last = before.or((scenario.history > 0 && record.deletions.is_empty()).then_some(0));
        self.check_end(last, record)?;
        self.last_id = last.max(self.last_id);
        Ok(())
    }

    /// A history ends with the last message that it has heard, or with the last of those that were not deleted.
    fn check_end(&self, last: Option<u64>, record: &Record) -> Checked {
        if let (Some(last), Some(own)) = (last, self.last_id) {
            ensure!(
                OneOrder,
                last == own || record.is_gone_between(&self.room, last, own + 1),
                "the same room again: at {last} and not at {own}"
            );
        }
        Ok(())
    }

    /// The rows of a history, in order, each as everyone knows it, and none that it was told is deleted.
    fn see_rows(&self, rows: &[Value], record: &mut Record, scenario: &Scenario) -> Checked<Vec<u64>> {
        let mut ids: Vec<u64> = Vec::new();
        for row in rows {
            let id = number_of(row, "message_id")?;
            ensure!(
                OneOrder,
                ids.last().is_none_or(|&before| record.is_gone_between(&self.room, before, id)),
                "{id} after {ids:?} in a history"
            );
            ensure!(
                OneOrder,
                scenario.has_failing_disk || !self.deleted.contains(&(self.life.clone(), id)),
                "{id} was deleted and is in a history"
            );
            ids.push(id);
            let said = Said {
                from: number_of(row, "from_id")?,
                name: text_of(row, "sender")?,
                content: content_of(row)?,
            };
            record.see_message(&self.life, id, said)?;
        }
        Ok(ids)
    }

    /// How far the room may have come behind a message: what follows may have been deleted.
    fn furthest(last: u64, record: &Record) -> u64 {
        (last + 1..).find(|id| !record.deletions.contains(id)).unwrap_or(last) - 1
    }

    /// What is kept behind an id is all that is not too old and was not deleted.
    fn check_window(&self, ids: &[u64], after: u64, record: &Record, scenario: &Scenario) -> Checked {
        let Some(&last) = ids.last() else { return Ok(()) };
        let begin = |last: u64| after.max(last.saturating_sub(scenario.history as u64));
        ensure!(OneOrder, ids[0] > begin(last), "{} is kept behind {after} up to {last}", ids[0]);
        for id in (begin(last) + 1..last).filter(|id| !ids.contains(id)) {
            let is_excused = record.deletions.contains(&id) || id <= begin(Self::furthest(last, record));
            ensure!(OneOrder, is_excused, "{id} is missing behind {after} in {ids:?}");
        }
        Ok(())
    }

    /// Who comes back is told what was deleted of what it has.
    fn check_deleted(
        &self,
        message: &Value,
        resumed_after: Option<u64>,
        ids: &[u64],
        record: &Record,
        scenario: &Scenario,
    ) -> Checked {
        let deleted = message.get("deleted").and_then(Value::as_array);
        ensure!(Protocol, deleted.is_some() == resumed_after.is_some(), "deleted: {deleted:?}");
        let (Some(deleted), Some(after)) = (deleted, resumed_after) else { return Ok(()) };
        let deleted: Vec<u64> = deleted.iter().filter_map(Value::as_u64).collect();
        ensure!(Protocol, deleted.is_sorted_by(|a, b| a < b), "deleted out of order: {deleted:?}");
        for id in &deleted {
            let is_meant = *id <= after && record.deletions.contains(id) && !ids.contains(id);
            ensure!(OneOrder, is_meant, "{id} was deleted, of {ids:?} behind {after}");
        }
        if let Some(&last) = ids.last()
            && !scenario.has_failing_disk
        {
            let furthest = Self::furthest(last, record);
            let kept_from = (furthest + 1).saturating_sub(scenario.history as u64);
            for (room, id) in &self.deleted {
                let is_due = *room == self.life && (kept_from..=after).contains(id);
                ensure!(OneOrder, !is_due || deleted.contains(id), "{id} is not among {deleted:?}");
            }
        }
        Ok(())
    }

    /// A part of the history that was asked for.
    pub(super) fn hear_page(&mut self, message: &Value, record: &mut Record, scenario: &Scenario) -> Checked {
        ensure!(OneOrder, self.shown == Shown::All, "a page of a room before its history");
        let rows = message["content"].as_array().map(Vec::as_slice).unwrap_or_default();
        let ids = self.see_rows(rows, record, scenario)?;
        self.skip_ordered(|answer| match answer {
            Ordered::Page { before, limit } => {
                ids.len() <= *limit && before.is_none_or(|before| ids.iter().all(|id| *id < before))
            }
            _ => false,
        })?;
        let Some(Ordered::Page { before, limit }) = self.ordered.pop_front() else {
            violated!(Protocol, "a page for nothing")
        };
        if scenario.has_failing_disk || scenario.is_rate_limited() {
            return Ok(());
        }
        let has_more = message["more"] == true;
        ensure!(Protocol, !has_more || ids.len() == limit, "{} of {limit}, and more", ids.len());
        if before.is_none() {
            self.check_end(ids.last().copied(), record)?;
        }
        let after = if has_more { ids.first().map_or(0, |first| first - 1) } else { 0 };
        if before.is_none() {
            self.check_window(&ids, after, record, scenario)?;
        }
        Ok(())
    }

    /// A message was deleted: by its author, as nobody here is an admin.
    pub(super) fn hear_deletion(&mut self, message: &Value, record: &Record, scenario: &Scenario) -> Checked {
        let content = &message["content"];
        let (id, by) = (number_of(content, "message_id")?, number_of(content, "deleted_by")?);
        ensure!(OneOrder, self.shown == Shown::All, "a deletion in a room before its history");
        ensure!(Protocol, message["from_id"] == by, "deleted by {by}: {message}");
        ensure!(Protocol, record.deletions.contains(&id), "nobody has asked to delete {id}");
        let author = record.author_of(&self.life, id);
        ensure!(Protocol, author.is_none_or(|author| author == by), "{id} is by {author:?}, and not by {by}");
        let is_new = self.deleted.insert((self.life.clone(), id));
        ensure!(OneOrder, is_new || scenario.has_failing_disk, "{id} of {} was deleted twice", self.room);
        if Some(by) != self.user {
            return Ok(());
        }
        ensure!(
            DurableBeforeAcknowledged,
            !scenario.is_durable || record.durably_deleted.contains(&(self.room.clone(), id)),
            "the deletion of {id} in {} was acknowledged",
            self.room
        );
        self.end_deletion(Some(id))
    }

    /// A deletion has its answer.
    pub(super) fn end_deletion(&mut self, id: Option<u64>) -> Checked {
        let is_asked = id.is_none_or(|id| self.deletes_asked.contains(&id));
        ensure!(Protocol, is_asked && self.deletes_open > 0, "{id:?} is answered, which was not asked for");
        self.deletes_open -= 1;
        Ok(())
    }

    /// What was kept behind an id, and whether that is all that there was.
    fn check_resumed(
        &mut self,
        ids: &[u64],
        after: Option<u64>,
        complete: bool,
        record: &mut Record,
        scenario: &Scenario,
    ) -> Checked {
        let (first, last) = (ids.first().copied(), ids.last().copied());
        let Some(after) = after else {
            self.last_id = last.max(self.last_id);
            return Ok(());
        };
        if let (Some(first), Some(last)) = (first, last) {
            self.check_end(Some(last), record)?;
            if first <= after {
                // The room has never given it out, and shows all that it keeps.
                ensure!(OneOrder, !complete && last < after, "complete: {complete}, {ids:?} behind {after}");
                self.check_window(ids, 0, record, scenario)?;
                self.last_id = Some(last).max(self.last_id);
                return Ok(());
            }
            self.check_window(ids, after, record, scenario)?;
            // Up to here, or up to the last of those that were deleted.
            let is_whole = |last: u64| last - after <= scenario.history as u64;
            let furthest = Self::furthest(last, record);
            ensure!(
                OneOrder,
                complete && is_whole(last) || !complete && !is_whole(furthest),
                "complete: {complete}, {ids:?} of {after} to {last} are kept, at most up to {furthest}"
            );
        } else if let Some(own) = self.last_id {
            // Nothing behind it, nothing kept, or an id that the room has never given out.
            let is_at_end =
                after == own || record.is_gone_between(&self.room, after.min(own), after.max(own) + 1);
            ensure!(OneOrder, !complete || is_at_end, "complete behind {after} at {own}");
            ensure!(OneOrder, complete || after != own, "not complete behind {after} at {own}");
        }
        if complete {
            // So the room has given it out, even if nobody who heard it is left.
            record.see_id(&self.life, after);
        }
        self.last_id = last.or(complete.then_some(after)).max(self.last_id);
        Ok(())
    }

    /// One's own messages that were lost are not heard, and newcomers are not shown those of others.
    pub(super) fn follow(&mut self, id: u64, record: &Record) -> Checked {
        if let Some(last) = self.last_id {
            let is_next = record.is_gone_between(&self.room, last, id);
            ensure!(OneOrder, is_next, "message {id} of {} after {last}", self.room);
        }
        self.last_id = Some(id);
        Ok(())
    }
}
