//! The clients of one thread that leave and rejoin, one step at a time.
//!
//! A client that is due to leave is *leaving* until everything due before has arrived (or the drain has
//! passed), then *away* while it closes, and *returning* until its join is confirmed; see
//! [`crate::measure::presence`] for what it is expected to receive. Nothing here waits: [`Churn::step`] does what
//! has become possible and returns.

use std::collections::BTreeMap;

use uproar_ring::CloseMode;

use crate::clients::client::{Phase, Standing};
use crate::clients::crowd::Crowd;
use crate::measure::counts::ChurnCounts;
use crate::measure::presence::Absence;

/// How long a closing handshake may take.
const CLOSE_NS_MAX: u64 = 3_000_000_000;

/// The leaves and rejoins of one thread.
#[derive(Debug, Default)]
pub struct Churn {
    /// The next leave, of all threads'.
    next: u64,
    leaving: Vec<Leaving>,
    /// Clients that have sent a close and are not closed, with the time of sending.
    closing: Vec<(u32, u64)>,
    absences: Vec<Absence>,
    /// Which of the absences of a client has not ended.
    open: BTreeMap<u32, usize>,
    counts: ChurnCounts,
}

/// A client that waits for what was due before it decided to leave.
#[derive(Debug)]
struct Leaving {
    index: u32,
    /// Deliveries of its presence.
    expected_count: u64,
    deadline_ns: u64,
}

impl Churn {
    /// When the next client leaves, if ever.
    #[must_use]
    pub fn next_due_ns(&self, crowd: &Crowd) -> Option<u64> {
        let churn = crowd.context.plan.churn.as_ref()?;
        Some(churn.due_ns(crowd.start_ns, self.next))
    }

    /// Does what is due at `now_ns`; nobody leaves at `end_ns` or later.
    pub fn step(&mut self, crowd: &mut Crowd, now_ns: u64, end_ns: u64) {
        if crowd.context.plan.churn.is_none() {
            return;
        }
        while let Some(due_ns) = self.next_due_ns(crowd)
            && due_ns <= now_ns
            && due_ns < end_ns
        {
            self.leave(crowd, now_ns);
            self.next += 1;
        }
        self.part(crowd, now_ns);
        self.await_closes(crowd, now_ns);
        for (index, first) in std::mem::take(&mut crowd.rejoined) {
            self.counts.rejoined += 1;
            if let Some(place) = self.open.remove(&index) {
                self.absences[place].until = first;
            }
        }
        crowd.scan_openings(now_ns);
    }

    fn leave(&mut self, crowd: &mut Crowd, now_ns: u64) {
        let plan = &crowd.context.plan;
        let Some(id) = plan.churn.as_ref().map(|churn| churn.client(self.next)) else { return };
        let index = plan.local_index(id);
        // Every thread counts all leaves; whose client it is makes it.
        if crowd.clients.get(index).is_none_or(|client| client.id() != id) {
            return;
        }
        let client = &mut crowd.clients[index];
        if client.phase != Phase::Ready || client.standing != Standing::Present {
            self.counts.skipped += 1;
            return;
        }
        client.standing = Standing::Leaving;
        client.receiver.presence.end(now_ns);
        let room = plan.rooms.of(id);
        self.leaving.push(Leaving {
            index: index as u32,
            expected_count: client.receiver.presence.expected_count(plan, crowd.start_ns, room),
            deadline_ns: now_ns + plan.drain_ns,
        });
        let from = plan.schedule.first_due_from(crowd.start_ns, now_ns);
        self.open.insert(index as u32, self.absences.len());
        let server = plan.server_index(id) as u8;
        self.absences.push(Absence { room, server, from, until: u64::MAX });
        self.counts.left += 1;
    }

    /// Sends a close for each leaving client that has received everything.
    fn part(&mut self, crowd: &mut Crowd, now_ns: u64) {
        let closing = &mut self.closing;
        self.leaving.retain(|leaving| {
            let client = &mut crowd.clients[leaving.index as usize];
            if client.phase != Phase::Ready {
                // The server was faster: it is lost.
                return false;
            }
            let done = client.receiver.presence.heard_count >= leaving.expected_count
                || now_ns >= leaving.deadline_ns;
            if done {
                client.standing = Standing::Away;
                crowd.stop(leaving.index as usize);
                closing.push((leaving.index, now_ns));
            }
            !done
        });
    }

    /// Reopens what is closed, and cuts off what does not close.
    fn await_closes(&mut self, crowd: &mut Crowd, now_ns: u64) {
        self.closing.retain(|&(index, since_ns)| {
            let is_open = crowd.clients[index as usize].phase != Phase::Ended;
            if is_open && now_ns.saturating_sub(since_ns) > CLOSE_NS_MAX {
                let id = crowd.clients[index as usize].id();
                let why = crowd.context.plan.at_server(id, "close not answered within 3 s");
                *crowd.tally.lost.entry(why).or_default() += 1;
                crowd.end(index as usize, CloseMode::Abort, "");
            }
            is_open
        });
        for index in std::mem::take(&mut crowd.closed) {
            if crowd.clients[index as usize].standing == Standing::Away {
                crowd.reopen(index as usize);
            }
        }
    }

    /// How many deliveries of `sequences` the absences so far have made unnecessary.
    #[must_use]
    pub fn spared_count(&self, crowd: &Crowd, sequences: &std::ops::Range<u64>) -> u64 {
        let rooms = crowd.context.plan.rooms;
        let spared = |absence: &Absence| {
            let (from, until) = (absence.from.max(sequences.start), absence.until.min(sequences.end));
            rooms.broadcasts(absence.room, from..until)
        };
        self.absences.iter().map(spared).sum()
    }

    /// Ends the churn. Returns the absences and the counts.
    #[must_use]
    pub fn finish(mut self, crowd: &Crowd) -> (Vec<Absence>, ChurnCounts) {
        let is_under_way = |index: &&u32| {
            let client = &crowd.clients[**index as usize];
            client.standing == Standing::Away || !client.is_lost()
        };
        self.counts.under_way = self.open.keys().filter(is_under_way).count() as u64;
        (self.absences, self.counts)
    }
}
