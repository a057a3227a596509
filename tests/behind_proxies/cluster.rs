//! Three servers behind a balancer that is configured by the files of `contrib`, in which only addresses, a path and a
//! limit are replaced. They share no rooms here: what balancers do does not depend on it.

use std::fs;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;

use rustix::process::Signal;
use tempfile::TempDir;

use crate::addresses::told_address;
use crate::programs::{NGINX_DIRECTORIES, Proxy, Server, connect_from, read_to, until, upgrade_request};

#[test]
fn haproxy_spreads_clients_and_tells_their_address() {
    let nodes = Nodes::start();
    spreads_clients_and_tells_their_address(&nodes, &nodes.behind_haproxy());
}

#[test]
fn nginx_spreads_clients_and_tells_their_address() {
    let nodes = Nodes::start();
    spreads_clients_and_tells_their_address(&nodes, &nodes.behind_nginx());
}

#[test]
fn clients_of_a_killed_node_come_back_through_haproxy() {
    let nodes = Nodes::start();
    let proxy = nodes.behind_haproxy();
    clients_of_a_killed_node_come_back(nodes, &proxy);
}

#[test]
fn clients_of_a_killed_node_come_back_through_nginx() {
    let nodes = Nodes::start();
    let proxy = nodes.behind_nginx();
    clients_of_a_killed_node_come_back(nodes, &proxy);
}

#[test]
fn nobody_is_refused_by_haproxy_while_a_node_stops() {
    let nodes = Nodes::start();
    let proxy = nodes.behind_haproxy();
    nobody_is_refused_while_a_node_stops(nodes, &proxy);
}

#[test]
fn nobody_is_refused_by_nginx_while_a_node_stops() {
    let nodes = Nodes::start();
    let proxy = nodes.behind_nginx();
    nobody_is_refused_while_a_node_stops(nodes, &proxy);
}

#[test]
fn haproxy_sends_no_clients_to_a_node_that_is_not_ready() {
    let nodes = Nodes::start();
    let proxy = nodes.behind_haproxy();
    let state = |state: &str| {
        proxy.tell("show stat").lines().any(|line| line.starts_with("nodes,a,") && line.contains(state))
    };
    let mut stays = nodes.client_of(0, proxy.address);
    until("the node is taken in", || state(",UP,"));

    let (here, away) = (nodes.data.path().join("a/history.db"), nodes.data.path().join("a/away.db"));
    fs::rename(&here, &away).unwrap();
    until("the node is left out", || state(",DOWN,"));
    let others: Vec<_> = (0..6).map(|_| Client::enter(proxy.address)).collect();
    assert!(others.iter().all(|other| nodes.number_of(other) != 0));
    stays.assert_connected();

    fs::rename(&away, &here).unwrap();
    until("the node is taken in again", || state(",UP,"));
    // It has the fewest connections.
    assert_eq!(nodes.number_of(&Client::enter(proxy.address)), 0);
}

#[test]
fn an_order_to_haproxy_drains_a_node() {
    let nodes = Nodes::start();
    let proxy = nodes.behind_haproxy();
    let mut stays = nodes.client_of(0, proxy.address);
    assert_eq!(proxy.tell("set server nodes/a state drain").trim(), "");
    let others: Vec<_> = (0..6).map(|_| Client::enter(proxy.address)).collect();
    assert!(others.iter().all(|other| nodes.number_of(other) != 0));
    stays.assert_connected();
}

#[test]
fn balancers_hide_the_metrics() {
    let nodes = Nodes::start();
    for proxy in [nodes.behind_haproxy(), nodes.behind_nginx()] {
        for (path, expected) in [("/metrics", "404"), ("/healthz", "200")] {
            let mut stream = connect_from(Ipv4Addr::LOCALHOST, proxy.address);
            let request = format!("GET {path} HTTP/1.1\r\nHost: chat.example\r\nConnection: close\r\n\r\n");
            stream.write_all(request.as_bytes()).unwrap();
            let answer = read_to(&mut stream, "\r\n");
            assert!(answer.starts_with(&format!("HTTP/1.1 {expected} ")), "{path}: {answer}");
        }
    }
}

fn spreads_clients_and_tells_their_address(nodes: &Nodes, proxy: &Proxy) {
    let clients: Vec<_> = (0..9).map(|_| Client::enter(proxy.address)).collect();
    for number in 0..3 {
        let its = clients.iter().filter(|client| nodes.number_of(client) == number).count();
        assert_eq!(its, 3, "clients of node {number}");
    }
    let (own, told) = told_address(proxy.address);
    assert_eq!(told, own.ip().to_string());
}

fn clients_of_a_killed_node_come_back(mut nodes: Nodes, proxy: &Proxy) {
    let mut lost: Vec<_> = (0..3).map(|_| nodes.client_of(0, proxy.address)).collect();
    let mut stays = nodes.client_of(1, proxy.address);
    nodes.servers[0].signal(Signal::KILL);
    for client in &mut lost {
        client.wait_for_end();
    }
    until("the node is gone", || nodes.servers[0].has_ended());
    for _ in lost {
        assert_ne!(nodes.number_of(&Client::enter(proxy.address)), 0);
    }
    stays.assert_connected();
}

