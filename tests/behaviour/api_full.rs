//! The HTTP API with as many connections as it serves: which one is closed for a new one, and which ones are refused.

use futures_util::future::join_all;
use rustix::process::Signal;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::TlsConnector;

use crate::api_rooms::with_api;
use crate::harness::{
    ApiKeys, Backend, Launch, eventually, on_one_and_four_shards_only, read_answer, within,
};

on_one_and_four_shards_only! {
    connections_beyond_all_limits_are_closed_without_an_answer,
    a_new_connection_is_not_closed_before_its_first_request,
    tls_handshakes_make_place_and_end_with_the_server,
    a_caller_that_reads_slowly_gets_its_whole_answer,
    a_request_is_answered_or_not_begun_when_others_need_places,
}

/// The most connections of the API.
const CONNECTIONS_MAX: usize = 256;

/// The most connections beyond that which are answered at the same time.
const REFUSALS_MAX: usize = 32;

const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

const HEALTHZ: &[u8] = b"GET /healthz HTTP/1.1\r\nHost: api\r\n\r\n";

/// The head of a request whose body the server asks for.
fn head_ahead_of_body(backend: &Backend) -> String {
    let fields = "Content-Type: application/json\r\nContent-Length: 100\r\nExpect: 100-continue\r\n\r\n";
    backend.head("POST", "/api/v1/publish") + fields
}

/// A connection whose request is under way: the server waits 10 s for its body.
async fn busy(backend: &Backend) -> TcpStream {
    let mut stream = backend.connect().await;
    stream.write_all(head_ahead_of_body(backend).as_bytes()).await.unwrap();
    let mut begun = [0; CONTINUE.len()];
    within("the request to begin", stream.read_exact(&mut begun)).await.unwrap();
    assert_eq!(begun, CONTINUE);
    stream
}

/// What comes to the end. One that is closed with bytes that were not read is reset.
async fn rest(stream: &mut TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    let _ = within("end", stream.read_to_end(&mut bytes)).await;
    bytes
}

async fn connections_beyond_all_limits_are_closed_without_an_answer(launch: Launch) {
    let (_server, backend) = with_api(launch).await;
    let _busy = join_all((0..CONNECTIONS_MAX).map(|_| busy(&backend))).await;
    let mut refused = Vec::new();
    for _ in 0..REFUSALS_MAX {
        refused.push(backend.connect().await);
    }
    let ask = async || {
        let mut stream = backend.connect().await;
        let _ = stream.write_all(HEALTHZ).await;
        rest(&mut stream).await
    };
    assert_eq!(ask().await, b"", "no refusal is left for it");
    let mut one = refused.pop().unwrap();
    one.write_all(HEALTHZ).await.unwrap();
    let answer = read_answer(&mut one).await;
    answer.assert_problem(429, "busy");
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    drop(one);
    eventually("the next one is answered", async || ask().await.starts_with(b"HTTP/1.1 429 ")).await;
}

/// Goal: where all others are busy, a newcomer does not lose its connection to the next one.
async fn a_new_connection_is_not_closed_before_its_first_request(launch: Launch) {
    let (_server, backend) = with_api(launch).await;
    let _busy = join_all((1..CONNECTIONS_MAX).map(|_| busy(&backend))).await;
    let mut first = backend.connect().await;
    backend.get("/healthz").await.assert_problem(429, "busy");
    first.write_all(HEALTHZ).await.unwrap();
    let mut answer = [0; 12];
    within("answer", first.read_exact(&mut answer)).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 200");
}

