use proptest::prelude::*;

use super::Action::{BeginStage, DrainAcceptors, Log, StopAcceptors};
use super::*;

const SHARDS: usize = 2;
const ACCEPTORS: usize = 2;
const DRAIN_TIMEOUT_MS: u64 = 10_000;

/// When the first signal comes.
const START_MS: u64 = 500;

type Tested = Coordinator<&'static str>;

fn serving() -> Tested {
    Coordinator::new(SHARDS, ACCEPTORS, DRAIN_TIMEOUT_MS)
}

fn actions(coordinator: &mut Tested) -> Vec<Action<&'static str>> {
    std::iter::from_fn(|| coordinator.poll_action()).collect()
}

/// After the first signal.
fn shutting_down() -> Tested {
    let mut coordinator = serving();
    coordinator.handle_shutdown(START_MS);
    assert_eq!(actions(&mut coordinator), [Log(Notice::ShuttingDown), DrainAcceptors]);
    coordinator
}

fn drain_acceptors(coordinator: &mut Tested) {
    (0..ACCEPTORS).for_each(|acceptor| coordinator.handle_acceptor_drained(acceptor));
}

fn reach(coordinator: &mut Tested, stage: Stage) {
    (0..SHARDS).for_each(|shard| coordinator.handle_stage_reached(shard, stage));
}

/// In a stage that was begun because everyone had reached the one before.
fn in_stage(stage: Stage) -> Tested {
    let mut coordinator = shutting_down();
    drain_acceptors(&mut coordinator);
    while coordinator.stage < stage {
        let present = coordinator.stage;
        reach(&mut coordinator, present);
    }
    let _ = actions(&mut coordinator);
    coordinator
}

#[test]
fn serving_has_no_deadline_and_asks_for_nothing() {
    let mut coordinator = serving();
    coordinator.handle_timeout(u64::MAX);
    coordinator.handle_acceptor_drained(0);
    coordinator.handle_acceptor_drained(1);
    assert_eq!((coordinator.next_due_ms(), actions(&mut coordinator)), (None, vec![]));
}

#[test]
fn shards_go_through_all_stages_and_each_begins_when_all_have_reached_the_one_before() {
    let mut coordinator = shutting_down();
    coordinator.handle_acceptor_drained(1);
    assert_eq!(actions(&mut coordinator), []);
    coordinator.handle_acceptor_drained(0);
    let stages = [
        Stage::ReadingStopped,
        Stage::Answered,
        Stage::Moved,
        Stage::Settled,
        Stage::Draining,
        Stage::Stopped,
    ];
    for pair in stages.windows(2) {
        assert_eq!(actions(&mut coordinator), [BeginStage(pair[0])]);
        coordinator.handle_stage_reached(1, pair[0]);
        coordinator.handle_stage_reached(1, pair[0]);
        assert_eq!(actions(&mut coordinator), [], "one shard is not all, however often it says so");
        coordinator.handle_stage_reached(0, pair[0]);
    }
    assert_eq!(actions(&mut coordinator), [BeginStage(Stage::Stopped), StopAcceptors]);
    coordinator.handle_all_ended();
    assert_eq!(actions(&mut coordinator), [Action::Exit(Exit::Complete)]);
    assert_eq!(coordinator.next_due_ms(), None);
}

#[test]
fn an_acceptor_that_drains_again_does_not_count_for_another() {
    let mut coordinator = shutting_down();
    coordinator.handle_acceptor_drained(0);
    coordinator.handle_acceptor_drained(0);
    assert_eq!(actions(&mut coordinator), []);
}

#[test]
fn an_interrupt_ends_the_server_in_every_stage() {
    for stage in [Stage::Serving, Stage::ReadingStopped, Stage::Settled, Stage::Draining, Stage::Stopped] {
        let mut coordinator = if stage == Stage::Serving { shutting_down() } else { in_stage(stage) };
        coordinator.handle_shutdown(START_MS);
        assert_eq!(actions(&mut coordinator), [], "it shuts down already");
        coordinator.handle_interrupt();
        assert_eq!(actions(&mut coordinator), [Action::Exit(Exit::Interrupted)], "{stage:?}");
        coordinator.handle_interrupt();
        reach(&mut coordinator, stage);
        coordinator.handle_timeout(u64::MAX);
        coordinator.handle_all_ended();
        assert_eq!((coordinator.next_due_ms(), actions(&mut coordinator)), (None, vec![]), "{stage:?}");
    }
}

