//! A log that nobody reads, as a paused terminal or the log driver of a container leave it.

use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::os::fd::OwnedFd;
use std::thread;

use rustix::pipe::{fcntl_setpipe_size, pipe};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::harness::{
    AccountFile, Chat, Launch, Server, Socket, eventually, on_one_and_four_shards_only, password_of,
};
use crate::metrics::scrape;

on_one_and_four_shards_only! {
    a_log_that_nobody_reads_delays_nobody_and_says_afterwards_what_it_lacks,
    a_log_and_an_output_that_nobody_reads_do_not_keep_a_server_from_its_end,
}

async fn a_log_that_nobody_reads_delays_nobody_and_says_afterwards_what_it_lacks(launch: Launch) {
    let accounts = AccountFile::of(&[], &["boss"]).await;
    let (reader, writer) = narrow_pipe();
    let launch = launch.flag("--data", accounts.path().display()).flag("--log", "json").logging_to(writer);
    let server = launch.without_rate_limit().start();
    let [mut boss, mut bob] = Chat::members(&server).await;
    boss.say(json!({"type": "auth", "username": "boss", "password": password_of("boss")})).await;
    assert_eq!(boss.next().await["type"], "auth_success");
    assert_eq!(bob.next().await["type"], "user_renamed");
    // Each order is a line of the log. On their way they delay nobody, not even when there is no room for more.
    let order = json!({"type": "unmute", "target_id": boss.id});
    let mut rounds = 0;
    while dropped(&server).await == 0 {
        assert!(rounds < 200, "so much fits in no bounded queue");
        rounds += 1;
        boss.burst(vec![order.clone(); 250]).await;
        for _ in 0..250 {
            assert_eq!(boss.next().await["type"], "unmuted");
        }
        bob.message("still here?").await;
        assert_eq!(boss.next().await["content"], "still here?");
    }
    let dropped = dropped(&server).await;
    // Whatever is written before it reads again.
    let found = thread::spawn(move || {
        let lines = BufReader::new(reader).lines().map_while(Result::ok);
        let mut lines = lines.map(|line| serde_json::from_str::<Value>(&line).expect("a line of JSON"));
        lines
            .find(|line| line["message"].as_str().is_some_and(|text| text.contains("log lines were dropped")))
    });
    eventually("the gap is told", async || found.is_finished()).await;
    let told = found.join().unwrap().expect("a line for the gap");
    assert_eq!((&told["lines"], &told["level"]), (&json!(dropped), &json!("ERROR")));
}

async fn a_log_and_an_output_that_nobody_reads_do_not_keep_a_server_from_its_end(launch: Launch) {
    let address = launch.clone().start().address();
    let (_unread, log) = narrow_pipe();
    let (_unread_too, output) = narrow_pipe();
    // Not even the start has room in it.
    rustix::io::write(&output, &[b'\n'; 4096]).unwrap();
    let launch = launch.at(address).flag("--log-level", "debug").logging_to(log).announcing_to(output);
    let mut server = launch.start();
    for _ in 0..100 {
        Socket::connect(&server, "/echo").await.leave(1000).await;
    }
    let mut alice = Chat::enter(&server).await;
    server.signal(Signal::TERM);
    assert_eq!(alice.closed().await.0, 1001);
    assert_eq!(server.exit().await.code(), Some(0));
}

/// A pipe with room for some thirty lines.
fn narrow_pipe() -> (File, OwnedFd) {
    let (reader, writer) = pipe().unwrap();
    fcntl_setpipe_size(&writer, 4096).unwrap();
    (reader.into(), writer)
}

/// How many lines of the log the server has dropped.
async fn dropped(server: &Server) -> u64 {
    let text = scrape(server).await;
    let value = text.lines().find_map(|line| line.strip_prefix("uproar_log_lines_dropped_total "));
    value.expect("the metric").parse().unwrap()
}
