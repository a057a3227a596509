//! Whether io_uring can be used, for all shards and acceptors at the same time.

use std::io;

use rustix::io::Errno;
use uproar_ring::{Features, Probe, ProbeError, Ring, Waker};

use super::kernel_setting::kernel_setting;
use super::report::{CheckOutcome, Finding, finding};

/// Checks that the kernel has what rings need, and then that this many shards and acceptors can have theirs.
pub(super) fn check(shards: usize, acceptors: usize, wanted: Features) -> Vec<Finding> {
    let mut findings = check_kernel();
    if !findings.iter().any(|finding| finding.outcome == CheckOutcome::Fatal) {
        findings.push(check_rings(shards, acceptors, wanted));
    }
    findings
}

fn check_kernel() -> Vec<Finding> {
    const CHECK: &str = "io_uring";
    let kernel = rustix::system::uname().release().to_string_lossy().into_owned();
    let probe = match Probe::new() {
        Ok(probe) => probe,
        Err(error) => {
            let disabled = kernel_setting("/proc/sys/kernel/io_uring_disabled");
            let detail = explain_setup(&error, &disabled, &kernel);
            return vec![finding(CHECK, CheckOutcome::Fatal, detail)];
        }
    };
    vec![
        finding(CHECK, CheckOutcome::Ok, format!("kernel {kernel}, with deferred task work")),
        check_operations(&probe),
        check_buffers(&probe),
    ]
}

/// How to allow io_uring in a container.
const PROFILE: &str = "let the container's seccomp profile allow io_uring_setup, io_uring_enter and \
                       io_uring_register (docker run --security-opt seccomp=PROFILE.json, or =unconfined)";

/// The memory of a shard without clients, beside its ring: the stack of its thread and an initial heap.
const SHARD_BYTES: usize = 8 << 20;

fn reserve_memory(bytes: usize) -> io::Result<Vec<u8>> {
    let mut memory = Vec::new();
    memory.try_reserve_exact(bytes).map_err(|_| io::Error::from(Errno::NOMEM))?;
    Ok(memory)
}

/// Sets up the rings of all shards and acceptors at the same time, in the sizes that they will have.
fn check_rings(shards: usize, acceptors: usize, wanted: Features) -> Finding {
    const CHECK: &str = "rings";
    let options = uproar_ring::Options { features: wanted, ..uproar_ring::Options::default() };
    let mut held = Vec::new();
    for shard in 1..=shards {
        // Its memory first: if that fails, there is enough left to report it.
        let tried = reserve_memory(SHARD_BYTES).and_then(|memory| {
            let mut ring = uproar_ring::retrying_enomem(|| Ring::new(options, Waker::new()?))?;
            ring.try_out()?;
            held.push((memory, ring));
            Ok(())
        });
        if let Err(error) = tried {
            // The message may need the memory.
            held.clear();
            let owner = format!("shard {shard} of {shards}");
            return finding(CHECK, CheckOutcome::Fatal, explain_ring(&error, &owner));
        }
    }
    let mut runtimes = Vec::new();
    for acceptor in 1..=acceptors {
        match uproar_ring::retrying_enomem(|| tokio_uring::Runtime::new(&tokio_uring::builder())) {
            Ok(runtime) => runtimes.push(runtime),
            Err(error) => {
                held.clear();
                runtimes.clear();
                let owner = format!("acceptor {acceptor} of {acceptors}");
                return finding(CHECK, CheckOutcome::Fatal, explain_ring(&error, &owner));
            }
        }
    }
    // All rings have the features of the same kernel.
    let features = held.first().map_or(Features::NONE, |(_, ring)| ring.features());
    let lacking = wanted.missing_in(features);
    let mut detail = format!(
        "one for each of {}; features: {}",
        shards_and_acceptors(shards, acceptors),
        features.names()
    );
    if lacking != Features::NONE {
        detail += &format!("; not on this kernel: {}", lacking.names());
    }
    finding(CHECK, CheckOutcome::Ok, detail)
}

fn shards_and_acceptors(shards: usize, acceptors: usize) -> String {
    let count = |count, name| format!("{count} {name}{}", if count == 1 { "" } else { "s" });
    format!("{} and {}", count(shards, "shard"), count(acceptors, "acceptor"))
}

/// Explains why the ring of this shard or acceptor cannot be set up or used, although earlier ones could.
fn explain_ring(error: &io::Error, owner: &str) -> String {
    match Errno::from_io_error(error) {
        Some(Errno::PERM | Errno::ACCESS | Errno::NOSYS) => format!("io_uring_enter is forbidden: {PROFILE}"),
        Some(Errno::NOMEM) => format!(
            "no memory left for the ring of {owner}: raise the limit of locked memory \
             (ulimit -l, or LimitMEMLOCK= in the systemd unit), of the control group's memory, or of the address space \
             (ulimit -v), or run fewer shards with --shards"
        ),
        Some(Errno::MFILE | Errno::NFILE) => {
            format!("no descriptor left for the ring of {owner}: raise the limit with ulimit -n")
        }
        _ => format!("the ring of {owner} cannot be used: {error}"),
    }
}

