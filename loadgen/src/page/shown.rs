//! A run that the page shows, and how it is told from the others.

use std::path::Path;

use maud::{Markup, html};

use crate::error::Error;
use crate::saved::{Log, RunResult, SavedRun};

/// A run that the page shows.
#[derive(Debug)]
pub(crate) struct ShownRun {
    /// Its number on the page, from 1.
    pub(crate) number: usize,
    /// Its label: as much of its directory's path as is unique.
    pub(crate) label: String,
    /// `run.json`.
    pub(crate) result: RunResult,
    /// The histograms.
    pub(crate) log: Log,
}

impl ShownRun {
    pub(crate) fn read(directory: &Path, number: usize, label: String) -> Result<Self, Error> {
        let SavedRun { result, log, .. } = SavedRun::read(directory).map_err(Error::Usage)?;
        Ok(Self { number, label, result, log })
    }
}

/// The number of a run in its colour.
pub(crate) fn badge(run: &ShownRun) -> Markup {
    html! { span.badge.(run_class(run.number).replace("run ", "of-")) { (run.number) } }
}

/// The classes of what belongs to a run: the page's style gives them its colour, and hides them.
pub(crate) fn run_class(number: usize) -> String {
    format!("run run-{number}")
}
