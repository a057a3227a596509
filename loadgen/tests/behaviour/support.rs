//! A small WebSocket server for the tests of the binary: honest, unless told to misbehave.

use std::net::SocketAddr;
use std::process::{Command, Output};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio_tungstenite::accept_hdr_async;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::server::{Request, Response};
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

/// A short run. The tests share few cores with the server in this very process, so timing gates are not
/// what they look at.
pub(crate) fn loadgen(server: SocketAddr, arguments: &[&str]) -> Output {
    command(server, arguments).output().expect("loadgen runs")
}

/// The command of a short run, where the arguments do not say otherwise.
pub(crate) fn command(server: SocketAddr, arguments: &[&str]) -> Command {
    let url = format!("ws://{server}");
    let mut command = Command::new(env!("CARGO_BIN_EXE_loadgen"));
    command.args(["--url", &url, "--drain", "1s", "--quiet"]);
    let defaults = [("--duration", "1s"), ("--rate", "40"), ("--warmup", "300ms"), ("--clients", "20")];
    let in_stages = |name| arguments.contains(&"--stages") && ["--duration", "--rate"].contains(&name);
    for (name, value) in defaults {
        if !arguments.contains(&name) && !in_stages(name) {
            command.args([name, value]);
        }
    }
    command.args(arguments);
    command
}

pub(crate) fn json(output: &Output) -> Value {
    let stderr = String::from_utf8_lossy(&output.stderr);
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}; stderr: {stderr}"))
}

/// Names of the gates that failed, other than those that a busy machine may fail.
pub(crate) fn failed_gates(result: &Value) -> Vec<&str> {
    let gates = result["validity"]["gates"].as_array().expect("gates");
    let failed = gates.iter().filter(|gate| gate["passed"] == false);
    let names = failed.map(|gate| gate["name"].as_str().expect("a name"));
    names.filter(|name| !["send_lag", "busy"].contains(name)).collect()
}

const ROOMS: [&str; 3] = ["general", "random", "gaming"];

/// How the server misbehaves.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Conduct {
    /// Drops one in so many deliveries.
    pub(crate) drop_one_in: Option<u64>,
    /// Sends one in so many deliveries twice.
    pub(crate) repeat_one_in: Option<u64>,
    /// Waits before each delivery.
    pub(crate) delay: Duration,
    /// Answers every request with 200.
    pub(crate) is_plain_http: bool,
    /// Closes a member with 1013 that has been sent so many deliveries.
    pub(crate) close_after: Option<u64>,
}

/// Starts a server that lives as long as the test's process.
pub(crate) fn start(conduct: Conduct) -> SocketAddr {
    start_on(0, conduct)
}

/// The same on a certain port.
pub(crate) fn start_on(port: u16, conduct: Conduct) -> SocketAddr {
    let (sender, receiver) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async move {
            let listener = TcpListener::bind(("127.0.0.1", port)).await.expect("binds");
            sender.send(listener.local_addr().expect("is bound")).expect("the test listens");
            let hub = Arc::new(Mutex::new(Hub { conduct, ..Hub::default() }));
            loop {
                let (stream, _) = listener.accept().await.expect("accepts");
                tokio::spawn(serve(stream, conduct, Arc::clone(&hub)));
            }
        });
    });
    receiver.recv().expect("the server starts")
}

#[derive(Default)]
struct Hub {
    conduct: Conduct,
    /// Who is where: on a topic's path, or in a chat room.
    members: Vec<(u64, String, UnboundedSender<Message>)>,
    users: u64,
    message_id: u64,
    deliveries: u64,
}

impl Hub {
    fn broadcast(&mut self, message: &Message, place: &str, except: Option<u64>) {
        let Conduct { drop_one_in, repeat_one_in, .. } = self.conduct;
        for (member, at, queue) in &self.members {
            if except == Some(*member) || at != place {
                continue;
            }
            self.deliveries += 1;
            let hits = |one_in: Option<u64>| one_in.is_some_and(|n| self.deliveries.is_multiple_of(n));
            let copies = 1 + u64::from(hits(repeat_one_in)) - u64::from(hits(drop_one_in));
            for _ in 0..copies {
                let _ = queue.send(message.clone());
            }
        }
    }
}

