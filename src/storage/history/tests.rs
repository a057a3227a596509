//! Tests of the file of messages: what is kept, deleted, lost, and brought up to date.

mod closed;

use std::sync::Arc;

use super::*;
use crate::rooms::{Content, KeptMessage, RoomMessage};
use crate::storage::database::Schema;

const KEPT_MAX: u64 = 10;
const FORGOTTEN_MAX: u64 = 2;

fn open(data: &tempfile::TempDir) -> (Directory, HistoryFile) {
    let (directory, file, _) = open_and_restore(data);
    (directory, file)
}

fn open_and_restore(data: &tempfile::TempDir) -> (Directory, HistoryFile, Restored) {
    let names = ["general", "quiet", "silent"].map(str::to_owned);
    let directory = Directory::new(&names, 1);
    let path = data.path().join(HISTORY_FILE);
    let (file, restored) =
        HistoryFile::open(&path, &directory, KEPT_MAX as usize, FORGOTTEN_MAX as usize).unwrap();
    (directory, file, restored)
}

/// So many messages behind the last one of a room.
fn batch(file: &HistoryFile, room: RoomIndex, count: u64) -> Vec<Write> {
    let last = file.rooms[&room].last_id.0;
    let message = |id| RoomMessage {
        id: MessageId(id),
        from: UserId::from_wire(1).unwrap(),
        from_name: "Ann".into(),
        from_account: Some("ann".into()),
        content: Content::Text("hello".into()),
        timestamp: 0,
    };
    let append = |id| {
        let change = HistoryChange::Append(Arc::new(message(id)));
        Write { room, action: WriteAction::Change(EntryNumber(id), change) }
    };
    (last + 1..=last + count).map(append).collect()
}

/// The message that this writes.
fn message_of(write: &Write) -> &Arc<RoomMessage> {
    match &write.action {
        WriteAction::Change(_, HistoryChange::Append(message)) => message,
        _ => panic!("{write:?} writes no message"),
    }
}

fn delete(room: RoomIndex, entry: u64, message: Arc<RoomMessage>) -> Write {
    Write { room, action: WriteAction::Change(EntryNumber(entry), HistoryChange::Delete(message)) }
}

/// The deletion of the message that this writes.
fn deletion(write: &Write) -> Write {
    delete(write.room, 9, Arc::clone(message_of(write)))
}

/// The states of the configured rooms, in order.
fn states(directory: &Directory, file: &HistoryFile) -> Vec<RoomRow> {
    directory.rooms().iter().map(|room| file.rooms[&room.index()].clone()).collect()
}

fn epochs(directory: &Directory, file: &HistoryFile) -> Vec<Epoch> {
    states(directory, file).iter().map(|state| state.epoch).collect()
}

fn rows(directory: &Directory, file: &HistoryFile) -> Vec<u64> {
    let states = states(directory, file);
    let counted: Vec<u64> = states
        .iter()
        .map(|state| {
            let count = "SELECT count(*) FROM message WHERE room = ?1";
            file.connection.query_row(count, [state.key], |row| row.get(0)).unwrap()
        })
        .collect();
    assert_eq!(counted, states.iter().map(|state| state.rows).collect::<Vec<u64>>());
    counted
}

#[test]
fn a_busy_room_does_not_keep_others_from_being_pruned_and_no_batch_deletes_much() {
    let data = tempfile::tempdir().unwrap();
    let (directory, mut file) = open(&data);
    let rooms: Vec<RoomIndex> = directory.rooms().iter().map(|room| room.index()).collect();
    // They have more than they keep, as when a batch had no time for them.
    for &room in &rooms[1..] {
        let history: Vec<Write> = batch(&file, room, 3 * ROWS_EXCESS_MAX);
        for part in history.chunks(ROWS_EXCESS_MAX as usize) {
            file.kept_max = u64::MAX / 2;
            file.write(part).unwrap();
        }
    }
    file.kept_max = KEPT_MAX;
    let one_more: Vec<Write> = rooms[1..].iter().flat_map(|&room| batch(&file, room, 1)).collect();
    file.write(&one_more).unwrap();
    for _ in 0..6 {
        let before: u64 = rows(&directory, &file).iter().sum();
        let busy = batch(&file, rooms[0], ROWS_EXCESS_MAX + 1);
        file.write(&busy).unwrap();
        let after: u64 = rows(&directory, &file).iter().sum();
        let deleted = before + busy.len() as u64 - after;
        assert!(deleted <= busy.len() as u64 + ROWS_EXCESS_MAX, "{deleted}");
    }
    let rows = rows(&directory, &file);
    assert!(rows.iter().all(|rows| *rows <= KEPT_MAX + ROWS_EXCESS_MAX), "{rows:?}");
}

