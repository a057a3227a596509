//! Where shards run: on cores of their own, or wherever the scheduler puts them.

use std::io;
use std::num::NonZeroUsize;

use rustix::thread::CpuSet;

/// The most shards: the number of cores that a `cpu_set_t` can name (CPU_SET(3)).
pub const SHARDS_MAX: usize = 1024;

/// Where the shards run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Placement {
    /// One shard for each of these cores, pinned to it. No core twice; never empty.
    Pinned(Vec<usize>),
    /// This many shards, wherever the scheduler puts them.
    Unpinned(NonZeroUsize),
}

impl Placement {
    /// One pinned shard on each core of the calling thread's affinity mask.
    ///
    /// Where the mask cannot be read (a machine of more cores than [`SHARDS_MAX`]), as many unpinned
    /// shards as the standard library counts cores, or one.
    #[must_use]
    pub fn every_core() -> Self {
        match allowed_cores() {
            Some(cores) if !cores.is_empty() => Self::Pinned(cores),
            _ => Self::Unpinned(std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN)),
        }
    }

    /// How many shards there are.
    #[must_use]
    pub fn shards(&self) -> usize {
        match self {
            Self::Pinned(cores) => cores.len(),
            Self::Unpinned(shards) => shards.get(),
        }
    }

    /// The core that each shard is pinned to, `None` where it is not.
    #[must_use]
    pub fn cores(&self) -> Vec<Option<usize>> {
        match self {
            Self::Pinned(cores) => cores.iter().copied().map(Some).collect(),
            Self::Unpinned(shards) => vec![None; shards.get()],
        }
    }

    /// True where the process may use more cores than there are shards, so that other threads need not take any time
    /// from these. Pinned shards never leave a core: the server uses none but those that were named, and each has one.
    pub(super) fn has_spare_cores(&self) -> bool {
        match self {
            Self::Pinned(_) => false,
            Self::Unpinned(shards) => std::thread::available_parallelism().is_ok_and(|cores| cores > *shards),
        }
    }

    /// Lets the calling thread, and those that it starts from now on, run on the cores of the shards alone,
    /// where they are pinned.
    ///
    /// # Errors
    ///
    /// When the process may not use one of them.
    pub fn confine(&self) -> io::Result<()> {
        match self {
            Self::Pinned(cores) => pin(cores),
            Self::Unpinned(_) => Ok(()),
        }
    }
}

/// Lets the calling thread, and those that it starts from now on, run on these cores alone.
///
/// # Errors
///
/// When the process may not use one of them.
pub fn pin(cores: &[usize]) -> io::Result<()> {
    let mut set = CpuSet::new();
    for &core in cores {
        set.set(core);
    }
    Ok(rustix::thread::sched_setaffinity(None, &set)?)
}

/// The cores of the calling thread's affinity mask, in ascending order; `None` when it cannot be read.
#[must_use]
pub fn allowed_cores() -> Option<Vec<usize>> {
    let mask = rustix::thread::sched_getaffinity(None).ok()?;
    Some((0..SHARDS_MAX).filter(|core| mask.is_set(*core)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pinned_shards_leave_no_core_and_others_may() {
        assert!(!Placement::Pinned(vec![0]).has_spare_cores());
        assert!(!Placement::Unpinned(NonZeroUsize::MAX).has_spare_cores());
        assert_eq!(Placement::Pinned(vec![3, 1]).cores(), [Some(3), Some(1)]);
        assert_eq!(Placement::Unpinned(NonZeroUsize::MIN).cores(), [None]);
    }
}
