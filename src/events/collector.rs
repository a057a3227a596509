//! The way of events from shards to the log.

use std::iter;
use std::sync::Arc;
use std::sync::atomic::{
    AtomicU64,
    Ordering::{AcqRel, Acquire},
};
use std::time::{Duration, Instant};

use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::task::JoinSet;

use super::connection::ConnectionPhase;
use super::ended::EndedConnections;
use super::event::Event;
use super::log::EventLog;
use crate::rooms::Instance;

/// The most events of a shard that wait for the collector: those of 5 ms at three million a second, which is
/// more than a shard makes. Messages in it are those that rooms keep.
pub const EVENTS_WAITING_MAX: usize = 16_384;

/// How long the collector rests behind each look into a queue. So a busy shard wakes it 200 times a second at most.
const REST: Duration = Duration::from_millis(5);

/// The log of a node, with a sender for each shard, and the collector that connects them.
#[must_use]
pub fn open(instance: Instance, shards: u16) -> (EventLog, Vec<EventSender>, EventCollector) {
    let log = EventLog::new(instance);
    let (senders, sources) = (0..shards).map(|_| queue(EVENTS_WAITING_MAX, log.ended().clone())).unzip();
    (log.clone(), senders, EventCollector { log, sources })
}

fn queue(events_max: usize, ended: EndedConnections) -> (EventSender, EventSource) {
    let (queue, events) = channel(events_max);
    let lost = Arc::<LostEvents>::default();
    (EventSender { queue, lost: Arc::clone(&lost), ended }, EventSource { events, lost })
}

/// A shard's place to put events. It has no clones: the events of a shard are in one order, and what is lost has its place
/// in it.
#[derive(Debug)]
pub struct EventSender {
    queue: Sender<Event>,
    lost: Arc<LostEvents>,
    ended: EndedConnections,
}

impl EventSender {
    /// Puts an event into the queue, or counts it as lost and returns false. It never waits for room. A connection that has
    /// ended is kept among [those](EndedConnections) in any case.
    pub fn send(&self, event: Event) -> bool {
        if let Event::Connection { phase: ConnectionPhase::End, connection, .. } = &event {
            self.ended.insert(Arc::clone(connection), Instant::now());
        }
        // Nobody else takes room, so what is there now is there below.
        if self.lost.is_any() {
            if self.queue.capacity() < 2 {
                self.lost.add();
                return false;
            }
            if let Some(lost) = self.lost.take() {
                let _ = self.queue.try_send(Event::Gap { lost: Some(lost) });
            }
        }
        let is_full = matches!(self.queue.try_send(event), Err(TrySendError::Full(_)));
        if is_full {
            self.lost.add();
        }
        !is_full
    }
}

/// How many events a queue has not taken behind the last one that it has taken.
///
/// The shard puts a gap into the queue ahead of the next event. Where none comes, the collector takes what was lost, once it
/// has taken everything ahead of that. It knows that by the number of the gap, which changes with each one that is taken: in
/// the upper half, above how many are lost.
#[derive(Debug, Default)]
struct LostEvents(AtomicU64);

/// What was lost at one moment.
#[derive(Clone, Copy, Debug)]
struct Seen(u64);

impl LostEvents {
    fn is_any(&self) -> bool {
        self.seen().is_some()
    }

    fn add(&self) {
        self.0.fetch_add(1, AcqRel);
    }

    /// What is lost now, if anything is. Everything that was sent ahead of it is in the queue for whoever has seen it.
    fn seen(&self) -> Option<Seen> {
        Some(Seen(self.0.load(Acquire))).filter(|seen| seen.count() > 0)
    }

    /// Takes what is lost, for a gap here.
    fn take(&self) -> Option<u64> {
        loop {
            let seen = self.seen()?;
            if let Some(lost) = self.take_seen(seen) {
                return Some(lost);
            }
        }
    }

    /// Takes what was seen, unless more was lost or it was taken since. So nothing was sent since, either.
    fn take_seen(&self, seen: Seen) -> Option<u64> {
        let next = (seen.0 - seen.count()).wrapping_add(1 << 32);
        self.0.compare_exchange(seen.0, next, AcqRel, Acquire).ok().map(|_| seen.count())
    }
}

impl Seen {
    fn count(self) -> u64 {
        self.0 & u64::from(u32::MAX)
    }
}

#[derive(Debug)]
struct EventSource {
    events: Receiver<Event>,
    lost: Arc<LostEvents>,
}

/// Carries the events of all shards to the log.
#[derive(Debug)]
pub struct EventCollector {
    log: EventLog,
    sources: Vec<EventSource>,
}

impl EventCollector {
    /// Runs until every shard has dropped its sender. Then the log is closed. Within a runtime of tokio with timers.
    pub async fn run(self) {
        let Self { log, sources } = self;
        // Readers are told of the end also where this is given up.
        let _closing = ClosedInTheEnd(log.clone());
        let mut collecting = JoinSet::new();
        for source in sources {
            collecting.spawn(source.run(log.clone()));
        }
        while collecting.join_next().await.is_some() {}
    }
}

