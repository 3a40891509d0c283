//! Work that must not hold up what is being served. wasmtime compiles on all processors, and a model that computes on all of
//! them waits at every barrier for the slowest.

/// Does `work`, and what it does in parallel, on one thread that gives way to others.
pub(crate) fn run<R: Send>(work: impl FnOnce() -> R + Send) -> R {
    let pool = rayon_core::ThreadPoolBuilder::new()
        .num_threads(1)
        .thread_name(|_| "plugin-compiler".to_owned())
        .start_handler(|_| give_way());
    match pool.build() {
        Ok(pool) => pool.install(work),
        Err(error) => {
            tracing::debug!("no thread of its own for compiling: {error}");
            work()
        }
    }
}

#[cfg(target_os = "linux")]
#[expect(unsafe_code, reason = "one libc call; std has no priorities")]
fn give_way() {
    /// The lowest priority.
    const NICE: libc::c_int = 19;
    // SAFETY: takes three numbers. Process 0 is the calling thread, on Linux.
    if unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, NICE) } != 0 {
        tracing::debug!("the priority of compiling could not be lowered: {}", std::io::Error::last_os_error());
    }
}

/// Elsewhere a process has one priority.
#[cfg(not(target_os = "linux"))]
fn give_way() {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_one_thread_and_it_gives_way() {
        let (threads, name) =
            run(|| (rayon_core::current_num_threads(), std::thread::current().name().map(str::to_owned)));
        assert_eq!((threads, name.as_deref()), (1, Some("plugin-compiler")));
        #[cfg(target_os = "linux")]
        {
            let stat = run(|| std::fs::read_to_string("/proc/thread-self/stat").expect("Linux has it"));
            let after_name = stat.rsplit_once(')').expect("a name in parentheses").1;
            // Field 19 of the line; the first after the name is the third.
            assert_eq!(after_name.split_whitespace().nth(16), Some("19"), "{stat}");
        }
    }
}
