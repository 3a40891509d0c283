//! A decoder for tests that computes nothing and checks every promise that the engine gives to decoders.
//!
//! Its model: the first token of a prompt says after how many tokens the completion ends (0: never), and every token
//! is a letter that depends on all tokens before it: who goes on from what another sequence computed gives himself away. Where
//! that letter is not allowed the next one is taken that is.

use std::cell::RefCell;
use std::ops::Range;
use std::rc::Rc;

use inference::{EngineFault, Sampling, SpecialTokens, Token, Vocabulary};

use crate::decoder::{Choice, DecodeError, Decoder, DecoderShape, Logits, Row, Sampled, Slot};

pub(crate) const END: Token = Token(256);

/// Bytes, and an end.
pub(crate) struct FakeVocabulary;

impl Vocabulary for FakeVocabulary {
    fn size(&self) -> u32 {
        257
    }
    fn tokenize(&self, text: &str, _: SpecialTokens) -> Vec<Token> {
        text.bytes().map(|byte| Token(u32::from(byte))).collect()
    }
    fn append_piece(&self, token: Token, bytes: &mut Vec<u8>) {
        bytes.extend(u8::try_from(token.0));
    }
    fn find_control_token(&self, _: &str) -> Option<(Range<usize>, Token)> {
        None
    }
    fn prompt_start(&self) -> Option<Token> {
        None
    }
    fn beginning_of_sequence(&self) -> Option<Token> {
        None
    }
    fn ends_generation(&self, token: Token) -> bool {
        token == END
    }
}

/// What the decoder does with a batch, asked before each.
pub(crate) enum Fate {
    Compute,
    /// Compute even where the engine wants to abort.
    IgnoreAbort,
    Fail,
}

/// The decoder.
pub(crate) struct FakeDecoder {
    shape: DecoderShape,
    fate: Box<dyn FnMut() -> Fate>,
    pub(crate) seen: Rc<RefCell<Seen>>,
}

/// What a test may look at.
#[derive(Default)]
pub(crate) struct Seen {
    slots: Vec<FakeSlot>,
    /// The last batch that was computed.
    batch: Vec<Row>,
    /// Rows of it that have to be sampled still.
    owed: Vec<usize>,
    /// Like a model with a recurrent state: what is not kept whole is lost.
    pub(crate) cannot_go_back: bool,
    /// Every so many copies fail; 0: none.
    pub(crate) failing_copies: usize,
    pub(crate) copies: usize,
    /// Guesses computed, and those of them that were forgotten.
    pub(crate) guesses: usize,
    pub(crate) wrong_guesses: usize,
    pub(crate) batches: usize,
    /// Logits that were put aside.
    pub(crate) parked: usize,
    /// Tokens that nobody chose.
    pub(crate) forced: usize,
    /// Nobody is paused: every answer under way has to be in every batch.
    pub(crate) everybody_reads: bool,
}

#[derive(Default)]
#[expect(clippy::struct_excessive_bools, reason = "claims of their own, each checked against the engine's steps")]
struct FakeSlot {
    is_busy: bool,
    tokens: Vec<Token>,
    sampled: u32,
    is_answering: bool,
    /// It has logits that were put aside.
    is_parked: bool,
    /// It went on between two batches, so its reader may not have made room for the next token yet.
    is_fresh: bool,
    /// Tokens that nobody chose, and that are not computed yet.
    forced: usize,
    /// Within a batch: it has one already.
    has_row: bool,
    /// Batches since this slot was last in one.
    waited: usize,
}

impl FakeDecoder {
    pub(crate) fn new(shape: DecoderShape, fate: impl FnMut() -> Fate + 'static) -> Self {
        let seen = Seen { slots: (0..shape.slots).map(|_| FakeSlot::default()).collect(), ..Seen::default() };
        Self { shape, fate: Box::new(fate), seen: Rc::new(RefCell::new(seen)) }
    }
}

impl Seen {
    pub(crate) fn occupied(&self) -> usize {
        self.slots.iter().filter(|held| held.is_busy).count()
    }

    /// What every slot remembers.
    pub(crate) fn remembered(&self) -> Vec<&[Token]> {
        self.slots.iter().map(|held| held.tokens.as_slice()).collect()
    }

    /// The logits of a row are used, once.
    fn pay(&mut self, slot: Slot, row: usize) {
        assert_eq!(self.batch[row].slot, slot, "row {row} is another slot's");
        let owed = self.owed.iter().position(|&owed| owed == row);
        self.owed.swap_remove(owed.unwrap_or_else(|| panic!("row {row} has no logits, or was sampled")));
    }

