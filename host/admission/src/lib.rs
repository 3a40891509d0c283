//! Who is answered next, who waits, and who is sent away.
//!
//! [`Admission`] gives out slots. Who finds none free waits in a line that is bounded by requests, by the tokens of their prompts and by
//! time; [`Permit`] is a slot, for as long as it lives. The order is decided in `line`, without clocks or threads.

mod class;
pub mod limits;
mod line;
mod rate;
mod refusal;
mod room;
mod service_time;

#[cfg(test)]
mod fairness;
#[cfg(test)]
mod simulation;

use std::collections::HashMap;
use std::num::{NonZeroU32, NonZeroUsize};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::Instant;

pub use refusal::{Reason, Refusal};

use line::{Arrived, Line, Ticket};
use rate::Rate;

/// What an operator decides.
#[derive(Debug, Clone)]
pub struct Rules {
    /// Requests that hold a slot at once.
    pub slots: NonZeroUsize,
    /// Requests that wait for one.
    pub waiting_max: usize,
    /// Tokens of the prompts of all that wait. One that waits alone may have more.
    pub waiting_tokens_max: u64,
    /// Requests a minute that are let in; so many may come at once.
    pub per_minute_max: Option<NonZeroU32>,
}

/// A request that comes.
#[derive(Debug, Clone)]
pub struct Arrival {
    /// Who asks. Callers share slots, line and requests a minute fairly; those who say nothing are one.
    pub caller: Arc<str>,
    /// How urgent it is.
    pub priority: Priority,
    /// The tokens of its prompt, as far as they can be told before it is read.
    pub tokens: u64,
    /// How long it may wait.
    pub wait_max: Duration,
}

/// How urgent a request is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Priority {
    /// Somebody waits for the answer.
    #[default]
    Interactive,
    /// Nobody does: what is left of the machine is enough.
    Batch,
}

/// How things stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Standing {
    /// Requests that hold a slot.
    pub running: usize,
    /// Interactive requests that wait, and those that wait for something else than a slot.
    pub interactive_waiting: usize,
    /// Batch requests that wait.
    pub batch_waiting: usize,
    /// Tokens of the prompts of those that wait for a slot.
    pub waiting_tokens: u64,
    /// Callers who have a request here.
    pub callers: usize,
    /// The mean time that a request holds its slot, once it is known.
    pub service: Option<Duration>,
}

impl Standing {
    /// All requests that wait.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.interactive_waiting + self.batch_waiting
    }
}

/// What one who waits is told, once.
type Told = oneshot::Receiver<Result<(), Refusal>>;

type Observer = Box<dyn Fn(&Standing) + Send + Sync>;

/// The slots and the line in front of them.
pub struct Admission {
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    begun: Instant,
    observer: Observer,
}

struct State {
    line: Line,
    rate: Option<Rate>,
    /// How those in the line are told.
    told: HashMap<Ticket, oneshot::Sender<Result<(), Refusal>>>,
    is_closed: bool,
}

impl Admission {
    /// `observer` is told how things stand after each change; it is called with a lock held and has to be quick.
    pub fn new(rules: Rules, observer: impl Fn(&Standing) + Send + Sync + 'static) -> Self {
        let rate = rules.per_minute_max.map(Rate::new);
        let state = State { line: Line::new(rules), rate, told: HashMap::new(), is_closed: false };
        let shared = Shared { state: Mutex::new(state), begun: Instant::now(), observer: Box::new(observer) };
        Self { shared: Arc::new(shared) }
    }

    /// From now on these rules hold, but for `slots`, which stay as many as they are. Who waits already keeps its place.
    pub fn set_rules(&self, rules: &Rules) {
        let mut state = self.shared.state();
        let slots = state.line.rules.slots;
        // One that stays the same goes on counting, or a change of anything else would be a minute's worth of requests more.
        if state.line.rules.per_minute_max != rules.per_minute_max {
            state.rate = rules.per_minute_max.map(Rate::new);
        }
        state.line.rules = Rules { slots, ..rules.clone() };
    }

    /// Takes a slot, now or when it is its turn, and says how long that took. Dropping the future leaves the line.
    ///
    /// `is_waiting` is given a handle on the place in the line where there is one.
    ///
    /// # Errors
    /// The line is full or too slow, the caller has more than its share, or more came than a minute may have.
    pub async fn enter(
        &self,
        arrival: Arrival,
        is_waiting: impl FnOnce(Position),
    ) -> Result<(Permit, Duration), Refusal> {
        let arrived_at = Instant::now();
        let wait_max = arrival.wait_max;
        // As long as it waits this is its place, and it is given back the same way.
        let (permit, told) = match self.arrive(arrival)? {
            (permit, None) => return Ok((permit, Duration::ZERO)),
            (permit, Some(told)) => (permit, told),
        };
        is_waiting(Position { shared: Arc::clone(&self.shared), ticket: permit.ticket });
        match tokio::time::timeout(wait_max, told).await {
            Ok(Ok(Ok(()))) => Ok((permit, arrived_at.elapsed())),
            Ok(Ok(Err(refusal))) => Err(refusal),
            Ok(Err(_)) => Err(self.shared.state().line.refusal(Reason::Closed)),
            Err(_elapsed) => {
                let reason = Reason::TimedOut { waited: wait_max };
                Err(self.shared.state().line.refusal(reason))
            }
        }
    }

