//! The servers of a run, and which of them each client connects to.
//!
//! Clients are dealt like cards, to the servers as to the rooms. Each server gets as many clients, each room as many
//! members on every server, and so do those who speak: none of these counts differs by more than one.

use std::net::{Ipv4Addr, SocketAddr};

use crate::dialect::Dialect;
use crate::network::security::Security;
use crate::plan::rooms::Rooms;

/// The most servers of a run. Each pair of them has a histogram in each thread: 256 of them take 55 MiB.
pub const SERVERS_MAX: usize = 16;

/// A server of the run.
#[derive(Clone, Debug)]
pub struct Server {
    /// Its URL as it was written, which is its name in results.
    pub url: String,
    /// Where it is.
    pub address: SocketAddr,
    /// How connections are secured, if they are.
    pub security: Option<Security>,
    /// The `Host` header.
    pub authority: String,
    /// The path that is upgraded for each room: one for all of them, or one each.
    pub paths: Vec<String>,
    /// Source addresses to take in turn; empty for the kernel's choice.
    pub sources: Vec<Ipv4Addr>,
}

/// The place of the server of each client.
///
/// # Panics
///
/// With more than [`SERVERS_MAX`] servers, which the command line refuses.
#[must_use]
pub fn deal(dialect: Dialect, rooms: Rooms, servers: usize, clients: u32) -> Vec<u8> {
    assert!((1..=SERVERS_MAX).contains(&servers), "Bug: {servers} servers");
    let count = servers as u32;
    let place = |client| match dialect {
        Dialect::Private => of_partner(rooms, count, client),
        Dialect::Chat | Dialect::Raw | Dialect::Echo => of_member(rooms, count, client),
    };
    (0..clients).map(|client| place(client) as u8).collect()
}

/// Clients go to the servers in turn. With 2 rooms and 4 servers, that alone would leave each room on 2 of the servers
/// for ever; so each time that rooms and servers come back to where they began, the turn moves on by one, until all
/// servers have had every room.
fn of_member(rooms: Rooms, servers: u32, client: u32) -> u64 {
    let (rooms, servers, client) = (u64::from(rooms.count), u64::from(servers), u64::from(client));
    let divisor = greatest_common_divisor(rooms, servers);
    let cycle = rooms / divisor * servers;
    (client + client / cycle % divisor) % servers
}

/// Of two who write to each other, the first goes to the servers in turn, and the second likewise, one further on with
/// each round: so all pairs of servers have as many.
fn of_partner(rooms: Rooms, servers: u32, client: u32) -> u64 {
    let room = rooms.of(client);
    let shift = if client < rooms.count { 0 } else { room / servers };
    u64::from((room + shift) % servers)
}

fn greatest_common_divisor(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { greatest_common_divisor(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn is_even(counts: impl IntoIterator<Item = u32>, apart_max: u32) -> bool {
        let counts: Vec<_> = counts.into_iter().collect();
        let (least, most) = (counts.iter().min().expect("some"), counts.iter().max().expect("some"));
        most - least <= apart_max
    }

    #[test]
    fn servers_rooms_and_senders_are_dealt_evenly() {
        for servers in 1..=SERVERS_MAX {
            for count in 1..=10 {
                for clients in [count * servers as u32, 97, 200].into_iter().filter(|&all| all >= count) {
                    let rooms = Rooms { count, senders: count };
                    let dealt = deal(Dialect::Chat, rooms, servers, clients);
                    let mut of_server = vec![0; servers];
                    let mut of_room = vec![vec![0; servers]; count as usize];
                    for (client, server) in (0..).zip(dealt) {
                        of_server[usize::from(server)] += 1;
                        of_room[rooms.of(client) as usize][usize::from(server)] += 1;
                        // Those who speak are the first clients, however many they are.
                        assert!(is_even(of_server.clone(), 1), "{client} on {servers}");
                        let room = of_room[rooms.of(client) as usize].clone();
                        assert!(is_even(room, 1), "{client} of {count} rooms on {servers}");
                    }
                }
            }
        }
    }

    #[test]
    fn private_pairs_are_on_all_pairs_of_servers() {
        for servers in [1, 2, 3, 16] {
            let rooms = Rooms { count: servers * servers * 2, senders: 1 };
            let dealt = deal(Dialect::Private, rooms, servers as usize, 2 * rooms.count);
            let mut pairs = BTreeMap::<_, u32>::new();
            for room in 0..rooms.count as usize {
                *pairs.entry((dealt[room], dealt[room + rooms.count as usize])).or_default() += 1;
            }
            assert_eq!(pairs.len() as u32, servers * servers);
            assert!(pairs.values().all(|&count| count == 2), "{pairs:?}");
        }
    }
}
