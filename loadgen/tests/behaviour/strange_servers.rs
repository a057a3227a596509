//! Servers that are none, or that break the rules: each ends the run, with what it did and the right exit code,
//! and what was measured is saved.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Output;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use crate::support::command;
use serde_json::Value;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

/// Far above what any of the runs here takes, and below what anybody would wait for.
const RUN_LIMIT: Duration = Duration::from_secs(40);

/// Serves each connection with its number and a function of its own thread, until the test's process ends.
fn start(serve: impl Fn(usize, TcpStream) + Send + Sync + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("binds");
    let address = listener.local_addr().expect("is bound");
    let serve = Arc::new(serve);
    std::thread::spawn(move || {
        let count = AtomicUsize::new(0);
        for stream in listener.incoming() {
            let (serve, number) = (Arc::clone(&serve), count.fetch_add(1, Ordering::Relaxed));
            std::thread::spawn(move || serve(number, stream.expect("accepts")));
        }
    });
    address
}

/// The request's head. `None` when there was none.
fn read_head(stream: &mut TcpStream) -> Option<String> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).ok()?;
        head.push(byte[0]);
    }
    String::from_utf8(head).ok()
}

/// The answer to an upgrade as it should be.
fn switching(head: &str) -> Vec<u8> {
    let key = head.lines().find_map(|line| line.strip_prefix("Sec-WebSocket-Key: ")).expect("a key");
    let accept = derive_accept_key(key.as_bytes());
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {accept}\r\n\r\n"
    )
    .into_bytes()
}

/// Keeps the connection until the other side ends it.
fn hold(mut stream: TcpStream) {
    let mut piece = [0; 4096];
    while stream.read(&mut piece).is_ok_and(|count| count > 0) {}
}

/// Answers every request with the same bytes.
fn answering(response: &'static [u8]) -> SocketAddr {
    start(move |_, mut stream| {
        if read_head(&mut stream).is_some() && stream.write_all(response).is_ok() {
            hold(stream);
        }
    })
}

/// Upgrades, and sends the same bytes behind the head, in one piece with it or not.
fn upgrading(bytes: &'static [u8], in_one: bool) -> SocketAddr {
    start(move |_, mut stream| {
        let Some(head) = read_head(&mut stream) else { return };
        let mut response = switching(&head);
        if in_one {
            response.extend_from_slice(bytes);
        }
        let sent = stream.write_all(&response).and_then(|()| match in_one {
            true => Ok(()),
            false => stream.write_all(bytes),
        });
        if sent.is_ok() {
            hold(stream);
        }
    })
}

/// Upgrades, and returns so many short frames unchanged, a close among them; true when it came to that.
fn echo(stream: &mut TcpStream, count: usize) -> bool {
    let Some(head) = read_head(stream) else { return false };
    let mut header = [0; 6];
    let mut sent = stream.write_all(&switching(&head));
    for _ in 0..count {
        if sent.is_err() || stream.read_exact(&mut header).is_err() {
            return false;
        }
        let mut payload = vec![0; usize::from(header[1] & 0x7f)];
        if stream.read_exact(&mut payload).is_err() {
            return false;
        }
        for (index, byte) in payload.iter_mut().enumerate() {
            *byte ^= header[2 + index % 4];
        }
        sent = stream.write_all(&[&[header[0], header[1] & 0x7f], &payload[..]].concat());
    }
    sent.is_ok()
}

/// A run, which must not take for ever.
fn run(server: SocketAddr, arguments: &[&str]) -> Output {
    let (sender, receiver) = mpsc::channel();
    let mut command = command(server, arguments);
    std::thread::spawn(move || sender.send(command.output().expect("loadgen runs")));
    receiver.recv_timeout(RUN_LIMIT).expect("loadgen ends")
}

fn said(output: &Output) -> String {
    let text = [&output.stdout[..], &output.stderr].concat();
    String::from_utf8(text).expect("UTF-8, whatever the server sent")
}

