//! One step of the engine: reap, admit, plan, decode, sample, emit.
//!
//! [`crate::thread`] repeats [`Work::step`]; tests drive it with a clock and a decoder of their own.

mod controlled;

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

use inference::{EngineFault, Finish, Sampling, Token, Vocabulary};

use crate::decoder::{DecodeError, Decoder, Logits, Row, Slot};
use crate::draft::{RowCost, Speculation, guess};
use crate::handle::Config;
use crate::pace::Pace;
use crate::prefix::{Placement, Prefixes, Source, common_prefix};
use crate::scheduler::{Batch, Scheduler};
use crate::sequence::{Sequence, Submission};
use crate::thread::{Outlook, Shared, Work};

/// Everything that is under way, and the decoder that computes it.
pub(crate) struct DecodeLoop<D> {
    decoder: D,
    vocabulary: Arc<dyn Vocabulary>,
    scheduler: Scheduler,
    pace: Pace,
    prefixes: Prefixes,
    /// Tokens that have to be saved for somebody to wait for them.
    prefix_tokens_min: usize,
    /// First come, first served; but a prompt whose beginning is just being computed waits for that.
    queue: VecDeque<Submission>,
    /// By slot.
    running: Vec<Option<Sequence>>,
    /// Slots whose logits are put aside, as it is not known yet how they go on.
    parked: Vec<Slot>,
    shared: Arc<Shared>,
    /// A step that was aborted to the loss of others is followed by one that runs to its end: clients that come and
    /// leave cost the others half their speed at most.
    may_abort: bool,
    /// By slot.
    speculations: Vec<Speculation>,
    row_cost: RowCost,
    guesses_max: usize,
    batch: Batch,
    piece: Vec<u8>,
    /// A sequence's tokens, while its next ones are guessed.
    history: Vec<Token>,
}

/// How a sequence goes on.
enum Next {
    Token(Token),
    End(Finish),
}

impl<D: Decoder> Work for DecodeLoop<D> {
    type Job = Submission;

    fn enqueue(&mut self, submission: Submission) {
        self.queue.push_back(submission);
    }

    fn step(&mut self, now: impl Fn() -> Instant) -> Outlook {
        self.reap();
        // Before the others: it may free a slot, and send the last that a reader has room for.
        if !self.parked.is_empty() {
            self.settle(now());
        }
        self.admit(now());
        self.pause_those_behind();
        self.scheduler.plan(&mut self.batch, self.pace.tokens());
        if self.batch.rows.is_empty() {
            let is_idle = self.running.iter().all(Option::is_none);
            let is_read = |slot: &Slot| self.running[slot.0].as_ref().is_some_and(|sequence| !sequence.is_behind());
            return match self.parked.iter().any(is_read) {
                true => Outlook::Awaiting,
                false if is_idle => Outlook::Idle,
                false => Outlook::Paused,
            };
        }
        // After admission: a copy that is fetched is no cost of tokens.
        let began = now();
        match self.decode() {
            Ok(()) => {
                let ended = now();
                let elapsed = ended.duration_since(began);
                self.pace.learn(self.batch.rows_beside_answers, elapsed);
                if self.batch.prefilling.is_empty() && self.batch.slots().count() == 1 {
                    self.row_cost.learn(self.batch.rows.len(), elapsed);
                }
                self.may_abort = true;
                self.scheduler.apply(&self.batch);
                for (_, rows) in self.batch.runs() {
                    // Behind the first row whose logits are wanted there are guesses.
                    let sure = rows.iter().position(|row| row.wants_logits).map_or(rows.len(), |place| place + 1);
                    for row in &rows[..sure] {
                        self.prefixes.computed(row.slot, row.token);
                    }
                }
                self.emit(ended);
            }
            Err(DecodeError::Aborted) => {
                self.may_abort = !self.batch.slots().any(|slot| is_wanted(&self.running, slot));
            }
            Err(DecodeError::Failed(reason)) => self.fail_batch(&reason),
        }
        Outlook::Busy
    }

    fn stop(mut self) {
        for sequence in self.running.iter_mut().filter_map(Option::take) {
            sequence.fail(EngineFault::Stopped);
        }
        for submission in self.queue.drain(..) {
            submission.sequence.fail(EngineFault::Stopped);
        }
    }
}

impl<D: Decoder> DecodeLoop<D> {
    pub(crate) fn new(decoder: D, vocabulary: Arc<dyn Vocabulary>, config: &Config, shared: Arc<Shared>) -> Self {
        let slots = config.slots.get();
        let guesses_max = if decoder.can_forget() { config.guesses_max } else { 0 };
        Self {
            decoder,
            vocabulary,
            scheduler: Scheduler::new(slots, config.prefill_tokens_per_step.get()),
            pace: Pace::new(
                config.prefill_tokens_beside_answers.get(),
                config.prefill_tokens_per_step.get(),
                config.step_time_beside_answers,
            ),
            prefixes: Prefixes::new(slots, config.prefix_cache_bytes, config.prefix_tokens_min),
            prefix_tokens_min: config.prefix_tokens_min,
            queue: VecDeque::new(),
            running: (0..slots).map(|_| None).collect(),
            parked: Vec::new(),
            shared,
            may_abort: true,
            speculations: vec![Speculation::default(); slots],
            row_cost: RowCost::default(),
            guesses_max,
            batch: Batch::default(),
            piece: Vec::new(),
            history: Vec::new(),
        }
    }

