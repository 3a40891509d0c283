//! A chat answered, whatever transport it came over: admission, plugins, engine, plugins, account.

mod admission;
mod answer;
mod error;
mod grammar;
mod record;
mod warm;

use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use inference::{
    Call, ChatRequest, DeviceFacts, Engine, GenerationRequest, ModelCard, Pipeline, Prepared, Prompt, Sampling,
    Segment, SubmitError, Token, Vocabulary,
};
use telemetry::{Endpoint, Metrics};
use tokio::sync::{Notify, watch};

pub use answer::{Answer, AnswerEvent, Finished};
pub use error::ChatError;

use admission::Admission;
use grammar::Grammars;
use record::Record;

use crate::limits;

/// What an operator decides about requests for work.
#[derive(Debug, Clone)]
pub struct ServiceConfig {
    /// The name that the model will answer to, where it is known before the model is loaded.
    pub model_id: Option<String>,
    /// Requests that hold a slot at once.
    pub max_concurrency: NonZeroUsize,
    /// Requests that wait for a slot.
    pub queue_max: usize,
    /// How long they wait.
    pub queue_wait_max: Duration,
    /// What a request gets that does not say.
    pub defaults: Defaults,
}

/// What a request gets that does not say.
#[derive(Debug, Clone, Default)]
pub struct Defaults {
    /// How tokens are chosen.
    pub sampling: Sampling,
    /// Most tokens of the completion; `None`: as many as the context still holds.
    pub max_tokens: Option<u32>,
}

impl Default for ServiceConfig {
    fn default() -> Self {
        Self {
            model_id: None,
            max_concurrency: NonZeroUsize::new(limits::CONCURRENCY_DEFAULT).unwrap_or(NonZeroUsize::MIN),
            queue_max: limits::QUEUE_MAX_DEFAULT,
            queue_wait_max: limits::QUEUE_WAIT_MAX_DEFAULT,
            defaults: Defaults::default(),
        }
    }
}

/// What answers: a loaded model and the plugins around it.
#[derive(Clone)]
pub struct Serving {
    /// The model.
    pub engine: Arc<dyn Engine>,
    /// The plugins.
    pub pipeline: Arc<dyn Pipeline>,
}

/// Whether requests are answered now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Readiness {
    /// Yes; the first request will have the model fetched and loaded, and waits for it.
    OnFirstUse,
    /// The model is on its way; this far.
    Loading(String),
    /// The model will not come, and why.
    Failed(String),
    /// Yes.
    Ready,
    /// Not any more: the process was told to stop.
    Draining,
}

/// Answers chats. It exists before its model does, so that a client learns what is going on from the first second.
pub struct Service {
    defaults: Defaults,
    metrics: Metrics,
    admission: Admission,
    grammars: Grammars,
    model_id: Option<String>,
    state: watch::Sender<State>,
    device: OnceLock<DeviceFacts>,
    /// Whether requests for a model that is not there wait for it, rather than being sent away.
    is_loaded_on_use: AtomicBool,
    wanted: Notify,
    is_draining: AtomicBool,
    cancelled: watch::Sender<bool>,
}

#[derive(Clone)]
enum State {
    OnFirstUse,
    Loading(String),
    Failed(String),
    Ready { serving: Serving, fingerprint: String },
}

impl Service {
    /// A service without a model yet.
    #[must_use]
    pub fn new(config: ServiceConfig, metrics: Metrics) -> Self {
        let ServiceConfig { model_id, max_concurrency, queue_max, queue_wait_max, defaults } = config;
        Self {
            defaults,
            admission: Admission::new(max_concurrency, queue_max, queue_wait_max, metrics.inference.clone()),
            grammars: Grammars::default(),
            metrics,
            model_id,
            device: OnceLock::new(),
            state: watch::Sender::new(State::Loading("starting".to_owned())),
            is_loaded_on_use: AtomicBool::new(false),
            wanted: Notify::new(),
            is_draining: AtomicBool::new(false),
            cancelled: watch::Sender::new(false),
        }
    }

    /// Answers one chat. The future may be dropped at any point; so may the answer.
    ///
    /// The model and the request's place in `call` are filled in here; the rest of it is the transport's to say.
    pub async fn chat(&self, request: ChatRequest, call: Call, endpoint: Endpoint) -> Result<Answer, ChatError> {
        if let Some(served) = self.model_id.as_ref().filter(|id| **id != request.model) {
            return Err(ChatError::ModelNotFound { model: request.model, served: served.clone() });
        }
        let (serving, fingerprint) = self.serving().await?;
        let card = serving.engine.card();
        if request.model != card.id {
            return Err(ChatError::ModelNotFound { model: request.model, served: card.id.clone() });
        }
        let inference = self.metrics.inference.clone();
        let mut record = Record::new(inference, call.request_id.clone(), &card.id, request.streaming, endpoint);
        let begun = self.begin(request, call, &serving, &mut record).await;
        match begun {
            Ok((generation, run, permit)) => Ok(Answer::new(answer::Parts {
                id: record.id().clone(),
                model: card.id.clone(),
                fingerprint,
                generation,
                run,
                cancelled: self.cancelled.subscribe(),
                record,
                permit,
            })),
            Err(error) => {
                record.failed(&error);
                Err(error)
            }
        }
    }

