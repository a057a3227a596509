//! The connections of one shard as its ring has them: which client is in which slot, what completes in a
//! turn, and what each submission must be like.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};

use serde_json::Value;
use uproar::shard::Shard;
use uproar_ring::ConnectionId;
use uproar_ring::{Completion, SendBatch, Submission};

use crate::client::Talk;
use crate::host::{Around, Pace};
use crate::socket::{Completed, RECEIVE_BYTES_MAX};
use crate::violation::{Checked, ensure, violated};
use crate::wire::CLOSE;

/// How long a client may take to answer a close frame or a FIN.
const ANSWER_MS: u64 = 2_000;

/// Receives of one connection in one turn.
pub(crate) const RECEIVES_MAX: usize = 24;

/// What a broadcast in the chat dialect begins with. Everything else is for one client, or can be told twice
/// in the same bytes, as that somebody writes.
const BROADCASTS: [&[u8]; 7] = [
    br#"{"type":"message","#,
    br#"{"type":"message_deleted","#,
    br#"{"type":"image","#,
    br#"{"type":"join","#,
    br#"{"type":"leave","#,
    br#"{"type":"user_renamed","#,
    br#"{"type":"presence","#,
];

/// A broadcast by a hash of its bytes. The simulation's clock shows another second in each turn, so two
/// broadcasts are alike only when one turn of a home has made both.
type Content = u64;

#[derive(Default)]
pub(crate) struct Links {
    shard: usize,
    /// The client in each slot in use.
    pub(crate) slots: BTreeMap<u32, usize>,
    /// Clients whose last send was short: the next one has nothing new in it.
    cut_short: BTreeSet<usize>,
    /// Clients whose next send begins within a frame.
    halves: BTreeSet<usize>,
    /// Clients whose last batch ends with a close frame.
    being_closed: BTreeSet<usize>,
    /// By when clients that have been sent a close frame or a FIN must have answered, or be cut off.
    deadlines: BTreeMap<usize, u64>,
    /// How often a client was sent the same broadcast.
    times_sent: BTreeMap<(usize, Content), usize>,
    /// Where the bytes of a broadcast are, for those who are sent it so many times.
    held_at: BTreeMap<(Content, usize), usize>,
}

#[derive(Clone, Copy, Debug)]
enum Operation {
    Receive,
    Send,
    Close,
}

impl Links {
    pub(crate) fn new(shard: usize) -> Self {
        Self { shard, ..Self::default() }
    }

    /// What the ring reports in this turn: in order for each connection and each direction, in any order
    /// between them.
    pub(crate) fn choose_completions(
        &self,
        around: &mut Around<'_>,
    ) -> Vec<(usize, ConnectionId, Completed)> {
        // A flood comes with many receives of one connection in one turn.
        let receives =
            if around.scenario.chances.flood > 0 { around.random.between(1, RECEIVES_MAX) } else { 1 };
        let mut operations: Vec<(usize, Operation)> = Vec::new();
        for &client in self.slots.values() {
            operations.extend([(client, Operation::Send), (client, Operation::Close)]);
            operations.extend(std::iter::repeat_n((client, Operation::Receive), receives));
        }
        around.random.shuffle(&mut operations);
        let chances = around.scenario.chances.clone();
        let mut completions = Vec::new();
        for (client, operation) in operations {
            let completed = match operation {
                Operation::Receive if around.chance(chances.received) => {
                    let bytes_max = match around.random.below(4) {
                        _ if around.pace == Pace::Eager => RECEIVE_BYTES_MAX,
                        0 => 1,
                        1 => around.random.between(1, 40),
                        _ => around.random.between(1, RECEIVE_BYTES_MAX),
                    };
                    around.clients[client].socket.complete_receive(bytes_max)
                }
                Operation::Send => {
                    if around.pace == Pace::Random && around.random.percent(chances.send_failure) {
                        around.clients[client].reset(around.random);
                    }
                    if around.chance(chances.taken) {
                        let is_short = around.pace == Pace::Random && around.random.percent(chances.short);
                        around.clients[client].socket.take(is_short, around.random);
                    }
                    if around.chance(chances.sent) {
                        around.clients[client].socket.complete_send()
                    } else {
                        None
                    }
                }
                Operation::Close if around.chance(chances.closed) => {
                    around.clients[client].socket.complete_close()
                }
                Operation::Receive | Operation::Close => None,
            };
            let id = around.clients[client].socket.id.expect("Bug: a client without a connection in a slot");
            completions.extend(completed.map(|completed| (client, id, completed)));
        }
        completions
    }

