//! What has happened lately, for the report of a failing seed.

use std::collections::VecDeque;

/// The lines that a failing seed prints.
const KEPT_LINES: usize = 60;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Detail {
    /// Only the step is noted.
    Nothing,
    /// The last lines are kept.
    Kept,
    /// Everything is printed at once.
    Printed,
}

/// Outlives a panic of what it traces.
#[derive(Debug)]
pub(crate) struct Trace {
    pub(crate) detail: Detail,
    pub(crate) step: u64,
    /// A hash of everything that was traced: two runs of a seed have the same.
    pub(crate) digest: u64,
    lines: VecDeque<String>,
}

impl Trace {
    pub(crate) fn new(detail: Detail) -> Self {
        Self { detail, step: 0, digest: 0, lines: VecDeque::new() }
    }

    /// Notes an event: three numbers for the digest, and words if anyone wants them.
    pub(crate) fn note(&mut self, numbers: [usize; 3], words: impl FnOnce() -> String) {
        for number in numbers {
            self.digest = (self.digest ^ number as u64).wrapping_mul(0x0100_0000_01b3).rotate_left(7);
        }
        if self.detail == Detail::Nothing {
            return;
        }
        let line = format!("{:>6} {}", self.step, words());
        if self.detail == Detail::Printed {
            println!("{line}");
            return;
        }
        if self.lines.len() == KEPT_LINES {
            self.lines.pop_front();
        }
        self.lines.push_back(line);
    }

    pub(crate) fn lines(&self) -> impl Iterator<Item = &String> {
        self.lines.iter()
    }
}
