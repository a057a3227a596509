//! The server as a process: what it costs, on which cores it runs, and how one is started and stopped.

pub mod command;
pub mod core_time;
pub mod cores;
pub mod process;
pub mod process_group;
