//! Which rows the next step computes. Pure: no model, text, channel, clock or thread.
//!
//! Every sequence that is answering gets its row in every step, and behind it the rows of its guesses. What is left of the prompts is computed in
//! chunks, and the prompt that went first in one step goes last in the next.

use inference::Token;

use crate::decoder::{Row, Slot};

/// The sequences in the slots, and how far each has come.
#[derive(Debug)]
pub(crate) struct Scheduler {
    slots: Vec<Option<Progress>>,
    prefill_tokens_per_step: usize,
    /// The slot whose prompt is served first in the next step.
    turn: usize,
}

#[derive(Debug)]
struct Progress {
    /// Tokens that have to be computed, the prompt first and later what was appended to the answer.
    prompt: Vec<Token>,
    /// The place of the first of them; 0: it is the prompt.
    base: usize,
    /// Tokens that the decoder holds.
    computed: usize,
    /// Sampled and not yet computed.
    sampled: Option<Token>,
    /// Guessed to follow it.
    guesses: Vec<Token>,
    paused: bool,
}

/// The rows of a step.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    /// What the decoder computes.
    pub(crate) rows: Vec<Row>,
    /// Slots of which part of the prompt is in the batch.
    pub(crate) prefilling: Vec<Slot>,
    /// How many rows these have together, where answers have to wait for them.
    pub(crate) rows_beside_answers: usize,
}

impl Batch {
    /// The rows of every slot, with the number of the first of them. The rows of a slot stand together.
    pub(crate) fn runs(&self) -> impl Iterator<Item = (usize, &[Row])> {
        self.rows.chunk_by(|a, b| a.slot == b.slot).scan(0, |next, rows| {
            let first = *next;
            *next += rows.len();
            Some((first, rows))
        })
    }

    /// Every slot in the batch, once.
    pub(crate) fn slots(&self) -> impl Iterator<Item = Slot> {
        self.runs().map(|(_, rows)| rows[0].slot)
    }
}

impl Scheduler {
    pub(crate) fn new(slots: usize, prefill_tokens_per_step: usize) -> Self {
        Self { slots: (0..slots).map(|_| None).collect(), prefill_tokens_per_step, turn: 0 }
    }

    /// How many slots are free.
    pub(crate) fn free_slots(&self) -> usize {
        self.slots.iter().filter(|progress| progress.is_none()).count()
    }

    /// Gives a free slot to a sequence of whose prompt the first `computed` tokens are computed already; not all of them.
    pub(crate) fn admit(&mut self, slot: Slot, prompt: Vec<Token>, computed: usize) {
        debug_assert!(self.slots[slot.0].is_none() && computed < prompt.len());
        self.slots[slot.0] =
            Some(Progress { prompt, base: 0, computed, sampled: None, guesses: Vec::new(), paused: false });
    }

    /// The prompts that are being computed, with the slots they are computed in.
    pub(crate) fn prefilling(&self) -> impl Iterator<Item = (Slot, &[Token])> {
        let places = self.slots.iter().enumerate();
        let running = places.filter_map(|(slot, progress)| progress.as_ref().map(|progress| (Slot(slot), progress)));
        running
            .filter(|(_, progress)| progress.base == 0 && progress.left() > 0)
            .map(|(slot, progress)| (slot, progress.prompt.as_slice()))
    }

    /// Leaves a sequence out of the next plans, or takes it in again.
    pub(crate) fn set_paused(&mut self, slot: Slot, paused: bool) {
        if let Some(progress) = &mut self.slots[slot.0] {
            progress.paused = paused;
        }
    }

    /// Fills `batch` with the next step's rows, of which at most `beside_answers` are of prompts where somebody waits for the
    /// next token of an answer. The same plan comes again until it is applied.
    pub(crate) fn plan(&self, batch: &mut Batch, beside_answers: usize) {
        batch.rows.clear();
        batch.prefilling.clear();
        batch.rows_beside_answers = 0;
        let answering = self.runnable().filter(|(_, progress)| progress.sampled.is_some()).count();
        let mut budget = self.prefill_tokens_per_step;
        if answering > 0 {
            budget = budget.min(beside_answers);
        }
        // Guesses are for an answer that is alone: llama.cpp computes sequences together that have as many rows, and what
        // one of them has more is a computation of its own, for which all wait.
        let is_prefilling = self.runnable().any(|(_, progress)| progress.left() > 0);
        let guesses_max = if answering == 1 && !is_prefilling { budget } else { 0 };
        for (slot, progress) in self.runnable() {
            if let Some(token) = progress.sampled {
                batch.rows.push(progress.row(slot, progress.computed, token, true));
                let guesses = &progress.guesses[..progress.guesses.len().min(guesses_max)];
                for (place, &guess) in (progress.computed + 1..).zip(guesses) {
                    batch.rows.push(progress.row(slot, place, guess, true));
                }
            }
        }
        let (before, after): (Vec<_>, Vec<_>) = self.runnable().partition(|(slot, _)| slot.0 < self.turn);
        for (slot, progress) in after.into_iter().chain(before) {
            let chunk = budget.min(progress.left());
            if chunk == 0 {
                continue;
            }
            for place in progress.computed..progress.computed + chunk {
                let at = place - progress.base;
                let is_last = at + 1 == progress.prompt.len();
                batch.rows.push(progress.row(slot, place, progress.prompt[at], is_last));
            }
            batch.prefilling.push(slot);
            budget -= chunk;
            if answering > 0 {
                batch.rows_beside_answers += chunk;
            }
        }
    }

