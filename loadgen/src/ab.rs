//! `loadgen ab`: measures two server commands in turn, each run on a fresh server, and compares them.
//!
//! Both are measured in every pair, in random order, so that whatever changes slowly about the machine
//! meets both alike. A run is made by this very program in a process of its own; its results lie in
//! `OUT/pair-NN-a` and `OUT/pair-NN-b` from the moment they exist, together with the server's output. Runs
//! that came out INVALID are moved to `OUT/invalid` and repeated.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;
use std::time::{Duration, SystemTime};

use clap::Args;
use fastrand::Rng;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use crate::compare::sides::Place;
use crate::compare::{self, Judging, samples, table};
use crate::error::Error;
use crate::network::security::Security;
use crate::network::target::Target;
use crate::options::RunOptions;
use crate::saved::SavedRun;
use crate::server::command::ServerCommand;
use crate::timings::quantiles::value_at;

/// How often a run is made until it is valid. A machine that spoils three in a row spoils the comparison.
const ATTEMPTS_MAX: u32 = 3;
/// How often a run is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// The exit code of an INVALID result.
const EXIT_INVALID: u8 = 3;

/// The options of `ab`.
#[derive(Clone, Debug, Args)]
pub struct AbOptions {
    /// The command that starts the first server, for sh -c.
    #[arg(long, value_name = "CMD")]
    pub a: String,
    /// The command that starts the second server.
    #[arg(long, value_name = "CMD", required_unless_present = "aa", conflicts_with = "aa")]
    pub b: Option<String>,
    /// Measure the first command against itself: every difference found is a false positive.
    #[arg(long)]
    pub aa: bool,
    /// The revision of the first server, which is saved with its runs.
    #[arg(long, value_name = "REV")]
    pub revision_a: Option<String>,
    /// The revision of the second server.
    #[arg(long, value_name = "REV", conflicts_with = "aa")]
    pub revision_b: Option<String>,
    /// How often to run each.
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub pairs: u32,
    /// Where to keep the runs; must be empty. Default: results/ab-TIME.
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,
    /// Print nothing but the result.
    #[arg(long)]
    pub quiet: bool,
    /// How to judge.
    #[command(flatten)]
    pub judging: Judging,
    /// Options of loadgen run, behind --.
    #[arg(last = true, value_name = "RUN FLAGS")]
    pub run_flags: Vec<String>,
}

/// Measures with `run_options`, which are [`AbOptions::run_flags`] parsed, compares and prints.
///
/// # Errors
///
/// An [`Error`] when the measurement cannot be made. Runs that stay INVALID are no error, but exit code 3.
pub fn run(options: &AbOptions, run_options: RunOptions) -> Result<ExitCode, Error> {
    check(&run_options)?;
    let target = Target::parse(&run_options.urls[0])?;
    let security = Security::of(&run_options, &target)?;
    let interrupted = catch_signals()?;
    let seed = options.judging.seed.unwrap_or_else(|| fastrand::u64(..));
    let out = make_out(options)?;
    let bench = Bench { options, run_options, target, security, out, interrupted };
    bench.say(&format!(
        "{} pairs into {} (order and bootstrap: --seed {seed})",
        options.pairs,
        bench.out.display()
    ));
    let (rate, seconds) =
        (bench.run_options.mean_rate(), bench.run_options.measured_duration().as_secs_f64());
    if let Some(shortage) = samples::shortage(&options.judging.primary, rate, seconds) {
        // Now, and not after all the runs.
        eprintln!("warning: {shortage}");
    }
    let mut directories = [Vec::new(), Vec::new()];
    let mut rng = Rng::with_seed(seed);
    for pair in 1..=options.pairs {
        let mut order = [Arm::A, Arm::B];
        rng.shuffle(&mut order);
        for arm in order {
            match bench.measure(arm, pair)? {
                Some(directory) => directories[arm as usize].push(directory),
                None => return Ok(ExitCode::from(EXIT_INVALID)),
            }
        }
    }
    let [a, b] = directories;
    let places =
        [("A", a), ("B", b)].map(|(label, directories)| Place { label: label.to_owned(), directories });
    let comparison = compare::compare(places, false, &options.judging, seed)?;
    let path = bench.out.join("compare.json");
    let failed = |source| Error::Write { path: path.display().to_string(), source };
    let json = table::json(&comparison).map_err(|error| failed(error.into()))?;
    fs::write(&path, json).map_err(failed)?;
    table::print(&comparison, options.judging.format)?;
    if options.aa {
        bench.say("A and B were the same command: every difference found is a false positive");
    }
    Ok(comparison.exit_code())
}

