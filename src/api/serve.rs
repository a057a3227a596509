//! The connections of the interface: accepts them, and serves HTTP/1.1 within the limits below.
//!
//! A caller that keeps a connection open for its next request must not keep others out: when there are as many as allowed, the
//! one that has been idle longest is closed for a new one. When all are busy, the new one is answered with 429. At most
//! [`REFUSALS_MAX`] connections are answered so at the same time; beyond that, a new one is closed at once.

use std::convert::Infallible;
use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{Request, Response};
use axum::response::IntoResponse as _;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tower::ServiceExt as _;
use tracing::debug;
use uproar_protocol::tls::ServerConfig;

use super::access::Peer;
use super::body::BATCH_BYTES_MAX;
use super::listener::ApiListener;
use super::open_connections::{CONNECTIONS_MAX, ConnectionPermit, Connections};
use super::problem::{Problem, ProblemKind};
use super::router::EVERYWHERE;
use crate::handshake::Intake;
use crate::metrics::ApiMetrics;

/// The most connections without a permit that are being answered with 429.
const REFUSALS_MAX: usize = 32;

/// The time for a request head, from the end of the request before; for a TLS handshake; and for all of a refusal.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a peer may take no byte of what waits for it. A backend that pauses is not cut off by that, and one that is gone
/// does not keep its connection.
const STALL_MAX: Duration = Duration::from_secs(300);

/// The longest request head in bytes.
const HEAD_BYTES_MAX: usize = 16 << 10;

/// The most fields in a request head.
const HEAD_FIELDS_MAX: usize = 64;

/// The time that requests under way, and the rest of event streams, have from [`Intake::Closed`]: shards have ended by then, and
/// answers come at once. A caller that does not send the rest of its body, or does not read, must not hold up the end of the
/// server, which has 3 s.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// The most bytes that are read behind the last answer of a connection: the rest of a body that was refused. As the longest body.
const LINGER_BYTES_MAX: usize = BATCH_BYTES_MAX;

/// The most of them that are read at once.
const LINGER_READ_BYTES: usize = 16 << 10;

/// The time for them.
const LINGER_TIMEOUT: Duration = Duration::from_secs(5);

/// How long to wait when there is no descriptor for a new connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The TLS configuration, which may change.
pub(super) type TlsWatch = watch::Receiver<Option<Arc<ServerConfig>>>;

