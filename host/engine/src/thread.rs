//! The one thread that computes, and the way to it: what it drives is built on it, and its end is seen however it ends.

use std::io;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::Instant;

use inference::{Progress, SubmitError};

use crate::limits::{CONTROL_POLL, PAUSE_POLL};
use crate::pulse::Pulse;

/// What computes: it is built on the thread, and lives there.
pub(crate) trait Work {
    /// What it is handed.
    type Job;

    /// Takes a job; it has been counted as queued.
    fn enqueue(&mut self, job: Self::Job);

    /// Brings everything that can go on forward by one batch.
    fn step(&mut self, now: impl Fn() -> Instant) -> Outlook;

    /// Ends everything with [`inference::EngineFault::Stopped`].
    fn stop(self);
}

/// What a step leaves to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outlook {
    /// Another step has work.
    Busy,
    /// Something waits for what controls its tokens, and nothing else can go on.
    Awaiting,
    /// Everything that runs waits for its reader.
    Paused,
    /// There is nothing until a job comes.
    Idle,
}

/// What the handle and the thread both see.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    /// Requests that wait for their turn; the handle counts up, the loop down.
    pub(crate) queued: AtomicUsize,
    /// Requests that are computed.
    pub(crate) running: AtomicUsize,
    /// The handle wants the thread to end.
    pub(crate) is_stopping: AtomicBool,
    /// The thread has ended.
    pub(crate) has_stopped: AtomicBool,
    /// Beats at both ends of every step, and when work comes to who has none.
    pub(crate) pulse: Pulse,
}

/// Why the engine did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError<E: std::error::Error + 'static> {
    /// The operating system gave no thread.
    #[error("failed to start the {name} thread")]
    Thread {
        /// What it is called.
        name: &'static str,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// What computes could not be built.
    #[error(transparent)]
    Decoder(E),
    /// Building it panicked; the panic is on standard error.
    #[error("building the decoder panicked")]
    Panicked,
}

/// The thread as its handle holds it. Dropping it ends the thread, and what was under way with
/// [`inference::EngineFault::Stopped`].
pub(crate) struct Worker<T> {
    name: &'static str,
    shared: Arc<Shared>,
    /// `None` only while dropping.
    jobs: Option<mpsc::Sender<T>>,
    thread: Option<JoinHandle<()>>,
}

impl<T: Send + 'static> Worker<T> {
    /// Starts a thread, and builds on it what it drives. Returns when that is there, or why it is not.
    pub(crate) fn start<W, E>(
        name: &'static str,
        build: impl FnOnce(Arc<Shared>) -> Result<W, E> + Send + 'static,
    ) -> Result<Self, StartError<E>>
    where
        W: Work<Job = T>,
        E: std::error::Error + Send + 'static,
    {
        let shared = Arc::new(Shared::default());
        let (jobs, inbox) = mpsc::channel();
        let (ready, is_ready) = mpsc::sync_channel(1);
        let seen = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || {
                let _mark = MarkStopped(Arc::clone(&seen));
                match build(Arc::clone(&seen)) {
                    Ok(work) => {
                        if ready.send(Ok(())).is_ok() {
                            run(work, &inbox, &seen);
                        }
                    }
                    // Whoever waits for the answer has gone only if the process is going.
                    Err(error) => drop(ready.send(Err(error))),
                }
            })
            .map_err(|source| StartError::Thread { name, source })?;
        match is_ready.recv() {
            Ok(Ok(())) => Ok(Self { name, shared, jobs: Some(jobs), thread: Some(thread) }),
            Ok(Err(error)) => Err(StartError::Decoder(error)),
            Err(mpsc::RecvError) => Err(StartError::Panicked),
        }
    }

    /// Hands over the job that `make` makes beside what its sender keeps, where at most `queue_length` would wait.
    pub(crate) fn submit<R>(&self, queue_length: usize, make: impl FnOnce() -> (T, R)) -> Result<R, SubmitError> {
        if !self.is_running() {
            return Err(SubmitError::Stopped);
        }
        // Before it is counted: who sees it finds no pulse from before the thread went to sleep. Where there is work already the
        // pulse is the thread's alone, or requests that come would hide that it hangs.
        if self.queued() + self.running() == 0 {
            self.shared.pulse.beat();
        }
        self.shared
            .queued
            .try_update(Release, Relaxed, |queued| (queued < queue_length).then_some(queued + 1))
            .map_err(|queued| SubmitError::QueueFull { queued })?;
        let (job, kept) = make();
        let jobs = self.jobs.as_ref().ok_or(SubmitError::Stopped)?;
        jobs.send(job).map_err(|_| SubmitError::Stopped)?;
        Ok(kept)
    }
}

impl<T> Worker<T> {
    /// Whether the thread lives: once false, it stays so and every request fails.
    pub(crate) fn is_running(&self) -> bool {
        !self.shared.has_stopped.load(Relaxed)
    }

    /// How the thread gets on. It waits for plugins and readers in short sleeps between steps that find nothing to do, so only a
    /// step that does not end makes it late.
    pub(crate) fn progress(&self) -> Progress {
        if !self.is_running() {
            Progress::Stopped
        } else if self.queued() + self.running() == 0 {
            Progress::Idle
        } else {
            Progress::Working { since_step: self.shared.pulse.since() }
        }
    }

    pub(crate) fn queued(&self) -> usize {
        self.shared.queued.load(Acquire)
    }

    pub(crate) fn running(&self) -> usize {
        self.shared.running.load(Relaxed)
    }
}

impl<T> Drop for Worker<T> {
    fn drop(&mut self) {
        self.shared.is_stopping.store(true, Relaxed);
        // Wakes the thread where it waits for a job.
        self.jobs = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the {} thread had panicked", self.name);
        }
    }
}

/// Steps while there is work, sleeps while there is none.
fn run<W: Work>(mut work: W, inbox: &mpsc::Receiver<W::Job>, shared: &Shared) {
    let mut outlook = Outlook::Idle;
    while !shared.is_stopping.load(Relaxed) {
        let first = match outlook {
            Outlook::Busy => None,
            Outlook::Awaiting => inbox.recv_timeout(CONTROL_POLL).ok(),
            Outlook::Paused => inbox.recv_timeout(PAUSE_POLL).ok(),
            Outlook::Idle => match inbox.recv() {
                Ok(job) => Some(job),
                Err(mpsc::RecvError) => break,
            },
        };
        for job in first.into_iter().chain(inbox.try_iter()) {
            work.enqueue(job);
        }
        shared.pulse.beat();
        outlook = work.step(Instant::now);
        shared.pulse.beat();
    }
    for job in inbox.try_iter() {
        work.enqueue(job);
    }
    work.stop();
}

/// Tells the handle that the thread has ended, however it ended. When it panics, the requests are dropped while it
/// unwinds, their channels close, and no client waits for ever.
struct MarkStopped(Arc<Shared>);

impl Drop for MarkStopped {
    fn drop(&mut self) {
        self.0.has_stopped.store(true, Relaxed);
    }
}
