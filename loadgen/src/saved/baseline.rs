//! Baselines: runs kept under a name, to compare later ones with.
//!
//! They are kept in `$UPROAR_BASELINES`, or else in `./results/baselines`, one directory for each name and
//! in it one directory for each run. Every `--save-baseline NAME` adds a run, since a verdict takes several;
//! to begin anew, remove the directory. INVALID runs are kept aside in its `invalid`, which no comparison
//! reads.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::error::Error;

/// The environment variable that names another place.
const PLACE_VARIABLE: &str = "UPROAR_BASELINES";
const PLACE: &str = "results/baselines";
/// What a run consists of.
pub(crate) const FILES: [&str; 3] = ["run.json", "run.hlog", "run.hgrm"];
/// How many runs a baseline holds at most; a comparison takes no more.
const RUNS_MAX: u32 = 100;
/// Where INVALID runs are kept, in the directory of the baseline.
const INVALID: &str = "invalid";

/// The directory of a baseline, whether or not there is one.
///
/// # Errors
///
/// When the name has other characters than letters, digits, `-`, `_` and `.`, or begins with a dot.
pub fn directory(name: &str) -> Result<PathBuf, String> {
    let allowed = |character: char| character.is_ascii_alphanumeric() || "-_.".contains(character);
    if name.is_empty() || name.starts_with('.') || !name.chars().all(allowed) {
        return Err(format!("{name:?} is no name of a baseline: letters, digits, - and _ make one"));
    }
    let place = std::env::var_os(PLACE_VARIABLE).map_or_else(|| PathBuf::from(PLACE), PathBuf::from);
    Ok(place.join(name))
}

/// Looks whether a run could be added to the baseline of this name, and returns its directory.
///
/// # Errors
///
/// [`Error::Usage`] when the name is none, the directory cannot be made, or it is full.
pub fn check(name: &str) -> Result<PathBuf, Error> {
    let usage = |why: String| Error::Usage(format!("--save-baseline {name}: {why}"));
    let baseline = directory(name).map_err(usage)?;
    fs::create_dir_all(&baseline).map_err(|error| usage(format!("{}: {error}", baseline.display())))?;
    for place in [baseline.clone(), baseline.join(INVALID)] {
        if (1..=RUNS_MAX).all(|number| numbered(&place, number).exists()) {
            return Err(usage(full(&place)));
        }
    }
    Ok(baseline)
}

fn numbered(place: &Path, number: u32) -> PathBuf {
    place.join(format!("run-{number:03}"))
}

fn full(place: &Path) -> String {
    format!("{} holds {RUNS_MAX} runs already: remove it to begin anew", place.display())
}

/// A place for a run that is being made. Unless a result was written to it, it is removed in the end.
#[derive(Debug)]
pub struct Slot {
    baseline: PathBuf,
    /// Hidden, so that a comparison does not take what is being written for a run.
    partial: PathBuf,
}

impl Slot {
    /// Makes room for a run in the baseline of this name.
    ///
    /// # Errors
    ///
    /// [`Error::Usage`], as [`check`].
    pub fn open(name: &str) -> Result<Self, Error> {
        let baseline = check(name)?;
        let partial = baseline.join(format!(".partial-{}", std::process::id()));
        fs::create_dir_all(&partial).map_err(|error| {
            Error::Usage(format!("--save-baseline {name}: {}: {error}", partial.display()))
        })?;
        Ok(Self { baseline, partial })
    }

    /// Where the run may be written.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.partial
    }

    /// Adds the run to the baseline, from `written` when that is somewhere else, and returns its place.
    ///
    /// # Errors
    ///
    /// [`Error::Write`], which names where the run is instead.
    pub fn keep(self, written: &Path) -> Result<PathBuf, Error> {
        if written != self.partial {
            for name in FILES {
                fs::copy(written.join(name), self.partial.join(name))
                    .map_err(|source| Error::Write { path: self.baseline.display().to_string(), source })?;
            }
        }
        self.settle(&self.baseline)
    }

    /// Keeps a run out of the baseline, but keeps it, and returns its place.
    ///
    /// # Errors
    ///
    /// As [`Slot::keep`].
    pub fn keep_aside(self) -> Result<PathBuf, Error> {
        self.settle(&self.baseline.join(INVALID))
    }

    /// Gives the run the first number that is free.
    fn settle(&self, place: &Path) -> Result<PathBuf, Error> {
        let failed = |source| Error::Write {
            path: format!("{} (the run is in {})", place.display(), self.partial.display()),
            source,
        };
        fs::create_dir_all(place).map_err(failed)?;
        for number in 1..=RUNS_MAX {
            let run = numbered(place, number);
            // A directory is not renamed over one that holds something, so two at once take two numbers.
            match fs::rename(&self.partial, &run) {
                Ok(()) => return Ok(run),
                Err(error) if is_taken(&error) => {}
                Err(error) => return Err(failed(error)),
            }
        }
        // It had room when this run began: others have been faster.
        Err(failed(io::Error::other(full(place))))
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        // A result that could not be moved to its place stays, and the error has named it.
        if !self.partial.join("run.json").exists() {
            // Gone already when it was kept.
            let _ = fs::remove_dir_all(&self.partial);
        }
    }
}

fn is_taken(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::AlreadyExists | io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::NotADirectory
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slot(baseline: &Path) -> Slot {
        let partial = baseline.join(".partial-1");
        fs::create_dir_all(&partial).expect("is made");
        Slot { baseline: baseline.to_owned(), partial }
    }

    #[test]
    fn names_stay_in_their_place() {
        for name in ["", ".", "..", "../a", "a/b", "a b"] {
            assert!(directory(name).is_err(), "{name:?}");
        }
        assert!(directory("v1.2_main-3").is_ok_and(|place| place.ends_with("v1.2_main-3")));
    }

    #[test]
    fn runs_are_added_and_what_is_not_kept_leaves_nothing() {
        let baseline = tempfile::tempdir().expect("a directory");
        for expected in ["run-001", "run-002"] {
            let slot = slot(baseline.path());
            let partial = slot.directory().to_owned();
            fs::write(partial.join("run.json"), "{}").expect("writes");
            assert_eq!(slot.keep(&partial).expect("is kept"), baseline.path().join(expected));
        }
        drop(slot(baseline.path()));
        assert_eq!(fs::read_dir(baseline.path()).expect("is there").count(), 2);
    }

    #[test]
    fn a_run_that_finds_the_baseline_full_is_not_deleted() {
        let baseline = tempfile::tempdir().expect("a directory");
        for number in 1..=RUNS_MAX {
            let run = numbered(baseline.path(), number);
            fs::create_dir(&run).expect("is made");
            fs::write(run.join("run.json"), "{}").expect("writes");
        }
        let slot = slot(baseline.path());
        let partial = slot.directory().to_owned();
        fs::write(partial.join("run.json"), "{}").expect("writes");
        let error = slot.keep(&partial).expect_err("is full").to_string();
        assert!(error.contains("holds 100 runs already"), "{error}");
        assert!(
            error.contains(&partial.display().to_string()) && partial.join("run.json").exists(),
            "{error}"
        );
    }

    #[test]
    fn a_run_that_was_written_elsewhere_is_copied() {
        let (baseline, written) =
            (tempfile::tempdir().expect("a directory"), tempfile::tempdir().expect("a directory"));
        for name in FILES {
            fs::write(written.path().join(name), name).expect("writes");
        }
        let place = slot(baseline.path()).keep(written.path()).expect("is kept");
        assert!(FILES.iter().all(|name| place.join(name).exists() && written.path().join(name).exists()));
    }
}
