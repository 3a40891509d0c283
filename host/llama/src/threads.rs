//! How many threads compute, and how models that compute at the same time divide them.
//!
//! llama.cpp's threads wait for each other after every operation. Two models with a thread for each processor would keep each
//! other's threads from it, and at each of those barriers all wait for the one that was kept; so models that compute at once get
//! a part of the threads each, decided anew at every batch, and one that computes alone has them all.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::cpus::Cpus;
use crate::limits::TURN_PAUSE_MAX;

/// As many as the process may use: the CPUs of its affinity mask, or of `cpus` where the operator chose some, or its cgroup's
/// CPU quota where that is less. More threads than that only wait for each other at every layer.
#[must_use]
pub fn available(cpus: Option<&Cpus>) -> i32 {
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get);
    i32::try_from(cpus.map_or(threads, |cpus| threads.min(cpus.count()))).unwrap_or(i32::MAX)
}

/// What a model computes with.
#[derive(Debug, Clone)]
pub(crate) struct Threads {
    /// How many, where it has them to itself.
    pub(crate) count: i32,
    /// The only processors that they may run on.
    pub(crate) cpus: Option<Cpus>,
    /// Whether they do the computing: not where a GPU has all layers.
    pub(crate) are_busy: bool,
}

/// The contexts of this process that compute with threads, and when.
static SEATS: Mutex<Vec<Seat>> = Mutex::new(Vec::new());
static NUMBER: AtomicU64 = AtomicU64::new(0);

/// A context that computes now, or did so lately.
#[derive(Debug)]
struct Seat {
    number: u64,
    cpus: Option<Cpus>,
    iscomputing: bool,
    last: Instant,
}

/// A context's part in the threads.
#[derive(Debug)]
pub(crate) struct Share {
    number: u64,
    threads: Threads,
}

/// A batch under way. Dropped, it is over.
#[must_use]
pub(crate) struct Turn<'a> {
    share: &'a Share,
    /// Threads for this batch.
    pub(crate) threads: i32,
}

impl Share {
    pub(crate) fn new(threads: Threads) -> Self {
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        if threads.are_busy {
            let seat = Seat { number, cpus: threads.cpus.clone(), iscomputing: false, last: long_ago() };
            seats().push(seat);
        }
        Self { number, threads }
    }

    /// A batch begins.
    pub(crate) fn begin(&self) -> Turn<'_> {
        if !self.threads.are_busy {
            return Turn { share: self, threads: self.threads.count };
        }
        let (mut seats, now) = (seats(), Instant::now());
        let others = seats.iter().filter(|seat| seat.number != self.number && seat.competes(&self.threads, now));
        let threads = part(self.threads.count, others.count());
        self.note(&mut seats, true, now);
        Turn { share: self, threads }
    }

    fn note(&self, seats: &mut [Seat], iscomputing: bool, now: Instant) {
        if let Some(seat) = seats.iter_mut().find(|seat| seat.number == self.number) {
            (seat.iscomputing, seat.last) = (iscomputing, now);
        }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        seats().retain(|seat| seat.number != self.number);
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        if self.share.threads.are_busy {
            self.share.note(&mut seats(), false, Instant::now());
        }
    }
}

impl Seat {
    /// Whether it wants processors that `threads` run on. Who has just ended a batch is about to begin another.
    fn competes(&self, threads: &Threads, now: Instant) -> bool {
        let is_at_work = self.iscomputing || now.saturating_duration_since(self.last) < TURN_PAUSE_MAX;
        let is_elsewhere = |(one, other): (&Cpus, &Cpus)| one.is_apart_from(other);
        is_at_work && !self.cpus.as_ref().zip(threads.cpus.as_ref()).is_some_and(is_elsewhere)
    }
}

/// An equal part, rounded down: one thread too many holds all others up.
fn part(count: i32, others: usize) -> i32 {
    let everybody = i32::try_from(others).unwrap_or(i32::MAX).saturating_add(1);
    (count / everybody).max(1)
}

fn seats() -> MutexGuard<'static, Vec<Seat>> {
    SEATS.lock().unwrap_or_else(PoisonError::into_inner)
}

fn long_ago() -> Instant {
    let now = Instant::now();
    now.checked_sub(TURN_PAUSE_MAX + Duration::from_secs(1)).unwrap_or(now)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn threads(count: i32, cpus: Option<&str>) -> Threads {
        Threads { count, cpus: cpus.map(|cpus| cpus.parse().unwrap()), are_busy: true }
    }

    #[test]
    fn parts_are_equal_and_never_nothing() {
        for (count, others, expected) in [(8, 0, 8), (8, 1, 4), (8, 2, 2), (2, 1, 1), (1, 1, 1), (3, 1, 1), (4, 9, 1)] {
            assert_eq!(part(count, others), expected, "{count} among {others} others");
        }
    }

    /// One test, as they would see each other's seats. The processors are this test's alone, but for the first ones.
    #[test]
    fn who_computes_at_the_same_time_and_place_shares() {
        let one = Share::new(threads(8, Some("900-907")));
        let other = Share::new(threads(8, Some("904-911")));
        let elsewhere = Share::new(threads(8, Some("912-919")));
        let on_gpu = Share::new(Threads { are_busy: false, ..threads(8, Some("900-907")) });
        let alone = one.begin();
        assert_eq!(alone.threads, 8);
        assert_eq!(other.begin().threads, 4, "the one computes");
        assert_eq!((elsewhere.begin().threads, on_gpu.begin().threads), (8, 8));
        drop(alone);
        assert_eq!(other.begin().threads, 4, "it has only just stopped");
        let after_a_pause = |share: &Share| {
            seats().iter_mut().for_each(|seat| seat.last = long_ago());
            share.begin().threads
        };
        assert_eq!(after_a_pause(&other), 8, "it does nothing any more");
        let third = Share::new(threads(9, None));
        let computing = (one.begin(), other.begin(), elsewhere.begin());
        assert_eq!(third.begin().threads, 2, "wherever they are, they are where it may run");
        drop(computing);
        drop((one, elsewhere));
        assert_eq!(after_a_pause(&other), 8);
        assert!(seats().iter().all(|seat| seat.number == other.number || seat.number == third.number));
    }
}