#[test]
fn a_failure_ends_the_server_whether_it_serves_or_shuts_down() {
    for mut coordinator in [serving(), shutting_down(), in_stage(Stage::Moved), in_stage(Stage::Stopped)] {
        coordinator.handle_failure("shard 1");
        coordinator.handle_failure("shard 0, because of it");
        assert_eq!(actions(&mut coordinator), [Action::Exit(Exit::Failed("shard 1"))]);
    }
}

#[test]
fn an_acceptor_that_never_drains_costs_a_quarter_of_the_drain_timeout() {
    let mut coordinator = shutting_down();
    coordinator.handle_acceptor_drained(0);
    let due_ms = START_MS + DRAIN_TIMEOUT_MS / 4;
    assert_eq!(coordinator.next_due_ms(), Some(due_ms));
    coordinator.handle_timeout(due_ms - 1);
    assert_eq!(actions(&mut coordinator), []);
    coordinator.handle_timeout(due_ms);
    assert_eq!(actions(&mut coordinator), [Log(Notice::SettleTimedOut), BeginStage(Stage::Draining)]);
    coordinator.handle_acceptor_drained(1);
    assert_eq!(actions(&mut coordinator), [], "too late to go through the stages that were left out");
    reach(&mut coordinator, Stage::Draining);
    assert_eq!(actions(&mut coordinator), [BeginStage(Stage::Stopped), StopAcceptors]);
}

/// Goal: as with a disk that answers no write. The stage is left out by then, so reaching it means nothing.
#[test]
fn a_shard_that_never_settles_costs_a_quarter_of_the_drain_timeout() {
    for stage in [Stage::ReadingStopped, Stage::Answered, Stage::Moved, Stage::Settled] {
        let mut coordinator = in_stage(stage);
        coordinator.handle_stage_reached(0, stage);
        coordinator.handle_timeout(START_MS + DRAIN_TIMEOUT_MS / 4);
        assert_eq!(actions(&mut coordinator), [Log(Notice::SettleTimedOut), BeginStage(Stage::Draining)]);
        coordinator.handle_stage_reached(1, stage);
        assert_eq!(actions(&mut coordinator), []);
    }
}

#[test]
fn connections_that_never_close_are_cut_off_at_the_end_of_the_drain_timeout() {
    let mut coordinator = in_stage(Stage::Draining);
    let due_ms = START_MS + DRAIN_TIMEOUT_MS;
    assert_eq!(coordinator.next_due_ms(), Some(due_ms), "the quarter is no longer waited for");
    coordinator.handle_timeout(due_ms - 1);
    assert_eq!(actions(&mut coordinator), []);
    coordinator.handle_timeout(due_ms);
    let cut_off = [Log(Notice::DrainTimedOut), BeginStage(Stage::Stopped), StopAcceptors];
    assert_eq!(actions(&mut coordinator), cut_off);
}

#[test]
fn a_thread_that_never_returns_is_left_behind_with_an_error() {
    let mut coordinator = in_stage(Stage::Stopped);
    let due_ms = START_MS + DRAIN_TIMEOUT_MS + STOP_TIMEOUT_MS;
    assert_eq!(coordinator.next_due_ms(), Some(due_ms));
    coordinator.handle_timeout(due_ms - 1);
    assert_eq!(actions(&mut coordinator), [], "nobody is cut off who has been let go");
    coordinator.handle_timeout(due_ms);
    assert_eq!(actions(&mut coordinator), [Action::Exit(Exit::NotStopped)]);
}

/// Goal: a process that was stopped (SIGSTOP) in its shutdown still ends in good order.
#[test]
fn threads_have_time_to_return_though_every_deadline_passed_at_once() {
    let mut coordinator = shutting_down();
    coordinator.handle_timeout(1_000_000);
    assert_eq!(
        actions(&mut coordinator),
        [
            Log(Notice::SettleTimedOut),
            BeginStage(Stage::Draining),
            Log(Notice::DrainTimedOut),
            BeginStage(Stage::Stopped),
            StopAcceptors
        ]
    );
    assert_eq!(coordinator.next_due_ms(), Some(1_000_000 + STOP_TIMEOUT_MS));
}

#[test]
fn without_a_drain_timeout_connections_are_cut_off_at_once() {
    let mut coordinator = Coordinator::<&str>::new(SHARDS, ACCEPTORS, 0);
    coordinator.handle_shutdown(START_MS);
    assert_eq!(coordinator.next_due_ms(), Some(START_MS));
    coordinator.handle_timeout(START_MS);
    assert_eq!(coordinator.next_due_ms(), Some(START_MS + STOP_TIMEOUT_MS));
}