/// Accepts connections until [`Intake::Closed`], and then lets requests under way end.
pub(super) async fn serve(
    listener: &ApiListener,
    tls: Option<TlsWatch>,
    router: Router,
    metrics: Arc<ApiMetrics>,
    mut intake: watch::Receiver<Intake>,
) -> io::Result<()> {
    let accepting = AnyListener::of(listener)?;
    let connections = Connections::new(Arc::clone(&metrics));
    let refusals = Arc::new(Semaphore::new(REFUSALS_MAX));
    loop {
        let accepted = tokio::select! {
            biased;
            () = closed(&mut intake) => break,
            accepted = accepting.accept() => accepted,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                debug!(%error, "the API cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let tls = tls.as_ref().and_then(|tls| tls.borrow().clone());
        match connections.enter() {
            Some(permit) => {
                let connection = Connection {
                    permit: Arc::new(permit),
                    router: router.clone(),
                    peer,
                    intake: intake.clone(),
                };
                tokio::spawn(connection.run(stream, tls));
            }
            None => {
                metrics.connections_refused.add(1);
                // Otherwise it is closed without an answer.
                if let Ok(permit) = Arc::clone(&refusals).try_acquire_owned() {
                    tokio::spawn(refuse(stream, tls, permit, intake.clone()));
                }
            }
        }
    }
    drop(accepting);
    // The rest is cut off when the runtime ends.
    let _ = timeout(CLOSE_TIMEOUT, connections.wait_until_empty()).await;
    Ok(())
}

/// Waits for [`Intake::Closed`].
async fn closed(intake: &mut watch::Receiver<Intake>) {
    // It fails when the server has ended.
    let _ = intake.wait_for(|intake| *intake == Intake::Closed).await;
}

/// A connection that has a permit.
struct Connection {
    permit: Arc<ConnectionPermit>,
    router: Router,
    peer: Peer,
    intake: watch::Receiver<Intake>,
}

impl Connection {
    /// Serves it to its end, or until it is closed for another one. It is idle then, or its caller does not read: a request that
    /// was begun is not cut off, and one that is not read yet had no effect.
    async fn run(self, stream: AnyStream, tls: Option<Arc<ServerConfig>>) {
        let permit = Arc::clone(&self.permit);
        let stream = SocketWatch { stream, permit: Arc::clone(&permit) };
        tokio::select! {
            biased;
            () = permit.asked_to_close() => {}
            () = self.serve(Box::new(stream), tls) => {}
        }
    }

    async fn serve(mut self, stream: AnyStream, tls: Option<Arc<ServerConfig>>) {
        let secured = tokio::select! {
            biased;
            () = closed(&mut self.intake) => return,
            secured = secure(stream, tls) => secured,
        };
        let Some(mut stream) = secured else { return };
        self.serve_http(&mut stream).await;
        tokio::select! {
            biased;
            () = closed(&mut self.intake) => {}
            () = linger(&mut stream) => {}
        }
    }

    async fn serve_http(&mut self, stream: &mut AnyStream) {
        let service = service_fn(|request| answer(request, self.router.clone(), self.peer, &self.permit));
        let mut serving = pin!(http().serve_connection(TokioIo::new(stream), service));
        let ended = tokio::select! {
            biased;
            () = closed(&mut self.intake) => None,
            ended = &mut serving => Some(ended),
        };
        let ended = match ended {
            Some(ended) => ended,
            // hyper would wait for the first request of a new connection.
            None if self.permit.is_idle() => return,
            None => {
                // It ends behind its request.
                serving.as_mut().graceful_shutdown();
                match timeout(CLOSE_TIMEOUT, serving).await {
                    Ok(ended) => ended,
                    Err(_) => return debug!("a caller of the API has not read its answer"),
                }
            }
        };
        if let Err(error) = ended {
            debug!(%error, "a connection of the API has failed");
        }
    }
}

/// Answers a request, unless its connection is being closed for another one.
async fn answer(
    mut request: Request<Incoming>,
    router: Router,
    peer: Peer,
    permit: &Arc<ConnectionPermit>,
) -> Result<Response<Body>, Evicted> {
    let under_way = permit.begin_request().ok_or(Evicted)?;
    request.extensions_mut().insert(peer);
    request.extensions_mut().insert(Arc::clone(permit));
    let Ok(response) = router.oneshot(request.map(Body::new)).await;
    // The request is under way until its answer has ended: a stream of events may last for long.
    Ok(response.map(|body| {
        Body::new(body.map_frame(move |frame| {
            let _ = &under_way;
            frame
        }))
    }))
}

/// Ends a connection in front of a request that was not begun.
#[derive(Debug, thiserror::Error)]
#[error("the connection is closed for another one")]
struct Evicted;

/// Answers the first request of a connection that has no permit with 429, whatever it is.
async fn refuse(
    stream: AnyStream,
    tls: Option<Arc<ServerConfig>>,
    _permit: OwnedSemaphorePermit,
    mut intake: watch::Receiver<Intake>,
) {
    let refusing = async {
        let Some(mut stream) = secure(stream, tls).await else { return };
        let service = service_fn(async |_: Request<Incoming>| Ok::<_, Infallible>(full()));
        let serving = http().keep_alive(false).serve_connection(TokioIo::new(&mut stream), service);
        if let Err(error) = serving.await {
            debug!(%error, "a connection of the API has failed");
        }
        linger(&mut stream).await;
    };
    tokio::select! {
        biased;
        () = closed(&mut intake) => {}
        // In time or not, it has ended.
        _ = timeout(HEAD_TIMEOUT, refusing) => {}
    }
}

fn full() -> Response<Body> {
    let detail = format!("{CONNECTIONS_MAX} connections have a request under way");
    let mut response = Problem::new(ProblemKind::Busy, detail).into_response();
    response.headers_mut().extend(EVERYWHERE);
    response
}

fn http() -> http1::Builder {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(HEAD_BYTES_MAX)
        .max_headers(HEAD_FIELDS_MAX);
    http
}

/// Does the TLS handshake, if there is one. `None` if it fails, or takes too long.
async fn secure(stream: AnyStream, tls: Option<Arc<ServerConfig>>) -> Option<AnyStream> {
    let Some(config) = tls else { return Some(stream) };
    let accepted = timeout(HEAD_TIMEOUT, TlsAcceptor::from(config).accept(stream)).await;
    Some(Box::new(accepted.ok()?.ok()?))
}

/// Reads what a caller still sends behind its last answer, within limits. A socket that is closed with bytes unread is reset, and
/// the caller could lose the answer, or not get as far as to read it (RFC 9112, 9.6).
async fn linger(stream: &mut AnyStream) {
    let reading = async {
        let ended = poll_fn(|cx| Pin::new(&mut *stream).poll_shutdown(cx)).await;
        let mut space = vec![0; LINGER_READ_BYTES];
        let mut left = if ended.is_ok() { LINGER_BYTES_MAX } else { 0 };
        while left > 0 {
            let mut buffer = ReadBuf::new(&mut space);
            let read = poll_fn(|cx| Pin::new(&mut *stream).poll_read(cx, &mut buffer)).await;
            if read.is_err() || buffer.filled().is_empty() {
                return;
            }
            left = left.saturating_sub(buffer.filled().len());
        }
    };
    // In time or not, it has ended.
    let _ = timeout(LINGER_TIMEOUT, reading).await;
}

/// A TCP or unix stream.
trait Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send + 'static> Stream for T {}

type AnyStream = Box<dyn Stream>;

/// A socket that notes when it takes bytes of an answer, and when it has all of them: then hyper, or TLS between, flushes it.
struct SocketWatch {
    stream: AnyStream,
    permit: Arc<ConnectionPermit>,
}

impl SocketWatch {
    fn note_written(&self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let Poll::Ready(Ok(1..)) = written {
            self.permit.note_written();
        }
        written
    }
}

impl AsyncRead for SocketWatch {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for SocketWatch {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.note_written(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        self.note_written(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
        self.permit.note_flushed();
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

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

    async fn accept(&self) -> io::Result<(AnyStream, Peer)> {
        match self {
            Self::Tcp(listener) => {
                let (stream, address) = listener.accept().await?;
                // Answers are short, and a caller waits for each of them.
                let _ = stream.set_nodelay(true);
                // Also for a peer that answers and does not read (tcp(7), TCP_USER_TIMEOUT). A process on this machine that is gone
                // closes its unix socket.
                let _ = SockRef::from(&stream).set_tcp_user_timeout(Some(STALL_MAX));
                Ok((Box::new(stream), Peer(Some(address))))
            }
            Self::Unix(listener) => {
                let (stream, _) = listener.accept().await?;
                Ok((Box::new(stream), Peer(None)))
            }
        }
    }
}
