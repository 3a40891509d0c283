//! One request's lane, and the jobs that wait for it. The steps of its text come one after the other; those of its tokens come
//! beside them, from the decode thread. Whoever has the lane does what has come meanwhile, so nobody waits on a thread for it.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::lane::Lane;
use crate::limits::STRAND_JOBS_MAX;
use crate::workers::{Entrance, QueueFull, Urgency};

/// Where a request's lane is, or is not.
pub(crate) type Place = Option<Box<Lane>>;

/// What is done with a lane, or without it where the request has ended. Taking it away ends the request. The error: no worker
/// had room for it. A job that is dropped instead was lost to a panic of ours, or nobody wants it any more.
pub(crate) type Job = Box<dyn FnOnce(Result<&mut Place, QueueFull>) + Send>;

/// See the module.
pub(crate) struct Strand {
    inner: Mutex<Inner>,
    workers: Entrance,
}

struct Inner {
    /// `None` while a worker has it, and after the end.
    lane: Place,
    /// A few at most: one for the text, one for the tokens and what is left to do after either.
    jobs: VecDeque<Job>,
    /// A worker does them, or has been asked to.
    is_working: bool,
}

impl Strand {
    pub(crate) fn new(lane: Box<Lane>, workers: Entrance) -> Arc<Self> {
        let inner = Inner { lane: Some(lane), jobs: VecDeque::new(), is_working: false };
        Arc::new(Self { inner: Mutex::new(inner), workers })
    }

    /// Has a job done, waiting for room among the workers when there is none, but not for long.
    pub(crate) async fn submit(self: &Arc<Self>, urgency: Urgency, job: Job) {
        if self.put(job) {
            // Whoever drops this future while it waits asks for nothing any more.
            let unasked = GiveUp(self);
            if self.workers.submit(urgency, self.work_later()).await.is_err() {
                self.refuse();
            }
            std::mem::forget(unasked);
        }
    }

    /// Has a job done if there is room now.
    pub(crate) fn try_submit(self: &Arc<Self>, urgency: Urgency, job: Job) {
        if self.put(job) && self.workers.try_submit(urgency, self.work_later()).is_err() {
            self.refuse();
        }
    }

    /// The lane, if nobody works with it. Otherwise `last` is done with it, when everything else is.
    pub(crate) fn leave(&self, last: Job) -> Place {
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

    /// Nobody comes to work: whoever waits for that is told.
    fn refuse(&self) {
        for job in self.give_up() {
            job(Err(QueueFull));
        }
    }

    fn work_later(self: &Arc<Self>) -> Box<dyn FnOnce() + Send> {
        let this = Arc::clone(self);
        Box::new(move || this.work())
    }

    fn work(self: &Arc<Self>) {
        // A panic of ours loses the lane; who waits for the other jobs learns it.
        let lost = GiveUp(self);
        for done in 1.. {
            let mut inner = self.lock();
            let Some(job) = inner.jobs.pop_front() else {
                inner.is_working = false;
                break;
            };
            let mut lane = inner.lane.take();
            drop(inner);
            job(Ok(&mut lane));
            let mut inner = self.lock();
            inner.lane = lane;
            let has_more = !inner.jobs.is_empty();
            drop(inner);
            // Behind the others, where there are some: text and tokens that keep coming would hold the thread for as long.
            let yields = has_more && done >= STRAND_JOBS_MAX && self.workers.is_busy();
            if yields && self.workers.try_submit(Urgency::Stream, self.work_later()).is_ok() {
                break;
            }
        }
        std::mem::forget(lost);
    }

    fn give_up(&self) -> VecDeque<Job> {
        let mut inner = self.lock();
        inner.is_working = false;
        std::mem::take(&mut inner.jobs)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Nothing that can panic runs under this lock.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Dropped, it drops the jobs that wait, and with them the channels that their answers would come by.
struct GiveUp<'a>(&'a Strand);

impl Drop for GiveUp<'_> {
    fn drop(&mut self) {
        drop(self.0.give_up());
    }
}
