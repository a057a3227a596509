//! A shard: the connections, rooms and topics of one core, as a state machine that never makes a system
//! call.
//!
//! Completions of the ring, messages of other shards and the time go in; submissions to the ring and
//! messages to other shards come out. So the event loop drives it from io_uring, and a simulation in any
//! interleaving.
//!
//! [`Shard`] is a router: it finds the client of a completion or a delivery, hands the event to it, and passes on what
//! comes out. In the order in which a message passes through them:
//!
//! - [`turn`] is the order in which a [`Shard`] is driven, [`event_loop`] drives it over a ring and a mesh, and [`stage`]
//!   is how all shards shut down together.
//! - `input` reads messages, within what `work` allows in a turn; `arrival` admits clients, and `ending` ends them.
//! - A `client` is a `link` (its connection, and the `gates` ahead of it) and a session: a `user`, a topic, or an echo.
//! - Handlers of one client get its session and a `ClientIo`, with which they send to the client and write mail:
//!   `user_messages`, then `chat` or `hub_user`; `membership`, `sign_in`, `expiry`, `resumption` (with the queue
//!   `ended_sessions`), `moderation`, `moderated_user` and `backend_orders` (with the list `token_connections`),
//!   `ordered_move`, `closing_rooms`, `acknowledgement`. Other lists of connections are `by_account`.
//! - `mass_orders` carries out what is about many clients (a `mass_order`, with the `account_message`), for some of them in
//!   each turn.
//! - `terms_orders` puts orders that change bans and mutes in force, in a cluster by way of its log.
//! - `node_mail` is what users tell each other over two servers of a cluster.
//! - `own_mail` is a shard's mail to itself; `deliveries` takes mail for clients; `local_rooms` has the members of rooms
//!   and topics, and the fan-out to them.
//! - `facts` tells what is known of a connection, and `end_report` how it ended.
//! - `schedule` lists the clients that want to submit, to read, or to be looked at when a deadline is due.

mod account_message;
mod acknowledgement;
mod arrival;
mod backend_orders;
mod by_account;
mod chat;
mod client;
mod client_io;
mod clients;
mod closing_rooms;
mod deadline;
mod deliveries;
mod drain;
mod end_report;
mod ended_client;
mod ended_sessions;
mod ending;
pub mod event_loop;
mod expiry;
mod facts;
mod gates;
mod hub_user;
mod input;
mod link;
mod local_rooms;
mod mass_order;
mod mass_orders;
mod membership;
mod moderated_user;
mod moderation;
mod names_pace;
mod node_mail;
mod order_report;
mod ordered_move;
mod outgoing_mail;
mod own_mail;
mod rate;
mod resumption;
mod schedule;
mod settings;
mod sign_in;
pub mod stage;
mod terms_orders;
mod timers;
mod token_connections;
pub mod turn;
mod user;
mod user_messages;
mod work;

use std::collections::VecDeque;
use std::sync::Arc;

use tracing::debug;
use uproar_cluster::Mirror;
use uproar_protocol::frames;
use uproar_ring::{Completion, ConnectionId, SharedBytes, Submission};

use crate::accounts::ReservedNames;
use crate::clock::Now;
use crate::cluster::{MailRoom, Trust};
use crate::events::EventSender;
use crate::mail::{Delivery, Request};
use crate::metrics::{EndReason, ShardMetrics};
use crate::rooms::{Directory, EndedSession, Homes, Receipt, Restored, UserId};
use crate::storage::StateLink;
use by_account::ByAccount;
use client::Session;
use client_io::{ClientIo, Context};
pub use clients::Clients;
use drain::Drain;
use ended_client::EndedClients;
use ended_sessions::{Ended, EndedSessions};
pub use gates::GATED_LIMITS_MAX;
use link::connection_config;
use local_rooms::LocalRooms;
use mass_order::MassOrders;
pub use outgoing_mail::{DELIVERIES_WAITING_MAX, OutgoingMail, REQUESTS_WAITING_MAX};
pub use rate::Rate;
use schedule::Schedule;
pub use settings::{Deadlines, Limits, SessionSettings, ShardSettings};
use token_connections::TokenConnections;
use user::User;
use work::Work;

