//! The ring against real sockets: one end attached, the other in the test's hands.

use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::*;
use crate::shared_bytes::SharedBytes;
use crate::submission::{CloseMode, SendBatch};

mod receives;
mod sends;
mod wakes;

const LIMIT: Duration = Duration::from_secs(10);

fn small() -> Options {
    Options { submissions: 4, completions: 8, buffers: 4, buffer_bytes: 64, features: Features::ALL }
}

fn new_ring(options: Options) -> Ring {
    Ring::new(options, Waker::new().unwrap()).unwrap()
}

fn id(index: u32) -> ConnectionId {
    ConnectionId { index, generation: index + 1 }
}

fn pair() -> (OwnedFd, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let peer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    (listener.accept().unwrap().0.into(), peer)
}

/// Runs turns until `done` says so; `handle` sees every completion.
fn run(ring: &mut Ring, mut handle: impl FnMut(&mut Vec<Submission>, Completion<'_>) -> bool) {
    let start = Instant::now();
    let mut submissions = Vec::new();
    loop {
        assert!(start.elapsed() < LIMIT, "nothing more completed");
        ring.wait(Some(Duration::from_millis(50)), || false).unwrap();
        let mut done = false;
        while let Some(completion) = ring.next_completion() {
            done |= handle(&mut submissions, completion);
        }
        for submission in submissions.drain(..) {
            ring.submit(submission);
        }
        if done {
            return;
        }
    }
}

fn frame(bytes: &[u8]) -> SharedBytes {
    SharedBytes::new(Bytes::copy_from_slice(bytes))
}
