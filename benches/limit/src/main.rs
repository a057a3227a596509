//! The least that a broadcast can cost: a message is read, and then there is one `send(2)` for each
//! receiver, one after the other, and nothing else. What a server takes beside this program in the same
//! run is its own; the rest is the kernel's.
//!
//! It speaks just enough of the raw and of the chat dialect for a load generator to take it for a server.
//! It has no queues, so a receiver whose socket is full ends it; no timers, no limits, and it runs until it
//! is killed.

mod member;

use std::convert::Infallible;
use std::io::{self, Write};
use std::net::TcpListener;
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use member::{Member, Said};
use rustix::event::epoll;
use serde_json::{Value, json};
use tungstenite::protocol::frame::FrameHeader;
use tungstenite::protocol::frame::coding::{Control, Data, OpCode};

const USAGE: &str = "usage: limit raw|chat [ADDRESS:PORT]    (default 127.0.0.1:8080; port 0 is any)";
const DEFAULT_ADDRESS: &str = "127.0.0.1:8080";

/// What the listener is called among the events; members are called by their index.
const LISTENER: u64 = u64::MAX;

/// The language spoken, the same on every path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Dialect {
    Raw,
    Chat,
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let (dialect, address) = match arguments[..] {
        ["raw"] => (Dialect::Raw, DEFAULT_ADDRESS),
        ["chat"] => (Dialect::Chat, DEFAULT_ADDRESS),
        ["raw", address] => (Dialect::Raw, address),
        ["chat", address] => (Dialect::Chat, address),
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match Limit::listen(dialect, address).and_then(Limit::run) {
        Ok(never) => match never {},
        Err(error) => {
            eprintln!("limit: {error}");
            ExitCode::FAILURE
        }
    }
}

struct Limit {
    dialect: Dialect,
    listener: TcpListener,
    epoll: rustix::fd::OwnedFd,
    /// By index, which is never used again.
    members: Vec<Option<Member>>,
    messages: u64,
}

impl Limit {
    fn listen(dialect: Dialect, address: &str) -> io::Result<Self> {
        let listener = TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        epoll::add(&epoll, &listener, epoll::EventData::new_u64(LISTENER), epoll::EventFlags::IN)?;
        let mut out = io::stdout().lock();
        writeln!(out, "limit listening on http://{}", listener.local_addr()?)?;
        out.flush()?;
        Ok(Self { dialect, listener, epoll, members: Vec::new(), messages: 0 })
    }

    fn run(mut self) -> io::Result<Infallible> {
        let mut events = Vec::with_capacity(1024);
        loop {
            events.clear();
            match epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut events), None) {
                Err(rustix::io::Errno::INTR) => continue,
                outcome => outcome?,
            };
            for event in &events {
                match event.data.u64() {
                    LISTENER => self.accept()?,
                    index => self.read(index as usize)?,
                }
            }
        }
    }

    fn accept(&mut self) -> io::Result<()> {
        loop {
            let stream = match self.listener.accept() {
                Ok((stream, _)) => stream,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            };
            // Somebody who asks for a page, or goes away before asking, is no member.
            let Some(mut member) = Member::upgrade(stream)? else { continue };
            let index = self.members.len();
            if self.dialect == Dialect::Chat {
                member.send(&welcome(index + 1))?;
            }
            let data = epoll::EventData::new_u64(index as u64);
            epoll::add(&self.epoll, member.stream(), data, epoll::EventFlags::IN)?;
            self.members.push(Some(member));
        }
    }

    fn read(&mut self, index: usize) -> io::Result<()> {
        let Some(member) = &mut self.members[index] else { return Ok(()) };
        let is_there = member.receive();
        while let Some(member) = &mut self.members[index]
            && let Some(said) = member.next_said()
        {
            match said {
                Said::Message(kind, payload) => self.broadcast(index, kind, &payload)?,
                Said::Close(payload) => {
                    // It may have gone without waiting for the answer.
                    let _ = member.send(&frame(OpCode::Control(Control::Close), &payload));
                    self.members[index] = None;
                }
                Said::Ping(payload) => member.send(&frame(OpCode::Control(Control::Pong), &payload))?,
                Said::Pong => {}
            }
        }
        if !is_there {
            self.members[index] = None;
        }
        Ok(())
    }

    /// The point of it all.
    fn broadcast(&mut self, from: usize, kind: Data, payload: &[u8]) -> io::Result<()> {
        self.messages += 1;
        let frame = match self.dialect {
            Dialect::Raw => frame(OpCode::Data(kind), payload),
            Dialect::Chat => {
                let Some((sent, message)) = room_message(self.messages, from + 1, payload) else {
                    return Ok(());
                };
                self.members[from].as_mut().map_or(Ok(()), |sender| sender.send(&sent))?;
                message
            }
        };
        let except = (self.dialect == Dialect::Chat).then_some(from);
        for (index, member) in self.members.iter_mut().enumerate() {
            if let Some(member) = member
                && Some(index) != except
            {
                member.send(&frame)?;
            }
        }
        Ok(())
    }
}

/// An unmasked frame, as a server sends it.
fn frame(opcode: OpCode, payload: &[u8]) -> Vec<u8> {
    let header = FrameHeader { is_final: true, opcode, ..FrameHeader::default() };
    let mut encoded = Vec::with_capacity(10 + payload.len());
    header.format(payload.len() as u64, &mut encoded).expect("Bug: writing to a Vec failed");
    encoded.extend_from_slice(payload);
    encoded
}

fn text(message: &Value) -> Vec<u8> {
    frame(OpCode::Data(Data::Text), message.to_string().as_bytes())
}

fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// What a chat client hears first: a welcome, and lists with nobody and nothing in them.
fn welcome(user_id: usize) -> Vec<u8> {
    let timestamp = unix_seconds();
    let name = format!("User{user_id}");
    let stats = json!({ "users_online": user_id, "uptime_seconds": 0, "server_time": "1970-01-01 00:00:00" });
    let content = json!({
        "user_id": user_id, "user_name": name, "message": "Welcome", "server_stats": stats, "room": "general",
    });
    [("welcome", content), ("users", json!([])), ("history", json!([]))]
        .into_iter()
        .flat_map(|(kind, content)| {
            text(&json!({ "type": kind, "content": content, "timestamp": timestamp }))
        })
        .collect()
}

/// The answer to the sender of a chat message and what everybody else gets; `None` when it is no message.
fn room_message(id: u64, from: usize, payload: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
    let said: Value = serde_json::from_slice(payload).ok()?;
    if said["type"] != "message" {
        return None;
    }
    let timestamp = unix_seconds();
    let sent = json!({
        "type": "message_sent", "content": { "message_id": id, "room": "general" }, "timestamp": timestamp,
    });
    let message = json!({
        "type": "message", "from_id": from, "from_name": format!("User{from}"), "content": said["content"],
        "timestamp": timestamp, "message_id": id,
    });
    Some((text(&sent), text(&message)))
}