    fn check(&self, rows: &[Row], shape: DecoderShape) {
        assert!((1..=shape.rows_max).contains(&rows.len()), "{} rows, {} are allowed", rows.len(), shape.rows_max);
        assert_eq!(self.owed, Vec::<usize>::new(), "rows wanted logits and were not sampled");
        let runs: Vec<&[Row]> = rows.chunk_by(|a, b| a.slot == b.slot).collect();
        for run in &runs {
            let slot = run[0].slot;
            assert_eq!(runs.iter().filter(|other| other[0].slot == slot).count(), 1, "{slot:?} is in two places");
            let held = &self.slots[slot.0];
            assert!(held.is_busy, "{slot:?} has not begun");
            for (row, position) in run.iter().zip(held.tokens.len()..) {
                assert_eq!(row.position as usize, position, "the positions of {slot:?} have a gap");
                assert!(row.position < shape.context_length, "{slot:?} is over its context");
            }
            assert!(run.is_sorted_by_key(|row| row.wants_logits), "{slot:?} wants logits before its last rows");
            assert!(!held.is_answering || held.forced > 0 || run[0].wants_logits, "{slot:?} answers row by row");
            assert!(
                held.is_answering || !run.iter().rev().nth(1).is_some_and(|row| row.wants_logits),
                "{slot:?} guesses"
            );
        }
        let samples = rows.iter().filter(|row| row.wants_logits).count();
        assert!(samples <= shape.samples_max, "{samples} rows want logits, {} are allowed", shape.samples_max);
    }

    /// No slot waits longer than it takes to serve every other one; an answer that is read does not wait at all.
    fn check_fairness(&mut self, rows: &[Row]) {
        let count = self.slots.len();
        for (slot, held) in self.slots.iter_mut().enumerate() {
            if !held.is_busy {
                continue;
            }
            if rows.iter().any(|row| row.slot.0 == slot) {
                (held.waited, held.is_fresh) = (0, false);
                continue;
            }
            held.waited += 1;
            // It waits for its controller, or has just heard from it.
            if held.is_parked || std::mem::take(&mut held.is_fresh) {
                held.waited = 0;
                continue;
            }
            assert!(held.is_answering || held.waited < count, "the prompt in slot {slot} starves");
            // What was forced takes its turn with the prompts.
            let has_its_row = held.is_answering && held.forced == 0;
            assert!(!has_its_row || !self.everybody_reads, "the answer in slot {slot} was left out");
        }
    }
}

impl Decoder for FakeDecoder {
    fn begin(&mut self, slot: Slot, keep: u32, _: &Sampling) -> u32 {
        let seen = &mut *self.seen.borrow_mut();
        let held = &mut seen.slots[slot.0];
        assert!(!held.is_busy, "{slot:?} is taken");
        let mut tokens = std::mem::take(&mut held.tokens);
        assert!(keep as usize <= tokens.len(), "{slot:?} does not remember {keep} tokens");
        let keep = if seen.cannot_go_back && (keep as usize) < tokens.len() { 0 } else { keep };
        tokens.truncate(keep as usize);
        *held = FakeSlot { is_busy: true, tokens, ..FakeSlot::default() };
        keep
    }

    fn decode(&mut self, rows: &[Row], abort: &dyn Fn() -> bool) -> Result<(), DecodeError> {
        self.seen.borrow().check(rows, self.shape);
        match (self.fate)() {
            Fate::Compute if abort() => return Err(DecodeError::Aborted),
            Fate::Compute | Fate::IgnoreAbort => {}
            Fate::Fail => return Err(DecodeError::Failed("as the test wants".to_owned())),
        }
        let seen = &mut *self.seen.borrow_mut();
        seen.batches += 1;
        seen.check_fairness(rows);
        for row in rows {
            let held = &mut seen.slots[row.slot.0];
            held.tokens.push(row.token);
            seen.guesses += usize::from(held.is_answering && row.wants_logits && held.has_row);
            held.is_answering |= row.wants_logits;
            held.forced = held.forced.saturating_sub(1);
            assert!(!held.is_parked, "{:?} goes on before its parked logits are used", row.slot);
            held.has_row = true;
        }
        for held in &mut seen.slots {
            held.has_row = false;
        }
        seen.owed = rows.iter().enumerate().filter(|(_, row)| row.wants_logits).map(|(number, _)| number).collect();
        seen.batch = rows.to_vec();
        Ok(())
    }

    fn sample(&mut self, slot: Slot, logits: Logits, choice: &Choice<'_>) -> Result<Sampled, EngineFault> {
        let seen = &mut *self.seen.borrow_mut();
        let length = match logits {
            Logits::Row(row) => {
                seen.pay(slot, row);
                seen.batch[row].position as usize + 1
            }
            Logits::Parked => {
                assert!(std::mem::take(&mut seen.slots[slot.0].is_parked), "{slot:?} has nothing put aside");
                seen.slots[slot.0].is_fresh = true;
                seen.slots[slot.0].tokens.len()
            }
        };
        let held = &mut seen.slots[slot.0];
        held.sampled += 1;
        let before = &held.tokens[..length];
        let wanted = if before[0].0 == held.sampled { END } else { following(before) };
        let token = choose(wanted, choice.biases, |token| choice.allowed.is_none_or(|mask| mask.contains(token)));
        Ok(Sampled { token: token.ok_or(EngineFault::NoToken)?, logprobs: None })
    }

