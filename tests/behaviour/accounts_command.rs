//! `uproar user`: how accounts come and go, and where a password may come from.

use std::fs;
use std::path::Path;

use rustix::termios::{LocalModes, tcgetattr};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::harness::{Finished, Launch, eventually, run, run_with_input, within};

#[tokio::test]
async fn accounts_are_added_listed_changed_and_removed() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path();
    assert_done(&user(data, &["add", "Zoë"], "secret\n").await, "added Zoë\n");
    assert_done(&user(data, &["add", "boss", "--admin"], "hush\n").await, "added boss, an admin\n");
    let list = "user\tZoë\nadmin\tboss\n";
    let files = || fs::read_dir(data).unwrap().map(|entry| entry.unwrap().file_name()).collect::<Vec<_>>();
    let files_before = files();
    assert_done(&user(data, &["list"], "").await, list);
    assert_eq!(files(), files_before);
    let before = fs::read(data.join("accounts.db")).unwrap();
    assert_done(&user(data, &["passwd", "boss"], "another\n").await, "changed the password of boss\n");
    assert_ne!(fs::read(data.join("accounts.db")).unwrap(), before);
    assert_done(&user(data, &["list"], "").await, list);
    assert_done(&user(data, &["demote", "boss"], "").await, "boss is no admin now\n");
    assert_done(&user(data, &["promote", "Zoë"], "").await, "Zoë is an admin now\n");
    assert_done(&user(data, &["list"], "").await, "admin\tZoë\nuser\tboss\n");
    assert_done(&user(data, &["remove", "boss"], "").await, "removed boss\n");
    assert_done(&user(data, &["list"], "").await, "admin\tZoë\n");
}

#[tokio::test]
async fn where_nobody_was_added_nothing_is_created() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path();
    assert_done(&user(data, &["list"], "").await, "");
    assert_failed(&user(data, &["remove", "Ben"], "").await, "no account named Ben");
    assert_failed(&user(data, &["passwd", "Ben"], "x\n").await, "no account named Ben");
    assert_failed(&user(&data.join("absent"), &["list"], "").await, "the directory must exist");
    assert_eq!(fs::read_dir(data).unwrap().count(), 0);
}

#[tokio::test]
async fn a_password_is_kept_as_an_argon2id_hash_alone() {
    let directory = tempfile::tempdir().unwrap();
    assert_done(&user(directory.path(), &["add", "Ann"], "in plain sight\n").await, "added Ann\n");
    let mut kept = Vec::new();
    for entry in fs::read_dir(directory.path()).unwrap() {
        kept.extend(fs::read(entry.unwrap().path()).unwrap());
    }
    let kept = String::from_utf8_lossy(&kept);
    assert!(kept.contains("$argon2id$v=19$"), "no hash is there");
    assert!(!kept.contains("in plain sight"), "the password is there");
}

#[tokio::test]
async fn what_cannot_be_done_is_said_with_what_to_do() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path();
    assert_done(&user(data, &["add", "Ann"], "secret\n").await, "added Ann\n");
    assert_failed(&user(data, &["add", "Ann"], "other\n").await, "an account named Ann already");
    for similar in ["ann", "Ａnn", "A\u{200b}nn"] {
        assert_failed(&user(data, &["add", similar], "other\n").await, "an account named Ann already, and ");
    }
    assert_failed(&user(data, &["add", "system"], "other\n").await, "is what the server calls itself");
    for command in ["remove", "promote", "demote"] {
        assert_failed(&user(data, &[command, "Ben"], "").await, "no account named Ben");
    }
    assert_failed(&user(data, &["passwd", "Ben"], "x\n").await, "no account named Ben");
    assert_failed(&user(data, &["add", "Ben"], "").await, "the password is empty; choose one");
    assert_failed(&user(data, &["add", "Ben"], "\n").await, "the password is empty; choose one");
    let endless = "x".repeat(1 << 20);
    assert_failed(&user(data, &["add", "Ben"], &endless).await, "the password is too long; choose one");
    assert_failed(&user(&data.join("absent"), &["list"], "").await, "the directory must exist");
    assert_done(&user(data, &["list"], "").await, "user\tAnn\n");
}

#[tokio::test]
async fn names_are_held_to_the_rules_of_the_chat() {
    let directory = tempfile::tempdir().unwrap();
    let twenty = "😀".repeat(20);
    assert_done(&user(directory.path(), &["add", &twenty], "secret\n").await, &format!("added {twenty}\n"));
    assert_done(&user(directory.path(), &["add", "\u{3000}Ann "], "secret\n").await, "added Ann\n");
    for name in
        ["", " ", "x23456789012345678901", "a\tb", "a\u{1b}[31mb", "a\u{9f}b", "\u{200b}", "\u{202e}nnA"]
    {
        let refused = user(directory.path(), &["add", name], "secret\n").await;
        assert_eq!(refused.code, Some(2), "{name:?}: {}", refused.stdout);
        assert!(refused.stderr.contains("1 to 20 characters"), "{name:?}: {}", refused.stderr);
        assert!(!refused.stderr.contains('\u{1b}'), "{name:?} is printed raw");
    }
}

