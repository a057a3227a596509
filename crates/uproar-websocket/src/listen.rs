//! A server: listens, serves until it is closed.

use std::future::Future;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::rc::Rc;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_uring::net::TcpListener;

use super::accept::{Gate, accept};
use super::bind::bind;
use super::error::{Failure, ListenError};
use super::listen_options::ListenOptions;
use super::message::Close;
use super::places::Places;
use super::request::Request;
use super::socket::Socket;
use super::writer::Writer;

/// What a server does with open sockets when it closes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenSockets {
    /// Their handlers go on until they end by themselves.
    Finish,
    /// They are sent a close with 1001, whose answer their handlers read. Connections without an upgrade are cut off.
    Close,
}

/// A server at work. Dropping it stops accepting, as [`Server::close`] does, and leaves open sockets alone.
#[derive(Debug)]
pub struct Server {
    local_addr: SocketAddr,
    gate: Rc<Gate>,
    places: Rc<Places>,
    accepting: JoinHandle<()>,
}

/// Serves WebSockets at `address`, such as `127.0.0.1:8080`, `[::1]:8080`, `localhost:8080`, or `:8080` for all
/// addresses of this machine, IPv6 and IPv4; port 0 is any that is free. Of a name with several addresses, it is
/// the first one that this machine has. `handler` is called with each socket, and the connection ends when it
/// returns.
///
/// Every upgrade is accepted, whatever its path, and from whatever page a browser sends it; all other requests are
/// answered with 400 or 426. To check requests first, use [`serve`].
///
/// To be called on a tokio-uring runtime, on whose thread everything stays. A program serves on several cores by
/// listening at the same address on several threads:
///
/// ```no_run
/// use uproar_websocket::{ListenError, ListenOptions, listen, start};
///
/// let serve = || {
///     start(async {
///         let options = ListenOptions { reuse_port: true, ..ListenOptions::default() };
///         let _server = listen("127.0.0.1:8080", options, |socket| async move { drop(socket) })?;
///         std::future::pending::<Result<(), ListenError>>().await
///     })
/// };
/// let threads: Vec<_> = (0..4).map(|_| std::thread::spawn(serve)).collect();
/// for thread in threads {
///     thread.join().expect("a handler's panic ends its connection alone")?;
/// }
/// # Ok::<(), ListenError>(())
/// ```
///
/// On one core:
///
/// ```
/// use uproar_websocket::{ListenOptions, OpenSockets, listen};
///
/// tokio_uring::start(async {
///     let server = listen("127.0.0.1:0", ListenOptions::default(), |mut socket| async move {
///         while let Ok(Some(message)) = socket.read().await {
///             if message.is_data() && socket.write(message).await.is_err() {
///                 break;
///             }
///         }
///     })?;
///     println!("ws://{}", server.local_addr());
///     server.close(OpenSockets::Close, std::time::Duration::from_secs(1)).await;
///     Ok::<(), uproar_websocket::ListenError>(())
/// })?;
/// # Ok::<(), uproar_websocket::ListenError>(())
/// ```
///
/// # Errors
///
/// A [`ListenError`].
///
/// # Panics
///
/// Outside of a tokio-uring runtime.
pub fn listen<H, F>(address: &str, options: ListenOptions, handler: H) -> Result<Server, ListenError>
where
    H: Fn(Socket) -> F + 'static,
    F: Future<Output = ()> + 'static,
{
    let handler = Rc::new(handler);
    serve(address, options, move |request| {
        let handler = Rc::clone(&handler);
        async move {
            if let Some(socket) = request.upgrade().await {
                handler(socket).await;
            }
        }
    })
}

/// Serves requests at `address`: as [`listen`], but `handler` decides about each [`Request`]. The
/// connection ends when `handler` returns.
///
/// A browser lets any page open a WebSocket to any server, and says in `Origin` which page it was (RFC 6455,
/// section 10.2): a server that identifies its users by cookies must check it.
///
/// ```
/// use uproar_websocket::{ListenOptions, Response, Socket, StatusCode, serve};
///
/// /// Whose token this is, as some database knows.
/// async fn user_of(token: &str) -> Option<String> {
///     token.strip_prefix("Bearer ").map(str::to_owned)
/// }
///
/// async fn chat(user: String, socket: Socket) {
///     let _ = socket.write(format!("welcome, {user}")).await;
/// }
///
/// tokio_uring::start(async {
///     let server = serve("127.0.0.1:0", ListenOptions::default(), |request| async move {
///         let forbidden = Response::text(StatusCode::FORBIDDEN, "Forbidden");
///         let Some(token) = request.head().only_value("authorization").map(str::to_owned) else {
///             return request.respond(&forbidden).await;
///         };
///         let Some(user) = user_of(&token).await else {
///             println!("{} has the token of nobody", request.peer_address());
///             return request.respond(&forbidden).await;
///         };
///         if let Some(socket) = request.upgrade().await {
///             chat(user, socket).await;
///         }
///     })?;
///     println!("ws://{}", server.local_addr());
///     Ok::<(), uproar_websocket::ListenError>(())
/// })?;
/// # Ok::<(), uproar_websocket::ListenError>(())
/// ```
///
/// # Errors
///
/// A [`ListenError`].
///
/// # Panics
///
/// Outside of a tokio-uring runtime.
pub fn serve<H, F>(address: &str, options: ListenOptions, handler: H) -> Result<Server, ListenError>
where
    H: Fn(Request) -> F + 'static,
    F: Future<Output = ()> + 'static,
{
    options.check()?;
    let listener = bind(address, &options)?;
    let clone = |listener: &StdListener| Ok((listener.local_addr()?, listener.try_clone()?));
    let (local_addr, kept) =
        clone(&listener).map_err(|source| ListenError::Address { address: address.to_owned(), source })?;
    let (gate, places) = (Gate::new(kept), Places::new(options));
    let listener = TcpListener::from_std(listener);
    let accepting =
        tokio_uring::spawn(accept(Rc::clone(&gate), Rc::clone(&places), listener, Rc::new(handler)));
    Ok(Server { local_addr, gate, places, accepting })
}

impl Server {
    /// The address, with the port that was found if none was asked for.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// How many connections there are.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.places.taken()
    }

    /// Stops accepting at once, and waits until all connections have ended and all handlers have returned, for at
    /// most `within`. Connections that are still there then are cut off. Returns their number.
    pub async fn close(mut self, open: OpenSockets, within: Duration) -> usize {
        self.gate.close();
        // It fails for an accepting task that has panicked, which accepts no more either.
        let _ = (&mut self.accepting).await;
        if open == OpenSockets::Close {
            let going_away = Close { code: 1001, reason: "server shutting down".to_owned() };
            for (link, is_upgraded) in self.places.links() {
                if is_upgraded {
                    // It fails for one that has closed or failed already.
                    let _ = Writer::new(link, &self.places.options.socket).close(Some(&going_away));
                } else {
                    link.fail(Failure::Ended);
                }
            }
        }
        if timeout(within, self.places.all_vacated()).await.is_ok() {
            return 0;
        }
        let count = self.connections();
        self.places.links().iter().for_each(|(link, _)| link.fail(Failure::Ended));
        count
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.gate.close();
    }
}