/// The node answers 503 `draining` at first, and then nothing. Neither reaches a client.
fn nobody_is_refused_while_a_node_stops(mut nodes: Nodes, proxy: &Proxy) {
    // Clients of the other nodes, so that the balancer prefers this one.
    let mut clients: Vec<_> = (0..9).map(|_| Client::enter(proxy.address)).collect();
    clients.retain(|client| nodes.number_of(client) != 0);
    // This client does not answer the node's close, so the node waits for it.
    let _silent = nodes.client_of(0, proxy.address);
    until("the balancer prefers the node", || nodes.number_of(&Client::enter(proxy.address)) == 0);
    nodes.servers[0].signal(Signal::TERM);
    until("the node has stopped", || {
        Client::enter(proxy.address);
        nodes.servers[0].has_ended()
    });
    assert_ne!(nodes.number_of(&Client::enter(proxy.address)), 0);
}

/// Three servers, known by the epochs of their rooms.
struct Nodes {
    servers: [Server; 3],
    epochs: [String; 3],
    data: TempDir,
}

impl Nodes {
    fn start() -> Self {
        let data = tempfile::tempdir().unwrap();
        let servers = ["a", "b", "c"].map(|name| {
            let directory = data.path().join(name);
            fs::create_dir(&directory).unwrap();
            Server::start(&["--data", directory.to_str().unwrap()])
        });
        let epochs = [0, 1, 2].map(|number: usize| Client::enter(servers[number].address).epoch);
        Self { servers, epochs, data }
    }

    fn behind_haproxy(&self) -> Proxy {
        let config = replaced(
            &self.config("haproxy/uproar-cluster.cfg"),
            "stats socket /run/haproxy/",
            "stats socket unix@./",
        );
        // HAProxy does not start where it may not open as many files.
        let config = replaced(&config, "maxconn 100000", "maxconn 1000");
        Proxy::haproxy(|listen| replaced(&config, "bind :80", &format!("bind {listen}")))
    }

    fn behind_nginx(&self) -> Proxy {
        let config = self.config("nginx/uproar-cluster.conf");
        Proxy::nginx(|listen| {
            let config = replaced(&config, "listen 80;", &format!("listen {listen};"));
            format!("http {{ access_log off; {NGINX_DIRECTORIES} {config} }}")
        })
    }

    /// A file of `contrib`, with the addresses of these nodes.
    fn config(&self, file: &str) -> String {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("contrib").join(file);
        let config = fs::read_to_string(path).unwrap();
        let addresses = ["10.0.0.1:8080", "10.0.0.2:8080", "10.0.0.3:8080"];
        let servers = addresses.iter().zip(&self.servers);
        servers
            .fold(config, |config, (address, server)| replaced(&config, address, &server.address.to_string()))
    }

    fn number_of(&self, client: &Client) -> usize {
        self.epochs.iter().position(|epoch| *epoch == client.epoch).expect("a node")
    }

    /// The next client that comes to this node.
    fn client_of(&self, number: usize, balancer: SocketAddr) -> Client {
        let mut others = Vec::new();
        loop {
            let client = Client::enter(balancer);
            if self.number_of(&client) == number {
                return client;
            }
            others.push(client);
            assert!(others.len() < 10, "the balancer leaves node {number} out");
        }
    }
}

fn replaced(text: &str, from: &str, to: &str) -> String {
    assert!(text.contains(from), "no {from}");
    text.replace(from, to)
}

/// A client of the chat.
struct Client {
    stream: TcpStream,
    epoch: String,
}

impl Client {
    fn enter(address: SocketAddr) -> Self {
        let mut stream = connect_from(Ipv4Addr::LOCALHOST, address);
        stream.write_all(upgrade_request("/chat", "").as_bytes()).unwrap();
        let received = read_to(&mut stream, "\"epoch\":\"");
        assert!(received.starts_with("HTTP/1.1 101 "), "{received}");
        let (_, rest) = received.split_once("\"epoch\":\"").expect("it was read");
        let mut epoch = rest.to_owned();
        if !epoch.contains('"') {
            epoch.push_str(&read_to(&mut stream, "\""));
        }
        let (epoch, _) = epoch.split_once('"').expect("it was read");
        Self { stream, epoch: epoch.to_owned() }
    }

    /// Fails unless its node answers it.
    fn assert_connected(&mut self) {
        // Masked with zeros: {"type":"get_stats"}
        self.stream.write_all(b"\x81\x94\0\0\0\0{\"type\":\"get_stats\"}").unwrap();
        read_to(&mut self.stream, "\"type\":\"stats\"");
    }

    fn wait_for_end(&mut self) {
        let mut bytes = [0; 4096];
        loop {
            match self.stream.read(&mut bytes) {
                Ok(0) => return,
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return,
                Err(error) => panic!("the connection stays: {error}"),
            }
        }
    }
}
