//! Nodes of two versions on one log. The newer format is made up: only its number is another.

use uproar_cluster::{Answer, Append, AppendError, End, Proposal};

use crate::node::{Node, entries, keys};
use crate::server::Server;
use crate::world::World;

/// A node that begins, and reads up to this format. It writes its beginning in `format`.
fn begin(server: &mut Server, name: &str, reads: u16, format: u16) -> Result<Node, AppendError> {
    let mut node = Node::new(name, 1);
    node.settings.agreed = "the same".to_owned();
    node.revive(server);
    let append = Append { format, ..node.next([Proposal::Begin { replaces: None, reads }]) };
    node.append(server, &append).map(|_| node)
}

fn write(server: &mut Server, node: &mut Node, format: u16) -> Result<(), AppendError> {
    let append = Append { format, ..node.next([Proposal::Canary]) };
    let outcome = node.append(server, &append);
    if outcome.is_err() {
        node.tag.batch -= 1;
    }
    outcome.map(|_| ())
}

#[test]
fn the_new_format_is_written_once_all_read_it() {
    let mut server = Server::start();
    let mut old = begin(&mut server, "a", 1, 1).unwrap();
    let mut new = begin(&mut server, "b", 2, 1).unwrap();
    assert_eq!(write(&mut server, &mut new, 2), Err(AppendError::Format { format: 1 }));
    assert_eq!(write(&mut server, &mut new, 1), Ok(()));
    let more = begin(&mut server, "c", 2, 2);
    assert_eq!(more.err(), Some(AppendError::Format { format: 1 }), "its beginning is a batch as well");
    old.decide(&mut server, [Proposal::End]);
    // The old version may come back as long as nothing was written in the new format.
    let mut old = begin(&mut server, "a", 1, 1).unwrap();
    assert_eq!(write(&mut server, &mut new, 2), Err(AppendError::Format { format: 1 }));
    old.decide(&mut server, [Proposal::End]);
    assert_eq!(write(&mut server, &mut new, 2), Ok(()));
    assert_eq!(begin(&mut server, "a", 1, 1).err(), Some(AppendError::Format { format: 2 }));
    // One that has not noticed may still write the old one.
    assert_eq!(write(&mut server, &mut new, 1), Ok(()));
    assert_eq!(server.texts(&["HMGET", &keys().meta(), "format"]), ["2"]);
}

#[test]
fn a_node_does_not_begin_in_a_log_that_it_cannot_read() {
    let mut world = World::new(30);
    let a = world.join("a");
    let mut new = begin(&mut world.server, "b", 2, 1).unwrap();
    world.run(200);
    assert_eq!(write(&mut world.server, &mut new, 2), Err(AppendError::Format { format: 1 }));
    assert_eq!(world.decide(a, Proposal::Canary), Answer::Done);
    assert!(entries(&mut world.server, 0).iter().all(|entry| entry.format == 1));
    world.leave(a);
    world.until(|world| world.nodes[a].ended == Some(End::Left));
    assert_eq!(write(&mut world.server, &mut new, 2), Ok(()));
    let late = world.start("c");
    world.until(|world| world.nodes[late].ended.is_some());
    let Some(End::Refused(why)) = &world.nodes[late].ended else { panic!("{:?}", world.nodes[late].ended) };
    assert!(why.contains("the log is written in format 2, and this version reads 1"), "{why}");
}

#[test]
fn what_a_node_reads_survives_a_loss() {
    let mut world = World::new(31);
    let a = world.join("a");
    begin(&mut world.server, "b", 2, 1).unwrap();
    world.run(200);
    world.server.call(&["FLUSHALL"]);
    world.until(|world| world.nodes[a].bridge.trouble().is_some());
    world.until(|world| world.nodes[a].bridge.trouble().is_none());
    let nodes = world.server.texts(&["HGETALL", &keys().nodes()]);
    let of_b = nodes.iter().position(|name| name == "b").unwrap() + 1;
    assert!(nodes[of_b].ends_with(" 2"), "{nodes:?}");
    assert_eq!(world.decide(a, Proposal::Canary), Answer::Done);
}
