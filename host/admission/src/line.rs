//! The slots and the line before them, as a machine without a clock and without threads: it is told what happens and when, and says
//! what follows.
//!
//! **Order.** Interactive requests come before batch requests, but for one in [`BATCH_EVERY`](limits::BATCH_EVERY). Among requests of one
//! kind the caller who has had the least slot time is next (start-time fair queueing: Goyal, Vin, Cheng 1996, with the mean request
//! charged at the start and the difference at the end), and a caller's own requests keep their order. Time that a caller did not ask for is
//! not saved up.
//!
//! **Room.** Who has to leave a full line is in [`room`](crate::room).

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use crate::limits;
use crate::refusal::{Reason, Refusal};
use crate::room::Plan;
use crate::service_time::ServiceTime;
use crate::{Arrival, Priority, Rules};

/// Names a request in the line or in a slot.
pub(crate) type Ticket = u64;

#[derive(Debug)]
pub(crate) struct Line {
    pub(crate) rules: Rules,
    pub(crate) callers: HashMap<Arc<str>, Caller>,
    running: HashMap<Ticket, Running>,
    /// Where each of those that wait stands.
    pub(crate) waiting: HashMap<Ticket, (Arc<str>, Priority)>,
    waiting_tokens: u64,
    batch_waiting: usize,
    /// Requests that wait for something else than a slot, and take places in the line all the same.
    aside: usize,
    /// The service that who was admitted last had had: where who comes back begins.
    virtual_now: f64,
    /// Interactive requests admitted while batch requests waited, since the last of these.
    since_batch: u32,
    service: ServiceTime,
    next: Ticket,
}

#[derive(Debug, Default)]
pub(crate) struct Caller {
    /// Those that wait, by priority, in the order that they came.
    pub(crate) waiting: [VecDeque<Waiter>; 2],
    pub(crate) tokens: u64,
    running: usize,
    /// Seconds of slots that it has had, on the scale of `virtual_now`.
    served: f64,
}

#[derive(Debug)]
pub(crate) struct Waiter {
    pub(crate) ticket: Ticket,
    pub(crate) tokens: u64,
}

#[derive(Debug)]
struct Running {
    caller: Arc<str>,
    since: Duration,
    charged: f64,
}

/// What became of a request that came.
#[derive(Debug, PartialEq)]
pub(crate) enum Arrived {
    Admitted(Ticket),
    Waits {
        ticket: Ticket,
        /// Who had to leave for it.
        displaced: Vec<(Ticket, Refusal)>,
    },
    Refused(Refusal),
}

impl Caller {
    pub(crate) fn count(&self) -> usize {
        self.waiting.iter().map(VecDeque::len).sum()
    }

    fn is_idle(&self) -> bool {
        self.running == 0 && self.count() == 0
    }
}

impl Line {
    pub(crate) fn new(rules: Rules) -> Self {
        Self {
            rules,
            callers: HashMap::new(),
            running: HashMap::new(),
            waiting: HashMap::new(),
            waiting_tokens: 0,
            batch_waiting: 0,
            aside: 0,
            virtual_now: 0.0,
            since_batch: 0,
            service: ServiceTime::default(),
            next: 0,
        }
    }

    pub(crate) fn arrive(&mut self, arrival: &Arrival, now: Duration) -> Arrived {
        let ticket = self.next;
        self.next += 1;
        if self.waiting.is_empty() && self.running.len() < self.rules.slots.get() {
            self.admit(ticket, Arc::clone(&arrival.caller), now);
            return Arrived::Admitted(ticket);
        }
        let expected = self.service.wait(self.ahead_of_newcomer(arrival), self.rules.slots.get());
        let has_others = self.waiting.len() >= self.rules.slots.get();
        if has_others && self.service.is_known() && expected > arrival.wait_max {
            return Arrived::Refused(self.refusal(Reason::TooLong { expected, most: arrival.wait_max }));
        }
        let displaced = match Plan::room_for(self, arrival) {
            Ok(displaced) => displaced,
            Err(reason) => return Arrived::Refused(self.refusal(reason)),
        };
        let displaced = displaced.into_iter().map(|(ticket, reason)| {
            self.forget(ticket);
            (ticket, self.refusal(reason))
        });
        let displaced = displaced.collect();
        let virtual_now = self.virtual_now;
        let caller = self.callers.entry(Arc::clone(&arrival.caller)).or_default();
        if caller.count() == 0 {
            caller.served = caller.served.max(virtual_now);
        }
        caller.waiting[arrival.priority as usize].push_back(Waiter { ticket, tokens: arrival.tokens });
        caller.tokens += arrival.tokens;
        self.waiting.insert(ticket, (Arc::clone(&arrival.caller), arrival.priority));
        self.waiting_tokens += arrival.tokens;
        self.batch_waiting += usize::from(arrival.priority == Priority::Batch);
        Arrived::Waits { ticket, displaced }
    }

    /// Takes a slot that is free and that nobody waits for.
    pub(crate) fn take_free(&mut self, caller: &Arc<str>, now: Duration) -> Option<Ticket> {
        let is_free = self.waiting.is_empty() && self.running.len() < self.rules.slots.get();
        is_free.then(|| {
            let ticket = self.next;
            self.next += 1;
            self.admit(ticket, Arc::clone(caller), now);
            ticket
        })
    }

