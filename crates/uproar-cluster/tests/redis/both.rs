//! The model of Redis that the simulation of the log has, against a real one: the same commands get the same replies.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use uproar_cluster::{Append, Batch, Command, Incarnation, Proposal, Reply, Tag};

use crate::model::{Connection, Redis};
use crate::node::{Node, delete, join, keys, leave, publish, say, settings};
use crate::server::Server;

/// Commands of every kind that nodes and scripts use, on few keys, so that they meet each other and wrong types.
fn command(random: &mut StdRng) -> Vec<String> {
    let mut one_of = |texts: &[&str]| texts[random.random_range(0..texts.len())].to_owned();
    let (key, other) = (one_of(&["{k}h", "{k}l", "{k}s", "{k}x"]), one_of(&["{k}h", "{k}l", "{k}y"]));
    let (field, value) = (one_of(&["f", "g", "i"]), one_of(&["1", "2", "x"]));
    let (from, to) = (one_of(&["0", "1", "-2", "-9"]), one_of(&["-1", "0", "2", "9", "-3"]));
    let id = format!("{}-0", one_of(&["1", "2", "3", "5", "8", "9"]));
    let line = match one_of(&[
        "HSET", "HSET", "HGET", "HMGET", "HLEN", "HGETALL", "HVALS", "HKEYS", "HSETNX", "HINCRBY", "HDEL",
        "HSCAN", "RPUSH", "RPUSH", "LPOP", "LLEN", "LINDEX", "LRANGE", "LSET", "LTRIM", "XADD", "XADD",
        "XRANGE", "XREAD", "XTRIM", "RENAME", "UNLINK", "DEL", "SET",
    ])
    .as_str()
    {
        name @ ("HGET" | "HDEL") => format!("{name} {key} {field}"),
        "HMGET" => format!("HMGET {key} {field} i"),
        name @ ("HSET" | "HSETNX") => format!("{name} {key} {field} {value}"),
        "HINCRBY" => format!("HINCRBY {key} {field} 3"),
        "HSCAN" => format!("HSCAN {key} 0 COUNT 10"),
        "RPUSH" => format!("RPUSH {key} {value} {field}"),
        "LINDEX" => format!("LINDEX {key} {to}"),
        name @ ("LRANGE" | "LTRIM") => format!("{name} {key} {from} {to}"),
        "LSET" => format!("LSET {key} {to} {value}"),
        "XADD" => format!("XADD {key} {id} {field} {value}"),
        "XRANGE" => format!("XRANGE {key} {id} +"),
        "XREAD" => format!("XREAD COUNT 2 STREAMS {key} {id}"),
        // A real one trims what is approximately so; nothing is before the first.
        "XTRIM" => format!("XTRIM {key} MINID ~ 0-0 LIMIT 0"),
        "RENAME" => format!("RENAME {key} {other}"),
        "SET" => format!("SET {key} {value}"),
        name => format!("{name} {key}"),
    };
    line.split(' ').map(str::to_owned).collect()
}

/// A reply as far as it must be the same: of errors the word, of hashes any order.
fn comparable(name: &str, reply: Reply) -> Reply {
    match (name, reply) {
        (_, Reply::Error(text)) => Reply::Error(text.split(' ').next().unwrap().to_owned()),
        ("HGETALL" | "HVALS" | "HKEYS", Reply::List(values)) => {
            let together = if name == "HGETALL" { 2 } else { 1 };
            let mut groups: Vec<Vec<Reply>> = values.chunks(together).map(<[Reply]>::to_vec).collect();
            groups.sort_by_key(|group| format!("{group:?}"));
            Reply::List(groups.concat())
        }
        ("HSCAN", Reply::List(mut scan)) => {
            let values = scan.pop().unwrap();
            Reply::List(vec![scan.pop().unwrap(), comparable("HGETALL", values)])
        }
        (_, reply) => reply,
    }
}

