//! The slots and the line before them, as a machine without a clock and without threads: it is told what happens and when, and says
//! what follows.
//!
//! **Order.** Interactive requests come before batch requests, but for one in [`BATCH_EVERY`](limits::BATCH_EVERY). Among requests of
//! one kind the caller who has had the least slot time is next ([`class`](crate::class)), and a caller's own requests keep their order.
//!
//! **Room.** Who has to leave a full line is in [`room`](crate::room).

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use crate::class::{Account, Class, Waiter};
use crate::limits;
use crate::refusal::{Reason, Refusal};
use crate::room::{Held, Plan};
use crate::service_time::ServiceTime;
use crate::{Arrival, Priority, Rules};

/// Names a request in the line or in a slot.
pub(crate) type Ticket = u64;

#[derive(Debug)]
pub(crate) struct Line {
    pub(crate) rules: Rules,
    /// By priority. Each has a clock of its own: how far one is says nothing about the other.
    classes: [Class; 2],
    running: HashMap<Ticket, Running>,
    /// Where each of those that wait stands.
    pub(crate) waiting: HashMap<Ticket, (Arc<str>, Priority)>,
    /// Requests that wait for something else than a slot, and take places in the line all the same.
    aside: usize,
    /// Interactive requests admitted while batch requests waited, since the last of these.
    since_batch: u32,
    service: ServiceTime,
    next: Ticket,
}

#[derive(Debug)]
struct Running {
    caller: Arc<str>,
    priority: Priority,
    since: Duration,
    /// How long somebody had waited when it began.
    wanted: Duration,
    charged: f64,
}

/// What a request that comes can have.
#[derive(Debug)]
pub(crate) enum Offer {
    Slot,
    /// A place in the line, for which these have to leave.
    Place(Vec<(Ticket, Reason)>),
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
}

impl Line {
    pub(crate) fn new(rules: Rules) -> Self {
        Self {
            rules,
            classes: Default::default(),
            running: HashMap::new(),
            waiting: HashMap::new(),
            aside: 0,
            since_batch: 0,
            service: ServiceTime::default(),
            next: 0,
        }
    }

    /// What a request that comes can have, if it wants it. Nothing changes by being asked.
    pub(crate) fn offer(&self, arrival: &Arrival) -> Result<Offer, Refusal> {
        if self.is_slot_unwanted() {
            return Ok(Offer::Slot);
        }
        let expected = self.service.wait(self.ahead_of_newcomer(arrival), self.rules.slots.get());
        let has_others = self.waiting.len() >= self.rules.slots.get();
        if has_others && self.service.is_known() && expected > arrival.wait_max {
            return Err(self.refusal(Reason::TooLong { expected, most: arrival.wait_max }));
        }
        Plan::room_for(self, arrival).map(Offer::Place).map_err(|reason| self.refusal(reason))
    }

    /// A request takes what it was offered, in the same breath.
    pub(crate) fn arrive(&mut self, arrival: &Arrival, offer: Offer, now: Duration) -> Arrived {
        self.tick(now);
        let ticket = self.next;
        self.next += 1;
        let leaving = match offer {
            Offer::Slot => {
                self.admit(ticket, Arc::clone(&arrival.caller), arrival.priority, now);
                return Arrived::Admitted(ticket);
            }
            Offer::Place(leaving) => leaving,
        };
        let displaced = leaving.into_iter().map(|(ticket, reason)| {
            self.forget(ticket);
            (ticket, self.refusal(reason))
        });
        let displaced = displaced.collect();
        self.class_mut(arrival.priority).join(&arrival.caller, Waiter { ticket, tokens: arrival.tokens });
        self.waiting.insert(ticket, (Arc::clone(&arrival.caller), arrival.priority));
        Arrived::Waits { ticket, displaced }
    }

    /// Takes a slot that is free and that nobody waits for, for whoever has this one.
    pub(crate) fn take_free(&mut self, beside: Ticket, now: Duration) -> Option<Ticket> {
        let Running { caller, priority, .. } = self.running.get(&beside).filter(|_| self.is_slot_unwanted())?;
        let (caller, priority) = (Arc::clone(caller), *priority);
        self.tick(now);
        let ticket = self.next;
        self.next += 1;
        self.admit(ticket, caller, priority, now);
        Some(ticket)
    }

    /// Gives a free slot to who is next.
    pub(crate) fn admit_next(&mut self, now: Duration) -> Option<Ticket> {
        if self.running.len() >= self.rules.slots.get() || self.waiting.is_empty() {
            return None;
        }
        self.tick(now);
        let [interactive, batch] = self.waiting();
        let is_batch = batch > 0 && (interactive == 0 || self.since_batch + 1 >= limits::BATCH_EVERY);
        let priority = if is_batch { Priority::Batch } else { Priority::Interactive };
        self.since_batch = if is_batch || batch == 0 { 0 } else { self.since_batch + 1 };

        let (name, ticket) = self.class(priority).next()?;
        self.admit(ticket, name, priority, now);
        self.forget(ticket);
        Some(ticket)
    }

