//! Orders about many connections, which take turns.

use std::collections::HashSet;
use std::sync::Arc;

use uproar::accounts::{AccountChange, AccountChangeKind, AccountsChange, Identity, SignInResult};
use uproar::events;
use uproar::handshake::route::Endpoint;
use uproar::mail::{AccountMessage, AccountMove, Delivery, Request};
use uproar::moderation::{BanSubject, ModerationNotice};
use uproar::rooms::{self, ClientRef, Directory, Instance, ShardIndex, UserId};
use uproar::shard::stage::{Progress, Stage};

use crate::alone::Alone;
use crate::backends::{of_account, ticket};

/// The orders that were answered, and how many connections each was about.
fn answered(alone: &Alone) -> Vec<(ClientRef, usize)> {
    let answers = alone.ring.answers.iter().map(|answer| match answer {
        Delivery::NoticeDone { to, connections } => (*to, *connections),
        other => panic!("{other:?}"),
    });
    answers.collect()
}

#[test]
fn an_order_about_a_crowd_takes_several_turns_and_is_about_those_who_were_there() {
    const CONNECTIONS: usize = 500;
    let (_log, mut senders, _collector) = events::open(Instance::random(), 1);
    let mut alone = Alone::new();
    let endpoints = [Endpoint::Chat, Endpoint::Hub, Endpoint::Echo, Endpoint::Raw { topic: "t".to_owned() }];
    let crowd: HashSet<_> = (0..CONNECTIONS)
        .map(|number| of_account(&mut alone, "troll", endpoints[number % endpoints.len()].clone()))
        .collect();
    let other = of_account(&mut alone, "ann", Endpoint::Chat);
    alone.complete_sends();
    alone.turn();
    alone.shard.report_events(senders.remove(0));
    let notice = Arc::new(ModerationNotice::Kicked { account: "troll".into(), reason: None });
    alone.ring.requests.push_back(Request::TakeNotice { notice, origin: ticket(7) });
    alone.turn();
    assert!(alone.ring.answers.is_empty(), "it is not done");
    let first = alone.ring.asked_of.len();
    assert!(first > 0 && first <= 64, "{first} in the first turn");
    // It takes turns, too, and is not what the order was about.
    let late = of_account(&mut alone, "troll", Endpoint::Echo);
    let mut turns = 0;
    while alone.is_busy() {
        let before = alone.ring.asked_of.len();
        alone.turn();
        let closed = alone.ring.asked_of.len() - before;
        assert!(closed <= 64, "{closed} in a turn");
        turns += 1;
        assert!(turns <= 100, "it is not idle");
    }
    let closed: HashSet<_> = alone.ring.asked_of.iter().copied().collect();
    assert_eq!((closed.len(), alone.ring.asked_of.len()), (CONNECTIONS, CONNECTIONS));
    assert!(closed == crowd && !closed.contains(&late) && !closed.contains(&other));
    let [Delivery::NoticeDone { to, connections }] = alone.ring.answers[..] else {
        panic!("{:?}", alone.ring.answers)
    };
    assert_eq!((to, connections), (ticket(7), CONNECTIONS));
}

#[test]
fn a_shutdown_waits_for_orders_that_are_not_answered() {
    let mut alone = Alone::new();
    for _ in 0..200 {
        of_account(&mut alone, "troll", Endpoint::Echo);
    }
    let notice = Arc::new(ModerationNotice::Kicked { account: "troll".into(), reason: None });
    alone.ring.requests.push_back(Request::TakeNotice { notice, origin: ticket(7) });
    let mut progress = Progress::default();
    let now = alone.now();
    progress.begin(Stage::ReadingStopped, &mut alone.shard, &mut alone.ring, now);
    let mut turns = 0;
    loop {
        alone.turn();
        turns += 1;
        if progress.poll_reached(&alone.shard, &alone.ring).is_some() {
            break;
        }
        assert!(alone.is_busy(), "nothing would bring the shard further");
        assert!(turns <= 100, "it never goes on");
    }
    assert_eq!(alone.ring.answers.len(), 1, "it goes on after {turns} turns");
}

