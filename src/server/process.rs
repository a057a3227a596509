//! The server as a process of its own: its signals are the orders.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;
use tracing::{info, warn};

use super::error::ServerError;
use super::lead_thread::{Lead, Order, Plan};
use crate::config::Config;
use crate::preflight::Capacity;

/// How long a node that could not begin anew waits before it tries it again.
const BEGIN_AGAIN_PAUSE: Duration = Duration::from_secs(1);

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
        let Plan { mut config, cluster_metrics, .. } = Plan::new(config.clone());
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
            let cluster_metrics = Arc::clone(&cluster_metrics);
            let plan =
                Plan { config: config.clone(), capacity: Some(capacity), hooks: None, cluster_metrics };
            let outcome = serve(plan, &mut signals, announced).await;
            let has_served = announce.is_none();
            match outcome {
                Err(Ended { error, is_ordered }) if has_served && error.may_begin_anew() => {
                    if is_ordered {
                        return Ok(());
                    }
                    match served_at {
                        Some(address) => {
                            warn!("this server begins anew");
                            // It is found where it was.
                            config.listen = address;
                        }
                        None => {
                            warn!(%error, "this server could not begin anew, and tries it again");
                            if signals.end_within(BEGIN_AGAIN_PAUSE).await {
                                return Ok(());
                            }
                        }
                    }
                }
                outcome => return outcome.map_err(|Ended { error, .. }| error),
            }
        }
    })
}

/// A server that has ended.
struct Ended {
    error: Arc<ServerError>,
    /// True when a signal was to end it.
    is_ordered: bool,
}

/// Runs one server until it ends.
async fn serve(plan: Plan, signals: &mut Signals, announce: impl FnOnce(SocketAddr)) -> Result<(), Ended> {
    let failed = |error: ServerError| Ended { error: Arc::new(error), is_ordered: false };
    let (announce_start, mut started) = oneshot::channel();
    // Where the receiver is gone, the process has ended.
    let announce_start = move |started| drop(announce_start.send(started));
    let lead = Lead::spawn(plan, announce_start).map_err(|error| failed(error.into()))?;
    let mut announce = Some(announce);
    // A second signal is one too many.
    let mut is_ordered = false;
    let end = |is_ordered: &mut bool| {
        lead.give(if *is_ordered { Order::Interrupt } else { Order::Shutdown });
        *is_ordered = true;
    };
    loop {
        tokio::select! {
            // A server that has failed to start says so first, and then ends.
            biased;
            started = &mut started, if announce.is_some() => match (started, announce.take()) {
                (Ok(Ok(started)), Some(announce)) => announce(started.address),
                (Ok(Err(error)), _) => return Err(Ended { error: Arc::new(error), is_ordered }),
                // It was shut down before; see its outcome.
                (Err(_), _) | (Ok(_), None) => {}
            },
            outcome = lead.wait() => return match started.try_recv() {
                // It came in between, and says more.
                Ok(Err(error)) => Err(Ended { error: Arc::new(error), is_ordered }),
                Ok(Ok(_)) | Err(_) => outcome.map_err(|error| Ended { error, is_ordered }),
            },
            _ = signals.interrupt.recv() => end(&mut is_ordered),
            _ = signals.terminate.recv() => end(&mut is_ordered),
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

    /// True when a signal is to end the process within this time.
    async fn end_within(&mut self, time: Duration) -> bool {
        let ended = async {
            tokio::select! {
                _ = self.interrupt.recv() => {}
                _ = self.terminate.recv() => {}
            }
        };
        tokio::time::timeout(time, ended).await.is_ok()
    }
}