/// A log that is closed when this is dropped.
struct ClosedInTheEnd(EventLog);

impl Drop for ClosedInTheEnd {
    fn drop(&mut self) {
        self.0.close();
    }
}

impl EventSource {
    async fn run(mut self, log: EventLog) {
        let mut batch = Vec::new();
        while self.events.recv_many(&mut batch, EVENTS_WAITING_MAX).await > 0 {
            self.follow_with_gap(&mut batch);
            log.append(batch.drain(..));
            tokio::time::sleep(REST).await;
        }
    }

    /// Adds what was lost behind a batch, if anything was, and what was sent ahead of the loss.
    fn follow_with_gap(&mut self, batch: &mut Vec<Event>) {
        let Some(seen) = self.lost.seen() else { return };
        // No more than the queue holds.
        batch.extend(iter::from_fn(|| self.events.try_recv().ok()).take(EVENTS_WAITING_MAX));
        let lost = self.lost.take_seen(seen);
        batch.extend(lost.map(|lost| Event::Gap { lost: Some(lost) }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::{EventFilter, EventKind, ModerationEvent};

    #[tokio::test]
    async fn what_does_not_fit_into_a_queue_is_a_gap() {
        let (log, senders, collector) = open(Instance::random(), 2);
        let mut reader =
            log.reader(EventFilter { kinds: Some(vec![EventKind::Gap]), ..EventFilter::default() });
        for number in 0..EVENTS_WAITING_MAX + 3 {
            let is_taken = senders[0].send(Event::Moderation(ModerationEvent::default()));
            assert_eq!(is_taken, number < EVENTS_WAITING_MAX);
        }
        drop(senders);
        collector.run().await;
        // The reader has fallen behind the log, too.
        let kept = super::super::EVENTS_KEPT as u64;
        let all = EVENTS_WAITING_MAX as u64 + 1;
        let behind = reader.next().await.unwrap();
        assert!(matches!(behind.event, Event::Gap { lost: Some(lost) } if lost == all - kept), "{behind:?}");
        let full = reader.next().await.unwrap();
        assert!(matches!(full.event, Event::Gap { lost: Some(3) }), "{full:?}");
        assert!(reader.next().await.is_none());
    }
    /// Goal: whatever the collector takes while a shard sends and loses, each event that is read has exactly as many ahead
    /// of it, read or lost, as were sent.
    #[test]
    fn a_gap_stands_where_its_events_were_lost() {
        const SENT: u64 = 300_000;
        let (sender, mut source) = queue(8, EndedConnections::default());
        let sending = std::thread::spawn(move || {
            let sent = (0..SENT).filter(|at| {
                sender.send(Event::Moderation(ModerationEvent { at: *at, ..ModerationEvent::default() }))
            });
            sent.count() as u64
        });
        let (mut ahead, mut lost_in_all, mut batch) = (0, 0, Vec::new());
        while source.events.blocking_recv_many(&mut batch, EVENTS_WAITING_MAX) > 0 {
            // The sender may go on between the two.
            std::thread::yield_now();
            source.follow_with_gap(&mut batch);
            for event in batch.drain(..) {
                match event {
                    Event::Moderation(event) => {
                        assert_eq!(event.at, ahead);
                        ahead += 1;
                    }
                    Event::Gap { lost: Some(lost) } => {
                        ahead += lost;
                        lost_in_all += lost;
                    }
                    other => panic!("{other:?} was not sent"),
                }
            }
        }
        assert_eq!(ahead, SENT, "what was lost behind the last event is told, too");
        assert_eq!(sending.join().unwrap() + lost_in_all, SENT);
        assert!(lost_in_all > 0, "the queue was never full");
    }

    #[test]
    fn a_gap_stands_behind_what_has_filled_the_queue_meanwhile() {
        let (sender, mut source) = queue(2, EndedConnections::default());
        let send = |at| sender.send(Event::Moderation(ModerationEvent { at, ..ModerationEvent::default() }));
        let mut batch = Vec::new();
        assert!(send(0) && send(1));
        assert_eq!(source.events.blocking_recv_many(&mut batch, EVENTS_WAITING_MAX), 2);
        // The collector has not looked for a loss yet.
        assert!(send(2) && send(3) && !send(4));
        source.follow_with_gap(&mut batch);
        assert_eq!(batch.len(), 5);
        assert!(matches!(batch[4], Event::Gap { lost: Some(1) }), "{batch:?}");
        // Nothing is told twice.
        assert!(send(5) && send(6) && !send(7));
        batch.clear();
        assert_eq!(source.events.blocking_recv_many(&mut batch, EVENTS_WAITING_MAX), 2);
        assert!(send(8), "there is room for a gap ahead of it");
        source.follow_with_gap(&mut batch);
        source.events.blocking_recv_many(&mut batch, EVENTS_WAITING_MAX);
        assert!(matches!(batch[..], [_, _, Event::Gap { lost: Some(1) }, Event::Moderation(_)]), "{batch:?}");
    }
}