/// One of the two servers.
#[derive(Clone, Copy, Debug)]
enum Arm {
    A,
    B,
}

impl Arm {
    fn letter(self) -> char {
        match self {
            Self::A => 'a',
            Self::B => 'b',
        }
    }
}

/// The state that all runs share.
struct Bench<'a> {
    options: &'a AbOptions,
    run_options: RunOptions,
    target: Target,
    security: Option<Security>,
    out: PathBuf,
    interrupted: Arc<AtomicBool>,
}

impl Bench<'_> {
    /// Runs until the result is valid, and returns its place; `None` when it never was.
    fn measure(&self, arm: Arm, pair: u32) -> Result<Option<PathBuf>, Error> {
        let name = format!("pair-{pair:02}-{}", arm.letter());
        let directory = self.out.join(&name);
        for attempt in 1..=ATTEMPTS_MAX {
            make_directory(&directory)?;
            let code = self.attempt(arm, &directory)?;
            match code {
                Some(0) => {
                    let run = SavedRun::read(&directory).map_err(Error::Runtime)?;
                    let p99 = value_at(run.log.latency(), 0.99);
                    self.say(&format!("{name}: latency p99 {:.3} ms", p99 as f64 / 1e6));
                    return Ok(Some(directory));
                }
                Some(EXIT_INVALID) => {
                    let run = SavedRun::read(&directory).map_err(Error::Runtime)?;
                    let kept = self.out.join("invalid").join(format!("{name}-{attempt}"));
                    move_directory(&directory, &kept)?;
                    eprintln!(
                        "INVALID: {name}, attempt {attempt} of {ATTEMPTS_MAX}: {}",
                        run.result.validity.reasons()
                    );
                }
                _ => {
                    let code = code.map_or("a signal".to_owned(), |code| format!("exit code {code}"));
                    return Err(Error::Runtime(format!(
                        "{name}: loadgen run ended with {code}; what was measured is in {}",
                        self.out.display()
                    )));
                }
            }
        }
        eprintln!(
            "INVALID: {name} was INVALID {ATTEMPTS_MAX} times, so nothing is compared; what was measured is in {}",
            self.out.display()
        );
        Ok(None)
    }

    /// One run on a fresh server; the run's exit code.
    fn attempt(&self, arm: Arm, directory: &Path) -> Result<Option<u8>, Error> {
        let command = match (arm, &self.options.b) {
            (Arm::B, Some(b)) => b,
            _ => &self.options.a,
        };
        let mut server = ServerCommand::start(command, &self.target, &directory.join("server.log"))?;
        server.await_ready(&self.target, self.security.as_ref(), || self.is_interrupted())?;
        let pid = server.pid();
        if pid.is_none() {
            eprintln!(
                "warning: no process of {command:?} listens itself, so its CPU and memory are not known"
            );
        }
        let revision = match arm {
            Arm::B if !self.options.aa => &self.options.revision_b,
            _ => &self.options.revision_a,
        };
        let code = self.loadgen(pid, revision.as_deref(), directory)?;
        server.stop()?;
        Ok(code)
    }

    fn loadgen(
        &self,
        server_pid: Option<u32>,
        revision: Option<&str>,
        directory: &Path,
    ) -> Result<Option<u8>, Error> {
        let path = directory.join("output.txt");
        let failed = |source| Error::Write { path: path.display().to_string(), source };
        let output = File::create(&path).map_err(failed)?;
        // The program that runs, even when its file was replaced by a build in the meantime.
        let mut command = Command::new("/proc/self/exe");
        command.arg("run").args(&self.options.run_flags).arg("--out").arg(directory);
        if let Some(pid) = server_pid {
            command.arg("--server-pid").arg(pid.to_string());
        }
        if let Some(revision) = revision {
            command.arg("--server-revision").arg(revision);
        }
        if !self.run_options.quiet {
            command.arg("--quiet");
        }
        let started = command.stdin(Stdio::null()).stdout(output).spawn();
        let child = started.map_err(|error| Error::Runtime(format!("cannot start loadgen run: {error}")))?;
        let mut child = KilledOnDrop(child);
        loop {
            if self.is_interrupted() {
                return Err(Error::Runtime(format!(
                    "interrupted; what was measured is in {}",
                    self.out.display()
                )));
            }
            let failed = |error| Error::Runtime(format!("cannot wait for loadgen run: {error}"));
            if let Some(status) = child.0.try_wait().map_err(failed)? {
                // A terminal interrupts both: such a run ends by itself, INVALID, and is not to be repeated.
                if self.is_interrupted() {
                    continue;
                }
                return Ok(status.code().and_then(|code| u8::try_from(code).ok()));
            }
            sleep(LOOK_EVERY);
        }
    }

    fn is_interrupted(&self) -> bool {
        self.interrupted.load(Ordering::Acquire)
    }

    fn say(&self, line: &str) {
        if !self.options.quiet {
            // Standard output is for the result alone.
            eprintln!("{line}");
        }
    }
}

