//! A Redis Cluster of three servers, each with some of the partitions.

use crate::harness::{Chat, eventually};
use crate::nodes::{becomes_ready, node_at, start};
use crate::redis::{Redis, free_port};
use crate::room::{all_hear, history, one_on_each};

/// A room of each partition.
const ROOMS: [&str; 2] = ["general", "games"];

#[tokio::test]
async fn each_partition_is_found_where_it_is_and_where_it_goes() {
    let servers = [(); 3].map(|()| Server::start());
    for (partition, server) in (0..).zip(&servers[..2]) {
        server.redis.command(&["CLUSTER", "ADDSLOTS", &servers[0].slot_of(partition)]);
    }
    // Without one that stays, it would become a replica when its partition goes.
    servers[1].redis.command(&["CLUSTER", "ADDSLOTS", "0"]);
    for other in &servers[1..] {
        let (port, bus) = (other.port.to_string(), other.bus.to_string());
        servers[0].redis.command(&["CLUSTER", "MEET", "127.0.0.1", &port, &bus]);
    }
    for server in &servers {
        eventually("the servers know each other", async || {
            let info = server.redis.command(&["CLUSTER", "INFO"]);
            ["cluster_state:ok", "cluster_known_nodes:3", "cluster_slots_ok:3"]
                .iter()
                .all(|it| info.contains(it))
        })
        .await;
    }
    // The third one has no partition, and points to the others.
    let redis = format!("redis+cluster://127.0.0.1:{}", servers[2].port);
    let [a, b] = start(["a", "b"].map(|name| node_at(&redis, name).flag("--redis-partitions", 2)));
    let [mut alice, mut bob] = one_on_each([&a, &b]).await;
    all_hear(&mut alice, &mut [&mut bob], "here").await;
    let [mut carl, mut dora] = [Chat::enter(&a).await, Chat::enter(&b).await];
    carl.move_to("games").await;
    dora.move_to("games").await;
    carl.until("join").await;
    all_hear(&mut dora, &mut [&mut carl], "there").await;
    for (partition, server) in (0..).zip(&servers[..2]) {
        let roster = format!("{{uproar:{partition}}}:roster:{}", ROOMS[partition]);
        assert_eq!(server.redis.command(&["HLEN", &roster]), "2", "{roster}");
    }

    servers[1].give_partition(1, &servers[2], &servers);
    becomes_ready(&a).await;
    becomes_ready(&b).await;
    all_hear(&mut carl, &mut [&mut dora], "and on").await;
    let last = all_hear(&mut dora, &mut [&mut carl], "elsewhere").await;
    let messages = history(&mut carl).await;
    assert_eq!(messages.contents(), ["there", "and on", "elsewhere"]);
    assert_eq!(messages.messages.last().map(|(id, _)| *id), Some(last));
    assert_eq!(servers[2].redis.command(&["HLEN", "{uproar:1}:roster:games"]), "2");
    // Nobody of the other partition has noticed.
    alice.until("leave").await;
    bob.until("leave").await;
    alice.until("leave").await;
    bob.until("leave").await;
    all_hear(&mut alice, &mut [&mut bob], "here as before").await;
}

/// A server of the cluster.
struct Server {
    redis: Redis,
    port: u16,
    /// Its port for the other servers.
    bus: u16,
}

impl Server {
    fn start() -> Self {
        let attempt = |_| {
            let bus = free_port();
            let bus_port = bus.to_string();
            let settings = [
                ["--cluster-enabled", "yes"],
                ["--cluster-port", &bus_port],
                // Of most slots nothing is needed.
                ["--cluster-require-full-coverage", "no"],
            ];
            let (redis, port) = Redis::try_at_a_port(settings.as_flattened())?;
            Some(Self { redis, port, bus })
        };
        (0..10).find_map(attempt).expect("two free ports")
    }

    fn slot_of(&self, partition: usize) -> String {
        self.redis.command(&["CLUSTER", "KEYSLOT", &format!("{{uproar:{partition}}}:log")])
    }

    fn id(&self) -> String {
        self.redis.command(&["CLUSTER", "MYID"])
    }

    /// Lets another server have a partition, as `redis-cli --cluster reshard` does it.
    fn give_partition(&self, partition: usize, to: &Self, all: &[Self]) {
        let slot = self.slot_of(partition);
        to.redis.command(&["CLUSTER", "SETSLOT", &slot, "IMPORTING", &self.id()]);
        self.redis.command(&["CLUSTER", "SETSLOT", &slot, "MIGRATING", &to.id()]);
        loop {
            let keys = self.redis.command(&["CLUSTER", "GETKEYSINSLOT", &slot, "100"]);
            if keys.is_empty() {
                break;
            }
            let port = to.port.to_string();
            let migrate = ["MIGRATE", "127.0.0.1", &port, "", "0", "5000", "KEYS"];
            self.redis.command(&migrate.into_iter().chain(keys.lines()).collect::<Vec<_>>());
        }
        for server in [to, self].into_iter().chain(all) {
            server.redis.command(&["CLUSTER", "SETSLOT", &slot, "NODE", &to.id()]);
        }
    }
}
