//! A chat answered, whatever transport it came over: admission, plugins, engine, plugins, account. Beside it, inputs
//! encoded (`encode`).

mod admission;
mod answer;
mod choice;
mod encode;
mod error;
mod generate;
mod grammar;
mod loaded;
mod off_thread;
mod pass;
mod raw;
mod record;
mod render;
mod tokens;
mod warm;

use std::num::{NonZeroU32, NonZeroUsize};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use ::admission::Admission;
use inference::{DeviceFacts, EncodingEngine, Engine, ModelCard, Pipeline, Sampling};
use telemetry::Metrics;
use tokio::sync::{Notify, watch};

pub use admission::Terms;
pub use answer::{Answer, AnswerEvent, Finished};
pub use encode::{EmbeddingRequest, Input, Outputs, RankingRequest};
pub use error::ChatError;
pub use generate::Asked;
pub use loaded::Capability;
pub(crate) use off_thread::Share;
pub use render::Rendered;
pub use tokens::Tokenized;

use grammar::Grammars;
use loaded::Loaded;

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
    /// Tokens of the prompts of those that wait, about.
    pub queue_tokens_max: u64,
    /// How long they wait.
    pub queue_wait_max: Duration,
    /// Requests a minute; `None`: as many as come.
    pub requests_per_minute_max: Option<NonZeroU32>,
    /// From a request's arrival to its end.
    pub request_timeout: Duration,
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
            queue_tokens_max: limits::QUEUE_TOKENS_MAX_DEFAULT,
            queue_wait_max: limits::QUEUE_WAIT_MAX_DEFAULT,
            requests_per_minute_max: None,
            request_timeout: limits::REQUEST_TIMEOUT_DEFAULT,
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
    queue_wait_max: Duration,
    request_timeout: Duration,
    grammars: Arc<Grammars>,
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
    Ready { loaded: Loaded, fingerprint: String },
}

impl Service {
    /// A service without a model yet.
    #[must_use]
    pub fn new(config: ServiceConfig, metrics: Metrics) -> Self {
        Self {
            admission: admission::new(&config, &metrics.inference),
            queue_wait_max: config.queue_wait_max,
            request_timeout: config.request_timeout,
            defaults: config.defaults,
            grammars: Arc::default(),
            metrics,
            model_id: config.model_id,
            device: OnceLock::new(),
            state: watch::Sender::new(State::Loading("starting".to_owned())),
            is_loaded_on_use: AtomicBool::new(false),
            wanted: Notify::new(),
            is_draining: AtomicBool::new(false),
            cancelled: watch::Sender::new(false),
        }
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
        self.metrics.inference.model_ready(&serving.engine.card().id);
        self.serve(Loaded::Chat(serving));
    }

    /// New requests go through these plugins; those that run keep the ones that they began with. Without a model that answers
    /// chats nothing changes.
    pub fn replace_pipeline(&self, pipeline: Arc<dyn Pipeline>) {
        self.state.send_if_modified(|state| match state {
            State::Ready { loaded: Loaded::Chat(serving), .. } => {
                serving.pipeline = pipeline;
                true
            }
            _ => false,
        });
    }

    /// What answers chats now.
    #[must_use]
    pub fn serving(&self) -> Option<Serving> {
        match self.state() {
            State::Ready { loaded: Loaded::Chat(serving), .. } => Some(serving),
            _ => None,
        }
    }

    /// From now on inputs are encoded.
    pub fn ready_to_encode(&self, engine: Arc<dyn EncodingEngine>) {
        self.metrics.inference.encoder_ready(&engine.card().id, encode::endpoint_of(engine.facts().task));
        self.serve(Loaded::Encoder(engine));
    }

    fn serve(&self, loaded: Loaded) {
        let fingerprint = fingerprint(loaded.card());
        self.set(State::Ready { loaded, fingerprint });
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

    /// The models that answer, and what they can be asked for: one or, while it loads, none.
    #[must_use]
    pub fn models(&self) -> Vec<(ModelCard, Capability)> {
        match self.state() {
            State::Ready { loaded, .. } => vec![(loaded.card().clone(), loaded.capability())],
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
        let standing = self.admission.standing();
        standing.running + standing.waiting()
    }

    /// Takes no new request; those that run or wait for a slot go on.
    pub fn drain(&self) {
        self.is_draining.store(true, Ordering::Relaxed);
        self.metrics.inference.ready.set(0);
        // Who waits for the model is told now: nobody loads it any more.
        self.state.send_modify(|_| {});
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

    /// The model of this name.
    async fn loaded(&self, model: &str) -> Result<(Loaded, String), ChatError> {
        let not_found = |served: &str| ChatError::ModelNotFound { model: model.to_owned(), served: served.to_owned() };
        if let Some(served) = self.model_id.as_ref().filter(|id| *id != model) {
            return Err(not_found(served));
        }
        let (loaded, fingerprint) = self.loaded_any().await?;
        if loaded.card().id != model {
            return Err(not_found(&loaded.card().id));
        }
        Ok((loaded, fingerprint))
    }

    async fn loaded_or_any(&self, model: Option<&str>) -> Result<Loaded, ChatError> {
        let loaded = match model {
            Some(model) => self.loaded(model).await?,
            None => self.loaded_any().await?,
        };
        Ok(loaded.0)
    }

    /// The model. One that is loaded on use is asked for here, and waited for in the same bounded line and as long as a slot
    /// is.
    async fn loaded_any(&self) -> Result<(Loaded, String), ChatError> {
        let now = self.loaded_now();
        if !matches!(now, Err(ChatError::Loading { .. } | ChatError::LoadFailed { .. })) {
            return now;
        }
        self.wanted.notify_one();
        if !self.is_loaded_on_use.load(Ordering::Relaxed) || matches!(now, Err(ChatError::LoadFailed { .. })) {
            return now;
        }
        let _place = self.admission.set_aside()?;
        let mut state = self.state.subscribe();
        let is_over = |state: &State| self.is_draining() || matches!(state, State::Ready { .. } | State::Failed(_));
        let _in_time = tokio::time::timeout(self.queue_wait_max, state.wait_for(is_over)).await;
        self.loaded_now()
    }

    fn loaded_now(&self) -> Result<(Loaded, String), ChatError> {
        if self.is_draining() {
            return Err(ChatError::Draining);
        }
        match self.state() {
            State::Ready { loaded, fingerprint } => Ok((loaded, fingerprint)),
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
