//! A Redis that cannot do what is asked of it, or not well.

use uproar_cluster::client::{Check, ConnectError, Finding, RedisAddress, inspect};

use crate::client::address_of;
use crate::server::{Server, text};

async fn checks(server: &Server, replicas: u16) -> Vec<Check> {
    inspect(&address_of(server).parse().unwrap(), 1, replicas).await.unwrap()
}

fn named<'a>(checks: &'a [Check], name: &str) -> &'a Check {
    checks.iter().find(|check| check.name == name).unwrap_or_else(|| panic!("{name}: {checks:?}"))
}

#[tokio::test]
async fn an_unfit_redis_is_told_before_anything_is_done() {
    let mut server = Server::start();
    let found = checks(&server, 0).await;
    assert!(found.iter().all(|check| check.finding == Finding::Good), "{found:?}");
    server.call(&["CONFIG", "SET", "maxmemory-policy", "allkeys-lru"]);
    server.call(&["CONFIG", "SET", "appendonly", "no"]);
    server.call(&["REPLICAOF", "127.0.0.1", "1"]);
    let found = checks(&server, 0).await;
    assert!(matches!(named(&found, "role").finding, Finding::Bad(_)));
    assert!(matches!(named(&found, "eviction policy").finding, Finding::Bad(_)));
    assert!(
        matches!(named(&found, "persistence").finding, Finding::Warning(_)),
        "{:?}",
        named(&found, "persistence")
    );
    server.call(&["CONFIG", "SET", "requirepass", "secret"]);
    let refused = inspect(&address_of(&server).parse().unwrap(), 1, 0).await;
    assert!(matches!(&refused, Err(ConnectError::Redis(_))), "{refused:?}");
    let address: RedisAddress = address_of(&server).parse().unwrap();
    assert!(inspect(&address.with_password("secret"), 1, 0).await.is_ok());
    let nowhere = inspect(&"redis://127.0.0.1:1".parse().unwrap(), 1, 0).await;
    assert!(matches!(nowhere, Err(ConnectError::Redis(_))), "{nowhere:?}");
}

#[tokio::test]
async fn what_is_wrong_with_memory_disk_and_replicas_is_told() {
    let mut server = Server::start();
    server.call(&["CONFIG", "SET", "appendfsync", "no"]);
    let found = checks(&server, 1).await;
    assert!(named(&found, "memory").found.ends_with(", without a limit"), "{found:?}");
    for name in ["appendfsync", "replicas", "min-replicas-to-write"] {
        assert!(matches!(named(&found, name).finding, Finding::Warning(_)), "{name}: {found:?}");
    }
    assert_eq!(named(&found, "replicas").found, "0 connected, 1 asked for");
    assert!(named(&found, "latency").found.ends_with(" ms"), "{found:?}");
    server.call(&["CONFIG", "SET", "min-replicas-to-write", "1"]);
    server.call(&["CONFIG", "SET", "maxmemory", "1"]);
    let found = checks(&server, 1).await;
    assert_eq!(named(&found, "min-replicas-to-write").finding, Finding::Good);
    assert!(matches!(named(&found, "memory").finding, Finding::Bad(_)), "{found:?}");
    let info = text(&server.call(&["INFO", "memory"]));
    let used = info.lines().find_map(|line| line.strip_prefix("used_memory:")).unwrap();
    let used: u64 = used.trim().parse().unwrap();
    server.call(&["CONFIG", "SET", "maxmemory", &(used / 94 * 100).to_string()]);
    let found = checks(&server, 1).await;
    assert!(matches!(named(&found, "memory").finding, Finding::Warning(_)), "{found:?}");
}

#[tokio::test]
async fn a_redis_of_a_cluster_is_refused() {
    let server = Server::start_with(&["--cluster-enabled", "yes"]);
    let found = checks(&server, 0).await;
    assert!(matches!(named(&found, "cluster mode").finding, Finding::Bad(_)), "{found:?}");
}
