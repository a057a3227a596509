//! Whether one build of a server is slower than another: the statistics.

pub mod bootstrap;
pub mod holm;
pub mod mann_whitney;