/// Explains a failed io_uring_setup(2), and what to change.
fn explain_setup(failure: &ProbeError, disabled: &str, kernel: &str) -> String {
    let error = &failure.error;
    match Errno::from_io_error(error) {
        Some(Errno::INVAL) if failure.has_older_ring => {
            format!("kernel {kernel} is too old: deferred task work came with 6.1")
        }
        Some(Errno::NOSYS) => {
            format!("kernel {kernel} has no io_uring, or hides it: run on Linux 6.1 or later, and {PROFILE}")
        }
        Some(Errno::PERM | Errno::ACCESS) => match disabled {
            "2" => "disabled for all processes: sysctl -w kernel.io_uring_disabled=0".into(),
            "1" => "disabled for unprivileged processes: sysctl -w kernel.io_uring_disabled=0, or add the user to \
                    the group that the sysctl kernel.io_uring_group names"
                .into(),
            _ => format!("forbidden, though not by kernel.io_uring_disabled: {PROFILE}"),
        },
        Some(Errno::MFILE) => "no descriptor left for a ring: raise the limit with ulimit -n".into(),
        Some(Errno::NOMEM) => {
            "no memory left for a ring: raise the memory limit of the control group, or ulimit -l".into()
        }
        _ => format!("a ring cannot be set up on kernel {kernel}: {error}"),
    }
}

fn check_operations(probe: &Probe) -> Finding {
    const CHECK: &str = "operations";
    match probe.operations() {
        Err(error) => {
            let detail =
                format!("the ring cannot be asked for its operations: {error}; allow io_uring_register");
            finding(CHECK, CheckOutcome::Fatal, detail)
        }
        Ok(operations) if operations.missing.is_empty() => {
            finding(CHECK, CheckOutcome::Ok, operations.supported.join(", "))
        }
        Ok(operations) => {
            let missing = operations.missing.join(", ");
            finding(CHECK, CheckOutcome::Fatal, format!("{missing} missing: run on Linux 6.1 or later"))
        }
    }
}

fn check_buffers(probe: &Probe) -> Finding {
    const CHECK: &str = "buffers";
    match probe.check_buffer_rings() {
        Err(error) => {
            let detail = format!("provided-buffer rings missing ({error}): run on Linux 6.1 or later");
            finding(CHECK, CheckOutcome::Fatal, detail)
        }
        Ok(()) => finding(CHECK, CheckOutcome::Ok, "provided-buffer rings"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_setup_says_what_to_change() {
        let explain = |errno: Errno, has_older_ring, disabled| {
            let failure = ProbeError { error: io::Error::from(errno), has_older_ring };
            explain_setup(&failure, disabled, "5.15.0")
        };
        assert_eq!(
            explain(Errno::INVAL, true, "0"),
            "kernel 5.15.0 is too old: deferred task work came with 6.1"
        );
        assert!(explain(Errno::NOSYS, false, "").contains("run on Linux 6.1 or later"));
        assert!(explain(Errno::NOSYS, false, "").contains("seccomp"));
        assert!(explain(Errno::PERM, false, "2").contains("sysctl -w kernel.io_uring_disabled=0"));
        assert!(explain(Errno::PERM, false, "1").contains("kernel.io_uring_group"));
        assert!(explain(Errno::PERM, false, "0").contains("--security-opt seccomp="));
        assert!(explain(Errno::PERM, false, "").contains("--security-opt seccomp="));
        assert!(explain(Errno::NOMEM, false, "0").contains("memory limit"));
    }

    #[test]
    fn rings_that_cannot_be_had_say_what_to_change() {
        let explain = |errno: Errno| explain_ring(&io::Error::from(errno), "shard 3 of 8");
        assert!(explain(Errno::PERM).starts_with("io_uring_enter is forbidden: let the container's seccomp"));
        let memory = explain(Errno::NOMEM);
        assert!(
            memory
                .starts_with("no memory left for the ring of shard 3 of 8: raise the limit of locked memory"),
            "{memory}"
        );
        assert!(explain(Errno::MFILE).ends_with("raise the limit with ulimit -n"));
        assert!(explain(Errno::TIME).contains("the ring of shard 3 of 8 cannot be used"));
        let rings = check_rings(2, 1, Features::ALL);
        assert_eq!(rings.outcome, CheckOutcome::Ok);
        assert!(rings.detail.starts_with("one for each of 2 shards and 1 acceptor; "), "{}", rings.detail);
    }
}
