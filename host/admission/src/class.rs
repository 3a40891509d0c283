//! Whose turn it is among the callers of one kind, interactive or batch.
//!
//! Start-time fair queueing (Goyal, Vin, Cheng 1996). A request that begins has a start tag; the caller's next one has the tag at
//! which it ended, which is later by the slot time that it took: the mean is charged at the start and the difference at the end. The
//! request with the least tag is next. The clock is the tag of who began last: who comes begins there, so that time that nobody
//! asked for is not saved up, and who is ahead of it stays ahead, waiting or not, until the clock has come as far.
//!
//! A slot's time costs only while somebody of the same kind waits: nobody was kept from what nobody wanted.

use std::cmp::Ordering;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use crate::limits;
use crate::line::Ticket;
use crate::room::Held;

#[derive(Debug, Default)]
pub(crate) struct Class {
    accounts: HashMap<Arc<str>, Account>,
    /// All that waits.
    held: Held,
    /// The highest start tag so far, in seconds of slots.
    clock: f64,
    /// How long somebody has waited here, up to `at`.
    wanted: Duration,
    at: Duration,
}

/// What a caller has here, and has had.
#[derive(Debug, Default)]
pub(crate) struct Account {
    /// In the order that they came.
    pub(crate) waiting: VecDeque<Waiter>,
    tokens: u64,
    running: usize,
    /// The tag of its next request: where its last one ends.
    tag: f64,
}

#[derive(Debug)]
pub(crate) struct Waiter {
    pub(crate) ticket: Ticket,
    pub(crate) tokens: u64,
}

impl Account {
    /// What waits.
    pub(crate) fn held(&self) -> Held {
        Held { count: self.waiting.len(), tokens: self.tokens }
    }

    /// Has something here.
    fn is_present(&self) -> bool {
        self.running > 0 || !self.waiting.is_empty()
    }
}

impl Class {
    /// Time passes.
    pub(crate) fn tick(&mut self, now: Duration) {
        let passed = now.saturating_sub(self.at);
        self.at += passed;
        if self.held.count > 0 {
            self.wanted += passed;
        }
    }

    /// How long somebody has waited here.
    pub(crate) fn wanted(&self) -> Duration {
        self.wanted
    }

    /// All that waits here.
    pub(crate) fn held(&self) -> Held {
        self.held
    }

    pub(crate) fn account(&self, caller: &Arc<str>) -> Option<&Account> {
        self.accounts.get(caller)
    }

    /// Callers who wait here.
    pub(crate) fn waiters(&self) -> impl Iterator<Item = (&Arc<str>, &Account)> {
        self.accounts.iter().filter(|(_, account)| !account.waiting.is_empty())
    }

    /// Callers who have something here, waiting or running.
    pub(crate) fn present(&self) -> impl Iterator<Item = &Arc<str>> {
        self.accounts.iter().filter(|(_, account)| account.is_present()).map(|(name, _)| name)
    }

    pub(crate) fn has_present(&self, caller: &Arc<str>) -> bool {
        self.accounts.get(caller).is_some_and(Account::is_present)
    }

    /// Accounts that are kept.
    #[cfg(test)]
    pub(crate) fn accounts(&self) -> usize {
        self.accounts.len()
    }

    /// A request begins to wait, behind its caller's others.
    pub(crate) fn join(&mut self, caller: &Arc<str>, waiter: Waiter) {
        let account = self.accounts.entry(Arc::clone(caller)).or_default();
        if account.waiting.is_empty() {
            account.tag = account.tag.max(self.clock);
        }
        self.held = self.held.and(Held { count: 1, tokens: waiter.tokens });
        account.tokens += waiter.tokens;
        account.waiting.push_back(waiter);
    }

    /// A request waits no more, for a slot of its own or for none.
    pub(crate) fn leave(&mut self, caller: &Arc<str>, ticket: Ticket) {
        let Some(account) = self.accounts.get_mut(caller) else { return };
        let place = account.waiting.iter().position(|waiter| waiter.ticket == ticket);
        let Some(gone) = place.and_then(|place| account.waiting.remove(place)) else { return };
        account.tokens -= gone.tokens;
        self.held = self.held.less(Held { count: 1, tokens: gone.tokens });
        self.prune();
    }

    /// Whose turn it is, and with which request: who came first where tags are equal.
    pub(crate) fn next(&self) -> Option<(Arc<str>, Ticket)> {
        let heads =
            self.waiters().filter_map(|(name, account)| Some((account.tag, account.waiting.front()?.ticket, name)));
        let (_, ticket, name) = heads.min_by(|one, other| in_order((one.0, one.1), (other.0, other.1)))?;
        Some((Arc::clone(name), ticket))
    }

    /// A request of this caller has a slot, and is taken to need it for so many seconds. One that has waited is still in line.
    pub(crate) fn begin(&mut self, caller: &Arc<str>, charge: f64) {
        let account = self.accounts.entry(Arc::clone(caller)).or_default();
        if account.waiting.is_empty() {
            account.tag = account.tag.max(self.clock);
        }
        self.clock = self.clock.max(account.tag);
        account.tag += charge;
        account.running += 1;
    }

    /// A request of this caller has given its slot back; `correction`: what it has cost, less what was charged.
    pub(crate) fn end(&mut self, caller: &Arc<str>, correction: f64) {
        if let Some(account) = self.accounts.get_mut(caller) {
            account.running -= 1;
            account.tag += correction;
        }
        self.prune();
    }

    /// A slot is free and nobody wants it: nobody is ahead of anybody any more.
    pub(crate) fn settle(&mut self) {
        for account in self.accounts.values_mut() {
            account.tag = account.tag.min(self.clock);
        }
        self.prune();
    }

    /// Forgets who has nothing here and is not ahead of the clock; and of too many that are ahead those who are so by the least.
    fn prune(&mut self) {
        let clock = self.clock;
        self.accounts.retain(|_, account| account.is_present() || account.tag > clock);
        let absent = || self.accounts.iter().filter(|(_, account)| !account.is_present());
        if absent().count() > limits::ABSENT_CALLERS_MAX {
            let least = absent().min_by(|(_, one), (_, other)| one.tag.total_cmp(&other.tag));
            if let Some(name) = least.map(|(name, _)| Arc::clone(name)) {
                self.accounts.remove(&name);
            }
        }
    }

    /// About how many of those that wait here begin before the request that has `before` of its caller's before it, by what they
    /// will have been charged. `ticket`: of one that waits already.
    pub(crate) fn ahead(&self, caller: &Arc<str>, before: usize, ticket: Option<Ticket>, charge: f64) -> usize {
        #[expect(clippy::cast_precision_loss, reason = "a line of 2⁵² requests is no line")]
        let tag = |first: f64, place: usize| charge.mul_add(place as f64, first);
        let own = match self.accounts.get(caller) {
            Some(account) if account.waiting.is_empty() => account.tag.max(self.clock),
            Some(account) => account.tag,
            None => self.clock,
        };
        let own = (tag(own, before), ticket.unwrap_or(Ticket::MAX));
        let of_others = self.waiters().filter(|(name, _)| *name != caller).map(|(_, account)| {
            let earlier = |(place, waiter): &(usize, &Waiter)| {
                in_order((tag(account.tag, *place), waiter.ticket), own) == Ordering::Less
            };
            account.waiting.iter().enumerate().take_while(earlier).count()
        });
        before + of_others.sum::<usize>()
    }
}

fn in_order(one: (f64, Ticket), other: (f64, Ticket)) -> Ordering {
    one.0.total_cmp(&other.0).then(one.1.cmp(&other.1))
}