struct KilledOnDrop(Child);

impl Drop for KilledOnDrop {
    fn drop(&mut self) {
        // Without effect on what has ended.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Refuses options of the run that this command chooses itself.
fn check(options: &RunOptions) -> Result<(), Error> {
    let usage = |why: &str| Error::Usage(format!("options behind --: {why}"));
    let own = [
        ("--url", options.urls.len() > 1, "ab starts one server for each run, so give one"),
        ("--out", options.out.is_some(), "ab chooses the place of every run itself (--out before the --)"),
        ("--server-pid", options.server_pid.is_some(), "ab starts the servers itself"),
        (
            "--server-revision",
            options.server_revision.is_some(),
            "--revision-a and --revision-b tell the servers apart",
        ),
        ("--save-baseline", options.save_baseline.is_some(), "runs of two servers make no baseline"),
        (
            "--threshold",
            !options.thresholds.is_empty(),
            "it judges one run, and ab compares many: loadgen run takes it",
        ),
        ("--find-max", options.find_max.is_some(), "a search is many runs, and one is compared"),
    ];
    match own.into_iter().find(|(_, given, _)| *given) {
        Some((name, _, why)) => Err(usage(&format!("{name}: {why}"))),
        None => Ok(()),
    }
}

/// Notes signals that would otherwise end this process and leave a server behind.
fn catch_signals() -> Result<Arc<AtomicBool>, Error> {
    let interrupted = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        signal_hook::flag::register(signal, Arc::clone(&interrupted))
            .map_err(|error| Error::Runtime(format!("cannot catch signal {signal}: {error}")))?;
    }
    Ok(interrupted)
}

fn make_out(options: &AbOptions) -> Result<PathBuf, Error> {
    let default = || {
        let now = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
        PathBuf::from(format!("results/ab-{}", now.replace([':', '-'], "")))
    };
    let out = options.out.clone().unwrap_or_else(default);
    make_directory(&out)?;
    let is_empty = fs::read_dir(&out).is_ok_and(|mut entries| entries.next().is_none());
    if !is_empty {
        return Err(Error::Usage(format!("--out {}: it is not empty; name another", out.display())));
    }
    Ok(out)
}

fn make_directory(directory: &Path) -> Result<(), Error> {
    fs::create_dir_all(directory)
        .map_err(|source| Error::Write { path: directory.display().to_string(), source })
}

fn move_directory(from: &Path, to: &Path) -> Result<(), Error> {
    to.parent().map_or(Ok(()), make_directory)?;
    fs::rename(from, to).map_err(|source| Error::Write { path: to.display().to_string(), source })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::tests::options;

    #[test]
    fn options_that_ab_sets_itself_are_refused() {
        check(&options(&["--clients", "7", "--url", "ws://a:1"])).expect("ab leaves them to the run");
        for wrong in [
            &["--out", "x"][..],
            &["--url", "ws://a", "--url", "ws://b"],
            &["--server-pid", "1"],
            &["--server-revision", "x"],
            &["--save-baseline", "x"],
            &["--find-max", "latency.p99<1s"],
            &["--threshold", "latency.p99<1s"],
        ] {
            assert!(check(&options(wrong)).is_err(), "{wrong:?}");
        }
    }
}
