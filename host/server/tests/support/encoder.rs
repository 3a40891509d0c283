//! An engine that encodes by counting, and holds the server to the contract.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use inference::{
    Encoded, Encoding, EncodingEngine, EncodingFacts, EncodingRequest, EncodingTask, EngineFault, Frame, ModelCard,
    Progress, SubmitError, Timings, Token, Vocabulary,
};
use tokio::sync::oneshot;

use super::fakes::Bytes;

pub(crate) const CONTEXT_LENGTH: u32 = 12;
/// Before and behind every text.
pub(crate) const MARK: Token = Token(0);

/// What the engine does with a request.
#[derive(Debug, Clone)]
pub(crate) enum Fate {
    Encode,
    Fail(EngineFault),
    /// It never comes to an end.
    Hang,
}

pub(crate) struct FakeEncoder {
    card: ModelCard,
    facts: EncodingFacts,
    pub(crate) vocabulary: Arc<dyn Vocabulary>,
    fate: Fate,
    max_concurrency: usize,
    live: Arc<AtomicUsize>,
    /// The inputs of every request that was taken.
    pub(crate) taken: Mutex<Vec<Vec<Vec<Token>>>>,
}

impl FakeEncoder {
    pub(crate) fn new(task: EncodingTask, max_concurrency: usize, fate: Fate) -> Arc<Self> {
        Self::of("fake/model", task, max_concurrency, fate)
    }

    pub(crate) fn named(id: &str) -> Arc<Self> {
        Self::of(id, EncodingTask::Embedding { dimensions: 3 }, 1, Fate::Encode)
    }

    fn of(id: &str, task: EncodingTask, max_concurrency: usize, fate: Fate) -> Arc<Self> {
        let card = ModelCard {
            id: id.to_owned(),
            revision: "0123abcd".to_owned(),
            architecture: "fake".to_owned(),
            context_length: CONTEXT_LENGTH,
            context_length_trained: 512,
            chat_template: None,
            bos_text: String::new(),
            eos_text: String::new(),
            size_bytes: 1000,
            created: 1_700_000_000,
        };
        let frame = Frame { start: Some(MARK), end: Some(MARK), ..Frame::default() };
        Arc::new(Self {
            card,
            facts: EncodingFacts { task, frame },
            vocabulary: Arc::new(Bytes),
            fate,
            max_concurrency,
            live: Arc::default(),
            taken: Mutex::default(),
        })
    }

    pub(crate) fn embedder() -> Arc<Self> {
        Self::new(EncodingTask::Embedding { dimensions: 3 }, 1, Fate::Encode)
    }

    pub(crate) fn ranker() -> Arc<Self> {
        Self::new(EncodingTask::Ranking, 1, Fate::Encode)
    }

    /// Requests that neither ended nor were dropped.
    pub(crate) fn live(&self) -> usize {
        self.live.load(Ordering::SeqCst)
    }

    /// A vector of tokens, zeros and ends; or the share of `a` among the tokens.
    fn output(&self, input: &[Token]) -> Vec<f32> {
        let count = |byte: u8| input.iter().filter(|token| token.0 == u32::from(byte)).count() as f32;
        match self.facts.task {
            EncodingTask::Embedding { .. } => vec![count(b'a'), count(b'b'), count(b'c')],
            EncodingTask::Ranking => vec![count(b'a') / input.len() as f32],
        }
    }
}

impl EncodingEngine for FakeEncoder {
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
        assert!(!request.inputs.is_empty(), "at least one input");
        let fits = |input: &Vec<Token>| (1..=CONTEXT_LENGTH as usize).contains(&input.len());
        assert!(request.inputs.iter().all(fits), "every input fits: {:?}", request.inputs);
        let live = self.live.fetch_add(1, Ordering::SeqCst) + 1;
        assert!(live <= self.max_concurrency, "{live} requests at once, {} allowed", self.max_concurrency);
        self.taken.lock().expect("no test panicked").push(request.inputs.clone());

        let outputs = request.inputs.iter().map(|input| self.output(input)).collect();
        let timings =
            Timings { queued: Duration::from_millis(1), prefill: Duration::from_millis(2), decode: Duration::ZERO };
        let (mut end, receiver) = oneshot::channel();
        let (fate, live) = (self.fate.clone(), Arc::clone(&self.live));
        tokio::spawn(async move {
            let told = match fate {
                Fate::Encode => end.send(Ok(Encoded { outputs, timings })),
                Fate::Fail(fault) => end.send(Err(fault)),
                Fate::Hang => {
                    end.closed().await;
                    Ok(())
                }
            };
            drop(told);
            live.fetch_sub(1, Ordering::SeqCst);
        });
        Ok(Encoding::new(receiver))
    }

    fn progress(&self) -> Progress {
        Progress::Idle
    }
}
