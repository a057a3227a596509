//! Backends that are broken or hostile: the API bounds them, and chat goes on as if they were not there.

use std::time::Instant;

use futures_util::future::join_all;
use rustix::process::Signal;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};

use crate::harness::{
    ApiKeys, Backend, Chat, Launch, Server, eventually, on_one_and_four_shards_only, read_answer, within,
};

on_one_and_four_shards_only! {
    a_slow_head_or_body_is_given_up,
    a_body_without_an_end_is_refused,
    a_refused_body_can_be_sent_to_its_end,
    a_host_is_named_once,
    requests_sent_ahead_are_answered_in_order,
    a_thousand_idle_connections_keep_nobody_out,
    many_large_bodies_take_bounded_memory,
    a_page_of_another_origin_changes_nothing,
    wrong_keys_by_the_thousand_fill_no_log,
    who_never_reads_an_answer_keeps_nobody_out,
    an_unfinished_body_does_not_hold_up_the_end,
    full_mailboxes_lose_no_message,
}

/// The most connections of the API.
const CONNECTIONS_MAX: usize = 256;

/// A server with the API, its key, and two chat members.
struct Attacked {
    server: Server,
    backend: Backend,
    key: String,
    members: [Chat; 2],
    said: usize,
}

impl Attacked {
    async fn start(launch: Launch) -> Self {
        let keys = ApiKeys::new();
        let key = keys.add("backend", &[]).await;
        let server = launch.without_rate_limit().with_api(&keys).start();
        let backend = Backend::with_key(&server, &key);
        let mut members = Chat::members(&server).await;
        for member in &mut members {
            member.move_to("gaming").await;
        }
        assert_eq!(members[0].next().await["type"], "join");
        Self { server, backend, key, members, said: 0 }
    }

    /// Fails unless chat works.
    async fn chat(&mut self) {
        self.said += 1;
        let content = format!("word {}", self.said);
        self.members[0].message(&content).await;
        assert_eq!(self.members[1].next().await["content"], content);
    }

    /// The head of a request with the key.
    fn head(&self, request: &str, fields: &str) -> String {
        format!("{request} HTTP/1.1\r\nHost: api\r\nAuthorization: Bearer {}\r\n{fields}\r\n", self.key)
    }

    /// Sends this, and returns the connection.
    async fn send(&self, bytes: &str) -> TcpStream {
        let mut stream = self.backend.connect().await;
        within("room to write", stream.write_all(bytes.as_bytes())).await.unwrap();
        stream
    }

    async fn metric(&self, name: &str) -> f64 {
        let metrics = self.backend.get("/metrics").await.body;
        let line = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no {name} in {metrics}")).parse().unwrap()
    }
}

const JSON: &str = "Content-Type: application/json\r\n";

async fn a_slow_head_or_body_is_given_up(launch: Launch) {
    let mut attacked = Attacked::start(launch).await;
    let mut head = attacked.send("GET /healthz HTTP/1.1\r\nHost: ").await;
    let fields = format!("{JSON}Content-Length: 100\r\n");
    let mut body = attacked.send(&(attacked.head("POST /api/v1/publish", &fields) + "{\"room\":")).await;
    attacked.chat().await;
    let (answer, ()) = tokio::join!(read_answer(&mut body), async {
        // hyper answers a late head with 408, or just ends.
        let mut bytes = Vec::new();
        let _ = within("end", head.read_to_end(&mut bytes)).await;
        assert!(bytes.is_empty() || bytes.starts_with(b"HTTP/1.1 408 "), "{bytes:?}");
    });
    answer.assert_problem(408, "timeout");
    attacked.chat().await;
}