    /// Lets an operation complete, whose outcome the completion borrows from `completed`.
    pub(crate) fn complete<'a>(
        &mut self,
        client: usize,
        id: ConnectionId,
        completed: &'a mut Option<Completed>,
        around: &mut Around<'_>,
    ) -> Option<Completion<'a>> {
        let number = match completed.as_ref()? {
            Completed::Received(bytes) => bytes.len(),
            Completed::Sent(_, Ok(sent)) => *sent,
            _ => 0,
        };
        around.trace.note([self.shard, client, number], || match &completed {
            Some(Completed::Sent(batch, result)) => {
                format!("  {client} ({id}) sent {result:?} of {} frames", batch.frame_count())
            }
            Some(Completed::Received(bytes)) => format!("  {client} ({id}) received {} bytes", bytes.len()),
            other => format!("  {client} ({id}) {other:?}"),
        });
        if let Some(Completed::Sent(batch, Ok(sent))) = completed {
            self.note_sent(client, batch, *sent, around.now.monotonic_ms);
        }
        if !matches!(completed, Some(Completed::Received(_))) {
            // Nothing is lent, so it may be given away.
            return Some(match completed.take()? {
                Completed::Received(_) | Completed::EndOfStream => Completion::EndOfStream(id),
                Completed::ReceiveFailed(errno) => {
                    Completion::ReceiveFailed(id, std::io::Error::from_raw_os_error(errno))
                }
                Completed::Closed => {
                    around.clients[client].socket.id = None;
                    self.cut_short.remove(&client);
                    self.halves.remove(&client);
                    self.being_closed.remove(&client);
                    self.slots.remove(&id.index);
                    Completion::Closed(id)
                }
                Completed::Sent(batch, result) => Completion::Sent(id, batch, result),
            });
        }
        match completed {
            Some(Completed::Received(bytes)) => Some(Completion::Received(id, bytes)),
            _ => None,
        }
    }

    fn note_sent(&mut self, client: usize, batch: &SendBatch, sent: usize, now_ms: u64) {
        // A send that ends elsewhere than a frame has left one half sent.
        if frame_ends(batch).contains(&sent) {
            self.halves.remove(&client);
        } else {
            self.halves.insert(client);
        }
        if sent < batch.remaining_bytes() {
            self.cut_short.insert(client);
        } else if self.being_closed.contains(&client) {
            self.deadlines.entry(client).or_insert(now_ms + ANSWER_MS);
        }
    }

    /// Takes a submission to the client's socket.
    pub(crate) fn submit(&mut self, submission: Submission, around: &mut Around<'_>) -> Checked {
        let id = match &submission {
            Submission::Send(id, _)
            | Submission::PauseReceive(id)
            | Submission::ResumeReceive(id)
            | Submission::ShutdownWrite(id)
            | Submission::Close(id, _) => *id,
        };
        let Some(&client) = self.slots.get(&id.index) else {
            violated!(TerminalCompletion, "{submission:.60?} for a free slot")
        };
        let own = around.clients[client].socket.id;
        ensure!(TerminalCompletion, own == Some(id), "{id} is an earlier use of {own:?}'s slot");
        let number = match &submission {
            Submission::Send(_, batch) => {
                if !self.cut_short.remove(&client) {
                    self.check_sharing(client, batch, around)?;
                }
                let last = batch.slice(batch.frame_count() - 1);
                let is_whole = batch.frame_count() > 1 || !self.halves.contains(&client);
                if is_whole && last[0] == 0x80 | CLOSE {
                    self.being_closed.insert(client);
                }
                batch.remaining_bytes()
            }
            Submission::ShutdownWrite(_) => {
                self.deadlines.insert(client, around.now.monotonic_ms + ANSWER_MS);
                0
            }
            Submission::Close(..) => {
                self.deadlines.remove(&client);
                0
            }
            Submission::PauseReceive(_) | Submission::ResumeReceive(_) => 0,
        };
        around.trace.note([self.shard, client, number], || match &submission {
            Submission::Send(_, batch) => {
                format!("  {client} ({id}) <- {} frames, {number} bytes", batch.frame_count())
            }
            other => format!("  {client} <- {other:?}"),
        });
        around.clients[client].socket.submit(submission, around.random)
    }

    /// Whoever is told to go has two seconds to answer, and a timer that sees to it.
    pub(crate) fn check_deadlines(&self, shard: &Shard) -> Checked {
        let due_ms = shard.next_due_ms();
        for (client, &deadline_ms) in &self.deadlines {
            let is_seen_to = due_ms.is_some_and(|due_ms| due_ms <= deadline_ms);
            ensure!(
                Protocol,
                is_seen_to,
                "client {client} must answer by {deadline_ms} ms, looked at {due_ms:?}"
            );
        }
        Ok(())
    }

    /// Invariants *encode once* and *held once*: what several members on a shard are sent of one event,
    /// whatever it is, are the same bytes at the same address. What one sends first another may receive
    /// later, so that a second encoding would be a second address.
    fn check_sharing(&mut self, client: usize, batch: &SendBatch, around: &Around<'_>) -> Checked {
        let is_raw = match around.clients[client].talk {
            Talk::Chat(_) => false,
            // Its messages have no time, so that any two may be alike.
            Talk::Hub(_) => return Ok(()),
            Talk::Raw(_) => true,
            Talk::Echo(_) => return Ok(()),
        };
        for index in 0..batch.frame_count() {
            let frame = batch.slice(index);
            let Some(payload) = payload_begin(frame) else { continue };
            if !is_raw && !BROADCASTS.iter().any(|begin| payload.starts_with(begin)) {
                continue;
            }
            if is_of_one_who_returned(payload, around) {
                continue;
            }
            let mut hasher = DefaultHasher::new();
            (is_raw, frame).hash(&mut hasher);
            let content = hasher.finish();
            let times = self.times_sent.entry((client, content)).or_default();
            *times += 1;
            let address = frame.as_ptr().addr();
            let held = *self.held_at.entry((content, *times)).or_insert(address);
            ensure!(
                EncodeOnce,
                held == address,
                "a broadcast was encoded twice: {:.100}",
                String::from_utf8_lossy(payload)
            );
        }
        Ok(())
    }
}