    /// Takes note that the decoder has computed the batch. Guesses count when they are right.
    pub(crate) fn apply(&mut self, batch: &Batch) {
        for (_, rows) in batch.runs() {
            if let Some(progress) = &mut self.slots[rows[0].slot.0] {
                progress.computed += if progress.sampled.is_some() { 1 } else { rows.len() };
                progress.sampled = None;
            }
        }
        if let Some(first) = batch.prefilling.first() {
            self.turn = (first.0 + 1) % self.slots.len();
        }
    }

    /// Takes note that a guess in the last batch was right.
    pub(crate) fn guessed(&mut self, slot: Slot) {
        if let Some(progress) = &mut self.slots[slot.0] {
            progress.computed += 1;
        }
    }

    /// Takes the token that a sequence goes on with, and what is guessed to follow it.
    pub(crate) fn go_on(&mut self, slot: Slot, token: Token, guesses: &[Token]) {
        if let Some(progress) = &mut self.slots[slot.0] {
            progress.sampled = Some(token);
            progress.guesses.clear();
            progress.guesses.extend_from_slice(guesses);
        }
    }

    /// Takes tokens that the answer goes on with and that nobody chose. They are computed as a prompt is.
    pub(crate) fn append(&mut self, slot: Slot, tokens: Vec<Token>) {
        if let Some(progress) = &mut self.slots[slot.0] {
            debug_assert!(progress.sampled.is_none() && progress.left() == 0 && progress.computed > 0);
            progress.base = progress.computed;
            progress.prompt = tokens;
        }
    }

    /// Frees a slot.
    pub(crate) fn release(&mut self, slot: Slot) {
        self.slots[slot.0] = None;
    }

    fn runnable(&self) -> impl Iterator<Item = (Slot, &Progress)> {
        self.slots
            .iter()
            .enumerate()
            .filter_map(|(slot, progress)| progress.as_ref().map(|progress| (Slot(slot), progress)))
            .filter(|(_, progress)| !progress.paused)
    }
}

impl Progress {
    /// Tokens of the prompt, or of what was appended, that are not computed yet.
    fn left(&self) -> usize {
        (self.base + self.prompt.len()).saturating_sub(self.computed)
    }

