//! What a seed draws: settings, faults, and what users do.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use uproar_cluster::{Proposal, RequestKey, Room};

use crate::process::Common;
use crate::trace::Trace;
use crate::world::World;

/// What goes wrong. A seed draws some of them, so that rare ones meet each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Lines break at any command.
    Breaks,
    /// A line says nothing for a while.
    Stall,
    /// A process stands still.
    Pause,
    Kill,
    /// A node ends in order.
    Leave,
    /// A second process with a name that is there.
    Double,
    /// An owner takes no events for a while.
    Busy,
    /// An owner takes its time to answer.
    SlowOwner,
    /// Redis starts again with everything.
    Restart,
    /// It starts again with what it had on disk.
    LostTail,
    /// A replica takes over.
    FailOver,
    /// Everything is removed.
    Flush,
    /// Redis has no memory for a while.
    Full,
    /// It stands still.
    Stop,
    /// Its clock jumps.
    Clock,
    /// It gets another replication id, and no line breaks.
    Promote,
    /// It is no primary for a while.
    Demote,
    /// The replica gets nothing for a while.
    Lag,
}

const FAULTS: [Fault; 18] = [
    Fault::Breaks,
    Fault::Stall,
    Fault::Pause,
    Fault::Kill,
    Fault::Leave,
    Fault::Double,
    Fault::Busy,
    Fault::SlowOwner,
    Fault::Restart,
    Fault::LostTail,
    Fault::FailOver,
    Fault::Flush,
    Fault::Full,
    Fault::Stop,
    Fault::Clock,
    Fault::Promote,
    Fault::Demote,
    Fault::Lag,
];

const NAMES: [&str; 3] = ["a", "b", "c"];
const ROOMS: [&str; 3] = ["general", "random", "team"];

pub(crate) struct Scenario {
    faults: Vec<Fault>,
    steps: u32,
    /// In a thousand steps so many bring a fault.
    frequency: u32,
}

