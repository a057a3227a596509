//! A thread of the server that hangs, as it does while a disk does not answer: neither an error nor a lock.

use std::fs;
use std::sync::mpsc::{Sender, channel};
use std::thread;

use nix::sys::ptrace;
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;

use super::server::Server;

/// A thread that hangs until this is dropped, while the others of its process go on.
pub(crate) struct HungThread {
    /// Dropped to let it go on.
    _hold: Sender<()>,
}

impl HungThread {
    /// The thread of this name.
    pub(crate) fn of(server: &Server, name: &str) -> Self {
        let tasks = format!("/proc/{}/task", server.pid());
        let is_named = |task: &String| {
            fs::read_to_string(format!("{tasks}/{task}/comm")).is_ok_and(|comm| comm.trim_end() == name)
        };
        let mut names = fs::read_dir(&tasks).unwrap().map(|task| task.unwrap().file_name().into_string());
        let task = names.find_map(|task| task.ok().filter(is_named));
        let task = Pid::from_raw(task.expect("a thread of this name").parse().unwrap());
        let (hold, held) = channel::<()>();
        let (tell, told) = channel();
        // The kernel knows a tracer by its thread.
        thread::spawn(move || {
            ptrace::seize(task, ptrace::Options::empty()).expect("the server is a child of the test");
            ptrace::interrupt(task).unwrap();
            waitpid(task, Some(WaitPidFlag::__WALL)).unwrap();
            tell.send(()).unwrap();
            // It fails once the other end is dropped.
            let _ = held.recv();
            // The server may have ended.
            let _ = ptrace::detach(task, None);
        });
        told.recv().expect("the thread hangs");
        Self { _hold: hold }
    }
}
