//! When the thread that computes last got on, as everybody else may see it without asking the thread.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

/// A time that one thread leaves and others read.
#[derive(Debug)]
pub(crate) struct Pulse {
    origin: Instant,
    /// Milliseconds since `origin`.
    last: AtomicU64,
}

impl Default for Pulse {
    fn default() -> Self {
        Self { origin: Instant::now(), last: AtomicU64::new(0) }
    }
}

impl Pulse {
    /// It gets on.
    pub(crate) fn beat(&self) {
        self.last.store(millis(self.origin.elapsed()), Relaxed);
    }

    /// How long ago it last did.
    pub(crate) fn since(&self) -> Duration {
        let last = Duration::from_millis(self.last.load(Relaxed));
        self.origin.elapsed().saturating_sub(last)
    }
}

fn millis(elapsed: Duration) -> u64 {
    u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX)
}