/// The state machine of one shard.
///
/// Drain rule: after each call of a `handle_*` or of [`Shard::admit`], poll attempts, writes and submissions until
/// `None`, and the [`OutgoingMail`] as far as its receivers have room. [`Shard::handle_turn_end`] is called when
/// a batch of completions and messages has been handled. [`turn::run`] keeps this rule.
pub struct Shard {
    clients: Clients,
    schedule: Schedule,
    homes: Homes,
    context: Context,
    /// Connections that have begun to close. Their pending input is read at once: it may contain the close frame.
    closing: VecDeque<ConnectionId>,
    /// Clients whose connections have ended, until that is reported.
    ended: EndedClients,
    mass_orders: MassOrders,
    drain: Option<Drain>,
    /// In a cluster, what input waits for.
    cluster: Option<(Trust, MailRoom)>,
    /// Plaintext on its way through TLS, for as long as a call takes. Its capacity follows the longest, which
    /// is bounded by what a connection may hold back of a record, and by what is encrypted at a time.
    scratch: Vec<u8>,
}

impl Shard {
    /// A shard without connections.
    #[must_use]
    pub fn new(settings: ShardSettings, directory: &Directory, metrics: Arc<ShardMetrics>) -> Self {
        Self {
            clients: Clients::default(),
            schedule: Schedule::default(),
            homes: Homes::new(settings.index, &settings.rooms, directory, Arc::clone(&metrics)),
            context: Context {
                connection_config: connection_config(&settings.limits),
                directory: directory.clone(),
                rooms: LocalRooms::new(directory),
                reserved_names: Arc::default(),
                signed_in: ByAccount::default(),
                in_sessions: ByAccount::default(),
                token_connections: TokenConnections::default(),
                ended_sessions: EndedSessions::default(),
                state: None,
                events: None,
                mail: OutgoingMail::new(settings.index, usize::from(directory.shards())),
                work: Work::new(),
                ping: SharedBytes::new(frames::ping()),
                has_stopped_reading: false,
                settings,
                metrics,
            },
            closing: VecDeque::new(),
            ended: EndedClients::default(),
            mass_orders: MassOrders::default(),
            drain: None,
            cluster: None,
            scratch: Vec::new(),
        }
    }

    /// Restores the rooms from the storage. From now on messages are written, and
    /// their receipts go to [`Shard::handle_receipt`].
    ///
    /// # Panics
    ///
    /// When there is a client already.
    pub fn restore(&mut self, restored: &Restored) {
        assert_eq!(self.clients.count(), 0, "Bug: a client came before the history");
        self.homes.restore(&restored.rooms);
    }

    /// Takes the rooms of the cluster whose home is here. From now on nothing changes them but the receipts of the log that its
    /// servers share.
    ///
    /// # Panics
    ///
    /// When there is a client already.
    pub fn share(
        &mut self,
        mirrors: &[Mirror],
        awaits_replicas: bool,
        (trust, mail_room): (Trust, MailRoom),
        now: Now,
    ) {
        assert_eq!(self.clients.count(), 0, "Bug: a client came before the rooms of the cluster");
        self.homes.share(mirrors, awaits_replicas, now);
        self.cluster = Some((trust, mail_room));
    }

    /// Takes over this shard's part of the sessions of an earlier life of the server, which the users know already, and
    /// notes changes of users from now on.
    pub fn restore_sessions(&mut self, sessions: &[EndedSession], state: StateLink) {
        self.context.state = Some(state);
        let (index, shards) = (self.context.settings.index, self.context.directory.shards());
        let kept_max = self.context.settings.sessions.as_ref().map_or(0, |sessions| sessions.kept_max);
        let is_own = |user: UserId| user.get() % u64::from(shards) == u64::from(index.0);
        for &EndedSession { user, expires_ms, .. } in sessions.iter().filter(|session| is_own(session.user)) {
            // No clock has stopped yet.
            self.context.keep_ended(Ended { user, due_ms: expires_ms, expires_ms }, kept_max);
        }
    }

    /// Tells those who watch the server of rooms, connections and orders from now on.
    pub fn report_events(&mut self, events: EventSender) {
        self.homes.observe();
        self.context.events = Some(events);
    }

    /// Reserves names from now on, until a [`Delivery::AccountsChanged`] brings others.
    pub fn reserve_names(&mut self, names: Arc<ReservedNames>) {
        self.context.reserved_names = names;
    }