/// Goal: no ban, kick, mute or change of an account waits for messages or moves to a crowd.
#[test]
fn moderation_goes_ahead_of_messages_and_moves() {
    const CONNECTIONS: usize = 300;
    let (_log, mut senders, _collector) = events::open(Instance::random(), 1);
    let mut alone = Alone::new();
    for _ in 0..CONNECTIONS {
        of_account(&mut alone, "ann", Endpoint::Chat);
    }
    let troll = of_account(&mut alone, "troll", Endpoint::Chat);
    let removed = of_account(&mut alone, "ben", Endpoint::Chat);
    alone.shard.report_events(senders.remove(0));
    let message = AccountMessage {
        from: UserId::SYSTEM,
        from_name: "Shop".into(),
        from_account: None,
        account: "ann".into(),
        content: "hello".into(),
        origin: Some(ticket(1)),
    };
    alone.ring.requests.push_back(Request::PrivateToAccount(message));
    let order = AccountMove { account: "ann".into(), from: None, to: "general".into(), origin: ticket(2) };
    alone.ring.requests.push_back(Request::MoveAccount(order));
    alone.turn();
    assert!(alone.ring.answers.is_empty(), "both have begun, and take turns");
    let notice = Arc::new(ModerationNotice::Kicked { account: "troll".into(), reason: None });
    alone.ring.requests.push_back(Request::TakeNotice { notice, origin: ticket(3) });
    let changed = vec![AccountChange { account: "ben".into(), kind: AccountChangeKind::Removed }];
    let change = Arc::new(AccountsChange { reserved: Arc::default(), changed });
    let now = alone.now();
    alone.shard.handle_delivery(Delivery::AccountsChanged(change), now);
    alone.turn();
    assert_eq!(answered(&alone), [(ticket(3), 1)]);
    assert_eq!(alone.ring.asked_of, [removed, troll]);
    alone.turns_until_idle();
    assert_eq!(answered(&alone), [(ticket(3), 1), (ticket(1), CONNECTIONS), (ticket(2), 0)]);
}

/// Goal: a reload of very many accounts delays nobody, if nobody has signed in with them.
#[test]
fn changed_accounts_without_connections_cost_no_turns() {
    let mut alone = Alone::new();
    let changed = (0..10_000).map(|number| AccountChange {
        account: format!("ann {number}").into(),
        kind: AccountChangeKind::Removed,
    });
    let change = Arc::new(AccountsChange { reserved: Arc::default(), changed: changed.collect() });
    let now = alone.now();
    alone.shard.handle_delivery(Delivery::AccountsChanged(change), now);
    assert!(!alone.is_busy(), "no order is left for the next turn");
}

/// Goal: answers cost a turn as much as connections do.
#[test]
fn orders_about_nobody_are_answered_in_several_turns() {
    const ORDERS: u32 = 200;
    let mut alone = Alone::new();
    for number in 0..ORDERS {
        let notice = Arc::new(ModerationNotice::Kicked { account: "nobody".into(), reason: None });
        alone.ring.requests.push_back(Request::TakeNotice { notice, origin: ticket(number) });
    }
    alone.turn();
    assert_eq!(alone.ring.answers.len(), 64);
    alone.turns_until_idle();
    let all: Vec<_> = (0..ORDERS).map(|number| (ticket(number), 0)).collect();
    assert_eq!(answered(&alone), all);
}

/// Goal: the ban of an address is about those without an account, when it arrives and also when it comes to them.
#[test]
fn one_that_signs_in_while_a_ban_of_its_address_is_carried_out_stays() {
    const GUESTS: usize = 200;
    let (_log, mut senders, _collector) = events::open(Instance::random(), 1);
    let mut alone = Alone::new();
    let guests: Vec<_> = (0..GUESTS).map(|_| alone.connect(Endpoint::Chat)).collect();
    alone.shard.report_events(senders.remove(0));
    let subject = BanSubject::address([127, 0, 0, 1].into());
    let notice = Arc::new(ModerationNotice::Banned { subject, reason: None });
    alone.ring.requests.push_back(Request::TakeNotice { notice, origin: ticket(7) });
    alone.turn();
    assert!(
        alone.ring.answers.is_empty() && !alone.ring.asked_of.is_empty(),
        "it has begun, and takes turns"
    );
    let last = guests[GUESTS - 1];
    let identity =
        Identity { account: "ann".into(), name: "ann".into(), is_admin: false, rights: Arc::default() };
    let to = ClientRef { shard: ShardIndex(0), connection: last };
    let now = alone.now();
    alone
        .shard
        .handle_delivery(Delivery::PasswordChecked { to, result: SignInResult::Granted(identity) }, now);
    alone.turns_until_idle();
    assert_eq!(alone.ring.asked_of, guests[..GUESTS - 1]);
    assert_eq!(answered(&alone), [(ticket(7), GUESTS - 1)]);
}

/// Goal: a shutdown does not move a crowd out of a closed room, which is about to be disconnected.
#[test]
fn members_of_closed_rooms_stay_once_no_more_is_read() {
    let mut alone = Alone::new();
    for _ in 0..200 {
        alone.connect(Endpoint::Chat);
    }
    let room = Directory::new(&["general".to_owned()], 1).find("general").unwrap();
    let closing = Delivery::Room(rooms::Delivery::Closing { room, member: None });
    let now = alone.now();
    alone.shard.handle_delivery(closing, now);
    assert!(alone.is_busy(), "they are to leave");
    alone.shard.stop_reading();
    assert!(!alone.is_busy(), "nothing is left to be done for them");
}
