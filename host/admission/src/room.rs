//! Who has to leave a full line for a newcomer: for an interactive request a batch request; else the newest request of the caller with
//! the largest share of the line, as long as that is larger than the newcomer's (longest queue drop: Suter et al. 1999).

use std::collections::HashMap;
use std::sync::Arc;

use crate::line::{Caller, Line, Ticket, Waiter};
use crate::refusal::Reason;
use crate::{Arrival, Priority};

/// A line as it would be if some had left it for a newcomer.
pub(crate) struct Plan<'a> {
    line: &'a Line,
    arrival: &'a Arrival,
    leaving: Vec<(Ticket, Reason)>,
    tokens_left: u64,
    /// Of each caller: requests of each kind that would have left, the newest first, and their tokens.
    left: HashMap<&'a Arc<str>, ([usize; 2], u64)>,
}

impl<'a> Plan<'a> {
    /// Who has to leave for `arrival`; or why it has to.
    pub(crate) fn room_for(line: &'a Line, arrival: &'a Arrival) -> Result<Vec<(Ticket, Reason)>, Reason> {
        let mut plan = Self { line, arrival, leaving: Vec::new(), tokens_left: 0, left: HashMap::new() };
        while !plan.has_room() {
            let (ticket, reason) = plan.victim()?;
            plan.leave(ticket, reason);
        }
        Ok(plan.leaving)
    }

    fn has_room(&self) -> bool {
        let rules = &self.line.rules;
        let count = self.line.in_line() - self.leaving.len();
        let tokens = self.line.waiting_tokens() - self.tokens_left;
        // A request alone may be as long as it likes: what is too long for the model is refused for that.
        count < rules.waiting_max
            && (tokens == 0 || tokens.saturating_add(self.arrival.tokens) <= rules.waiting_tokens_max)
    }

    /// The newest request of a kind that a caller still has.
    fn newest(&self, name: &Arc<str>, priority: Priority) -> Option<&'a Waiter> {
        let left = self.left.get(name).map_or(0, |(left, _)| left[priority as usize]);
        self.line.callers.get(name)?.waiting[priority as usize].iter().rev().nth(left)
    }

    /// The part of the line that a caller holds: of its requests or of its tokens, whichever is more.
    fn share(&self, name: &Arc<str>) -> f64 {
        let (left, left_tokens) = self.left.get(name).copied().unwrap_or_default();
        let held = self.line.callers.get(name);
        let count = held.map_or(0, Caller::count) - left.iter().sum::<usize>();
        let tokens = held.map_or(0, |caller| caller.tokens) - left_tokens;
        part(count as u64, self.line.rules.waiting_max as u64).max(part(tokens, self.line.rules.waiting_tokens_max))
    }

    /// What the newcomer's caller would hold.
    fn newcomers_share(&self) -> f64 {
        let held = self.line.callers.get(&self.arrival.caller);
        let (left, left_tokens) = self.left.get(&self.arrival.caller).copied().unwrap_or_default();
        let count = held.map_or(0, Caller::count) + 1 - left.iter().sum::<usize>();
        let tokens = held.map_or(0, |caller| caller.tokens) + self.arrival.tokens - left_tokens;
        part(count as u64, self.line.rules.waiting_max as u64).max(part(tokens, self.line.rules.waiting_tokens_max))
    }

    fn victim(&self) -> Result<(Ticket, Reason), Reason> {
        let largest = |priority: Priority| {
            let holders =
                self.line.callers.keys().filter_map(|name| {
                    self.newest(name, priority).map(|newest| (self.share(name), newest.ticket, name))
                });
            holders.max_by(|one, other| one.0.total_cmp(&other.0).then(one.1.cmp(&other.1)))
        };
        if self.arrival.priority == Priority::Interactive
            && let Some((_, ticket, _)) = largest(Priority::Batch)
        {
            return Ok((ticket, Reason::Displaced));
        }
        let newcomer = self.newcomers_share();
        match largest(self.arrival.priority) {
            Some((share, ticket, name)) if *name != self.arrival.caller && share > newcomer => {
                Ok((ticket, Reason::OverShare))
            }
            _ if self.is_alone() => Err(Reason::Full),
            _ => {
                let is_over = newcomer > part(1, self.line.callers_waiting() as u64);
                Err(if is_over { Reason::OverShare } else { Reason::Full })
            }
        }
    }

    /// Whether nobody else than the newcomer's caller waits.
    fn is_alone(&self) -> bool {
        self.line.callers.iter().all(|(name, caller)| *name == self.arrival.caller || caller.count() == 0)
    }

    fn leave(&mut self, ticket: Ticket, reason: Reason) {
        self.leaving.push((ticket, reason));
        let Some((name, priority)) = self.line.waiting.get(&ticket) else { return };
        let tokens = self.newest(name, *priority).map_or(0, |waiter| waiter.tokens);
        let (left, left_tokens) = self.left.entry(name).or_default();
        left[*priority as usize] += 1;
        *left_tokens += tokens;
        self.tokens_left += tokens;
    }
}

fn part(held: u64, of: u64) -> f64 {
    #[expect(
        clippy::cast_precision_loss,
        reason = "a share is compared with others; its sixteenth digit decides nothing"
    )]
    let part = held as f64 / of.max(1) as f64;
    part
}
