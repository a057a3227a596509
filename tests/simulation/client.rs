//! One client, whatever it speaks: its socket, its habits, and how far its life has come.

use std::collections::{BTreeSet, VecDeque};
use std::net::SocketAddr;

use uproar::handshake::route::Endpoint;
use uproar::permit::ClientPermit;

use crate::chat::Chat;
use crate::echo::Echo;
use crate::hub::Hub;
use crate::random::Random;
use crate::raw::Raw;
use crate::record::Record;
use crate::scenario::Scenario;
use crate::socket::{DownEnd, Socket};
use crate::trace::Trace;
use crate::violation::{Checked, ensure, violated};
use crate::wire::{self, BINARY, CLOSE, CONTINUATION, Incoming, PING, PONG, Reader, TEXT, frame};

#[derive(Debug)]
pub(crate) enum Talk {
    Chat(Box<Chat>),
    Hub(Box<Hub>),
    Raw(Raw),
    Echo(Echo),
}

#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) number: usize,
    pub(crate) shard: usize,
    pub(crate) socket: Socket,
    pub(crate) talk: Talk,
    pub(crate) permit: Option<ClientPermit>,
    /// The token with which it comes back.
    pub(crate) session: Option<String>,
    /// False while it has stopped reading.
    pub(crate) is_reading: bool,
    /// The step at which it was told that it is connected.
    pub(crate) greeted_at: Option<u64>,
    /// The code that it has sent, and the one that it has been sent.
    close_sent: Option<u16>,
    close_seen: Option<u16>,
    is_shut_down: bool,
    /// True once it has said that it goes, and waits for the server's close.
    has_logged_out: bool,
    /// The close code that its breach of the protocol asks for.
    violation: Option<u16>,
    down_end: Option<DownEnd>,
    reader: Reader,
    pings: u32,
    pongs_awaited: VecDeque<Vec<u8>>,
}

impl Client {
    pub(crate) fn draw(number: usize, scenario: &Scenario, random: &mut Random) -> Self {
        let talk = match random.below(13) {
            0..=5 => Talk::Chat(Box::new(Chat::new(number))),
            10..=12 if !scenario.has_failing_disk => {
                Talk::Hub(Box::new(Hub::new(number, address(number).to_string())))
            }
            6..=8 => Talk::Raw(Raw {
                topic: random.pick(&scenario.topics).clone(),
                sent: 0,
                own_received: 0,
                own_last: 0,
                last: None,
                seen: BTreeSet::new(),
            }),
            _ => Talk::Echo(Echo::default()),
        };
        Self {
            number,
            shard: random.below(usize::from(scenario.shards)),
            socket: Socket::new(*random.pick(&[200, 2_000, 20_000, 200_000])),
            talk,
            permit: None,
            session: None,
            is_reading: true,
            greeted_at: None,
            close_sent: None,
            close_seen: None,
            is_shut_down: false,
            has_logged_out: false,
            violation: None,
            down_end: None,
            reader: Reader::default(),
            pings: 0,
            pongs_awaited: VecDeque::new(),
        }
    }

    /// An address that no other client has.
    pub(crate) fn address(&self) -> SocketAddr {
        address(self.number)
    }

    pub(crate) fn endpoint(&self) -> Endpoint {
        match &self.talk {
            Talk::Chat(_) => Endpoint::Chat,
            Talk::Hub(_) => Endpoint::Hub,
            Talk::Raw(raw) => Endpoint::Raw { topic: raw.topic.clone() },
            Talk::Echo(_) => Endpoint::Echo,
        }
    }

    /// True while it neither has said farewell nor been shown the door.
    pub(crate) fn is_talking(&self) -> bool {
        self.close_sent.is_none()
            && !self.has_logged_out
            && self.violation.is_none()
            && !self.socket.up_fin
            && !self.socket.is_reset
            && self.down_end.is_none()
    }

    /// True when its connection is open on both sides, as far as both know, and it reads.
    pub(crate) fn is_faithful(&self) -> bool {
        self.is_talking() && self.close_seen.is_none() && self.is_reading && !self.socket.is_closing()
    }

    /// True when nothing of it is left.
    pub(crate) fn is_gone(&self) -> bool {
        self.socket.id.is_none() && self.greeted_at.is_some() || self.down_end.is_some()
    }

    fn write(&mut self, bytes: &[u8]) {
        self.socket.up.extend(bytes);
    }

    /// Writes one message, in one frame or in several with a ping between them.
    fn write_message(&mut self, opcode: u8, payload: &[u8], random: &mut Random) {
        if payload.is_empty() || !random.percent(15) {
            return self.write(&frame(opcode, true, payload, random.next() as u32));
        }
        let (first, second) = payload.split_at(random.below(payload.len()));
        self.write(&frame(opcode, false, first, random.next() as u32));
        if random.percent(30) {
            self.ping(random);
        }
        self.write(&frame(CONTINUATION, true, second, random.next() as u32));
    }

