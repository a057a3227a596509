//! The log: lines on standard error, as text or as JSON.
//!
//! Messages of users are never logged. Uproar logs counts, reasons, addresses and ids; names only for failed sign-ins
//! and moderation, as `log_text` shows them. Events of other crates are not logged: at debug levels some print the
//! messages that pass through them.
//!
//! Nothing waits for the reader of standard error or standard output: each has a [`LineQueue`]. At the end of the
//! process, the last lines have [`FLUSH_TIME_MAX`] to be written.

use std::backtrace::{Backtrace, BacktraceStatus};
use std::io::{self, IsTerminal};
use std::net::SocketAddr;
use std::panic::{self, PanicHookInfo};
use std::thread;
use std::time::Duration;

use tracing::level_filters::LevelFilter;
use tracing::{Level, Subscriber, error, info};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};

use crate::access_log;
use crate::config::{Config, LogFormat, Placement};
use crate::log_queue::LineQueue;
use crate::preflight::Capacity;

/// The prefix of the targets of Uproar's own events: the crate's name.
const OWN_TARGET: &str = "uproar";

/// How long the end of the process waits for the last lines to be read. A reader that works needs less than a
/// millisecond; for a stalled one a supervisor should not have to wait.
pub const FLUSH_TIME_MAX: Duration = Duration::from_secs(1);

/// The name of the thread that writes the log.
const THREAD: &str = "log";

/// The queues of standard output and standard error. Dropping it waits for the last lines to be written.
#[derive(Debug)]
pub struct Log {
    format: LogFormat,
    out: LineQueue,
    err: LineQueue,
}

impl Log {
    /// Starts the threads that write. Nothing is logged before [`Log::init`].
    ///
    /// # Errors
    ///
    /// When no thread can be started.
    pub fn start(format: LogFormat) -> io::Result<Self> {
        let report_dropped =
            |lines| error!(lines, "log lines were dropped: the reader of the log is too slow");
        let err = LineQueue::start(THREAD, rustix::stdio::stderr(), report_dropped)?;
        err.set_as_process_log();
        let out = LineQueue::start("banner", rustix::stdio::stdout(), |_| {})?;
        Ok(Self { format, out, err })
    }

    /// Starts to log the events of the whole process at this level, its panics, and if wanted the access log at any level; to
    /// be called once.
    ///
    /// Text is coloured when standard error is a terminal.
    ///
    /// # Errors
    ///
    /// When a logger has been set already.
    pub fn init(&self, level: LevelFilter, has_access_log: bool) -> Result<(), TryInitError> {
        let is_coloured = io::stderr().is_terminal();
        let queue = self.err.clone();
        let own = targets(level, has_access_log);
        subscriber(self.format, own, is_coloured, move || queue.clone()).try_init()?;
        let (queue, default) = (self.err.clone(), panic::take_hook());
        panic::set_hook(Box::new(move |panic| {
            // If the log is off, or its own thread panics, the default hook has to do. It writes to standard error,
            // and may block.
            if !tracing::enabled!(Level::ERROR) || thread::current().name() == Some(THREAD) {
                return default(panic);
            }
            log_panic(panic);
            // The process may be about to abort.
            queue.flush(FLUSH_TIME_MAX);
        }));
        Ok(())
    }

    /// Writes why the server does not start, at any log level: as it is, or as a line of JSON.
    pub fn refuse(&self, text: &str) {
        match self.format {
            LogFormat::Text => self.err.push(format!("{}\n", text.trim_end()).as_bytes()),
            LogFormat::Json => self.say(&self.err, || error!("{}", text.trim_end())),
        }
    }

    /// Writes the server's address, shards and limits to standard output.
    pub fn announce(&self, config: &Config, capacity: Capacity, address: SocketAddr) {
        match self.format {
            LogFormat::Text => self.out.push(banner(config, capacity, address).as_bytes()),
            LogFormat::Json => self.say(&self.out, || log_banner(config, capacity, address)),
        }
    }

    /// Writes events to a queue, at every level.
    fn say(&self, queue: &LineQueue, events: impl FnOnce()) {
        let queue = queue.clone();
        let all = subscriber(self.format, targets(LevelFilter::INFO, false), false, move || queue.clone());
        tracing::subscriber::with_default(all, events);
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        self.out.flush(FLUSH_TIME_MAX);
        self.err.flush(FLUSH_TIME_MAX);
    }
}

/// In the words of the default hook, which people look for.
fn log_panic(panic: &PanicHookInfo<'_>) {
    let thread = thread::current();
    let thread = thread.name().unwrap_or("unnamed");
    let place = panic.location().map(ToString::to_string).unwrap_or_default();
    let payload = panic.payload();
    let text = payload.downcast_ref::<&str>().copied();
    let message =
        text.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message");
    let backtrace = Backtrace::capture();
    match backtrace.status() {
        BacktraceStatus::Captured => {
            error!("thread '{thread}' panicked at {place}: {message}\n{backtrace}");
        }
        _ => error!("thread '{thread}' panicked at {place}: {message}"),
    }
}

