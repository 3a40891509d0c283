//! One step of the engine: reap, admit, plan, decode, sample, emit.
//!
//! The thread in [`crate::handle`] repeats [`DecodeLoop::step`]; tests drive it with a clock and a decoder of their own.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::time::Instant;

use inference::{EngineFault, Vocabulary};

use crate::decoder::{DecodeError, Decoder, Slot};
use crate::scheduler::{Batch, Scheduler};
use crate::sequence::{Sequence, Submission};

/// Everything that is under way, and the decoder that computes it.
pub(crate) struct DecodeLoop<D> {
    decoder: D,
    vocabulary: Arc<dyn Vocabulary>,
    scheduler: Scheduler,
    /// First come, first served.
    queue: VecDeque<Submission>,
    /// By slot.
    running: Vec<Option<Sequence>>,
    shared: Arc<Shared>,
    /// A step that was aborted to the loss of others is followed by one that runs to its end: clients that come and
    /// leave cost the others half their speed at most.
    may_abort: bool,
    batch: Batch,
    piece: Vec<u8>,
}

/// What the handle and the decode thread both see.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    /// Requests that wait for a slot; the handle counts up, the loop down.
    pub(crate) queued: AtomicUsize,
    /// Requests in a slot.
    pub(crate) running: AtomicUsize,
    /// The handle wants the thread to end.
    pub(crate) is_stopping: AtomicBool,
    /// The thread has ended.
    pub(crate) has_stopped: AtomicBool,
}

/// What a step leaves to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outlook {
    /// Another step has work.
    Busy,
    /// Every sequence waits for its reader.
    Paused,
    /// There is nothing until a request comes.
    Idle,
}

impl<D: Decoder> DecodeLoop<D> {
    pub(crate) fn new(
        decoder: D,
        vocabulary: Arc<dyn Vocabulary>,
        slots: usize,
        prefill_tokens_per_step: usize,
        shared: Arc<Shared>,
    ) -> Self {
        Self {
            decoder,
            vocabulary,
            scheduler: Scheduler::new(slots, prefill_tokens_per_step),
            queue: VecDeque::new(),
            running: (0..slots).map(|_| None).collect(),
            shared,
            may_abort: true,
            batch: Batch::default(),
            piece: Vec::new(),
        }
    }

    /// Takes a request; the handle has counted it as queued.
    pub(crate) fn enqueue(&mut self, submission: Submission) {
        self.queue.push_back(submission);
    }

    /// Brings everything that can go on forward by one batch.
    pub(crate) fn step(&mut self, now: impl Fn() -> Instant) -> Outlook {
        self.reap();
        self.admit(now());
        self.pause_those_behind();
        self.scheduler.plan(&mut self.batch);
        if self.batch.rows.is_empty() {
            let is_idle = self.running.iter().all(Option::is_none);
            return if is_idle { Outlook::Idle } else { Outlook::Paused };
        }
        match self.decode() {
            Ok(()) => {
                self.may_abort = true;
                self.scheduler.apply(&self.batch);
                self.emit(now());
            }
            Err(DecodeError::Aborted) => {
                self.may_abort = !self.batch.slots().any(|slot| is_wanted(&self.running, slot));
            }
            Err(DecodeError::Failed(reason)) => self.fail_batch(&reason),
        }
        Outlook::Busy
    }

    /// Ends everything with [`EngineFault::Stopped`].
    pub(crate) fn stop(mut self) {
        for sequence in self.running.iter_mut().filter_map(Option::take) {
            sequence.fail(EngineFault::Stopped);
        }
        for submission in self.queue.drain(..) {
            submission.sequence.fail(EngineFault::Stopped);
        }
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

    fn admit(&mut self, now: Instant) {
        while let Some(slot) = self.scheduler.free_slot() {
            let Some(Submission { prompt, sampling, mut sequence }) = self.queue.pop_front() else { return };
            tracing::debug!(request = %sequence.id, slot = slot.0, prompt_tokens = prompt.len(), "admitted");
            sequence.admit(now);
            self.decoder.begin(slot, &sampling);
            self.scheduler.admit(slot, prompt);
            self.running[slot.0] = Some(sequence);
            // In this order a reader of both never sees the request in neither place.
            self.shared.running.fetch_add(1, Relaxed);
            self.shared.queued.fetch_sub(1, Relaxed);
        }
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
        for (row, slot) in self.batch.samples() {
            let Some(sequence) = &mut self.running[slot.0] else { continue };
            let token = self.decoder.sample(slot, row);
            match sequence.take(token, &*self.vocabulary, &mut self.piece, now) {
                None => self.scheduler.go_on(slot, token),
                Some(finish) => {
                    let sequence = self.running[slot.0].take();
                    self.decoder.clear(slot);
                    self.scheduler.release(slot);
                    self.shared.running.fetch_sub(1, Relaxed);
                    if let Some(sequence) = sequence {
                        tracing::debug!(
                            request = %sequence.id,
                            slot = slot.0,
                            ?finish,
                            completion_tokens = sequence.completion_tokens(),
                            "finished"
                        );
                        sequence.finish(finish, now);
                    }
                }
            }
        }
    }

    fn fail_batch(&mut self, reason: &str) {
        let slots: Vec<Slot> = self.batch.slots().collect();
        tracing::error!(rows = self.batch.rows.len(), sequences = slots.len(), reason, "failed to decode a batch");
        for slot in slots {
            self.release(slot).fail(EngineFault::Decode(reason.to_owned()));
        }
    }

    fn release(&mut self, slot: Slot) -> Sequence {
        self.decoder.clear(slot);
        self.scheduler.release(slot);
        self.shared.running.fetch_sub(1, Relaxed);
        self.running[slot.0].take().expect("only slots that run are released")
    }
}

/// Whether somebody waits for what `slot` computes.
fn is_wanted(running: &[Option<Sequence>], slot: Slot) -> bool {
    running[slot.0].as_ref().is_some_and(|sequence| !sequence.is_abandoned())
}
