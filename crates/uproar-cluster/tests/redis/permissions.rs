//! The user that docs/operating.md proposes for Redis can do everything that nodes do, and nothing else.

use std::collections::BTreeSet;

use uproar_cluster::client::{Check, Finding, RedisAddress, commands, inspect, session_key};
use uproar_cluster::{Answer, Reply, Script};

use crate::client::{Got, Node};
use crate::node::{join, publish};
use crate::proxy::Proxy;
use crate::server::Server;

/// The words of the line in the documentation. The password is the test's own.
fn line() -> Vec<String> {
    let text = include_str!("../../../../docs/operating.md");
    let line = text.lines().find_map(|line| line.strip_prefix("ACL SETUSER ")).expect("the line is there");
    line.replace("PASSWORD", "secret").split(' ').map(str::to_owned).collect()
}

fn add_user(server: &mut Server, line: &[String]) {
    let words: Vec<&str> = ["ACL", "SETUSER"].into_iter().chain(line.iter().map(String::as_str)).collect();
    assert_eq!(server.call(&words), Reply::Text("OK".into()));
}

#[test]
fn the_documented_line_has_each_command_once() {
    let line = line();
    let documented = line.iter().filter_map(|word| word.strip_prefix('+')).map(str::to_owned);
    // An address may have the number of a database.
    let needed = ["select".to_owned()].into_iter().chain(commands());
    assert_eq!(documented.collect::<Vec<_>>(), needed.collect::<Vec<_>>());
}

/// Some are needed seldom, so that no other test would miss the permission.
#[test]
fn each_command_of_the_scripts_is_among_them() {
    let mut found = BTreeSet::new();
    for script in Script::ALL {
        let calls = script.source.split("('").collect::<Vec<_>>();
        for pair in calls.windows(2) {
            // `pcall` and `redis.call` end with it, too.
            if ["call", "count", "write"].iter().any(|function| pair[0].ends_with(function)) {
                found.extend(pair[1].split('\'').next().map(str::to_lowercase));
            }
        }
    }
    assert!(["hvals", "lrange", "xadd"].iter().all(|command| found.contains(*command)), "{found:?}");
    let missing: Vec<_> = found.difference(&commands().collect()).cloned().collect();
    assert!(missing.is_empty(), "{missing:?}");
}

/// Everything that nodes do, a recovery with a lost log and a repair among it. Redis notes each command that it denies.
#[tokio::test]
async fn a_user_with_the_documented_line_is_denied_nothing() {
    let mut server = Server::start();
    add_user(&mut server, &line());
    let proxy = Proxy::before(server.socket()).await;
    let address = format!("redis://uproar:secret@127.0.0.1:{}", proxy.port);
    let parsed = address.parse().unwrap();
    let checks = inspect(&parsed, 1, 0).await.unwrap();
    assert!(checks.iter().all(|check| check.finding == Finding::Good), "{checks:?}");
    assert!(checks.iter().all(|check| check.name != "appendfsync"), "it may not ask for settings");
    assert_eq!(server.call(&["DBSIZE"]), Reply::Number(0), "nothing was carried out");
    // The check has asked for settings, which is not needed.
    server.call(&["ACL", "LOG", "RESET"]);
    assert_eq!(session_key(&parsed, [1; 32]).await.unwrap(), [1; 32]);
    let mut a = Node::begin("a", 1, &address).await;
    let room = a.open("general").await;
    assert_eq!(a.decide(join(&room, 1, 0)).await, Got::Answer(Answer::Done));
    for n in 1..=10 {
        assert_eq!(
            a.decide(publish(&room, "more than the history keeps")).await,
            Got::Answer(Answer::Sent(n))
        );
    }
    let mut b = Node::begin("b", 2, &address).await;
    assert_eq!(b.mirror.rooms["general"].history.len(), 5);
    // A damaged room is written again.
    server.call(&["SET", "{uproar:0}:history:general", "of another type"]);
    assert!(matches!(b.decide(publish(&room, "x")).await, Got::Answer(_)));
    assert!(matches!(b.decide(publish(&room, "y")).await, Got::Answer(_)));
    // A Redis that has lost everything gets it again.
    server.call(&["FLUSHALL"]);
    assert!(matches!(a.decide(publish(&room, "z")).await, Got::Answer(_)));
    assert_eq!(server.call(&["ACL", "LOG"]), Reply::List(vec![]));
}

/// One on the server's socket.
fn address_of(user: &str, server: &Server) -> RedisAddress {
    format!("unix://{}?user={user}&pass=secret", server.socket().display()).parse().unwrap()
}

async fn permissions(user: &str, server: &Server, replicas: u16) -> Check {
    let checks = inspect(&address_of(user, server), 1, replicas).await.unwrap();
    checks.into_iter().find(|check| check.name == "permissions").unwrap()
}

/// The line for another user, with changes.
fn line_for(user: &str, changes: &str) -> Vec<String> {
    let mut line = line();
    line[0] = user.to_owned();
    line.extend(changes.split(' ').map(str::to_owned));
    line
}

#[tokio::test]
async fn each_command_that_is_denied_is_told() {
    let mut server = Server::start();
    for command in commands().filter(|command| command != "info") {
        let user = command.replace('|', "-");
        add_user(&mut server, &line_for(&user, &format!("-{command}")));
        let told = permissions(&user, &server, 1).await;
        assert_eq!(told.found, format!("without {command}"));
        assert!(matches!(told.finding, Finding::Bad(_)));
    }
    add_user(&mut server, &line_for("some", "-xadd -script|load"));
    assert_eq!(permissions("some", &server, 1).await.found, "without script|load, xadd");
    add_user(&mut server, &line_for("elsewhere", "resetkeys ~other:*"));
    let told = permissions("elsewhere", &server, 1).await;
    assert!(told.found.contains("hset") && !told.found.contains("info"), "{}", told.found);
    assert_eq!(permissions("wait", &server, 0).await.finding, Finding::Good, "nobody waits for replicas");
    assert_eq!(server.call(&["DBSIZE"]), Reply::Number(0), "nothing was carried out");
}

#[tokio::test]
async fn a_user_who_may_not_even_ask_is_refused() {
    let mut server = Server::start();
    add_user(&mut server, &line_for("blind", "-info"));
    let address = address_of("blind", &server);
    let refused = inspect(&address, 1, 0).await.unwrap_err();
    assert!(refused.is_refusal(), "{refused}");
    let refused = inspect(&address.with_password("wrong"), 1, 0).await.unwrap_err();
    assert!(refused.is_refusal(), "{refused}");
    let nowhere = inspect(&"unix:///no/such/socket".parse().unwrap(), 1, 0).await.unwrap_err();
    assert!(!nowhere.is_refusal(), "{nowhere}");
}