    fn row(&self, slot: Slot, place: usize, token: Token, wants_logits: bool) -> Row {
        debug_assert!(place >= self.computed);
        let position = u32::try_from(place).expect("a sequence fits the context, whose length is a u32");
        Row { slot, token, position, wants_logits }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prompt(length: usize) -> Vec<Token> {
        (0..length).map(|number| Token(u32::try_from(number).unwrap())).collect()
    }

    /// The plan as `slot:first position..end position`, `!` where logits are wanted.
    fn shown(scheduler: &Scheduler, batch: &mut Batch) -> Vec<String> {
        shown_beside(scheduler, batch, 4)
    }

    fn shown_beside(scheduler: &Scheduler, batch: &mut Batch, beside_answers: usize) -> Vec<String> {
        scheduler.plan(batch, beside_answers);
        batch
            .rows
            .chunk_by(|a, b| a.slot == b.slot)
            .map(|rows| {
                let (first, last) = (rows[0], rows[rows.len() - 1]);
                let mark = if last.wants_logits { "!" } else { "" };
                format!("{}:{}..{}{mark}", first.slot.0, first.position, last.position + 1)
            })
            .collect()
    }

    fn step(scheduler: &mut Scheduler, expected: &[&str]) {
        let mut batch = Batch::default();
        assert_eq!(shown(scheduler, &mut batch), expected);
        scheduler.apply(&batch);
        for (_, rows) in batch.runs() {
            if rows[rows.len() - 1].wants_logits {
                scheduler.go_on(rows[0].slot, Token(7), &[]);
            }
        }
    }

    #[test]
    fn guesses_are_computed_behind_their_token_for_an_answer_that_is_alone() {
        let mut scheduler = Scheduler::new(2, 4);
        scheduler.admit(Slot(0), prompt(1), 0);
        step(&mut scheduler, &["0:0..1!"]);
        scheduler.go_on(Slot(0), Token(7), &[Token(1)]);
        let mut batch = Batch::default();
        assert_eq!(shown(&scheduler, &mut batch), ["0:1..3!"]);
        assert_eq!(batch.rows.iter().filter(|row| row.wants_logits).count(), 2);
        scheduler.apply(&batch);
        // The guess was right.
        scheduler.guessed(Slot(0));
        scheduler.go_on(Slot(0), Token(9), &[Token(1); 8]);
        step(&mut scheduler, &["0:3..8!"]);
        step(&mut scheduler, &["0:4..5!"]);
        scheduler.admit(Slot(1), prompt(5), 0);
        scheduler.go_on(Slot(0), Token(7), &[Token(1)]);
        step(&mut scheduler, &["0:5..6!", "1:0..4"]);
        scheduler.go_on(Slot(0), Token(7), &[Token(1)]);
        step(&mut scheduler, &["0:6..7!", "1:4..5!"]);
        scheduler.go_on(Slot(0), Token(7), &[Token(1)]);
        step(&mut scheduler, &["0:7..8!", "1:5..6!"]);
    }

    #[test]
    fn beside_an_answer_prompts_are_computed_in_smaller_chunks() {
        let mut scheduler = Scheduler::new(2, 4);
        let mut batch = Batch::default();
        scheduler.admit(Slot(0), prompt(6), 0);
        assert_eq!(shown_beside(&scheduler, &mut batch, 2), ["0:0..4"]);
        assert_eq!(batch.rows_beside_answers, 0);
        step(&mut scheduler, &["0:0..4"]);
        step(&mut scheduler, &["0:4..6!"]);
        scheduler.admit(Slot(1), prompt(3), 0);
        assert_eq!(shown_beside(&scheduler, &mut batch, 2), ["0:6..7!", "1:0..2"]);
        assert_eq!(batch.rows_beside_answers, 2);
    }

    #[test]
    fn a_prompt_is_computed_in_chunks_and_then_goes_on_token_by_token() {
        let mut scheduler = Scheduler::new(1, 4);
        scheduler.admit(Slot(0), prompt(9), 0);
        step(&mut scheduler, &["0:0..4"]);
        step(&mut scheduler, &["0:4..8"]);
        step(&mut scheduler, &["0:8..9!"]);
        step(&mut scheduler, &["0:9..10!"]);
        step(&mut scheduler, &["0:10..11!"]);
    }

    #[test]
    fn what_is_computed_already_is_not_computed_again() {
        let mut scheduler = Scheduler::new(1, 4);
        scheduler.admit(Slot(0), prompt(9), 6);
        step(&mut scheduler, &["0:6..9!"]);
        step(&mut scheduler, &["0:9..10!"]);
    }

    #[test]
    fn prompts_take_turns_and_share_what_is_left() {
        let mut scheduler = Scheduler::new(3, 4);
        for slot in 0..3 {
            scheduler.admit(Slot(slot), prompt(6), 0);
        }
        step(&mut scheduler, &["0:0..4"]);
        step(&mut scheduler, &["1:0..4"]);
        step(&mut scheduler, &["2:0..4"]);
        step(&mut scheduler, &["0:4..6!", "1:4..6!"]);
        step(&mut scheduler, &["0:6..7!", "1:6..7!", "2:4..6!"]);
    }

    #[test]
    fn a_long_prompt_stops_no_answer() {
        let mut scheduler = Scheduler::new(2, 4);
        scheduler.admit(Slot(1), prompt(1), 0);
        step(&mut scheduler, &["1:0..1!"]);
        scheduler.admit(Slot(0), prompt(8), 0);
        step(&mut scheduler, &["1:1..2!", "0:0..4"]);
        step(&mut scheduler, &["1:2..3!", "0:4..8!"]);
    }

    #[test]
    fn what_is_appended_to_an_answer_is_computed_in_chunks() {
        let mut scheduler = Scheduler::new(2, 4);
        scheduler.admit(Slot(0), prompt(2), 0);
        let mut batch = Batch::default();
        assert_eq!(shown(&scheduler, &mut batch), ["0:0..2!"]);
        scheduler.apply(&batch);
        scheduler.append(Slot(0), prompt(6));
        assert_eq!(scheduler.prefilling().count(), 0, "nobody shares the beginning of this");
        step(&mut scheduler, &["0:2..6"]);
        scheduler.admit(Slot(1), prompt(1), 0);
        step(&mut scheduler, &["1:0..1!", "0:6..8!"]);
        step(&mut scheduler, &["0:8..9!", "1:1..2!"]);
    }

    #[test]
    fn a_paused_sequence_keeps_its_place() {
        let mut scheduler = Scheduler::new(2, 4);
        scheduler.admit(Slot(0), prompt(1), 0);
        step(&mut scheduler, &["0:0..1!"]);
        scheduler.set_paused(Slot(0), true);
        step(&mut scheduler, &[]);
        scheduler.set_paused(Slot(0), false);
        step(&mut scheduler, &["0:1..2!"]);
    }

    #[test]
    fn a_plan_that_was_not_applied_comes_again() {
        let mut scheduler = Scheduler::new(1, 4);
        scheduler.admit(Slot(0), prompt(6), 0);
        let mut batch = Batch::default();
        assert_eq!(shown(&scheduler, &mut batch), ["0:0..4"]);
        assert_eq!(shown(&scheduler, &mut batch), ["0:0..4"]);
    }
}
