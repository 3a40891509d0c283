//! Whether a request gets a slot, now or after waiting in a bounded line.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use telemetry::InferenceMetrics;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use super::ChatError;

/// The slots and the line in front of them. First come, first served.
pub(super) struct Admission {
    slots: Arc<Semaphore>,
    line: Arc<Line>,
    queue_max: usize,
    queue_wait_max: Duration,
}

/// A slot. It goes back when this is dropped, so it lives as long as the answer, not as long as the call that asked.
pub(super) struct Permit {
    line: Arc<Line>,
    _slot: OwnedSemaphorePermit,
}

struct Line {
    running: AtomicUsize,
    waiting: AtomicUsize,
    metrics: InferenceMetrics,
}

impl Admission {
    pub(super) fn new(
        max_concurrency: NonZeroUsize,
        queue_max: usize,
        queue_wait_max: Duration,
        metrics: InferenceMetrics,
    ) -> Self {
        let line = Line { running: AtomicUsize::new(0), waiting: AtomicUsize::new(0), metrics };
        let slots = max_concurrency.get().min(Semaphore::MAX_PERMITS);
        Self { slots: Arc::new(Semaphore::new(slots)), line: Arc::new(line), queue_max, queue_wait_max }
    }

    /// Takes a slot and says how long that took. Dropping the future leaves the line.
    pub(super) async fn enter(&self) -> Result<(Permit, Duration), ChatError> {
        // The semaphore is fair: a free slot that somebody waits for is not to be had this way.
        if let Ok(slot) = Arc::clone(&self.slots).try_acquire_owned() {
            return Ok((self.permit(slot), Duration::ZERO));
        }
        let place = self.line()?;
        let arrived = Instant::now();
        let slot = tokio::time::timeout(self.queue_wait_max, Arc::clone(&self.slots).acquire_owned()).await;
        let admitted = match slot {
            Ok(Ok(slot)) => Ok((self.permit(slot), arrived.elapsed())),
            Ok(Err(_closed)) => Err(ChatError::Draining),
            Err(_elapsed) => Err(ChatError::QueueTimeout { waited: self.queue_wait_max }),
        };
        // Only now: a drain that counts meanwhile must see this request in the line or in a slot.
        drop(place);
        admitted
    }

    /// Takes up to `count` slots more that are free and that nobody waits for.
    pub(super) fn more(&self, count: usize) -> impl Iterator<Item = Permit> {
        let free = std::iter::from_fn(|| Arc::clone(&self.slots).try_acquire_owned().ok());
        free.take(count).map(|slot| self.permit(slot))
    }

    /// A place in the line, for whoever waits for something else than a slot.
    pub(super) fn line(&self) -> Result<Place, ChatError> {
        Place::take(&self.line, self.queue_max)
    }

    /// How long anybody waits.
    pub(super) fn wait_max(&self) -> Duration {
        self.queue_wait_max
    }

    /// Requests that hold a slot or wait for one.
    pub(super) fn active(&self) -> usize {
        self.line.running.load(Ordering::Relaxed) + self.line.waiting.load(Ordering::Relaxed)
    }

    /// Sends everybody in the line away and lets nobody in any more.
    pub(super) fn close(&self) {
        self.slots.close();
    }

    fn permit(&self, slot: OwnedSemaphorePermit) -> Permit {
        self.line.running.fetch_add(1, Ordering::Relaxed);
        self.line.metrics.running.inc();
        Permit { line: Arc::clone(&self.line), _slot: slot }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.line.running.fetch_sub(1, Ordering::Relaxed);
        self.line.metrics.running.dec();
    }
}

/// A place in the line; dropped, it is free again.
pub(super) struct Place(Arc<Line>);

impl Place {
    fn take(line: &Arc<Line>, queue_max: usize) -> Result<Self, ChatError> {
        let waiting = line.waiting.fetch_add(1, Ordering::Relaxed);
        line.metrics.waiting.inc();
        // From here on the place gives itself back, also when it is one too many.
        let place = Self(Arc::clone(line));
        if waiting >= queue_max { Err(ChatError::QueueFull { waiting }) } else { Ok(place) }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
        self.0.metrics.waiting.dec();
    }
}

#[cfg(test)]
mod tests {
    use telemetry::Metrics;

    use super::*;

    fn admission(slots: usize, queue_max: usize) -> Admission {
        let slots = NonZeroUsize::new(slots).expect("tests ask for at least one");
        Admission::new(slots, queue_max, Duration::from_secs(30), Metrics::new(&[]).inference)
    }

    #[tokio::test(start_paused = true)]
    async fn the_line_is_first_come_first_served() {
        let admission = Arc::new(admission(1, 8));
        let (first, _) = admission.enter().await.expect("a free slot");
        let (told, mut order) = tokio::sync::mpsc::unbounded_channel();
        for number in 0..3 {
            let (admission, told) = (Arc::clone(&admission), told.clone());
            tokio::spawn(async move {
                let (_permit, waited) = admission.enter().await.expect("a slot in time");
                told.send((number, waited)).expect("the test listens");
            });
            tokio::task::yield_now().await;
        }
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert_eq!(admission.active(), 4);
        drop(first);
        for number in 0..3 {
            assert_eq!(order.recv().await, Some((number, Duration::from_secs(2))));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_full_line_refuses_at_once() {
        let admission = admission(1, 0);
        let (_held, _) = admission.enter().await.expect("a free slot");
        assert_eq!(admission.enter().await.err(), Some(ChatError::QueueFull { waiting: 0 }));
        assert_eq!(admission.active(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn waiting_has_an_end() {
        let admission = admission(1, 1);
        let (_held, _) = admission.enter().await.expect("a free slot");
        let started = Instant::now();
        assert_eq!(admission.enter().await.err(), Some(ChatError::QueueTimeout { waited: Duration::from_secs(30) }));
        assert_eq!(started.elapsed(), Duration::from_secs(30));
        assert_eq!(admission.active(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn who_leaves_the_line_frees_its_place() {
        let admission = Arc::new(admission(1, 1));
        let (held, _) = admission.enter().await.expect("a free slot");
        let left = tokio::time::timeout(Duration::from_secs(1), admission.enter()).await;
        assert!(left.is_err(), "there was no slot to get");
        assert_eq!(admission.active(), 1);
        drop(held);
        assert!(admission.enter().await.is_ok());
    }
}
