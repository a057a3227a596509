//! What the server's process costs: CPU time by its clock (clock_getcpuclockid(3)), and memory from `/proc`
//! (proc_pid_stat(5), proc_pid_status(5)).

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read};
use std::time::Duration;

use nix::time::{clock_getcpuclockid, clock_gettime};
use nix::unistd::Pid;
use rustix::param::clock_ticks_per_second;
use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::server::cores::parse_cores;

/// A process that is looked at.
#[derive(Clone, Copy, Debug)]
pub struct ServerProcess {
    pid: u32,
}

/// How far off the CPU time can be for each thread that runs while it is read: the kernel brings the time of
/// a running thread up to date at its ticks, which are 10 ms apart at most (`CONFIG_HZ=100`).
pub const ERROR_A_THREAD: Duration = Duration::from_millis(10);

/// Up to this many descriptors a process may have had at its start.
const DESCRIPTORS_AT_START: u64 = 256;
/// A process that starts may have needed so much more memory than it keeps.
const RESIDENT_AT_START: u64 = 1 << 20;

/// CPU time used so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct CpuTime {
    /// In all: what the scheduler has measured in nanoseconds, for all threads, those that have ended included.
    /// (It is the sum of what each thread has in `/proc/PID/task/TID/schedstat`, from which a thread that ends
    /// vanishes.)
    pub total_ns: u64,
    /// In user space, which ticks have sampled, in steps of 10 ms.
    pub user_us: u64,
    /// In the kernel, likewise.
    pub system_us: u64,
}

impl CpuTime {
    /// What was used since `earlier`.
    #[must_use]
    pub fn since(self, earlier: Self) -> Self {
        Self {
            total_ns: self.total_ns.saturating_sub(earlier.total_ns),
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
        let unknown = || io::Error::new(io::ErrorKind::InvalidData, "unknown form of /proc/PID/stat");
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid))?;
        let [user_us, system_us] = parse_cpu_time(&stat, clock_ticks_per_second()).ok_or_else(unknown)?;
        let clock = clock_getcpuclockid(Pid::from_raw(self.pid.cast_signed()))?;
        let total_ns = Duration::from(clock_gettime(clock)?).as_nanos() as u64;
        Ok(CpuTime { total_ns, user_us, system_us })
    }

    /// How many threads it has; 0 when that cannot be read.
    #[must_use]
    pub fn threads(self) -> usize {
        fs::read_dir(format!("/proc/{}/task", self.pid)).map_or(0, Iterator::count)
    }

    /// Resident memory in bytes; `None` when it cannot be read.
    #[must_use]
    pub fn resident_bytes(self) -> Option<u64> {
        number(&self.status()?, "VmRSS:").map(|kibibytes| kibibytes * 1024)
    }

    /// What shows that it has served before, in words: its memory is not only what the next clients need then,
    /// and what those need it may have already. `None` where nothing shows.
    ///
    /// A process that gives memory back has a higher mark of it than it has memory (`VmHWM`). One that does not
    /// still has the table of descriptors that it once needed, which never shrinks (`FDSize`).
    #[must_use]
    pub fn served_before(self) -> Option<String> {
        let descriptors = fs::read_dir(format!("/proc/{}/fd", self.pid)).ok().map(Iterator::count);
        served_before(&self.status()?, descriptors.map(|count| count as u64))
    }

    fn status(self) -> Option<String> {
        fs::read_to_string(format!("/proc/{}/status", self.pid)).ok()
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

/// A field's number, without its unit.
fn number(status: &str, name: &str) -> Option<u64> {
    field(status, name)?.split_ascii_whitespace().next()?.parse().ok()
}

fn served_before(status: &str, descriptors: Option<u64>) -> Option<String> {
    let bytes = |name| number(status, name).map(|kibibytes| kibibytes * 1024);
    if let (Some(peak), Some(resident)) = (bytes("VmHWM:"), bytes("VmRSS:")) {
        // A twentieth more, or what a start alone may take.
        if peak > resident + (resident / 20).max(RESIDENT_AT_START) {
            let mebibytes = |bytes: u64| bytes as f64 / f64::from(1 << 20);
            return Some(format!(
                "it has had {:.1} MiB and has {:.1} now",
                mebibytes(peak),
                mebibytes(resident)
            ));
        }
    }
    let (table, descriptors) = (number(status, "FDSize:")?, descriptors?);
    // The table doubles when it is full, so one that is half empty stands for more descriptors than there are.
    (table > DESCRIPTORS_AT_START && table / 2 > descriptors)
        .then(|| format!("it has had more than {} descriptors open and has {descriptors} now", table / 2))
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

/// User and system time in microseconds.
fn parse_cpu_time(stat: &str, ticks_per_second: u64) -> Option<[u64; 2]> {
    // The second field is the name in parentheses, which may hold spaces and parentheses itself.
    let (_, after_name) = stat.rsplit_once(')')?;
    // utime and stime are fields 14 and 15; what follows the name begins with field 3.
    let mut fields = after_name.split_ascii_whitespace().skip(11);
    let mut microseconds = || Some(fields.next()?.parse::<u64>().ok()? * 1_000_000 / ticks_per_second);
    Some([microseconds()?, microseconds()?])
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::time::ClockId;

    #[test]
    fn a_name_with_parentheses_does_not_shift_the_fields() {
        let stat = "42 (a) (b c) S 1 42 42 0 -1 4194304 100 0 0 0 250 75 9 9 20 0 1 0 5 6 7";
        assert_eq!(parse_cpu_time(stat, 100), Some([2_500_000, 750_000]));
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
    fn the_cpu_time_of_a_thread_that_has_ended_is_kept() {
        let process = ServerProcess::open(std::process::id()).expect("it runs");
        let before = process.cpu_time().expect("it runs");
        let spun = Duration::from_millis(60);
        let spin = move || {
            let used = || clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map(Duration::from);
            while used().expect("a thread has a clock") < spun {}
        };
        std::thread::spawn(spin).join().expect("ends");
        let after = process.cpu_time().expect("it runs").since(before);
        assert!(Duration::from_nanos(after.total_ns) + ERROR_A_THREAD >= spun, "{after:?}");
    }

    #[test]
    fn a_server_that_has_had_clients_before_is_known_by_its_memory_or_its_descriptors() {
        let status = |peak: u64, resident: u64, table: u64| {
            format!("FDSize:\t{table}\nVmHWM:\t{peak} kB\nVmRSS:\t   {resident} kB\n")
        };
        let found = |peak, resident, table, open| served_before(&status(peak, resident, table), open);
        assert_eq!(found(14_324, 14_324, 64, Some(12)), None);
        assert_eq!(found(15_300, 14_324, 256, Some(12)), None);
        assert_eq!(found(16_700, 16_700, 4096, Some(2_060)), None, "its clients are still there");
        let gone = found(16_700, 16_700, 4096, Some(12)).expect("it shows");
        assert_eq!(gone, "it has had more than 2048 descriptors open and has 12 now");
        let memory = found(92_160, 20_480, 64, None).expect("it shows");
        assert_eq!(memory, "it has had 90.0 MiB and has 20.0 now");
        assert_eq!(found(16_700, 16_700, 4096, None), None, "another user's descriptors are not known");
        assert_eq!(served_before("", Some(1)), None);
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