async fn a_body_without_an_end_is_refused(launch: Launch) {
    let mut attacked = Attacked::start(launch).await;
    // One that says how long it is need not be sent to be refused.
    let fields = format!("{JSON}Content-Length: 1099511627776\r\n");
    let mut announced = attacked.send(&attacked.head("POST /api/v1/publish", &fields)).await;
    read_answer(&mut announced).await.assert_problem(413, "too-large");
    for path in ["publish", "batch", "broadcast/news"] {
        let fields = format!("{JSON}Transfer-Encoding: chunked\r\n");
        let mut endless = attacked.send(&attacked.head(&format!("POST /api/v1/{path}"), &fields)).await;
        let chunk = [b"10000\r\n".as_slice(), &[b' '; 0x10000], b"\r\n"].concat();
        let mut sent = 0;
        // It ends when the server reads no more. Bounded: four times the longest body.
        while sent < 64 << 20 && within("room to write", endless.write_all(&chunk)).await.is_ok() {
            sent += 0x10000;
        }
        assert!(sent < 64 << 20, "{path}: {sent} bytes were taken");
        attacked.chat().await;
    }
    assert_eq!(attacked.metric("uproar_api_requests_under_way").await, 1.0, "the one that asks");
}

/// Goal: a caller that sends all of its body before it reads gets the answer, and no broken pipe.
async fn a_refused_body_can_be_sent_to_its_end(launch: Launch) {
    const BODY: usize = 8 << 20;
    let mut attacked = Attacked::start(launch).await;
    let head = format!("POST /api/v1/publish HTTP/1.1\r\nHost: api\r\nContent-Length: {BODY}\r\n\r\n");
    let mut stream = attacked.send(&head).await;
    within("room to write", stream.write_all(&vec![b' '; BODY])).await.unwrap();
    stream.shutdown().await.unwrap();
    read_answer(&mut stream).await.assert_problem(401, "unauthenticated");
    attacked.chat().await;
}

async fn a_host_is_named_once(launch: Launch) {
    let attacked = Attacked::start(launch).await;
    let evil = "Host: evil.example\r\nOrigin: http://evil.example\r\n";
    for fields in ["", &format!("{evil}Host: api\r\n"), &format!("Host: api\r\n{evil}")] {
        let request = format!("GET /healthz HTTP/1.1\r\nConnection: close\r\n{fields}\r\n");
        read_answer(&mut attacked.send(&request).await).await.assert_problem(400, "malformed");
    }
    let old = "GET /healthz HTTP/1.0\r\n\r\n";
    let mut answer = String::new();
    within("answer", attacked.send(old).await.read_to_string(&mut answer)).await.unwrap();
    assert!(answer.starts_with("HTTP/1.0 200 "), "{answer}");
}

async fn requests_sent_ahead_are_answered_in_order(launch: Launch) {
    const REQUESTS: usize = 200;
    let mut attacked = Attacked::start(launch).await;
    let mut requests = String::new();
    for number in 0..REQUESTS {
        let body = json!({"room": "general", "content": number.to_string()}).to_string();
        let fields = format!("{JSON}Content-Length: {}\r\n", body.len());
        requests += &(attacked.head("POST /api/v1/publish", &fields) + &body);
    }
    requests += &attacked.head("GET /healthz", "Connection: close\r\n");
    let mut stream = attacked.send(&requests).await;
    let mut answers = String::new();
    within("answers", stream.read_to_string(&mut answers)).await.unwrap();
    let ids: Vec<usize> = answers
        .split("\"message_id\":")
        .skip(1)
        .map(|rest| rest.split(',').next().unwrap().parse().unwrap())
        .collect();
    assert_eq!(ids, (1..=REQUESTS).collect::<Vec<_>>());
    assert!(answers.ends_with("\r\n\r\nok"), "{answers}");
    attacked.chat().await;
}

