//! What is shown while a run goes on, on standard error: a bar on a terminal, plain lines elsewhere,
//! nothing when it is to be quiet.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

/// How often a plain line is written about something that goes on.
const LINE_EVERY: Duration = Duration::from_secs(10);

/// Shows progress.
#[derive(Debug)]
pub enum Progress {
    /// Nothing is shown.
    Quiet,
    /// Plain lines.
    Lines {
        /// When the last one was written.
        last: Instant,
    },
    /// A bar.
    Bar(ProgressBar),
}

impl Progress {
    /// Chooses how to show it.
    #[must_use]
    pub fn new(quiet: bool) -> Self {
        if quiet {
            Self::Quiet
        } else if std::io::stderr().is_terminal() {
            let style = ProgressStyle::with_template("{msg:24} [{wide_bar}] {pos}/{len} {eta}");
            Self::Bar(ProgressBar::no_length().with_style(style.expect("Bug: the template is a constant")))
        } else {
            Self::Lines { last: Instant::now() }
        }
    }

    /// Begins a part of the run that ends at `total`.
    pub fn begin(&mut self, what: &str, total: u64) {
        match self {
            Self::Quiet => {}
            Self::Lines { last } => {
                *last = Instant::now();
                eprintln!("{what}");
            }
            Self::Bar(bar) => {
                bar.reset();
                bar.set_length(total);
                bar.set_message(what.to_owned());
            }
        }
    }

    /// So many clients of all are connected.
    pub fn connected(&mut self, ready: u64, clients: u64) {
        self.advance(ready, || format!("connected: {ready} of {clients}"));
    }

    /// So much of a stretch's time has passed.
    pub fn elapsed(&mut self, elapsed_ms: u64, total_ms: u64) {
        let seconds = |milliseconds| milliseconds as f64 / 1e3;
        self.advance(elapsed_ms, || format!("{:.1} s of {:.1} s", seconds(elapsed_ms), seconds(total_ms)));
    }

    fn advance(&mut self, position: u64, line: impl FnOnce() -> String) {
        match self {
            Self::Lines { last } if last.elapsed() >= LINE_EVERY => {
                *last = Instant::now();
                eprintln!("{}", line());
            }
            Self::Quiet | Self::Lines { .. } => {}
            Self::Bar(bar) => bar.set_position(position),
        }
    }

    /// Something has happened.
    pub fn say(&mut self, what: &str) {
        match self {
            Self::Quiet => {}
            Self::Lines { .. } => eprintln!("{what}"),
            Self::Bar(bar) => bar.println(what),
        }
    }

    /// Nothing follows but the result.
    pub fn finish(&mut self) {
        if let Self::Bar(bar) = self {
            bar.finish_and_clear();
        }
    }
}
