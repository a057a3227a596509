//! Whether shards and acceptors may use their cores, and whether there is enough processor time.

use std::path::Path;

use super::report::{CheckOutcome, Finding, finding};
use crate::config::{Config, Placement, allowed_cores};

/// Checks the cores of shards and of acceptors.
pub(super) fn check(config: &Config) -> Vec<Finding> {
    vec![check_shards(&config.placement), check_acceptors(config)]
}

fn check_shards(placement: &Placement) -> Finding {
    const CHECK: &str = "cores";
    let shards = placement.shards();
    let described = match placement {
        Placement::Pinned(cores) => {
            if let Some(detail) = refused_cores("cores", cores) {
                return finding(CHECK, CheckOutcome::Fatal, detail);
            }
            format!("{shards} shards, pinned to {}", list(cores))
        }
        Placement::Unpinned(_) => format!("{shards} shards, not pinned"),
    };
    // The standard library counts the affinity mask and the control group's quota.
    match std::thread::available_parallelism() {
        Ok(available) if available.get() < shards => {
            let detail = format!(
                "{described}, but there is processor time for {available} of them: --shards {available} \
                 or --cores, or a larger quota"
            );
            finding(CHECK, CheckOutcome::Lacking, detail)
        }
        _ => finding(CHECK, CheckOutcome::Ok, described),
    }
}

fn check_acceptors(config: &Config) -> Finding {
    const CHECK: &str = "acceptors";
    let priority = match config.acceptors_share_cores() {
        true => ", at a lower priority than theirs",
        false => "",
    };
    let place = match &config.acceptor_cores {
        Some(cores) => {
            if let Some(detail) = refused_cores("acceptor-cores", cores) {
                return finding(CHECK, CheckOutcome::Fatal, detail);
            }
            let shared = if priority.is_empty() { "" } else { ", which shards may use, too" };
            format!("pinned to {}{shared}", list(cores))
        }
        None if priority.is_empty() => "not pinned, because there are more cores than shards".to_owned(),
        None => "on the cores of the shards".to_owned(),
    };
    finding(CHECK, CheckOutcome::Ok, format!("{}, {place}{priority}", config.acceptor_count()))
}

/// Explains which of these cores the process cannot use, if any.
fn refused_cores(key: &str, cores: &[usize]) -> Option<String> {
    let allowed = allowed_cores().unwrap_or_default();
    let exists = |core| Path::new(&format!("/sys/devices/system/cpu/cpu{core}")).exists();
    explain_cores(key, cores, &allowed, exists)
}

/// The explanation, for an affinity mask of these `allowed` cores.
fn explain_cores(
    key: &str,
    cores: &[usize],
    allowed: &[usize],
    exists: impl Fn(usize) -> bool,
) -> Option<String> {
    let refused: Vec<usize> = cores.iter().copied().filter(|core| !allowed.contains(core)).collect();
    let absent: Vec<usize> = refused.iter().copied().filter(|core| !exists(*core)).collect();
    let usable = list(allowed);
    if !absent.is_empty() {
        return Some(format!("there is no core {}: --{key} may name {usable}", list(&absent)));
    }
    (!refused.is_empty()).then(|| {
        format!(
            "core {} is outside the process's affinity mask: --{key} may name {usable}; or widen the mask with \
             taskset -c, or the container's cpuset",
            list(&refused)
        )
    })
}

fn list(cores: &[usize]) -> String {
    cores.iter().map(usize::to_string).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_acceptors_and_where_they_run_are_told() {
        let acceptors = std::num::NonZeroUsize::new(3);
        let placement = Placement::Pinned(vec![0]);
        let told = check_acceptors(&Config { acceptors, placement, ..Config::default() });
        assert_eq!(told.detail, "3, on the cores of the shards, at a lower priority than theirs");
    }

    #[test]
    fn cores_must_exist_and_be_allowed() {
        let explain = |cores: &[usize]| explain_cores("cores", cores, &[0, 1], |core| core < 4);
        assert_eq!(explain(&[0, 1]), None);
        assert_eq!(explain(&[1, 9]).unwrap(), "there is no core 9: --cores may name 0,1");
        assert!(explain(&[2]).unwrap().starts_with("core 2 is outside the process's affinity mask"));
    }
}
