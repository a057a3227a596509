//! The file over restarts, crashes and time.

use std::fs;
use std::path::PathBuf;
use std::time::Instant;

use rusqlite::Connection;
use tempfile::TempDir;
use uproar_ring::ConnectionId;

use super::*;
use crate::clock::Now;
use crate::kept_requests::{KeptAnswer, RequestState};
use crate::moderation::{Admin, BanId, ModeratedUser, NewBan};
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
    sources.users.register(connection, |_| Some(session)).unwrap()
}

fn sources() -> StateSources {
    StateSources {
        users: Users::default(),
        moderation: Moderation::default(),
        requests: KeptRequests::default(),
    }
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
        let by = Admin::Backend { key: "shop".into() };
        sources.moderation.apply(&sources.moderation.ban(&ban, &by, now).unwrap(), now);
        StateChange::Ban(subject.clone())
    };
    let ann = user(&sources, "ann");
    let address_of_guest = "192.0.2.1".parse().unwrap();
    let guest = ModeratedUser { account: None, owner: None, user: ann, address: address_of_guest };
    let (_, muted) = sources.moderation.mute(guest, 1_000, now).unwrap();
    sources.moderation.apply(&muted, now);
    let mutes = guest.subjects().map(StateChange::Mute);
    let changes: Vec<_> = [ban(&account, 0), ban(&address, 100)].into_iter().chain(mutes).collect();
    file.write(&changes, &sources).unwrap();
    let restored = |seconds| StateFile::open(&path, TIMEOUT, now + seconds).unwrap().1.terms;
    let (mut found, mut kept) = (restored(100), sources.moderation.stored());
    found.mutes.sort();
    kept.mutes.sort();
    assert_eq!(found, kept);
    assert_eq!((found.bans.len(), found.mutes.len()), (2, 2));
    sources.moderation.apply(&sources.moderation.unban(&account, now).unwrap(), now);
    sources.moderation.apply(&sources.moderation.unmute(guest, now).1, now);
    file.write(&changes, &sources).unwrap();
    assert_eq!(restored(100), sources.moderation.stored());
    assert_eq!((restored(100).bans.len(), restored(100).mutes.len()), (1, 0));
    let again = Moderation::default();
    assert_eq!(again.restore(&restored(100), now), 0);
    assert!(again.is_banned(None, "2001:db8::2".parse().unwrap(), now + 100));
    let ended = restored(101);
    assert_eq!((ended.bans, ended.mutes, ended.last_ban), (vec![], vec![], BanId(2)), "it has ended");
}

#[test]
fn invalid_bans_and_mutes_are_damage() {
    let (_directory, path) = place();
    drop(StateFile::open(&path, TIMEOUT, START).unwrap());
    for damage in [
        "INSERT INTO ban VALUES (1, 'account', '', 0, '', '', 0); UPDATE ban_ids SET last = 1",
        "INSERT INTO ban VALUES (1, 'address', 'nowhere', 0, '', '', 0); UPDATE ban_ids SET last = 1",
        "INSERT INTO ban VALUES (1, 'planet', 'ann', 0, '', '', 0); UPDATE ban_ids SET last = 1",
        "INSERT INTO ban VALUES (1, 'account', 'ann', 0, '', '', 0)",
        "UPDATE ban_ids SET last = -1",
        "INSERT INTO mute VALUES ('session', '0', 9999999999, NULL)",
        "INSERT INTO mute VALUES ('address', '192.0.2.1:80', 9999999999, NULL)",
        "INSERT INTO mute VALUES ('session', '7', 9999999999, 'nowhere')",
    ] {
        let whole = fs::read(&path).unwrap();
        let connection = Connection::open(&path).unwrap();
        connection.execute_batch(damage).unwrap();
        drop(connection);
        let refused = StateFile::open(&path, TIMEOUT, START).unwrap_err().to_string();
        assert!(refused.contains("an invalid ban or mute"), "{damage}: {refused}");
        fs::write(&path, whole).unwrap();
    }
}

/// A request that was answered with this body; without one, it is under way.
fn request(sources: &StateSources, key: u8, body: Option<&str>) -> StateChange {
    let (key, now) = (RequestKey([key; 32]), Instant::now());
    assert_eq!(sources.requests.begin(key, [7; 32], now), None);
    if let Some(body) = body {
        let answer = KeptAnswer { status: 200, body: body.into() };
        sources.requests.end(key, RequestState::Done(answer), now);
    }
    StateChange::Request(key)
}

/// The requests in the file, each with its answer.
fn stored_requests(path: &Path, unix_seconds: u64) -> Vec<(u8, Option<String>)> {
    let requests = StateFile::open(path, TIMEOUT, unix_seconds).unwrap().1.requests;
    let read = |(key, request): (RequestKey, KeptRequest)| {
        assert_eq!(request.content, [7; 32]);
        match request.state {
            RequestState::Done(answer) => (key.0[0], Some(answer.body.to_string())),
            RequestState::CutOff => (key.0[0], None),
            RequestState::UnderWay => panic!("nothing is under way at the start"),
        }
    };
    requests.into_iter().map(read).collect()
}

