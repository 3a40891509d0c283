//! One step of the engine: reap, admit, plan, decode, sample, emit.
//!
//! [`crate::thread`] repeats [`Work::step`]; tests drive it with a clock and a decoder of their own.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

use inference::{EngineFault, Finish, Sampling, Token, Vocabulary};

use crate::decoder::{DecodeError, Decoder, Row, Slot};
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
        self.admit(now());
        self.pause_those_behind();
        self.scheduler.plan(&mut self.batch, self.pace.tokens());
        if self.batch.rows.is_empty() {
            let is_idle = self.running.iter().all(Option::is_none);
            return if is_idle { Outlook::Idle } else { Outlook::Paused };
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
        let mut right = 0;
        let end = loop {
            let Some(sequence) = &mut self.running[slot.0] else { return };
            let chosen = sequence.choice().and_then(|choice| self.decoder.sample(slot, first + right, &choice));
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
        let left = self.running[slot.0].as_ref().map_or(0, Sequence::tokens_left) as usize;
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
        self.running[slot.0].take().expect("only slots that run are released")
    }
}

/// Whether somebody waits for what `slot` computes.
fn is_wanted(running: &[Option<Sequence>], slot: Slot) -> bool {
    running[slot.0].as_ref().is_some_and(|sequence| !sequence.is_abandoned())
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroUsize;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};
    use std::time::Duration;

    use inference::{Generation, GenerationEvent, GenerationRequest, RequestId};

    use super::*;
    use crate::decoder::DecoderShape;
    use crate::fake::{FakeDecoder, FakeVocabulary, Fate};

    struct Loop(DecodeLoop<FakeDecoder>);

    impl Loop {
        fn new(slots: usize, prefix_cache_bytes: usize) -> Self {
            let count = |number| NonZeroUsize::new(number).unwrap();
            let config = Config {
                slots: count(slots),
                prefill_tokens_per_step: count(6),
                prefill_tokens_beside_answers: count(6),
                step_time_beside_answers: Duration::MAX,
                prefix_cache_bytes,
                prefix_tokens_min: 4,
                ..Config::default()
            };
            let shape = DecoderShape { slots, context_length: 100, rows_max: slots + 6, samples_max: slots + 6 };
            let decoder = FakeDecoder::new(shape, || Fate::Compute);
            Self(DecodeLoop::new(decoder, Arc::new(FakeVocabulary), &config, Arc::default()))
        }

        /// Asks for two tokens after `prompt`.
        fn submit(&mut self, prompt: &str) -> Generation {
            let tokens = prompt.bytes().map(|byte| Token(u32::from(byte))).collect();
            let request = GenerationRequest::new(RequestId::new(prompt), tokens, 2);
            let prompt_tokens = u32::try_from(request.prompt.len()).unwrap();
            let (submission, generation) = Submission::new(request, prompt_tokens, 2, 8, Instant::now());
            self.0.shared.queued.fetch_add(1, Relaxed);
            self.0.enqueue(submission);
            generation
        }

        fn step(&mut self) {
            self.0.step(Instant::now);
        }

        /// Who is in the slots.
        fn running(&self) -> Vec<&str> {
            self.0
                .running
                .iter()
                .map(|sequence| sequence.as_ref().map_or("", |sequence| sequence.id.as_str()))
                .collect()
        }

        /// Goes on to the end of everything; how many tokens of the prompt `generation` found computed.
        fn cached(&mut self, generation: &mut Generation) -> u32 {
            while self.0.step(Instant::now) != Outlook::Idle {}
            loop {
                match pin!(generation.next()).poll(&mut Context::from_waker(Waker::noop())) {
                    Poll::Ready(GenerationEvent::Finished(completion)) => return completion.usage.cached_tokens,
                    Poll::Ready(GenerationEvent::Piece { .. }) => {}
                    other => panic!("{other:?}"),
                }
            }
        }
    }

    #[test]
    fn a_prompt_waits_for_its_beginning_and_others_pass_it() {
        let mut engine = Loop::new(3, 0);
        let mut first = engine.submit("be brief: who?");
        let mut second = engine.submit("be brief: what?");
        let mut other = engine.submit("hello");
        let mut last = engine.submit("bye");
        engine.step();
        assert_eq!(engine.running(), ["be brief: who?", "hello", ""], "the third slot is kept for the second prompt");
        engine.step();
        engine.step();
        engine.step();
        assert_eq!(engine.running()[2], "be brief: what?");
        assert_eq!(engine.cached(&mut first), 0);
        assert_eq!(engine.cached(&mut second), 12, "`be brief: wh`");
        assert_eq!((engine.cached(&mut other), engine.cached(&mut last)), (0, 0));
    }

    #[test]
    fn who_shares_nothing_is_served_in_order() {
        let mut engine = Loop::new(1, 0);
        let _waiting: Vec<Generation> = ["abcd", "efgh", "ijkl"].map(|prompt| engine.submit(prompt)).into();
        let mut order: Vec<String> = Vec::new();
        for _ in 0..20 {
            engine.step();
            let running = engine.running()[0].to_owned();
            if !running.is_empty() && order.last() != Some(&running) {
                order.push(running);
            }
        }
        assert_eq!(order, ["abcd", "efgh", "ijkl"]);
    }

    #[test]
    fn a_conversation_goes_on_where_it_was() {
        let mut engine = Loop::new(1, 0);
        let mut first = engine.submit("a long question");
        assert_eq!(engine.cached(&mut first), 0);
        let mut again = engine.submit("a long question");
        assert_eq!(engine.cached(&mut again), 14, "all but the last token");
    }

    #[test]
    fn what_one_slot_forgets_for_another_conversation_comes_back_from_host_memory() {
        for (bytes, cached) in [(1000, 14), (0, 0)] {
            let mut engine = Loop::new(1, bytes);
            let mut first = engine.submit("a long question");
            engine.cached(&mut first);
            let mut other = engine.submit("something else, and long");
            assert_eq!(engine.cached(&mut other), 0);
            let mut again = engine.submit("a long question");
            assert_eq!(engine.cached(&mut again), cached, "with {bytes} bytes");
        }
    }

    #[test]
    fn a_client_that_left_leaves_what_was_computed() {
        let mut engine = Loop::new(1, 0);
        let gone = engine.submit("a very long question");
        engine.step();
        engine.step();
        drop(gone);
        let mut again = engine.submit("a very long question");
        assert_eq!(engine.cached(&mut again), 12, "two steps of six");
    }
}
