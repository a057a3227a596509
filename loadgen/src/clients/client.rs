//! One client: from the upgrade over the join to receiving, without a socket.
//!
//! Received bytes go in through [`Client::handle_received`]; what is to be sent comes out of
//! [`Client::poll_batch`], at most one batch at a time. All clients of a thread share one [`Context`],
//! so that a client is only what differs between them.
//!
//! Drain rule: after every `handle_…`, and whenever a broadcast was queued, call `poll_batch` until it
//! yields `None`.

use std::collections::VecDeque;

use bytes::Bytes;
use uproar_protocol::frames::{self, Event, Opcode, Reader, Role, Violation};
use uproar_protocol::upgrade::{self, Refusal};
use uproar_ring::SharedBytes;
use uproar_ring::{BATCH_FRAMES_MAX, SendBatch};

use crate::clients::context::Context;
use crate::clients::upgrade::{MESSAGE_BYTES_MAX, NO_SUBPROTOCOLS, refused};
use crate::dialect::Dialect;
use crate::dialect::chat::{self, Decoded, Notice, PrivateDecoded};
use crate::dialect::join::{JoinStep, Progress};
use crate::dialect::payload::{Altered, Stamp};
use crate::measure::presence::Presence;
use crate::network::security::TlsFailure;

/// One of so many messages that are none of this run's is parsed whole.
const OTHER_SAMPLE: u64 = 1024;
/// The shortest messages are parsed even among the others when the client speaks: acknowledgements and
/// refusals are all far below this.
const NOTICE_BYTES_MAX: usize = 512;

/// How far a client has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Not begun.
    Waiting,
    /// Nothing has left, so TCP is not known to be connected.
    Connecting,
    /// The response to the request is awaited, and before that the TLS handshake, where there is one.
    Upgrading,
    /// Chat: a message of the join is awaited.
    Joining(JoinStep),
    /// Everything can begin.
    Ready,
    /// A close was sent.
    Closing,
    /// The connection is gone, or has never been.
    Ended,
}