impl Scenario {
    /// Draws one.
    pub(crate) fn draw(seed: u64, trace: Trace) -> (Self, World) {
        let mut random = StdRng::seed_from_u64(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let common = Common {
            history: random.random_range(1..=8),
            log_bytes: [64 << 10, 64 << 20][random.random_range(0..2)],
            replicas: u16::from(random.random_range(0..3) == 0),
        };
        let share = random.random_range(0..60);
        let faults: Vec<Fault> = FAULTS.into_iter().filter(|_| random.random_range(0..100) < share).collect();
        let frequency = [20, 100, 300][random.random_range(0..3)];
        let scenario = Self { faults, steps: random.random_range(60..160), frequency };
        trace.note(0, || format!("{common:?} {:?}", scenario.faults));
        let mut world = World::new(seed, common, trace);
        world.redis.set_scan_max([None, Some(2)][random.random_range(0..2)]);
        if scenario.has(Fault::Breaks) {
            world.breaks = random.random_range(1..80);
        }
        if scenario.has(Fault::SlowOwner) {
            world.owner_ms_max = 4_000;
        }
        (scenario, world)
    }

    pub(crate) fn has(&self, fault: Fault) -> bool {
        self.faults.contains(&fault)
    }

    /// True when Redis loses nothing, so nobody may.
    pub(crate) fn keeps_everything(&self) -> bool {
        !self.has(Fault::LostTail) && !self.has(Fault::FailOver) && !self.has(Fault::Flush)
    }

    /// True when all nodes are there all the time, so what Redis loses is in their memory.
    pub(crate) fn keeps_nodes(&self) -> bool {
        let away = [Fault::Breaks, Fault::Stall, Fault::Pause, Fault::Kill, Fault::Leave, Fault::Double];
        !away.into_iter().chain([Fault::Busy, Fault::SlowOwner]).any(|fault| self.has(fault))
    }

    /// Everything goes its way, and faults come.
    pub(crate) fn run(&self, world: &mut World) {
        for name in NAMES {
            world.start(name);
            let pause_ms = world.between(0, 400);
            world.run(pause_ms);
        }
        world.run(7_000);
        for _ in 0..self.steps {
            if world.chance(self.frequency) && !self.faults.is_empty() {
                let fault = self.faults[world.one_of(self.faults.len())];
                self.bring(world, fault);
            }
            for _ in 0..world.one_of(4) {
                act(world);
            }
            if world.chance(100) {
                world.disk = world.redis.copy();
            }
            if world.chance(200) {
                world.redis.replicate();
            }
            let pause_ms = if world.chance(50) { world.between(500, 6_000) } else { world.between(1, 150) };
            world.run(pause_ms);
        }
    }

    fn bring(&self, world: &mut World, fault: Fault) {
        let of = world.any_live();
        let long = world.chance(300);
        let while_ms = if long { world.between(3_000, 16_000) } else { world.between(50, 3_000) };
        world.note(|| format!("{fault:?} {while_ms} {of:?}"));
        let until_ms = world.now_ms + while_ms;
        match (fault, of) {
            (Fault::Stall, Some(of)) => world.processes[of].line.stalled_ms = until_ms,
            (Fault::Pause, Some(of)) => world.processes[of].paused_ms = until_ms,
            (Fault::Busy, Some(of)) => world.processes[of].full_ms = until_ms,
            (Fault::Kill, Some(of)) => {
                world.kill(of);
                if world.chance(700) {
                    let name = world.processes[of].life.node.to_string();
                    world.begin_later(&name, while_ms);
                }
            }
            (Fault::Leave, Some(of)) => {
                let now_ms = world.now_ms;
                world.processes[of].bridge.leave(now_ms);
                world.drive(of);
                let name = world.processes[of].life.node.to_string();
                world.begin_later(&name, while_ms);
            }
            (Fault::Double, _) => {
                let name = NAMES[world.one_of(NAMES.len())];
                world.start(name);
            }
            (Fault::Restart, _) => {
                world.redis.restart(None);
                world.take_down(while_ms);
            }
            (Fault::LostTail, _) => {
                let disk = world.disk.clone();
                world.redis.restart(Some(&disk));
                world.has_lost = true;
                world.take_down(while_ms);
            }
            (Fault::FailOver, _) => world.fail_over(while_ms.min(2_000)),
            (Fault::Flush, _) => {
                world.redis.flush();
                world.has_lost = true;
            }
            (Fault::Full, _) => {
                world.redis.set_full(true);
                world.run(while_ms);
                world.redis.set_full(false);
            }
            (Fault::Stop, _) => world.stopped_ms = until_ms,
            (Fault::Clock, _) => {
                let ahead_ms = world.between(0, 40_000);
                world.clock_ahead_ms = world.clock_ahead_ms + ahead_ms - 20_000;
            }
            (Fault::Promote, _) => world.redis.change_life(),
            (Fault::Demote, _) => {
                world.redis.set_primary(false);
                world.run(while_ms);
                world.redis.set_primary(true);
            }
            (Fault::Lag, _) => {
                world.redis.replicates = false;
                world.run(while_ms);
                world.redis.replicates = true;
            }
            _ => {}
        }
    }
}

/// Somebody does something on some node.
fn act(world: &mut World) {
    let Some(of) = world.any_live() else { return };
    let rooms = world.rooms_of(of);
    let timeout_ms = [None, Some(3_000)][world.one_of(2)];
    if rooms.is_empty() || world.chance(60) {
        let name = ROOMS[world.one_of(ROOMS.len())];
        world.propose(of, |_| Proposal::Open { name: name.into() }, timeout_ms);
        return;
    }
    let room: Room = rooms[world.one_of(rooms.len())].clone();
    let user = world.between(1, 6);
    // Mostly of the connection by which the user is a member.
    let member = world.member(of, &room, user);
    let is_own = member.as_ref().is_some_and(|it| it.incarnation == world.processes[of].life.incarnation);
    let present = member.map(|member| member.visit);
    let visit = present.filter(|_| world.chance(800)).unwrap_or_else(|| world.between(0, 40));
    let kind = world.one_of(12);
    let (key, last) = (world.between(1, 30), world.last_id(of, &room));
    let back = world.between(0, 8);
    world.propose(
        of,
        |ticket| match kind {
            0..3 => {
                let visit = present.unwrap_or(0) + ticket % 3;
                Proposal::Join { room, user, visit, member: format!("member {ticket}").into() }
            }
            3 => Proposal::Leave { room, user, visit, goes_on: ticket % 3 == 0 },
            // Only the node of a member changes it.
            4 if is_own => Proposal::Rename { room, user, visit, member: format!("member {ticket}").into() },
            5 => Proposal::Delete {
                room,
                message: last.saturating_sub(back),
                user,
                account: None,
                is_admin: ticket % 2 == 0,
            },
            6 => Proposal::Numbers,
            7 if ticket % 3 == 0 => Proposal::Forget { room },
            8 => Proposal::Tell { only: None, what: "x".into() },
            _ => Proposal::Message {
                room,
                user,
                visit: Some(visit).filter(|_| ticket % 2 == 0),
                account: None,
                request: (ticket % 4 == 0).then_some(RequestKey { key: key.into(), content: key % 2 }),
                message: ticket.to_string().into(),
            },
        },
        timeout_ms,
    );
}
