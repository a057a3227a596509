//! Placement: the cores that shards are pinned to, or how many shards run unpinned.

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
    /// This many shards, which the scheduler may move between cores.
    Unpinned(NonZeroUsize),
}

impl Placement {
    /// One pinned shard on each core of the calling thread's affinity mask.
    ///
    /// If the mask cannot be read (a machine of more cores than [`SHARDS_MAX`]): one unpinned shard for each core
    /// that the standard library counts, or one.
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

    /// The core that each shard is pinned to; `None` for unpinned shards.
    #[must_use]
    pub fn cores(&self) -> Vec<Option<usize>> {
        match self {
            Self::Pinned(cores) => cores.iter().copied().map(Some).collect(),
            Self::Unpinned(shards) => vec![None; shards.get()],
        }
    }

    /// True when the process may use more cores than it has shards, so other threads do not have to share cores with
    /// them. Pinned shards leave no core free: the server runs only on the cores that were named, and each has a
    /// shard.
    pub(super) fn has_spare_cores(&self) -> bool {
        match self {
            Self::Pinned(_) => false,
            Self::Unpinned(shards) => std::thread::available_parallelism().is_ok_and(|cores| cores > *shards),
        }
    }

    /// Where shards are pinned, confines the calling thread, and threads that it starts later, to their cores.
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

/// Confines the calling thread, and threads that it starts later, to these cores.
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