/// Why a client failed. What can only come from a server that breaks the rules says so.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The upgrade was refused.
    #[error("{}", refused(.0))]
    Refused(#[from] Refusal),
    /// TLS failed.
    #[error(transparent)]
    Tls(#[from] TlsFailure),
    /// A frame broke RFC 6455.
    #[error("protocol violation: {0}")]
    Violation(#[from] Violation),
    /// A message of the join was not what the chat dialect prescribes.
    #[error("join: {0}")]
    Join(String),
}

/// How a client stands to the run: only those who churn are ever anything but present.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It is to receive what is due.
    Present,
    /// It reads what was due before it decided to leave.
    Leaving,
    /// It has said goodbye, and its connection ends.
    Away,
    /// It connects and joins again.
    Returning,
}

/// What waits to be sent.
#[derive(Debug)]
enum Outgoing {
    /// An HTTP request or an encoded frame.
    Encoded(Vec<u8>),
    /// A broadcast, encoded and dated when it is handed to the kernel.
    Broadcast { sequence: u64, intended_ns: u64 },
}

/// One client.
#[derive(Debug)]
pub struct Client {
    id: u32,
    /// How far it has come.
    pub phase: Phase,
    /// True once it reads what it is sent only to find the server's close.
    pub ignores_broadcasts: bool,
    /// How it stands to the run.
    pub standing: Standing,
    /// What it is to receive.
    pub presence: Presence,
    /// How many connections it has had before this one.
    pub generation: u32,
    /// The code of the server's close frame: 1005 stands for a frame without one (RFC 6455, 7.4.1).
    pub close_code: Option<u16>,
    /// True exactly when a batch is with the kernel.
    send_under_way: bool,
    reader: Reader,
    outgoing: VecDeque<Outgoing>,
    /// The id of the last chat message.
    last_message_id: u64,
    /// What only matters until the client is ready.
    opening: Option<Box<Opening>>,
}

#[derive(Debug)]
struct Opening {
    started_ns: u64,
    key: String,
    /// The beginning of the response's head.
    head: Vec<u8>,
}

impl Client {
    /// A client that has not begun.
    #[must_use]
    pub fn new(id: u32) -> Self {
        Self {
            id,
            phase: Phase::Waiting,
            ignores_broadcasts: false,
            standing: Standing::Present,
            presence: Presence::default(),
            generation: 0,
            close_code: None,
            send_under_way: false,
            reader: Reader::new(Role::Client, MESSAGE_BYTES_MAX),
            outgoing: VecDeque::new(),
            last_message_id: 0,
            opening: None,
        }
    }

    /// Begins anew, as the same client on another connection. What it was present for stays.
    pub fn renew(&mut self) {
        *self = Self {
            standing: Standing::Returning,
            presence: self.presence,
            generation: self.generation + 1,
            last_message_id: self.last_message_id,
            ..Self::new(self.id)
        };
    }

    /// Which client of the run it is.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.id
    }

    /// True when nothing more can come to it over this connection.
    #[must_use]
    pub fn is_lost(&self) -> bool {
        self.phase == Phase::Ended || self.close_code.is_some()
    }

    /// True when `poll_batch` has something to yield, now or after the send under way.
    #[must_use]
    pub fn has_outgoing(&self) -> bool {
        !self.outgoing.is_empty()
    }

    /// Notes that connect(2) was called at `now_ns`, and queues the upgrade request.
    pub fn handle_connecting(&mut self, context: &mut Context, now_ns: u64) {
        let mut nonce = [0; 16];
        context.random.fill(&mut nonce);
        let key = upgrade::key(nonce);
        let request = upgrade::request(&context.plan.authority, context.plan.path_of(self.id), &key, []);
        self.outgoing.push_back(Outgoing::Encoded(request.into_bytes()));
        self.opening = Some(Box::new(Opening { started_ns: now_ns, key, head: Vec::new() }));
        self.phase = Phase::Connecting;
    }

    /// When connect(2) was called; `None` before, and once the client is ready.
    #[must_use]
    pub fn opening_since_ns(&self) -> Option<u64> {
        self.opening.as_ref().map(|opening| opening.started_ns)
    }

    /// Notes that the batch last polled has left entirely.
    pub fn handle_sent(&mut self, context: &mut Context, now_ns: u64) {
        self.send_under_way = false;
        self.handle_connected(context, now_ns);
    }

    /// Notes that TCP is connected, since something has left or come. Without effect when that was known.
    pub fn handle_connected(&mut self, context: &mut Context, now_ns: u64) {
        if let (Phase::Connecting, Some(opening)) = (self.phase, &self.opening) {
            context.openings.tcp.record(now_ns - opening.started_ns);
            self.phase = Phase::Upgrading;
        }
    }

    /// Takes bytes that arrived at `now_ns`.
    ///
    /// # Errors
    ///
    /// A [`Failure`], after which the connection is of no use.
    pub fn handle_received(
        &mut self,
        context: &mut Context,
        now_ns: u64,
        bytes: &[u8],
    ) -> Result<(), Failure> {
        if matches!(self.phase, Phase::Connecting | Phase::Upgrading) {
            // The response may overtake the completion of the request's send.
            self.handle_connected(context, now_ns);
            return self.handle_response(context, now_ns, bytes);
        }
        self.handle_frames(context, now_ns, bytes)
    }

    fn handle_response(&mut self, context: &mut Context, now_ns: u64, bytes: &[u8]) -> Result<(), Failure> {
        let opening = self.opening.as_mut().expect("Bug: an upgrade without a beginning");
        let earlier_bytes = opening.head.len();
        opening.head.extend_from_slice(bytes);
        let Some(accepted) = upgrade::check_response(&opening.head, &opening.key, NO_SUBPROTOCOLS)? else {
            return Ok(());
        };
        context.openings.upgrade.record(now_ns - opening.started_ns);
        match context.plan.dialect {
            Dialect::Chat | Dialect::Private => self.phase = Phase::Joining(JoinStep::Welcome),
            Dialect::Raw | Dialect::Echo => self.become_ready(),
        }
        self.handle_frames(context, now_ns, &bytes[accepted.head_bytes - earlier_bytes..])
    }

    fn become_ready(&mut self) {
        self.phase = Phase::Ready;
        self.opening = None;
    }

    fn handle_frames(&mut self, context: &mut Context, now_ns: u64, bytes: &[u8]) -> Result<(), Failure> {
        let mut input = bytes;
        while self.close_code.is_none()
            && let Some(event) = self.reader.next(&mut input)?
        {
            match event {
                Event::Text(text) => self.handle_text(context, now_ns, text.as_bytes())?,
                Event::Binary(payload) => self.handle_binary(context, now_ns, &payload),
                Event::Ping(payload) => {
                    let pong = frames::frame(Opcode::Pong, &payload, Some(context.mask()));
                    self.outgoing.push_back(Outgoing::Encoded(pong));
                }
                Event::Pong(_) => {}
                Event::Close(close) => self.handle_close(context, close.map(|close| close.code)),
            }
        }
        Ok(())
    }

    fn handle_text(&mut self, context: &mut Context, now_ns: u64, text: &[u8]) -> Result<(), Failure> {
        match (context.plan.dialect, self.phase) {
            (Dialect::Chat | Dialect::Private, Phase::Joining(step)) => {
                self.handle_join(context, now_ns, step, text)
            }
            (Dialect::Chat, _) => self.handle_room(context, now_ns, text),
            (Dialect::Private, _) => {
                self.handle_private(context, now_ns, text);
                Ok(())
            }
            (Dialect::Raw | Dialect::Echo, _) => {
                // A binary message must come back as a binary one.
                self.count_other(context, text);
                Ok(())
            }
        }
    }

    fn handle_join(
        &mut self,
        context: &mut Context,
        now_ns: u64,
        step: JoinStep,
        text: &[u8],
    ) -> Result<(), Failure> {
        let notice = chat::parse_notice(text);
        if let Some(Notice::Welcome(user_id)) = notice {
            context.plan.note_user_id(self.id, user_id);
        }
        match step.next(notice, context.plan.room_of(self.id)) {
            Ok(Progress::Await(step)) => self.phase = Phase::Joining(step),
            Ok(Progress::Ask(join)) => {
                let frame = frames::frame(Opcode::Text, join.as_bytes(), Some(context.mask()));
                self.outgoing.push_back(Outgoing::Encoded(frame));
                self.phase = Phase::Joining(JoinStep::RoomJoined);
            }
            Ok(Progress::Done) => {
                let opening = self.opening.as_ref().expect("Bug: a join without a beginning");
                context.openings.join.record(now_ns - opening.started_ns);
                self.become_ready();
            }
            Err(why) => {
                let excerpt = String::from_utf8_lossy(&text[..text.len().min(80)]).into_owned();
                return Err(Failure::Join(
                    why.unwrap_or(format!("not what the chat dialect prescribes: {excerpt}")),
                ));
            }
        }
        Ok(())
    }

    fn handle_room(&mut self, context: &mut Context, now_ns: u64, text: &[u8]) -> Result<(), Failure> {
        if self.ignores_broadcasts {
            return Ok(());
        }
        match context.decoder.decode(text) {
            Decoded::Broadcast(message) => {
                self.note_delivery(context, message.stamp, now_ns);
                context.recorder.message_id(message.stamp.sequence, message.message_id);
                // Every member of a room sees its messages in the same order, and ids grow.
                if message.message_id <= self.last_message_id {
                    context.recorder.counts.id_conflicts += 1;
                }
                self.last_message_id = message.message_id;
            }
            Decoded::Altered => context.recorder.counts.altered += 1,
            Decoded::Other => self.count_other(context, text),
        }
        Ok(())
    }

    fn handle_private(&mut self, context: &mut Context, now_ns: u64, text: &[u8]) {
        match context.decoder.decode_private(text) {
            PrivateDecoded::Received(stamp) => self.note_delivery(context, stamp, now_ns),
            PrivateDecoded::Acknowledged => context.recorder.counts.acknowledged += 1,
            PrivateDecoded::Altered => context.recorder.counts.altered += 1,
            PrivateDecoded::Other => self.count_other(context, text),
        }
    }

    fn note_delivery(&mut self, context: &mut Context, stamp: Stamp, now_ns: u64) {
        if !self.presence.covers(stamp.intended_ns) {
            context.recorder.counts.outside_presence += 1;
        } else if context.recorder.received(self.id, stamp, now_ns) {
            self.presence.heard_count += 1;
        }
    }

    /// Looks at a message that is no broadcast of this run: closely where it may be for this client
    /// alone, at one in many otherwise.
    fn count_other(&mut self, context: &mut Context, text: &[u8]) {
        let counts = &mut context.recorder.counts;
        counts.other_messages += 1;
        let speaks = self.id < context.plan.rooms.senders && text.len() <= NOTICE_BYTES_MAX;
        if !context.plan.dialect.joins_chat()
            || !(speaks || counts.other_messages.is_multiple_of(OTHER_SAMPLE))
        {
            return;
        }
        match chat::parse_notice(text) {
            Some(Notice::MessageSent(_)) => counts.acknowledged += 1,
            Some(Notice::Error(message)) => {
                counts.server_errors += 1;
                context.server_error.get_or_insert(message);
            }
            Some(_) => {}
            None => counts.altered += 1,
        }
    }

    fn handle_binary(&mut self, context: &mut Context, now_ns: u64, payload: &[u8]) {
        if self.ignores_broadcasts {
            return;
        }
        let counts = &mut context.recorder.counts;
        match context.plan.template.read_binary(payload) {
            Ok(Some(stamp)) if !context.plan.dialect.joins_chat() => {
                self.note_delivery(context, stamp, now_ns);
            }
            Ok(_) => counts.other_messages += 1,
            Err(Altered) => counts.altered += 1,
        }
    }

    fn handle_close(&mut self, context: &mut Context, code: Option<u16>) {
        if self.phase != Phase::Closing {
            // RFC 6455, 5.5.1: the answer typically echoes the code.
            self.queue_close(context, code);
        }
        self.close_code = Some(code.unwrap_or(1005));
    }

    /// Queues a close frame, unless one was queued before.
    pub fn handle_stop(&mut self, context: &mut Context) {
        if self.phase != Phase::Closing {
            self.queue_close(context, Some(1000));
        }
    }

    fn queue_close(&mut self, context: &mut Context, code: Option<u16>) {
        let body = code.map(u16::to_be_bytes);
        let body = body.as_ref().map_or(&[][..], |body| &body[..]);
        let frame = frames::frame(Opcode::Close, body, Some(context.mask()));
        self.outgoing.push_back(Outgoing::Encoded(frame));
        self.phase = Phase::Closing;
    }

    /// Queues a broadcast that is due. One that cannot be sent at once is sent late, never skipped.
    pub fn handle_due(&mut self, sequence: u64, intended_ns: u64) {
        self.outgoing.push_back(Outgoing::Broadcast { sequence, intended_ns });
    }

    /// What to send now, if anything; then `handle_sent` must come before there is more.
    #[must_use]
    pub fn poll_batch(&mut self, context: &mut Context, now_ns: u64) -> Option<SendBatch> {
        if self.send_under_way {
            return None;
        }
        let first = self.outgoing.pop_front()?;
        self.send_under_way = true;
        let frame = encode(context, first, now_ns);
        if self.outgoing.is_empty() {
            return Some(SendBatch::one(frame, 0));
        }
        let rest = self.outgoing.len().min(BATCH_FRAMES_MAX - 1);
        let rest = self.outgoing.drain(..rest).map(|outgoing| encode(context, outgoing, now_ns));
        Some(SendBatch::many(std::iter::once(frame).chain(rest).collect(), 0))
    }
}

