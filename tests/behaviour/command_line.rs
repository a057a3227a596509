//! The command line: what is refused at start, and how.

use std::net::TcpListener;

use crate::harness::{Finished, Launch, run};

#[tokio::test]
async fn bad_flags_are_refused_with_their_key_value_and_what_is_allowed() {
    for (key, value, allowed) in [
        ("listen", "nowhere", ""),
        ("listen", "127.0.0.1:99999", ""),
        ("shards", "0", ""),
        ("shards", "many", ""),
        ("shards", "-1", ""),
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
    for subject in ["io_uring", "descriptor", "backlog", "core"] {
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
