//! The clock of all budgets: one thread that advances the engine's epoch while guest code runs.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};

use wasmtime::Engine;

use crate::limits::TICK;

/// Advances the epoch every [`TICK`] while a guest call is in flight, and sleeps when there is none.
/// A thread of its own: a timer of the async runtime stands still when the runtime is busy.
pub(crate) struct Ticker {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    in_flight: AtomicUsize,
    is_asleep: AtomicBool,
    is_stopped: AtomicBool,
}

/// A guest call in flight; dropped when it returns.
pub(crate) struct InFlight<'a>(&'a Shared);

impl Ticker {
    pub(crate) fn start(engine: &Engine) -> std::io::Result<Self> {
        let shared = Arc::new(Shared {
            in_flight: AtomicUsize::new(0),
            is_asleep: AtomicBool::new(false),
            is_stopped: AtomicBool::new(false),
        });
        let thread = thread::Builder::new().name("plugin-ticker".to_owned()).spawn({
            let (shared, engine) = (Arc::clone(&shared), engine.clone());
            move || shared.run(&engine)
        })?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Marks a guest call as in flight.
    pub(crate) fn watch(&self) -> InFlight<'_> {
        // SeqCst on both sides: either we see that the ticker sleeps, or it sees our call before it goes to sleep.
        self.shared.in_flight.fetch_add(1, Ordering::SeqCst);
        if self.shared.is_asleep.load(Ordering::SeqCst) {
            self.unpark();
        }
        InFlight(&self.shared)
    }

    fn unpark(&self) {
        if let Some(thread) = &self.thread {
            thread.thread().unpark();
        }
    }
}

impl Shared {
    fn run(&self, engine: &Engine) {
        while !self.is_stopped.load(Ordering::SeqCst) {
            self.sleep_while_idle();
            // The sleep comes before the tick: nearly every call is over by then and never meets one.
            thread::sleep(TICK);
            if self.in_flight.load(Ordering::SeqCst) > 0 {
                engine.increment_epoch();
            }
        }
    }

    /// A thread that wakes every millisecond takes its core from the model's threads each time, which then wait for
    /// each other. On two cores a ticker that stayed awake between tokens woke 8 times per token, and wakes 2 times
    /// like this. Being woken by the first call of a piece costs that call a system call.
    fn sleep_while_idle(&self) {
        if self.in_flight.load(Ordering::SeqCst) > 0 {
            return;
        }
        self.is_asleep.store(true, Ordering::SeqCst);
        while self.in_flight.load(Ordering::SeqCst) == 0 && !self.is_stopped.load(Ordering::SeqCst) {
            thread::park();
        }
        self.is_asleep.store(false, Ordering::SeqCst);
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.shared.is_stopped.store(true, Ordering::SeqCst);
        self.unpark();
        if let Some(thread) = self.thread.take() {
            // The thread neither panics nor blocks; there is nothing to learn from its result.
            drop(thread.join());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    fn wait_until(what: &str, claim: impl Fn() -> bool) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while !claim() {
            assert!(Instant::now() < deadline, "{what} did not happen in 20 s");
            thread::sleep(Duration::from_millis(5));
        }
    }

    #[test]
    fn it_sleeps_when_idle_and_wakes_for_a_call() {
        let ticker = Ticker::start(&Engine::default()).expect("a thread starts");
        let is_asleep = || ticker.shared.is_asleep.load(Ordering::SeqCst);
        wait_until("sleep", is_asleep);
        let call = ticker.watch();
        wait_until("waking", || !is_asleep());
        drop(call);
        wait_until("sleep", is_asleep);
    }
}
