//! An acceptor without a descriptor to spare. In a file of its own, because it lowers the process's limit.

mod acceptor;

use std::io::Write;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use acceptor::{AcceptorSettings, OpenAcceptor, PATIENCE, exchange, read_to_end};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use uproar::handshake::HandshakeEvent;

#[test]
fn a_lack_of_descriptors_is_waited_out_without_spinning() {
    let acceptor = OpenAcceptor::with(AcceptorSettings::default());
    assert!(exchange(&acceptor, b"GET /healthz HTTP/1.0\r\n\r\n").starts_with("HTTP/1.1 200 "));
    let socket =
        || socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
    let (first, client) = (socket(), socket());
    acceptor.events();

    // From now on no descriptor can be opened; those that are open stay. The accept that is under way
    // was submitted under the old limit, which the kernel reads when it takes the submission.
    let limit = getrlimit(Resource::Nofile);
    let lowered_at = Instant::now();
    setrlimit(Resource::Nofile, Rlimit { current: Some(0), ..limit }).expect("lowered");
    first.connect(&acceptor.address.into()).expect("the backlog takes it");
    assert_eq!(acceptor.event(), HandshakeEvent::Accepted);
    client.connect(&acceptor.address.into()).expect("the backlog takes it");
    for _ in 0..3 {
        assert_eq!(acceptor.event(), HandshakeEvent::AcceptFailed);
    }
    assert!(lowered_at.elapsed() >= Duration::from_millis(100), "three attempts, two pauses");

    setrlimit(Resource::Nofile, limit).expect("raised");
    let mut client = TcpStream::from(client);
    client.set_read_timeout(Some(PATIENCE)).expect("set");
    client.write_all(b"GET /healthz HTTP/1.0\r\n\r\n").expect("written");
    assert!(read_to_end(client).starts_with("HTTP/1.1 200 "));
}