#[test]
fn an_epoch_outlives_the_server_and_a_lost_message_ends_it() {
    let data = tempfile::tempdir().unwrap();
    let (directory, mut file) = open(&data);
    let first = epochs(&directory, &file);
    assert!(first[0] != first[1] && first[1] != first[2], "each room has its own");
    let general = directory.general();
    file.write(&batch(&file, general, 3)).unwrap();
    // As after a kill.
    drop(file);
    let (directory, mut file) = open(&data);
    assert_eq!(epochs(&directory, &file), first);

    let lost = batch(&file, general, 2);
    let lost = file.lose(&lost);
    let second = epochs(&directory, &file);
    assert_eq!(lost, [(general, EntryNumber(states(&directory, &file)[0].last_id.0), second[0])]);
    assert_ne!(second[0], first[0]);
    assert_eq!(second[1..], first[1..]);
    file.renew().unwrap();
    drop(file);
    let (directory, file) = open(&data);
    assert_eq!(epochs(&directory, &file), second);
}

#[test]
fn a_file_of_the_version_without_epochs_is_brought_up_to_date() {
    let data = tempfile::tempdir().unwrap();
    let path = data.path().join(HISTORY_FILE);
    let before = Schema { steps: &SCHEMA.steps[..1], ..SCHEMA };
    database::open(&path, &before)
        .unwrap()
        .execute_batch(
            "INSERT INTO room VALUES (1, 'general', 7, 1), (2, 'quiet', 0, 1);
             INSERT INTO message VALUES (1, 7, 'message', 1, 'Ann', 'hello', 5);",
        )
        .unwrap();
    let (directory, file) = open(&data);
    let before_restart = epochs(&directory, &file);
    assert!(before_restart[0] != before_restart[1] && before_restart[1] != before_restart[2]);
    assert_eq!(rows(&directory, &file), [1, 0, 0]);
    drop(file);
    let (directory, file) = open(&data);
    assert_eq!(epochs(&directory, &file), before_restart);
    assert!(database::open(&path, &before).unwrap_err().to_string().contains("has version 4"));
}

#[test]
fn a_file_of_the_version_without_accounts_keeps_its_messages() {
    let data = tempfile::tempdir().unwrap();
    let path = data.path().join(HISTORY_FILE);
    let before = Schema { steps: &SCHEMA.steps[..2], ..SCHEMA };
    let epoch = Epoch::random();
    database::open(&path, &before)
        .unwrap()
        .execute_batch(&format!(
            "INSERT INTO room VALUES (1, 'general', 8, 1, '{epoch}');
             INSERT INTO message VALUES (1, 7, 'message', 3, 'Ann', 'hello', 5);
             INSERT INTO message VALUES (1, 8, 'image', 3, 'Ann', 'http://a', 6);"
        ))
        .unwrap();
    let (directory, mut file, restored) = open_and_restore(&data);
    let message = |id, content, timestamp| RoomMessage {
        id: MessageId(id),
        from: UserId::from_wire(3).unwrap(),
        from_name: "Ann".into(),
        from_account: None,
        content,
        timestamp,
    };
    let kept =
        [message(7, Content::Text("hello".into()), 5), message(8, Content::Image("http://a".into()), 6)];
    assert_eq!(restored.rooms[0].kept, kept.map(|kept| KeptMessage::Whole(Arc::new(kept))));
    assert_eq!(restored.rooms[0].epoch, epoch);
    // And takes new ones.
    let general = directory.general();
    let written = batch(&file, general, 1);
    file.write(&written).unwrap();
    drop(file);
    let (_, _, restored) = open_and_restore(&data);
    let message = message_of(&written[0]);
    assert_eq!(restored.rooms[0].kept[2], KeptMessage::Whole(Arc::clone(message)));
    assert_eq!(message.from_account.as_deref(), Some("ann"));
}