    async fn begin(
        &self,
        request: ChatRequest,
        call: Call,
        serving: &Serving,
        record: &mut Record,
    ) -> Result<(inference::Generation, Box<dyn inference::PipelineRun>, admission::Permit), ChatError> {
        // The slot comes before the plugins: what waits in line costs neither guest memory nor CPU.
        let (permit, waited) = self.admission.enter().await?;
        record.admitted(waited);

        let card = serving.engine.card();
        let id = call.request_id.clone();
        let mut run = serving.pipeline.begin(Call { model: card.id.clone(), ..call });
        let Prepared { request, prompt } = run.prepare(request).await?;
        // Here, where the policies have had their say: they may take such a wish away.
        check_tokens(&request, serving.engine.vocabulary().size())?;
        if request.logprobs.is_some()
            && let Some((plugin, stage)) = serving.pipeline.changes_text()
        {
            return Err(ChatError::LogprobsWithheld { plugin: plugin.to_owned(), stage });
        }

        let (tokens, prompt) = tokenize(prompt, Arc::clone(serving.engine.vocabulary())).await?;
        let prompt_tokens = u32::try_from(tokens.len()).unwrap_or(u32::MAX);
        record.usage.prompt_tokens = prompt_tokens;
        let room = card.context_length.saturating_sub(prompt_tokens);
        if room == 0 {
            return Err(SubmitError::PromptTooLong { prompt_tokens, context_length: card.context_length }.into());
        }

        let grammar = self.grammars.compile(serving.engine.vocabulary(), request.format, prompt.format).await?;
        let generation = serving.engine.submit(GenerationRequest {
            id,
            prompt: tokens,
            sampling: request.sampling,
            // More than fits is no error: the answer then ends with `length`, as it would have anyway.
            max_tokens: request.max_tokens.or(self.defaults.max_tokens).unwrap_or(room).clamp(1, room),
            stop: request.stop.into_iter().chain(prompt.stop).collect(),
            stop_tokens: request.stop_tokens,
            grammar,
            logprobs: request.logprobs,
            ignore_end: request.ignore_end,
        })?;
        Ok((generation, run, permit))
    }

    /// The model is to be loaded when it is [`wanted`](Self::wanted); requests wait for it as long as they may wait for a
    /// slot.
    pub fn on_first_use(&self) {
        self.metrics.inference.ready.set(0);
        self.is_loaded_on_use.store(true, Ordering::Relaxed);
        self.set(State::OnFirstUse);
    }

    /// Returns when a request has come for a model that is not there, since the last call.
    pub async fn wanted(&self) {
        self.wanted.notified().await;
    }

    /// The model is on its way; `progress` is for people.
    pub fn loading(&self, progress: impl Into<String>) {
        self.metrics.inference.ready.set(0);
        self.set(State::Loading(progress.into()));
    }

    /// The model will not come.
    pub fn failed(&self, reason: impl Into<String>) {
        self.metrics.inference.ready.set(0);
        self.set(State::Failed(reason.into()));
    }

    /// From now on chats are answered.
    pub fn ready(&self, serving: Serving) {
        let card = serving.engine.card();
        self.metrics.inference.model_ready(&card.id);
        let fingerprint = fingerprint(card);
        self.set(State::Ready { serving, fingerprint });
    }

    /// Whether requests are answered now.
    #[must_use]
    pub fn readiness(&self) -> Readiness {
        if self.is_draining() {
            return Readiness::Draining;
        }
        match self.state() {
            State::OnFirstUse => Readiness::OnFirstUse,
            State::Loading(progress) => Readiness::Loading(progress),
            State::Failed(reason) => Readiness::Failed(reason),
            State::Ready { .. } => Readiness::Ready,
        }
    }

    /// The models that answer: one or, while it loads, none.
    #[must_use]
    pub fn models(&self) -> Vec<ModelCard> {
        match self.state() {
            State::Ready { serving, .. } => vec![serving.engine.card().clone()],
            State::OnFirstUse | State::Loading(_) | State::Failed(_) => Vec::new(),
        }
    }

    /// The name that the model will answer to, while it is not there.
    #[must_use]
    pub fn model_expected(&self) -> Option<&str> {
        let is_ready = matches!(*self.state.borrow(), State::Ready { .. });
        self.model_id.as_deref().filter(|_| !is_ready)
    }

    /// Says what the model is computed with. Known when it is loaded, and then for good.
    pub fn computes_with(&self, device: DeviceFacts) {
        let _ = self.device.set(device);
    }

