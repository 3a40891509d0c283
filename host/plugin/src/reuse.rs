//! Instances that serve one request after the other, for runtimes that take long to start. Off unless the operator says so:
//! what such a guest remembers of one request is there in the next.
//!
//! An instance goes back only after a request that it served without a fault to the end, and only so often, so that what it
//! leaks stays small.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::budget::Cancellation;
use crate::instance::Instance;

/// How a plugin's instances are reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reuse {
    /// Instances that may wait for a request.
    pub idle_max: u32,
    /// Requests that one serves before it is dropped.
    pub requests_max: u32,
    /// Memory that it may have gained since it was initialised, in bytes.
    pub growth_bytes_max: usize,
    /// How long one may wait for a request.
    pub idle_time_max: Duration,
}

impl Default for Reuse {
    /// Four instances wait, for a minute at most; 1,000 requests amortise any start, and a leak of 8 KiB per request is
    /// noticed by the bound on growth, 8 MiB, at about the same time.
    fn default() -> Self {
        Self { idle_max: 4, requests_max: 1_000, growth_bytes_max: 8 << 20, idle_time_max: Duration::from_mins(1) }
    }
}

/// The instances of one plugin that wait.
pub(crate) struct Pool {
    /// `None`: instances are dropped after their request.
    reuse: Option<Reuse>,
    idle: Mutex<Vec<Idle>>,
}

struct Idle {
    instance: Instance,
    since: Instant,
    /// Room in the sandbox beside that of requests.
    _room: OwnedSemaphorePermit,
}

impl Pool {
    pub(crate) fn new(reuse: Option<Reuse>) -> Self {
        Self { reuse, idle: Mutex::default() }
    }

    /// An instance that waits, made ready for another request.
    pub(crate) fn take(&self, cancellation: &Arc<Cancellation>, now: Instant) -> Option<Instance> {
        let reuse = self.reuse?;
        let mut idle = self.lock();
        let expired = take_expired(&mut idle, reuse.idle_time_max, now);
        // The one that came last: the others may then end.
        let taken = idle.pop();
        drop(idle);
        drop(expired);
        let mut instance = taken?.instance;
        instance.renew(Arc::clone(cancellation));
        Some(instance)
    }

    /// Takes an instance back after a request, or drops it.
    pub(crate) fn give(&self, mut instance: Instance, room: &Arc<Semaphore>, now: Instant) {
        let Some(reuse) = self.reuse else { return };
        let is_fit = instance.served() < reuse.requests_max && instance.growth_bytes() <= reuse.growth_bytes_max;
        if !is_fit || instance.clear().is_err() {
            return;
        }
        let Ok(room) = Arc::clone(room).try_acquire_owned() else { return };
        let mut idle = self.lock();
        let expired = take_expired(&mut idle, reuse.idle_time_max, now);
        if idle.len() < reuse.idle_max as usize {
            idle.push(Idle { instance, since: now, _room: room });
        }
        drop(idle);
        drop(expired);
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Idle>> {
        // Nothing that can panic half way runs under this lock.
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Those that have waited too long, to be dropped when the lock is free: the longest wait stands first.
fn take_expired(idle: &mut Vec<Idle>, time_max: Duration, now: Instant) -> Vec<Idle> {
    let live = idle.iter().position(|one| now.duration_since(one.since) <= time_max).unwrap_or(idle.len());
    idle.drain(..live).collect()
}
