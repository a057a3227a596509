//! The file over restarts, crashes and time.

use std::fs;
use std::path::PathBuf;

use rusqlite::Connection;
use tempfile::TempDir;
use uproar_ring::ConnectionId;

use super::*;
use crate::clock::Now;
use crate::moderation::{ModeratedUser, NewBan};
use crate::rooms::{ClientRef, ShardIndex, UserSession};

const TIMEOUT: Duration = Duration::from_secs(120);

const START: u64 = 1_700_000_000;

fn place() -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join(STATE_FILE);
    (directory, path)
}

fn user(sources: &StateSources, name: &str) -> UserId {
    let connection = ConnectionId { index: 0, generation: 0 };
    let connection = ClientRef { shard: ShardIndex(0), connection };
    let account = (name == "ann").then(|| "ann".into());
    let session = UserSession { name: name.into(), room: "general".into(), account };
    sources.users.register(connection, |_| Some(session))
}

fn sources() -> StateSources {
    StateSources { users: Users::default(), moderation: Moderation::default() }
}

fn at(seconds: u64) -> Now {
    Now { monotonic_ms: 0, uptime_ms: seconds * 1_000, unix_seconds: START + seconds }
}

fn names(restored: &RestoredState) -> Vec<&str> {
    restored.sessions.iter().map(|ended| &*ended.session.name).collect()
}

#[test]
fn sessions_outlive_a_clean_stop_until_they_are_too_old() {
    let (_directory, path) = place();
    let (mut file, first) = StateFile::open(&path, TIMEOUT, START).unwrap();
    assert_eq!((first.last_user, first.sessions.len()), (0, 0));
    let sources = sources();
    let (ann, ben) = (user(&sources, "ann"), user(&sources, "ben"));
    file.write(&[StateChange::User(ann), StateChange::User(ben)], &sources).unwrap();
    sources.users.end(ann, 120_000, at(10)).unwrap();
    sources.users.end(ben, 120_000, at(20)).unwrap();
    file.close(&sources).unwrap();
    let open = |seconds| StateFile::open(&path, TIMEOUT, START + seconds).unwrap();
    let (file, restored) = open(30);
    assert_eq!(
        (restored.last_user, restored.series, names(&restored)),
        (2, first.series, vec!["ann", "ben"])
    );
    let ended = &restored.sessions[0];
    assert_eq!((ended.user, ended.ended_at, ended.expires_ms), (ann, START + 10, 100_000));
    assert_eq!(ended.session.account.as_deref(), Some("ann"));
    drop(file);
    assert_eq!(names(&open(135).1), ["ben"]);
    assert_eq!(names(&open(1_000).1), [""; 0]);
}

#[test]
fn after_a_kill_ids_go_on_behind_the_reservation_and_sessions_end_at_the_start() {
    let (_directory, path) = place();
    let (mut file, _) = StateFile::open(&path, TIMEOUT, START).unwrap();
    let sources = sources();
    let ann = user(&sources, "ann");
    file.write(&[StateChange::User(ann)], &sources).unwrap();
    drop(file);
    let (file, restored) = StateFile::open(&path, TIMEOUT, START + 500).unwrap();
    assert_eq!((restored.last_user, names(&restored)), (1 << 16, vec!["ann"]));
    assert_eq!((restored.sessions[0].ended_at, restored.sessions[0].expires_ms), (START + 500, 120_000));
    drop(file);
    // The second start has not seen the user: its time goes on from the first.
    let (_, restored) = StateFile::open(&path, TIMEOUT, START + 560).unwrap();
    assert_eq!((restored.last_user, restored.sessions[0].expires_ms), (2 << 16, 60_000));
}

