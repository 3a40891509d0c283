//! Where a prompt finds the most of itself already computed. Pure: it moves no memory, it says what to move.
//!
//! A slot keeps what was computed in it when its sequence has ended. The next prompt takes the slot that shares the
//! longest beginning with it; where a busy slot or a copy in host memory shares more, that is copied. What is about to be
//! overwritten is copied to host memory first, within a budget; of the copies the least recently used go first.

use std::cmp::Reverse;

use inference::Token;

use crate::decoder::Slot;

/// What every slot remembers, and what host memory holds.
#[derive(Debug)]
pub(crate) struct Prefixes {
    slots: Vec<Held>,
    saved: Vec<Saved>,
    saved_bytes: usize,
    saved_bytes_max: usize,
    /// Tokens that have to be saved for a copy to be made.
    tokens_min: usize,
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
    pub(crate) fn new(slots: usize, saved_bytes_max: usize, tokens_min: usize) -> Self {
        let slots = (0..slots).map(|_| Held::default()).collect();
        Self { slots, saved: Vec::new(), saved_bytes: 0, saved_bytes_max, tokens_min, clock: 0 }
    }

    /// The best place for a prompt; `None` where no slot is free. The prompt's last token is always computed: the answer
    /// begins with the logits after it.
    pub(crate) fn place(&self, prompt: &[Token]) -> Option<Placement> {
        let reusable = &prompt[..prompt.len().saturating_sub(1)];
        let shared = |tokens: &[Token]| common_prefix(tokens, reusable);
        let free = || self.slots.iter().enumerate().filter(|(_, held)| !held.is_busy);

        // Among slots that share next to nothing, the one that was not used for the longest time has the least to lose.
        let worth = |tokens: &[Token]| Some(shared(tokens)).filter(|&count| count >= self.tokens_min).unwrap_or(0);
        let (here, held) = free().max_by_key(|(slot, held)| (worth(&held.tokens), Reverse((held.used, *slot))))?;
        let keep = shared(&held.tokens);

        let busy = self.slots.iter().enumerate().filter(|(_, held)| held.is_busy);
        let busy = busy.map(|(slot, held)| (shared(&held.tokens), Source::Slot(Slot(slot))));
        let saved = self.saved.iter().enumerate().map(|(place, saved)| (shared(&saved.tokens), Source::Saved(place)));
        let (slot, keep, source) = match busy.chain(saved).max_by_key(|(count, _)| *count) {
            Some((count, source)) if count >= keep + self.tokens_min => {
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
            && tokens.len() >= keep + self.tokens_min
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

    /// What was computed in `slot`.
    pub(crate) fn tokens(&self, slot: Slot) -> &[Token] {
        &self.slots[slot.0].tokens
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

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(text: &str) -> Vec<Token> {
        text.bytes().map(|byte| Token(u32::from(byte))).collect()
    }

    /// Slots that computed these texts, one after the other; all free again.
    fn prefixes(texts: &[&str]) -> Prefixes {
        let mut prefixes = Prefixes::new(texts.len(), 10, 4);
        for (slot, text) in texts.iter().enumerate() {
            begin(&mut prefixes, slot, text);
            prefixes.end(Slot(slot));
        }
        prefixes
    }

    fn begin(prefixes: &mut Prefixes, slot: usize, text: &str) {
        prefixes.begin(Slot(slot), &[]);
        for token in tokens(text) {
            prefixes.computed(Slot(slot), token);
        }
    }

    /// Where `prompt` goes, as `slot:kept from source`, `!` where the slot's memory is to be saved.
    fn place(prefixes: &Prefixes, prompt: &str) -> String {
        let Some(Placement { slot, keep, source, save_first }) = prefixes.place(&tokens(prompt)) else {
            return "nowhere".to_owned();
        };
        let mark = if save_first { "!" } else { "" };
        match source {
            Source::Here => format!("{}:{keep}{mark}", slot.0),
            Source::Slot(other) => format!("{}:{keep} from {}{mark}", slot.0, other.0),
            Source::Saved(place) => format!("{}:{keep} from copy {place}{mark}", slot.0),
        }
    }

    #[test]
    fn the_longest_common_beginning_wins() {
        let prefixes = prefixes(&["system: be kind", "system: be brief. hi"]);
        assert_eq!(place(&prefixes, "system: be brief. hi there"), "1:20");
        assert_eq!(place(&prefixes, "system: be kind, and more"), "0:15");
    }

    #[test]
    fn the_last_token_of_a_prompt_is_always_computed() {
        assert_eq!(place(&prefixes(&["abcdefgh"]), "abcdefgh"), "0:7");
        assert_eq!(place(&prefixes(&["abcdefgh"]), "abcdef"), "0:5");
        assert_eq!(place(&prefixes(&["abcdefgh"]), "a"), "0:0!");
    }

    #[test]
    fn who_shares_next_to_nothing_takes_the_slot_that_was_not_used_for_the_longest_time() {
        let mut prefixes = prefixes(&["abc 1", "xyz 2", "abd 3"]);
        assert_eq!(place(&prefixes, "abd?"), "0:2", "three shared tokens are not worth a slot");
        begin(&mut prefixes, 0, "klm");
        prefixes.end(Slot(0));
        assert_eq!(place(&prefixes, "other"), "1:0!");
    }

    #[test]
    fn what_a_busy_slot_has_is_copied() {
        let mut prefixes = prefixes(&["", "x"]);
        begin(&mut prefixes, 0, "system: hello");
        assert_eq!(place(&prefixes, "system: world"), "1:8 from 0");
        assert_eq!(place(&prefixes, "sys"), "1:0", "two tokens are not worth a copy");
        begin(&mut prefixes, 1, "x");
        assert_eq!(place(&prefixes, "system: world"), "nowhere");
    }

    #[test]
    fn what_is_overwritten_is_saved_once_and_found_again() {
        let mut prefixes = prefixes(&["abcdefgh"]);
        assert_eq!(place(&prefixes, "0123456789"), "0:0!");
        prefixes.keep_copy(Slot(0), vec![0; 5]);
        assert_eq!(place(&prefixes, "0123456789"), "0:0", "there is a copy");
        begin(&mut prefixes, 0, "0123456789");
        prefixes.end(Slot(0));
        assert_eq!(place(&prefixes, "abcdefgh!"), "0:8 from copy 0!");
        assert_eq!(place(&prefixes, "0123456789 and on"), "0:10");
        assert_eq!(place(&prefixes, "012345 and on"), "0:6!", "four tokens are lost");
    }

    #[test]
    fn the_oldest_copies_go_first_and_the_budget_holds() {
        let mut prefixes = prefixes(&["first prompt", "second prompt", "third prompt"]);
        prefixes.keep_copy(Slot(0), vec![1; 4]);
        prefixes.keep_copy(Slot(1), vec![2; 4]);
        assert_eq!(prefixes.copy(0), [1; 4], "used again");
        prefixes.keep_copy(Slot(2), vec![3; 6]);
        assert_eq!((prefixes.saved.len(), prefixes.saved_bytes), (2, 10));
        assert_eq!((prefixes.saved[0].bytes[0], prefixes.saved[1].bytes[0]), (1, 3));
        prefixes.keep_copy(Slot(1), vec![4; 1]);
        assert_eq!((prefixes.saved.len(), prefixes.saved_bytes), (2, 7), "eleven bytes are one too many");
        assert!(prefixes.has_room(10) && !prefixes.has_room(11) && !prefixes.has_room(0));
    }

    #[test]
    fn a_copy_takes_the_place_of_its_own_beginning() {
        let mut prefixes = prefixes(&["abcdef", "abcdefghij"]);
        prefixes.keep_copy(Slot(0), vec![0; 3]);
        prefixes.keep_copy(Slot(1), vec![0; 4]);
        assert_eq!((prefixes.saved.len(), prefixes.saved_bytes), (1, 4));
    }

    #[test]
    fn what_is_forgotten_is_used_by_nobody() {
        let mut prefixes = prefixes(&["abcdefgh"]);
        prefixes.forget(Slot(0));
        assert_eq!(place(&prefixes, "abcdefgh!"), "0:0");
    }
}