    /// Handles a completion of the ring.
    pub fn handle_completion(&mut self, completion: Completion<'_>, now: Now) {
        match completion {
            Completion::Received(id, bytes) => self.handle_received(id, bytes, now),
            Completion::EndOfStream(id) => self.handle_end_of_stream(id, now),
            Completion::ReceiveFailed(id, error) => {
                debug!(shard = self.context.settings.index.0, connection = %id, %error, "broken");
                self.with_client(id, now, |_, io| io.link.abort(EndReason::Lost));
            }
            Completion::Sent(id, batch, result) => {
                self.with_client(id, now, |_, io| io.handle_sent(batch, result));
            }
            Completion::Closed(id) => self.handle_closed(id),
        }
        self.settle(now);
    }

    /// Takes a request of another shard.
    pub fn handle_request(&mut self, request: Request, now: Now) {
        self.context.mail.request(self.context.settings.index, request);
        self.settle(now);
    }

    /// Takes a delivery of another shard.
    pub fn handle_delivery(&mut self, delivery: Delivery, now: Now) {
        self.context.mail.deliver(self.context.settings.index, delivery);
        self.settle(now);
    }

    /// Handles a receipt of the storage for this shard's writes.
    pub fn handle_receipt(&mut self, receipt: Receipt, now: Now) {
        self.homes.handle_receipt(receipt, now);
        self.settle(now);
    }

    /// Lets some members of a server leave that is gone from the cluster.
    pub(crate) fn let_some_depart(&mut self, now: Now) {
        self.homes.depart_some(now);
        self.settle(now);
    }

    /// Handles everything that is due at this time.
    pub fn handle_tick(&mut self, now: Now) {
        while let Some((due_ms, id)) = self.schedule.poll_due(now.monotonic_ms) {
            self.with_client(id, now, |session, io| session.handle_timer(due_ms, io));
        }
        self.homes.handle_tick(now);
        self.forget_expired_sessions(now);
        self.fan_out(now, |rooms, fan_out| rooms.publish_due(fan_out));
        self.close_some(now);
        self.settle(now);
    }

    /// Goes on with orders about many connections, and with input that has waited for its turn or for room in the mesh. The
    /// rest follows in the next turn.
    pub fn handle_turn_end(&mut self, now: Now) {
        // Ahead of input that has waited, of which a client that is banned or muted here says nothing more. Other input of
        // this turn was read before, and where an order is about many, most have their turn later.
        self.carry_out_some(now);
        self.read_in_turn(now);
        self.schedule.shrink(&mut self.clients);
    }

    /// The next submission for the ring. Connections have their turn in the order in which something came up for
    /// them.
    #[must_use]
    pub fn poll_submission(&mut self, now: Now) -> Option<Submission> {
        while let Some(id) = self.schedule.first_dirty() {
            let Some(client) = self.clients.get_mut(id) else {
                self.schedule.pop_dirty();
                continue;
            };
            match client.link.next_submission(id, &mut self.scratch) {
                // A send may follow.
                Ok(Some(submission @ (Submission::PauseReceive(_) | Submission::ResumeReceive(_)))) => {
                    return Some(submission);
                }
                Ok(submission) => {
                    client.link.is_dirty = false;
                    self.schedule.pop_dirty();
                    if matches!(submission, Some(Submission::Send(..))) && client.link.awaits_send() {
                        self.schedule.await_send();
                    }
                    if submission.is_some() {
                        return submission;
                    }
                }
                // The TLS keys have encrypted as much as they may. The connection is closed next.
                Err(error) => {
                    debug!(shard = self.context.settings.index.0, connection = %id, %error, "TLS has failed");
                    client.link.abort(EndReason::TlsError);
                    self.follow(id, now);
                }
            }
        }
        None
    }

    /// True when, since the last call, a send was submitted whose end leads to more: then it should be known soon.
    /// The ends of other sends may come with the next completion.
    #[must_use]
    pub fn take_is_send_awaited(&mut self) -> bool {
        self.schedule.take_is_send_awaited()
    }

    /// The rooms and topics whose home is this shard.
    #[must_use]
    pub fn homes(&self) -> &Homes {
        &self.homes
    }

    /// Its clients.
    #[must_use]
    pub fn clients(&self) -> &Clients {
        &self.clients
    }