#[test]
fn a_user_behind_the_reservation_is_told_apart_until_the_next_one() {
    let (_directory, path) = place();
    let (mut file, restored) = StateFile::open(&path, TIMEOUT, START).unwrap();
    let sources = sources();
    let ann = user(&sources, "ann");
    assert!(sources.users.is_reserved(ann), "without a storage every id is");
    sources.users.reserve_through(restored.reserved_through);
    sources.users.continue_after(restored.reserved_through - 1);
    let [last, behind] = ["ben", "eve"].map(|name| user(&sources, name));
    let are_reserved = || [ann, last, behind].map(|user| sources.users.is_reserved(user));
    assert_eq!(are_reserved(), [true, true, false]);
    file.write(&[], &sources).unwrap();
    assert_eq!(are_reserved(), [true; 3]);
    drop(file);
    let (_, restored) = StateFile::open(&path, TIMEOUT, START).unwrap();
    assert!(restored.last_user >= behind.get());
}

#[test]
fn a_row_follows_its_user() {
    let (_directory, path) = place();
    let (mut file, _) = StateFile::open(&path, TIMEOUT, START).unwrap();
    let sources = sources();
    let ann = user(&sources, "ann");
    file.write(&[StateChange::User(ann)], &sources).unwrap();
    let session = UserSession { name: "anna".into(), room: "tea".into(), account: None };
    sources.users.update(ann, session.clone());
    file.write(&[StateChange::User(ann)], &sources).unwrap();
    let (_, restored) = StateFile::open(&path, TIMEOUT, START).unwrap();
    assert_eq!(*restored.sessions[0].session, session);
    sources.users.end(ann, 0, at(1));
    file.write(&[StateChange::User(ann)], &sources).unwrap();
    assert_eq!(StateFile::open(&path, TIMEOUT, START).unwrap().1.sessions, []);
}

#[test]
fn changes_that_were_missed_are_written_with_all_others() {
    let (_directory, path) = place();
    let (mut file, _) = StateFile::open(&path, TIMEOUT, START).unwrap();
    let sources = sources();
    let ann = user(&sources, "ann");
    file.write(&[StateChange::User(ann)], &sources).unwrap();
    user(&sources, "ben");
    sources.users.end(ann, 0, at(1));
    file.renew(&sources).unwrap();
    assert_eq!(names(&StateFile::open(&path, TIMEOUT, START).unwrap().1), ["ben"]);
}

#[test]
fn where_sessions_are_off_none_is_kept() {
    let (_directory, path) = place();
    let (mut file, _) = StateFile::open(&path, TIMEOUT, START).unwrap();
    let sources = sources();
    file.write(&[StateChange::User(user(&sources, "ann"))], &sources).unwrap();
    assert_eq!(StateFile::open(&path, Duration::ZERO, START).unwrap().1.sessions, []);
}

#[test]
fn another_file_has_another_series() {
    let (_directory, path) = place();
    let series = StateFile::open(&path, TIMEOUT, START).unwrap().1.series;
    fs::remove_file(&path).unwrap();
    assert_ne!(StateFile::open(&path, TIMEOUT, START).unwrap().1.series, series);
}

#[test]
fn invalid_rows_are_damage_and_a_clock_that_was_set_back_is_none() {
    let (_directory, path) = place();
    drop(StateFile::open(&path, TIMEOUT, START).unwrap());
    let change = |sql: &str| {
        Connection::open(&path).unwrap().execute_batch(sql).unwrap();
    };
    change(&format!("INSERT INTO session VALUES (7, 'a', 'general', NULL, {})", START + 1_000));
    let (_, restored) = StateFile::open(&path, TIMEOUT, START).unwrap();
    assert_eq!((restored.sessions[0].ended_at, restored.sessions[0].expires_ms), (START, 120_000));
    for damage in [
        "INSERT INTO session VALUES (-1, 'a', 'general', NULL, NULL)",
        "INSERT INTO session VALUES (1000000000, 'a', 'general', NULL, NULL)",
        "UPDATE user_ids SET series = x'00'",
        "UPDATE user_ids SET reserved = -1",
    ] {
        let whole = fs::read(&path).unwrap();
        change(damage);
        let refused = StateFile::open(&path, TIMEOUT, START).unwrap_err().to_string();
        assert!(refused.contains("is damaged"), "{damage}: {refused}");
        fs::write(&path, whole).unwrap();
    }
}

