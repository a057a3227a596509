//! The connections of the interface: accepts them, and serves HTTP/1.1 within the limits below.
//!
//! A caller that keeps a connection open for its next request must not keep others out: when there are as many as allowed, the
//! one that has been idle longest is closed for a new one. When all are busy, the new one is answered with 429.

use std::convert::Infallible;
use std::io;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::http::{Request, Response};
use axum::response::IntoResponse as _;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use slab::Slab;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{Notify, watch};
use tokio_rustls::TlsAcceptor;
use tower::ServiceExt as _;
use tracing::debug;
use uproar_protocol::tls::ServerConfig;

use super::listener::ApiListener;
use super::problem::{Problem, ProblemKind};
use crate::handshake::Intake;

/// The most connections. Each has one request under way at most, so there are no more requests either.
pub(super) const CONNECTIONS_MAX: usize = 256;

/// The time for a request head, from the end of the request before; and for a TLS handshake.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// The longest request head in bytes.
const HEAD_BYTES_MAX: usize = 16 << 10;

/// The most fields in a request head.
const HEAD_FIELDS_MAX: usize = 64;

/// How long to wait when there is no descriptor for a new connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The TLS configuration, which may change.
pub(super) type TlsWatch = watch::Receiver<Option<Arc<ServerConfig>>>;

