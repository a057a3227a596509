//! Baselines: runs kept under a name, to compare later ones with.
//!
//! They are kept in `$UPROAR_BASELINES`, or else in `./results/baselines`, one directory for each name and
//! in it one directory for each run. Every `--save-baseline NAME` adds a run, since a verdict takes several;
//! to begin anew, remove the directory. INVALID runs are not added.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::cli::RunOptions;
use crate::error::Error;
use crate::outcome::Outcome;

/// The environment variable that names another place.
const PLACE_VARIABLE: &str = "UPROAR_BASELINES";
const PLACE: &str = "results/baselines";
/// What a run consists of.
pub(crate) const FILES: [&str; 3] = ["run.json", "run.hlog", "run.hgrm"];
/// How many runs a baseline holds at most; a comparison takes no more.
const RUNS_MAX: u32 = 100;

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

/// A place for a run that is being made. It is removed again unless [`Slot::keep`] is called.
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
    /// [`Error::Usage`] when the name is none, or the directory cannot be made.
    pub fn open(name: &str) -> Result<Self, Error> {
        let usage = |why: String| Error::Usage(format!("--save-baseline {name}: {why}"));
        let baseline = directory(name).map_err(usage)?;
        let partial = baseline.join(format!(".partial-{}", std::process::id()));
        fs::create_dir_all(&partial).map_err(|error| usage(format!("{}: {error}", partial.display())))?;
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
    /// [`Error::Write`], or [`Error::Usage`] when the baseline is full.
    pub fn keep(self, written: &Path) -> Result<PathBuf, Error> {
        let failed = |source| Error::Write { path: self.baseline.display().to_string(), source };
        if written != self.partial {
            for name in FILES {
                fs::copy(written.join(name), self.partial.join(name)).map_err(failed)?;
            }
        }
        for number in 1..=RUNS_MAX {
            let place = self.baseline.join(format!("run-{number:03}"));
            // A directory is not renamed over one that holds something, so two at once take two numbers.
            match fs::rename(&self.partial, &place) {
                Ok(()) => return Ok(place),
                Err(error) if is_taken(&error) => {}
                Err(error) => return Err(failed(error)),
            }
        }
        let place = self.baseline.display();
        Err(Error::Usage(format!("{place} holds {RUNS_MAX} runs already: remove it to begin anew")))
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        // Gone already when it was kept.
        let _ = fs::remove_dir_all(&self.partial);
    }
}

fn is_taken(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::AlreadyExists | io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::NotADirectory
    )
}

/// Runs, and adds the run to the baseline when it is valid.
///
/// # Errors
///
/// As [`crate::run::run`], and when the baseline cannot be written.
pub fn run(options: &RunOptions, name: &str) -> Result<Outcome, Error> {
    let slot = Slot::open(name)?;
    let mut options = options.clone();
    let written = options.out.get_or_insert_with(|| slot.directory().to_owned()).clone();
    let outcome = crate::run::run(&options)?;
    if outcome.unsaved.is_some() {
        eprintln!("what could not be saved is not added to the baseline {name}");
    } else if outcome.validity.valid {
        let place = slot.keep(&written)?;
        if !options.quiet {
            eprintln!("saved as {}", place.display());
        }
    } else {
        eprintln!("an INVALID run is not added to the baseline {name}");
    }
    Ok(outcome)
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
