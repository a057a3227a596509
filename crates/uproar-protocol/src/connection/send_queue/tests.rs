//! The queue alone: order, limits, short sends and the end.

use bytes::Bytes;

use super::*;
use crate::connection::{ClosingTimes, QueueLimits};
use crate::frames::FRAGMENT_BYTES;

const OVERHEAD: usize = 192;

fn frame(len: usize) -> Bytes {
    Bytes::from(vec![b'x'; len])
}

/// An entry of this length in the queue's count.
fn charged(bytes: usize) -> Bytes {
    frame(bytes - OVERHEAD)
}

fn of_bytes(charged_bytes_max: usize) -> SendQueue<Bytes> {
    SendQueue::new(config(charged_bytes_max, ControlOrder::Queued))
}

fn config(charged_bytes_max: usize, control: ControlOrder) -> Arc<Config> {
    Arc::new(Config {
        new_mask: None,
        message_bytes_max: 1,
        queue: QueueLimits { charged_bytes_max, overhead_bytes: OVERHEAD, control },
        closing: ClosingTimes::default(),
    })
}

/// A queue for so many entries of so many bytes in all.
fn queue(entries: usize, bytes: usize) -> SendQueue<Bytes> {
    of_bytes(entries * OVERHEAD + bytes)
}

/// The lengths of what leaves now, in order.
fn leaving(queue: &mut SendQueue<Bytes>) -> Vec<usize> {
    let Some(batch) = queue.next_batch() else { return Vec::new() };
    let lengths = (0..batch.entry_count()).map(|index| batch.slice(index).len()).collect();
    let bytes = batch.remaining_bytes();
    queue.handle_sent(batch, bytes);
    lengths
}

#[test]
fn everything_that_waits_leaves_in_one_batch() {
    let mut queue = queue(4, 100);
    for len in [10, 20, 30] {
        queue.push(frame(len)).unwrap();
    }
    let batch = queue.next_batch().unwrap();
    assert_eq!((batch.entry_count(), batch.remaining_bytes()), (3, 60));
    queue.push(frame(5)).unwrap();
    assert!(queue.next_batch().is_none(), "one batch at a time");
    queue.handle_sent(batch, 60);
    assert_eq!(queue.next_batch().unwrap().remaining_bytes(), 5);
}

#[test]
fn a_short_send_continues_in_the_middle_of_an_entry() {
    let mut queue = queue(2, 100);
    queue.push(frame(10)).unwrap();
    queue.push(frame(20)).unwrap();
    let batch = queue.next_batch().unwrap();
    queue.handle_sent(batch, 13);
    assert_eq!(queue.queued_bytes(), OVERHEAD + 17);
    let rest = queue.next_batch().unwrap();
    assert_eq!((rest.entry_count(), rest.slice(0).len()), (1, 17));
}

#[test]
fn the_limit_counts_what_is_under_way_too() {
    let mut queue = of_bytes(1_000);
    queue.push(charged(600)).unwrap();
    let _batch = queue.next_batch().unwrap();
    queue.push(charged(400)).unwrap();
    assert_eq!(queue.push(frame(1)), Err(QueueFull));
}

#[test]
fn what_is_pushed_beyond_the_limit_leaves_room_for_the_rest() {
    let mut queue = of_bytes(1_000);
    queue.push_beyond_limit(charged(5_000));
    queue.push_beyond_limit(charged(5_000));
    assert!(queue.is_over_limit());
    queue.push(charged(1_000)).unwrap();
    assert_eq!(queue.push(frame(1)), Err(QueueFull));
    let batch = queue.next_batch().unwrap();
    let bytes = batch.remaining_bytes();
    queue.handle_sent(batch, bytes);
    assert_eq!(queue.push(charged(1_001)), Err(QueueFull), "the allowance has ended with the excess");
}

#[test]
fn truncating_keeps_only_the_entry_that_is_half_sent() {
    let mut queue = queue(4, 100);
    for _ in 0..3 {
        queue.push(frame(10)).unwrap();
    }
    let batch = queue.next_batch().unwrap();
    queue.push(frame(10)).unwrap();
    queue.truncate(None, frame(4));
    queue.push(frame(50)).unwrap();
    queue.handle_sent(batch, 12);
    assert_eq!(queue.queued_bytes(), 2 * OVERHEAD + 8 + 4);
    let rest = queue.next_batch().unwrap();
    assert_eq!(rest.slice(0).len(), 8);
    queue.handle_sent(rest, 8);
    let last = queue.next_batch().unwrap();
    assert_eq!(last.slice(0).len(), 4);
    queue.handle_sent(last, 4);
    assert!(queue.is_empty());
}

