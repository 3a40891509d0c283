//! How long a thread has had a processor, as another thread may ask.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The clock of one thread.
#[derive(Debug)]
pub(crate) struct ThreadClock(PathBuf);

impl ThreadClock {
    /// That of the calling thread; `None` where the system tells no thread's time.
    pub(crate) fn of_this() -> Option<Self> {
        let clock = Self(Path::new("/proc").join(fs::read_link("/proc/thread-self").ok()?).join("schedstat"));
        clock.used().map(|_| clock)
    }

    /// What it has used so far; `None`: the thread has ended.
    pub(crate) fn used(&self) -> Option<Duration> {
        let nanoseconds = fs::read_to_string(&self.0).ok()?.split(' ').next()?.parse().ok()?;
        Some(Duration::from_nanos(nanoseconds))
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn another_thread_is_told_what_one_has_used() {
        let (clocks, given) = mpsc::channel();
        let (go, may_go) = mpsc::channel::<()>();
        let thread = std::thread::spawn(move || {
            let clock = ThreadClock::of_this().expect("Linux tells");
            while clock.used().is_some_and(|used| used < Duration::from_millis(20)) {
                std::hint::black_box(0);
            }
            clocks.send(clock).expect("somebody listens");
            // Until the test has looked.
            let _ = may_go.recv();
        });
        let clock = given.recv().expect("a clock");
        assert!(clock.used() >= Some(Duration::from_millis(20)));
        go.send(()).expect("it waits");
        thread.join().expect("it ends");
        assert_eq!(clock.used(), None, "it has ended");
    }
}
