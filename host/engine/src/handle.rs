//! The engine as everybody else sees it, and the thread behind it.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::{Duration, Instant};

use inference::{Engine, Generation, GenerationRequest, ModelCard, Progress, SubmitError, Vocabulary};

use crate::decode_loop::DecodeLoop;
use crate::decoder::{Decoder, DecoderShape};
use crate::limits::{
    EVENTS_AHEAD_DEFAULT, GUESSES_MAX_DEFAULT, PREFILL_TOKENS_BESIDE_ANSWERS_DEFAULT, PREFILL_TOKENS_PER_STEP_DEFAULT,
    PREFIX_CACHE_BYTES_DEFAULT, PREFIX_TOKENS_MIN_DEFAULT, QUEUE_LENGTH_DEFAULT, SLOTS_DEFAULT,
    STEP_TIME_BESIDE_ANSWERS_DEFAULT,
};
use crate::sequence::Submission;
use crate::thread::{StartError, Worker};

/// How much the engine takes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Config {
    /// Sequences computed side by side: the operator's `max_concurrency`.
    pub slots: NonZeroUsize,
    /// Prompt tokens per step.
    pub prefill_tokens_per_step: NonZeroUsize,
    /// The same, where an answer is under way that has to wait for each of them, to begin with; at most as many.
    pub prefill_tokens_beside_answers: NonZeroUsize,
    /// How long such a step may take: from the first on, its prompt tokens are counted accordingly.
    pub step_time_beside_answers: Duration,
    /// Requests that may wait for a slot. A request that finds a free slot waits too, for the end of the step.
    pub queue_length: NonZeroUsize,
    /// Events that a generation may be ahead of its reader.
    pub events_ahead: NonZeroUsize,
    /// Bytes of host memory for prefixes that no slot has room for any more; 0: none are kept.
    pub prefix_cache_bytes: usize,
    /// Tokens of one sequence that are guessed in a step; 0: none.
    pub guesses_max: usize,
    /// Tokens that have to be saved for a copy to be made, or waited for.
    pub prefix_tokens_min: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            slots: SLOTS_DEFAULT,
            prefill_tokens_per_step: PREFILL_TOKENS_PER_STEP_DEFAULT,
            prefill_tokens_beside_answers: PREFILL_TOKENS_BESIDE_ANSWERS_DEFAULT,
            step_time_beside_answers: STEP_TIME_BESIDE_ANSWERS_DEFAULT,
            queue_length: QUEUE_LENGTH_DEFAULT,
            events_ahead: EVENTS_AHEAD_DEFAULT,
            prefix_cache_bytes: PREFIX_CACHE_BYTES_DEFAULT,
            guesses_max: GUESSES_MAX_DEFAULT,
            prefix_tokens_min: PREFIX_TOKENS_MIN_DEFAULT,
        }
    }
}

/// Starts the decode thread and builds the decoder on it. Returns when it is ready to compute, or why it is not.
///
/// `card.context_length` is what every slot holds; `build_decoder` is told, and builds nothing smaller.
pub fn start<D, E, F>(
    card: ModelCard,
    vocabulary: Arc<dyn Vocabulary>,
    config: Config,
    build_decoder: F,
) -> Result<EngineHandle, StartError<E>>
where
    D: Decoder + 'static,
    E: std::error::Error + Send + 'static,
    F: FnOnce(DecoderShape) -> Result<D, E> + Send + 'static,
{
    let shape = DecoderShape {
        slots: config.slots.get(),
        context_length: card.context_length,
        rows_max: config.slots.saturating_add(config.prefill_tokens_per_step.get()).get(),
        // Guesses are made for one answer at a time.
        samples_max: config.slots.get().saturating_add(config.guesses_max.min(config.prefill_tokens_per_step.get())),
    };
    let built_with = Arc::clone(&vocabulary);
    let worker =
        Worker::start("decode", move |shared| Ok(DecodeLoop::new(build_decoder(shape)?, built_with, &config, shared)))?;
    Ok(EngineHandle { card, vocabulary, config, worker })
}

/// A running engine. Dropping it ends the thread, and what was being generated with
/// [`inference::EngineFault::Stopped`].
pub struct EngineHandle {
    card: ModelCard,
    vocabulary: Arc<dyn Vocabulary>,
    config: Config,
    worker: Worker<Submission>,
}

impl EngineHandle {
    /// Whether the decode thread lives: once false, it stays so and every request fails.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.worker.is_running()
    }

    /// Requests that wait for a slot.
    #[must_use]
    pub fn queued(&self) -> usize {
        self.worker.queued()
    }

    /// Requests in a slot.
    #[must_use]
    pub fn running(&self) -> usize {
        self.worker.running()
    }

    /// What the engine was started with.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.config
    }
}