    fn ping(&mut self, random: &mut Random) {
        // No two alike, so that each answer tells which it answers.
        self.pings += 1;
        let mut payload = self.pings.to_be_bytes().to_vec();
        payload.resize(payload.len() + random.below(8), 0);
        self.write(&frame(PING, true, &payload, random.next() as u32));
        self.pongs_awaited.push_back(payload);
    }

    /// Says one more thing.
    pub(crate) fn speak(&mut self, record: &mut Record, scenario: &Scenario, step: u64, random: &mut Random) {
        if random.percent(5) {
            return self.ping(random);
        }
        match &mut self.talk {
            Talk::Chat(chat) => {
                let text = chat.speak(record, scenario, random);
                self.write_message(TEXT, text.as_bytes(), random);
            }
            Talk::Hub(hub) => {
                if let Some(text) = hub.speak(scenario, random) {
                    self.write_message(TEXT, text.as_bytes(), random);
                }
            }
            Talk::Raw(_) => {
                let len = match random.below(20) {
                    0 => random.below(scenario.limits.frame_bytes_max - 40),
                    1..=3 => random.below(2_000),
                    _ => random.below(30),
                };
                self.relay(len, record, step, random);
            }
            Talk::Echo(_) => {
                let len = match random.below(10) {
                    0 => random.below(scenario.limits.frame_bytes_max - 40),
                    _ => random.below(200),
                };
                self.call(len, random);
            }
        }
    }

    /// Says something to itself.
    fn call(&mut self, len: usize, random: &mut Random) {
        let Talk::Echo(echo) = &mut self.talk else { return };
        echo.sent += 1;
        let payload = format!("{} {}", echo.sent, "e".repeat(len));
        let is_text = random.percent(50);
        let incoming = if is_text {
            Incoming::Text(payload.clone())
        } else {
            Incoming::Binary(payload.clone().into_bytes())
        };
        echo.awaited.push_back(incoming);
        self.write_message(if is_text { TEXT } else { BINARY }, payload.as_bytes(), random);
    }

    fn relay(&mut self, len: usize, record: &mut Record, step: u64, random: &mut Random) {
        let Talk::Raw(raw) = &mut self.talk else { return };
        raw.sent += 1;
        let key = (self.number, raw.sent);
        let payload = format!("{}/{} {}", key.0, key.1, "r".repeat(len)).into_bytes();
        let is_text = random.percent(50);
        record.note_relay(key, &raw.topic, is_text, &payload, step);
        self.write_message(if is_text { TEXT } else { BINARY }, &payload, random);
    }

    /// Says so much at once that queues fill.
    pub(crate) fn flood(&mut self, record: &mut Record, scenario: &Scenario, step: u64, random: &mut Random) {
        if matches!(self.talk, Talk::Echo(_)) {
            for _ in 0..random.between(4, 12) {
                self.call(scenario.limits.frame_bytes_max - 40, random);
            }
            // Some run: what they have sent arrives, and what they are sent does not.
            if random.percent(40) {
                self.reset(random);
            }
            return;
        }
        let count = *random.pick(&[300, 1_100, 1_500, 4_500]);
        for _ in 0..count {
            match &mut self.talk {
                Talk::Chat(chat) => {
                    let text = chat.flood();
                    self.write_message(TEXT, text.as_bytes(), random);
                }
                Talk::Raw(_) => self.relay(0, record, step, random),
                Talk::Hub(_) | Talk::Echo(_) => return,
            }
        }
    }

    /// Says what everyone in the room or on the topic must hear before the run may end.
    pub(crate) fn probe(&mut self, record: &mut Record, step: u64, random: &mut Random) {
        match &mut self.talk {
            Talk::Chat(chat) => {
                for text in chat.probe() {
                    self.write_message(TEXT, text.as_bytes(), random);
                }
            }
            Talk::Hub(hub) => {
                for text in hub.probe() {
                    self.write_message(TEXT, text.as_bytes(), random);
                }
            }
            Talk::Raw(_) => self.relay(0, record, step, random),
            Talk::Echo(_) => {}
        }
        self.ping(random);
    }

