//! The queue alone: order, limits, short sends and the end.

use bytes::Bytes;

use super::*;

const OVERHEAD: usize = 192;

fn frame(len: usize) -> Bytes {
    Bytes::from(vec![b'x'; len])
}

/// An entry of this length in the queue's count.
fn charged(bytes: usize) -> Bytes {
    frame(bytes - OVERHEAD)
}

fn of_bytes(charged_bytes_max: usize) -> SendQueue<Bytes> {
    SendQueue::new(QueueLimits { charged_bytes_max, overhead_bytes: OVERHEAD })
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
    queue.truncate(frame(4));
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
    queue.truncate(frame(4));
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
    evicted.truncate(frame(4));
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
