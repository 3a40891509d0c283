//! Ends instances that wait for a request longer than they may. Whoever takes or gives one looks too, but after the last
//! request of a day nobody does.
//!
//! A thread of its own, which there is only where instances are reused: it sleeps until the next one is due, since a thread
//! that wakes takes a core from the model's.

use std::io;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Weak};
use std::thread::{self, JoinHandle};
use std::time::Instant;

use crate::reuse::Pool;

/// The thread, and how it is told of pools.
pub(crate) struct Sweeper {
    visits: Option<Sender<Visit>>,
    thread: Option<JoinHandle<()>>,
}

/// A pool to look at, and when. There is one for a pool at most.
struct Visit {
    at: Instant,
    pool: Weak<Pool>,
}

impl Sweeper {
    pub(crate) fn start() -> io::Result<Self> {
        let (sender, visits) = mpsc::channel();
        let thread = thread::Builder::new().name("plugin-sweeper".to_owned()).spawn(move || sweep(&visits))?;
        Ok(Self { visits: Some(sender), thread: Some(thread) })
    }

    /// Has the pool swept then, and again for as long as anything waits in it.
    pub(crate) fn come(&self, at: Instant, pool: &Arc<Pool>) {
        if let Some(visits) = &self.visits {
            // The thread lives until this sender is dropped.
            drop(visits.send(Visit { at, pool: Arc::downgrade(pool) }));
        }
    }
}

fn sweep(asked: &Receiver<Visit>) {
    let mut visits: Vec<Visit> = Vec::new();
    loop {
        let now = Instant::now();
        visits.retain_mut(|visit| {
            if now < visit.at {
                return true;
            }
            // A pool that is gone took along what waited in it.
            let next = visit.pool.upgrade().and_then(|pool| pool.sweep(now));
            next.inspect(|&at| visit.at = at).is_some()
        });
        let visit = match visits.iter().map(|visit| visit.at).min() {
            Some(at) => asked.recv_timeout(at.saturating_duration_since(now)),
            None => asked.recv().map_err(|_| RecvTimeoutError::Disconnected),
        };
        match visit {
            Ok(visit) => visits.push(visit),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

impl Drop for Sweeper {
    fn drop(&mut self) {
        self.visits = None;
        if let Some(thread) = self.thread.take()
            // The last owner of the sandbox may be an instance that was just swept, and a thread cannot wait for itself.
            && thread.thread().id() != thread::current().id()
        {
            // The thread neither panics nor blocks; there is nothing to learn from its result.
            drop(thread.join());
        }
    }
}
