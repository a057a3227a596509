//! An acceptor full of silent connections. In a file of its own, because it counts the process's descriptors.

mod acceptor;

use std::fs::read_dir;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use acceptor::{AcceptorSettings, OpenAcceptor, PATIENCE, exchange, raise_descriptor_limit, read_to_end};
use rustix::process::{Resource, getrlimit};

fn descriptors() -> usize {
    read_dir("/proc/self/fd").expect("procfs").count()
}

/// Whoever connects and says nothing delays nobody, is told 408 in the end, and leaves no descriptor
/// behind, even when it never closes: a read that a deadline has given up must not keep the socket.
#[test]
fn silent_connections_delay_nobody_and_leave_nothing_behind() {
    raise_descriptor_limit();
    let descriptors_max = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    // Both ends are in this process.
    let silent_count =
        usize::try_from(descriptors_max.saturating_sub(200) / 2).unwrap_or(usize::MAX).min(5000);

    let acceptor = OpenAcceptor::with(AcceptorSettings {
        handshake_timeout: Duration::from_secs(4),
        connections_max: silent_count + 10,
        ..AcceptorSettings::default()
    });
    assert!(exchange(&acceptor, b"GET /healthz HTTP/1.0\r\n\r\n").starts_with("HTTP/1.1 200 "));
    let descriptors_before = descriptors();

    let mut silent: Vec<TcpStream> = (0..silent_count).map(|_| acceptor.connect()).collect();
    acceptor.wait_for_accepted(silent_count);
    let asked_at = Instant::now();
    assert!(exchange(&acceptor, b"GET /healthz HTTP/1.0\r\n\r\n").starts_with("HTTP/1.1 200 "));
    assert!(asked_at.elapsed() < Duration::from_secs(1), "took {:?}", asked_at.elapsed());

    let kept = silent.split_off(silent_count - 50);
    for client in silent {
        assert!(read_to_end(client).starts_with("HTTP/1.1 408 "));
    }
    let deadline = Instant::now() + PATIENCE;
    while descriptors() > descriptors_before + kept.len() {
        assert!(Instant::now() < deadline, "{} descriptors, {descriptors_before} before", descriptors());
        std::thread::yield_now();
    }
}
