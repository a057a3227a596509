use super::*;
use crate::permit::ClientPermits;
use crate::rooms::{EntryNumber, RoomIndex};
use crate::shard::Rate;

const NOW: Now = Now { monotonic_ms: 0, uptime_ms: 0, unix_seconds: 0 };
const OVERHEAD: usize = SharedBytes::OVERHEAD_BYTES;

fn frame(len: usize) -> SharedBytes {
    SharedBytes::from(vec![b'x'; len])
}

/// A frame of this length in the queue's count.
fn charged(bytes: usize) -> SharedBytes {
    frame(bytes - OVERHEAD)
}

fn cursor(id: u64) -> RoomCursor {
    RoomCursor { room: RoomIndex::GENERAL, entry: EntryNumber(id) }
}

/// A connection with nothing in its queue, which holds so many bytes.
fn link(queue_bytes_max: usize) -> Link {
    let rate = Rate { per_second: 1, burst: 1 };
    let limits = Limits { message_bytes_max: 1, frame_bytes_max: 1, queue_bytes_max, rate, topic_rate: rate };
    let peer = ClientAddress::new([127, 0, 0, 1].into(), Some(1));
    let permit = ClientPermits::new(1).acquire().unwrap();
    let mut link = Link::new(Dialect::Echo, peer, frame(0), None, permit, &connection_config(&limits), NOW);
    link.greet();
    link
}

/// The lengths of what leaves now, in order.
fn leaving(link: &mut Link) -> Vec<usize> {
    let id = ConnectionId { index: 0, generation: 0 };
    let Some(Submission::Send(_, batch)) = link.next_submission(id, &mut Vec::new()).unwrap() else {
        return Vec::new();
    };
    let lengths = (0..batch.frame_count()).map(|index| batch.slice(index).len()).collect();
    let bytes = batch.remaining_bytes();
    link.handle_sent(batch, bytes, 0);
    lengths
}

#[test]
fn only_what_has_its_place_in_the_order_waits_for_gates() {
    let mut link = link(10 * OVERHEAD + 100);
    link.push_in_order(frame(1)).unwrap();
    link.push_gate(cursor(1), frame(2)).unwrap();
    link.push_in_order(frame(3)).unwrap();
    link.push_gate(cursor(2), frame(4)).unwrap();
    link.push_join(vec![frame(5), frame(6)]);
    link.push(frame(7)).unwrap();
    assert_eq!(leaving(&mut link), [1, 7]);
    assert!(link.open_gate(cursor(2), None));
    assert_eq!(leaving(&mut link), [0; 0]);
    assert!(link.open_gate(cursor(1), Some(frame(8))));
    assert!(!link.open_gate(cursor(1), None));
    assert_eq!(leaving(&mut link), [8, 3, 4, 5, 6]);
    assert!(link.connection.is_flushed());
}

#[test]
fn a_late_disk_does_not_count_against_the_receiver() {
    let mut link = link(1_000);
    link.push_gate(cursor(1), charged(200)).unwrap();
    for _ in 0..GATED_LIMITS_MAX - 1 {
        link.push_in_order(charged(1_000)).unwrap();
    }
    assert!(link.is_over_limit(), "nothing is read meanwhile");
    link.push(charged(1_000)).unwrap();
    assert_eq!(link.push(frame(1)), Err(Overflow::SlowReceiver));
    assert_eq!(leaving(&mut link), [1_000 - OVERHEAD]);
    link.push_in_order(charged(800)).unwrap();
    assert_eq!(link.push_in_order(frame(1)), Err(Overflow::SlowStorage));
    assert_eq!(link.push_gate(cursor(2), frame(1)), Err(Overflow::SlowStorage));
    assert!(link.open_gate(cursor(1), None));
    link.push_in_order(frame(1)).unwrap();
    assert!(link.is_over_limit());
    assert_eq!(link.queued_bytes(), GATED_LIMITS_MAX * 1_000 + OVERHEAD + 1);
    assert_eq!(leaving(&mut link).len(), GATED_LIMITS_MAX + 2);
    assert_eq!(link.push(charged(1_001)), Err(Overflow::SlowReceiver), "the allowance has ended");
}

#[test]
fn the_last_frame_waits_for_no_gate() {
    let mut link = link(4 * OVERHEAD + 100);
    link.push(frame(1)).unwrap();
    link.push_gate(cursor(1), frame(2)).unwrap();
    link.push_in_order(frame(3)).unwrap();
    link.close(None, 1000, "", EndReason::Closed, NOW);
    assert!(!link.open_gate(cursor(1), None));
    assert_eq!(leaving(&mut link), [1, 4]);
    assert!(link.connection.is_flushed());
}

#[test]
fn what_a_fan_out_counts_is_beside_what_it_looks_at() {
    let distance = std::mem::offset_of!(Link, messages_out).abs_diff(std::mem::offset_of!(Link, gates));
    assert!(distance < 64, "{distance}");
    // It is what an idle connection costs, with its session beside it.
    assert!(size_of::<Link>() <= 352, "{}", size_of::<Link>());
}

#[test]
fn an_eviction_notes_what_waited() {
    let mut link = link(2 * OVERHEAD + 100);
    link.push(charged(OVERHEAD + 60)).unwrap();
    let overflow = link.push(charged(OVERHEAD + 60)).unwrap_err();
    link.evict(overflow, None, NOW);
    let end = link.take_end().unwrap();
    assert_eq!((end.reason, end.code), (EndReason::SlowConsumer, Some(1013)));
    // The answer to the upgrade is on the way, too.
    assert!(end.queued_bytes >= OVERHEAD + 60 && end.queued_frames >= 1, "{end:?}");
    assert!(link.take_end().is_none());
}
