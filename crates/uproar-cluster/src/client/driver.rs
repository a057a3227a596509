//! The task that drives a bridge over connections.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until};
use tracing::{info, warn};

use super::address::RedisAddress;
use super::connections::{self, Connections};
use super::line::ConnectError;
use super::observer::Observer;
use crate::bridge::Observation;
use crate::{Action, Bridge, Event, Keys, Left, Proposal, Reply, RoomState, Terms};

/// The longest wait between two attempts to connect, in milliseconds.
const PAUSE_MS_MAX: u64 = 2_000;

/// The first.
const PAUSE_MS_MIN: u64 = 50;

/// A proposal of the owner.
#[derive(Debug)]
pub struct Order<T> {
    /// What is proposed.
    pub proposal: Proposal,
    /// What the owner remembers of it.
    pub ticket: Option<T>,
    /// How long it may wait while Redis cannot be reached, in milliseconds; `None` without a limit.
    pub timeout_ms: Option<u64>,
}

/// What the owner has been asked for, or tells. It is taken in any case, since proposals may wait for it.
#[derive(Debug)]
pub enum Given {
    /// The answer to [`Event::Damaged`].
    Repair {
        /// The room.
        room: Arc<str>,
        /// The entry by which it was damaged.
        damaged_by: u64,
        /// What it is like.
        state: RoomState,
    },
    /// The answer to [`Event::Rewrite`].
    Rewrite {
        /// All rooms.
        rooms: Vec<(Arc<str>, RoomState)>,
        /// Who has left.
        left: Left,
        /// Bans and mutes.
        terms: Terms,
    },
    /// The owner ends: see [`Bridge::leave`].
    Leave,
}

/// How a partition is, at present.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// Why Redis takes no proposals now; `None` while it does.
    pub trouble: Option<String>,
    /// False for a node that was without an answer for so long that others may have declared it gone: it is to take no
    /// input.
    pub is_trusted: bool,
    /// The last entry that was read.
    pub read: u64,
}

/// The owner's end.
#[derive(Debug)]
pub struct Link<T> {
    /// Proposals. They are taken at once, so that the time begins in which each may wait: the owner bounds how many are without
    /// an outcome.
    pub orders: mpsc::Sender<Order<T>>,
    /// What was asked for, and the end.
    pub given: mpsc::UnboundedSender<Given>,
    /// What has happened. While it is full, the log is not read.
    pub events: mpsc::Receiver<Event<T>>,
    /// How it is.
    pub status: watch::Receiver<Status>,
}

type Waiting<R> = Pin<Box<dyn Future<Output = R> + Send>>;

/// Drives a bridge until its end, or until the owner has dropped its link. Both queues have room for `queue` each.
/// `observer` is told what can be measured; `()` will do.
pub fn drive<T: Copy + Send + 'static>(
    bridge: impl FnOnce(u64) -> Bridge<T>,
    keys: Keys,
    address: RedisAddress,
    queue: usize,
    observer: impl Observer + Send + 'static,
) -> (Link<T>, impl Future<Output = ()>) {
    let (orders, ordered) = mpsc::channel(queue);
    // As many as were asked for, and one: each event is answered once.
    let (given, answers) = mpsc::unbounded_channel();
    let (happened, events) = mpsc::channel(queue);
    let (shown, status) = watch::channel(Status::default());
    let driver = Driver {
        bridge: bridge(0),
        keys,
        address,
        begun: Instant::now(),
        connections: None,
        connecting: None,
        attempts: 0,
        complaint: None,
        running: None,
        reading: None,
        orders: ordered,
        answers,
        events: happened,
        status: shown,
        observer,
        sent: None,
    };
    (Link { orders, given, events, status }, driver.run())
}