    /// What the model is computed with, once that is known.
    #[must_use]
    pub fn device(&self) -> Option<&DeviceFacts> {
        self.device.get()
    }

    /// What a request gets that does not say.
    #[must_use]
    pub fn defaults(&self) -> &Defaults {
        &self.defaults
    }

    /// The metrics that this service records into.
    #[must_use]
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Requests that hold a slot or wait for one.
    #[must_use]
    pub fn active(&self) -> usize {
        self.admission.active()
    }

    /// Takes no new request; those that run or wait go on.
    pub fn drain(&self) {
        self.is_draining.store(true, Ordering::Relaxed);
        self.metrics.inference.ready.set(0);
    }

    /// Breaks off whatever still runs or waits, with an error that says so.
    pub fn cancel(&self) {
        self.drain();
        self.admission.close();
        self.cancelled.send_replace(true);
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.is_draining.load(Ordering::Relaxed)
    }

    /// What answers. A model that is loaded on use is asked for here, and waited for in the same bounded line and as long
    /// as a slot is.
    async fn serving(&self) -> Result<(Serving, String), ChatError> {
        let now = self.serving_now();
        if !matches!(now, Err(ChatError::Loading { .. } | ChatError::LoadFailed { .. })) {
            return now;
        }
        self.wanted.notify_one();
        if !self.is_loaded_on_use.load(Ordering::Relaxed) || matches!(now, Err(ChatError::LoadFailed { .. })) {
            return now;
        }
        let _place = self.admission.line()?;
        let (mut state, mut cancelled) = (self.state.subscribe(), self.cancelled.subscribe());
        let is_there = |state: &State| matches!(state, State::Ready { .. } | State::Failed(_));
        tokio::select! {
            _ = tokio::time::timeout(self.admission.wait_max(), state.wait_for(is_there)) => {}
            _ = cancelled.wait_for(|is_cancelled| *is_cancelled) => return Err(ChatError::Draining),
        }
        self.serving_now()
    }

    fn serving_now(&self) -> Result<(Serving, String), ChatError> {
        if self.is_draining() {
            return Err(ChatError::Draining);
        }
        match self.state() {
            State::Ready { serving, fingerprint } => Ok((serving, fingerprint)),
            State::OnFirstUse => Err(ChatError::Loading { progress: "it is loaded at its first use".to_owned() }),
            State::Loading(progress) => Err(ChatError::Loading { progress }),
            State::Failed(reason) => Err(ChatError::LoadFailed { reason }),
        }
    }

    fn state(&self) -> State {
        self.state.borrow().clone()
    }

    fn set(&self, state: State) {
        self.state.send_replace(state);
    }
}

impl std::fmt::Debug for Service {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Service")
            .field("readiness", &self.readiness())
            .field("active", &self.active())
            .finish_non_exhaustive()
    }
}

/// Tokens that a request names have to be tokens of this model.
fn check_tokens(request: &ChatRequest, vocabulary_size: u32) -> Result<(), ChatError> {
    let is_unknown = |token: &Token| token.0 >= vocabulary_size;
    let bias = request.sampling.logit_bias.iter().map(|&(token, _)| token).find(is_unknown);
    let stop = request.stop_tokens.iter().copied().position(|token| is_unknown(&token));
    let member = match (bias, stop) {
        (Some(token), _) => Some((format!("logit_bias.{}", token.0), token)),
        (None, Some(place)) => Some((format!("stop_token_ids[{place}]"), request.stop_tokens[place])),
        (None, None) => None,
    };
    match member {
        Some((member, token)) => Err(ChatError::UnknownToken { member, token: token.0, vocabulary_size }),
        None => Ok(()),
    }
}

/// The prompt's tokens. A long prompt is tokenized off the async threads, where nobody's stream waits for it.
async fn tokenize(prompt: Prompt, vocabulary: Arc<dyn Vocabulary>) -> Result<(Vec<Token>, Prompt), ChatError> {
    let bytes: usize = prompt.segments.iter().map(segment_bytes).sum();
    let work = move || (prompt.tokenize(&*vocabulary), prompt);
    if bytes <= limits::TOKENIZE_INLINE_BYTES_MAX {
        return Ok(work());
    }
    tokio::task::spawn_blocking(work).await.map_err(|_| ChatError::Internal { attempted: "tokenize the prompt" })
}

fn segment_bytes(segment: &Segment) -> usize {
    match segment {
        Segment::Template(text) | Segment::Content(text) => text.len(),
        Segment::Tokens(_) => 0,
    }
}

/// A short name for what determines an answer beside the request: the model's file and this program. FNV-1a, because
/// the standard library's hash may change between releases and nothing here needs more.
fn fingerprint(card: &ModelCard) -> String {
    let version = env!("CARGO_PKG_VERSION");
    let facts = format!("{}\n{}\n{}\n{}\n{version}", card.id, card.revision, card.size_bytes, card.context_length);
    let hash = facts
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
    format!("fp_{hash:016x}")
}