/// True for the coming or going of a user who may have come to a room twice in one turn: that is announced twice in the
/// same bytes, and some members may have been there for the second one alone.
fn is_of_one_who_returned(payload: &[u8], around: &Around<'_>) -> bool {
    if !payload.starts_with(br#"{"type":"join","#) && !payload.starts_with(br#"{"type":"leave","#) {
        return false;
    }
    let announced: Value = serde_json::from_slice(payload).expect("what the server sends is JSON");
    let user = announced["content"]["user_id"].as_u64().expect("an announcement names a user");
    // Of one who has not read its welcome nobody can tell.
    let Some(&client) = around.record.users.get(&user) else { return true };
    if around.record.is_claimed(user) {
        return true;
    }
    matches!(&around.clients[client].talk, Talk::Chat(chat) if chat.may_have_returned())
}

/// Where each frame of a batch ends, counted from its beginning.
fn frame_ends(batch: &SendBatch) -> Vec<usize> {
    (0..batch.frame_count())
        .scan(0, |end, index| {
            *end += batch.slice(index).len();
            Some(*end)
        })
        .collect()
}

/// What follows the header of a text or binary frame.
fn payload_begin(frame: &[u8]) -> Option<&[u8]> {
    let [first, second, ..] = frame else { return None };
    if !matches!(first & 0x0f, 1 | 2) {
        return None;
    }
    frame.get(
        match second {
            126 => 4,
            127 => 10,
            _ => 2,
        }..,
    )
}
