//! The command line: what is refused at start, and how.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::Instant;

use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, apply_filter};
use serde_json::Value;

use crate::harness::{Chat, Finished, Hub, Launch, PATIENCE, eventually, run};

#[tokio::test]
async fn bad_flags_are_refused_with_their_key_value_and_what_is_allowed() {
    for (key, value, allowed) in [
        ("listen", "nowhere", ""),
        ("listen", "127.0.0.1:99999", ""),
        ("shards", "0", ""),
        ("shards", "many", ""),
        ("shards", "-1", ""),
        ("acceptors", "0", ""),
        ("max-clients", "lots", ""),
        ("max-message", "10Kilo", ""),
        ("max-frame", "-5", ""),
        ("send-queue", "wide", ""),
        ("ping-interval", "5parsecs", ""),
        ("idle-timeout", "soon", ""),
        ("handshake-timeout", "-1s", ""),
        ("drain-timeout", "1x", ""),
        ("history", "all", ""),
        ("presence", "sometimes", "auto exact count"),
        ("presence-limit", "few", ""),
        ("rate", "fast", ""),
        ("burst", "some", ""),
        ("redis", "http://localhost", "redis://HOST:PORT"),
        ("redis-replicas", "many", ""),
        ("redis-partitions", "0.5", ""),
        ("redis-log", "long", ""),
        ("node", "a b", "letters"),
        ("log", "xml", "text json"),
        ("log-level", "loud", "info"),
    ] {
        let flag = format!("--{key}={value}");
        assert_refused(&run(&[&flag], &[]).await, key, value, allowed);
    }
}

#[tokio::test]
async fn a_message_limit_above_the_frame_limit_is_refused() {
    let refused = run(&["--max-message", "65KiB"], &[]).await;
    assert_refused(&refused, "max-message", "65", "");
    let refused = run(&["--max-frame", "5KiB"], &[]).await;
    assert_refused(&refused, "max-frame", "5", "");
}

#[tokio::test]
async fn bad_variables_are_refused_as_flags_are() {
    for (variable, key, value, allowed) in [
        ("UPROAR_SHARDS", "shards", "many", ""),
        ("UPROAR_PRESENCE", "presence", "sometimes", "auto exact count"),
        ("UPROAR_IDLE_TIMEOUT", "idle", "soon", ""),
    ] {
        let refused = run(&["--listen=127.0.0.1:0"], &[(variable, value)]).await;
        assert_refused(&refused, key, value, allowed);
    }
}

/// A variable with a mistake in its name would be a setting that silently is not.
#[tokio::test]
async fn variables_that_name_nothing_are_refused() {
    let refused = run(&["--listen=127.0.0.1:0"], &[("UPROAR_MAX_CLIENT", "5")]).await;
    assert_refused(&refused, "UPROAR_MAX_CLIENT", "", "UPROAR_MAX_CLIENTS");
}

#[tokio::test]
async fn a_default_is_not_blamed_on_a_flag_that_nobody_gave() {
    let refused = run(&[], &[("UPROAR_MAX_FRAME", "2MiB")]).await;
    assert_refused(&refused, "UPROAR_MAX_FRAME", "2MiB", "1MiB");
}

#[tokio::test]
async fn what_is_refused_is_json_where_the_log_is() {
    for (arguments, variables, wanted) in [
        (&["--log=json", "--history=20000"][..], &[][..], "0 to 10000"),
        (&["--log=json", "--unheard-of"], &[], "--unheard-of"),
        (&["--rate=fast"], &[("UPROAR_LOG", "json")], "--rate"),
        (&["--max-clients=1000000"], &[("UPROAR_LOG", "json"), ("UPROAR_LOG_LEVEL", "off")], "descriptors"),
    ] {
        let refused = run(arguments, variables).await;
        assert_eq!((refused.code, &*refused.stdout), (Some(2), ""), "{}", refused.stderr);
        let line: Value =
            serde_json::from_str(&refused.stderr).unwrap_or_else(|_| panic!("{}", refused.stderr));
        assert_eq!(line["level"], "ERROR");
        assert!(line["message"].as_str().unwrap().contains(wanted), "{line}");
    }
}

#[tokio::test]
async fn a_name_may_be_listened_on() {
    let address = Launch::with_shards(1).start().address();
    let server = Launch::with_shards(2).at(address).named("localhost").start();
    assert_eq!(server.address(), address);
    Chat::enter(&server).await;
    let refused = run(&["--listen=no-such-name.invalid:80"], &[]).await;
    assert_refused(&refused, "listen", "no-such-name.invalid:80", "resolved");
}

