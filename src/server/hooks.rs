//! Hooks: a program that embeds the server is told what happens.

use std::io;
use std::thread::{self, JoinHandle};

use super::error::ServerError;
use super::thread_context::ThreadContext;
use crate::events::{ConnectionFacts, ConnectionPhase, Event, EventFilter, EventKind, EventLog, EventReader};
use crate::rooms::{ObservedEvent, ObservedKind, RoomMessage};

/// What a program does when something happens. Each method does nothing unless it is implemented.
///
/// Hooks observe: what they are told of has happened, and they cannot refuse it. They are called one at a time, on a thread
/// of their own and outside of any async runtime, so they may block without delaying a client, also with
/// `tokio::sync::mpsc::Sender::blocking_send` or `tokio::runtime::Handle::block_on`; what they need for longer goes into a
/// queue of their own. When they are more than 10,000 events behind, or when the server was too busy to note some, events are
/// missing, and [`Hooks::gap`] is called in their place. A shutdown waits until the hooks have been told of everything, and no
/// longer than for other threads. A hook that panics ends the server with [`ServerError::Hooks`].
///
/// The events of a room come in the room's order, and those of a connection in its own.
///
/// A closure is told of messages alone: `|room: &str, message: &RoomMessage| …`.
pub trait Hooks: Send + 'static {
    /// A client has connected. Who it is may not be known yet.
    fn connected(&mut self, connection: &ConnectionFacts) {
        let _ = connection;
    }

    /// A connection has ended; [`ConnectionFacts::end`] says why.
    fn disconnected(&mut self, connection: &ConnectionFacts) {
        let _ = connection;
    }

    /// A room has published a message, of a client or of a backend.
    fn message(&mut self, room: &str, message: &RoomMessage) {
        let _ = (room, message);
    }

    /// Events are missing here: so many, of those that hooks are told of and of others, or an unknown number.
    fn gap(&mut self, lost: Option<u64>) {
        let _ = lost;
    }
}

impl<F: FnMut(&str, &RoomMessage) + Send + 'static> Hooks for F {
    fn message(&mut self, room: &str, message: &RoomMessage) {
        self(room, message);
    }
}

/// Hooks, and their place in the log.
pub(super) struct Hooked {
    hooks: Box<dyn Hooks>,
    reader: EventReader,
}

impl Hooked {
    /// Hooks that are told what happens from now on.
    pub(super) fn new(hooks: Box<dyn Hooks>, log: &EventLog) -> Self {
        let kinds = Some(vec![EventKind::Connection, EventKind::Message]);
        Self { hooks, reader: log.reader(EventFilter { kinds, ..EventFilter::default() }) }
    }

    /// Starts the thread that calls them. It ends when the log does, so a collector must be running.
    pub(super) fn spawn(self, context: &ThreadContext) -> Result<JoinHandle<()>, ServerError> {
        let runtime = tokio::runtime::Builder::new_current_thread().build().map_err(ServerError::Hooks)?;
        let end = context.report_end(ServerError::Hooks(io::Error::other("a hook has panicked")));
        let Self { mut hooks, mut reader } = self;
        let run = move || {
            // Hooks are called outside of the runtime: there, what blocks would panic.
            while let Some(logged) = runtime.block_on(reader.next()) {
                tell(&mut *hooks, &logged.event);
            }
            end.report(Ok(()));
        };
        thread::Builder::new().name("hooks".to_owned()).spawn(run).map_err(ServerError::Hooks)
    }
}

fn tell(hooks: &mut dyn Hooks, event: &Event) {
    match event {
        Event::Connection { phase: ConnectionPhase::Begin, connection, .. } => hooks.connected(connection),
        Event::Connection { phase: ConnectionPhase::End, connection, .. } => hooks.disconnected(connection),
        Event::Room(ObservedEvent { room, kind: ObservedKind::Message { message, .. }, .. }) => {
            hooks.message(room, message);
        }
        Event::Gap { lost } => hooks.gap(*lost),
        // The filter leaves them out.
        Event::Room(_) | Event::Moderation(_) => {}
    }
}
