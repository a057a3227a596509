//! The access log, and the log of clients that are turned away.

use std::time::Instant;

use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;

use crate::api_rooms::with_api;
use crate::harness::{
    AccountFile, Backend, Chat, Launch, Server, Socket, TokenKey, Wire, eventually, frame,
    on_one_and_four_shards_only, run,
};
use crate::late_disk::HeldDisk;

on_one_and_four_shards_only! {
    each_connection_has_one_line_at_its_end,
    each_request_of_the_api_has_one_line,
    a_request_without_an_answer_has_a_line,
    a_wrong_key_is_logged_with_its_address,
    without_the_flag_there_is_none,
    clients_that_break_the_protocol_do_not_fill_the_log,
    normal_ends_are_not_worth_a_line,
}

fn lines(server: &Server) -> Vec<Value> {
    server.output().lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

fn access_lines(server: &Server, message: &str) -> Vec<Value> {
    let is_it = |line: &Value| line["target"] == "access" && line["message"] == message;
    lines(server).into_iter().filter(is_it).collect()
}

async fn each_connection_has_one_line_at_its_end(launch: Launch) {
    let key = TokenKey::new();
    let launch =
        launch.flag("--token-key", key.path().display()).flag("--log", "json").switch("--log-access");
    // Other lines of this level are not wanted.
    let server = launch.flag("--log-level", "warn").start();
    let token = key.token("a\u{202e}\nb", &["--name", "Ann"]).await;
    let mut ann = Chat::with_token(&server, &token).await;
    ann.read_welcome().await;
    assert_eq!(ann.next().await["type"], "users");
    assert_eq!(ann.next().await["type"], "history");
    ann.message("hello").await;
    ann.leave().await;
    let mut echo = Wire::upgrade(&server, "/echo").await;
    let address = echo.local_address().to_string();
    echo.send(frame(0x3, "")).await;
    echo.close().await;
    eventually("both have a line", async || access_lines(&server, "connection ended").len() == 2).await;
    let [ann, echo] = &access_lines(&server, "connection ended")[..] else { unreachable!() };
    assert_eq!((&ann["account"], &ann["dialect"]), (&json!("a\u{fffd}\u{fffd}b"), &json!("chat")));
    assert_eq!(
        (&ann["messages_in"], &ann["messages_out"], &ann["reason"]),
        (&json!(1), &json!(4), &json!("closed"))
    );
    assert!(ann["seconds"].as_u64() < Some(60) && ann["connection"].is_string(), "{ann}");
    assert!(ann["received_bytes"].as_u64() > Some(20) && ann["sent_bytes"].as_u64() > Some(300), "{ann}");
    assert_eq!((&echo["address"], &echo["reason"]), (&json!(address), &json!("protocol_error")));
    assert_eq!(echo.get("account"), None);
}

async fn each_request_of_the_api_has_one_line(launch: Launch) {
    let launch = launch.flag("--log", "json").switch("--log-access");
    let (server, backend) = with_api(launch).await;
    assert_eq!(backend.get("/api/v1/rooms/general").await.status, 200);
    assert_eq!(backend.get("/api/v1/rooms/secret-7f3a").await.status, 404);
    assert_eq!(Backend::without_key(&server).get("/api/v1/stats").await.status, 401);
    eventually("each has a line", async || access_lines(&server, "API request").len() >= 3).await;
    let told: Vec<Value> = access_lines(&server, "API request")
        .into_iter()
        .map(|line| {
            assert!(line["milliseconds"].is_number());
            assert!(
                line["address"].as_str().is_some_and(|address| address.starts_with("127.0.0.1:")),
                "{line}"
            );
            json!([line.get("caller"), line["method"], line["path"], line["status"]])
        })
        .collect();
    let wanted = json!([
        ["backend", "GET", "/api/v1/rooms/{room}", 200],
        ["backend", "GET", "/api/v1/rooms/{room}", 404],
        [null, "GET", "/api/v1/stats", 401],
    ]);
    assert_eq!(json!(told), wanted);
    assert!(!server.output().contains("secret-7f3a"), "names in a path may be private");
}

async fn a_request_without_an_answer_has_a_line(launch: Launch) {
    let accounts = AccountFile::of(&[], &[]).await;
    let launch = launch.flag("--data", accounts.path().display());
    let (server, backend) = with_api(launch.flag("--log", "json").switch("--log-access")).await;
    let mut member = Chat::enter(&server).await;
    let disk = HeldDisk::of(accounts.path());
    let mut caller = backend.connect().await;
    let address = caller.local_addr().unwrap().to_string();
    let body = json!({"room": "general", "content": "hello"}).to_string();
    let fields = format!("Content-Type: application/json\r\nContent-Length: {}\r\n\r\n", body.len());
    let request = backend.head("POST", "/api/v1/publish") + &fields + &body;
    caller.write_all(request.as_bytes()).await.unwrap();
    // It is answered when it is on the disk.
    assert_eq!(member.until("message").await["content"], "hello");
    drop(caller);
    let abandoned = "API request without an answer";
    eventually("it has a line", async || !access_lines(&server, abandoned).is_empty()).await;
    let line = &access_lines(&server, abandoned)[0];
    assert_eq!(
        json!([line["caller"], line["address"], line["method"], line["path"], line.get("status")]),
        json!(["backend", address, "POST", "/api/v1/publish", null])
    );
    assert_eq!(access_lines(&server, "API request").len(), 0);
    disk.release();
}

async fn a_wrong_key_is_logged_with_its_address(launch: Launch) {
    let (server, _) = with_api(launch.flag("--log", "json")).await;
    let stranger = Backend::with_key(&server, "upk_wrong");
    assert_eq!(stranger.get("/api/v1/stats").await.status, 401);
    let refused = |line: &Value| line["message"] == "API request refused: wrong key";
    eventually("it is logged", async || lines(&server).iter().any(refused)).await;
    let line = lines(&server).into_iter().find(refused).unwrap();
    assert_eq!((&line["level"], &line["address"]), (&json!("INFO"), &json!("127.0.0.1")));
}

async fn without_the_flag_there_is_none(launch: Launch) {
    let (server, backend) = with_api(launch.flag("--log", "json").flag("--log-level", "debug")).await;
    Chat::enter(&server).await.leave().await;
    assert_eq!(backend.get("/api/v1/stats").await.status, 200);
    let is_logged = |message: &str| lines(&server).iter().any(|line| line["message"] == message);
    eventually("both are logged otherwise", async || is_logged("ended") && is_logged("API request")).await;
    assert!(lines(&server).iter().all(|line| line["target"] != "access"));
}

async fn clients_that_break_the_protocol_do_not_fill_the_log(launch: Launch) {
    let server = launch.flag("--log", "json").start();
    let begin = Instant::now();
    for _ in 0..60 {
        let mut wire = Wire::upgrade(&server, "/echo").await;
        wire.send(frame(0x3, "")).await;
        assert_eq!(wire.close().await.0, 1002);
    }
    let closed = || lines(&server).into_iter().filter(|line| line["message"] == "closed").collect::<Vec<_>>();
    eventually("the first one is logged", async || !closed().is_empty()).await;
    let seconds = begin.elapsed().as_secs() as usize;
    let closed = closed();
    assert!(closed.len() <= seconds + 2, "{} lines in {seconds} s", closed.len());
    assert!(
        closed.iter().all(|line| line["reason"] == "protocol_error" && line["level"] == "INFO"),
        "{closed:?}"
    );
    assert!(
        closed[0]["acknowledged_bytes"].is_number() && closed[0]["queued_bytes"].is_number(),
        "{closed:?}"
    );
}

async fn normal_ends_are_not_worth_a_line(launch: Launch) {
    let server = launch.flag("--log", "json").start();
    Chat::enter(&server).await.leave().await;
    drop(Socket::connect(&server, "/echo").await);
    let mut wire = Wire::upgrade(&server, "/echo").await;
    wire.send(frame(0x3, "")).await;
    wire.close().await;
    eventually("the last one is logged", async || {
        lines(&server).iter().any(|line| line["message"] == "closed")
    })
    .await;
    let reasons: Vec<Value> = lines(&server).iter().filter_map(|line| line.get("reason").cloned()).collect();
    assert_eq!(reasons, ["protocol_error"]);
}

#[tokio::test]
async fn errors_at_the_start_are_json_where_that_is_asked_for() {
    for arguments in [
        &["--log=json", "--history=x"][..],
        &["--log=json", "--listen=127.0.0.1:1", "--data=/nowhere"],
        &["--log=json", "--listen=127.0.0.1:0", "--api-listen=unix:/nowhere/api.sock"],
        &["--log=json", "--config=/nowhere.toml"],
    ] {
        let refused = run(arguments, &[]).await;
        assert_ne!(refused.code, Some(0), "{arguments:?}");
        assert_eq!(refused.stdout, "", "{arguments:?}");
        assert!(!refused.stderr.is_empty(), "{arguments:?}");
        for line in refused.stderr.lines() {
            let line: Value = serde_json::from_str(line).unwrap_or_else(|_| panic!("no JSON: {line}"));
            assert!(line["level"].is_string() && line["message"].is_string(), "{line}");
        }
    }
}