#[test]
fn a_file_that_was_deleted_is_not_written() {
    let (_directory, path) = place();
    let (mut file, _) = StateFile::open(&path, TIMEOUT, START).unwrap();
    fs::remove_file(&path).unwrap();
    let refused = file.write(&[], &sources()).unwrap_err().to_string();
    assert!(refused.contains("was deleted, moved or replaced"), "{refused}");
}

#[test]
fn bans_and_mutes_follow_the_register_until_they_end() {
    let (_directory, path) = place();
    let (mut file, first) = StateFile::open(&path, TIMEOUT, START).unwrap();
    assert_eq!(first.terms, StoredTerms::default());
    let sources = sources();
    let account = BanSubject::account("troll\u{0}é").unwrap();
    let address = BanSubject::parse_address("2001:db8::1").unwrap();
    // Ends are compared with the clock of the machine.
    let now = unix_seconds();
    let ban = |subject: &BanSubject, seconds| {
        let reason = Some("spam".into());
        let ban = NewBan { subject: subject.clone(), address: None, seconds, reason };
        sources.moderation.ban(&ban, now).unwrap();
        StateChange::Ban(subject.clone())
    };
    let ann = user(&sources, "ann");
    let address_of_guest = "192.0.2.1".parse().unwrap();
    let guest = ModeratedUser { account: None, owner: None, user: ann, address: address_of_guest };
    sources.moderation.mute(guest, 1_000, now).unwrap();
    let mutes = guest.subjects().map(StateChange::Mute);
    let changes: Vec<_> = [ban(&account, 0), ban(&address, 100)].into_iter().chain(mutes).collect();
    file.write(&changes, &sources).unwrap();
    let restored = |seconds| StateFile::open(&path, TIMEOUT, now + seconds).unwrap().1.terms;
    let (mut found, mut kept) = (restored(100), sources.moderation.stored());
    found.mutes.sort();
    kept.mutes.sort();
    assert_eq!(found, kept);
    assert_eq!((found.bans.len(), found.mutes.len()), (2, 2));
    sources.moderation.unban(&account, now).unwrap();
    let _ = sources.moderation.unmute(guest, now);
    file.write(&changes, &sources).unwrap();
    assert_eq!(restored(100), sources.moderation.stored());
    assert_eq!((restored(100).bans.len(), restored(100).mutes.len()), (1, 0));
    let again = Moderation::default();
    assert_eq!(again.restore(&restored(100), now), 0);
    assert!(again.is_banned(None, "2001:db8::2".parse().unwrap(), now + 100));
    assert_eq!(restored(101), StoredTerms::default(), "it has ended");
}

#[test]
fn invalid_bans_and_mutes_are_damage() {
    let (_directory, path) = place();
    drop(StateFile::open(&path, TIMEOUT, START).unwrap());
    for damage in [
        "INSERT INTO ban VALUES ('account', '', 0, '')",
        "INSERT INTO ban VALUES ('address', 'nowhere', 0, '')",
        "INSERT INTO ban VALUES ('planet', 'ann', 0, '')",
        "INSERT INTO mute VALUES ('session', '0', 9999999999, NULL)",
        "INSERT INTO mute VALUES ('address', '192.0.2.1:80', 9999999999, NULL)",
        "INSERT INTO mute VALUES ('session', '7', 9999999999, 'nowhere')",
    ] {
        let whole = fs::read(&path).unwrap();
        let connection = Connection::open(&path).unwrap();
        connection.execute(damage, []).unwrap();
        drop(connection);
        let refused = StateFile::open(&path, TIMEOUT, START).unwrap_err().to_string();
        assert!(refused.contains("an invalid ban or mute"), "{damage}: {refused}");
        fs::write(&path, whole).unwrap();
    }
}
