//! Rooms that a backend has closed.

use super::*;

#[test]
fn a_closed_room_is_not_found_and_deleted_a_part_at_a_time() {
    let data = tempfile::tempdir().unwrap();
    let (_, mut file) = open(&data);
    file.kept_max = 5_000;
    let (room, again) = (created(3), created(4));
    let open_as = |room| Write { room, action: WriteAction::Open("team-3".into()) };
    file.write(&[open_as(room)]).unwrap();
    let said = batch(&file, room, 2 * ROWS_EXCESS_MAX);
    file.write(&said).unwrap();
    // In one batch it loses its name, and another room has it.
    let written = file.write(&[Write { room, action: WriteAction::Close }, open_as(again)]).unwrap();
    assert_eq!(written.closed, [room]);
    assert_eq!(written.opened[0].1.as_ref().unwrap().kept, []);
    let (late, said) = (batch(&file, room, 1), batch(&file, again, 1));
    file.write(&[late, said].concat()).unwrap();
    assert!(!file.has_closed());
    file.write(&[forget(room)]).unwrap();
    assert!(file.has_closed());
    let count = |file: &HistoryFile| {
        let count = "SELECT count(*) FROM message";
        file.connection.query_row(count, [], |row| row.get::<_, u64>(0)).unwrap()
    };
    let left = count(&file);
    assert!((ROWS_EXCESS_MAX - 9..=ROWS_EXCESS_MAX + 2).contains(&left), "{left}");
    // Also over a crash.
    drop(file);
    let (_, mut file) = open(&data);
    assert!(file.has_closed());
    for _ in 0..3 {
        file.write(&[]).unwrap();
    }
    assert_eq!((count(&file), file.has_closed(), kept_rooms(&file)), (1, false, vec!["team-3".to_owned()]));
}

#[test]
fn a_room_that_was_closed_at_a_crash_or_while_the_disk_failed_is_deleted() {
    let data = tempfile::tempdir().unwrap();
    let (_, mut file) = open(&data);
    for slot in 3..6 {
        let room = created(slot);
        file.write(&[Write { room, action: WriteAction::Open(format!("team-{slot}").into()) }]).unwrap();
        let said = batch(&file, room, 1);
        file.write(&said).unwrap();
    }
    let close = |slot| [Write { room: created(slot), action: WriteAction::Close }];
    file.write(&close(3)).unwrap();
    file.lose(&close(4));
    // The members of this one leave while the disk fails.
    file.lose(&close(5));
    file.lose(&[forget(created(5))]);
    for name in ["team-4", "team-5"] {
        assert!(kept_rooms(&file).contains(&name.to_owned()));
    }
    file.renew().unwrap();
    assert!(file.has_closed());
    drop(file);
    let (_, mut file) = open(&data);
    file.write(&[]).unwrap();
    assert_eq!(kept_rooms(&file), [""; 0]);
}