#[tokio::test]
async fn a_password_is_no_argument() {
    let directory = tempfile::tempdir().unwrap();
    for arguments in [&["add", "Ann", "secret"][..], &["add", "Ann", "--password", "secret"]] {
        assert_eq!(user(directory.path(), arguments, "").await.code, Some(2), "{arguments:?}");
    }
    let nowhere = run(&["user", "list"], &[]).await;
    assert_eq!(nowhere.code, Some(2));
    assert!(nowhere.stderr.contains("--data"), "{}", nowhere.stderr);
}

#[tokio::test]
async fn accounts_are_managed_while_a_server_runs() {
    let directory = tempfile::tempdir().unwrap();
    let _server = Launch::with_shards(1).flag("--data", directory.path().display()).start();
    assert_done(&user(directory.path(), &["add", "Ann"], "secret\n").await, "added Ann\n");
    assert_done(&user(directory.path(), &["list"], "").await, "user\tAnn\n");
}

#[tokio::test]
async fn files_that_are_not_accounts_are_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("accounts.db");
    assert_done(&user(directory.path(), &["add", "Ann"], "secret\n").await, "added Ann\n");
    let whole = fs::read(&file).unwrap();
    // The version is at byte 60, the application at byte 68 (sqlite.org/fileformat2.html).
    let with = |at: usize, byte: u8| {
        let mut bytes = whole.clone();
        bytes[at] = byte;
        bytes
    };
    for (bytes, said) in [
        (b"this is no database at all, but a long text ".repeat(100), "is damaged"),
        (whole[..whole.len() / 2].to_vec(), "is damaged"),
        (with(63, 99), "has version 99, and this uproar knows versions up to 2"),
        (with(71, 1), "is another program's database"),
    ] {
        fs::write(&file, &bytes).unwrap();
        let refused = user(directory.path(), &["list"], "").await;
        assert_failed(&refused, said);
        assert!(refused.stderr.contains(file.to_str().unwrap()), "{}", refused.stderr);
        assert_eq!(fs::read(&file).unwrap(), bytes, "{said}");
    }
}

#[tokio::test]
async fn a_terminal_is_asked_twice_and_shows_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let (said, code) = type_passwords(directory.path(), ["secret", "secret"]).await;
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("added Ann"), "{said}");
    assert!(!said.contains("secret"), "{said}");
}

#[tokio::test]
async fn two_passwords_that_differ_change_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let (said, code) = type_passwords(directory.path(), ["secret", "sacred"]).await;
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("not the same"), "{said}");
    assert_done(&user(directory.path(), &["list"], "").await, "");
}

/// Adds Ann at a terminal of her own, and returns what that has shown.
async fn type_passwords(data: &Path, passwords: [&str; 2]) -> (String, Option<i32>) {
    let (mut terminal, slave) = pty_process::open().unwrap();
    let command = pty_process::Command::new(env!("CARGO_BIN_EXE_uproar"));
    let command = command.args(["user", "add", "Ann", "--data"]).arg(data).kill_on_drop(true);
    let mut child = command.spawn(slave).unwrap();
    let mut shown = Vec::new();
    for (prompt, password) in ["Password for Ann: ", "The same again: "].into_iter().zip(passwords) {
        while !String::from_utf8_lossy(&shown).contains(prompt) {
            let byte = within(prompt, terminal.read_u8()).await;
            shown.push(byte.expect("the terminal is still used"));
        }
        // The prompt comes first. Whoever types before the echo is off is seen, and so would we be.
        eventually("the terminal shows nothing", async || {
            !tcgetattr(&terminal).unwrap().local_modes.contains(LocalModes::ECHO)
        })
        .await;
        terminal.write_all(format!("{password}\n").as_bytes()).await.unwrap();
    }
    // The end of a terminal that nobody has open any more is an error.
    while let Ok(byte) = within("the end of the terminal", terminal.read_u8()).await {
        shown.push(byte);
    }
    let code = within("the end of uproar", child.wait()).await.unwrap().code();
    (String::from_utf8(shown).unwrap(), code)
}

async fn user(data: &Path, arguments: &[&str], input: &str) -> Finished {
    let mut all = vec!["user"];
    all.extend(arguments);
    all.extend(["--data", data.to_str().unwrap()]);
    run_with_input(&all, input).await
}

fn assert_done(finished: &Finished, said: &str) {
    assert_eq!((finished.code, finished.stdout.as_str()), (Some(0), said), "{}", finished.stderr);
}

fn assert_failed(finished: &Finished, said: &str) {
    assert_eq!(finished.code, Some(1), "{}{}", finished.stdout, finished.stderr);
    assert!(finished.stderr.starts_with("error: ") && finished.stderr.contains(said), "{}", finished.stderr);
}
