//! What the server's process costs: CPU time and memory, from `/proc` (proc_pid_stat(5),
//! proc_pid_status(5)).

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read};

use rustix::param::clock_ticks_per_second;
use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::preflight::parse_cores;

/// A process that is looked at.
#[derive(Clone, Copy, Debug)]
pub struct ServerProcess {
    pid: u32,
}

/// CPU time used so far, in the kernel's resolution of one tick (10 ms).
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct CpuTime {
    /// In user space.
    pub user_us: u64,
    /// In the kernel.
    pub system_us: u64,
}

impl CpuTime {
    /// What was used since `earlier`.
    #[must_use]
    pub fn since(self, earlier: Self) -> Self {
        Self {
            user_us: self.user_us.saturating_sub(earlier.user_us),
            system_us: self.system_us.saturating_sub(earlier.system_us),
        }
    }
}

impl ServerProcess {
    /// The process with this id.
    ///
    /// # Errors
    ///
    /// When `/proc` has no such process, or it may not be read.
    pub fn open(pid: u32) -> io::Result<Self> {
        let process = Self { pid };
        process.cpu_time()?;
        Ok(process)
    }

    /// The CPU time of all its threads.
    ///
    /// # Errors
    ///
    /// When the process has gone.
    pub fn cpu_time(self) -> io::Result<CpuTime> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid))?;
        parse_cpu_time(&stat, clock_ticks_per_second())
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "unknown form of /proc/PID/stat"))
    }

    /// Resident memory in bytes; `None` when it cannot be read.
    #[must_use]
    pub fn resident_bytes(self) -> Option<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid)).ok()?;
        let kibibytes = field(&status, "VmRSS:")?.trim_end_matches("kB").trim().parse::<u64>().ok()?;
        Some(kibibytes * 1024)
    }

    /// The cores that its threads may run on; empty when they cannot be read.
    ///
    /// Where some threads are pinned, those that are not do no work to speak of (a main thread that waits
    /// for signals, say), and are left out.
    #[must_use]
    pub fn cores(self) -> BTreeSet<usize> {
        let tasks = fs::read_dir(format!("/proc/{}/task", self.pid)).into_iter().flatten().flatten();
        busy_cores(tasks.filter_map(|task| {
            let status = fs::read_to_string(task.path().join("status")).ok()?;
            parse_cores(field(&status, "Cpus_allowed_list:")?).ok()
        }))
    }

    /// The SHA-256 of its executable.
    #[must_use]
    pub fn executable_sha256(self) -> Option<String> {
        file_sha256(&format!("/proc/{}/exe", self.pid))
    }
}

fn field<'a>(status: &'a str, name: &str) -> Option<&'a str> {
    status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim)
}

fn busy_cores(threads: impl Iterator<Item = Vec<usize>>) -> BTreeSet<usize> {
    let threads: Vec<_> = threads.collect();
    let widest = threads.iter().map(Vec::len).max().unwrap_or(0);
    let all_alike = threads.iter().all(|cores| cores.len() == widest);
    threads.into_iter().filter(|cores| all_alike || cores.len() < widest).flatten().collect()
}

/// The SHA-256 of a file, in hexadecimal; `None` when it cannot be read.
#[must_use]
pub fn file_sha256(path: &str) -> Option<String> {
    // Piece by piece: an executable with debug information can be larger than all that a run needs.
    let mut file = File::open(path).ok()?;
    let mut hasher = Sha256::new();
    let mut piece = vec![0; 64 << 10];
    loop {
        match file.read(&mut piece).ok()? {
            0 => break,
            length => hasher.update(&piece[..length]),
        }
    }
    Some(hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

fn parse_cpu_time(stat: &str, ticks_per_second: u64) -> Option<CpuTime> {
    // The second field is the name in parentheses, which may hold spaces and parentheses itself.
    let (_, after_name) = stat.rsplit_once(')')?;
    // utime and stime are fields 14 and 15; what follows the name begins with field 3.
    let mut fields = after_name.split_ascii_whitespace().skip(11);
    let mut microseconds = || Some(fields.next()?.parse::<u64>().ok()? * 1_000_000 / ticks_per_second);
    Some(CpuTime { user_us: microseconds()?, system_us: microseconds()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_does_not_shift_the_fields() {
        let stat = "42 (a) (b c) S 1 42 42 0 -1 4194304 100 0 0 0 250 75 9 9 20 0 1 0 5 6 7";
        assert_eq!(parse_cpu_time(stat, 100), Some(CpuTime { user_us: 2_500_000, system_us: 750_000 }));
        assert_eq!(parse_cpu_time("42 (a) S 1", 100), None);
    }

    #[test]
    fn an_idle_thread_beside_pinned_ones_shares_no_core() {
        let cores = |threads: &[&[usize]]| busy_cores(threads.iter().map(|cores| cores.to_vec()));
        assert_eq!(cores(&[&[0, 1, 2], &[0], &[2]]), [0, 2].into());
        assert_eq!(cores(&[&[0, 1], &[0, 1]]), [0, 1].into());
        assert_eq!(cores(&[]), [].into());
    }

    #[test]
    fn a_file_of_several_pieces_has_the_hash_of_its_whole() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        let content: Vec<u8> = (0..150_000_u32).map(|byte| byte as u8).collect();
        fs::write(file.path(), &content).expect("writes");
        let whole: String = Sha256::digest(&content).iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(file_sha256(file.path().to_str().expect("UTF-8")), Some(whole));
        assert_eq!(file_sha256("/no/such/file"), None);
    }

    #[test]
    fn this_process_can_be_read() {
        let process = ServerProcess::open(std::process::id()).expect("it runs");
        assert!(process.resident_bytes().is_some_and(|bytes| bytes > 100_000));
        assert!(!process.cores().is_empty());
        assert_eq!(process.executable_sha256().map(|hash| hash.len()), Some(64));
        assert!(ServerProcess::open(u32::MAX / 2).is_err());
    }
}
