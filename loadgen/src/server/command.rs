//! A server that is started by a command, and stopped with everything that the command has started, even when
//! loadgen is killed.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};

use crate::error::Error;
use crate::network::security::Security;
use crate::network::target::Target;
use crate::network::wire::{ConnectError, Wire};
use crate::server::process_group::{listener, members};

/// How long a server may take until it answers.
const READY_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a server may take to stop before it is killed.
const STOP_TIMEOUT: Duration = Duration::from_secs(15);
/// How long what was killed may take to be gone.
const KILL_TIMEOUT: Duration = Duration::from_secs(5);
/// How long one question to the server may take.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(1);
/// How often a server is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// How much of a log is shown when a server does not start.
const LOG_BYTES_SHOWN: usize = 2000;

/// A script that waits in the server's process group until the other end of its input is closed, and then
/// kills the group.
const GUARD: &str = "read -r _; kill -s KILL 0";

/// A server that runs. It is killed when this is dropped, or ends without that.
#[derive(Debug)]
pub struct ServerCommand {
    child: Child,
    guard: Child,
    /// The kernel closes it whatever ends this process, which the guard learns.
    _guards_input: ChildStdin,
    command: String,
    address: SocketAddr,
    log: PathBuf,
}

impl ServerCommand {
    /// Starts `sh -c COMMAND` in a process group of its own. Its output goes to the file `log`.
    ///
    /// # Errors
    ///
    /// [`Error::Preflight`] when somebody listens on the target's port already: that would be measured
    /// instead.
    pub fn start(command: &str, target: &Target, log: &Path) -> Result<Self, Error> {
        let address = target.resolve()?;
        if TcpStream::connect_timeout(&address, ANSWER_TIMEOUT).is_ok() {
            return Err(Error::Preflight(format!(
                "another process listens on {address}: stop it, or name another port with --url"
            )));
        }
        let failed = |source| Error::Write { path: log.display().to_string(), source };
        let output = File::create(log).map_err(failed)?;
        let errors = output.try_clone().map_err(failed)?;
        let cannot_start = |error| Error::Runtime(format!("cannot start sh: {error}"));
        let mut child = Command::new("sh")
            .args(["-c", command])
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(errors)
            .process_group(0)
            .spawn()
            .map_err(cannot_start)?;
        let (guard, guards_input) = match start_guard(&child) {
            Ok(started) => started,
            Err(error) => {
                // Without effect when all of it has ended.
                let _ = kill_process_group(Pid::from_child(&child), Signal::KILL);
                let _ = child.wait();
                return Err(cannot_start(error));
            }
        };
        let (command, log) = (command.to_owned(), log.to_owned());
        Ok(Self { child, guard, _guards_input: guards_input, command, address, log })
    }

    /// Waits until the server answers `GET /healthz`. A server that knows no such page and says so is ready,
    /// too; one that answers 5xx is not.
    ///
    /// # Errors
    ///
    /// [`Error::Runtime`] when it ends instead, does not answer in time, or when `is_interrupted`.
    pub fn await_ready(
        &mut self,
        target: &Target,
        security: Option<&Security>,
        is_interrupted: impl Fn() -> bool,
    ) -> Result<(), Error> {
        let begin = Instant::now();
        loop {
            if is_interrupted() {
                return Err(Error::Runtime("interrupted".to_owned()));
            }
            if let Ok(Some(status)) = self.child.try_wait() {
                return Err(self.not_ready(&format!("ended with {status}")));
            }
            let answer = match health(self.address, &target.authority, security) {
                Ok(..500) => return Ok(()),
                // It serves, and waiting does not change what it is.
                Err(Unanswered::Connect(ConnectError::Tls(failure))) if failure.is_final() => {
                    return Err(self.not_ready(&format!("cannot be measured: {failure}")));
                }
                Ok(status) => format!("it answered {status}"),
                Err(unanswered) => unanswered.to_string(),
            };
            if begin.elapsed() > READY_TIMEOUT {
                let address = self.address;
                let why =
                    format!("is not ready on {address} after {READY_TIMEOUT:?} (GET /healthz: {answer})");
                return Err(self.not_ready(&why));
            }
            sleep(LOOK_EVERY);
        }
    }

    fn not_ready(&self, why: &str) -> Error {
        let log = fs::read(&self.log).unwrap_or_default();
        let end = String::from_utf8_lossy(&log[log.len().saturating_sub(LOG_BYTES_SHOWN)..]);
        Error::Runtime(format!("the server {:?} {why}; it wrote:\n{}", self.command, end.trim_end()))
    }