    /// What it has written to other shards.
    #[must_use]
    pub fn mail(&self) -> &OutgoingMail {
        &self.context.mail
    }

    /// False while requests of other shards should stay in the mailbox, because their deliveries or writes have
    /// no space, with other shards or with the storage.
    #[must_use]
    pub fn accepts_requests(&self) -> bool {
        self.homes.accept_requests() && !self.context.mail.is_full_of_deliveries()
    }

    /// True while input of clients is held back.
    #[must_use]
    pub fn is_congested(&self) -> bool {
        self.context.has_stopped_reading
            || self.cluster.as_ref().is_some_and(|(trust, mail_room)| !trust.holds() || !mail_room.is_left())
            || self.context.mail.is_full_of_requests()
            || !self.accepts_requests()
    }

    /// True while input waits that may be read.
    pub(super) fn may_read(&self) -> bool {
        self.schedule.has_readable() && !self.is_congested()
    }

    /// True when a turn has ended at its limit with work left: the next one is due at once.
    #[must_use]
    pub fn is_cut_short(&self) -> bool {
        self.schedule.has_dirty()
            || !self.ended.is_empty()
            || self.may_read()
            || self.has_orders_to_carry_out()
            || self.homes.have_departing() && !self.context.mail.is_full_of_deliveries()
    }

    /// Stops reading from clients, ahead of a shutdown.
    pub fn stop_reading(&mut self) {
        self.context.has_stopped_reading = true;
    }

    /// When [`Shard::handle_tick`] has something to do.
    #[must_use]
    pub fn next_due_ms(&self) -> Option<u64> {
        let drain = self.drain.as_ref().and_then(Drain::next_due_ms);
        let names = self.context.rooms.next_due_ms();
        let sessions = self.context.ended_sessions.next_due_ms();
        let due = [self.schedule.next_due_ms(), self.homes.next_due_ms(), names, drain, sessions];
        due.into_iter().flatten().min()
    }

    /// Handles this shard's mail to itself until none is left.
    ///
    /// Deliveries come first, so that each room's members get one change before the home handles the
    /// next.
    #[inline]
    fn settle(&mut self, now: Now) {
        // After most completions, the ends of sends, there is nothing to do.
        if self.homes.has_mail() || self.context.mail.has_own() || !self.closing.is_empty() {
            self.settle_all(now);
        }
    }

    /// Calls a handler with a client, then updates its membership and the schedule. `None` when it is gone.
    fn with_client<R>(
        &mut self,
        id: ConnectionId,
        now: Now,
        handle: impl FnOnce(&mut Session, &mut ClientIo<'_>) -> R,
    ) -> Option<R> {
        let client = self.clients.get_mut(id)?;
        let mut io = ClientIo { id, link: &mut client.link, context: &mut self.context, now };
        let result = handle(&mut client.session, &mut io);
        self.follow(id, now);
        Some(result)
    }

    /// As [`Shard::with_client`], for a user.
    fn with_user<R>(
        &mut self,
        id: ConnectionId,
        now: Now,
        handle: impl FnOnce(&mut User, &mut ClientIo<'_>) -> R,
    ) -> Option<R> {
        self.with_client(id, now, |session, io| match session {
            Session::User(user) => Some(handle(user, io)),
            Session::Raw { .. } | Session::Echo => None,
        })?
    }

    /// As [`Shard::with_user`], for a user of this shard, once it has been welcomed and until it goes. False when there is
    /// no such user.
    fn with_welcomed_user(
        &mut self,
        user: UserId,
        now: Now,
        handle: impl FnOnce(&mut User, &mut ClientIo<'_>),
    ) -> bool {
        let own_index = self.context.settings.index;
        let found = self.context.directory.users().find(user).filter(|found| found.shard == own_index);
        let handled = found.and_then(|found| {
            self.with_user(found.connection, now, |user, io| user.welcomed.then(|| handle(user, io)))
        });
        handled.flatten().is_some()
    }

    /// Ends the membership of a client whose connection has ended, and lists it for everything that it wants now.
    fn follow(&mut self, id: ConnectionId, now: Now) {
        let client = self.clients.at(id.index);
        if let Some(end) = client.link.take_end() {
            self.leave(id, &end, now);
        }
        let client = self.clients.at(id.index);
        self.schedule.update(id, client, &self.context.settings.deadlines.keep_alive);
    }
}