struct Driver<T, O> {
    bridge: Bridge<T>,
    keys: Keys,
    address: RedisAddress,
    begun: Instant,
    connections: Option<Connections>,
    connecting: Option<Waiting<Result<Connections, ConnectError>>>,
    /// How many have failed one after the other.
    attempts: u32,
    /// What the log has last been told of why there is no connection.
    complaint: Option<String>,
    running: Option<Waiting<Option<Reply>>>,
    reading: Option<Waiting<Option<Reply>>>,
    orders: mpsc::Receiver<Order<T>>,
    answers: mpsc::UnboundedReceiver<Given>,
    events: mpsc::Sender<Event<T>>,
    status: watch::Sender<Status>,
    observer: O,
    /// When the command under way was sent.
    sent: Option<Instant>,
}

/// What wakes the task.
enum Woken<T> {
    Connected(Result<Connections, ConnectError>),
    Answered(Option<Reply>),
    Read(Option<Reply>),
    Ordered(Option<Order<T>>),
    Given(Option<Given>),
    Room,
    Due,
}

impl<T: Copy + Send + 'static, O: Observer> Driver<T, O> {
    async fn run(mut self) {
        let mut next_event = None;
        loop {
            let now_ms = self.now_ms();
            self.bridge.handle_tick(now_ms);
            self.observe();
            self.observer.unanswered(self.bridge.unanswered());
            // One event at a time, so that whoever takes them sets the pace.
            while let Some(event) = next_event.take().or_else(|| self.bridge.poll_event()) {
                let is_end = matches!(event, Event::Ended { .. });
                match self.events.try_send(event) {
                    Ok(()) if is_end => return,
                    Ok(()) => {}
                    Err(mpsc::error::TrySendError::Full(event)) => {
                        next_event = Some(event);
                        break;
                    }
                    Err(mpsc::error::TrySendError::Closed(_)) => return,
                }
            }
            self.bridge.set_may_read(next_event.is_none(), now_ms);
            self.act(now_ms);
            self.show_status(now_ms);
            match self.wait(next_event.is_some()).await {
                Woken::Connected(connected) => self.handle_connected(connected),
                Woken::Answered(Some(reply)) => {
                    self.running = None;
                    self.bridge.handle_reply(&reply, self.now_ms());
                    self.observe();
                }
                Woken::Read(Some(reply)) => {
                    self.reading = None;
                    self.bridge.handle_read(&reply, self.now_ms());
                }
                Woken::Answered(None) | Woken::Read(None) => {
                    self.disconnect("a connection to Redis is lost");
                }
                Woken::Ordered(Some(Order { proposal, ticket, timeout_ms })) => {
                    self.bridge.propose(proposal, ticket, timeout_ms, self.now_ms());
                }
                Woken::Given(Some(given)) => self.handle_given(given),
                Woken::Ordered(None) | Woken::Given(None) => return,
                Woken::Room | Woken::Due => {}
            }
        }
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// Does what the bridge asks for.
    fn act(&mut self, now_ms: u64) {
        let Some(connections) = &self.connections else {
            if self.connecting.is_none() {
                self.connect();
            }
            return;
        };
        let (commands, reads) = (connections.commands.clone(), connections.reads.clone());
        while let Some(action) = self.bridge.poll_action(now_ms) {
            match action {
                Action::Run(command) => {
                    self.sent = Some(Instant::now());
                    self.running = Some(Box::pin(commands.clone().run(command)));
                }
                Action::Read { behind, waits } => {
                    let read = connections::read(reads.clone(), self.keys.clone(), behind, waits);
                    self.reading = Some(Box::pin(read));
                }
                Action::Reconnect { why } => return self.disconnect(why),
            }
        }
    }

    /// Tells the observer what has happened.
    fn observe(&mut self) {
        let round_trip = self.sent.map(|sent| sent.elapsed()).unwrap_or_default();
        let observer = &mut self.observer;
        while let Some(observation) = self.bridge.poll_observation() {
            match observation {
                Observation::Appended { proposals, payload_bytes } => {
                    observer.appended(proposals, payload_bytes, round_trip);
                }
                Observation::Waited { replicas, is_enough } => observer.waited(replicas, is_enough),
                Observation::Read { entries } => observer.read(entries),
                Observation::Behind { entries } => observer.behind(entries),
                Observation::CanarySeen => observer.canary_seen(),
                Observation::TimedOut { proposals } => observer.timed_out(proposals),
                Observation::Damaged { proposals } => observer.damaged(proposals),
                Observation::RecoveryBegan => observer.recovery_began(),
                Observation::RecoveryEnded => observer.recovery_ended(),
            }
        }
    }

    async fn wait(&mut self, is_full: bool) -> Woken<T> {
        let due = self.bridge.next_due_ms().map(|due_ms| self.begun + Duration::from_millis(due_ms));
        let due = async {
            match due {
                Some(due) => sleep_until(due).await,
                None => std::future::pending().await,
            }
        };
        let room = async {
            if is_full {
                let _ = self.events.reserve().await;
            } else {
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            connected = poll(&mut self.connecting) => Woken::Connected(connected),
            reply = poll(&mut self.running) => Woken::Answered(reply),
            reply = poll(&mut self.reading) => Woken::Read(reply),
            order = self.orders.recv() => Woken::Ordered(order),
            given = self.answers.recv() => Woken::Given(given),
            () = room => Woken::Room,
            () = due => Woken::Due,
        }
    }

    fn handle_given(&mut self, given: Given) {
        match given {
            Given::Repair { room, damaged_by, state } => self.bridge.repair(&room, damaged_by, &state),
            Given::Rewrite { rooms, left, terms } => self.bridge.rewrite(rooms, &left, &terms),
            Given::Leave => self.bridge.leave(self.now_ms()),
        }
    }

    fn show_status(&self, now_ms: u64) {
        let (trouble, is_trusted) = (self.bridge.trouble(), self.bridge.is_trusted(now_ms));
        let read = self.bridge.last_read();
        self.status.send_if_modified(|shown| {
            let is_new =
                (shown.trouble.as_deref(), shown.is_trusted, shown.read) != (trouble, is_trusted, read);
            if is_new {
                *shown = Status { trouble: trouble.map(str::to_owned), is_trusted, read };
            }
            is_new
        });
    }

    /// Connects after a pause, which grows with each failure. Its second half is random, so that nodes do not come
    /// together.
    fn connect(&mut self) {
        let pause_ms = match self.attempts {
            0 => 0,
            attempts => (PAUSE_MS_MIN << attempts.min(6)).min(PAUSE_MS_MAX),
        };
        let jitter = rand::random_range(0..=pause_ms / 2);
        let (address, keys) = (self.address.clone(), self.keys.clone());
        let replicas = self.bridge.replicas_wanted();
        self.connecting = Some(Box::pin(async move {
            tokio::time::sleep(Duration::from_millis(pause_ms / 2 + jitter)).await;
            Connections::open(&address, &keys, replicas).await
        }));
    }

    fn handle_connected(&mut self, connected: Result<Connections, ConnectError>) {
        self.connecting = None;
        match connected {
            Ok(connections) => {
                info!(redis = %self.address, "connected to Redis");
                (self.attempts, self.complaint) = (0, None);
                self.connections = Some(connections);
                self.observer.connected();
                self.bridge.handle_connected(self.now_ms());
            }
            Err(error) => {
                let complaint = error.to_string();
                if self.complaint.as_ref() != Some(&complaint) {
                    warn!(redis = %self.address, %error, "cannot connect to Redis; trying again");
                    self.complaint = Some(complaint);
                }
                self.attempts = self.attempts.saturating_add(1);
            }
        }
    }

    fn disconnect(&mut self, why: &str) {
        warn!(redis = %self.address, why, "connecting to Redis again");
        (self.connections, self.running, self.reading) = (None, None, None);
        self.observer.disconnected();
        self.attempts = self.attempts.max(1);
        self.bridge.handle_disconnected();
    }
}

/// Waits for what is there, or for ever. To be cleared by who takes the result.
async fn poll<R>(waiting: &mut Option<Waiting<R>>) -> R {
    match waiting {
        Some(waiting) => waiting.as_mut().await,
        None => std::future::pending().await,
    }
}
