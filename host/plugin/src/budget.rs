//! How long a guest call may run: CPU time of its thread, wall time as backstop, and the request's cancellation.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use crate::fault::Breach;
use crate::limits::{WALL_FACTOR, WALL_SLACK};

/// Whether anybody still waits for a request. Shared by the request's run, its lane and its instances.
#[derive(Debug, Default)]
pub(crate) struct Cancellation(AtomicU8);

const WANTED: u8 = 0;
const CANCELLED: u8 = 1;
const CLOSING: u8 = 2;

impl Cancellation {
    /// Stops the guest that works on the request, unless it is the audit, which is about the end.
    pub(crate) fn cancel(&self) {
        // Whoever was first, the end or the cancellation, was first.
        let _ = self.0.compare_exchange(WANTED, CANCELLED, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// What runs from now on is the audit.
    pub(crate) fn close(&self) {
        self.0.store(CLOSING, Ordering::Relaxed);
    }

    pub(crate) fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Relaxed) == CANCELLED
    }
}

/// A question to a guest that whoever asked it may give up, though the request goes on to its end.
#[derive(Debug, Default)]
pub(crate) struct Question(AtomicU8);

const WAITS: u8 = 0;
const IS_ASKED: u8 = 1;
const IS_ANSWERED: u8 = 2;
const IS_GIVEN_UP: u8 = 3;

/// How far a question had come when it was given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum GivenUp {
    /// The guest was not asked, and is not any more.
    Unasked,
    /// The guest is working on it, and is stopped.
    Asked,
    /// The answer had just come.
    Answered,
}

