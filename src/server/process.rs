//! The server as a process of its own: its signals are the orders.

use std::io;
use std::iter;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;
use tracing::{info, warn};

use super::error::ServerError;
use super::lead_thread::{Lead, Order};
use crate::config::Config;
use crate::preflight::Capacity;

/// Runs the server until a signal stops it: SIGINT or SIGTERM shut it down, and a second one cuts that short. SIGHUP reads
/// files again. `announce` is called once, when every thread serves. Confines the calling thread to the cores of the
/// configuration.
///
/// # Errors
///
/// [`ServerError`], which says what to do.
pub fn run(
    config: &Config,
    capacity: Capacity,
    announce: impl FnOnce(SocketAddr),
) -> Result<(), Arc<ServerError>> {
    let failed = |error: io::Error| Arc::new(ServerError::Start(error));
    config.placement.confine().map_err(failed)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
    runtime.block_on(async {
        let mut signals = Signals::take_over().map_err(failed)?;
        let mut config = config.clone();
        let mut announce = Some(announce);
        loop {
            let mut served_at = None;
            let announced = |address: SocketAddr| {
                served_at = Some(address);
                match announce.take() {
                    Some(announce) => announce(address),
                    None => info!(%address, "this server serves again"),
                }
            };
            match (serve(config.clone(), capacity, &mut signals, announced).await, served_at) {
                (Err(error), Some(address)) if error.may_begin_anew() => {
                    warn!("this server begins anew");
                    // It is found where it was.
                    config.listen = address;
                }
                (outcome, _) => return outcome,
            }
        }
    })
}

/// Runs one server until it ends.
async fn serve(
    config: Config,
    capacity: Capacity,
    signals: &mut Signals,
    announce: impl FnOnce(SocketAddr),
) -> Result<(), Arc<ServerError>> {
    let (announce_start, mut started) = oneshot::channel();
    // Where the receiver is gone, the process has ended.
    let announce_start = move |started| drop(announce_start.send(started));
    let lead = Lead::spawn(config, Some(capacity), None, announce_start)
        .map_err(|error| Arc::new(ServerError::Start(error)))?;
    let mut announce = Some(announce);
    // A second signal is one too many.
    let mut orders = [Order::Shutdown].into_iter().chain(iter::repeat(Order::Interrupt));
    let mut end = || orders.next().into_iter().for_each(|order| lead.give(order));
    loop {
        tokio::select! {
            // A server that has failed to start says so first, and then ends.
            biased;
            started = &mut started, if announce.is_some() => match (started, announce.take()) {
                (Ok(Ok(started)), Some(announce)) => announce(started.address),
                (Ok(Err(error)), _) => return Err(Arc::new(error)),
                // It was shut down before; see its outcome.
                (Err(_), _) | (Ok(_), None) => {}
            },
            outcome = lead.wait() => return match started.try_recv() {
                // It came in between, and says more.
                Ok(Err(error)) => Err(Arc::new(error)),
                Ok(Ok(_)) | Err(_) => outcome,
            },
            _ = signals.interrupt.recv() => end(),
            _ = signals.terminate.recv() => end(),
            _ = signals.hangup.recv() => lead.give(Order::Reload),
        }
    }
}

/// The signals that the server handles.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
    /// Reads files again. By default SIGHUP ends a process.
    hangup: Signal,
}

impl Signals {
    fn take_over() -> io::Result<Self> {
        // With a handler instead of the default, which ends the process, a write beyond RLIMIT_FSIZE fails like one
        // to a full disk (setrlimit(2)). tokio keeps the handler when the stream is dropped.
        drop(signal(SignalKind::from_raw(rustix::process::Signal::XFSZ.as_raw()))?);
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }
}