#[tokio::test]
async fn clients_of_ipv4_are_told_so_by_a_listener_of_both() {
    let server = Launch::with_shards(1).at("[::]:0".parse().unwrap()).flag("--log-level", "debug").start();
    let address = ([127, 0, 0, 1], server.address().port()).into();
    let server = server.reached_at(address);
    let mut hub = Hub::connect(&server).await;
    let handshake = hub.next().await;
    let ip = handshake["ip"].as_str().unwrap();
    assert!(ip.starts_with("127.0.0.1:"), "{ip}");
    eventually("it is logged so", async || server.output().contains(&format!("peer={ip}"))).await;
}

/// A filter of system calls may let rings be set up, and not be used: it is the machine that is at fault, and its
/// owner is told what to change.
#[tokio::test]
async fn a_machine_that_forbids_io_uring_is_told_what_to_change() {
    for call in [libc::SYS_io_uring_enter, libc::SYS_io_uring_setup, libc::SYS_io_uring_register] {
        let finished = run_without(call);
        let said = String::from_utf8(finished.stderr).unwrap();
        assert_eq!(finished.status.code(), Some(2), "{said}");
        assert!(said.contains("uproar cannot start on this machine") && said.contains("fatal"), "{said}");
        assert!(said.contains("io_uring_register") && !said.contains("panicked"), "{said}");
    }
}

#[tokio::test]
async fn a_limit_of_memory_below_what_the_shards_need_is_told_with_what_to_change() {
    let mut command = Command::new("bash");
    let limited = "ulimit -v 600000; exec \"$@\"";
    command.args([
        "-c",
        limited,
        "bash",
        env!("CARGO_BIN_EXE_uproar"),
        "--listen=127.0.0.1:0",
        "--shards=128",
    ]);
    let finished = finish(command);
    let said = String::from_utf8(finished.stderr).unwrap();
    assert_eq!(finished.status.code(), Some(2), "{said}");
    assert!(said.contains("no memory left for the ring of shard"), "{said}");
    assert!(said.contains("--shards") && !said.contains("panicked"), "{said}");
}

#[tokio::test]
async fn check_names_the_features_that_rings_use() {
    for (flags, features) in [
        (&["check", "--ring-features=all"][..], "immediate-sends, "),
        (&["check", "--ring-features=no-iowait,immediate-sends"], "features: immediate-sends"),
        (&["check", "--ring-features=none"], "features: none"),
    ] {
        let checked = run(flags, &[]).await;
        let line = checked
            .stdout
            .lines()
            .find(|line| line.contains("one for each of"))
            .unwrap_or_default()
            .to_owned();
        assert!(line.contains(features), "{line}");
    }
    assert_refused(
        &run(&["check", "--ring-features=fast"], &[]).await,
        "--ring-features",
        "fast",
        "no-iowait",
    );
}

#[tokio::test]
async fn bad_files_are_refused_with_their_key() {
    let directory = tempfile::tempdir().unwrap();
    for (text, key, value) in [
        ("shards = 0", "shards", "0"),
        ("shards = \"many\"", "shards", "many"),
        ("presence = \"sometimes\"", "presence", "sometimes"),
        ("idle-timeout = \"soon\"", "idle-timeout", "soon"),
        ("unheard-of = 1", "unheard-of", ""),
        ("shards 4", "shards", ""),
    ] {
        let path = directory.path().join("uproar.toml");
        std::fs::write(&path, text).unwrap();
        let file = path.to_str().unwrap();
        let refused = run(&["--listen=127.0.0.1:0", "--config", file], &[]).await;
        assert_refused(&refused, key, value, "");
    }
    let refused = run(&["--config", "/no/such/file.toml"], &[]).await;
    assert_refused(&refused, "/no/such/file.toml", "", "");
}

#[tokio::test]
async fn unknown_flags_and_commands_are_refused() {
    assert_refused(&run(&["--unheard-of"], &[]).await, "--unheard-of", "", "");
    assert_refused(&run(&["unheard-of"], &[]).await, "unheard-of", "", "");
}

#[tokio::test]
async fn a_busy_port_is_named_in_the_error() {
    let holder = TcpListener::bind("127.0.0.1:0").unwrap();
    assert_busy(&holder.local_addr().unwrap().to_string()).await;
}

/// Two servers that share a port by accident would each get half of the users.
#[tokio::test]
async fn a_port_held_by_another_uproar_is_busy_as_well() {
    let first = Launch::with_shards(2).start();
    assert_busy(&first.address().to_string()).await;
}

