//! Reading the log: a cursor, and what it leaves out.

use std::collections::HashSet;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::watch;

use super::event::{Event, EventKind};
use super::log::{EventId, EventLog, LoggedEvent, Tail};

/// What a reader gets. Gaps always pass.
#[derive(Clone, Debug, Default)]
pub struct EventFilter {
    /// Only events about these rooms; `None` for events of all rooms and of none.
    pub rooms: Option<HashSet<String>>,
    /// Only these kinds; `None` for all.
    pub kinds: Option<Vec<EventKind>>,
}

impl EventFilter {
    fn passes(&self, event: &Event) -> bool {
        let kind = event.kind();
        let is_wanted_kind = self.kinds.as_ref().is_none_or(|kinds| kinds.contains(&kind));
        let is_in_rooms = || {
            let Some(rooms) = &self.rooms else { return true };
            event.room().is_some_and(|room| rooms.contains(room))
        };
        kind == EventKind::Gap || is_wanted_kind && is_in_rooms()
    }
}

/// Reads the log from one place on, at the reader's own pace, on any runtime.
///
/// ```no_run
/// # async fn watch(log: uproar::events::EventLog) {
/// use uproar::events::EventFilter;
///
/// let mut reader = log.reader(EventFilter::default());
/// while let Some(logged) = reader.next().await {
///     println!("{} {}", logged.id, logged.event.kind().as_str());
/// }
/// # }
/// ```
#[derive(Debug)]
pub struct EventReader {
    log: EventLog,
    filter: EventFilter,
    /// The number of the last event that it has passed.
    passed: u64,
    /// True when it is to be told first that it may have missed any number of events.
    has_lost_place: bool,
    tail: watch::Receiver<Tail>,
}

impl EventLog {
    /// A reader of what happens from now on.
    #[must_use]
    pub fn reader(&self, filter: EventFilter) -> EventReader {
        let tail = self.watch_tail();
        let passed = self.lock().last();
        EventReader { log: self.clone(), filter, passed, has_lost_place: false, tail }
    }

    /// A reader that goes on behind this event. What is no longer kept is a gap. For an event of another life of the server,
    /// or `None` for an id that is none, the gap has no length, and all that is kept follows.
    #[must_use]
    pub fn reader_behind(&self, last: Option<EventId>, filter: EventFilter) -> EventReader {
        let mut reader = self.reader(filter);
        let known = last.filter(|id| id.instance == self.instance() && id.number <= reader.passed);
        reader.has_lost_place = known.is_none();
        reader.passed = known.map_or_else(|| self.lock().forgotten(), |id| id.number);
        reader
    }
}

impl EventReader {
    /// The next event, when there is one; `None` when the server has ended and all events were read.
    ///
    /// Nothing is lost when the future is dropped.
    pub async fn next(&mut self) -> Option<Arc<LoggedEvent>> {
        loop {
            // Ahead of the look into the log: whatever is appended behind that is a change.
            let is_closed = self.tail.borrow_and_update().is_closed;
            if let Some(logged) = self.try_next() {
                return Some(logged);
            }
            if is_closed || self.tail.changed().await.is_err() {
                return None;
            }
        }
    }

    /// The next event, if there is one now.
    pub fn try_next(&mut self) -> Option<Arc<LoggedEvent>> {
        let kept = self.log.lock();
        let forgotten = kept.forgotten();
        if self.has_lost_place || self.passed < forgotten {
            let lost = (!self.has_lost_place).then(|| forgotten - self.passed);
            self.has_lost_place = false;
            self.passed = forgotten.max(self.passed);
            drop(kept);
            return Some(Arc::new(LoggedEvent::new(self.id(self.passed), Event::Gap { lost })));
        }
        let found = kept.behind(self.passed).find(|logged| self.filter.passes(&logged.event)).cloned();
        self.passed = found.as_ref().map_or(kept.last(), |logged| logged.id.number);
        found
    }

    /// An event of this reader as `encode` makes it, which is kept with the event for all readers. They must encode alike.
    pub(crate) fn encoded(&self, logged: &LoggedEvent, encode: impl FnOnce(&LoggedEvent) -> Bytes) -> Bytes {
        self.log.encoded(logged, encode)
    }

