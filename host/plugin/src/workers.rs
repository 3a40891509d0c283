//! The threads that run guests. Never a worker of the async runtime and never the decode thread: a guest in an endless
//! loop would hold up every timer of the process until its budget is spent.

use std::collections::VecDeque;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::limits::{QUEUE_JOBS_MAX, QUEUE_WAIT, THREAD_STACK_BYTES};

type Job = Box<dyn FnOnce() + Send>;

/// Which queue a job waits in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Urgency {
    /// Text of an answer under way: somebody is reading.
    Stream,
    /// The beginning of a request, or what is left to do after its end.
    Request,
}

impl Urgency {
    /// Its name in metrics.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Stream => "stream",
            Self::Request => "request",
        }
    }
}

/// No room in the queue for too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct QueueFull;

/// A fixed number of threads and a bounded queue before them.
pub(crate) struct Workers {
    entrance: Entrance,
    threads: Vec<JoinHandle<()>>,
}

/// The queue, for whoever may outlive the threads.
#[derive(Clone)]
pub(crate) struct Entrance {
    queue: Arc<Queue>,
    room: Arc<Semaphore>,
}

struct Queue {
    waiting: Mutex<Waiting>,
    arrived: Condvar,
}

#[derive(Default)]
struct Waiting {
    stream: VecDeque<(Job, OwnedSemaphorePermit)>,
    request: VecDeque<(Job, OwnedSemaphorePermit)>,
    is_closed: bool,
}

impl Workers {
    pub(crate) fn start(count: usize) -> io::Result<Self> {
        let queue = Arc::new(Queue { waiting: Mutex::default(), arrived: Condvar::new() });
        let entrance = Entrance { queue, room: Arc::new(Semaphore::new(QUEUE_JOBS_MAX)) };
        let mut workers = Self { entrance, threads: Vec::with_capacity(count) };
        for index in 0..count {
            let queue = Arc::clone(&workers.entrance.queue);
            let thread = thread::Builder::new()
                .name(format!("plugin-{index}"))
                .stack_size(THREAD_STACK_BYTES)
                .spawn(move || queue.work())?;
            workers.threads.push(thread);
        }
        Ok(workers)
    }

    pub(crate) fn entrance(&self) -> &Entrance {
        &self.entrance
    }
}

impl Entrance {
    /// Queues a job, waiting for room when the queue is full, but not for long.
    pub(crate) async fn submit(&self, urgency: Urgency, job: Job) -> Result<(), QueueFull> {
        let permit = match Arc::clone(&self.room).try_acquire_owned() {
            Ok(permit) => permit,
            Err(_) => tokio::time::timeout(QUEUE_WAIT, Arc::clone(&self.room).acquire_owned())
                .await
                .map_err(|_| QueueFull)?
                .map_err(|_| QueueFull)?,
        };
        self.queue.put(urgency, job, permit);
        Ok(())
    }

    /// Whether a job waits for a thread.
    pub(crate) fn is_busy(&self) -> bool {
        let waiting = self.queue.lock();
        !(waiting.stream.is_empty() && waiting.request.is_empty())
    }

    /// Queues a job if there is room now; otherwise the job is dropped.
    pub(crate) fn try_submit(&self, urgency: Urgency, job: Job) -> Result<(), QueueFull> {
        let permit = Arc::clone(&self.room).try_acquire_owned().map_err(|_| QueueFull)?;
        self.queue.put(urgency, job, permit);
        Ok(())
    }
}

impl Queue {
    fn put(&self, urgency: Urgency, job: Job, permit: OwnedSemaphorePermit) {
        let mut waiting = self.lock();
        match urgency {
            Urgency::Stream => waiting.stream.push_back((job, permit)),
            Urgency::Request => waiting.request.push_back((job, permit)),
        }
        drop(waiting);
        self.arrived.notify_one();
    }

    fn work(&self) {
        while let Some(job) = self.take() {
            // A panic here is ours, not a guest's. It ends its own request (the answer's channel closes) and must not
            // take the thread with it.
            if catch_unwind(AssertUnwindSafe(job)).is_err() {
                tracing::error!("a plugin job panicked; its request ends with an error");
            }
        }
    }

    fn take(&self) -> Option<Job> {
        let mut waiting = self.lock();
        loop {
            if let Some((job, _room)) = waiting.next() {
                return Some(job);
            }
            if waiting.is_closed {
                return None;
            }
            waiting = self.arrived.wait(waiting).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        // Nothing that can panic runs under this lock.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting {
    fn next(&mut self) -> Option<(Job, OwnedSemaphorePermit)> {
        self.stream.pop_front().or_else(|| self.request.pop_front())
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.entrance.queue.lock().is_closed = true;
        self.entrance.queue.arrived.notify_all();
        for thread in self.threads.drain(..) {
            // The last owner of the sandbox may be a job, and a thread cannot wait for itself.
            if thread.thread().id() != thread::current().id() {
                drop(thread.join());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn streams_go_before_requests_and_a_panic_costs_no_thread() {
        let workers = Workers::start(1).expect("a thread starts");
        let (sender, receiver) = mpsc::channel();
        let (gate, opened) = mpsc::channel::<()>();
        let submit = |urgency, job: Job| workers.entrance.try_submit(urgency, job).expect("the queue is empty");
        submit(
            Urgency::Request,
            Box::new(move || {
                opened.recv().expect("the test opens the gate");
                panic!("on purpose");
            }),
        );
        for (urgency, name) in [(Urgency::Request, "request"), (Urgency::Stream, "stream")] {
            let sender = sender.clone();
            submit(urgency, Box::new(move || sender.send(name).expect("the test listens")));
        }
        gate.send(()).expect("the worker waits");
        assert_eq!([receiver.recv(), receiver.recv()], [Ok("stream"), Ok("request")]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_full_queue_refuses_after_a_while() {
        let workers = Workers::start(1).expect("a thread starts");
        let (gate, opened) = mpsc::channel::<()>();
        workers
            .entrance
            .try_submit(Urgency::Request, Box::new(move || opened.recv().unwrap_or_default()))
            .expect("the queue is empty");
        // The worker may or may not have taken the first job yet, so one more than fits is tried.
        let refused =
            (0..=QUEUE_JOBS_MAX).any(|_| workers.entrance.try_submit(Urgency::Request, Box::new(|| {})).is_err());
        assert!(refused);
        assert_eq!(workers.entrance.submit(Urgency::Request, Box::new(|| {})).await, Err(QueueFull));
        drop(gate);
    }
}