/// Accepts connections until [`Intake::Closed`], and then lets requests under way end.
pub(super) async fn serve(
    listener: &ApiListener,
    tls: Option<TlsWatch>,
    router: Router,
    mut intake: watch::Receiver<Intake>,
) -> io::Result<()> {
    let accepting = AnyListener::of(listener)?;
    let connections = Connections::default();
    loop {
        let accepted = tokio::select! {
            biased;
            // It fails when the server has ended.
            _ = intake.wait_for(|intake| *intake == Intake::Closed) => break,
            accepted = accepting.accept() => accepted,
        };
        let stream = match accepted {
            Ok(stream) => stream,
            Err(error) => {
                debug!(%error, "the API cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let place = connections.enter();
        let tls = tls.as_ref().and_then(|tls| tls.borrow().clone());
        tokio::spawn(run(stream, tls, router.clone(), place, intake.clone()));
    }
    drop(accepting);
    connections.wait_until_empty().await;
    Ok(())
}

/// Serves one connection to its end.
async fn run(
    stream: Box<dyn Stream>,
    tls: Option<Arc<ServerConfig>>,
    router: Router,
    place: Option<ConnectionPlace>,
    intake: watch::Receiver<Intake>,
) {
    match tls {
        None => run_http(stream, router, place, intake).await,
        Some(config) => {
            let accepted = tokio::time::timeout(HEAD_TIMEOUT, TlsAcceptor::from(config).accept(stream)).await;
            if let Ok(Ok(stream)) = accepted {
                run_http(stream, router, place, intake).await;
            }
        }
    }
}

async fn run_http(
    stream: impl Stream,
    router: Router,
    place: Option<ConnectionPlace>,
    mut intake: watch::Receiver<Intake>,
) {
    let service = service_fn(|request: Request<Incoming>| {
        let router = router.clone();
        let place = place.as_ref();
        async move {
            let Some(place) = place else { return Ok::<_, Infallible>(refuse_for_being_full()) };
            let _busy = place.begin_request();
            let Ok(response) = router.oneshot(request.map(Body::new)).await;
            Ok(response)
        }
    });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(HEAD_BYTES_MAX)
        .max_headers(HEAD_FIELDS_MAX)
        .keep_alive(place.is_some());
    let mut serving = pin!(http.serve_connection(TokioIo::new(stream), service));
    let closing = async {
        let Some(place) = &place else { return std::future::pending().await };
        place.asked_to_close().await;
    };
    let ended = tokio::select! {
        ended = &mut serving => Some(ended),
        () = closing => None,
        _ = intake.wait_for(|intake| *intake == Intake::Closed) => None,
    };
    let ended = match ended {
        Some(ended) => ended,
        // hyper would wait for the first request of a new connection.
        None if place.as_ref().is_none_or(ConnectionPlace::is_idle) => return,
        None => {
            // It ends behind its request.
            serving.as_mut().graceful_shutdown();
            serving.await
        }
    };
    if let Err(error) = ended {
        debug!(%error, "a connection of the API has failed");
    }
}

fn refuse_for_being_full() -> Response<Body> {
    let detail = format!("{CONNECTIONS_MAX} connections have a request under way");
    Problem::new(ProblemKind::Busy, detail).into_response()
}

/// A TCP or unix stream.
trait Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send + 'static> Stream for T {}

enum AnyListener {
    Tcp(tokio::net::TcpListener),
    Unix(tokio::net::UnixListener),
}

impl AnyListener {
    fn of(listener: &ApiListener) -> io::Result<Self> {
        match listener {
            ApiListener::Tcp(listener) => {
                let listener = listener.try_clone()?;
                listener.set_nonblocking(true)?;
                tokio::net::TcpListener::from_std(listener).map(Self::Tcp)
            }
            ApiListener::Unix(socket) => {
                let listener = socket.listener()?;
                listener.set_nonblocking(true)?;
                tokio::net::UnixListener::from_std(listener).map(Self::Unix)
            }
        }
    }

    async fn accept(&self) -> io::Result<Box<dyn Stream>> {
        match self {
            Self::Tcp(listener) => {
                let (stream, _) = listener.accept().await?;
                // Answers are short, and a caller waits for each of them.
                let _ = stream.set_nodelay(true);
                Ok(Box::new(stream))
            }
            Self::Unix(listener) => listener.accept().await.map(|(stream, _)| Box::new(stream) as _),
        }
    }
}

/// The connections that are open.
#[derive(Clone, Debug, Default)]
struct Connections(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    /// Of each, since when it is idle; `None` while it has a request.
    open: Mutex<Slab<OpenConnection>>,
    /// Notified when the last one has ended.
    empty: Notify,
}

#[derive(Debug)]
struct OpenConnection {
    idle_since: Option<Instant>,
    close: Arc<Notify>,
}

impl Shared {
    fn with_open<T>(&self, change: impl FnOnce(&mut Slab<OpenConnection>) -> T) -> T {
        // Each change is complete before anything can panic.
        change(&mut self.open.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Connections {
    /// A place for a new connection. When there are as many as allowed, the one that has been idle longest is asked to
    /// close; `None` when none is idle.
    fn enter(&self) -> Option<ConnectionPlace> {
        let close = Arc::new(Notify::new());
        let now = Instant::now();
        let index = self.0.with_open(|open| {
            if open.len() >= CONNECTIONS_MAX {
                let idle = open.iter().filter_map(|(index, it)| Some((it.idle_since?, index)));
                let (_, longest) = idle.min()?;
                open.remove(longest).close.notify_one();
            }
            Some(open.insert(OpenConnection { idle_since: Some(now), close: Arc::clone(&close) }))
        })?;
        Some(ConnectionPlace {
            shared: Arc::clone(&self.0),
            index,
            close,
            has_request: AtomicBool::new(false),
        })
    }

    async fn wait_until_empty(&self) {
        loop {
            let mut empty = pin!(self.0.empty.notified());
            empty.as_mut().enable();
            if self.0.with_open(|open| open.is_empty()) {
                return;
            }
            empty.await;
        }
    }
}

/// The place of an open connection, until it is dropped.
#[derive(Debug)]
struct ConnectionPlace {
    shared: Arc<Shared>,
    index: usize,
    close: Arc<Notify>,
    has_request: AtomicBool,
}

impl ConnectionPlace {
    /// Notes a request, which ends when the result is dropped.
    fn begin_request(&self) -> RequestUnderWay<'_> {
        self.has_request.store(true, Relaxed);
        self.set_idle(None);
        RequestUnderWay(self)
    }

    fn is_idle(&self) -> bool {
        !self.has_request.load(Relaxed)
    }

    async fn asked_to_close(&self) {
        self.close.notified().await;
    }

    /// A connection that was asked to close has lost its place.
    fn set_idle(&self, idle_since: Option<Instant>) {
        self.shared.with_open(|open| {
            if let Some(it) = open.get_mut(self.index).filter(|it| Arc::ptr_eq(&it.close, &self.close)) {
                it.idle_since = idle_since;
            }
        });
    }
}

impl Drop for ConnectionPlace {
    fn drop(&mut self) {
        let is_last = self.shared.with_open(|open| {
            if open.get(self.index).is_some_and(|it| Arc::ptr_eq(&it.close, &self.close)) {
                open.remove(self.index);
            }
            open.is_empty()
        });
        if is_last {
            self.shared.empty.notify_one();
        }
    }
}

/// A request that is being answered.
struct RequestUnderWay<'a>(&'a ConnectionPlace);

impl Drop for RequestUnderWay<'_> {
    fn drop(&mut self) {
        self.0.has_request.store(false, Relaxed);
        self.0.set_idle(Some(Instant::now()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_connection_that_has_been_idle_longest_makes_place() {
        let connections = Connections::default();
        let places: Vec<_> = (0..CONNECTIONS_MAX).map(|_| connections.enter().expect("a place")).collect();
        let first = places[0].begin_request();
        let newcomer = connections.enter().expect("the second was idle");
        places[1].asked_to_close().await;
        let _busy: Vec<_> =
            places[2..].iter().chain([&newcomer]).map(ConnectionPlace::begin_request).collect();
        assert!(connections.enter().is_none(), "all have a request");
        drop(first);
        assert!(connections.enter().is_some());
    }

    #[tokio::test]
    async fn a_connection_that_was_asked_to_close_changes_nothing_any_more() {
        let connections = Connections::default();
        let places: Vec<_> = (0..CONNECTIONS_MAX).map(|_| connections.enter().expect("a place")).collect();
        // It gets the slot of the first.
        let newcomer = connections.enter().expect("a place");
        drop(places[0].begin_request());
        let count = || connections.0.with_open(|open| open.len());
        assert_eq!(count(), CONNECTIONS_MAX);
        drop(places);
        assert_eq!(count(), 1);
        drop(newcomer);
        connections.wait_until_empty().await;
    }
}