    /// As if batches took as long as a row: guesses are made wherever there is one.
    #[cfg(test)]
    pub(crate) fn assume_free_rows(&mut self) {
        self.row_cost = RowCost::free();
    }

    /// What every slot is believed to remember.
    #[cfg(test)]
    pub(crate) fn remembered(&self) -> Vec<&[Token]> {
        (0..self.running.len()).map(|slot| self.prefixes.tokens(Slot(slot))).collect()
    }

    /// Forgets the requests whose clients have left, in slots and in the queue.
    fn reap(&mut self) {
        for slot in (0..self.running.len()).map(Slot) {
            if self.running[slot.0].as_ref().is_some_and(Sequence::is_abandoned) {
                let sequence = self.release(slot);
                tracing::debug!(
                    request = %sequence.id,
                    slot = slot.0,
                    completion_tokens = sequence.completion_tokens(),
                    "the client left; the slot is free"
                );
            }
        }
        let before = self.queue.len();
        self.queue.retain(|submission| !submission.sequence.is_abandoned());
        self.shared.queued.fetch_sub(before - self.queue.len(), Relaxed);
    }

    /// Gives free slots to those who wait, in order. One that waits for a beginning to be computed keeps a slot free.
    fn admit(&mut self, now: Instant) {
        let mut free = self.scheduler.free_slots();
        let mut place = 0;
        while free > 0 && place < self.queue.len() {
            free -= 1;
            if self.is_being_computed(&self.queue[place].prompt) {
                place += 1;
                continue;
            }
            let Some(submission) = self.queue.remove(place) else { return };
            self.begin(submission, now);
        }
    }

    /// Whether a prompt under way computes much of what `prompt` begins with, and is not there yet.
    fn is_being_computed(&self, prompt: &[Token]) -> bool {
        let reusable = &prompt[..prompt.len() - 1];
        let there = self.prefixes.place(prompt).map_or(0, |placement| placement.keep);
        self.scheduler.prefilling().any(|(_, other)| common_prefix(other, reusable) >= there + self.prefix_tokens_min)
    }

    fn begin(&mut self, Submission { prompt, sampling, mut sequence }: Submission, now: Instant) {
        let placement = self.prefixes.place(&prompt).expect("a slot is free");
        let slot = placement.slot;
        let kept = self.fetch(placement, &sampling);
        self.prefixes.begin(slot, &prompt[..kept]);
        self.speculations[slot.0] = Speculation::default();
        sequence.admit(now, u32::try_from(kept).unwrap_or(u32::MAX));
        tracing::debug!(
            request = %sequence.id,
            slot = slot.0,
            prompt_tokens = prompt.len(),
            cached_tokens = kept,
            source = ?placement.source,
            "admitted"
        );
        self.scheduler.admit(slot, prompt, kept);
        self.running[slot.0] = Some(sequence);
        // In this order a reader of both never sees the request in neither place.
        self.shared.running.fetch_add(1, Relaxed);
        self.shared.queued.fetch_sub(1, Relaxed);
    }

    /// Brings the beginning of a prompt into its slot and starts a sequence on it; how much of it is there.
    fn fetch(&mut self, placement: Placement, sampling: &Sampling) -> usize {
        let Placement { slot, keep, source, save_first } = placement;
        let saved = if save_first && self.prefixes.has_room(self.decoder.saved_bytes(slot)) {
            self.decoder.save(slot)
        } else {
            None
        };
        // Fetched first: what is fetched may be the copy that has to go for this one.
        let is_there = match source {
            Source::Here => true,
            Source::Slot(other) => self.decoder.save(other).is_some_and(|bytes| self.decoder.restore(slot, &bytes)),
            Source::Saved(place) => self.decoder.restore(slot, self.prefixes.copy(place)),
        };
        if let Some(bytes) = saved {
            self.prefixes.keep_copy(slot, bytes);
        }
        let keep = if is_there { keep } else { 0 };
        let keep = u32::try_from(keep).expect("a sequence fits the context, whose length is a u32");
        self.decoder.begin(slot, keep, sampling) as usize
    }

    fn pause_those_behind(&mut self) {
        for (slot, sequence) in self.running.iter().enumerate() {
            if let Some(sequence) = sequence {
                self.scheduler.set_paused(Slot(slot), sequence.is_behind());
            }
        }
    }

    fn decode(&mut self) -> Result<(), DecodeError> {
        let Self { decoder, batch, running, shared, may_abort, .. } = self;
        // A client that leaves during a long prefill must not keep the slot until the chunk is done.
        let is_prefilling_for_nobody = || batch.prefilling.iter().any(|&slot| !is_wanted(running, slot));
        decoder.decode(&batch.rows, &|| shared.is_stopping.load(Relaxed) || (*may_abort && is_prefilling_for_nobody()))
    }