    fn park(&mut self, slot: Slot, row: usize) {
        let seen = &mut *self.seen.borrow_mut();
        seen.pay(slot, row);
        seen.parked += 1;
        seen.slots[slot.0].is_parked = true;
    }

    fn accept(&mut self, slot: Slot, _: Token) {
        let seen = &mut *self.seen.borrow_mut();
        seen.forced += 1;
        // What was put aside is not asked for any more.
        let held = &mut seen.slots[slot.0];
        held.is_fresh |= std::mem::take(&mut held.is_parked);
        held.forced += 1;
        held.sampled += 1;
        let batch = &seen.batch;
        seen.owed.retain(|&row| batch[row].slot != slot);
    }

    fn can_forget(&self) -> bool {
        !self.seen.borrow().cannot_go_back
    }

    fn forget_from(&mut self, slot: Slot, position: u32) {
        let seen = &mut *self.seen.borrow_mut();
        assert!(!seen.cannot_go_back);
        let tokens = &mut seen.slots[slot.0].tokens;
        seen.wrong_guesses += tokens.len().strict_sub(position as usize);
        tokens.truncate(position as usize);
        let batch = &seen.batch;
        seen.owed.retain(|&row| batch[row].slot != slot || batch[row].position < position);
    }

    fn end(&mut self, slot: Slot) {
        let seen = &mut *self.seen.borrow_mut();
        assert!(seen.slots[slot.0].is_busy, "{slot:?} is empty");
        seen.slots[slot.0].is_busy = false;
        let batch = &seen.batch;
        seen.owed.retain(|&row| batch[row].slot != slot);
    }

    fn forget(&mut self, slot: Slot) {
        self.seen.borrow_mut().slots[slot.0].tokens.clear();
    }

    fn saved_bytes(&mut self, slot: Slot) -> usize {
        self.seen.borrow().slots[slot.0].tokens.len() * TOKEN_BYTES
    }

    fn save(&mut self, slot: Slot) -> Option<Vec<u8>> {
        let seen = &mut *self.seen.borrow_mut();
        seen.copies += 1;
        let fails = seen.copies.checked_rem(seen.failing_copies) == Some(0);
        let tokens = &seen.slots[slot.0].tokens;
        (!fails).then(|| tokens.iter().flat_map(|token| token.0.to_le_bytes()).collect())
    }

    fn restore(&mut self, slot: Slot, saved: &[u8]) -> bool {
        let seen = &mut *self.seen.borrow_mut();
        seen.copies += 1;
        let fails = seen.copies.checked_rem(seen.failing_copies) == Some(0);
        let held = &mut seen.slots[slot.0];
        assert!(!held.is_busy, "{slot:?} is taken");
        held.tokens.clear();
        if !fails {
            let (tokens, rest) = saved.as_chunks();
            assert!(rest.is_empty(), "half a token was saved");
            held.tokens.extend(tokens.iter().map(|&bytes| Token(u32::from_le_bytes(bytes))));
        }
        !fails
    }
}

/// Of a token in a copy.
const TOKEN_BYTES: usize = size_of::<u32>();

/// The token that a bias favours most, or else the one that is wanted, or else the first letter after it that is allowed, in a
/// circle. A bias of -100 bans a token.
pub(crate) fn choose(wanted: Token, biases: &[(Token, f32)], is_allowed: impl Fn(Token) -> bool) -> Option<Token> {
    let is_banned = |token| biases.contains(&(token, -100.0));
    let is_allowed = |token| is_allowed(token) && !is_banned(token);
    let favours = biases.iter().filter(|&&(token, delta)| delta > 0.0 && is_allowed(token));
    if let Some(&(token, _)) = favours.max_by(|(_, one), (_, other)| one.total_cmp(other)) {
        return Some(token);
    }
    let letter = wanted.0.saturating_sub(u32::from(b'a')) % 26;
    let others = (1..=26).map(|step| Token(u32::from(b'a') + (letter + step) % 26));
    std::iter::once(wanted).chain(others).find(|&token| is_allowed(token))
}

/// The letter after `tokens`. Where the first of them is odd the model walks in a circle, which can be guessed.
pub(crate) fn following(tokens: &[Token]) -> Token {
    if let [first, .., last] = tokens
        && first.0 % 2 == 1
    {
        return Token(u32::from(b'a') + (last.0 + 1).saturating_sub(u32::from(b'a')) % 5);
    }
    let mixed = tokens.iter().fold(7_u32, |mixed, token| mixed.wrapping_mul(31).wrapping_add(token.0));
    Token(u32::from(b'a') + mixed % 26)
}
