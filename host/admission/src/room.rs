//! Who has to leave a full line for a newcomer. For an interactive request it is a batch request, as long as these have more of the
//! line than is theirs; for a batch request an interactive one, as long as they have less. Else it is the newest request of the caller
//! with the largest share of the line, if that is larger than the newcomer's (longest queue drop: Suter et al. 1999).

use std::collections::HashMap;
use std::sync::Arc;

use crate::class::Waiter;
use crate::line::{Line, Ticket};
use crate::refusal::Reason;
use crate::{Arrival, Priority, Rules, limits};

/// A line as it would be if some had left it for a newcomer.
pub(crate) struct Plan<'a> {
    line: &'a Line,
    arrival: &'a Arrival,
    leaving: Vec<(Ticket, Reason)>,
    /// Of each caller: what of each kind would have left, the newest first.
    left: HashMap<&'a Arc<str>, [Held; 2]>,
}

/// Requests that wait, and their tokens.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Held {
    pub(crate) count: usize,
    pub(crate) tokens: u64,
}

impl<'a> Plan<'a> {
    /// Who has to leave for `arrival`; or why it has to.
    pub(crate) fn room_for(line: &'a Line, arrival: &'a Arrival) -> Result<Vec<(Ticket, Reason)>, Reason> {
        let mut plan = Self { line, arrival, leaving: Vec::new(), left: HashMap::new() };
        while !plan.has_room() {
            let (ticket, reason) = plan.victim()?;
            plan.leave(ticket, reason);
        }
        Ok(plan.leaving)
    }

    fn has_room(&self) -> bool {
        let rules = &self.line.rules;
        let left = self.left.values().flatten().copied().fold(Held::default(), Held::and);
        let count = self.line.in_line() - left.count;
        let tokens = self.line.waiting_tokens() - left.tokens;
        // A request alone may be as long as it likes: what is too long for the model is refused for that.
        count < rules.waiting_max
            && (tokens == 0 || tokens.saturating_add(self.arrival.tokens) <= rules.waiting_tokens_max)
    }

    fn victim(&self) -> Result<(Ticket, Reason), Reason> {
        let (newcomer, priority) = (self.newcomer(), self.arrival.priority);
        let batch = self.held(Priority::Batch);
        let of_other_kind = match priority {
            Priority::Interactive if !is_batchs_own(batch, &self.line.rules) => {
                self.largest(Priority::Batch).map(|(_, ticket, _)| (ticket, Reason::Displaced))
            }
            Priority::Batch if is_batchs_own(batch.and(newcomer), &self.line.rules) => {
                self.largest(Priority::Interactive).map(|(_, ticket, _)| (ticket, Reason::Full))
            }
            Priority::Interactive | Priority::Batch => None,
        };
        if let Some(victim) = of_other_kind {
            return Ok(victim);
        }
        let newcomers = self.share(self.held_by(&self.arrival.caller).and(newcomer));
        match self.largest(priority) {
            Some((share, ticket, name)) if *name != self.arrival.caller && share > newcomers => {
                Ok((ticket, Reason::OverShare))
            }
            _ if self.is_alone() => Err(Reason::Full),
            _ => {
                let is_over = newcomers > part(1, self.line.callers_waiting() as u64);
                Err(if is_over { Reason::OverShare } else { Reason::Full })
            }
        }
    }

    /// The newest request of this kind of the caller who holds most, with what part of the line that is.
    fn largest(&self, priority: Priority) -> Option<(f64, Ticket, &'a Arc<str>)> {
        let holders = self.line.class(priority).waiters().filter_map(|(name, _)| {
            let newest = self.newest(name, priority)?;
            Some((self.share(self.held_by(name)), newest.ticket, name))
        });
        holders.max_by(|one, other| one.0.total_cmp(&other.0).then(one.1.cmp(&other.1)))
    }

    /// The newest request of a kind that a caller still has.
    fn newest(&self, name: &Arc<str>, priority: Priority) -> Option<&'a Waiter> {
        let left = self.left.get(name).map_or(0, |left| left[priority as usize].count);
        self.line.class(priority).account(name)?.waiting.iter().rev().nth(left)
    }

    fn newcomer(&self) -> Held {
        Held { count: 1, tokens: self.arrival.tokens }
    }

    /// What a caller still has.
    fn held_by(&self, name: &Arc<str>) -> Held {
        let [interactive, batch] = self.left.get(name).copied().unwrap_or_default();
        self.line.held_by(name).less(interactive).less(batch)
    }

    /// What there still is of a kind.
    fn held(&self, priority: Priority) -> Held {
        let left = self.left.values().map(|left| left[priority as usize]);
        left.fold(self.line.class(priority).held(), Held::less)
    }

    /// The part of the line that this is: of its requests or of its tokens, whichever is more.
    fn share(&self, held: Held) -> f64 {
        let rules = &self.line.rules;
        part(held.count as u64, rules.waiting_max as u64).max(part(held.tokens, rules.waiting_tokens_max))
    }

    /// Whether nobody else than the newcomer's caller waits.
    fn is_alone(&self) -> bool {
        let others = [Priority::Interactive, Priority::Batch].map(|priority| self.line.class(priority).waiters());
        others.into_iter().flatten().all(|(name, _)| *name == self.arrival.caller)
    }

    fn leave(&mut self, ticket: Ticket, reason: Reason) {
        self.leaving.push((ticket, reason));
        let Some((name, priority)) = self.line.waiting.get(&ticket) else { return };
        let tokens = self.newest(name, *priority).map_or(0, |waiter| waiter.tokens);
        let left = &mut self.left.entry(name).or_default()[*priority as usize];
        *left = left.and(Held { count: 1, tokens });
    }
}

impl Held {
    pub(crate) fn and(self, more: Self) -> Self {
        Self { count: self.count + more.count, tokens: self.tokens.saturating_add(more.tokens) }
    }

    pub(crate) fn less(self, gone: Self) -> Self {
        Self { count: self.count - gone.count, tokens: self.tokens - gone.tokens }
    }
}

/// Whether batch requests that hold so much have no more of the line than is kept for them.
fn is_batchs_own(held: Held, rules: &Rules) -> bool {
    // The one place of the shortest line goes to whoever is more urgent.
    let places = if rules.waiting_max > 1 { (rules.waiting_max / limits::BATCH_PART).max(1) } else { 0 };
    held.count <= places && held.tokens <= rules.waiting_tokens_max / limits::BATCH_PART as u64
}

fn part(held: u64, of: u64) -> f64 {
    #[expect(
        clippy::cast_precision_loss,
        reason = "a share is compared with others; its sixteenth digit decides nothing"
    )]
    let part = held as f64 / of.max(1) as f64;
    part
}
