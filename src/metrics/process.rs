//! The process, in the families that Prometheus' client libraries give every process.
//!
//! What the kernel does not tell is left out.

use std::fmt;
use std::sync::LazyLock;

use procfs::process::{LimitValue, Process};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::metrics::MetricType::{Counter, Gauge};

use super::families::Families;

/// When the system has started, in Unix seconds. Reading that looks at all interrupts of the machine, so it is done once.
static BOOT_UNIX: LazyLock<Option<u64>> = LazyLock::new(|| procfs::boot_time_secs().ok());

/// Reads `/proc/self` with each scrape.
#[derive(Debug)]
pub(super) struct ProcessCollector;

impl Collector for ProcessCollector {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut to = Families(encoder);
        let Ok(process) = Process::myself() else { return Ok(()) };
        let ticks = procfs::ticks_per_second();
        if let Ok(stat) = process.stat() {
            let cpu_seconds = (stat.utime + stat.stime) as f64 / ticks as f64;
            to.one("cpu_seconds_total", "User and system CPU time of the process", Counter, cpu_seconds)?;
            to.one("resident_memory_bytes", "Resident memory", Gauge, stat.rss * procfs::page_size())?;
            to.one("virtual_memory_bytes", "Virtual memory", Gauge, stat.vsize)?;
            to.one("threads", "Threads", Gauge, stat.num_threads as u64)?;
            if let Some(boot) = *BOOT_UNIX {
                let started = boot as f64 + stat.starttime as f64 / ticks as f64;
                to.one("start_time_seconds", "When the process started, in Unix seconds", Gauge, started)?;
            }
        }
        if let Ok(open) = process.fd_count() {
            to.one("open_fds", "Open file descriptors", Gauge, open as u64)?;
        }
        if let Ok(limits) = process.limits()
            && let LimitValue::Value(limit) = limits.max_open_files.soft_limit
        {
            to.one("max_fds", "The most open file descriptors", Gauge, limit)?;
        }
        Ok(())
    }
}