#[test]
fn a_deleted_message_leaves_its_place_and_none_of_its_words() {
    let data = tempfile::tempdir().unwrap();
    let (directory, mut file) = open(&data);
    let general = directory.general();
    let mut writes = batch(&file, general, 3);
    let long = format!("secret {}", "s".repeat(20_000));
    for (write, words) in writes.iter_mut().zip(["secret", &long]) {
        let WriteAction::Change(_, HistoryChange::Append(message)) = &mut write.action else { continue };
        Arc::get_mut(message).unwrap().content = Content::Text(words.into());
    }
    file.write(&writes[..2]).unwrap();
    let deleted = writes[..2].iter().map(deletion);
    // One in the batch that brings a message, one in a batch of its own, and one that was lost before.
    let batch: Vec<Write> = [writes[2].clone()].into_iter().chain(deleted).collect();
    file.write(&batch[..2]).unwrap();
    file.write(&batch[2..]).unwrap();
    let message = message_of(&writes[2]);
    let lost = Arc::new(RoomMessage {
        id: MessageId(4),
        from: message.from,
        from_name: Arc::clone(&message.from_name),
        from_account: None,
        content: Content::Text("lost".into()),
        timestamp: 0,
    });
    file.write(&[delete(general, 10, lost)]).unwrap();
    assert_eq!(rows(&directory, &file)[0], 3);
    file.close().unwrap();
    let bytes = std::fs::read(data.path().join(HISTORY_FILE)).unwrap();
    for words in ["secret", "sssss"] {
        assert!(!bytes.windows(words.len()).any(|part| part == words.as_bytes()), "{words}");
    }
    let (directory, file, restored) = open_and_restore(&data);
    let ids: Vec<(u64, bool)> =
        restored.rooms[0].kept.iter().map(|kept| (kept.id().0, kept.message().is_some())).collect();
    assert_eq!(ids, [(1, false), (2, false), (3, true)]);
    assert_eq!(rows(&directory, &file)[0], 3);
    assert_eq!(restored.last_author, UserId::from_wire(1));
}

#[test]
fn a_lost_deletion_leaves_the_message_and_begins_an_epoch() {
    let data = tempfile::tempdir().unwrap();
    let (directory, mut file) = open(&data);
    let general = directory.general();
    let written = batch(&file, general, 2);
    file.write(&written).unwrap();
    let state = |file: &HistoryFile| file.rooms[&general].clone();
    let before = state(&file);
    let lost = file.lose(&[deletion(&written[0])]);
    let after = state(&file);
    assert_eq!(lost, [(general, EntryNumber(9), after.epoch)]);
    assert_eq!((after.kept_from, after.last_id), (before.kept_from, before.last_id), "no message is missing");
    assert_ne!(after.epoch, before.epoch);
    file.renew().unwrap();
    file.close().unwrap();
    let (_, _, restored) = open_and_restore(&data);
    assert!(restored.rooms[0].kept.iter().all(|kept| kept.message().is_some()));
    assert_eq!(restored.rooms[0].epoch, after.epoch);
}