    /// Ends its part of the connection, one way or another.
    pub(crate) fn leave(&mut self, random: &mut Random) {
        if matches!(self.talk, Talk::Hub(_)) && random.percent(40) {
            // The rate limit may drop it; then its silence ends the connection.
            self.write_message(TEXT, br#"{"type":"logout"}"#, random);
            self.has_logged_out = true;
            return;
        }
        match random.below(4) {
            0 | 1 => {
                let code: u16 = *random.pick(&[1000, 1001, 3000]);
                self.write(&frame(CLOSE, true, &code.to_be_bytes(), random.next() as u32));
                self.close_sent = Some(code);
            }
            2 => self.socket.up_fin = true,
            _ => self.reset(random),
        }
    }

    /// Breaks its connection. What it has written before may have arrived in part, whole, or not at all.
    pub(crate) fn reset(&mut self, random: &mut Random) {
        let arrived_bytes = match random.below(3) {
            0 => 0,
            1 => random.below(self.socket.up.len() + 1),
            _ => self.socket.up.len(),
        };
        self.socket.reset(arrived_bytes);
    }

    /// Breaks the protocol.
    pub(crate) fn misbehave(&mut self, scenario: &Scenario, random: &mut Random) {
        let mask = random.next() as u32;
        let (code, bytes) = match random.below(5) {
            0 => (1002, vec![0x81, 0x02, b'h', b'i']),
            1 => (1002, frame(3, true, b"", mask)),
            2 => (1002, frame(CONTINUATION, true, b"x", mask)),
            3 => (1007, frame(TEXT, true, b"\xff\xfe", mask)),
            _ => (1009, frame(BINARY, true, &vec![0; scenario.limits.frame_bytes_max + 1], mask)),
        };
        self.violation = Some(code);
        self.write(&bytes);
    }

    /// Reads up to `bytes_max` of what has been sent to it. True when there was something.
    pub(crate) fn read(
        &mut self,
        bytes_max: usize,
        record: &mut Record,
        scenario: &Scenario,
        trace: &mut Trace,
        random: &mut Random,
    ) -> Checked<bool> {
        let bytes = self.socket.read(bytes_max);
        let mut has_read = !bytes.is_empty();
        self.reader.push(bytes);
        while let Some(incoming) = self.reader.poll()? {
            let number = self.number;
            trace.note([number, 4, 0], || format!("  {number} hears {:.300}", format!("{incoming:?}")));
            self.hear(incoming, record, scenario, trace.step, random)?;
        }
        if self.socket.down.is_empty() && self.down_end.is_none() && self.socket.down_end.is_some() {
            self.down_end = self.socket.down_end;
            has_read = true;
            self.hear_end(random)?;
        }
        Ok(has_read)
    }

    fn hear_end(&mut self, random: &mut Random) -> Checked {
        if self.down_end == Some(DownEnd::Reset) {
            return Ok(());
        }
        ensure!(Protocol, self.reader.is_between_messages(), "the stream ended within a message");
        let is_own_doing = self.socket.up_fin || self.socket.is_reset;
        ensure!(Protocol, self.close_seen.is_some() || is_own_doing, "the server left without a close frame");
        // TCP is ended by the server first; a few clients never end it.
        if random.percent(90) {
            self.socket.up_fin = true;
        }
        Ok(())
    }

    fn hear(
        &mut self,
        incoming: Incoming,
        record: &mut Record,
        scenario: &Scenario,
        step: u64,
        random: &mut Random,
    ) -> Checked {
        match incoming {
            Incoming::Greeting => self.greeted_at = Some(step),
            Incoming::Ping(payload) => {
                // A client that has said farewell sends nothing more.
                if self.is_talking() && self.close_seen.is_none() {
                    self.write(&frame(PONG, true, &payload, random.next() as u32));
                }
            }
            Incoming::Pong(payload) => {
                // A new one may have taken the place of others that waited unsent.
                let place = self.pongs_awaited.iter().position(|awaited| *awaited == payload);
                ensure!(
                    OneOrder,
                    place.is_some(),
                    "pong {payload:?} and not {:?}",
                    self.pongs_awaited.front()
                );
                self.pongs_awaited.drain(..=place.unwrap_or_default());
            }
            Incoming::Close(code, reason) => self.hear_close(code, &reason, record, scenario, random)?,
            Incoming::Text(text) => match &mut self.talk {
                Talk::Chat(chat) => chat.hear(&text, record, scenario)?,
                Talk::Hub(hub) => hub.hear(&text, record, scenario)?,
                Talk::Raw(raw) => raw.hear(self.number, true, text.as_bytes(), record, &scenario.limits)?,
                Talk::Echo(echo) => echo.hear(&Incoming::Text(text))?,
            },
            Incoming::Binary(bytes) => match &mut self.talk {
                Talk::Chat(_) | Talk::Hub(_) => violated!(Protocol, "a binary message to a user"),
                Talk::Raw(raw) => raw.hear(self.number, false, &bytes, record, &scenario.limits)?,
                Talk::Echo(echo) => echo.hear(&Incoming::Binary(bytes))?,
            },
        }
        Ok(())
    }

    fn hear_close(
        &mut self,
        code: u16,
        reason: &str,
        record: &Record,
        scenario: &Scenario,
        random: &mut Random,
    ) -> Checked {
        self.close_seen = Some(code);
        if let Talk::Chat(chat) = &self.talk
            && self.close_sent.is_none()
        {
            chat.check_close(code)?;
        }
        match (code, reason) {
            (1013, "slow consumer") => {
                ensure!(EverythingBounded, !scenario.is_queue_ample(), "evicted although its queue had room");
            }
            (1013, "slow storage") => {
                let is_meant = scenario.is_durable && !scenario.is_queue_ample();
                ensure!(EverythingBounded, is_meant, "evicted although nothing waited for the disk");
            }
            (1001, "idle timeout") => {
                ensure!(Protocol, !matches!(self.talk, Talk::Hub(_)), "a hub client is closed with 1001");
            }
            (1008, "idle timeout") => {
                let is_told = matches!(&self.talk, Talk::Hub(hub) if hub.is_told_of_silence);
                ensure!(Protocol, is_told, "sent away for its silence without a word");
            }
            (1008, "session resumed elsewhere") => {
                // It may not have been welcomed yet: then it has claimed the user itself.
                let is_meant = match &self.talk {
                    Talk::Chat(chat) => {
                        chat.user.or(chat.claimed).is_some_and(|user| record.is_claimed(user))
                    }
                    _ => false,
                };
                ensure!(OnePlace, is_meant, "closed for a user who has not come back");
            }
            (1000, "") if self.has_logged_out => {}
            (1001, "server shutting down") => {
                ensure!(Protocol, scenario.ends_by_drain, "a shutdown that nobody asked for");
                self.is_shut_down = true;
            }
            _ => {
                let expected = self.violation.or(self.close_sent);
                ensure!(
                    Protocol,
                    expected == Some(code),
                    "closed with {code} {reason:?} and not {expected:?}"
                );
            }
        }
        // Somebody who does not answer must be cut off in the end.
        if self.is_talking() && random.percent(80) {
            self.write(&frame(CLOSE, true, &code.to_be_bytes(), random.next() as u32));
            self.close_sent = Some(code);
        }
        Ok(())
    }

    /// True when it has been shown a room.
    pub(crate) fn is_welcomed(&self) -> bool {
        matches!(&self.talk, Talk::Chat(chat) if chat.user.is_some())
    }

    /// True when the server has closed it to shut down, and it has read all that came before.
    pub(crate) fn is_shut_down(&self) -> bool {
        self.is_shut_down
    }

    /// Whoever is closed by a shutdown has heard what others were told is sent.
    pub(crate) fn check_shut_down(&self, record: &Record) -> Checked {
        match (&self.talk, self.greeted_at) {
            (Talk::Chat(chat), _) => chat.check_shut_down(record),
            (Talk::Hub(hub), _) => hub.check_order(record),
            (Talk::Raw(raw), Some(greeted_at)) => raw.check_topic(greeted_at, record),
            _ => Ok(()),
        }
    }

    /// Whoever is connected and reads has heard everything.
    pub(crate) fn check_at_rest(&self, record: &Record, scenario: &Scenario) -> Checked {
        if !self.is_faithful() {
            return Ok(());
        }
        ensure!(NoWaitingOnTheSlow, self.reader.is_between_messages(), "the rest of a message has not come");
        ensure!(NoWaitingOnTheSlow, self.pongs_awaited.is_empty(), "pings without pongs");
        ensure!(NoWaitingOnTheSlow, self.socket.up.is_empty(), "what it has written was not received");
        let Some(greeted_at) = self.greeted_at else {
            violated!(NoWaitingOnTheSlow, "its upgrade was not answered")
        };
        match &self.talk {
            Talk::Chat(chat) => chat.check_at_rest(record),
            Talk::Hub(hub) => hub.check_at_rest(record),
            Talk::Echo(echo) => {
                ensure!(NoWaitingOnTheSlow, echo.awaited.is_empty(), "{} echoes missing", echo.awaited.len());
                Ok(())
            }
            Talk::Raw(raw) => {
                raw.check_own(&scenario.limits)?;
                raw.check_topic(greeted_at, record)
            }
        }
    }
}

fn address(number: usize) -> SocketAddr {
    ([127, 0, 0, 1], 40_000 + number as u16).into()
}

/// The first bytes of a connection, as an acceptor hands them over.
pub(crate) fn greeting() -> bytes::Bytes {
    bytes::Bytes::from_static(wire::GREETING)
}
