//! Where a prompt finds the most of itself already computed. Pure: it moves no memory, it says what to move.
//!
//! A slot keeps what was computed in it when its sequence has ended. The next prompt takes the slot that shares the
//! longest beginning with it; where a busy slot or a copy in host memory shares more, that is copied. What is about to be
//! overwritten is copied to host memory first, within a budget; of the copies the least recently used go first.

use inference::Token;

use crate::decoder::Slot;
use crate::limits::COPY_TOKENS_MIN;

/// What every slot remembers, and what host memory holds.
#[derive(Debug)]
pub(crate) struct Prefixes {
    slots: Vec<Held>,
    saved: Vec<Saved>,
    saved_bytes: usize,
    saved_bytes_max: usize,
    /// Counts uses, to tell which was the last.
    clock: u64,
}

/// What a slot remembers.
#[derive(Debug, Default)]
struct Held {
    tokens: Vec<Token>,
    used: u64,
    /// A sequence is under way in it.
    is_busy: bool,
}

/// A copy in host memory.
#[derive(Debug)]
struct Saved {
    tokens: Vec<Token>,
    bytes: Vec<u8>,
    used: u64,
}

/// Where a prompt goes, and with what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Placement {
    /// The slot, which is free.
    pub(crate) slot: Slot,
    /// Tokens of the prompt that need not be computed.
    pub(crate) keep: usize,
    /// Where they are.
    pub(crate) source: Source,
    /// What the slot remembers is worth a copy before it is overwritten.
    pub(crate) save_first: bool,
}

/// Where the beginning of a prompt is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    /// In the slot itself.
    Here,
    /// In another slot.
    Slot(Slot),
    /// In host memory, at this place of [`Prefixes::saved`].
    Saved(usize),
}

impl Prefixes {
    pub(crate) fn new(slots: usize, saved_bytes_max: usize) -> Self {
        let slots = (0..slots).map(|_| Held::default()).collect();
        Self { slots, saved: Vec::new(), saved_bytes: 0, saved_bytes_max, clock: 0 }
    }

    /// The best place for a prompt; `None` where no slot is free. The prompt's last token is always computed: the answer
    /// begins with the logits after it.
    pub(crate) fn place(&self, prompt: &[Token]) -> Option<Placement> {
        let reusable = &prompt[..prompt.len().saturating_sub(1)];
        let shared = |tokens: &[Token]| common_prefix(tokens, reusable);
        let free = || self.slots.iter().enumerate().filter(|(_, held)| !held.is_busy);

        // Among slots that share next to nothing, the one that was not used for the longest time has the least to lose.
        let worth = |tokens: &[Token]| Some(shared(tokens)).filter(|&count| count >= COPY_TOKENS_MIN).unwrap_or(0);
        let (here, held) = free().max_by_key(|(_, held)| (worth(&held.tokens), std::cmp::Reverse(held.used)))?;
        let keep = shared(&held.tokens);

        let busy = self.slots.iter().enumerate().filter(|(_, held)| held.is_busy);
        let busy = busy.map(|(slot, held)| (shared(&held.tokens), Source::Slot(Slot(slot))));
        let saved = self.saved.iter().enumerate().map(|(place, saved)| (shared(&saved.tokens), Source::Saved(place)));
        let (slot, keep, source) = match busy.chain(saved).max_by_key(|(count, _)| *count) {
            Some((count, source)) if count >= keep + COPY_TOKENS_MIN => {
                let (slot, _) = free().min_by_key(|(_, held)| held.used)?;
                (slot, count, source)
            }
            _ => (here, keep, Source::Here),
        };
        let lost = if source == Source::Here { keep } else { 0 };
        let save_first = self.is_worth_saving(&self.slots[slot].tokens, lost);
        Some(Placement { slot: Slot(slot), keep, source, save_first })
    }

    /// Whether `tokens`, of which only the first `keep` stay, are remembered nowhere else.
    fn is_worth_saving(&self, tokens: &[Token], keep: usize) -> bool {
        self.saved_bytes_max > 0
            && tokens.len() >= keep + COPY_TOKENS_MIN
            && !self.saved.iter().any(|saved| saved.tokens.starts_with(tokens))
    }

    /// A sequence begins in `slot` with the first `keep` tokens of `prompt`.
    pub(crate) fn begin(&mut self, slot: Slot, kept: &[Token]) {
        let used = self.tick();
        let held = &mut self.slots[slot.0];
        held.tokens.clear();
        held.tokens.extend_from_slice(kept);
        held.used = used;
        held.is_busy = true;
    }

    /// A token was computed in `slot`.
    pub(crate) fn computed(&mut self, slot: Slot, token: Token) {
        self.slots[slot.0].tokens.push(token);
    }

    /// The sequence in `slot` has ended; what it computed stays.
    pub(crate) fn end(&mut self, slot: Slot) {
        let used = self.tick();
        let held = &mut self.slots[slot.0];
        held.used = used;
        held.is_busy = false;
    }

    /// Nobody knows any more what `slot` holds.
    pub(crate) fn forget(&mut self, slot: Slot) {
        self.slots[slot.0].tokens.clear();
    }

    /// Whether a copy of so many bytes may be made, at the cost of older ones.
    pub(crate) fn has_room(&self, bytes: usize) -> bool {
        (1..=self.saved_bytes_max).contains(&bytes)
    }

    /// A copy of what `slot` remembers. Older copies make room for it.
    pub(crate) fn keep_copy(&mut self, slot: Slot, bytes: Vec<u8>) {
        let tokens = self.slots[slot.0].tokens.clone();
        // A copy of the beginning of these tokens says nothing that this one does not.
        self.drop_copies(|saved| tokens.starts_with(&saved.tokens));
        let Some(room) = self.saved_bytes_max.checked_sub(bytes.len()) else { return };
        while self.saved_bytes > room {
            let Some(oldest) = self.saved.iter().map(|saved| saved.used).min() else { return };
            self.drop_copies(|saved| saved.used == oldest);
        }
        let used = self.tick();
        self.saved_bytes += bytes.len();
        self.saved.push(Saved { tokens, bytes, used });
    }

    /// The copy at `place`.
    pub(crate) fn copy(&mut self, place: usize) -> &[u8] {
        let used = self.tick();
        let saved = &mut self.saved[place];
        saved.used = used;
        &saved.bytes
    }


    /// Bytes of all copies.
    #[cfg(test)]
    pub(crate) fn saved_bytes(&self) -> usize {
        self.saved_bytes
    }

    fn drop_copies(&mut self, is_dropped: impl Fn(&Saved) -> bool) {
        self.saved.retain(|saved| !is_dropped(saved));
        self.saved_bytes = self.saved.iter().map(|saved| saved.bytes.len()).sum();
    }

    fn tick(&mut self) -> u64 {
        self.clock += 1;
        self.clock
    }
}

/// How many tokens two texts begin with together.
pub(crate) fn common_prefix(a: &[Token], b: &[Token]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}
