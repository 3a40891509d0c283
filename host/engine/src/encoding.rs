//! An engine that encodes, as everybody else sees it, and the thread behind it.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Instant;

use inference::{
    Encoding, EncodingEngine, EncodingFacts, EncodingRequest, ModelCard, Progress, SubmitError, Vocabulary,
};
use tokio::sync::oneshot;

use crate::encode_loop::{EncodeLoop, Job};
use crate::encoder::{Encoder, EncoderShape};
use crate::limits::{
    ENCODING_REQUESTS_DEFAULT, INPUTS_PER_BATCH_DEFAULT, QUEUE_LENGTH_DEFAULT, ROWS_PER_BATCH_DEFAULT,
};
use crate::thread::{StartError, Worker};

/// How much an engine that encodes takes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EncodingConfig {
    /// Requests whose inputs are encoded side by side: the operator's `max_concurrency`.
    pub requests: NonZeroUsize,
    /// Requests that may wait for that. A request that need not wait is counted too, until the end of the batch.
    pub queue_length: NonZeroUsize,
    /// Tokens of a batch; an input that has more is a batch by itself.
    pub rows_per_batch: NonZeroUsize,
    /// Inputs of a batch.
    pub inputs_per_batch: NonZeroUsize,
}

impl Default for EncodingConfig {
    fn default() -> Self {
        Self {
            requests: ENCODING_REQUESTS_DEFAULT,
            queue_length: QUEUE_LENGTH_DEFAULT,
            rows_per_batch: ROWS_PER_BATCH_DEFAULT,
            inputs_per_batch: INPUTS_PER_BATCH_DEFAULT,
        }
    }
}

/// Starts the encode thread and builds the encoder on it. Returns when it is ready to compute, or why it is not.
///
/// `card.context_length` is what an input may hold; `build_encoder` is told, and builds nothing smaller.
pub fn start_encoding<D, E, F>(
    card: ModelCard,
    facts: EncodingFacts,
    vocabulary: Arc<dyn Vocabulary>,
    config: EncodingConfig,
    build_encoder: F,
) -> Result<EncodingHandle, StartError<E>>
where
    D: Encoder + 'static,
    E: std::error::Error + Send + 'static,
    F: FnOnce(EncoderShape) -> Result<D, E> + Send + 'static,
{
    let shape = EncoderShape {
        context_length: card.context_length,
        // An input is computed in one piece, so the longest one is a batch.
        rows_max: config.rows_per_batch.get().max(card.context_length as usize),
        inputs_max: config.inputs_per_batch.get(),
    };
    let worker =
        Worker::start("encode", move |shared| Ok(EncodeLoop::new(build_encoder(shape)?, shape, &config, shared)))?;
    Ok(EncodingHandle { card, facts, vocabulary, config, worker })
}

/// A running engine that encodes. Dropping it ends the thread, and what was being encoded with
/// [`inference::EngineFault::Stopped`].
pub struct EncodingHandle {
    card: ModelCard,
    facts: EncodingFacts,
    vocabulary: Arc<dyn Vocabulary>,
    config: EncodingConfig,
    worker: Worker<Job>,
}

impl EncodingHandle {
    /// Whether the encode thread lives: once false, it stays so and every request fails.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.worker.is_running()
    }

    /// Requests that wait for their turn.
    #[must_use]
    pub fn queued(&self) -> usize {
        self.worker.queued()
    }

    /// Requests whose inputs are being encoded.
    #[must_use]
    pub fn running(&self) -> usize {
        self.worker.running()
    }
}

impl EncodingEngine for EncodingHandle {
    fn card(&self) -> &ModelCard {
        &self.card
    }

    fn facts(&self) -> &EncodingFacts {
        &self.facts
    }

    fn vocabulary(&self) -> &Arc<dyn Vocabulary> {
        &self.vocabulary
    }

    fn submit(&self, request: EncodingRequest) -> Result<Encoding, SubmitError> {
        if request.inputs.iter().any(Vec::is_empty) || request.inputs.is_empty() {
            return Err(SubmitError::PromptEmpty);
        }
        let context_length = self.card.context_length;
        let longest = request.inputs.iter().map(Vec::len).max().unwrap_or(0);
        if longest > context_length as usize {
            let tokens = u32::try_from(longest).unwrap_or(u32::MAX);
            return Err(SubmitError::InputTooLong { tokens, context_length });
        }
        self.worker.submit(self.config.queue_length.get(), || {
            let (end, receiver) = oneshot::channel();
            (Job::new(request.id, request.inputs, end, Instant::now()), Encoding::new(receiver))
        })
    }

    fn progress(&self) -> Progress {
        self.worker.progress()
    }
}