    /// A request is over, or its client has left: it waits no more and holds no slot.
    pub(crate) fn end(&mut self, ticket: Ticket, now: Duration) {
        self.tick(now);
        if let Some(Running { caller, priority, since, wanted, charged }) = self.running.remove(&ticket) {
            self.service.observe(now.saturating_sub(since));
            let class = self.class_mut(priority);
            let cost = class.wanted().saturating_sub(wanted);
            class.end(&caller, cost.as_secs_f64() - charged);
        } else {
            self.forget(ticket);
        }
        if self.is_slot_unwanted() {
            self.classes.iter_mut().for_each(Class::settle);
        }
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
        let own = &self.class(*priority).account(name)?.waiting;
        let before = own.iter().position(|waiter| waiter.ticket == ticket)?;
        Some(self.ahead(name, before, *priority, Some(ticket)).min(self.waiting.len() - 1))
    }

    pub(crate) fn refusal(&self, reason: Reason) -> Refusal {
        let ahead = self.in_line();
        Refusal { reason, waiting: ahead, retry_after: self.service.retry_after(ahead, self.rules.slots.get()) }
    }

    pub(crate) fn class(&self, priority: Priority) -> &Class {
        &self.classes[priority as usize]
    }

    pub(crate) fn running(&self) -> usize {
        self.running.len()
    }

    /// Interactive requests that wait, then batch requests.
    pub(crate) fn waiting(&self) -> [usize; 2] {
        self.classes.each_ref().map(|class| class.held().count)
    }

    /// All who wait, for a slot or for something else.
    pub(crate) fn in_line(&self) -> usize {
        self.waiting.len() + self.aside
    }

    pub(crate) fn waiting_tokens(&self) -> u64 {
        self.classes.iter().map(|class| class.held().tokens).sum()
    }

    /// What waits of this caller's.
    pub(crate) fn held_by(&self, caller: &Arc<str>) -> Held {
        let accounts = self.classes.iter().filter_map(|class| class.account(caller));
        accounts.map(Account::held).fold(Held::default(), Held::and)
    }

    /// Callers who wait.
    pub(crate) fn callers_waiting(&self) -> usize {
        let [interactive, batch] = &self.classes;
        let also_interactive = |name| interactive.account(name).is_some_and(|account| !account.waiting.is_empty());
        interactive.waiters().count() + batch.waiters().filter(|(name, _)| !also_interactive(name)).count()
    }

    /// Callers who have a request here, waiting or running.
    pub(crate) fn callers(&self) -> usize {
        let [interactive, batch] = &self.classes;
        interactive.present().count() + batch.present().filter(|name| !interactive.has_present(name)).count()
    }

    /// Accounts that are kept.
    #[cfg(test)]
    pub(crate) fn accounts(&self) -> usize {
        self.classes.iter().map(Class::accounts).sum()
    }

    pub(crate) fn mean_service(&self) -> Option<Duration> {
        self.service.is_known().then(|| self.service.wait(0, 1))
    }

    fn class_mut(&mut self, priority: Priority) -> &mut Class {
        &mut self.classes[priority as usize]
    }

    /// A slot is free and nobody waits for it.
    fn is_slot_unwanted(&self) -> bool {
        self.waiting.is_empty() && self.running.len() < self.rules.slots.get()
    }

    fn tick(&mut self, now: Duration) {
        self.classes.iter_mut().for_each(|class| class.tick(now));
    }

    fn admit(&mut self, ticket: Ticket, caller: Arc<str>, priority: Priority, now: Duration) {
        let charged = self.service.seconds();
        let class = self.class_mut(priority);
        class.begin(&caller, charged);
        let wanted = class.wanted();
        self.running.insert(ticket, Running { caller, priority, since: now, wanted, charged });
    }

    /// Takes a request out of the line.
    fn forget(&mut self, ticket: Ticket) {
        if let Some((name, priority)) = self.waiting.remove(&ticket) {
            self.class_mut(priority).leave(&name, ticket);
        }
    }

    fn ahead_of_newcomer(&self, arrival: &Arrival) -> usize {
        let own = self.class(arrival.priority).account(&arrival.caller).map_or(0, |account| account.waiting.len());
        self.ahead(&arrival.caller, own, arrival.priority, None)
    }

    /// About how many begin before who has `before` requests of its own caller before it: those of its kind whose turn comes first,
    /// and of the other kind as many as begin between them.
    fn ahead(&self, caller: &Arc<str>, before: usize, priority: Priority, ticket: Option<Ticket>) -> usize {
        let ahead = self.class(priority).ahead(caller, before, ticket, self.service.seconds());
        let [interactive, batch] = self.waiting();
        let between = limits::BATCH_EVERY as usize - 1;
        match priority {
            Priority::Interactive => ahead + batch.min(ahead / between),
            Priority::Batch => ahead + interactive.min((ahead + 1) * between),
        }
    }
}