fn encode(context: &mut Context, outgoing: Outgoing, now_ns: u64) -> SharedBytes {
    let encoded = match outgoing {
        Outgoing::Encoded(bytes) => bytes,
        Outgoing::Broadcast { sequence, intended_ns } => {
            let stamp = Stamp { sequence, intended_ns, sent_ns: now_ns };
            let mask = context.mask();
            let Context { plan, scratch, recorder, .. } = context;
            scratch.clear();
            recorder.sent(stamp);
            let content = |out: &mut Vec<u8>| plan.template.put_text(stamp, out);
            let opcode = match plan.dialect {
                Dialect::Chat => {
                    chat::put_message(content, scratch);
                    Opcode::Text
                }
                Dialect::Private => {
                    let to_id = plan.partner_id_of(plan.speaker_of(sequence));
                    chat::put_private_message(to_id, content, scratch);
                    Opcode::Text
                }
                Dialect::Raw | Dialect::Echo => {
                    plan.template.put_binary(stamp, scratch);
                    Opcode::Binary
                }
            };
            frames::frame(opcode, scratch, Some(mask))
        }
    };
    SharedBytes::new(Bytes::from(encoded))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::openings::Openings;
    use crate::plan::tests::plan;
    use crate::timings::Timings;

    const SECOND: u64 = 1_000_000_000;

    fn server_text(text: &str) -> Vec<u8> {
        assert!(text.len() < 126 || text.len() < 65_536);
        let mut frame = vec![0x81];
        match text.len() {
            length @ 0..126 => frame.push(length as u8),
            length => {
                frame.push(126);
                frame.extend((length as u16).to_be_bytes());
            }
        }
        frame.extend(text.as_bytes());
        frame
    }

    fn upgraded(context: &mut Context) -> Client {
        let mut client = Client::new(1);
        client.handle_connecting(context, SECOND);
        let batch = client.poll_batch(context, SECOND).expect("a request");
        let request = String::from_utf8(batch.slice(0).to_vec()).expect("ASCII");
        assert!(client.poll_batch(context, SECOND).is_none());
        let key = request.split("Sec-WebSocket-Key: ").nth(1).and_then(|rest| rest.lines().next());
        let accept = tungstenite::handshake::derive_accept_key(key.expect("a key").as_bytes());
        let response = format!(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Accept: {accept}\r\n\r\n"
        );
        let (head, tail) = response.as_bytes().split_at(40);
        client.handle_received(context, 2 * SECOND, head).expect("valid");
        assert_eq!(client.phase, Phase::Upgrading);
        client.handle_received(context, 3 * SECOND, tail).expect("valid");
        client.handle_sent(context, 3 * SECOND);
        client
    }

    const WELCOME: &str =
        r#"{"type":"welcome","content":{"user_id":1,"user_name":"a","server_stats":{}},"timestamp":1}"#;
    const USERS: &str = r#"{"type":"users","content":[],"timestamp":1}"#;
    const HISTORY: &str = r#"{"type":"history","content":[],"timestamp":1}"#;

    #[test]
    fn a_chat_client_is_ready_when_the_history_has_come() {
        let mut context = Context::new(plan(&[]), 0);
        let mut client = upgraded(&mut context);
        for (text, now) in [(WELCOME, 4), (USERS, 5)] {
            client.handle_received(&mut context, now * SECOND, &server_text(text)).expect("valid");
            assert!(matches!(client.phase, Phase::Joining(_)));
        }
        let join = r#"{"type":"join","content":{},"timestamp":1}"#;
        client.handle_received(&mut context, 6 * SECOND, &server_text(join)).expect("skipped");
        client.handle_received(&mut context, 6 * SECOND, &server_text(HISTORY)).expect("valid");
        assert_eq!(client.phase, Phase::Ready);
        let Openings { tcp, upgrade, join, .. } = &context.openings;
        let seconds = |timings: &Timings| (timings.histogram.mean() / 1e9).round();
        assert_eq!((seconds(tcp), seconds(upgrade), seconds(join)), (1.0, 2.0, 5.0));
    }

    #[test]
    fn another_room_is_joined_after_the_first_history() {
        let mut context = Context::new(plan(&["--room", "gaming"]), 0);
        let mut client = upgraded(&mut context);
        for text in [WELCOME, USERS, HISTORY] {
            client.handle_received(&mut context, 4 * SECOND, &server_text(text)).expect("valid");
        }
        assert_eq!(client.phase, Phase::Joining(JoinStep::RoomJoined));
        assert!(client.poll_batch(&mut context, 4 * SECOND).is_some());
        let joined = r#"{"type":"room_joined","content":{"room":"gaming"},"timestamp":1}"#;
        for text in [joined, USERS, HISTORY] {
            client.handle_received(&mut context, 5 * SECOND, &server_text(text)).expect("valid");
        }
        assert_eq!(client.phase, Phase::Ready);
    }

    #[test]
    fn a_join_out_of_order_fails() {
        let mut context = Context::new(plan(&[]), 0);
        let mut client = upgraded(&mut context);
        let failure = client.handle_received(&mut context, 4 * SECOND, &server_text(USERS));
        assert_eq!(failure.expect_err("fails").to_string(), "join: Users while awaiting Welcome");
        let failure = client.handle_received(&mut context, 4 * SECOND, &server_text("Server is full"));
        assert!(failure.expect_err("fails").to_string().contains("Server is full"));
    }

    #[test]
    fn pings_and_closes_are_answered() {
        let mut context = Context::new(plan(&["--dialect", "raw"]), 0);
        let mut client = upgraded(&mut context);
        assert_eq!(client.phase, Phase::Ready);
        client.handle_received(&mut context, SECOND, b"\x89\x02hi\x88\x02\x03\xf5").expect("valid");
        assert_eq!((client.phase, client.close_code), (Phase::Closing, Some(1013)));
        let batch = client.poll_batch(&mut context, SECOND).expect("answers");
        assert_eq!(batch.frame_count(), 2);
        assert_eq!((batch.slice(0)[0], batch.slice(1)[0]), (0x8a, 0x88));
    }

    #[test]
    fn what_is_due_while_a_send_is_under_way_leaves_in_one_batch_after_it() {
        let mut context = Context::new(plan(&["--dialect", "raw", "--warmup", "0s"]), 0);
        let mut client = upgraded(&mut context);
        client.handle_due(0, 10);
        assert_eq!(client.poll_batch(&mut context, 15).expect("the first").frame_count(), 1);
        client.handle_due(1, 20);
        client.handle_due(2, 30);
        assert!(client.poll_batch(&mut context, 35).is_none());
        client.handle_sent(&mut context, 40);
        assert_eq!(client.poll_batch(&mut context, 50).expect("the others").frame_count(), 2);
        let lag = &context.recorder.send_lag.histogram;
        assert_eq!((context.recorder.counts.sent, lag.min(), lag.max()), (3, 5, 30));
    }

    #[test]
    fn what_is_due_while_a_client_is_away_does_not_count_even_when_it_arrives() {
        let mut context = Context::new(plan(&["--dialect", "raw", "--warmup", "0s"]), 0);
        let mut client = upgraded(&mut context);
        let deliver = |client: &mut Client, context: &mut Context, sequence: u64, intended_ns: u64| {
            let mut frame = vec![0x82, 64];
            let stamp = Stamp { sequence, intended_ns, sent_ns: intended_ns };
            context.plan.template.put_binary(stamp, &mut frame);
            client.handle_received(context, 9 * SECOND, &frame).expect("valid");
        };
        deliver(&mut client, &mut context, 0, 100);
        client.presence.end(200);
        deliver(&mut client, &mut context, 1, 200);
        deliver(&mut client, &mut context, 2, 199);
        assert_eq!((context.recorder.counts.received, client.presence.heard_count), (2, 2));
        client.renew();
        assert_eq!((client.phase, client.generation, client.id()), (Phase::Waiting, 1, 1));
        client.phase = Phase::Ready;
        client.presence = Presence::since(300);
        context.recorder.rejoined(1, 5);
        deliver(&mut client, &mut context, 4, 299);
        deliver(&mut client, &mut context, 5, 300);
        let counts = context.recorder.counts;
        assert_eq!((counts.received, counts.outside_presence, counts.disorder), (3, 2, 0));
        assert_eq!(client.presence.heard_count, 1);
    }
}