async fn a_thousand_idle_connections_keep_nobody_out(launch: Launch) {
    let mut attacked = Attacked::start(launch).await;
    let mut idle = Vec::new();
    for _ in 0..1_000 {
        idle.push(attacked.backend.connect().await);
    }
    // The one that asks is accepted behind all of them.
    let open = attacked.metric("uproar_api_connections").await;
    assert!((1.0..=CONNECTIONS_MAX as f64).contains(&open), "{open}");
    // The oldest were closed first.
    for stream in &mut idle[..1_000 - CONNECTIONS_MAX] {
        assert_eq!(within("end", stream.read(&mut [0; 1])).await.unwrap_or(0), 0);
    }
    let last = idle.last_mut().unwrap();
    last.write_all(b"GET /healthz HTTP/1.1\r\nHost: api\r\nConnection: close\r\n\r\n").await.unwrap();
    assert_eq!(read_answer(last).await.status, 200);
    attacked.chat().await;
}

/// Goal: all connections together cannot make the server hold more than the budget for bodies.
async fn many_large_bodies_take_bounded_memory(launch: Launch) {
    const BODY: usize = 16 << 20;
    /// The budget, as much again for the buffer that grows by doubling, and what the allocator keeps.
    const GROWTH_KIB_MAX: usize = (2 * 64 + 64) << 10;
    let mut attacked = Attacked::start(launch).await;
    let before_kib = attacked.server.resident_kib();
    let fields = format!("{JSON}Content-Length: {BODY}\r\n");
    let head = attacked.head("POST /api/v1/batch", &fields);
    // One place is left for those who ask.
    let attackers = (1..CONNECTIONS_MAX).map(|_| {
        let (head, connecting) = (head.clone(), attacked.backend.connect());
        async move {
            let mut stream = connecting.await;
            let _ = stream.write_all(head.as_bytes()).await;
            // Never the last piece, so that what was taken stays taken. The rest of one that was refused may be read, or not.
            for _ in 1..BODY / 0x10000 {
                if within("room to write", stream.write_all(&[b' '; 0x10000])).await.is_err() {
                    break;
                }
            }
            stream
        }
    });
    let attackers = join_all(attackers).await;
    // Four fit. All others were refused, but some may have so little of their body that it fits, too.
    let taken = attacked.metric("uproar_api_requests_under_way").await - 1.0;
    assert!((1.0..=16.0).contains(&taken), "{taken} bodies were taken");
    let growth_kib = attacked.server.resident_kib().saturating_sub(before_kib);
    assert!(growth_kib <= GROWTH_KIB_MAX, "it took {growth_kib} KiB more");
    attacked.chat().await;
    // Others have the budget again when they give up, or after 10 s.
    drop(attackers);
    let message = json!({"room": "general", "content": "hello"});
    eventually("a message is taken", async || {
        attacked.backend.post("/api/v1/publish", &message).await.status == 200
    })
    .await;
}

/// What a web page can send without being asked first (CORS calls it simple), and what it cannot.
async fn a_page_of_another_origin_changes_nothing(launch: Launch) {
    let mut attacked = Attacked::start(launch).await;
    let body = json!({"room": "gaming", "content": "from a page"}).to_string();
    let origin = ("Origin", "http://evil.example");
    for kind in ["text/plain", "application/x-www-form-urlencoded", "application/json"] {
        let headers = [origin, ("Content-Type", kind)];
        let refused = attacked.backend.request("POST", "/api/v1/publish", &headers, body.as_bytes()).await;
        refused.assert_problem(403, "foreign-origin");
        assert_eq!(refused.header("access-control-allow-origin"), None);
    }
    // The preflight is not answered as a page would need it.
    let asked = [origin, ("Access-Control-Request-Method", "POST")];
    let preflight = attacked.backend.request("OPTIONS", "/api/v1/publish", &asked, b"").await;
    assert!(preflight.status >= 400, "{preflight:?}");
    assert_eq!(preflight.header("access-control-allow-origin"), None);
    // The next that members hear is this.
    attacked.chat().await;
}