    fn emit(&mut self, now: Instant) {
        let batch = std::mem::take(&mut self.batch);
        for (first, rows) in batch.runs() {
            let unsampled = rows.iter().take_while(|row| !row.wants_logits).count();
            if unsampled < rows.len() {
                self.sample(first + unsampled, &rows[unsampled..], now);
            }
        }
        self.batch = batch;
    }

    /// Samples after `rows`, which begin with the row number `first` of the batch: after the first of them, and after each
    /// guess that turns out right.
    fn sample(&mut self, first: usize, rows: &[Row], now: Instant) {
        let (slot, guessed) = (rows[0].slot, rows.len() - 1);
        if self.running[slot.0].as_ref().is_some_and(Sequence::is_controlled) {
            return self.sample_controlled(slot, Logits::Row(first), now);
        }
        let mut right = 0;
        let end = loop {
            let Some(sequence) = &mut self.running[slot.0] else { return };
            let logits = Logits::Row(first + right);
            let chosen = sequence.choice().and_then(|choice| self.decoder.sample(slot, logits, &choice));
            let outcome = chosen.and_then(|sampled| {
                let token = sampled.token;
                Ok((token, sequence.take(sampled, &*self.vocabulary, &mut self.piece, now)?))
            });
            match outcome {
                Ok((token, None)) if right < guessed && rows[right + 1].token == token => {
                    right += 1;
                    self.scheduler.guessed(slot);
                    self.prefixes.computed(slot, token);
                }
                Ok((token, None)) => {
                    sequence.flush();
                    break Ok(Next::Token(token));
                }
                Ok((_, Some(finish))) => break Ok(Next::End(finish)),
                Err(fault) => break Err(fault),
            }
        };
        if right < guessed {
            self.decoder.forget_from(slot, rows[right].position + 1);
        }
        if guessed > 0 {
            self.speculations[slot.0].learn(guessed, right);
        }
        self.conclude(slot, end, now);
    }

    /// Goes on with a sequence, or ends it.
    fn conclude(&mut self, slot: Slot, end: Result<Next, EngineFault>, now: Instant) {
        match end {
            Ok(Next::Token(token)) => self.go_on(slot, token),
            Ok(Next::End(finish)) => {
                let sequence = self.release(slot);
                tracing::debug!(
                    request = %sequence.id,
                    slot = slot.0,
                    ?finish,
                    completion_tokens = sequence.completion_tokens(),
                    "finished"
                );
                sequence.finish(finish, now);
            }
            Err(fault) => {
                let sequence = self.release(slot);
                tracing::debug!(request = %sequence.id, slot = slot.0, %fault, "a completion cannot go on");
                sequence.fail(fault);
            }
        }
    }

    /// Lets a sequence go on with `token`, and with what may follow it.
    fn go_on(&mut self, slot: Slot, token: Token) {
        let sequence = self.running[slot.0].as_ref();
        // Of what is controlled nobody knows what may follow.
        let left = sequence.filter(|it| !it.is_controlled()).map_or(0, Sequence::tokens_left) as usize;
        self.speculations[slot.0].sampled(token);
        // The token after the last guess is sampled too.
        let most = self.guesses_max.min(left.saturating_sub(1));
        // The scheduler takes guesses of an answer that is alone.
        if most == 0 || self.shared.running.load(Relaxed) > 1 {
            return self.scheduler.go_on(slot, token, &[]);
        }
        self.history.clear();
        self.history.extend_from_slice(self.prefixes.tokens(slot));
        self.history.push(token);
        let speculation = &mut self.speculations[slot.0];
        let guessed = guess(&self.history).map_or(&[][..], |guess| {
            let wanted = speculation.wanted(guess, self.row_cost.relative(), most.min(guess.tokens.len()));
            if wanted == 0 {
                self.row_cost.forget();
            }
            &guess.tokens[..wanted]
        });
        self.scheduler.go_on(slot, token, guessed);
    }

    fn fail_batch(&mut self, reason: &str) {
        let slots: Vec<Slot> = self.batch.slots().collect();
        tracing::error!(rows = self.batch.rows.len(), sequences = slots.len(), reason, "failed to decode a batch");
        for slot in slots {
            self.decoder.forget(slot);
            self.prefixes.forget(slot);
            self.release(slot).fail(EngineFault::Decode(reason.to_owned()));
        }
    }

    fn release(&mut self, slot: Slot) -> Sequence {
        self.decoder.end(slot);
        self.prefixes.end(slot);
        self.scheduler.release(slot);
        self.shared.running.fetch_sub(1, Relaxed);
        self.parked.retain(|&parked| parked != slot);
        self.running[slot.0].take().expect("only slots that run are released")
    }
}

/// Whether somebody waits for what `slot` computes.
fn is_wanted(running: &[Option<Sequence>], slot: Slot) -> bool {
    running[slot.0].as_ref().is_some_and(|sequence| !sequence.is_abandoned())
}

#[cfg(test)]
mod tests;
