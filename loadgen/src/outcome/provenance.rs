//! Where a result comes from: machine, kernel, binaries and arguments, so that two results can be told
//! to be comparable.

use std::fs;
use std::process::Command;

use serde::Serialize;

use crate::server::process::{ServerProcess, file_sha256};

/// What a result was made with.
#[derive(Clone, Debug, Serialize)]
pub struct Provenance {
    /// The command line.
    pub argv: Vec<String>,
    /// The version of this program.
    pub version: &'static str,
    /// The commit checked out in the current directory, with `-dirty` when it was changed; if any. The server
    /// need not be built from it.
    pub git_commit: Option<String>,
    /// What `--server-revision` calls the server's build.
    pub server_revision: Option<String>,
    /// The SHA-256 of this executable.
    pub loadgen_sha256: Option<String>,
    /// The SHA-256 of the server's executable, when its process is known.
    pub server_sha256: Option<String>,
    /// Kernel release and version.
    pub kernel: String,
    /// CPU model.
    pub cpu: Option<String>,
    /// How many CPUs there are.
    pub cpu_count: usize,
    /// The host's name.
    pub host: String,
}

impl Provenance {
    /// Looks around.
    #[must_use]
    pub fn collect(server: Option<ServerProcess>) -> Self {
        let uname = rustix::system::uname();
        Self {
            argv: std::env::args().collect(),
            version: env!("CARGO_PKG_VERSION"),
            git_commit: git_commit(),
            server_revision: None,
            loadgen_sha256: file_sha256("/proc/self/exe"),
            server_sha256: server.and_then(ServerProcess::executable_sha256),
            kernel: format!("{} {}", uname.release().to_string_lossy(), uname.version().to_string_lossy()),
            cpu: cpu_model(),
            cpu_count: std::thread::available_parallelism().map_or(0, usize::from),
            host: uname.nodename().to_string_lossy().into_owned(),
        }
    }
}

fn git_commit() -> Option<String> {
    let arguments = ["describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"];
    let output = Command::new("git").args(arguments).output().ok()?;
    let commit = String::from_utf8(output.stdout).ok()?.trim().to_owned();
    (output.status.success() && !commit.is_empty()).then_some(commit)
}

fn cpu_model() -> Option<String> {
    let cpuinfo = fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = cpuinfo.lines().find(|line| line.starts_with("model name"))?;
    line.split_once(':').map(|(_, model)| model.trim().to_owned())
}