async fn wrong_keys_by_the_thousand_fill_no_log(launch: Launch) {
    let mut attacked = Attacked::start(launch).await;
    let begin = Instant::now();
    let lines_before = attacked.server.output().lines().count();
    let wrong: String = (0..2_000)
        .map(|number| {
            format!(
                "GET /api/v1/stats HTTP/1.1\r\nHost: api\r\nAuthorization: Bearer upk_{number:043}\r\n\r\n"
            )
        })
        .collect();
    let mut stream = attacked.send(&wrong).await;
    stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: api\r\nConnection: close\r\n\r\n").await.unwrap();
    let mut answers = String::new();
    within("answers", stream.read_to_string(&mut answers)).await.unwrap();
    assert_eq!(answers.matches("HTTP/1.1 401 ").count(), 2_000);
    attacked.chat().await;
    let lines = attacked.server.output().lines().count() - lines_before;
    let seconds = begin.elapsed().as_secs() as usize;
    assert!((1..=seconds + 2).contains(&lines), "{lines} lines were logged in {seconds} s");
}

async fn who_never_reads_an_answer_keeps_nobody_out(launch: Launch) {
    let mut attacked = Attacked::start(launch).await;
    let before_kib = attacked.server.resident_kib();
    let request = "GET /api/v1/openapi.json HTTP/1.1\r\nHost: api\r\n\r\n".repeat(100);
    let mut deaf = Vec::new();
    for _ in 0..CONNECTIONS_MAX {
        // So small a buffer that the server soon feels it not being read.
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(4096).unwrap();
        let connecting = socket.connect(attacked.server.api_address());
        let mut stream = within("connection", connecting).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        deaf.push(stream);
    }
    for stream in &deaf {
        within("the beginning of an answer", stream.peek(&mut [0; 1])).await.unwrap();
    }
    // Each newcomer takes the place of one of them, once they have not read for 10 s.
    for _ in 0..10 {
        eventually("a place", async || attacked.backend.get("/healthz").await.status == 200).await;
    }
    attacked.chat().await;
    let growth_kib = attacked.server.resident_kib().saturating_sub(before_kib);
    assert!(growth_kib <= 64 << 10, "it took {growth_kib} KiB more");
}

async fn an_unfinished_body_does_not_hold_up_the_end(launch: Launch) {
    let mut attacked = Attacked::start(launch.flag("--drain-timeout", "2s")).await;
    let fields = format!("{JSON}Content-Length: 100000\r\n");
    let head = attacked.head("POST /api/v1/publish", &fields);
    let _unfinished = attacked.send(&head).await;
    attacked.chat().await;
    attacked.server.signal(Signal::TERM);
    // It would not be, if the API had not ended in time.
    assert!(attacked.server.exit().await.success());
}

/// Goal: more requests than a home's mailbox and the API's link hold wait in line, and each is answered.
async fn full_mailboxes_lose_no_message(launch: Launch) {
    const BATCHES: usize = 8;
    let mut attacked = Attacked::start(launch).await;
    let items: Vec<_> = (0..1_000).map(|_| json!({"room": "general", "content": "x"})).collect();
    let batch = json!({ "items": items });
    let answers = {
        let backend = &attacked.backend;
        let batches = join_all((0..BATCHES).map(|_| backend.post("/api/v1/batch", &batch)));
        let members = &mut attacked.members;
        let chat = async {
            for number in 0..10 {
                members[0].message(&format!("meanwhile {number}")).await;
                assert_eq!(members[1].next().await["content"], format!("meanwhile {number}"));
            }
        };
        tokio::join!(batches, chat).0
    };
    let mut ids: Vec<u64> = Vec::new();
    for answer in &answers {
        assert_eq!(answer.status, 200, "{answer:?}");
        let results = answer.json();
        let own: Vec<u64> = results["results"]
            .as_array()
            .unwrap()
            .iter()
            .map(|result| result["message_id"].as_u64().unwrap_or_else(|| panic!("{result}")))
            .collect();
        assert!(own.is_sorted(), "a batch keeps its order");
        ids.extend(own);
    }
    ids.sort_unstable();
    assert_eq!(ids, (1..=BATCHES as u64 * 1_000).collect::<Vec<_>>());
    attacked.chat().await;
}