impl Engine for EngineHandle {
    fn card(&self) -> &ModelCard {
        &self.card
    }

    fn vocabulary(&self) -> &Arc<dyn Vocabulary> {
        &self.vocabulary
    }

    fn submit(&self, request: GenerationRequest) -> Result<Generation, SubmitError> {
        if request.prompt.is_empty() {
            return Err(SubmitError::PromptEmpty);
        }
        let context_length = self.card.context_length;
        let prompt_tokens = u32::try_from(request.prompt.len()).unwrap_or(u32::MAX);
        let tokens_max = match context_length.saturating_sub(prompt_tokens) {
            0 => return Err(SubmitError::PromptTooLong { prompt_tokens, context_length }),
            left => left.min(request.max_tokens).max(1),
        };
        let events_ahead = self.config.events_ahead.get();
        self.worker.submit(self.config.queue_length.get(), || {
            Submission::new(request, prompt_tokens, tokens_max, events_ahead, Instant::now())
        })
    }

    fn progress(&self) -> Progress {
        self.worker.progress()
    }
}

#[cfg(test)]
mod tests {
    use inference::{EngineFault, Finish, GenerationEvent, RequestId, Sampling, Token};
    use std::pin::pin;
    use std::sync::mpsc;
    use std::task::{Context, Poll, Waker};

    use super::*;
    use crate::fake::{FakeDecoder, FakeVocabulary, Fate, following};

    #[derive(Debug, thiserror::Error)]
    #[error("no")]
    struct No;

    fn card() -> ModelCard {
        ModelCard {
            id: "fake".to_owned(),
            revision: String::new(),
            architecture: "fake".to_owned(),
            context_length: 16,
            context_length_trained: 16,
            chat_template: None,
            bos_text: String::new(),
            eos_text: String::new(),
            size_bytes: 0,
            created: 0,
        }
    }

    fn start_fake(queue_length: usize, fate: impl FnMut() -> Fate + Send + 'static) -> EngineHandle {
        let config = Config { queue_length: NonZeroUsize::new(queue_length).unwrap(), ..Config::default() };
        start(card(), Arc::new(FakeVocabulary), config, |shape| Ok::<_, No>(FakeDecoder::new(shape, fate))).unwrap()
    }

    /// A prompt after which the fake model ends its answer with its `ends_after`th token.
    fn request(ends_after: u32, max_tokens: u32) -> GenerationRequest {
        GenerationRequest {
            id: RequestId::new("test"),
            prompt: vec![Token(ends_after), Token(u32::from(b'a'))],
            sampling: Sampling::default(),
            max_tokens,
            stop: Vec::new(),
            stop_tokens: Vec::new(),
            marks: Vec::new(),
            grammar: None,
            control: None,
            logprobs: None,
            ignore_end: false,
        }
    }

    /// The first `count` letters of the answer to `request(ends_after, _)`.
    fn letters(ends_after: u32, count: usize) -> String {
        let mut tokens = request(ends_after, 1).prompt;
        for _ in 0..count {
            tokens.push(following(&tokens));
        }
        tokens[2..].iter().map(|token| char::from(u8::try_from(token.0).unwrap())).collect()
    }

    fn read(generation: &mut Generation) -> (String, GenerationEvent) {
        let mut answer = String::new();
        let start = Instant::now();
        loop {
            match pin!(generation.next()).poll(&mut Context::from_waker(Waker::noop())) {
                Poll::Ready(GenerationEvent::Piece { text, .. }) => answer.push_str(&text),
                Poll::Ready(last) => return (answer, last),
                Poll::Pending => std::thread::sleep(Duration::from_millis(1)),
            }
            assert!(start.elapsed() < Duration::from_secs(10), "nothing comes");
        }
    }

    #[test]
    fn a_request_is_answered() {
        let engine = start_fake(1, || Fate::Compute);
        let (text, last) = read(&mut engine.submit(request(4, 100)).unwrap());
        assert_eq!(text, letters(4, 3));
        assert!(matches!(last, GenerationEvent::Finished(completion) if completion.finish == Finish::Stop));
    }

    #[test]
    fn max_tokens_is_cut_to_what_the_context_leaves() {
        let engine = start_fake(1, || Fate::Compute);
        let (text, last) = read(&mut engine.submit(request(0, u32::MAX)).unwrap());
        assert_eq!(text.len(), 14);
        assert!(matches!(last, GenerationEvent::Finished(completion) if completion.finish == Finish::Length));
    }

