//! WebSockets for coroutines on tokio-uring, with and without TLS: a server, a client, and a socket that is the
//! same for both.
//!
//! The protocol follows RFC 6455 exactly. [`uproar_protocol::connection`] implements it as a value, which the
//! server's event loop drives, too; this crate adds sockets, tasks and time. A task for each connection is easiest
//! to write and to read; the event loop is for servers that need ten thousand connections at a few hundred
//! bytes each.
//!
//! - [`listen`] serves sockets, [`serve`] requests that may become sockets, and [`upgrade`] makes a socket of a
//!   request in a program that serves HTTP by itself;
//! - [`connect`] connects, [`Reconnecting`] does so again and again;
//! - a [`Socket`] reads and writes; each other task that writes has a [`Writer`].
//!
//! All of it belongs to the thread of one runtime, and nothing in it is `Send`. That runtime is one of tokio-uring
//! 0.5, which is a part of this interface: [`Stream::plain`] takes one of its connections.
//!
//! ```
//! use uproar_websocket::{ConnectOptions, ListenOptions, Message, connect, listen};
//!
//! tokio_uring::start(async {
//!     let server = listen("127.0.0.1:0", ListenOptions::default(), |mut socket| async move {
//!         while let Ok(Some(message)) = socket.read().await {
//!             // A ping or a close: it is answered by reading it.
//!             let Message::Text(text) = message else { continue };
//!             if socket.write(text.to_uppercase()).await.is_err() {
//!                 break;
//!             }
//!         }
//!     })?;
//!     let url = format!("ws://{}/", server.local_addr());
//!     let mut socket = connect(&url, &ConnectOptions::default()).await?;
//!     socket.write("hello").await?;
//!     assert_eq!(socket.read().await?, Some(Message::text("HELLO")));
//!     socket.close(1000, "").await?;
//!     Ok::<(), Box<dyn std::error::Error>>(())
//! })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod accept;
mod accept_failures;
mod bind;
mod connect;
mod error;
mod heartbeat;
mod link;
mod listen;
mod listen_options;
mod message;
mod options;
mod places;
mod random;
mod reconnect;
mod request;
mod runtime;
mod socket;
mod stream;
mod upgrade;
mod writer;

pub use accept_failures::AcceptFailures;
pub use connect::{ConnectOptions, connect};
pub use error::{ConnectError, Failure, ListenError, ReadError, WriteError};
pub use listen::{OpenSockets, Server, listen, serve};
pub use listen_options::ListenOptions;
pub use message::{Close, Message};
pub use options::{Heartbeat, OptionError, Options};
pub use reconnect::{Backoff, Reconnecting};
pub use request::Request;
pub use runtime::start;
pub use socket::Socket;
pub use stream::Stream;
pub use upgrade::{NotUpgraded, RequestError, receive_head, upgrade};
pub use writer::Writer;

pub use uproar_protocol::field::FieldError;
pub use uproar_protocol::frames::{Unfinished, Violation};
pub use uproar_protocol::head::{Head, HeadError, parse as parse_head};
pub use uproar_protocol::response::{Response, StatusCode};
pub use uproar_protocol::tls::config::{
    ConfigError, Sessions, Trust, client as client_tls, server as server_tls,
};
pub use uproar_protocol::upgrade::Refusal;
