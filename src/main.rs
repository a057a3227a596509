//! The `uproar` binary.
fn main() {}