    #[test]
    fn what_cannot_be_answered_is_refused() {
        let engine = start_fake(1, || Fate::Compute);
        let refuse = |prompt| engine.submit(GenerationRequest { prompt, ..request(1, 1) }).unwrap_err();
        assert_eq!(refuse(Vec::new()), SubmitError::PromptEmpty);
        let too_long = SubmitError::PromptTooLong { prompt_tokens: 16, context_length: 16 };
        assert_eq!(refuse(vec![Token(1); 16]), too_long);
    }

    #[test]
    fn a_full_queue_refuses_and_an_abandoned_place_in_it_is_given_away() {
        let (go, gate) = mpsc::channel::<()>();
        let engine = start_fake(1, move || {
            let _ = gate.recv();
            Fate::Compute
        });
        let mut first = engine.submit(request(2, 100)).unwrap();
        while engine.running() == 0 {
            std::thread::yield_now();
        }
        let second = engine.submit(request(2, 100)).unwrap();
        assert_eq!(engine.submit(request(2, 100)).unwrap_err(), SubmitError::QueueFull { queued: 1 });
        drop(second);
        go.send(()).unwrap();
        while engine.queued() > 0 {
            std::thread::yield_now();
        }
        let mut third = engine.submit(request(3, 100)).unwrap();
        drop(go);
        assert_eq!(read(&mut first).0, letters(2, 1));
        assert_eq!(read(&mut third).0, letters(3, 2));
    }

    /// Later than any step of a test takes.
    fn is_late(engine: &EngineHandle) -> bool {
        let bound = Duration::from_millis(20);
        matches!(engine.progress(), Progress::Working { since_step } if since_step >= bound)
    }

    #[test]
    fn a_step_that_does_not_end_is_seen_from_outside() {
        let (go, gate) = mpsc::channel::<()>();
        let engine = start_fake(4, move || {
            let _ = gate.recv();
            Fate::Compute
        });
        assert_eq!(engine.progress(), Progress::Idle);
        let mut first = engine.submit(request(2, 100)).unwrap();
        while !is_late(&engine) {
            std::thread::yield_now();
        }
        // Requests that come do not make it look alive.
        let mut second = engine.submit(request(2, 100)).unwrap();
        assert!(is_late(&engine));
        drop(go);
        read(&mut first);
        read(&mut second);
        while engine.progress() != Progress::Idle {
            std::thread::yield_now();
        }
    }

    #[test]
    fn a_failed_batch_ends_its_sequences_and_not_the_engine() {
        let mut fails = true;
        let engine = start_fake(1, move || if std::mem::take(&mut fails) { Fate::Fail } else { Fate::Compute });
        let (_, last) = read(&mut engine.submit(request(2, 100)).unwrap());
        assert_eq!(last, GenerationEvent::Failed(EngineFault::Decode("as the test wants".to_owned())));
        assert_eq!(read(&mut engine.submit(request(2, 100)).unwrap()).0, letters(2, 1));
    }

    #[test]
    fn a_panic_leaves_nobody_waiting() {
        let engine = start_fake(4, || panic!("as the test wants"));
        let mut waiting: Vec<Generation> = (0..2).filter_map(|_| engine.submit(request(2, 100)).ok()).collect();
        for generation in &mut waiting {
            assert_eq!(read(generation).1, GenerationEvent::Failed(EngineFault::Stopped));
        }
        while engine.is_running() {
            std::thread::yield_now();
        }
        assert_eq!(engine.submit(request(2, 100)).unwrap_err(), SubmitError::Stopped);
        assert_eq!(engine.progress(), Progress::Stopped);
    }

    #[test]
    fn a_reader_that_pauses_pauses_its_answer_and_gets_all_of_it() {
        let config = Config { events_ahead: NonZeroUsize::MIN, ..Config::default() };
        let build = |shape| Ok::<_, No>(FakeDecoder::new(shape, || Fate::Compute));
        let engine = start(card(), Arc::new(FakeVocabulary), config, build).unwrap();
        let mut generation = engine.submit(request(0, 14)).unwrap();
        std::thread::sleep(Duration::from_millis(50));
        assert_eq!(engine.running(), 1, "an answer of 14 events does not fit a channel of one");
        assert_eq!(read(&mut generation).0, letters(0, 14));
    }

    #[test]
    fn a_decoder_that_is_not_built_is_an_error() {
        let refused = start(card(), Arc::new(FakeVocabulary), Config::default(), |_| Err::<FakeDecoder, _>(No));
        assert!(matches!(refused, Err(StartError::Decoder(No))));
        let build = |_| -> Result<FakeDecoder, No> { panic!("as the test wants") };
        let refused = start(card(), Arc::new(FakeVocabulary), Config::default(), build);
        assert!(matches!(refused, Err(StartError::Panicked)));
    }
}