    /// The process that serves, which need not be the shell; `None` when it is none of those that the
    /// command has started, such as one in a container.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        listener(self.child.id(), self.address.port())
    }

    /// Asks the whole group to end, and kills what is left after a while. Returns once nothing of it runs
    /// any more.
    ///
    /// # Errors
    ///
    /// [`Error::Runtime`] when something cannot be stopped.
    pub fn stop(mut self) -> Result<(), Error> {
        self.signal(Signal::TERM);
        if !self.await_gone(STOP_TIMEOUT) {
            self.signal(Signal::KILL);
            if !self.await_gone(KILL_TIMEOUT) {
                return Err(Error::Runtime(format!("the server {:?} cannot be stopped", self.command)));
            }
        }
        Ok(())
    }

    fn signal(&mut self, signal: Signal) {
        // The group's number is taken while it has members, even once the shell has gone.
        if !members(self.child.id()).is_empty() {
            // What has ended in between needs no signal.
            let _ = kill_process_group(Pid::from_child(&self.child), signal);
        }
    }

    fn await_gone(&mut self, timeout: Duration) -> bool {
        let begin = Instant::now();
        loop {
            // Those two are ours, and stay there until they are waited for.
            let have_ended =
                [&mut self.child, &mut self.guard].map(|own| !matches!(own.try_wait(), Ok(None)));
            if have_ended == [true; 2] && members(self.child.id()).is_empty() {
                return true;
            }
            if begin.elapsed() > timeout {
                return false;
            }
            sleep(LOOK_EVERY);
        }
    }
}

impl Drop for ServerCommand {
    fn drop(&mut self) {
        self.signal(Signal::KILL);
        let _ = self.await_gone(KILL_TIMEOUT);
    }
}

/// Starts what ends the group of `server` when this process does.
fn start_guard(server: &Child) -> io::Result<(Child, ChildStdin)> {
    // A process that nobody has waited for keeps its number, so the group is still the server's.
    let group = Pid::from_child(server).as_raw_nonzero().get();
    let mut guard = Command::new("sh")
        .args(["-c", GUARD])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(group)
        .spawn()?;
    let input = guard.stdin.take().expect("Bug: its input is piped");
    Ok((guard, input))
}

/// Why the server's state is not known.
#[derive(Debug, thiserror::Error)]
enum Unanswered {
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error(transparent)]
    Read(#[from] io::Error),
}

/// The status with which the server answers.
fn health(address: SocketAddr, authority: &str, security: Option<&Security>) -> Result<u16, Unanswered> {
    let mut stream = Wire::connect(address, ANSWER_TIMEOUT, security)?;
    write!(stream, "GET /healthz HTTP/1.1\r\nHost: {authority}\r\nConnection: close\r\n\r\n")?;
    // "HTTP/1.1 200" is all that is needed.
    let mut start = [0; 12];
    stream.read_exact(&mut start)?;
    let no_http = || io::Error::new(io::ErrorKind::InvalidData, "no HTTP");
    parse_status(&start).ok_or_else(|| no_http().into())
}

fn parse_status(start: &[u8]) -> Option<u16> {
    let (version, status) = std::str::from_utf8(start).ok()?.split_once(' ')?;
    version.starts_with("HTTP/1.").then(|| status.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_line_is_told_from_anything_else() {
        assert_eq!(parse_status(b"HTTP/1.1 200"), Some(200));
        assert_eq!(parse_status(b"HTTP/1.0 503"), Some(503));
        assert_eq!(parse_status(b"SSH-2.0-Open"), None);
    }

    /// A port on which nobody listens.
    fn free_target() -> Target {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("binds");
        Target::parse(&format!("ws://{}", listener.local_addr().expect("is bound"))).expect("parses")
    }

    #[test]
    fn everything_that_the_command_started_is_stopped() {
        let directory = tempfile::tempdir().expect("a directory");
        let log = directory.path().join("server.log");
        let command = "trap 'exit 0' TERM; sleep 100 & sleep 101 & wait";
        let server = ServerCommand::start(command, &free_target(), &log).expect("starts");
        let group = server.child.id();
        let begin = Instant::now();
        // Itself, those two, and the guard.
        while members(group).len() < 4 {
            assert!(begin.elapsed() < Duration::from_secs(10), "the command starts two others");
            sleep(LOOK_EVERY);
        }
        server.stop().expect("stops");
        assert_eq!(members(group), [0; 0]);
    }

    #[test]
    fn a_server_that_is_dropped_is_killed() {
        let directory = tempfile::tempdir().expect("a directory");
        let log = directory.path().join("server.log");
        let server = ServerCommand::start("trap '' TERM; sleep 100", &free_target(), &log).expect("starts");
        let group = server.child.id();
        drop(server);
        assert_eq!(members(group), [0; 0]);
    }

    #[test]
    fn a_server_that_ends_is_quoted() {
        let directory = tempfile::tempdir().expect("a directory");
        let log = directory.path().join("server.log");
        let target = free_target();
        let mut server = ServerCommand::start("echo no such luck; exit 7", &target, &log).expect("starts");
        let error = server.await_ready(&target, None, || false).expect_err("it ends").to_string();
        assert!(error.contains("no such luck") && error.contains('7'), "{error}");
    }

    #[test]
    fn a_port_that_is_taken_is_not_measured() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("binds");
        let target = Target::parse(&format!("ws://{}", listener.local_addr().expect("is bound")));
        let log = std::env::temp_dir().join("never-written.log");
        assert!(ServerCommand::start("true", &target.expect("parses"), &log).is_err());
    }
}