async fn tls_handshakes_make_place_and_end_with_the_server(launch: Launch) {
    const MORE: usize = 50;
    let keys = ApiKeys::new();
    keys.add("backend", &[]).await;
    let mut server = launch.over_tls().with_api(&keys).switch("--api-tls").start();
    let backend = Backend::without_key(&server);
    let mut silent = Vec::new();
    for _ in 0..CONNECTIONS_MAX + MORE {
        silent.push(backend.connect().await);
    }
    // One that gets no place is closed, or answered with 429.
    let certificate = server.certificate().unwrap();
    let connector = TlsConnector::from(certificate.usual_client());
    let newcomer = connector.connect(certificate.name(), backend.connect().await);
    let mut newcomer = within("TLS handshake", newcomer).await.unwrap();
    newcomer.write_all(HEALTHZ).await.unwrap();
    let mut status = [0; b"HTTP/1.1 200 ".len()];
    within("answer", newcomer.read_exact(&mut status)).await.unwrap();
    assert_eq!(&status, b"HTTP/1.1 200 ");
    drop(newcomer);
    for stream in &mut silent[..MORE] {
        assert_eq!(rest(stream).await, b"");
    }
    server.signal(Signal::TERM);
    assert!(server.exit().await.success());
    for stream in &mut silent[MORE..] {
        assert_eq!(rest(stream).await, b"");
    }
}

/// Goal: what an answer still has to send counts, also where all of it was handed over already.
async fn a_caller_that_reads_slowly_gets_its_whole_answer(launch: Launch) {
    const REQUESTS: usize = 100;
    let (_server, backend) = with_api(launch).await;
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let mut slow = within("connection", socket.connect(backend.address())).await.unwrap();
    // More than all buffers hold.
    let request = "GET /api/v1/openapi.json HTTP/1.1\r\nHost: api\r\n\r\n".repeat(REQUESTS - 1);
    let last = "GET /api/v1/openapi.json HTTP/1.1\r\nHost: api\r\nConnection: close\r\n\r\n";
    slow.write_all((request + last).as_bytes()).await.unwrap();
    within("the beginning of an answer", slow.peek(&mut [0; 1])).await.unwrap();
    // All of them are younger, and idle.
    let mut idle = Vec::new();
    for _ in 0..2 * CONNECTIONS_MAX {
        idle.push(backend.connect().await);
    }
    assert_eq!(backend.get("/healthz").await.status, 200);
    let answers = String::from_utf8(rest(&mut slow).await).unwrap();
    assert_eq!(answers.matches("HTTP/1.1 200 OK").count(), REQUESTS);
    assert!(answers.ends_with("}\n"), "the last one is whole");
}

/// Goal: a request that comes while its connection is to make place is answered, or has no effect.
async fn a_request_is_answered_or_not_begun_when_others_need_places(launch: Launch) {
    const OLDEST: usize = 64;
    let (server, backend) = with_api(launch).await;
    let items: Vec<_> = (0..OLDEST).map(|_| json!({"room": "general", "content": "hello"})).collect();
    assert_eq!(backend.post("/api/v1/batch", &json!({ "items": items })).await.status, 200);
    let mut idle = Vec::new();
    for _ in 0..CONNECTIONS_MAX {
        let mut stream = backend.connect().await;
        stream.write_all(HEALTHZ).await.unwrap();
        assert!(within("answer", stream.read(&mut [0; 512])).await.unwrap() > 0);
        idle.push(stream);
    }
    // While it stands still, newcomers need the places of the oldest, which have a request each.
    server.signal(Signal::STOP);
    let newcomers = join_all((0..OLDEST).map(|_| backend.connect())).await;
    for (stream, id) in idle.iter_mut().zip(1..=OLDEST) {
        let head = backend.head("DELETE", &format!("/api/v1/rooms/general/messages/{id}"));
        stream.write_all(format!("{head}\r\n").as_bytes()).await.unwrap();
    }
    server.signal(Signal::CONT);
    let answers = join_all(idle[..OLDEST].iter_mut().map(rest)).await;
    drop(newcomers);
    let history = backend.get("/api/v1/rooms/general/history?after=0").await.json();
    let left: Vec<_> =
        history["messages"].as_array().unwrap().iter().map(|it| it["message_id"].as_u64()).collect();
    for (answer, id) in answers.iter().zip(1..) {
        let is_answered = answer.starts_with(b"HTTP/1.1 200 ");
        assert!(is_answered || answer.is_empty(), "{}", String::from_utf8_lossy(answer));
        assert_eq!(left.contains(&Some(id)), !is_answered, "message {id}, of {left:?}");
    }
}
