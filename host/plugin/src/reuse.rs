//! Instances that serve one request after the other, for runtimes that take long to start. Off unless the operator says so:
//! what such a guest remembers of one request is there in the next.
//!
//! An instance goes back only after a request that it served without a fault to the end, and only so often, so that what it
//! leaks stays small. What waits too long for a request is ended by the sandbox's [`crate::sweeper`], asked or not: an
//! interpreter's instance holds tens of megabytes.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::Serialize;
use tokio::sync::OwnedSemaphorePermit;

use crate::budget::Cancellation;
use crate::instance::Instance;
use crate::report::seconds;
use crate::sandbox::Inner;

/// How a plugin's instances are reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Reuse {
    /// Instances that may wait for a request.
    pub idle_max: u32,
    /// Requests that one serves before it is dropped.
    pub requests_max: u32,
    /// Memory that it may have gained since it was initialised, in bytes.
    pub growth_bytes_max: usize,
    /// How long one may wait for a request.
    #[serde(rename = "idle_seconds_max", serialize_with = "seconds")]
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
    idle: Mutex<Idle>,
}

#[derive(Default)]
struct Idle {
    /// The longest wait stands first.
    waiting: Vec<Waiting>,
    /// The sweeper will come.
    is_swept: bool,
}

struct Waiting {
    instance: Instance,
    since: Instant,
    /// Room in the sandbox beside that of requests.
    _room: OwnedSemaphorePermit,
}

impl Pool {
    pub(crate) fn new(reuse: Option<Reuse>) -> Arc<Self> {
        Arc::new(Self { reuse, idle: Mutex::default() })
    }

    /// An instance that waits, made ready for another request.
    pub(crate) fn take(&self, cancellation: &Arc<Cancellation>, now: Instant) -> Option<Instance> {
        let reuse = self.reuse?;
        let mut idle = self.lock();
        let expired = idle.take_expired(reuse.idle_time_max, now);
        // The one that came last: the others may then end.
        let taken = idle.waiting.pop();
        drop(idle);
        drop(expired);
        let mut instance = taken?.instance;
        instance.renew(Arc::clone(cancellation));
        Some(instance)
    }

    /// Takes an instance back after a request, or drops it.
    pub(crate) fn give(self: &Arc<Self>, mut instance: Instance, sandbox: &Inner, now: Instant) {
        let Some(reuse) = self.reuse else { return };
        let is_fit = instance.served() < reuse.requests_max && instance.growth_bytes() <= reuse.growth_bytes_max;
        if !is_fit || instance.clear().is_err() {
            return;
        }
        let Ok(room) = Arc::clone(&sandbox.idle).try_acquire_owned() else { return };
        let mut idle = self.lock();
        let expired = idle.take_expired(reuse.idle_time_max, now);
        if idle.waiting.len() < reuse.idle_max as usize {
            idle.waiting.push(Waiting { instance, since: now, _room: room });
        }
        if !idle.is_swept
            && let Some(sweeper) = &sandbox.sweeper
            && let Some(at) = idle.next_end(reuse.idle_time_max)
        {
            idle.is_swept = true;
            sweeper.come(at, self);
        }
        drop(idle);
        drop(expired);
    }

    /// Ends what has waited too long, and says when to come again.
    pub(crate) fn sweep(&self, now: Instant) -> Option<Instant> {
        let time_max = self.reuse?.idle_time_max;
        let mut idle = self.lock();
        let expired = idle.take_expired(time_max, now);
        let next = idle.next_end(time_max);
        idle.is_swept = next.is_some();
        drop(idle);
        drop(expired);
        next
    }

    fn lock(&self) -> MutexGuard<'_, Idle> {
        // Nothing that can panic half way runs under this lock.
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Idle {
    /// Those that have waited too long, to be dropped when the lock is free.
    fn take_expired(&mut self, time_max: Duration, now: Instant) -> Vec<Waiting> {
        let waits = |one: &Waiting| now.saturating_duration_since(one.since) < time_max;
        let live = self.waiting.iter().position(waits).unwrap_or(self.waiting.len());
        self.waiting.drain(..live).collect()
    }

    /// When the next one has waited too long; `None` also where that is beyond all time.
    fn next_end(&self, time_max: Duration) -> Option<Instant> {
        self.waiting.first()?.since.checked_add(time_max)
    }
}
