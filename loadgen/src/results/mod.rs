//! What a run leaves behind: text for people, and files for programs.
//!
//! The interval log grows while the run goes on; the other files are written as soon as there is a
//! result, before the connections are closed.

pub mod csv;
pub mod hgrm;
pub mod hlog;
pub mod json;
pub mod text;
