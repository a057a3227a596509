//! Measures the log of one partition on a real `redis-server`: how many messages a second it takes, what that costs
//! Redis, and how long a message is under way, with more and more nodes. See `scripts/cluster-bench`.
//!
//! - `node`: a node as Redis sees one. Up to a hundred of them fit into one thread.
//! - `link`: a connection, and the answers of Redis.
//! - `redis`: the server.

#![allow(clippy::unwrap_used)]

mod link;
mod node;
mod redis;

use std::error::Error;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::time::sleep;
use uproar_cluster::{Keys, Proposal};

use crate::link::Link;
use crate::node::{Load, MESSAGE_BYTES, ROOMS, Reader, Record, Share, Writer, message};
use crate::redis::{Redis, waited_seconds};

/// Messages that a room keeps.
const HISTORY: usize = 100;

/// Not measured: connections and scripts are warming up.
const WARM_UP: Duration = Duration::from_secs(1);
const MEASURED: Duration = Duration::from_secs(5);

/// The share of the time for which Redis or this program may wait for a core that others use. A row in which it is more
/// is measured again, so many times.
const WAITED_MAX: f64 = 0.03;
const ATTEMPTS: usize = 8;

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let usage = "usage: log_bench appendfsync|no NODES[,NODES…] MESSAGES_PER_SECOND|xBATCH[,…]
       log_bench memory";
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments == ["memory"] {
        return measure_memory().await;
    }
    let [fsync, nodes, loads] = &arguments[..] else { return Err(usage.into()) };
    println!(
        "| nodes | load | messages/s | entries/s | replies/s | Redis busy | µs of Redis a message | p50 ms | p99 ms |"
    );
    println!("| --- | --- | --- | --- | --- | --- | --- | --- | --- |");
    for load in loads.split(',') {
        let load = match load.strip_prefix('x') {
            Some(size) => Load::Full(size.parse()?),
            None => Load::Offered(load.parse()?),
        };
        for nodes in nodes.split(',') {
            let mut row = String::new();
            for _ in 0..ATTEMPTS {
                let waited;
                (row, waited) = measure(fsync, nodes.parse()?, load).await?;
                if waited <= WAITED_MAX {
                    break;
                }
                row.push_str(&format!(" others have used the cores for {:.0} %", waited * 100.0));
            }
            println!("{row}");
        }
    }
    Ok(())
}

/// What a message and a member take in Redis's memory.
async fn measure_memory() -> Result<()> {
    let redis = Redis::start("no").await?;
    let keys = Keys::of_partition(0);
    let mut writer = Writer::begin(&redis, &keys, 0).await?;
    let rooms = writer.open_rooms().await?;
    println!("| | bytes |");
    println!("| --- | --- |");
    let messages = (ROOMS * HISTORY) as u64;
    for size in [1, 16, 128] {
        let before = writer.memory(&keys.log()).await?;
        let mut message = (0..).map(|count| message(&rooms[count % ROOMS]));
        for _ in 0..messages / size {
            writer.append(message.by_ref().take(size as usize)).await?;
        }
        let bytes = writer.memory(&keys.log()).await? - before;
        println!(
            "| a message of {MESSAGE_BYTES} bytes in the log, in batches of {size} | {} |",
            bytes / messages
        );
    }
    let history = writer.memory(&keys.history(&rooms[0].name)).await?;
    println!("| the same in the history of its room, {HISTORY} messages | {} |", history / HISTORY as u64);
    for members in [100, 10_000] {
        let room = &rooms[usize::from(members > 100)];
        let join = |user| Proposal::Join { room: room.clone(), user, visit: 1, member: "User123456".into() };
        for first in (0..members).step_by(100) {
            writer.append((first..first + 100).map(join)).await?;
        }
        let bytes = writer.memory(&keys.roster(&room.name)).await?;
        println!("| a member of a room of {members} | {} |", bytes / members);
    }
    Ok(())
}

/// One row of the table, and for which share of the time it had to wait for a core.
async fn measure(fsync: &str, nodes: usize, load: Load) -> Result<(String, f64)> {
    let redis = Redis::start(fsync).await?;
    let keys = Keys::of_partition(0);
    let mut first = Writer::begin(&redis, &keys, 0).await?;
    let rooms = first.open_rooms().await?;
    let mut writers = vec![first];
    for number in 1..nodes {
        writers.push(Writer::begin(&redis, &keys, number).await?);
    }
    let last = writers.last_mut().ok_or("no nodes")?.append([Proposal::Canary]).await?;
    let record = Arc::new(Mutex::new(Record::default()));
    let begin = Instant::now() + WARM_UP;
    let mut tasks = Vec::new();
    for (number, writer) in writers.into_iter().enumerate() {
        let of_record = [(0, 0), (nodes - 1, 1)].into_iter().filter(|(node, _)| *node == number);
        let observed = of_record.map(|(_, place)| place).collect();
        let (read, has_read) = watch::channel(last);
        let reader = Reader { link: Link::connect(redis.port).await?, log: keys.log(), last, observed, read };
        tasks.push(tokio::spawn(reader.run(record.clone(), begin)));
        let share = Share { rooms: rooms.clone(), load, nodes, number, has_read };
        tasks.push(tokio::spawn(writer.run(share, record.clone(), begin)));
    }
    sleep(WARM_UP).await;
    let (own, its) = (std::process::id(), redis.id());
    let (busy, own_wait, its_wait) = (redis.busy_seconds()?, waited_seconds(own)?, waited_seconds(its)?);
    sleep(MEASURED).await;
    let busy = redis.busy_seconds()? - busy;
    let waited = (waited_seconds(own)? - own_wait).max(waited_seconds(its)? - its_wait);
    let record = std::mem::take(&mut *record.lock().map_err(|_| "a task has panicked")?);
    for task in tasks {
        if task.is_finished() {
            task.await??;
        } else {
            task.abort();
        }
    }
    let seconds = MEASURED.as_secs_f64();
    let mut latencies: Vec<f64> = Vec::new();
    for (number, due) in &record.due {
        for seen in record.seen.iter().filter_map(|seen| seen.get(number)) {
            latencies.extend(due.iter().map(|due| seen.duration_since(*due).as_secs_f64() * 1e3));
        }
    }
    latencies.sort_by(f64::total_cmp);
    let percentile = |share: f64| match latencies.len() {
        0 => "".to_owned(),
        length => format!("{:.2}", latencies[((length - 1) as f64 * share) as usize]),
    };
    let load = match load {
        Load::Offered(messages) => format!("{messages} a second"),
        Load::Full(size) => format!("batches of {size}"),
    };
    let row = format!(
        "| {nodes} | {load} | {:.0} | {:.0} | {:.0} | {:.0} % | {:.2} | {} | {} |",
        record.messages as f64 / seconds,
        record.entries as f64 / seconds,
        record.replies as f64 / seconds,
        busy / seconds * 100.0,
        busy * 1e6 / record.messages as f64,
        percentile(0.5),
        percentile(0.99),
    );
    Ok((row, waited / seconds))
}
