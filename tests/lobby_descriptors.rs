//! A lobby without a descriptor to spare. In a file of its own, because it lowers the process's limit.

mod open_lobby;

use std::io::Write;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use open_lobby::{OpenLobby, PATIENCE, Settings, exchange, read_to_end};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use uproar::shard::lobby::LobbyEvent;

#[test]
fn a_lack_of_descriptors_is_waited_out_without_spinning() {
    let lobby = OpenLobby::with(Settings::default());
    assert!(exchange(&lobby, b"GET /healthz HTTP/1.0\r\n\r\n").starts_with("HTTP/1.1 200 "));
    let socket =
        || socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
    let (first, client) = (socket(), socket());
    lobby.events();

    // From now on no descriptor can be opened; those that are open stay. The accept that is under way
    // was submitted under the old limit, which the kernel reads when it takes the submission.
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: Some(0), ..limit }).expect("lowered");
    first.connect(&lobby.address.into()).expect("the backlog takes it");
    assert_eq!(lobby.event(), LobbyEvent::Accepted);
    client.connect(&lobby.address.into()).expect("the backlog takes it");
    let failed_at = Instant::now();
    for _ in 0..3 {
        assert_eq!(lobby.event(), LobbyEvent::AcceptFailed);
    }
    assert!(failed_at.elapsed() >= Duration::from_millis(100), "three attempts, two pauses");

    setrlimit(Resource::Nofile, limit).expect("raised");
    let mut client = TcpStream::from(client);
    client.set_read_timeout(Some(PATIENCE)).expect("set");
    client.write_all(b"GET /healthz HTTP/1.0\r\n\r\n").expect("written");
    assert!(read_to_end(client).starts_with("HTTP/1.1 200 "));
}
