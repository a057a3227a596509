//! tungstenite as the oracle of our reader of frames: the same streams, and the same events but for a list of cases.
//!
//! `ORACLE_STREAMS` is how many generated streams are read, and `ORACLE_SEED` which one comes first; `scripts/oracle` reads
//! a million. What fails prints its seed, from which it is repeated, and its stream.

#![allow(clippy::unwrap_used)]

mod comparison;
mod generator;

use std::collections::BTreeMap;
use std::env;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;

use comparison::{Comparison, Difference, Stream};
use generator::{Generator, Plan, WRONG_UTF8};
use uproar_protocol::frames::Role;

/// How many generated streams are read by default: enough that each difference occurs, in some seconds without optimiser.
const STREAMS: u64 = 6_000;

type Seen = BTreeMap<Difference, u64>;

/// Compares the streams of some seeds.
fn compare_seeds(seeds: Range<u64>) -> Result<Seen, String> {
    let (mut generator, mut comparison, mut seen) =
        (Generator::default(), Comparison::default(), Seen::new());
    for seed in seeds {
        let stream = generator.stream(seed);
        // A reader that panics is wrong, too, and its seed is needed.
        let compared = catch_unwind(AssertUnwindSafe(|| comparison.compare(stream)));
        let replay = format!("ORACLE_SEED={seed} ORACLE_STREAMS=1 repeats this");
        let differences = match compared {
            Ok(compared) => compared.map_err(|difference| format!("{replay}: {difference}"))?,
            Err(_) => return Err(format!("{replay}: a panic; {:?} {:02x?}", stream.role, stream.bytes)),
        };
        differences.into_iter().for_each(|difference| *seen.entry(difference).or_default() += 1);
    }
    Ok(seen)
}

#[test]
fn generated_streams_are_read_the_same_but_for_the_listed_differences() {
    let number = |name: &str, default| env::var(name).map_or(default, |text| text.parse().unwrap());
    let (streams, first) = (number("ORACLE_STREAMS", STREAMS), number("ORACLE_SEED", 0));
    let threads = thread::available_parallelism().map_or(1, |threads| threads.get() as u64);
    let part = |index: u64| first + streams * index / threads;
    let seen: Vec<Result<Seen, String>> = thread::scope(|scope| {
        let parts: Vec<_> = (0..threads)
            .map(|index| scope.spawn(move || compare_seeds(part(index)..part(index + 1))))
            .collect();
        parts.into_iter().map(|part| part.join().unwrap()).collect()
    });
    let mut all = Seen::new();
    for (difference, count) in
        seen.into_iter().flat_map(|seen| seen.unwrap_or_else(|error| panic!("{error}")))
    {
        *all.entry(difference).or_default() += count;
    }
    println!("{streams} streams from seed {first}: {all:?}");
    if streams >= STREAMS {
        // The list stays true: what never occurs does not belong in it.
        for difference in Difference::ALL {
            assert!(all.contains_key(&difference), "{difference:?} never occurred");
        }
    }
}

/// Compares the frames of one stream, cut as given.
fn check(comparison: &mut Comparison, role: Role, frames: &[Plan], cuts: &[usize]) -> Vec<Difference> {
    let mut bytes = Vec::new();
    frames.iter().for_each(|frame| frame.append_to(&mut bytes));
    let mut ends = cuts.to_vec();
    ends.retain(|&cut| cut < bytes.len());
    ends.push(bytes.len());
    let stream = Stream { role, message_bytes_max: 70_000, bytes: &bytes, cuts: &ends };
    comparison.compare(stream).unwrap_or_else(|difference| panic!("{difference}"))
}

fn frame(role: Role, first: u8, payload: &[u8]) -> Plan {
    let mask = (role == Role::Server).then_some([0x37, 0xfa, 0x21, 0x3d]);
    Plan { first, mask, length_bytes: None, claimed: None, payload: payload.to_vec() }
}

const ROLES: [Role; 2] = [Role::Server, Role::Client];

#[test]
fn utf8_is_judged_the_same_wherever_it_is_cut() {
    let mut comparison = Comparison::default();
    let right = "a\u{e9}\u{800}\u{d7ff}\u{e000}\u{10000}\u{10ffff}z".as_bytes();
    let amid = WRONG_UTF8.iter().map(|wrong| [b"a", *wrong, b"\xc3\xa9z"].concat());
    let at_end = WRONG_UTF8.iter().map(|wrong| [b"\xc3\xa9", *wrong].concat());
    for text in amid.chain(at_end).chain([right.to_vec()]) {
        for (role, fragment_end) in
            ROLES.into_iter().flat_map(|role| (0..=text.len()).map(move |end| (role, end)))
        {
            let (front, back) = text.split_at(fragment_end);
            let frames = [
                frame(role, 0x01, front),
                frame(role, 0x89, b"?"),
                frame(role, 0x80, back),
                frame(role, 0x88, b""),
            ];
            (1..30).for_each(|cut| drop(check(&mut comparison, role, &frames, &[cut])));
        }
    }
}

#[test]
fn each_first_byte_with_each_form_of_length_is_judged_the_same() {
    let mut comparison = Comparison::default();
    let lengths = [0, 1, 2, 125, 126, 127, 65_535, 65_536];
    for (role, first) in ROLES.into_iter().flat_map(|role| (0..=u8::MAX).map(move |first| (role, first))) {
        // Long payloads where they are read; elsewhere the header says it all.
        let is_read = first & 0x7f <= 2;
        for &len in if is_read { &lengths[..] } else { &lengths[..6] } {
            for length_bytes in [None, Some(2), Some(8)] {
                let mut plan = frame(role, first, &vec![b'x'; len]);
                plan.length_bytes = length_bytes;
                let follows = frame(role, 0x81, b"next");
                check(&mut comparison, role, &[plan.clone(), follows.clone()], &[1, 2, 3, 9]);
                check(&mut comparison, role, &[frame(role, 0x01, b"begun"), plan.clone(), follows], &[]);
                if len <= 1 {
                    plan.mask = if plan.mask.is_some() { None } else { Some([1, 2, 3, 4]) };
                    check(&mut comparison, role, &[plan], &[2]);
                }
            }
        }
    }
}

#[test]
fn each_close_code_is_judged_the_same_but_for_those_that_must_not_be_sent() {
    let mut comparison = Comparison::default();
    for code in (0..=5_100).chain([0x8000, u16::MAX]) {
        let payload = [&code.to_be_bytes()[..], b"why"].concat();
        let differences = check(&mut comparison, Role::Client, &[frame(Role::Client, 0x88, &payload)], &[]);
        let expected = match code {
            1014 => Some(Difference::BadGateway),
            1000..=1003 | 1007..=1013 | 3000..=4999 => None,
            _ => Some(Difference::CloseCode),
        };
        assert_eq!(differences, Vec::from_iter(expected), "{code}");
    }
}

#[test]
fn a_limit_is_reached_with_the_same_byte() {
    let mut comparison = Comparison::default();
    for role in ROLES {
        for len in [69_999, 70_000, 70_001] {
            let payload = vec![b'x'; len];
            check(&mut comparison, role, &[frame(role, 0x81, &payload)], &[14, 40_000]);
            for at in [0, 1, 4_464, 69_999] {
                let (front, back) = payload.split_at(at);
                let frames = [frame(role, 0x02, front), frame(role, 0x80, back)];
                check(&mut comparison, role, &frames, &[at + 14, at + 28]);
            }
        }
    }
}
