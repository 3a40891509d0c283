//! What of a file is there, what is to be fetched next, and by how many at once: what the workers of one download share.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, Semaphore, SemaphorePermit};
use tokio::time::{Instant, sleep_until};

use super::TransferLimits;
use super::ranges::Ranges;
use crate::Progress;
use crate::limits::{
    FOLLOW_LAG_BYTES_MAX, RANGE_FAILURES_MAX, RETRIES_PER_CHUNK, RETRIES_TOTAL_MIN, SLOT_REGAINED_AFTER_CHUNKS,
};

/// How a file is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    /// In chunks, several at once.
    Chunks,
    /// In one request for all that is missing.
    Stream,
    /// In one request that names no range, from the file's first byte: the server does not do ranges, or does them wrong.
    Whole,
}

/// One download's shared state. Its lock is held for a few assignments, never across a call that waits.
#[derive(Debug)]
pub(super) struct Board {
    size: u64,
    chunk_bytes: u64,
    retries_max: u64,
    /// Up to where the file was there when this download began.
    resumed: u64,
    inner: Mutex<Inner>,
    /// Rung whenever bytes have landed or were hashed.
    moved: Notify,
    /// One write at a time. File systems lock the file while they write to it, and writers that wait for that spin.
    pub(super) pen: Arc<Semaphore>,
    /// How many requests may run at once.
    slots: Semaphore,
}

#[derive(Debug)]
struct Inner {
    mode: Mode,
    landed: Ranges,
    /// Of `landed`, what was flushed to the disk.
    durable: Ranges,
    /// Up to where the file was hashed.
    hashed: u64,
    /// What no worker has taken yet, in ascending order.
    unclaimed: VecDeque<Range<u64>>,
    attempts: u64,
    failures: u64,
    range_failures: u32,
    slots: usize,
    chunks_in_a_row: u32,
    pause_until: Option<Instant>,
}

impl Board {
    pub(super) fn new(size: u64, landed: Ranges, durable: Ranges, mode: Mode, limits: &TransferLimits) -> Self {
        let unclaimed = match mode {
            Mode::Chunks => landed.missing(size).collect(),
            Mode::Stream | Mode::Whole => one(&landed, size),
        };
        let slots = limits.requests_max.max(1);
        let chunk_bytes = limits.chunk_bytes.max(1);
        Self {
            size,
            chunk_bytes,
            resumed: landed.frontier(),
            retries_max: RETRIES_TOTAL_MIN.max(size.div_ceil(chunk_bytes).saturating_mul(RETRIES_PER_CHUNK)),
            inner: Mutex::new(Inner {
                mode,
                landed,
                durable,
                hashed: 0,
                unclaimed,
                attempts: 0,
                failures: 0,
                range_failures: 0,
                slots,
                chunks_in_a_row: 0,
                pause_until: None,
            }),
            moved: Notify::new(),
            pen: Arc::new(Semaphore::new(1)),
            slots: Semaphore::new(slots),
        }
    }

    pub(super) fn size(&self) -> u64 {
        self.size
    }

    pub(super) fn mode(&self) -> Mode {
        self.inner().mode
    }

    /// How many requests were made.
    pub(super) fn attempts(&self) -> u64 {
        self.inner().attempts
    }

    // ---- what is next ----

    /// The next bytes to fetch: the first that nobody has taken. Chunks end at multiples of their size, so that a
    /// resumed download soon asks for the same ranges as any other, which a cache on the way may hold.
    pub(super) fn claim(&self) -> Option<Range<u64>> {
        let mut inner = self.inner();
        let next = inner.unclaimed.pop_front()?;
        if inner.mode != Mode::Chunks {
            return Some(next);
        }
        let boundary = (next.start / self.chunk_bytes).saturating_add(1).saturating_mul(self.chunk_bytes);
        if boundary < next.end {
            inner.unclaimed.push_front(boundary..next.end);
        }
        Some(next.start..next.end.min(boundary))
    }

    /// The server sent the whole file where a part of it was asked for: from now on there is one stream.
    pub(super) fn ranges_are_ignored(&self) {
        self.inner().become_whole();
    }

    /// The server sent a range that it was not asked for. Once is an accident.
    pub(super) fn range_was_wrong(&self) {
        let mut inner = self.inner();
        inner.range_failures += 1;
        if inner.range_failures >= RANGE_FAILURES_MAX {
            inner.become_whole();
        }
    }

    /// All that is missing as one claim, once every worker has given up its own. What chunks had fetched behind the first
    /// gap is fetched again, and until then it counts as missing: bytes that are still to be overwritten must not be
    /// hashed, or the digest would be of other bytes than those that stay.
    pub(super) fn claim_rest(&self, progress: &Progress) {
        let mut inner = self.inner();
        let (frontier, before) = (inner.landed.frontier(), inner.landed.bytes());
        inner.landed.truncate(frontier);
        inner.durable.truncate(frontier);
        progress.discarded(before - frontier);
        inner.unclaimed = one(&inner.landed, self.size);
    }