#[test]
fn the_oldest_are_deleted() {
    let data = tempfile::tempdir().unwrap();
    let (directory, mut file) = open(&data);
    let general = directory.general();
    let count = KEPT_MAX + ROWS_EXCESS_MAX + 1;
    file.write(&batch(&file, general, count)).unwrap();
    let first = "SELECT min(id), max(id) FROM message";
    let ids: (u64, u64) = file.connection.query_row(first, [], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
    assert_eq!(ids, (ROWS_EXCESS_MAX + 2, count));
}

/// A room that clients create, as a home would number it.
fn created(slot: u32) -> RoomIndex {
    RoomIndex::example(slot)
}

fn open_room(file: &mut HistoryFile, room: RoomIndex) -> RestoredRoom {
    let open = Write { room, action: WriteAction::Open("team-a".into()) };
    let (opened, restored) = file.write(&[open]).unwrap().opened.remove(0);
    assert_eq!(opened, room);
    restored.unwrap()
}

fn room_rows(file: &HistoryFile) -> u64 {
    let count = "SELECT count(*) FROM room WHERE name = 'team-a'";
    file.connection.query_row(count, [], |row| row.get(0)).unwrap()
}

#[test]
fn a_room_comes_back_with_its_messages_and_its_ids_go_on() {
    let data = tempfile::tempdir().unwrap();
    let (_, mut file) = open(&data);
    let (first, second) = (created(3), created(4));
    let restored = open_room(&mut file, first);
    assert!(restored.kept.is_empty() && restored.reserved > MessageId(1));
    let (batch, forget) = (batch(&file, first, 2), Write { room: first, action: WriteAction::Forget });
    // Opened again in the batch in which it is forgotten.
    let open_again = Write { room: second, action: WriteAction::Open("team-a".into()) };
    let all: Vec<Write> = batch.into_iter().chain([forget, open_again]).collect();
    let mut written = file.write(&all).unwrap();
    assert_eq!(written.forgotten, [first]);
    let (_, again) = written.opened.remove(0);
    let again = again.unwrap();
    let ids: Vec<u64> = again.kept.iter().map(|kept| kept.id().0).collect();
    assert_eq!((ids, again.last_id, again.kept_from), (vec![1, 2], MessageId(2), MessageId(1)));
    assert_eq!(again.epoch, restored.epoch);
    assert!(again.reserved > MessageId(2));
    // After a crash its reserved ids count as used.
    drop(file);
    let (_, mut file) = open(&data);
    let crashed = open_room(&mut file, first);
    assert_eq!((crashed.epoch, crashed.last_id, crashed.kept.len()), (restored.epoch, again.reserved, 2));
    assert_eq!(crashed.kept_from.0, crashed.last_id.0 + 1);
}

#[test]
fn a_room_in_which_nothing_was_said_leaves_nothing() {
    let data = tempfile::tempdir().unwrap();
    let (_, mut file) = open(&data);
    let room = created(3);
    let first = open_room(&mut file, room);
    assert_eq!(room_rows(&file), 0);
    file.write(&[Write { room, action: WriteAction::Forget }]).unwrap();
    assert_ne!(open_room(&mut file, room).epoch, first.epoch);
    file.close().unwrap();
    assert_eq!(room_rows(&open(&data).1), 0);
}

#[test]
fn a_room_whose_first_message_was_lost_is_written_with_its_next() {
    let data = tempfile::tempdir().unwrap();
    let (_, mut file) = open(&data);
    let room = created(3);
    let first = open_room(&mut file, room);
    let lost = batch(&file, room, 2);
    let (_, _, epoch) = file.lose(&lost).remove(0);
    assert!(file.renew().unwrap().iter().any(|(renewed, _)| *renewed == room));
    assert_eq!(room_rows(&file), 0);
    let next = batch(&file, room, 1);
    file.write(&next).unwrap();
    file.write(&[Write { room, action: WriteAction::Forget }]).unwrap();
    let again = open_room(&mut file, room);
    assert_eq!((again.epoch, again.kept_from, again.last_id), (epoch, MessageId(3), MessageId(3)));
    assert_ne!(epoch, first.epoch);
}

fn forget(room: RoomIndex) -> Write {
    Write { room, action: WriteAction::Forget }
}

/// The names of the rooms in the file that are not configured.
fn kept_rooms(file: &HistoryFile) -> Vec<String> {
    let select = "SELECT name FROM room WHERE name LIKE 'team-%' ORDER BY name";
    let mut select = file.connection.prepare(select).unwrap();
    select.query_map([], |row| row.get(0)).unwrap().collect::<Result<_, _>>().unwrap()
}

/// Opens a room, says so many words in it, and forgets it.
fn visit(file: &mut HistoryFile, slot: u32, words: u64) {
    let room = created(slot);
    let open = Write { room, action: WriteAction::Open(format!("team-{slot}").into()) };
    assert!(file.write(&[open]).unwrap().opened[0].1.is_some());
    let said = batch(file, room, words);
    file.write(&said).unwrap();
    // Which of two was forgotten first is known to the second.
    let earlier = "UPDATE room SET forgotten = forgotten - 2 WHERE forgotten IS NOT NULL";
    file.connection.execute(earlier, []).unwrap();
    file.write(&[forget(room)]).unwrap();
}

#[test]
fn those_that_have_been_forgotten_longest_are_deleted() {
    let data = tempfile::tempdir().unwrap();
    let (_, mut file) = open(&data);
    for slot in 3..6 {
        visit(&mut file, slot, 2);
    }
    assert_eq!(kept_rooms(&file), ["team-4", "team-5"]);
    // One that comes back is the last to go, and one in which nothing was said counts for nothing.
    visit(&mut file, 4, 1);
    visit(&mut file, 6, 0);
    visit(&mut file, 7, 1);
    assert_eq!((kept_rooms(&file), file.forgotten), (vec!["team-4".to_owned(), "team-7".into()], 2));
    let messages = "SELECT count(*) FROM message";
    assert_eq!(file.connection.query_row(messages, [], |row| row.get::<_, u64>(0)).unwrap(), 3 + 1);
    // Rooms that were open when the server was killed count, too.
    let open = Write { room: created(8), action: WriteAction::Open("team-8".into()) };
    file.write(&[open]).unwrap();
    let said = batch(&file, created(8), 1);
    file.write(&said).unwrap();
    drop(file);
    let (directory, mut file) = self::open(&data);
    assert_eq!(file.forgotten, 3);
    let said = batch(&file, directory.general(), 1);
    file.write(&said).unwrap();
    assert_eq!(kept_rooms(&file).len(), 2);
    file.close().unwrap();
    assert_eq!(self::open(&data).1.forgotten, 2, "configured rooms do not count");
}

#[test]
fn a_long_room_is_deleted_a_part_at_a_time() {
    let data = tempfile::tempdir().unwrap();
    let (directory, mut file) = open(&data);
    file.kept_max = 5_000;
    visit(&mut file, 3, 3 * ROWS_EXCESS_MAX);
    for slot in 4..6 {
        visit(&mut file, slot, 1);
    }
    let count = "SELECT count(*) FROM message WHERE room = (SELECT room FROM room WHERE name = 'team-3')";
    let rows = |file: &HistoryFile| file.connection.query_row(count, [], |row| row.get::<_, u64>(0)).unwrap();
    let left = rows(&file);
    assert!((2 * ROWS_EXCESS_MAX - 9..3 * ROWS_EXCESS_MAX).contains(&left), "{left}");
    let mut batches = 0;
    while kept_rooms(&file).len() > 2 {
        let said = batch(&file, directory.general(), 1);
        file.write(&said).unwrap();
        batches += 1;
    }
    assert!((2..=3).contains(&batches), "{batches}");
}

#[test]
fn a_room_that_cannot_be_read_is_not_opened_and_others_are() {
    for damage in [
        "UPDATE room SET epoch = 'none' WHERE name = 'team-3'",
        "UPDATE room SET reserved = -1 WHERE name = 'team-3'",
        "UPDATE message SET from_id = -1 WHERE content = 'hello'",
        "UPDATE message SET content = CAST(x'ff' AS TEXT)",
        "UPDATE message SET kind = 'other'",
    ] {
        let data = tempfile::tempdir().unwrap();
        let (_, mut file) = open(&data);
        visit(&mut file, 3, 2);
        file.connection.execute(damage, []).unwrap();
        let open =
            |slot: u32, name: &str| Write { room: created(slot), action: WriteAction::Open(name.into()) };
        let opened = file.write(&[open(3, "team-3"), open(4, "team-4")]).unwrap().opened;
        let is_open: Vec<bool> = opened.iter().map(|(_, room)| room.is_some()).collect();
        assert_eq!(is_open, [false, true], "{damage}");
        assert_eq!(file.forgotten, 1);
    }
}

#[test]
fn closing_writes_nothing_of_a_room_without_a_row() {
    let data = tempfile::tempdir().unwrap();
    let (_, mut file) = open(&data);
    open_room(&mut file, created(3));
    let transaction = file.connection.unchecked_transaction().unwrap();
    assert!(!file.rooms.get_mut(&created(3)).unwrap().finish(&transaction, KEPT_MAX).unwrap());
}
