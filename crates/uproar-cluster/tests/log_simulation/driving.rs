//! What the thread around a bridge, and the owner of it, do in a process.

use std::sync::Arc;

use uproar_cluster::{Action, Answer, End, Event, Mirror, Tag};

use crate::process::{Flight, Given};
use crate::world::{Outcome, World};

impl World {
    /// Does what the thread around a bridge does.
    pub(crate) fn drive(&mut self, of: usize) {
        let now_ms = self.now_ms;
        if !self.processes[of].is_up() || self.processes[of].paused_ms > now_ms {
            return;
        }
        self.processes[of].bridge.handle_tick(now_ms);
        self.collect(of);
        let process = &mut self.processes[of];
        process.bridge.set_may_read(process.full_ms <= now_ms, now_ms);
        while self.processes[of].is_up()
            && let Some(action) = self.processes[of].bridge.poll_action(now_ms)
        {
            let at_ms = now_ms + self.latency();
            match action {
                Action::Run(command) => {
                    let line = &mut self.processes[of].line;
                    assert!(line.command.is_none(), "a command while one is under way");
                    line.command = Some(Flight::Going(at_ms, command));
                }
                Action::Read { behind, waits } => {
                    let line = &mut self.processes[of].line;
                    assert!(line.read.is_none(), "a read while one is under way");
                    line.read = Some(Flight::Going(at_ms, (behind, waits)));
                }
                Action::Reconnect { why } => {
                    self.note(|| format!("{of} connects again: {why}"));
                    self.close(of);
                    self.processes[of].bridge.handle_disconnected();
                }
            }
        }
        self.collect(of);
    }

    fn collect(&mut self, of: usize) {
        while let Some(event) = self.processes[of].poll_event(self.now_ms) {
            match event {
                Event::Begun(mirror) => {
                    self.note(|| format!("{} has begun", self.processes[of].name()));
                    self.processes[of].mirror = Some(*mirror);
                }
                Event::Entry { entry, tickets } => {
                    self.processes[of].apply(&entry);
                    if let Some(mirror) = &self.processes[of].mirror {
                        self.record.note_told(&entry, &mirror.epoch);
                    }
                    for (ticket, answer) in tickets.iter().zip(&entry.answers) {
                        if let Some(ticket) = ticket {
                            self.decide(of, *ticket, &entry.tag, answer);
                        }
                    }
                }
                Event::Replicated { through } => self.processes[of].replicated = through,
                Event::Refused(ticket) => self.settle(ticket, Outcome::Refused),
                Event::Damaged { room, entry } => {
                    let state = self.processes[of].mirror.as_ref().and_then(|mirror| mirror.rooms.get(&room));
                    if let Some(state) = state.cloned() {
                        self.give(of, Given::Repair(room, entry, state));
                    }
                }
                Event::Rewrite => {
                    let mirror = self.processes[of].mirror.clone().unwrap_or_default();
                    let Mirror { rooms, left, terms, .. } = mirror;
                    let mut rooms = Vec::from_iter(rooms);
                    rooms.sort_by(|(one, _), (other, _)| one.cmp(other));
                    self.give(of, Given::Rewrite { rooms, left, terms });
                }
                Event::Ended { end, tickets } => self.end(of, end, tickets),
            }
        }
    }

    fn give(&mut self, of: usize, given: Given) {
        // They come in their order.
        let earliest_ms = self.processes[of].given.last().map_or(self.now_ms, |(at_ms, _)| *at_ms);
        let at_ms = earliest_ms.max(self.now_ms + self.between(0, self.owner_ms_max));
        self.processes[of].given.push((at_ms, given));
    }

    fn end(&mut self, of: usize, end: End, tickets: Vec<u64>) {
        self.note(|| format!("{} ends: {end:?}", self.processes[of].name()));
        for ticket in tickets {
            self.settle(ticket, Outcome::Unknown);
        }
        assert!(!matches!(end, End::Refused(_)), "{}: {end:?}", self.processes[of].name());
        let name = self.processes[of].life.node.to_string();
        if matches!(end, End::Fenced | End::OtherLog) {
            let at_ms = self.now_ms + self.between(0, 300);
            self.beginnings.push((at_ms, name));
        }
        self.close(of);
        self.processes[of].end = Some(end);
    }

    fn decide(&mut self, of: usize, ticket: u64, tag: &Tag, answer: &Answer) {
        let process = &mut self.processes[of];
        assert!(process.last_ticket < ticket, "{}: {ticket} is decided late", process.name());
        process.last_ticket = ticket;
        let epoch = process.mirror.as_ref().map(|mirror| Arc::clone(&mirror.epoch)).unwrap_or_default();
        self.settle(ticket, Outcome::Decided { tag: tag.clone(), answer: answer.clone(), epoch });
    }

    fn settle(&mut self, ticket: u64, outcome: Outcome) {
        let place = self.tickets.get_mut(&ticket).unwrap();
        assert_eq!(place.outcome, None, "ticket {ticket} has two outcomes, the second: {outcome:?}");
        place.outcome = Some(outcome);
    }
}
