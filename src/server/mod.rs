//! The server: listener, threads, signals, shutdown, and [`Server`], the handle of a server in this process.
//!
//! The binary is a few lines around it: [`cli`] reads a [`Config`] from flags, environment and file, [`preflight`]
//! checks whether the machine can run it, and [`run`] serves until a signal stops it.
//!
//! # The flow
//!
//! A server is a set of shards, one thread on one core each, which share nothing but counters, and a few acceptor
//! threads beside them.
//!
//! ```text
//!                                  an acceptor
//!             ┌────────────────────────────────────────────────────────┐
//!  TCP ──────►│ accept → TLS → head → route → page, health, or upgrade │  a task for each connection
//!             └────────────────────────────────────────┬───────────────┘
//!                                                      │ admission, to the shard with the fewest connections
//!                                   a shard            │
//!             ┌────────────────────────────────────────┼───────────────┐
//!             │          ring ──► completion ──────────▼               │  one loop for all
//!  frames ◄──►│   ▲                  │               Shard             │
//!             │   │                  ▼                                 │
//!             │   │       connection → dialect → command               │
//!             │   │                                 │ request          │
//!             │   │                  home of the room (rooms)          │◄──► mesh ◄──► other
//!             │   │                                 │ delivery         │              shards
//!             │   └─ submission ◄─ out-queues ◄─ encode once           │
//!             └────────────────────────────────────────────────────────┘
//! ```
//!
//! - [`handshake`] does what happens once for each connection, with [`uproar_protocol`] to parse requests.
//! - [`shard::event_loop`] does what happens for each message. It waits, collects completions from its [`uproar_ring`],
//!   steps the state machine [`shard::Shard`], and submits its operations.
//! - [`dialect`] turns messages into commands and events into bytes; [`rooms`] knows rooms, and no sockets.
//!   Each room has one home shard, to which everything that changes it is sent as a [`rooms::Request`], and
//!   which answers every shard that has members with a [`rooms::Delivery`], through the [`mesh`].
//! - [`uproar_ring`] is the only crate with unsafe code.
//!
//! Imports point downwards in this list. [`shard::Shard`], [`rooms::Homes`] and everything in [`uproar_protocol`] and
//! [`dialect`] are values: bytes, events and the time go in, bytes and events come out, and nothing waits.
//!
//! # Embedding
//!
//! A program can run the server itself, and publish without HTTP:
//!
//! ```no_run
//! use uproar::config::Config;
//! use uproar::server::Server;
//!
//! # async fn serve() -> Result<(), Box<dyn std::error::Error>> {
//! let config = Config { listen: ([127, 0, 0, 1], 0).into(), ..Config::default() };
//! let server = Server::start(config)?;
//! println!("at http://{}", server.local_addr());
//! let published = server.publish("general", "The doors are open.").await?;
//! println!("message {} for {} users", published.message_id, server.stats().users_online);
//! server.shutdown().await?;
//! # Ok(())
//! # }
//! ```
//!
//! `docs/embedding.md` has more of it. The binary uses [`run`], which handles signals.
//!
//! [`cli`]: crate::cli
//! [`preflight`]: crate::preflight
//! [`Config`]: crate::config::Config
//! [`handshake`]: crate::handshake
//! [`rooms`]: crate::rooms
//! [`rooms::Homes`]: crate::rooms::Homes
//! [`rooms::Request`]: crate::rooms::Request
//! [`rooms::Delivery`]: crate::rooms::Delivery
//! [`shard::event_loop`]: crate::shard::event_loop
//! [`shard::Shard`]: crate::shard::Shard
//! [`dialect`]: crate::dialect
//! [`mesh`]: crate::mesh

mod acceptors;
mod control;
mod controls;
mod error;
mod handle;
mod hooks;
mod lead_thread;
mod listener;
mod process;
mod reloaded_files;
mod shards;
pub mod shutdown;
mod stored;
mod strangers;
mod thread_context;

pub use error::ServerError;
pub use handle::Server;
pub use hooks::Hooks;
pub use process::run;