#[test]
fn a_server_that_answers_otherwise_is_named_before_the_run() {
    let answers: [(&[u8], &str); 7] = [
        (
            b"HTTP/1.1 302 Found\r\nLocation: http://localhost/\r\n\r\n",
            "answered 302 with a redirect to http://localhost/, which is not followed",
        ),
        (
            b"HTTP/1.1 503 Service Unavailable\r\n\r\ndraining",
            "answered 503 Service Unavailable instead of 101",
        ),
        (b"HTTP/1.1 200 OK\r\n\r\n", "answered 200 OK instead of 101"),
        (b"SSH-2.0-OpenSSH_9.9\r\n", "what is not HTTP"),
        (b"\x00\xff\x1b[31mred\r\n\r\n", "what is not HTTP"),
        (
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
              Sec-WebSocket-Accept: bm90IHRoZSByaWdodCBvbmU=\r\n\r\n",
            "101 with a wrong or missing Sec-WebSocket-Accept",
        ),
        (b"HTTP/1.1 101 Switching Protocols\r\n\r\n", "answered 101 with a wrong or missing Upgrade"),
    ];
    for (answer, what) in answers {
        let output = run(answering(answer), &["--dialect", "raw"]);
        let text = said(&output);
        assert_eq!(output.status.code(), Some(2), "{text}");
        assert!(
            text.contains(what) && text.contains("is it up, and are --url and --dialect right?"),
            "{text}"
        );
        assert!(!text.contains('\x1b'), "what a server sends is not shown raw: {text:?}");
    }
}

