//! `run.json`: everything that was counted and measured.

use std::io;
use std::path::Path;

use crate::outcome::Outcome;

/// The result as JSON text.
///
/// # Errors
///
/// None that is known: every field has a form in JSON.
pub fn to_string(outcome: &Outcome) -> io::Result<String> {
    Ok(serde_json::to_string_pretty(outcome)? + "\n")
}

/// Writes the file under another name first, so that a half-written result is never taken for one.
///
/// # Errors
///
/// What the file system reports.
pub fn write(path: &Path, outcome: &Outcome) -> io::Result<()> {
    let temporary = path.with_extension("json.partial");
    let written = std::fs::write(&temporary, to_string(outcome)?);
    written.and_then(|()| std::fs::rename(&temporary, path)).inspect_err(|_| {
        // Of no use to anybody; that it cannot be removed either would say nothing new.
        let _ = std::fs::remove_file(&temporary);
    })
}