#[test]
fn truncating_keeps_the_first_entry_until_something_was_sent() {
    let mut queue = of_bytes(100);
    queue.push_beyond_limit(frame(10));
    queue.push_beyond_limit(frame(20));
    queue.truncate(None, frame(4));
    assert_eq!(queue.queued_bytes(), 2 * OVERHEAD + 10 + 4);
    let batch = queue.next_batch().unwrap();
    assert_eq!(batch.entry_count(), 2);
    queue.handle_sent(batch, 3);
    assert_eq!(queue.queued_bytes(), 2 * OVERHEAD + 7 + 4, "the last entry stays");
}

#[test]
fn a_queue_of_many_entries_leaves_in_batches_that_the_kernel_takes() {
    let mut queue = queue(BATCH_ENTRIES_MAX + 1, 1_000);
    for _ in 0..BATCH_ENTRIES_MAX + 1 {
        queue.push(frame(1)).unwrap();
    }
    let batch = queue.next_batch().unwrap();
    assert_eq!(batch.entry_count(), BATCH_ENTRIES_MAX);
    queue.handle_sent(batch, BATCH_ENTRIES_MAX);
    assert_eq!(queue.next_batch().unwrap().entry_count(), 1);
}

#[test]
fn small_entries_fill_the_queue_too() {
    let mut queue = of_bytes(1 << 20);
    let taken = (0..1 << 20).take_while(|_| queue.push(frame(2)).is_ok()).count();
    assert_eq!(taken, (1 << 20) / (OVERHEAD + 2));
    assert_eq!(queue.push(frame(2)), Err(QueueFull));
}

#[test]
fn a_new_pong_takes_the_place_of_one_that_waits() {
    let mut queue = queue(100, 10_000);
    queue.push(frame(200)).unwrap();
    let batch = queue.next_batch().unwrap();
    for len in 1..=100 {
        queue.push_pong(frame(len));
    }
    let places = usize::from(PONGS_WAITING_MAX);
    queue.push(frame(300)).unwrap();
    queue.handle_sent(batch, 200);
    let expected: Vec<usize> = (1..=places).chain([300, 100]).collect();
    assert_eq!(leaving(&mut queue), expected);
    assert!(queue.is_empty());
}

#[test]
fn a_full_queue_takes_the_newest_pong() {
    let mut queue = queue(1, 100);
    queue.push(frame(100)).unwrap();
    for len in 1..=9 {
        queue.push_pong(frame(len));
    }
    assert_eq!(queue.queued_bytes(), 2 * OVERHEAD + 100 + 9);
    assert_eq!(leaving(&mut queue), [100, 9]);
}

#[test]
fn no_pong_comes_behind_the_last_entry() {
    let mut queue = queue(1, 100);
    queue.push(frame(100)).unwrap();
    queue.push_pong(frame(2));
    queue.seal(Some(frame(4)));
    queue.push_pong(frame(3));
    assert_eq!(leaving(&mut queue), [100, 2, 4]);
    let mut closed = self::queue(100, 1_000);
    let places = usize::from(PONGS_WAITING_MAX);
    (1..=places + 1).for_each(|len| closed.push_pong(frame(len)));
    closed.push(frame(40)).unwrap();
    closed.seal(None);
    assert_eq!(leaving(&mut closed), (1..=places).chain([40]).collect::<Vec<_>>());
    assert!(closed.is_empty());
    let mut evicted = self::queue(1, 100);
    evicted.push(frame(100)).unwrap();
    let batch = evicted.next_batch().unwrap();
    evicted.push_pong(frame(2));
    evicted.truncate(None, frame(4));
    evicted.handle_sent(batch, 100);
    assert_eq!(leaving(&mut evicted), [4]);
    assert!(evicted.is_empty());
}

#[test]
fn what_has_grown_is_given_back() {
    let mut queue = queue(1_000, 1_000);
    let count = 2 * BATCH_ENTRIES_MAX + 1;
    (0..count).for_each(|_| queue.push(frame(1)).unwrap());
    for left in [BATCH_ENTRIES_MAX, BATCH_ENTRIES_MAX, 1] {
        assert_eq!(leaving(&mut queue).len(), left);
    }
    assert!(queue.waiting.capacity() <= WAITING_CAPACITY_KEPT);
}