    /// The id of the last event that it has passed, also where the filter has left that out: a reader that comes back with it
    /// misses nothing.
    #[must_use]
    pub fn position(&self) -> EventId {
        self.id(self.passed)
    }

    fn id(&self, number: u64) -> EventId {
        EventId { instance: self.log.instance(), number }
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future as _;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use super::*;
    use crate::events::{EVENTS_KEPT, ModerationEvent};
    use crate::rooms::Instance;

    fn event(action: &'static str) -> Event {
        Event::Moderation(ModerationEvent { action, ..ModerationEvent::default() })
    }

    /// What the reader has next: `None` while it waits.
    fn poll(reader: &mut EventReader) -> Option<Option<Arc<LoggedEvent>>> {
        match pin!(reader.next()).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(next) => Some(next),
            Poll::Pending => None,
        }
    }

    fn next(reader: &mut EventReader) -> Arc<LoggedEvent> {
        poll(reader).flatten().expect("an event")
    }

    #[test]
    fn a_reader_gets_what_comes_after_it_and_ends_with_the_log() {
        let log = EventLog::new(Instance::random());
        log.append([event("kick")]);
        let mut reader = log.reader(EventFilter::default());
        assert!(poll(&mut reader).is_none());
        log.append([event("ban"), event("mute")]);
        assert_eq!([next(&mut reader).id.number, next(&mut reader).id.number], [2, 3]);
        assert!(poll(&mut reader).is_none());
        log.append([event("ban")]);
        log.close();
        assert_eq!(next(&mut reader).id.number, 4);
        assert!(matches!(poll(&mut reader), Some(None)));
    }

    #[test]
    fn a_reader_that_falls_behind_gets_a_gap_of_what_is_gone() {
        let log = EventLog::new(Instance::random());
        let mut reader = log.reader(EventFilter::default());
        log.append((0..EVENTS_KEPT + 5).map(|_| event("kick")));
        let gap = next(&mut reader);
        assert!(matches!(gap.event, Event::Gap { lost: Some(5) }), "{gap:?}");
        assert_eq!((gap.id.number, reader.position()), (5, gap.id));
        assert_eq!(next(&mut reader).id.number, 6);
    }

    #[test]
    fn a_reader_goes_on_behind_its_last_event_or_is_told_of_a_gap() {
        let log = EventLog::new(Instance::random());
        log.append((0..3).map(|_| event("kick")));
        let id = |number| EventId { instance: log.instance(), number };
        let behind = |last| log.reader_behind(last, EventFilter::default());
        assert_eq!(next(&mut behind(Some(id(1)))).id.number, 2);
        assert!(poll(&mut behind(Some(id(3)))).is_none());
        let foreign = EventId { instance: "00000000".parse().unwrap(), number: 2 };
        for unknown in [None, Some(id(4)), Some(foreign)] {
            let mut reader = behind(unknown);
            let gap = next(&mut reader);
            assert!(matches!(gap.event, Event::Gap { lost: None }), "{gap:?}");
            assert_eq!((gap.id.number, next(&mut reader).id.number), (0, 1));
        }
        log.append((0..EVENTS_KEPT).map(|_| event("kick")));
        assert!(matches!(next(&mut behind(Some(id(2)))).event, Event::Gap { lost: Some(1) }));
        assert_eq!(next(&mut behind(Some(id(3)))).id.number, 4);
    }

    #[test]
    fn a_filter_leaves_out_kinds_and_rooms_and_never_gaps() {
        let log = EventLog::new(Instance::random());
        let only = |rooms: Option<&str>, kinds: Option<EventKind>| EventFilter {
            rooms: rooms.map(|room| HashSet::from([room.to_owned()])),
            kinds: kinds.map(|kind| vec![kind]),
        };
        let mut joins = log.reader(only(None, Some(EventKind::Join)));
        let mut general = log.reader(only(Some("general"), None));
        log.append([event("kick"), Event::Gap { lost: Some(7) }, event("ban")]);
        for reader in [&mut joins, &mut general] {
            assert!(matches!(next(reader).event, Event::Gap { lost: Some(7) }));
            assert!(poll(reader).is_none());
            assert_eq!(reader.position().number, 3);
        }
    }
}
