//! A run that is kept as one of a baseline.

use crate::error::Error;
use crate::options::RunOptions;
use crate::outcome::Outcome;
use crate::saved::baseline::Slot;

/// Runs, and adds the run to the baseline when it is valid.
///
/// # Errors
///
/// As [`crate::run::run`], and when the baseline cannot be written.
pub fn run(options: &RunOptions, name: &str) -> Result<Outcome, Error> {
    let slot = Slot::open(name)?;
    let mut options = options.clone();
    let is_elsewhere = options.out.is_some();
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
        // That it is INVALID outranks that it could not be moved, and decides the exit code.
        let place = if is_elsewhere { Ok(written) } else { slot.keep_aside() };
        match place {
            Ok(place) => {
                eprintln!("an INVALID run is not added to the baseline {name}; it is in {}", place.display());
            }
            Err(error) => eprintln!("an INVALID run is not added to the baseline {name}: {error}"),
        }
    }
    Ok(outcome)
}