#[test]
fn a_server_that_never_finishes_its_answer_is_not_waited_for() {
    let silent = start(|_, stream| hold(stream));
    let output = run(silent, &["--dialect", "raw"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(said(&output).contains("no answer to an upgrade within 5 s;"), "{}", said(&output));

    let endless = start(|_, mut stream| {
        if read_head(&mut stream).is_some()
            && stream.write_all(b"HTTP/1.1 101 Switching Protocols\r\n").is_ok()
        {
            let header = [&b"X-Endless: "[..], &[b'a'; 1000], b"\r\n"].concat();
            while stream.write_all(&header).is_ok() {}
        }
    });
    let output = run(endless, &["--dialect", "raw"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(said(&output).contains("a head over 16384 bytes"), "{}", said(&output));

    // One byte at a time, each in time, is not in time.
    let dripping = start(|_, mut stream| {
        let Some(head) = read_head(&mut stream) else { return };
        let (_keep, drip) = mpsc::channel::<()>();
        for byte in switching(&head) {
            if stream.write_all(&[byte]).is_err() {
                return;
            }
            let _ = drip.recv_timeout(Duration::from_millis(500));
        }
    });
    let begin = Instant::now();
    let output = run(dripping, &["--dialect", "raw"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(said(&output).contains("no answer to an upgrade within 5 s"), "{}", said(&output));
    assert!(begin.elapsed() < Duration::from_secs(20), "{:?}", begin.elapsed());
}

#[test]
fn frames_that_break_the_rules_end_the_connection_by_name() {
    let violations: [(&[u8], &str); 5] = [
        // A reserved opcode, a masked frame, a length with its highest bit set, a lone continuation, a long ping.
        (b"\x83\x00", "protocol violation"),
        (b"\x82\x81abcdx", "protocol violation"),
        (b"\x82\x7f\xff\xff\xff\xff\xff\xff\xff\xff", "protocol violation"),
        (b"\x80\x00", "protocol violation"),
        (b"\x89\x7e\x00\x80", "protocol violation"),
    ];
    let assert_named = |bytes, what, in_one| {
        let output = run(upgrading(bytes, in_one), &["--dialect", "raw"]);
        let text = said(&output);
        assert_eq!(output.status.code(), Some(1), "{bytes:x?}: {text}");
        assert!(text.contains(what), "{bytes:x?}: {text}");
        assert!(text.contains("before measuring began: there is nothing to save"), "{text}");
    };
    // Each waits for the end of its connections, all at once.
    std::thread::scope(|scope| {
        for in_one in [true, false] {
            for (bytes, what) in violations {
                scope.spawn(move || assert_named(bytes, what, in_one));
            }
        }
    });
}

#[test]
fn a_close_in_one_piece_with_the_upgrade_is_reported_with_its_code() {
    let full = start(|_, mut stream| {
        let Some(head) = read_head(&mut stream) else { return };
        let close = b"\x88\x02\x03\xf5";
        if stream.write_all(&[&switching(&head)[..], close].concat()).is_ok() {
            // The answer: a header with a mask, and the code.
            let _ = stream.read_exact(&mut [0; 8]);
        }
    });
    let output = run(full, &["--dialect", "raw"]);
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert!(said(&output).contains("20 × closed by the server with code 1013"), "{}", said(&output));
}

#[test]
fn a_server_that_closes_and_never_ends_tcp_is_reported_with_its_code() {
    let begin = Instant::now();
    let output = run(upgrading(b"\x88\x02\x03\xe9", false), &["--dialect", "raw", "--duration", "20s"]);
    let text = said(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("20 × closed by the server with code 1001"), "{text}");
    assert!(begin.elapsed() < Duration::from_secs(15), "nobody is left to measure: {:?}", begin.elapsed());
}

#[test]
fn messages_of_others_are_counted_and_are_no_deliveries() {
    let output = run(upgrading(b"\x82\x05hello\x81\x02hi", true), &["--dialect", "raw", "--format", "json"]);
    assert_eq!(output.status.code(), Some(3));
    let result: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(result["deliveries"]["received"], 0);
    assert_eq!(result["deliveries"]["reach"], 0.0);
}

#[test]
fn a_chat_server_that_speaks_another_language_is_named() {
    for greeting in [&b"\x81\x02hi"[..], b"\x81\x02{}", b"\x81\x0d{\"type\":\"hi\"}"] {
        let output = run(upgrading(greeting, false), &[]);
        let text = said(&output);
        assert_eq!(output.status.code(), Some(2), "{text}");
        assert!(text.contains("room \"general\" cannot be joined"), "{text}");
    }
}

#[test]
fn what_was_measured_before_the_server_died_is_saved() {
    let directory = tempfile::tempdir().expect("a directory");
    let out = directory.path().to_str().expect("UTF-8");
    // Each connection is echoed to twenty times, and then reset in the middle of a frame.
    let dying = start(|_, mut stream| {
        if echo(&mut stream, 20) {
            let _ = stream.write_all(b"\x82\x40half");
        }
    });
    let output = run(
        dying,
        &["--dialect", "echo", "--clients", "2", "--warmup", "0s", "--duration", "30s", "--out", out],
    );
    let text = said(&output);
    assert_eq!(output.status.code(), Some(3), "{text}");
    assert!(text.contains("INVALID: the server is gone"), "{text}");
    let result = std::fs::read(directory.path().join("run.json")).expect("is saved");
    let result: Value = serde_json::from_slice(&result).expect("JSON");
    assert_eq!((&result["ending"], &result["deliveries"]["received"]), (&"server_gone".into(), &40.into()));
}

#[test]
fn a_search_whose_server_goes_away_prints_what_was_found_until_then() {
    // The probe, and the two clients of the first step.
    const CONNECTIONS: usize = 3;
    let listener = TcpListener::bind("127.0.0.1:0").expect("binds");
    let server = listener.local_addr().expect("is bound");
    std::thread::spawn(move || {
        for stream in listener.incoming().take(CONNECTIONS) {
            let mut stream = stream.expect("accepts");
            std::thread::spawn(move || echo(&mut stream, usize::MAX));
        }
    });
    let directory = tempfile::tempdir().expect("a directory");
    let out = directory.path().to_str().expect("UTF-8");
    let load = ["--dialect", "echo", "--clients", "2", "--warmup", "0s", "--duration", "200ms"];
    let search = ["--find-max", "latency.p50<10s", "--format", "json", "--out", out];
    let output = run(server, &[&load[..], &search].concat());
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    let result: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let steps = result["steps"].as_array().expect("steps");
    assert_eq!(steps.len(), 2, "{result:#}");
    assert!(steps[0]["verdict"].is_object(), "{result:#}");
    for why in [&steps[1]["why"], &result["stopped"]] {
        assert!(why.as_str().is_some_and(|why| why.contains("no client could connect")), "{result:#}");
    }
    let saved = std::fs::read(directory.path().join("find-max.json")).expect("is saved");
    assert_eq!(serde_json::from_slice::<Value>(&saved).expect("JSON"), result);
    let stderr = String::from_utf8(output.stderr).expect("UTF-8");
    assert!(stderr.contains("the search ended before it was over: no client could connect"), "{stderr}");
}

#[test]
fn results_that_cannot_be_written_are_refused_before_the_run() {
    let server = start(|_, stream| hold(stream));
    let file = tempfile::NamedTempFile::new().expect("a file");
    let path = file.path().to_str().expect("UTF-8");
    for out in [path, "/proc/no/such", "/dev/full"] {
        let output = run(server, &["--dialect", "raw", "--out", out]);
        let text = said(&output);
        assert_eq!(output.status.code(), Some(2), "{text}");
        assert!(text.contains("--out") && text.contains(out), "{text}");
    }
}
