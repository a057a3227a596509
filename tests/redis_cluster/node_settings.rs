//! What a node says of its settings, and one whose settings are not those of its cluster.

use crate::harness::run;
use crate::nodes::{node, says};
use crate::redis::Redis;

#[tokio::test]
async fn it_is_refused_and_told_both_settings() {
    let redis = Redis::start();
    let _a = node(&redis, "a").start();
    let url = redis.url();
    let own = "--history 100 --rooms games,general --redis-partitions 1";
    for (flag, value, theirs) in [
        ("--history", "7", "--history 7 --rooms games,general --redis-partitions 1"),
        ("--rooms", "general", "--history 100 --rooms general --redis-partitions 1"),
        ("--redis-partitions", "2", "--history 100 --rooms games,general --redis-partitions 2"),
    ] {
        let mut arguments = vec!["--listen", "127.0.0.1:0", "--shards", "1", "--node", "b", "--redis", &url];
        if flag != "--rooms" {
            arguments.extend(["--rooms", "general,games"]);
        }
        arguments.extend([flag, value]);
        let refused = run(&arguments, &[]).await;
        assert_eq!(refused.code, Some(1), "{}", refused.output());
        for settings in [own, theirs] {
            assert!(refused.stderr.contains(settings), "{flag} {value}: {}", refused.stderr);
        }
    }
}

#[tokio::test]
async fn a_node_says_where_its_rooms_are_kept() {
    let redis = Redis::start();
    let a = node(&redis, "a").start();
    says(&a, &format!("kept in {}, shared as node a", redis.url())).await;
}