fn banner(config: &Config, capacity: Capacity, address: SocketAddr) -> String {
    let shards = match &config.placement {
        Placement::Pinned(cores) => format!("{}, pinned to cores {}", cores.len(), list(cores)),
        Placement::Unpinned(shards) => format!("{shards}, not pinned"),
    };
    let rate = match config.rate {
        0 => "no limit".to_owned(),
        rate => format!("{rate} messages a second, bursts of {}", config.burst),
    };
    let history = match (&config.data, &config.cluster) {
        (Some(data), _) => format!("kept in {}", data.display()),
        (None, Some(cluster)) => format!("kept in {}, shared as node {}", cluster.redis, cluster.node),
        (None, None) => "in memory: gone when the server ends, see --data".to_owned(),
    };
    format!(
        "uproar {} listening on {}://{address}\n  \
           shards   {shards}; acceptors {}\n  \
           clients  at most {}, and {} that have not upgraded yet\n  \
           message  at most {} bytes, frame {}, send queue {}\n  \
           rate     {rate}\n  \
           history  {} messages a room, {history}\n",
        env!("CARGO_PKG_VERSION"),
        scheme(config),
        config.acceptor_count(),
        capacity.max_clients,
        capacity.pending_max,
        config.max_message_bytes,
        config.max_frame_bytes,
        config.send_queue_bytes,
        config.history,
    )
}

/// The same as an event.
fn log_banner(config: &Config, capacity: Capacity, address: SocketAddr) {
    let cores = match &config.placement {
        Placement::Pinned(cores) => Some(list(cores)),
        Placement::Unpinned(_) => None,
    };
    info!(
        version = env!("CARGO_PKG_VERSION"),
        shards = config.placement.shards(),
        acceptors = config.acceptor_count(),
        cores,
        clients_max = capacity.max_clients,
        pending_max = capacity.pending_max,
        message_bytes_max = config.max_message_bytes,
        frame_bytes_max = config.max_frame_bytes,
        queue_bytes_max = config.send_queue_bytes,
        rate = config.rate,
        burst = config.burst,
        history = config.history,
        data = config.data.as_ref().map(|data| tracing::field::display(data.display())),
        redis = config.cluster.as_ref().map(|cluster| tracing::field::display(&cluster.redis)),
        node = config.cluster.as_ref().map(|cluster| tracing::field::display(&cluster.node)),
        "listening on {}://{address}",
        scheme(config),
    );
}

fn scheme(config: &Config) -> &'static str {
    if config.tls_cert.is_some() { "https" } else { "http" }
}

fn list(cores: &[usize]) -> String {
    cores.iter().map(usize::to_string).collect::<Vec<_>>().join(", ")
}

/// What is logged: Uproar's own events.
fn targets(level: LevelFilter, has_access_log: bool) -> Targets {
    let access_level = if has_access_log { LevelFilter::INFO } else { LevelFilter::OFF };
    Targets::new().with_target(OWN_TARGET, level).with_target(access_log::TARGET, access_level)
}

fn subscriber<W>(format: LogFormat, targets: Targets, is_coloured: bool, writer: W) -> impl Subscriber
where
    W: for<'writer> MakeWriter<'writer> + Send + Sync + 'static,
{
    let lines = tracing_subscriber::fmt::layer().with_writer(writer).with_ansi(is_coloured);
    let lines = match format {
        LogFormat::Text => lines.with_target(false).boxed(),
        LogFormat::Json => lines.json().flatten_event(true).boxed(),
    };
    tracing_subscriber::registry().with(lines.with_filter(targets))
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn logged(format: LogFormat, level: LevelFilter, events: impl FnOnce()) -> String {
        let lines = Lines::default();
        let writer = lines.clone();
        let subscriber = subscriber(format, targets(level, false), false, move || writer.clone());
        tracing::subscriber::with_default(subscriber, events);
        String::from_utf8(lines.0.lock().unwrap().clone()).unwrap()
    }

    #[test]
    fn json_lines_are_objects_with_the_fields_at_the_top() {
        let text = logged(LogFormat::Json, LevelFilter::INFO, || {
            tracing::info!(clients = 3, "listening");
        });
        let line: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(line["level"], "INFO");
        assert_eq!(line["message"], "listening");
        assert_eq!(line["clients"], 3);
    }

    #[test]
    fn text_lines_have_the_level_and_no_colour() {
        let text = logged(LogFormat::Text, LevelFilter::INFO, || tracing::warn!("slow"));
        assert!(text.ends_with(" WARN slow\n"), "{text}");
        assert!(!text.contains('\x1b'));
    }

    #[test]
    fn events_below_the_level_are_left_out() {
        let text = logged(LogFormat::Text, LevelFilter::WARN, || tracing::info!("hello"));
        assert_eq!(text, "");
    }

    #[test]
    fn other_crates_are_never_logged() {
        let text = logged(LogFormat::Text, LevelFilter::TRACE, || {
            tracing::error!(target: "tungstenite::protocol", "Received message secret");
        });
        assert_eq!(text, "");
    }
}
