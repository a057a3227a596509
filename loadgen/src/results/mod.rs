//! The output of a run: text for people, and files for programs.
//!
//! The interval log grows while the run goes on; the other files are written as soon as there is a
//! result, before the connections are closed.

pub mod csv;
pub mod directory;
pub mod hgrm;
pub mod hlog;
pub mod json;
pub mod text;

use std::io::{self, Write};

use crate::error::Error;

/// Prints to the standard output. A reader who has seen enough, such as head(1), is no error.
///
/// # Errors
///
/// [`Error::Write`] when the standard output does not take it.
pub fn print(text: &str) -> Result<(), Error> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(source) if source.kind() != io::ErrorKind::BrokenPipe => {
            Err(Error::Write { path: "standard output".to_owned(), source })
        }
        _ => Ok(()),
    }
}