/// A queue whose control frames leave ahead of messages, without overhead.
fn overtaking(charged_bytes_max: usize, pong_bytes_max: usize) -> SendQueue<Bytes> {
    let mut config = *config(charged_bytes_max, ControlOrder::Ahead { pong_bytes_max });
    config.queue.overhead_bytes = 0;
    SendQueue::new(Arc::new(config))
}

/// Everything that leaves, entry by entry.
fn leaving_entries(queue: &mut SendQueue<Bytes>) -> Vec<Vec<u8>> {
    let mut entries = Vec::new();
    while let Some(batch) = queue.next_batch() {
        assert_eq!(batch.entry_count(), 1);
        entries.push(batch.slice(0).to_vec());
        let bytes = batch.remaining_bytes();
        queue.handle_sent(batch, bytes);
    }
    assert_eq!(queue.queued_bytes(), 0);
    entries
}

#[test]
fn http_leaves_before_control_frames_and_these_before_messages() {
    let mut queue = overtaking(1_000, 100);
    queue.push_http(b"http");
    queue.push_message(MessageKind::Text, b"m").unwrap();
    queue.push_pong(Bytes::from_static(b"pong"));
    queue.push_control(Opcode::Ping, b"c");
    queue.push(Bytes::from_static(b"encoded")).unwrap();
    queue.push_message(MessageKind::Text, b"n").unwrap();
    queue.push_message(MessageKind::Text, b"o").unwrap();
    assert_eq!(queue.queued_bytes(), 4 + 3 + 4 + 3 + 7 + 3 + 3);
    let expected: [&[u8]; 5] = [b"http\x89\x01c", b"pong", b"\x81\x01m", b"encoded", b"\x81\x01n\x81\x01o"];
    assert_eq!(leaving_entries(&mut queue), expected);
}

#[test]
fn the_newest_pong_takes_the_place_of_too_many_and_of_nothing_else() {
    let mut queue = overtaking(1_000, 4);
    queue.push_control(Opcode::Pong, b"mine");
    for answer in 1..=5 {
        queue.push_pong(Bytes::copy_from_slice(&[answer]));
    }
    assert_eq!(leaving_entries(&mut queue), [&b"\x8a\x04mine"[..], &[5]]);
}

#[test]
fn long_frames_have_an_entry_to_themselves() {
    let mut queue = overtaking(1_000, 4);
    for bytes in [10, FRAGMENT_BYTES - 1] {
        queue.push_message(MessageKind::Binary, &vec![0; bytes]).unwrap();
    }
    assert_eq!(queue.push_message(MessageKind::Binary, &[0]), Err(QueueFull), "only one exceeds the limit");
    let lengths = |queue: &mut SendQueue<Bytes>| -> Vec<usize> {
        leaving_entries(queue).iter().map(|entry| entry.len()).collect()
    };
    assert_eq!(lengths(&mut queue), [12, FRAGMENT_BYTES + 3]);
    queue.push_message(MessageKind::Binary, &vec![0; 2 * FRAGMENT_BYTES]).unwrap();
    queue.seal(Some(Bytes::from_static(b"close")));
    assert_eq!(lengths(&mut queue), [FRAGMENT_BYTES + 10, FRAGMENT_BYTES + 10, 7]);
}

#[test]
fn a_control_frame_passes_what_waits_and_not_what_is_half_sent() {
    let mut queue = overtaking(1_000, 100);
    queue.push(frame(10)).unwrap();
    queue.push(frame(20)).unwrap();
    let batch = queue.next_batch().unwrap();
    queue.push_control(Opcode::Ping, b"");
    queue.handle_sent(batch, 4);
    assert_eq!(leaving_entries(&mut queue), [&[b'x'; 6][..], b"\x89\0", &[b'x'; 20]]);
}

#[test]
fn truncating_keeps_what_leaves_ahead_of_messages() {
    let mut queue = overtaking(1_000, 100);
    queue.push_http(b"http");
    queue.push_message(MessageKind::Text, b"m").unwrap();
    queue.push_pong(Bytes::from_static(b"pong"));
    queue.truncate(None, Bytes::from_static(b"last"));
    assert_eq!(queue.push_message(MessageKind::Text, b"late"), Ok(()));
    assert_eq!(leaving_entries(&mut queue), [b"http", b"last"]);
}

#[test]
fn a_queue_in_order_takes_control_frames_and_messages_as_they_come() {
    let mut queue = of_bytes(10_000);
    queue.push_http(b"http");
    queue.push_message(MessageKind::Text, b"m").unwrap();
    queue.push_control(Opcode::Ping, b"c");
    assert_eq!(leaving(&mut queue), [4, 3, 3]);
}