#[test]
fn requests_are_known_with_what_has_become_of_them_for_five_minutes() {
    let (_directory, path) = place();
    let (mut file, first) = StateFile::open(&path, TIMEOUT, START).unwrap();
    assert_eq!(first.requests, []);
    let sources = sources();
    let mut changes = vec![request(&sources, 1, None), request(&sources, 2, Some("{}"))];
    changes.push(request(&sources, 3, None));
    file.write(&changes, &sources).unwrap();
    sources.requests.forget(RequestKey([3; 32]));
    file.write(&changes, &sources).unwrap();
    // Where all other rows are written anew, these stay.
    file.write_all(&sources).unwrap();
    drop(file);
    let now = unix_seconds();
    Connection::open(&path)
        .unwrap()
        .execute("UPDATE request SET at = ?1 + (key = ?2)", rusqlite::params![now, [2_u8; 32]])
        .unwrap();
    let done = (2, Some("{}".to_owned()));
    assert_eq!(stored_requests(&path, now + 299), [(1, None), done.clone()]);
    assert_eq!(stored_requests(&path, now + 300), [done]);
    assert_eq!(stored_requests(&path, now + 301), []);
}

/// Goal: after a failure the file has what memory has, neither less nor more, however much that is.
#[test]
fn requests_are_written_anew_in_steps() {
    const COUNT: u32 = 10_000;
    let (_directory, path) = place();
    let (mut file, _) = StateFile::open(&path, TIMEOUT, START).unwrap();
    let sources = sources();
    let begun = request(&sources, 1, None);
    let forgotten = request(&sources, 2, Some("{}"));
    file.write(&[begun, forgotten], &sources).unwrap();
    // Rows of requests that nobody knows any more, between those that are kept.
    let numbers = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 10000)";
    let row = format!(
        "{numbers} INSERT INTO request SELECT unhex(printf('%08X%056d', i * 3, 0)), zeroblob(32), {}, NULL, \
         NULL FROM n",
        unix_seconds()
    );
    Connection::open(&path).unwrap().execute(&row, []).unwrap();
    // None of these changes has reached the file.
    let answer = RequestState::Done(KeptAnswer { status: 200, body: "\"late\"".into() });
    sources.requests.end(RequestKey([1; 32]), answer, Instant::now());
    sources.requests.forget(RequestKey([2; 32]));
    for number in 0..COUNT {
        let mut key = RequestKey([9; 32]);
        key.0[..4].copy_from_slice(&(number * 5).to_be_bytes());
        assert_eq!(sources.requests.begin(key, [7; 32], Instant::now()), None);
    }
    let (mut after, mut steps) = (None, 0);
    loop {
        let changes = |file: &StateFile| file.connection.total_changes();
        let before = changes(&file);
        after = file.renew_requests(after, &sources).unwrap();
        assert!(changes(&file) - before <= 2 * 4_096, "a step is bounded");
        steps += 1;
        if after.is_none() {
            break;
        }
    }
    assert!((3..=8).contains(&steps), "{steps}");
    let found = stored_requests(&path, unix_seconds());
    assert_eq!(found.len() as u32, COUNT + 1);
    assert!(found.contains(&(1, Some("\"late\"".to_owned()))));
    // What is long takes more steps.
    for key in 100..110 {
        request(&sources, key, Some(&"x".repeat(2 << 20)));
    }
    let mut steps = 1;
    let mut after = file.renew_requests(None, &sources).unwrap();
    while after.is_some() {
        after = file.renew_requests(after, &sources).unwrap();
        steps += 1;
    }
    assert!((5..=8).contains(&steps), "{steps}");
}

#[test]
fn no_more_requests_are_read_than_memory_keeps() {
    let (_directory, path) = place();
    let (mut file, _) = StateFile::open(&path, TIMEOUT, START).unwrap();
    let (sources, long) = (sources(), "x".repeat(10_000));
    let changes = [1, 2, 3, 4].map(|key| request(&sources, key, Some(&long)));
    file.write(&changes, &sources).unwrap();
    file.connection.execute("UPDATE request SET at = at - hex(substr(key, 1, 1))", []).unwrap();
    let mut read = |count_max, bytes_max| {
        let transaction = file.connection.transaction().unwrap();
        let read = requests::restore_within(&transaction, unix_seconds(), count_max, bytes_max);
        let read = read.unwrap().unwrap();
        read.iter().map(|(key, _)| key.0[0]).collect::<Vec<_>>()
    };
    assert_eq!(read(9, usize::MAX), [4, 3, 2, 1]);
    assert_eq!(read(3, usize::MAX), [3, 2, 1]);
    assert_eq!(read(9, 25_000), [2, 1]);
}

#[test]
fn an_invalid_request_is_damage() {
    let (_directory, path) = place();
    drop(StateFile::open(&path, TIMEOUT, START).unwrap());
    for row in [
        "x'00', zeroblob(32), 1, NULL, NULL",
        "zeroblob(32), zeroblob(32), 1, 70000, ''",
        "zeroblob(32), zeroblob(32), 1, 200, NULL",
    ] {
        let connection = Connection::open(&path).unwrap();
        connection.execute(&format!("INSERT OR REPLACE INTO request VALUES ({row})"), []).unwrap();
        drop(connection);
        let refused = StateFile::open(&path, TIMEOUT, 1).unwrap_err().to_string();
        assert!(refused.contains("an invalid request"), "{row}: {refused}");
        Connection::open(&path).unwrap().execute("DELETE FROM request", []).unwrap();
    }
}