    // ---- what is there ----

    /// Bytes are in the file.
    pub(super) fn land(&self, range: Range<u64>, progress: &Progress) {
        progress.received(self.inner().landed.insert(range));
        self.moved.notify_waiters();
    }

    /// The file was hashed up to here.
    pub(super) fn hashed(&self, to: u64) {
        self.inner().hashed = to;
        self.moved.notify_waiters();
    }

    /// Waits while hashing lags behind. The digest is needed in the end, so nothing is lost by it, and what is hashed is
    /// still in a cache. What an earlier download had left is hashed while this one runs, however long that takes.
    pub(super) async fn hashing_keeps_up(&self) {
        self.when(|inner| {
            let lag = inner.landed.frontier().saturating_sub(inner.hashed);
            (lag <= FOLLOW_LAG_BYTES_MAX || inner.hashed < self.resumed).then_some(())
        })
        .await;
    }

    /// Bytes of the file were flushed.
    pub(super) fn make_durable(&self, flushed: &Ranges) {
        let mut inner = self.inner();
        for range in flushed.iter() {
            inner.durable.insert(range);
        }
    }

    /// The disk did not take what was written since the last flush. The kernel forgets such bytes, and may say so only once:
    /// who reads them back sees what they should be, and the disk never has them.
    pub(super) fn forget_unflushed(&self) {
        let mut inner = self.inner();
        inner.landed = inner.durable.clone();
    }

    /// What is there, and what of it will be there after a loss of power.
    pub(super) fn snapshot(&self) -> (Ranges, Ranges) {
        let inner = self.inner();
        (inner.landed.clone(), inner.durable.clone())
    }

    /// How many bytes are there.
    pub(super) fn bytes(&self) -> u64 {
        self.inner().landed.bytes()
    }

    /// Waits until `ready` finds enough of the file there, and returns what it found.
    pub(super) async fn when_landed<T>(&self, ready: impl Fn(&Ranges) -> Option<T>) -> T {
        self.when(|inner| ready(&inner.landed)).await
    }

    async fn when<T>(&self, ready: impl Fn(&Inner) -> Option<T>) -> T {
        let mut rung = std::pin::pin!(self.moved.notified());
        loop {
            // Enabled before looking, so that nothing lands unseen in between.
            rung.as_mut().enable();
            if let Some(found) = ready(&self.inner()) {
                return found;
            }
            rung.as_mut().await;
            rung.set(self.moved.notified());
        }
    }

    // ---- how many at once, and when ----

    /// Waits for a turn, and for the end of a pause that the hub asked for.
    pub(super) async fn turn(&self) -> SemaphorePermit<'_> {
        loop {
            if let Some(until) = self.pause() {
                sleep_until(until).await;
            }
            let Ok(permit) = self.slots.acquire().await else { unreachable!("the semaphore is never closed") };
            // A pause may have begun in the meantime, and is for everybody.
            if self.pause().is_none() {
                self.inner().attempts += 1;
                return permit;
            }
        }
    }

    fn pause(&self) -> Option<Instant> {
        self.inner().pause_until.filter(|until| *until > Instant::now())
    }

    /// Everybody waits this long.
    pub(super) fn pause_for(&self, pause: Duration) {
        let until = Instant::now() + pause;
        let mut inner = self.inner();
        inner.pause_until = Some(inner.pause_until.map_or(until, |already| already.max(until)));
    }

    /// A chunk is complete.
    pub(super) fn succeeded(&self, requests_max: usize) {
        let mut inner = self.inner();
        inner.chunks_in_a_row += 1;
        if inner.chunks_in_a_row >= SLOT_REGAINED_AFTER_CHUNKS && inner.slots < requests_max {
            inner.chunks_in_a_row = 0;
            inner.slots += 1;
            self.slots.add_permits(1);
        }
    }

    /// A request failed: from now on one less runs at once, down to one. Says whether there are retries left.
    pub(super) fn failed(&self, permit: SemaphorePermit<'_>) -> bool {
        let mut inner = self.inner();
        inner.failures += 1;
        inner.chunks_in_a_row = 0;
        if inner.slots > 1 {
            inner.slots -= 1;
            permit.forget();
        }
        inner.failures <= self.retries_max
    }

    #[cfg(test)]
    pub(super) fn slots(&self) -> usize {
        self.inner().slots
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        // Nothing panics while it is held; were it otherwise, the assignments are each complete by themselves.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// From here no worker gets another chunk. What one of them gives up counts as missing again.
    fn become_whole(&mut self) {
        self.mode = Mode::Whole;
        self.unclaimed.clear();
    }
}

/// From the first missing byte to the end.
fn one(landed: &Ranges, size: u64) -> VecDeque<Range<u64>> {
    let frontier = landed.frontier();
    (frontier < size).then_some(frontier..size).into_iter().collect()
}
