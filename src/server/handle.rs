//! The handle of a server in this process.

use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, mpsc};

use super::error::ServerError;
use super::hooks::Hooks;
use super::lead_thread::{Lead, Order, Plan, Started};
use crate::api::{LocalBackend, Message, Payload, PublishError, Published, Stats};
use crate::config::{ApiAddress, Config};

/// A server in this process.
///
/// It has threads of its own: it runs whether or not the program waits for it, needs no async runtime, and installs no
/// signal handler. Several servers can run in one process. Dropping the handle begins a shutdown in order, without waiting
/// for it.
pub struct Server {
    lead: Lead,
    local_addr: SocketAddr,
    api_addr: Option<ApiAddress>,
    backend: LocalBackend,
}

impl Server {
    /// Checks the configuration and the machine, starts the server, and returns when all its threads serve. It blocks the
    /// calling thread meanwhile, mostly for milliseconds; with `data`, as long as it takes to read the history.
    ///
    /// # Errors
    ///
    /// [`ServerError`], which says what to do.
    pub fn start(config: Config) -> Result<Self, ServerError> {
        Self::start_inner(config, None)
    }

    /// As [`Server::start`], with hooks that are told what happens: a closure for messages, or a value with [`Hooks`].
    ///
    /// # Errors
    ///
    /// [`ServerError`], which says what to do.
    pub fn start_with_hooks(config: Config, hooks: impl Hooks) -> Result<Self, ServerError> {
        Self::start_inner(config, Some(Box::new(hooks)))
    }

    fn start_inner(config: Config, hooks: Option<Box<dyn Hooks>>) -> Result<Self, ServerError> {
        let (announce, announced) = mpsc::sync_channel(1);
        // The receiver waits below.
        let plan = Plan { hooks, ..Plan::new(config) };
        let lead = Lead::spawn(plan, move |started| drop(announce.send(started)))?;
        let started = announced.recv().map_err(|_| ServerError::Lead)?;
        let Started { address, api_address, backend } = started?;
        Ok(Self { lead, local_addr: address, api_addr: api_address, backend })
    }

    /// Where clients connect. The kernel has chosen the port if the configuration says 0.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// Where the HTTP API listens, if it does.
    #[must_use]
    pub fn api_addr(&self) -> Option<&ApiAddress> {
        self.api_addr.as_ref()
    }

    /// Sends a chat message to a room, from System or whomever the [`Message`] names. Its sender has the id 0. A room that
    /// does not exist is opened if its name matches one of the configuration's `room_patterns`.
    ///
    /// Returns when the message is as durable as configured: without `data` when its room has ordered it, with it when it is
    /// on the disk, unless `durability` says otherwise. Messages for one room arrive in the order in which they are
    /// published, if each is awaited before the next. Dropping the future does not take the message back.
    ///
    /// It can be awaited on any runtime, and from any thread.
    ///
    /// # Errors
    ///
    /// [`PublishError`], which says what became of the message.
    pub async fn publish(&self, room: &str, message: impl Into<Message>) -> Result<Published, PublishError> {
        self.backend.publish(room, message.into()).await
    }

    /// Sends a message to a raw topic. Returns how many clients' queues have taken it: 0 where nobody listens.
    ///
    /// # Errors
    ///
    /// [`PublishError`], which says what became of the message.
    pub async fn broadcast(&self, topic: &str, payload: impl Into<Payload>) -> Result<usize, PublishError> {
        self.backend.broadcast(topic, payload.into()).await
    }

    /// The server in numbers.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.backend.stats()
    }

    /// A backend that can be cloned and given to other parts of the program. It does not keep the server running.
    #[must_use]
    pub fn backend(&self) -> LocalBackend {
        self.backend.clone()
    }

    /// Reads the files of certificates, token keys and API keys again. The log tells the outcome.
    pub fn reload(&self) {
        self.lead.give(Order::Reload);
    }

    /// Shuts the server down in order, as SIGTERM does with the `uproar` process: messages under way are answered and
    /// stored, clients are closed with 1001, and what is left after `drain_timeout` is cut off. Returns when it has ended.
    ///
    /// # Errors
    ///
    /// The failure of a thread, or [`ServerError::NotStopped`].
    pub async fn shutdown(&self) -> Result<(), Arc<ServerError>> {
        self.lead.give(Order::Shutdown);
        self.wait().await
    }

    /// Ends the server at once, also while it shuts down. Clients' connections are reset. [`Server::wait`] then returns
    /// [`ServerError::Interrupted`]; threads may still be about to end, and the data directory stays locked until they have.
    pub fn interrupt(&self) {
        self.lead.give(Order::Interrupt);
    }

    /// Waits until the server has ended: it was shut down, or one of its threads has failed.
    ///
    /// # Errors
    ///
    /// Why it has failed.
    pub async fn wait(&self) -> Result<(), Arc<ServerError>> {
        self.lead.wait().await
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { local_addr, api_addr, .. } = self;
        f.debug_struct("Server")
            .field("local_addr", local_addr)
            .field("api_addr", api_addr)
            .finish_non_exhaustive()
    }
}