impl Question {
    /// The guest is about to be asked; `false`: it need not be any more.
    pub(crate) fn ask(&self) -> bool {
        self.0.compare_exchange(WAITS, IS_ASKED, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    /// The guest is done with it; `false`: too late.
    pub(crate) fn answer(&self) -> bool {
        self.0.compare_exchange(IS_ASKED, IS_ANSWERED, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    /// Nobody waits for the answer any more.
    pub(crate) fn give_up(&self) -> GivenUp {
        match self.0.swap(IS_GIVEN_UP, Ordering::Relaxed) {
            WAITS => GivenUp::Unasked,
            IS_ASKED => GivenUp::Asked,
            _ => GivenUp::Answered,
        }
    }

    fn is_given_up(&self) -> bool {
        self.0.load(Ordering::Relaxed) == IS_GIVEN_UP
    }
}

/// The time budget of one plugin in one request.
///
/// Reading a thread's CPU clock is a system call, and nearly every guest call is over before the first tick. So a call
/// starts with the cheap wall clock only, and the first tick that meets it reads the CPU clock for the first time:
/// what ran before that tick is not charged, which lets a call run one tick longer than its budget.
pub(crate) struct Budget {
    cancellation: Arc<Cancellation>,
    /// CPU time that earlier calls of this request used.
    used: Duration,
    call: Running,
    /// What the running call is to answer, where that may be given up.
    pub(crate) question: Option<Arc<Question>>,
}

struct Running {
    started: Instant,
    cpu_max: Duration,
    /// What it means to need more than that.
    breach: Breach,
    /// Thread CPU time at the first tick that met this call, and at the newest.
    ticks: Option<(Duration, Duration)>,
}

impl Budget {
    pub(crate) fn new(cancellation: Arc<Cancellation>) -> Self {
        let breach = Breach::Cpu { budget: Duration::ZERO };
        let call = Running { started: Instant::now(), cpu_max: Duration::ZERO, breach, ticks: None };
        Self { cancellation, used: Duration::ZERO, call, question: None }
    }

    /// Begins a call that may use `call_max`, or what `request_max` leaves.
    pub(crate) fn begin(&mut self, call_max: Duration, request_max: Duration) -> Result<(), Breach> {
        let left = request_max.saturating_sub(self.used);
        let exhausted = Breach::RequestCpu { budget: request_max };
        if left.is_zero() {
            return Err(exhausted);
        }
        let breach = if left < call_max { exhausted } else { Breach::Cpu { budget: call_max } };
        self.call = Running { started: Instant::now(), cpu_max: call_max.min(left), breach, ticks: None };
        Ok(())
    }

    /// A tick met the running call, or the host has worked for it: may it go on?
    pub(crate) fn check(&mut self) -> Result<(), Breach> {
        if self.cancellation.is_cancelled() {
            return Err(Breach::Cancelled);
        }
        if self.question.as_ref().is_some_and(|question| question.is_given_up()) {
            return Err(Breach::GivenUp);
        }
        let now = thread_cpu_time();
        let first = self.call.ticks.map_or(now, |(first, _)| first);
        self.call.ticks = Some((first, now));
        if now.saturating_sub(first) > self.call.cpu_max {
            return Err(self.call.breach);
        }
        let wall_max = self.call.cpu_max * WALL_FACTOR + WALL_SLACK;
        if self.call.started.elapsed() > wall_max {
            return Err(Breach::Wall { budget: wall_max });
        }
        Ok(())
    }

    /// CPU time that was used so far and is not accounted for yet.
    pub(crate) fn take_used(&mut self) -> Duration {
        std::mem::take(&mut self.used)
    }

    /// Ends the call and returns its wall time.
    pub(crate) fn end(&mut self) -> Duration {
        let elapsed = self.call.started.elapsed();
        self.used += match self.call.ticks {
            Some((first, _)) => thread_cpu_time().saturating_sub(first),
            // Over before a tick met it: wall time is what there is, and too short to matter when it errs.
            None => elapsed.min(crate::limits::TICK),
        };
        elapsed
    }
}

/// CPU time that the calling thread has used so far.
#[cfg(target_os = "linux")]
#[expect(unsafe_code, reason = "one libc call; std has no thread CPU clock")]
fn thread_cpu_time() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a valid, writable timespec, and the call keeps no reference to it.
    let result = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    assert_eq!(result, 0, "Linux has had the thread CPU clock since 2.6.12");
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// Wall time stands in for CPU time where the thread CPU clock is too coarse or missing.
#[cfg(not(target_os = "linux"))]
fn thread_cpu_time() -> Duration {
    use std::sync::OnceLock;
    static START: OnceLock<Instant> = OnceLock::new();
    START.get_or_init(Instant::now).elapsed()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spin(cpu: Duration) {
        let start = thread_cpu_time();
        while thread_cpu_time().saturating_sub(start) < cpu {
            std::hint::black_box(0);
        }
    }

    #[test]
    fn cpu_beyond_the_budget_is_a_breach() {
        let mut budget = Budget::new(Arc::default());
        budget.begin(Duration::from_millis(5), Duration::from_secs(1)).expect("nothing is used yet");
        budget.check().expect("the first tick only looks");
        spin(Duration::from_millis(2));
        budget.check().expect("2 ms of 5");
        spin(Duration::from_millis(4));
        assert!(matches!(budget.check(), Err(Breach::Cpu { .. })));
    }

    #[test]
    fn calls_add_up_to_the_request() {
        let mut budget = Budget::new(Arc::default());
        let request = Duration::from_millis(3);
        budget.begin(Duration::from_secs(1), request).expect("nothing is used yet");
        budget.check().expect("the first tick only looks");
        spin(Duration::from_millis(4));
        budget.end();
        assert!(matches!(budget.begin(Duration::from_secs(1), request), Err(Breach::RequestCpu { .. })));
    }

    #[test]
    fn waiting_is_not_charged() {
        let mut budget = Budget::new(Arc::default());
        budget.begin(Duration::from_millis(1), Duration::from_secs(1)).expect("nothing is used yet");
        budget.check().expect("the first tick only looks");
        std::thread::sleep(Duration::from_millis(20));
        budget.check().expect("sleeping takes no CPU");
    }

    #[test]
    fn a_question_that_was_given_up_stops_at_the_next_tick() {
        let question = Arc::new(Question::default());
        let mut budget = Budget::new(Arc::default());
        budget.begin(Duration::from_secs(1), Duration::from_secs(1)).expect("nothing is used yet");
        budget.question = Some(Arc::clone(&question));
        assert!(question.ask());
        budget.check().expect("somebody waits");
        assert_eq!(question.give_up(), GivenUp::Asked);
        assert!(matches!(budget.check(), Err(Breach::GivenUp)));
        assert!(!question.answer(), "too late");
        let unasked = Question::default();
        assert_eq!((unasked.give_up(), unasked.ask()), (GivenUp::Unasked, false));
        let answered = Question::default();
        assert!(answered.ask() && answered.answer());
        assert_eq!(answered.give_up(), GivenUp::Answered);
    }

    #[test]
    fn cancellation_stops_at_the_next_tick() {
        let cancellation = Arc::new(Cancellation::default());
        let mut budget = Budget::new(Arc::clone(&cancellation));
        budget.begin(Duration::from_secs(1), Duration::from_secs(1)).expect("nothing is used yet");
        budget.check().expect("not cancelled");
        cancellation.cancel();
        assert!(matches!(budget.check(), Err(Breach::Cancelled)));

        cancellation.close();
        cancellation.cancel();
        budget.check().expect("the audit cannot be cancelled");
    }
}
