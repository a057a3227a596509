//! The library's server without a descriptor to spare. In a file of its own, because it lowers the process's
//! limit.

#![allow(clippy::unwrap_used)]

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio::time::timeout;
use tracing_subscriber::fmt::MakeWriter;
use uproar_websocket::{ListenOptions, listen, start};

const PATIENCE: Duration = Duration::from_secs(20);

/// Sends each line of the log.
#[derive(Clone)]
struct Lines(UnboundedSender<String>);

impl Write for Lines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        // Fails when the test is over.
        let _ = self.0.send(String::from_utf8_lossy(line).into_owned());
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

fn socket() -> socket2::Socket {
    socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap()
}

/// Reads the greeting with which the server begins.
async fn greeted(client: socket2::Socket) {
    let request = "GET / HTTP/1.1\r\nHost: there\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
        Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    let greeted = move || {
        let mut client = TcpStream::from(client);
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        client.write_all(request.as_bytes()).unwrap();
        let mut received = Vec::new();
        while !received.ends_with(b"\r\n\r\n\x81\x05hello") {
            let mut byte = [0];
            client.read_exact(&mut byte).unwrap();
            received.extend(byte);
        }
    };
    tokio::task::spawn_blocking(greeted).await.unwrap();
}

#[test]
fn a_lack_of_descriptors_is_waited_out_and_said_once_a_second() {
    let (sender, mut lines) = unbounded_channel();
    tracing_subscriber::fmt().with_ansi(false).with_writer(Lines(sender)).init();
    let test = async {
        let greet = |socket: uproar_websocket::Socket| async move {
            socket.write("hello").await.unwrap();
        };
        let server = listen("127.0.0.1:0", ListenOptions::default(), greet).unwrap();
        let address = SocketAddr::from(([127, 0, 0, 1], server.local_addr().port())).into();
        let (early, first, late) = (socket(), socket(), socket());
        early.connect(&address).unwrap();
        greeted(early).await;

        // From now on no descriptor can be opened; those that are open stay. The accept that is under way was
        // submitted under the old limit, which the kernel reads when it takes the submission.
        let limit = getrlimit(Resource::Nofile);
        setrlimit(Resource::Nofile, Rlimit { current: Some(0), ..limit }).unwrap();
        first.connect(&address).unwrap();
        late.connect(&address).unwrap();
        // The second line stands for all the attempts of the second that has passed.
        for is_expected in [|failures| failures == 1, |failures: u64| failures > 1] {
            let line = lines.recv().await.unwrap();
            assert!(line.contains("WARN") && line.contains("ulimit -n"), "{line}");
            let failures = line.split_once("failures=").unwrap().1;
            let failures = failures.trim_end().split(' ').next().unwrap().parse().unwrap();
            assert!(is_expected(failures), "{line}");
        }
        setrlimit(Resource::Nofile, limit).unwrap();
        greeted(first).await;
        greeted(late).await;
    };
    start(async { timeout(PATIENCE, test).await.expect("the test hangs") });
}