    fn arrive(&self, arrival: Arrival) -> Result<(Permit, Option<Told>), Refusal> {
        let arrival = Arrival { caller: cut(arrival.caller), ..arrival };
        let mut state = self.shared.state();
        if state.is_closed {
            return Err(state.line.refusal(Reason::Closed));
        }
        let now = self.shared.now();
        let offer = state.line.offer(&arrival)?;
        // Only who is let in counts towards the minute.
        if let Some(Err((reason, retry_after))) = state.rate.as_mut().map(|rate| rate.take(&arrival.caller, now)) {
            let retry_after = retry_after.clamp(limits::RETRY_AFTER_MIN, limits::RETRY_AFTER_MAX);
            return Err(Refusal { retry_after, ..state.line.refusal(reason) });
        }
        let permit = |ticket| Permit { shared: Arc::clone(&self.shared), ticket };
        let arrived = match state.line.arrive(&arrival, offer, now) {
            Arrived::Admitted(ticket) => (permit(ticket), None),
            Arrived::Waits { ticket, displaced } => {
                for (ticket, refusal) in displaced {
                    state.tell(ticket, Err(refusal));
                }
                let (tell, told) = oneshot::channel();
                state.told.insert(ticket, tell);
                (permit(ticket), Some(told))
            }
        };
        self.shared.observe(&state);
        Ok(arrived)
    }

    /// A place in the line for who waits for something else than a slot.
    ///
    /// # Errors
    /// The line is full.
    pub fn set_aside(&self) -> Result<Aside, Refusal> {
        let mut state = self.shared.state();
        state.line.set_aside()?;
        self.shared.observe(&state);
        Ok(Aside(Arc::clone(&self.shared)))
    }

    /// How things stand.
    #[must_use]
    pub fn standing(&self) -> Standing {
        standing(&self.shared.state().line)
    }

    /// Sends everybody in the line away and lets nobody in any more.
    pub fn close(&self) {
        let mut state = self.shared.state();
        state.is_closed = true;
        let refusal = state.line.refusal(Reason::Closed);
        for (_, tell) in state.told.drain() {
            let _ = tell.send(Err(refusal.clone()));
        }
    }
}

impl State {
    fn tell(&mut self, ticket: Ticket, what: Result<(), Refusal>) {
        if let Some(tell) = self.told.remove(&ticket) {
            // Who is gone gives the slot back by itself.
            let _ = tell.send(what);
        }
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> Duration {
        self.begun.elapsed()
    }

    fn observe(&self, state: &State) {
        (self.observer)(&standing(&state.line));
    }

    /// Ends a request, whether it waits or runs, and lets others begin.
    fn end(&self, ticket: Ticket) {
        let mut state = self.state();
        let now = self.now();
        state.told.remove(&ticket);
        state.line.end(ticket, now);
        while !state.is_closed
            && let Some(next) = state.line.admit_next(now)
        {
            state.tell(next, Ok(()));
        }
        self.observe(&state);
    }
}

fn standing(line: &Line) -> Standing {
    let [_, batch] = line.waiting();
    Standing {
        running: line.running(),
        interactive_waiting: line.in_line() - batch,
        batch_waiting: batch,
        waiting_tokens: line.waiting_tokens(),
        callers: line.callers(),
        service: line.mean_service(),
    }
}

/// The first bytes of a name.
fn cut(name: Arc<str>) -> Arc<str> {
    if name.len() <= limits::CALLER_BYTES_MAX {
        name
    } else {
        name[..name.floor_char_boundary(limits::CALLER_BYTES_MAX)].into()
    }
}

/// A slot. It goes back when this is dropped, so it lives as long as the answer, not as long as the call that asked.
pub struct Permit {
    shared: Arc<Shared>,
    ticket: Ticket,
}

impl Permit {
    /// Takes up to `count` slots more for the same caller that are free and that nobody waits for.
    #[must_use]
    pub fn more(&self, count: usize) -> Vec<Self> {
        let mut state = self.shared.state();
        if state.is_closed {
            return Vec::new();
        }
        let now = self.shared.now();
        let tickets = std::iter::from_fn(|| state.line.take_free(self.ticket, now)).take(count);
        let permits = tickets.map(|ticket| Self { shared: Arc::clone(&self.shared), ticket }).collect();
        self.shared.observe(&state);
        permits
    }

    /// Whether somebody waits for a slot.
    #[must_use]
    pub fn is_wanted(&self) -> bool {
        !self.shared.state().line.waiting.is_empty()
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.shared.end(self.ticket);
    }
}

impl std::fmt::Debug for Permit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Permit").field("ticket", &self.ticket).finish_non_exhaustive()
    }
}

/// Says where a request stands in the line.
pub struct Position {
    shared: Arc<Shared>,
    ticket: Ticket,
}

impl Position {
    /// About how many requests begin before it; `None` when it waits no more.
    #[must_use]
    pub fn ahead(&self) -> Option<usize> {
        self.shared.state().line.ahead_of(self.ticket)
    }
}

/// A place in the line of who waits for something else than a slot; dropped, it is free again.
pub struct Aside(Arc<Shared>);

impl Drop for Aside {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.line.put_back();
        self.0.observe(&state);
    }
}

impl std::fmt::Debug for Admission {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Admission").field("standing", &self.standing()).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Position {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Position").field("ticket", &self.ticket).finish_non_exhaustive()
    }
}
