//! What the kernel knows of a process: its CPU time, its memory, its threads and its files.

use std::time::Duration;

use anyhow::Context as _;
use procfs::process::Process;

/// CPU time of all its threads, those that ended included. In steps of 10 ms.
pub(crate) fn cpu_time(pid: u32) -> anyhow::Result<Duration> {
    let stat = of(pid)?.stat()?;
    let ticks = stat.utime + stat.stime;
    Ok(Duration::from_secs_f64(ticks as f64 / procfs::ticks_per_second() as f64))
}

/// Bytes in memory, the mapped file of the model included.
pub(crate) fn resident_bytes(pid: u32) -> anyhow::Result<u64> {
    let kib = of(pid)?.status()?.vmrss.context("the process has no memory")?;
    Ok(kib * 1024)
}

/// Threads that it has.
pub(crate) fn threads(pid: u32) -> anyhow::Result<u64> {
    Ok(of(pid)?.status()?.threads)
}

/// Files, sockets and the like that it has open.
pub(crate) fn open_files(pid: u32) -> anyhow::Result<usize> {
    Ok(of(pid)?.fd_count()?)
}

/// Processes that ran or wanted to, on average over the last minute.
pub(crate) fn load_average() -> anyhow::Result<f32> {
    use procfs::Current as _;
    Ok(procfs::LoadAverage::current()?.one)
}

fn of(pid: u32) -> anyhow::Result<Process> {
    Process::new(i32::try_from(pid)?).with_context(|| format!("process {pid} is gone"))
}
