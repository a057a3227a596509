//! The log: lines on standard error, as text or as JSON.
//!
//! What people say never gets there. Uproar logs counts, names of reasons and connection ids, and of the
//! crates that it uses nothing is logged at all: at their most talkative levels some print the messages
//! that pass through them.

use std::io::IsTerminal;

use tracing::Subscriber;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};

use crate::config::LogFormat;

/// The target that all of Uproar's own events start with: the crate's name.
const OWN_TARGET: &str = "uproar";

/// Starts logging to standard error for the whole process; to be called once.
///
/// Text is coloured when standard error is a terminal.
///
/// # Errors
///
/// When a logger has been set already.
pub fn init(format: LogFormat, level: LevelFilter) -> Result<(), TryInitError> {
    let is_coloured = std::io::stderr().is_terminal();
    subscriber(format, level, is_coloured, std::io::stderr).try_init()
}

fn subscriber<W>(format: LogFormat, level: LevelFilter, is_coloured: bool, writer: W) -> impl Subscriber
where
    W: for<'writer> MakeWriter<'writer> + Send + Sync + 'static,
{
    let lines = tracing_subscriber::fmt::layer().with_writer(writer).with_ansi(is_coloured);
    let lines = match format {
        LogFormat::Text => lines.with_target(false).boxed(),
        LogFormat::Json => lines.json().flatten_event(true).boxed(),
    };
    let own = Targets::new().with_target(OWN_TARGET, level);
    tracing_subscriber::registry().with(lines.with_filter(own))
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
        let subscriber = subscriber(format, level, false, move || writer.clone());
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