    /// Gives a free slot to who is next.
    pub(crate) fn admit_next(&mut self, now: Duration) -> Option<Ticket> {
        if self.running.len() >= self.rules.slots.get() || self.waiting.is_empty() {
            return None;
        }
        let interactive_waiting = self.waiting.len() - self.batch_waiting;
        let is_batch =
            self.batch_waiting > 0 && (interactive_waiting == 0 || self.since_batch + 1 >= limits::BATCH_EVERY);
        let priority = if is_batch { Priority::Batch } else { Priority::Interactive };
        self.since_batch = if is_batch || self.batch_waiting == 0 { 0 } else { self.since_batch + 1 };

        let heads = self.callers.iter().filter_map(|(name, caller)| {
            let head = caller.waiting[priority as usize].front()?;
            Some((caller.served, head.ticket, name))
        });
        // Who came first where both have had the same.
        let (_, ticket, name) = heads.min_by(|one, other| one.0.total_cmp(&other.0).then(one.1.cmp(&other.1)))?;
        let name = Arc::clone(name);
        self.forget(ticket);
        self.admit(ticket, name, now);
        Some(ticket)
    }

    /// A request is over, or its client has left: it waits no more and holds no slot.
    pub(crate) fn end(&mut self, ticket: Ticket, now: Duration) {
        let Some(Running { caller, since, charged }) = self.running.remove(&ticket) else {
            self.forget(ticket);
            return;
        };
        let held = now.saturating_sub(since);
        self.service.observe(held);
        if let Some(entry) = self.callers.get_mut(&caller) {
            entry.running -= 1;
            entry.served += held.as_secs_f64() - charged;
        }
        self.drop_if_idle(&caller);
    }

    /// Takes a place in the line for who waits for something else than a slot.
    pub(crate) fn set_aside(&mut self) -> Result<(), Refusal> {
        if self.in_line() >= self.rules.waiting_max {
            return Err(self.refusal(Reason::Full));
        }
        self.aside += 1;
        Ok(())
    }

    /// Gives that place back.
    pub(crate) fn put_back(&mut self) {
        self.aside -= 1;
    }

    /// About how many requests begin before this one, which waits; never more than wait.
    pub(crate) fn ahead_of(&self, ticket: Ticket) -> Option<usize> {
        let (name, priority) = self.waiting.get(&ticket)?;
        let own = &self.callers.get(name)?.waiting[*priority as usize];
        let before = own.iter().position(|waiter| waiter.ticket == ticket)?;
        Some(self.ahead(before, *priority).min(self.waiting.len() - 1))
    }

    pub(crate) fn refusal(&self, reason: Reason) -> Refusal {
        let ahead = self.in_line();
        Refusal { reason, waiting: ahead, retry_after: self.service.retry_after(ahead, self.rules.slots.get()) }
    }

    pub(crate) fn running(&self) -> usize {
        self.running.len()
    }

    /// Interactive requests that wait, then batch requests.
    pub(crate) fn waiting(&self) -> [usize; 2] {
        [self.waiting.len() - self.batch_waiting, self.batch_waiting]
    }

    /// All who wait, for a slot or for something else.
    pub(crate) fn in_line(&self) -> usize {
        self.waiting.len() + self.aside
    }

    pub(crate) fn waiting_tokens(&self) -> u64 {
        self.waiting_tokens
    }

    pub(crate) fn callers(&self) -> usize {
        self.callers.len()
    }

    pub(crate) fn mean_service(&self) -> Option<Duration> {
        self.service.is_known().then(|| self.service.wait(0, 1))
    }

    fn admit(&mut self, ticket: Ticket, caller: Arc<str>, now: Duration) {
        let virtual_now = self.virtual_now;
        let charged = self.service.seconds();
        let entry = self.callers.entry(Arc::clone(&caller)).or_default();
        if entry.is_idle() {
            entry.served = entry.served.max(virtual_now);
        }
        self.virtual_now = virtual_now.max(entry.served);
        entry.served += charged;
        entry.running += 1;
        self.running.insert(ticket, Running { caller, since: now, charged });
    }

    /// Takes a request out of the line.
    fn forget(&mut self, ticket: Ticket) {
        let Some((name, priority)) = self.waiting.remove(&ticket) else { return };
        self.batch_waiting -= usize::from(priority == Priority::Batch);
        if let Some(caller) = self.callers.get_mut(&name) {
            let own = &mut caller.waiting[priority as usize];
            let gone = own.iter().position(|waiter| waiter.ticket == ticket).and_then(|place| own.remove(place));
            let tokens = gone.map_or(0, |waiter| waiter.tokens);
            caller.tokens -= tokens;
            self.waiting_tokens -= tokens;
        }
        self.drop_if_idle(&name);
    }

    fn drop_if_idle(&mut self, name: &Arc<str>) {
        if self.callers.get(name).is_some_and(Caller::is_idle) {
            self.callers.remove(name);
        }
    }

    fn ahead_of_newcomer(&self, arrival: &Arrival) -> usize {
        let own = self.callers.get(&arrival.caller).map_or(0, |caller| caller.waiting[arrival.priority as usize].len());
        self.ahead(own, arrival.priority)
    }

    /// About how many begin before who has `before` requests of its own caller before it: each caller's turn comes once a round
    /// where requests are alike, and between two batch requests begin a bounded number of others.
    fn ahead(&self, before: usize, priority: Priority) -> usize {
        let callers = self.callers_waiting().max(1);
        let [interactive, batch] = self.waiting();
        let in_rounds = |waiting: usize| waiting.min((before + 1) * callers - 1);
        match priority {
            Priority::Interactive => {
                let ahead = in_rounds(interactive);
                ahead + batch.min(ahead / (limits::BATCH_EVERY as usize - 1))
            }
            Priority::Batch => {
                let ahead = in_rounds(batch);
                ahead + interactive.min((ahead + 1) * (limits::BATCH_EVERY as usize - 1))
            }
        }
    }

    /// Callers who wait.
    pub(crate) fn callers_waiting(&self) -> usize {
        self.callers.values().filter(|caller| caller.count() > 0).count()
    }
}