/// What can happen to a server.
#[derive(Clone, Copy, Debug)]
enum Event {
    Shutdown,
    Interrupt,
    AcceptorDrained(usize),
    StageReached(usize, Stage),
    Failure,
    AllEnded,
    /// This much time has passed.
    Passed(u64),
}

fn event() -> impl Strategy<Value = Event> {
    let stage = prop::sample::select(vec![
        Stage::Serving,
        Stage::ReadingStopped,
        Stage::Answered,
        Stage::Moved,
        Stage::Settled,
        Stage::Draining,
        Stage::Stopped,
    ]);
    prop_oneof![
        2 => Just(Event::Shutdown),
        4 => (0..ACCEPTORS).prop_map(Event::AcceptorDrained),
        20 => (0..SHARDS, stage).prop_map(|(shard, stage)| Event::StageReached(shard, stage)),
        1 => Just(Event::Interrupt),
        1 => Just(Event::Failure),
        1 => Just(Event::AllEnded),
        4 => (0..DRAIN_TIMEOUT_MS / 2).prop_map(Event::Passed),
    ]
}

/// Carries actions out, and holds each against those before it.
#[derive(Default)]
struct Checker {
    stage: Stage,
    is_draining: bool,
    is_exited: bool,
}

impl Checker {
    fn check(&mut self, coordinator: &mut Tested) {
        while let Some(action) = coordinator.poll_action() {
            assert!(!self.is_exited, "{action:?} behind the exit");
            match action {
                DrainAcceptors => {
                    assert!(!self.is_draining && self.stage == Stage::Serving);
                    self.is_draining = true;
                }
                BeginStage(stage) => {
                    assert!(self.is_draining && stage > self.stage, "from {:?} to {stage:?}", self.stage);
                    let is_cut_short = stage == Stage::Draining;
                    assert!(is_cut_short || stage == self.stage.next(), "from {:?} to {stage:?}", self.stage);
                    self.stage = stage;
                }
                StopAcceptors => assert_eq!(self.stage, Stage::Stopped),
                Log(_) => {}
                Action::Exit(_) => self.is_exited = true,
            }
        }
    }
}

proptest! {
    /// Goal: in whatever order things happen, no stage comes twice or out of order, nothing comes behind the exit, and
    /// a shutdown of which nobody hears any more ends by its deadline.
    #[test]
    fn every_shutdown_goes_forward_and_ends_by_its_deadline(events in prop::collection::vec(event(), 0..60)) {
        let mut coordinator = serving();
        let mut checker = Checker::default();
        let mut now_ms = START_MS;
        let mut shutdown_ms = None;
        for event in events {
            match event {
                Event::Shutdown => {
                    coordinator.handle_shutdown(now_ms);
                    shutdown_ms.get_or_insert(now_ms);
                }
                Event::Interrupt => coordinator.handle_interrupt(),
                Event::AcceptorDrained(acceptor) => coordinator.handle_acceptor_drained(acceptor),
                Event::StageReached(shard, stage) => coordinator.handle_stage_reached(shard, stage),
                Event::Failure => coordinator.handle_failure("a shard"),
                Event::AllEnded => coordinator.handle_all_ended(),
                Event::Passed(ms) => {
                    // As the driver does: it is never later than a deadline.
                    let end_ms = now_ms + ms;
                    while let Some(due_ms) = coordinator.next_due_ms().filter(|due_ms| *due_ms <= end_ms) {
                        now_ms = due_ms;
                        coordinator.handle_timeout(now_ms);
                        checker.check(&mut coordinator);
                    }
                    now_ms = end_ms;
                }
            }
            checker.check(&mut coordinator);
        }
        let Some(shutdown_ms) = shutdown_ms else {
            prop_assert_eq!(coordinator.next_due_ms(), None);
            return Ok(());
        };
        for _ in 0..3 {
            let Some(due_ms) = coordinator.next_due_ms() else { break };
            prop_assert!(due_ms <= shutdown_ms + DRAIN_TIMEOUT_MS + STOP_TIMEOUT_MS);
            coordinator.handle_timeout(due_ms);
            checker.check(&mut coordinator);
        }
        prop_assert!(checker.is_exited);
        prop_assert_eq!(coordinator.next_due_ms(), None);
    }
}
