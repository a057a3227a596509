//! A server whose faults are known: it passes every broadcast on to all of its clients a fixed time after it
//! has read it, and leaves out one delivery in so many. Whoever measures it must read both back.
//!
//! It polls, never sleeps, and does nothing else, so that it wants a core to itself; and it notes how long
//! each delivery really was held. It answers `GET /healthz`, so that `loadgen ab` can start it. At SIGTERM it prints that as JSON, which is the truth that a measurement is
//! held against.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Write};
use std::net::{TcpListener, TcpStream};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use loadgen::timings::histogram;
use signal_hook::consts::SIGTERM;
use tungstenite::{Error, Message, WebSocket};

const USAGE: &str = "usage: faulty_server DELAY DROP_ONE_IN [ADDRESS]    (such as 100ms 0; 0 drops none; default 127.0.0.1:0)";
const HEALTH: &[u8] = b"GET /healthz ";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let parsed = match &arguments[..] {
        [delay, drop_one_in, address @ ..] if address.len() <= 1 => {
            let address = address.first().map_or("127.0.0.1:0", String::as_str);
            humantime::parse_duration(delay).ok().zip(drop_one_in.parse().ok()).zip(Some(address))
        }
        _ => None,
    };
    let Some(((delay, drop_one_in), address)) = parsed else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    match FaultyServer::listen(address, delay, drop_one_in).and_then(FaultyServer::run) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("faulty_server: {error}");
            ExitCode::FAILURE
        }
    }
}

struct FaultyServer {
    delay: Duration,
    drop_one_in: u64,
    listener: TcpListener,
    clients: Vec<WebSocket<TcpStream>>,
    /// What was read, and when, in this order.
    held: VecDeque<(Instant, Message)>,
    deliveries: u64,
    /// How long deliveries were held, in nanoseconds.
    held_ns: Histogram<u64>,
}

impl FaultyServer {
    fn listen(address: &str, delay: Duration, drop_one_in: u64) -> io::Result<Self> {
        let listener = TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        println!("listening on http://{}", listener.local_addr()?);
        io::stdout().flush()?;
        Ok(Self {
            delay,
            drop_one_in,
            listener,
            clients: Vec::new(),
            held: VecDeque::new(),
            deliveries: 0,
            held_ns: histogram(),
        })
    }

    fn run(mut self) -> io::Result<()> {
        let stop = Arc::new(AtomicBool::new(false));
        signal_hook::flag::register(SIGTERM, Arc::clone(&stop))?;
        while !stop.load(Ordering::Relaxed) {
            self.accept()?;
            self.receive();
            self.deliver_due();
        }
        let quantile_ns = |quantile| self.held_ns.value_at_quantile(quantile);
        let held = serde_json::json!({
            "deliveries": self.held_ns.len(),
            "p50_ns": quantile_ns(0.5),
            "p99_ns": quantile_ns(0.99),
            "max_ns": self.held_ns.max(),
        });
        println!("{held}");
        Ok(())
    }

    /// Takes who wants to connect. Their upgrade is awaited: nothing is measured before all are there.
    fn accept(&mut self) -> io::Result<()> {
        loop {
            let mut stream = match self.listener.accept() {
                Ok((stream, _)) => stream,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            };
            stream.set_nonblocking(false)?;
            stream.set_nodelay(true)?;
            let mut start = [0; HEALTH.len()];
            if stream.peek(&mut start).is_ok() && start == *HEALTH {
                // Who asked may have gone; the next will ask again.
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
                continue;
            }
            if let Ok(client) = tungstenite::accept(stream) {
                client.get_ref().set_nonblocking(true)?;
                self.clients.push(client);
            }
        }
    }

    fn receive(&mut self) {
        let held = &mut self.held;
        self.clients.retain_mut(|client| match client.read() {
            Ok(message @ (Message::Binary(_) | Message::Text(_))) => {
                held.push_back((Instant::now(), message));
                true
            }
            Ok(_) => true,
            Err(Error::Io(error)) => error.kind() == ErrorKind::WouldBlock,
            Err(_) => false,
        });
    }

    fn deliver_due(&mut self) {
        while let Some((read_at, message)) = self.held.front()
            && read_at.elapsed() >= self.delay
        {
            self.clients.retain_mut(|client| {
                self.deliveries += 1;
                if self.drop_one_in > 0 && self.deliveries.is_multiple_of(self.drop_one_in) {
                    return true;
                }
                self.held_ns.saturating_record(read_at.elapsed().as_nanos() as u64);
                client.send(message.clone()).is_ok()
            });
            self.held.pop_front();
        }
    }
}
