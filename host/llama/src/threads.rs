//! How many threads compute.

use crate::cpus::Cpus;

/// As many as the process may use: the CPUs of its affinity mask, or of `cpus` where the operator chose some, or its cgroup's
/// CPU quota where that is less. More threads than that only wait for each other at every layer.
#[must_use]
pub fn available(cpus: Option<&Cpus>) -> i32 {
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get);
    i32::try_from(cpus.map_or(threads, |cpus| threads.min(cpus.count()))).unwrap_or(i32::MAX)
}
