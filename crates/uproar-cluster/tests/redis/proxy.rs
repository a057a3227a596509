//! A line to Redis that can break.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, UnixStream};
use tokio::sync::watch;

/// What the line does with what comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// It passes everything on.
    Open,
    /// It takes everything and passes nothing on.
    Stalled,
    /// It closes at once.
    Cut,
    /// It answers in the place of Redis.
    Rubbish,
}

/// A TCP port before a unix socket.
pub(crate) struct Proxy {
    pub(crate) port: u16,
    mode: watch::Sender<Mode>,
    socket: Arc<Mutex<PathBuf>>,
    /// Connections that were taken.
    pub(crate) taken: Arc<std::sync::atomic::AtomicUsize>,
}

impl Proxy {
    pub(crate) async fn before(socket: PathBuf) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (mode, watched) = watch::channel(Mode::Open);
        let socket = Arc::new(Mutex::new(socket));
        let taken = Arc::default();
        let proxy = Self { port, mode, socket: Arc::clone(&socket), taken: Arc::clone(&taken) };
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                taken.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                tokio::spawn(pass(near, socket.lock().unwrap().clone(), watched.clone()));
            }
        });
        proxy
    }

    pub(crate) fn set(&self, mode: Mode) {
        self.mode.send_replace(mode);
    }

    /// From now on lines lead there.
    pub(crate) fn lead_to(&self, socket: PathBuf) {
        *self.socket.lock().unwrap() = socket;
    }
}

async fn pass(mut near: tokio::net::TcpStream, socket: PathBuf, mut mode: watch::Receiver<Mode>) {
    let mut to_redis = vec![0; 1 << 16];
    let mut to_node = vec![0; 1 << 16];
    let far = if *mode.borrow() == Mode::Open { UnixStream::connect(socket).await.ok() } else { None };
    let (mut from_far, mut into_far) = match far {
        Some(far) => {
            let (from, into) = far.into_split();
            (Some(from), Some(into))
        }
        None => (None, None),
    };
    loop {
        let now = *mode.borrow_and_update();
        if now == Mode::Cut || now == Mode::Open && from_far.is_none() {
            return;
        }
        tokio::select! {
            read = near.read(&mut to_redis) => {
                let Ok(count @ 1..) = read else { return };
                let passed = match (now, &mut into_far) {
                    (Mode::Open, Some(far)) => far.write_all(&to_redis[..count]).await,
                    (Mode::Rubbish, _) => near.write_all(b"HTTP/1.1 200 OK\r\n\r\n$-7\r\n*3\r\n").await,
                    _ => Ok(()),
                };
                if passed.is_err() {
                    return;
                }
            }
            read = async { from_far.as_mut().unwrap().read(&mut to_node).await }, if from_far.is_some() => {
                let Ok(count @ 1..) = read else { return };
                if now == Mode::Open && near.write_all(&to_node[..count]).await.is_err() {
                    return;
                }
            }
            changed = mode.changed() => if changed.is_err() { return },
        }
    }
}
