//! Shards, clients, a network and time, driven by one seed through interleavings that real sockets show
//! once a year, with the server's invariants checked after every step.
//!
//! A scenario is drawn from the seed ([`scenario`]); a scheduler ([`world`]) chooses what happens next;
//! each shard takes the event loop's turns ([`host`]) over a model of ring and network ([`links`], [`socket`]);
//! clients ([`client`], [`chat`], [`hub`]) are written against the protocol and share no code with the server;
//! what they see is held against what all have seen ([`record`]).
//!
//! `UPROAR_SIMULATION_SEED=N` replays one seed and prints every event. `UPROAR_SIMULATION_SEEDS=COUNT`,
//! with `UPROAR_SIMULATION_FIRST=N`, runs other seeds than the usual ones; see `scripts/simulate`.

mod chat;
mod client;
mod echo;
mod host;
mod hub;
mod links;
mod random;
mod raw;
mod record;
mod returning;
mod scenario;
mod shutdown;
mod sleep_check;
mod socket;
mod storage;
mod trace;
mod violation;
mod wire;
mod world;

use std::any::Any;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, Once};

use trace::{Detail, Trace};
use violation::{Checked, Invariant, Violation};
use world::Summary;

/// Seeds of the usual test run.
const SEEDS: u64 = 400;

/// Seeds between two lines of progress.
const PROGRESS_SEEDS: u64 = 1_000;

#[test]
fn every_seed_keeps_the_invariants() {
    if let Some(seed) = variable("UPROAR_SIMULATION_SEED") {
        let mut trace = Trace::new(Detail::Printed);
        let outcome = run(seed, &mut trace);
        println!("seed {seed}, step {}: {outcome:?}", trace.step);
        assert!(outcome.is_ok(), "seed {seed} has failed");
        return;
    }
    let count = variable("UPROAR_SIMULATION_SEEDS");
    let is_reporting = count.is_some();
    let first = variable("UPROAR_SIMULATION_FIRST").unwrap_or(1);
    let end = first + count.unwrap_or(SEEDS);
    let next = AtomicU64::new(first);
    let failed = Mutex::new(None);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= end || failed.lock().is_ok_and(|failed| failed.is_some()) {
                        return;
                    }
                    if is_reporting && (seed - first) % PROGRESS_SEEDS == PROGRESS_SEEDS - 1 {
                        println!("{} seeds", seed - first + 1);
                    }
                    if run(seed, &mut Trace::new(Detail::Nothing)).is_err()
                        && let Ok(mut failed) = failed.lock()
                        && failed.is_none_or(|other| seed < other)
                    {
                        *failed = Some(seed);
                    }
                }
            });
        }
    });
    if let Ok(Some(seed)) = failed.into_inner() {
        report(seed);
        panic!("seed {seed} has failed");
    }
}

/// A seed that fails must fail again, and in the same way.
#[test]
fn a_seed_replays_identically() {
    for seed in [3, 14, 159] {
        let replay = |detail| {
            let mut trace = Trace::new(detail);
            let outcome = run(seed, &mut trace);
            (outcome, trace.step, trace.digest)
        };
        let (first, second) = (replay(Detail::Nothing), replay(Detail::Kept));
        assert_eq!(first, second, "seed {seed}");
    }
}

/// Runs a failing seed again and prints how it came to that.
fn report(seed: u64) {
    let mut trace = Trace::new(Detail::Kept);
    let outcome = run(seed, &mut trace);
    for line in trace.lines() {
        println!("{line}");
    }
    match outcome {
        Err(Violation { invariant, detail }) => {
            println!("seed {seed}, step {}: violation of *{invariant}*: {detail}", trace.step);
        }
        Ok(summary) => println!("seed {seed} failed once and does not fail again: {summary:?}"),
    }
    println!("replay: UPROAR_SIMULATION_SEED={seed} cargo test --test simulation -- --nocapture");
}

/// Runs a seed. A panic of the server is a violation like others, and is not reported twice.
fn run(seed: u64, trace: &mut Trace) -> Checked<Summary> {
    thread_local!(static IS_RUNNING: Cell<bool> = const { Cell::new(false) });
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let usual = take_hook();
        set_hook(Box::new(move |info| {
            if !IS_RUNNING.get() {
                usual(info);
            }
        }));
    });
    IS_RUNNING.set(true);
    let outcome = catch_unwind(AssertUnwindSafe(|| world::run(seed, trace)));
    IS_RUNNING.set(false);
    outcome.unwrap_or_else(|panic| Err(Violation { invariant: Invariant::NoPanic, detail: words(&*panic) }))
}

fn words(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default()
}

fn variable(name: &str) -> Option<u64> {
    let value = std::env::var(name).ok()?;
    Some(value.parse().unwrap_or_else(|_| panic!("{name} is to be a number, not {value:?}")))
}
