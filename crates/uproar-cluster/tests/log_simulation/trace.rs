//! What has happened lately, for the report of a failing seed.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use uproar_cluster::{Command, Reply};

/// The lines that a failing seed prints.
const KEPT_LINES: usize = 80;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Detail {
    Nothing,
    /// The last lines are kept.
    Kept,
    /// Everything is printed at once.
    Printed,
}

/// Lines that outlive a panic of what they are about.
#[derive(Clone, Debug)]
pub(crate) struct Trace {
    detail: Detail,
    lines: Arc<Mutex<VecDeque<String>>>,
}

impl Trace {
    pub(crate) fn new(detail: Detail) -> Self {
        Self { detail, lines: Arc::default() }
    }

    pub(crate) fn note(&self, now_ms: u64, words: impl FnOnce() -> String) {
        if self.detail == Detail::Nothing {
            return;
        }
        let line = format!("{now_ms:>7} {}", words());
        if self.detail == Detail::Printed {
            println!("{line}");
            return;
        }
        let mut lines = self.lines.lock().unwrap();
        if lines.len() == KEPT_LINES {
            lines.pop_front();
        }
        lines.push_back(line);
    }

    pub(crate) fn print(&self) {
        self.lines.lock().unwrap().iter().for_each(|line| println!("{line}"));
    }
}

/// A command in a few words.
pub(crate) fn words_of(command: &Command) -> String {
    match command {
        Command::Script { script, arguments, .. } => {
            let text = |bytes: &Vec<u8>| String::from_utf8_lossy(bytes).chars().take(20).collect::<String>();
            let shown: Vec<String> = arguments.iter().take(4).map(text).collect();
            let kinds = [
                "begin", "canary", "gone", "ends", "epoch", "numbers", "open", "forget", "join", "leave",
                "message", "delete",
            ];
            let kinds: Vec<String> =
                arguments.iter().map(text).filter(|text| kinds.contains(&text.as_str())).collect();
            format!("{} {} {}", script.name, shown.join(" "), kinds.join(" "))
        }
        Command::ThenWait { first, .. } => format!("{}, WAIT", words_of(first)),
        Command::Plain(commands) => {
            let words = commands.iter().flatten().take(4).map(|word| String::from_utf8_lossy(word));
            words.collect::<Vec<_>>().join(" ")
        }
    }
}

pub(crate) fn short(reply: &Reply) -> String {
    format!("{reply:?}").chars().take(160).collect()
}
