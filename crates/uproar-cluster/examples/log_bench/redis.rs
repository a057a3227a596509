//! The server that is measured.

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tokio::time::sleep;

use crate::Result;
use crate::link::Link;

/// How long the first thread of a process has waited for a core, in seconds.
pub(crate) fn waited_seconds(process: u32) -> Result<f64> {
    let schedstat = std::fs::read_to_string(format!("/proc/{process}/schedstat"))?;
    let nanoseconds: f64 = schedstat.split(' ').nth(1).ok_or("no time of waiting")?.parse()?;
    Ok(nanoseconds / 1e9)
}

/// A `redis-server`, killed when it is dropped.
pub(crate) struct Redis {
    process: Child,
    pub(crate) port: u16,
    _directory: tempfile::TempDir,
}

impl Redis {
    /// Starts one that writes to its file as `fsync` says; `no` is without a file. It runs on the first core.
    pub(crate) async fn start(fsync: &str) -> Result<Self> {
        let directory = tempfile::tempdir()?;
        // Redis cannot be told to listen on any free port.
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let appendonly = if fsync == "no" { "no" } else { "yes" };
        let process = Command::new("taskset")
            .args(["--cpu-list", "0", "redis-server", "--port", &port.to_string(), "--save", ""])
            .args(["--appendonly", appendonly, "--appendfsync", fsync, "--maxmemory-policy", "noeviction"])
            .arg("--dir")
            .arg(directory.path())
            .stdout(Stdio::null())
            .spawn()?;
        let redis = Self { process, port, _directory: directory };
        let deadline = Instant::now() + Duration::from_secs(10);
        while Link::connect(port).await.is_err() {
            if Instant::now() > deadline {
                return Err("redis-server does not answer".into());
            }
            sleep(Duration::from_millis(10)).await;
        }
        Ok(redis)
    }

    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }

    /// The processor time that it has used, in seconds.
    pub(crate) fn busy_seconds(&self) -> Result<f64> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.process.id()))?;
        let fields = stat.rsplit(") ").next().ok_or("no fields")?;
        let ticks: Vec<f64> =
            fields.split(' ').skip(11).take(2).filter_map(|field| field.parse().ok()).collect();
        // USER_HZ is 100 on all architectures that Uproar runs on.
        Ok(ticks.iter().sum::<f64>() / 100.0)
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
