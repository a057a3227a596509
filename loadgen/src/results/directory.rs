//! `--out`: where the files of a run go.
//!
//! A file that cannot be written costs nothing but itself: the run goes on, the other files are tried, and
//! the first failure is told at the end, below the result.

use std::fs::File;
use std::io::{self, BufWriter};
use std::path::PathBuf;

use crate::outcome::Outcome;
use crate::results::{hgrm, json};
use crate::timings::Timings;

/// The directory of a run, if it has one.
#[derive(Debug, Default)]
pub struct OutDirectory {
    path: Option<PathBuf>,
    failure: Option<String>,
}

impl OutDirectory {
    /// Writes nothing yet; without a path, it never will.
    #[must_use]
    pub fn new(path: Option<PathBuf>) -> Self {
        Self { path, failure: None }
    }

    /// Creates a file, where there is a directory.
    pub fn create(&mut self, name: &str) -> Option<File> {
        let path = self.path.as_ref()?.join(name);
        self.note(name, File::create(path))
    }

    /// Takes the result of writing to a file; `None` when that has failed.
    pub fn note<T>(&mut self, name: &str, written: io::Result<T>) -> Option<T> {
        match written {
            Ok(value) => Some(value),
            Err(error) => {
                let path = self.path.iter().map(|directory| directory.join(name)).next().unwrap_or_default();
                let path = path.display();
                self.failure.get_or_insert_with(|| {
                    format!("cannot write {path}: {error}; make room, or name another --out")
                });
                None
            }
        }
    }

    /// Writes `run.json` and `run.hgrm`.
    pub fn save(&mut self, outcome: &Outcome, latency: &Timings) {
        let Some(path) = &self.path else { return };
        let written = json::write(&path.join("run.json"), outcome);
        self.note("run.json", written);
        if let Some(file) = self.create("run.hgrm") {
            self.note("run.hgrm", hgrm::write(BufWriter::new(file), &latency.histogram));
        }
    }

    /// What could not be written first, and why.
    #[must_use]
    pub fn into_failure(self) -> Option<String> {
        self.failure
    }
}
