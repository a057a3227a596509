//! Nodes with their bridges, a model of Redis, the lines between them and time, driven by one seed through what goes
//! wrong once a year, with the invariants of the log checked meanwhile and at the end.
//!
//! A scenario is drawn from the seed ([`scenario`]): settings, some faults out of many, and what users do. The scheduler
//! ([`world`]) lets requests, answers and deadlines happen in any order, and breaks and stalls lines between them. What
//! Redis has in its log is noted entry by entry ([`record`]). At the end everything is healed, and compared ([`rest`]).
//! The scripts are the real ones: see the model.
//!
//! `UPROAR_SIMULATION_SEED=N` replays one seed and prints every event. `UPROAR_SIMULATION_SEEDS=COUNT`, with
//! `UPROAR_SIMULATION_FIRST=N`, runs other seeds than the usual ones; see `scripts/simulate`.
#![allow(clippy::unwrap_used, missing_docs)]

mod driving;
#[path = "../world/mod.rs"]
mod model;
mod process;
mod record;
mod rest;
mod scenario;
mod trace;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use scenario::Scenario;
use trace::{Detail, Trace};

/// Seeds of the usual test run.
const SEEDS: u64 = 100;

/// Seeds between two lines of progress.
const PROGRESS_SEEDS: u64 = 1_000;

fn variable(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is no number")))
}

/// False when an invariant is broken, which was printed.
fn run(seed: u64, trace: &Trace) -> bool {
    let run = || {
        let (scenario, mut world) = Scenario::draw(seed, trace.clone());
        scenario.run(&mut world);
        rest::check(&scenario, &mut world);
    };
    catch_unwind(AssertUnwindSafe(run)).is_ok()
}

#[test]
fn every_seed_keeps_the_invariants() {
    if let Some(seed) = variable("UPROAR_SIMULATION_SEED") {
        assert!(run(seed, &Trace::new(Detail::Printed)), "seed {seed} has failed");
        return;
    }
    let count = variable("UPROAR_SIMULATION_SEEDS");
    let first = variable("UPROAR_SIMULATION_FIRST").unwrap_or(1);
    let end = first + count.unwrap_or(SEEDS);
    let next = AtomicU64::new(first);
    let failed = Mutex::new(None::<u64>);
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= end || failed.lock().unwrap().is_some() {
                        return;
                    }
                    if !run(seed, &Trace::new(Detail::Nothing)) {
                        let mut failed = failed.lock().unwrap();
                        *failed = Some(failed.map_or(seed, |other| other.min(seed)));
                    }
                    if count.is_some() && (seed - first + 1).is_multiple_of(PROGRESS_SEEDS) {
                        println!("{} seeds", seed - first + 1);
                    }
                }
            });
        }
    });
    let failed = *failed.lock().unwrap();
    if let Some(seed) = failed {
        let trace = Trace::new(Detail::Kept);
        run(seed, &trace);
        trace.print();
        panic!("seed {seed} has failed; UPROAR_SIMULATION_SEED={seed} replays it with all that happens");
    }
}