async fn serve(mut stream: TcpStream, conduct: Conduct, hub: Arc<Mutex<Hub>>) {
    stream.set_nodelay(true).expect("a socket");
    if conduct.is_plain_http {
        let mut head = [0; 1024];
        let _ = stream.read(&mut head).await;
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
        return;
    }
    let mut start = [0; 12];
    if stream.peek(&mut start).await.is_ok() && start == *b"GET /healthz" {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await;
        return;
    }
    let mut path = String::new();
    #[allow(clippy::result_large_err, reason = "the callback's signature is tungstenite's")]
    let note_path = |request: &Request, response: Response| {
        path = request.uri().path().to_owned();
        Ok(response)
    };
    let Ok(socket) = accept_hdr_async(stream, note_path).await else { return };
    let (mut sink, mut source) = socket.split();
    let (queue, mut outgoing) = unbounded_channel();
    let user = {
        let mut hub = hub.lock().expect("not poisoned");
        hub.users += 1;
        hub.users
    };
    let is_chat = path == "/chat";
    if is_chat {
        let welcome = json!({"user_id": user, "user_name": format!("User{user}"), "server_stats": {}});
        send(&queue, "welcome", welcome);
        send(&queue, "users", json!([{"id": user, "name": format!("User{user}"), "connected_at": 1}]));
        send(&queue, "history", json!([]));
    }
    let place = match &path[..] {
        "/chat" => "general".to_owned(),
        "/echo" => format!("echo of {user}"),
        topic => topic.to_owned(),
    };
    hub.lock().expect("not poisoned").members.push((user, place.clone(), queue.clone()));
    tokio::spawn(async move {
        let mut count = 0;
        while let Some(message) = outgoing.recv().await {
            tokio::time::sleep(conduct.delay).await;
            if conduct.close_after.is_some_and(|after| count > after) {
                let frame = CloseFrame { code: CloseCode::Again, reason: "slow consumer".into() };
                let _ = sink.send(Message::Close(Some(frame))).await;
                return;
            }
            count += 1;
            if sink.send(message).await.is_err() {
                return;
            }
        }
    });
    while let Some(Ok(message)) = source.next().await {
        match message {
            Message::Text(text) if is_chat => say(&hub, &queue, user, &text),
            Message::Text(_) | Message::Binary(_) => {
                hub.lock().expect("not poisoned").broadcast(&message, &place, None);
            }
            _ => {}
        }
    }
    hub.lock().expect("not poisoned").members.retain(|(member, ..)| *member != user);
}

fn say(hub: &Mutex<Hub>, queue: &UnboundedSender<Message>, user: u64, text: &str) {
    let message: Value = serde_json::from_str(text).expect("JSON");
    match message["type"].as_str() {
        Some("message") => {
            let mut hub = hub.lock().expect("not poisoned");
            hub.message_id += 1;
            let event = json!({
                "type": "message", "from_id": user, "from_name": format!("User{user}"),
                "content": message["content"], "timestamp": 1, "message_id": hub.message_id,
            });
            let own = hub.members.iter().find(|(member, ..)| *member == user).expect("a member");
            let room = own.1.clone();
            let sent = json!({"message_id": hub.message_id, "room": room});
            hub.broadcast(&Message::text(event.to_string()), &room, Some(user));
            send(queue, "message_sent", sent);
        }
        Some("private_message") => {
            let hub = hub.lock().expect("not poisoned");
            let to_id = message["to_id"].as_u64().expect("an id");
            let (.., target) = hub.members.iter().find(|(member, ..)| *member == to_id).expect("a member");
            let name = |user: u64| format!("User{user}");
            let event = json!({
                "type": "private_message", "from_id": user, "from_name": name(user),
                "content": message["content"], "timestamp": 1,
            });
            let sent = json!({
                "type": "private_message_sent", "to_id": to_id, "to_name": name(to_id),
                "content": message["content"], "timestamp": 1,
            });
            let _ = target.send(Message::text(event.to_string()));
            let _ = queue.send(Message::text(sent.to_string()));
        }
        Some("join_room") if !ROOMS.contains(&message["room"].as_str().expect("a room")) => {
            let unknown = format!("Unknown room: {}", message["room"].as_str().expect("a room"));
            send(queue, "error", json!({"message": unknown}));
        }
        Some("join_room") => {
            let mut hub = hub.lock().expect("not poisoned");
            let own = hub.members.iter_mut().find(|(member, ..)| *member == user).expect("a member");
            own.1 = message["room"].as_str().expect("a room").to_owned();
            send(queue, "room_joined", json!({"room": message["room"]}));
            send(queue, "users", json!([]));
            send(queue, "history", json!([]));
        }
        other => panic!("unexpected type {other:?}"),
    }
}

fn send(queue: &UnboundedSender<Message>, kind: &str, content: Value) {
    let message = json!({"type": kind, "content": content, "timestamp": 1});
    let _ = queue.send(Message::text(message.to_string()));
}