#[test]
fn the_model_answers_commands_as_redis_does() {
    let mut server = Server::start_with(&["--appendonly", "no"]);
    let model = Redis::new(false);
    let mut random = StdRng::seed_from_u64(1);
    for round in 0..4_000 {
        let words = command(&mut random);
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let real = comparable(words[0], server.call(&words));
        assert_eq!(comparable(words[0], model.call(&words)), real, "{words:?} in round {round}");
    }
}

/// Scripts on both: what they answer, and what is in the rooms then.
struct Both {
    server: Server,
    model: Redis,
    connection: Connection,
}

impl Both {
    fn run(&mut self, command: &Command) -> Reply {
        let real = self.server.run(command);
        let modelled = self.model.run(command, &mut self.connection);
        assert_eq!(comparable("", modelled), comparable("", real.clone()), "{command:?}");
        real
    }

    fn append(&mut self, tag: &mut Tag, proposals: impl IntoIterator<Item = Proposal>) {
        tag.batch += 1;
        let batch: Batch = proposals.into_iter().collect();
        let append = Append { tag: tag.clone(), format: 1, batch, recovered: None };
        for _ in 0..2 {
            self.run(&append.command(&keys(), &settings()));
        }
    }
}

#[test]
fn the_model_runs_the_scripts_as_redis_does() {
    let (mut server, mut model) = (Server::start_with(&["--appendonly", "no"]), Redis::new(false));
    let a = Node::new("a", 1);
    let mut tag = Tag { node: "a".parse().unwrap(), incarnation: Incarnation(1), batch: 0 };
    a.revive(&mut server);
    let mut connection = Connection::default();
    let look = uproar_cluster::Recovery::command(&keys(), "first", &a.live(), None);
    let seen = uproar_cluster::Recovery::read(&model.run(&look, &mut connection)).unwrap().unwrap();
    model.run(&seen.finish(&keys()), &mut connection);
    let mut both = Both { server, model, connection };
    both.append(&mut tag, [Proposal::Canary]);
    tag.batch = 0;
    both.append(&mut tag, [Proposal::Begin { replaces: None, reads: 1 }]);
    both.append(&mut tag, ["general", "team"].map(|name| Proposal::Open { name: name.into() }));
    let rooms = ["general", "team"].map(|name| uproar_cluster::Room { name: name.into(), opened: 2 });
    let mut random = StdRng::seed_from_u64(2);
    for round in 0..300 {
        let proposals: Vec<Proposal> = (0..random.random_range(1..6))
            .map(|_| {
                let room = &rooms[random.random_range(0..2)];
                let (user, visit) = (random.random_range(1..4), random.random_range(0..3));
                match random.random_range(0..7) {
                    0 | 1 => join(room, user, visit),
                    2 => leave(room, user, visit),
                    3 => publish(room, "from outside"),
                    4 => delete(room, random.random_range(1..60), user),
                    5 => Proposal::NodeGone { seen: Tag { batch: 1, ..tag.clone() } },
                    _ => say(room, user, visit, "hello"),
                }
            })
            .collect();
        both.append(&mut tag, proposals);
        if round == 150 {
            both.server.call(&["SET", &keys().roster("team"), "a string"]);
            both.model.call(&["SET", &keys().roster("team"), "a string"]);
        }
    }
    for room in &rooms {
        let roster = keys().roster(&room.name);
        let words = ["HGETALL", roster.as_str()];
        let real = comparable(words[0], both.server.call(&words));
        assert_eq!(comparable(words[0], both.model.call(&words)), real);
    }
    for words in [["HGETALL", &keys().rooms()], ["HGETALL", &keys().damaged()], ["HGETALL", &keys().nodes()]]
    {
        let real = comparable(words[0], both.server.call(&words));
        assert!(matches!(&real, Reply::List(values) if !values.is_empty()), "{words:?}");
        assert_eq!(comparable(words[0], both.model.call(&words)), real);
    }
}
