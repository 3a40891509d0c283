//! A decoder for tests that computes nothing and checks every promise that the engine gives to decoders.
//!
//! Its model: the first token of a prompt says after how many tokens the completion ends (0: never), and every token
//! is followed by the next letter of the alphabet.

use std::cell::RefCell;
use std::ops::Range;
use std::rc::Rc;

use inference::{Sampling, SpecialTokens, Token, Vocabulary};

use crate::decoder::{DecodeError, Decoder, DecoderShape, Row, Slot};

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
    slots: Vec<Option<FakeSlot>>,
    /// The last batch that was computed.
    batch: Vec<Row>,
    /// Rows of it that have to be sampled still.
    owed: Vec<usize>,
    /// The seed of the request that was admitted last; tests number requests by their seeds.
    last_begun: Option<u64>,
    pub(crate) batches: usize,
    /// Nobody is paused: every answer under way has to be in every batch.
    pub(crate) everybody_reads: bool,
}

#[derive(Default)]
struct FakeSlot {
    tokens: Vec<Token>,
    sampled: u32,
    is_answering: bool,
    /// Batches since this slot was last in one.
    waited: usize,
}

impl FakeDecoder {
    pub(crate) fn new(shape: DecoderShape, fate: impl FnMut() -> Fate + 'static) -> Self {
        let seen = Seen { slots: (0..shape.slots).map(|_| None).collect(), ..Seen::default() };
        Self { shape, fate: Box::new(fate), seen: Rc::new(RefCell::new(seen)) }
    }
}

impl Seen {
    pub(crate) fn occupied(&self) -> usize {
        self.slots.iter().flatten().count()
    }

    fn check(&self, rows: &[Row], shape: DecoderShape) {
        assert!((1..=shape.rows_max).contains(&rows.len()), "{} rows, {} are allowed", rows.len(), shape.rows_max);
        assert_eq!(self.owed, Vec::<usize>::new(), "rows wanted logits and were not sampled");
        let runs: Vec<&[Row]> = rows.chunk_by(|a, b| a.slot == b.slot).collect();
        for run in &runs {
            let slot = run[0].slot;
            assert_eq!(runs.iter().filter(|other| other[0].slot == slot).count(), 1, "{slot:?} is in two places");
            let held = self.slots[slot.0].as_ref().unwrap_or_else(|| panic!("{slot:?} has not begun"));
            for (row, position) in run.iter().zip(held.tokens.len()..) {
                assert_eq!(row.position as usize, position, "the positions of {slot:?} have a gap");
                assert!(row.position < shape.context_length, "{slot:?} is over its context");
            }
            let (_, but_last) = run.split_last().unwrap();
            assert!(but_last.iter().all(|row| !row.wants_logits), "{slot:?} wants logits before its last row");
            assert!(!held.is_answering || run.len() == 1 && run[0].wants_logits, "{slot:?} answers row by row");
        }
    }

    /// No slot waits longer than it takes to serve every other one; an answer that is read does not wait at all.
    fn check_fairness(&mut self, rows: &[Row]) {
        let count = self.slots.len();
        for (slot, held) in self.slots.iter_mut().enumerate() {
            let Some(held) = held else { continue };
            if rows.iter().any(|row| row.slot.0 == slot) {
                held.waited = 0;
                continue;
            }
            held.waited += 1;
            assert!(held.is_answering || held.waited < count, "the prompt in slot {slot} starves");
            assert!(!held.is_answering || !self.everybody_reads, "the answer in slot {slot} was left out");
        }
    }
}

impl Decoder for FakeDecoder {
    fn begin(&mut self, slot: Slot, sampling: &Sampling) {
        let mut seen = self.seen.borrow_mut();
        assert!(seen.slots[slot.0].is_none(), "{slot:?} is taken");
        seen.slots[slot.0] = Some(FakeSlot::default());
        assert!(sampling.seed.is_none() || sampling.seed > seen.last_begun, "first come, first served");
        seen.last_begun = sampling.seed;
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
            let held = seen.slots[row.slot.0].as_mut().unwrap();
            held.tokens.push(row.token);
            held.is_answering |= row.wants_logits;
        }
        seen.owed = rows.iter().enumerate().filter(|(_, row)| row.wants_logits).map(|(number, _)| number).collect();
        seen.batch = rows.to_vec();
        Ok(())
    }

    fn sample(&mut self, slot: Slot, row: usize) -> Token {
        let seen = &mut *self.seen.borrow_mut();
        assert_eq!(seen.batch[row].slot, slot, "row {row} is another slot's");
        let owed = seen.owed.iter().position(|&owed| owed == row).expect("row {row} has no logits, or was sampled");
        seen.owed.swap_remove(owed);
        let held = seen.slots[slot.0].as_mut().unwrap();
        held.sampled += 1;
        if held.tokens[0].0 == held.sampled { END } else { following(*held.tokens.last().unwrap()) }
    }

    fn clear(&mut self, slot: Slot) {
        let seen = &mut *self.seen.borrow_mut();
        assert!(seen.slots[slot.0].take().is_some(), "{slot:?} is empty");
        let batch = &seen.batch;
        seen.owed.retain(|&row| batch[row].slot != slot);
    }
}

/// The next letter.
pub(crate) fn following(token: Token) -> Token {
    Token(u32::from(b'a') + (token.0 + 1).saturating_sub(u32::from(b'a')) % 26)
}
