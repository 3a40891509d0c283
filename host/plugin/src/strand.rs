//! One request's lane, and the jobs that wait for it. The steps of its text come one after the other; those of its tokens come
//! beside them, from the decode thread. Whoever has the lane does what has come meanwhile, so nobody waits on a thread for it.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::lane::Lane;
use crate::workers::{QueueFull, Urgency, Workers};

/// What is done with a lane, or without it where the request has ended. Taking it away ends the request.
pub(crate) type Job = Box<dyn FnOnce(&mut Option<Box<Lane>>) + Send>;

/// See the module.
pub(crate) struct Strand(Mutex<Inner>);

struct Inner {
    /// `None` while a worker has it, and after the end.
    lane: Option<Box<Lane>>,
    /// Two at most: one for the text and one for the tokens.
    jobs: VecDeque<Job>,
    /// A worker does them, or has been asked to.
    is_working: bool,
}

impl Strand {
    pub(crate) fn new(lane: Box<Lane>) -> Arc<Self> {
        Arc::new(Self(Mutex::new(Inner { lane: Some(lane), jobs: VecDeque::new(), is_working: false })))
    }

    /// Has a job done, waiting for room among the workers when there is none, but not for long.
    pub(crate) async fn submit(
        self: &Arc<Self>,
        workers: &Workers,
        urgency: Urgency,
        job: Job,
    ) -> Result<(), QueueFull> {
        if self.put(job) {
            // Whoever drops this future while it waits asks for nothing any more.
            let unasked = GiveUp(self);
            workers.submit(urgency, self.work_later()).await?;
            std::mem::forget(unasked);
        }
        Ok(())
    }

    /// Has a job done if there is room now.
    pub(crate) fn try_submit(self: &Arc<Self>, workers: &Workers, urgency: Urgency, job: Job) -> Result<(), QueueFull> {
        if self.put(job) {
            let unasked = GiveUp(self);
            workers.try_submit(urgency, self.work_later())?;
            std::mem::forget(unasked);
        }
        Ok(())
    }

    /// The lane, if nobody works with it. Otherwise `last` is done with it, when everything else is.
    pub(crate) fn leave(&self, last: Job) -> Option<Box<Lane>> {
        let mut inner = self.lock();
        if inner.is_working {
            inner.jobs.push_back(last);
        }
        inner.lane.take()
    }

    /// Whether a worker has to be asked for this job.
    fn put(&self, job: Job) -> bool {
        let mut inner = self.lock();
        inner.jobs.push_back(job);
        !std::mem::replace(&mut inner.is_working, true)
    }

    fn work_later(self: &Arc<Self>) -> Box<dyn FnOnce() + Send> {
        let this = Arc::clone(self);
        Box::new(move || this.work())
    }

    fn work(&self) {
        // A panic of ours loses the lane; who waits for the other jobs learns it.
        let lost = GiveUp(self);
        loop {
            let mut inner = self.lock();
            let Some(job) = inner.jobs.pop_front() else {
                inner.is_working = false;
                break;
            };
            let mut lane = inner.lane.take();
            drop(inner);
            job(&mut lane);
            self.lock().lane = lane;
        }
        std::mem::forget(lost);
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Nothing that can panic runs under this lock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Dropped, it drops the jobs that wait, and with them the channels that their answers would come by.
struct GiveUp<'a>(&'a Strand);

impl Drop for GiveUp<'_> {
    fn drop(&mut self) {
        let mut inner = self.0.lock();
        inner.is_working = false;
        let jobs = std::mem::take(&mut inner.jobs);
        drop(inner);
        drop(jobs);
    }
}