/// Two servers that wrote the same files would give out the same ids.
#[tokio::test]
async fn a_data_directory_has_one_server() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().to_str().unwrap();
    let first = Launch::with_shards(1).flag("--data", path).start();
    let refused = run(&["--listen", "127.0.0.1:0", "--shards", "1", "--data", path], &[]).await;
    assert_eq!(refused.code, Some(1), "{}", refused.stdout);
    let said = format!("the directory {path} is used by another uproar");
    assert!(refused.stderr.contains(&said), "{}", refused.stderr);
    drop(first);
    Launch::with_shards(1).flag("--data", path).start();
}

#[tokio::test]
async fn a_data_directory_that_is_not_there_is_refused() {
    let refused = run(&["--listen", "127.0.0.1:0", "--shards", "1", "--data", "/no/such/place"], &[]).await;
    assert_eq!(refused.code, Some(1), "{}", refused.stdout);
    let said = "there is no directory /no/such/place; create it";
    assert!(refused.stderr.contains(said), "{}", refused.stderr);
    assert_refused(&run(&["--data="], &[]).await, "data", "", "");
}

#[tokio::test]
async fn check_prints_its_checks_and_succeeds() {
    let checked = run(&["check"], &[]).await;
    assert_eq!(checked.code, Some(0), "{}{}", checked.stdout, checked.stderr);
    let printed = checked.stdout.to_lowercase();
    for subject in ["io_uring", "descriptor", "backlog", "core", "acceptor"] {
        assert!(printed.contains(subject), "no {subject} in {printed}");
    }
}

#[tokio::test]
async fn help_names_every_flag() {
    let help = run(&["--help"], &[]).await;
    assert_eq!(help.code, Some(0));
    for flag in [
        "listen",
        "cores",
        "shards",
        "acceptors",
        "max-clients",
        "max-message",
        "max-frame",
        "send-queue",
        "ping-interval",
        "idle-timeout",
        "handshake-timeout",
        "drain-timeout",
        "rooms",
        "data",
        "redis",
        "redis-password-file",
        "node",
        "redis-replicas",
        "redis-partitions",
        "redis-log",
        "history",
        "presence",
        "presence-limit",
        "rate",
        "burst",
        "allow-origin",
        "log",
        "log-level",
        "config",
    ] {
        assert!(help.stdout.contains(&format!("--{flag}")), "--{flag}");
    }
}

/// Runs the binary where a system call fails with EPERM.
fn run_without(call: i64) -> Output {
    let refused = SeccompAction::Errno(libc::EPERM as u32);
    let arch = std::env::consts::ARCH.try_into().expect("an architecture with filters");
    let filter = SeccompFilter::new(BTreeMap::from([(call, vec![])]), SeccompAction::Allow, refused, arch);
    let program: BpfProgram = filter.unwrap().try_into().unwrap();
    // A filter is the thread's, and of the processes that it starts.
    let thread = thread::spawn(move || {
        apply_filter(&program).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_uproar"));
        command.args(["--listen=127.0.0.1:0", "--shards=1"]);
        finish(command)
    });
    thread.join().unwrap()
}

/// Waits for the end of a command, which is killed when it does not come.
fn finish(mut command: Command) -> Output {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the binary starts");
    let deadline = Instant::now() + PATIENCE;
    while child.try_wait().unwrap().is_none() {
        if Instant::now() > deadline {
            child.kill().unwrap();
        }
        thread::sleep(std::time::Duration::from_millis(20));
    }
    child.wait_with_output().unwrap()
}

async fn assert_busy(address: &str) {
    let refused = run(&["--listen", address, "--shards", "2"], &[]).await;
    assert!(refused.code.is_some_and(|code| code != 0), "{:?}", refused.code);
    assert!(refused.stderr.contains(address), "{}", refused.stderr);
    assert!(refused.stderr.to_lowercase().contains("in use"), "{}", refused.stderr);
}

fn assert_refused(refused: &Finished, key: &str, value: &str, allowed: &str) {
    let said = &refused.stderr;
    assert_eq!(refused.code, Some(2), "{key}={value}: {said}{}", refused.stdout);
    for part in [key, value].into_iter().chain(allowed.split(' ')) {
        let variable = part.to_uppercase().replace('-', "_");
        assert!(said.contains(part) || said.contains(&variable), "no {part} in {said}");
    }
    assert!(!said.contains("panicked"), "{said}");
}
