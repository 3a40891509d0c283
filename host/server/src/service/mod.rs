//! A chat answered, whatever transport it came over: admission, plugins, engine, plugins, account. Beside it, inputs
//! encoded (`encode`).

mod admission;
mod answer;
mod choice;
mod encode;
mod error;
mod generate;
mod grammar;
mod lifecycle;
mod liveness;
mod loaded;
mod off_thread;
mod pass;
mod raw;
mod record;
mod render;
mod tokens;
mod tokens_of;
mod warm;

use std::num::{NonZeroU32, NonZeroUsize};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ::admission::Admission;
use inference::{DeviceFacts, Engine, ModelCard, Pipeline, Sampling};
use telemetry::Metrics;
use tokio::sync::{Notify, watch};

pub use admission::Terms;
pub use answer::{Answer, AnswerEvent, Finished};
pub use encode::{EmbeddingRequest, Input, Outputs, RankingRequest};
pub use error::ChatError;
pub use generate::Asked;
pub use lifecycle::{Readiness, Unloaded};
pub use liveness::Liveness;
pub use loaded::Capability;
pub(crate) use off_thread::Share;
pub use render::Rendered;
pub use tokens::Tokenized;

use admission::Times;
use grammar::Grammars;
use lifecycle::{State, Used};

use crate::access::Replaceable;
use crate::limits;

/// What an operator decides about requests for work.
#[derive(Debug, Clone)]
pub struct ServiceConfig {
    /// The name that the model answers to.
    pub model_id: String,
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
    /// Time without a step of the engine, while there is work, after which it counts as stalled.
    pub stall_max: Duration,
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

impl ServiceConfig {
    /// What is usual, for a model of this name.
    pub fn new(model_id: impl Into<String>) -> Self {
        Self {
            model_id: model_id.into(),
            max_concurrency: NonZeroUsize::new(limits::CONCURRENCY_DEFAULT).unwrap_or(NonZeroUsize::MIN),
            queue_max: limits::QUEUE_MAX_DEFAULT,
            queue_tokens_max: limits::QUEUE_TOKENS_MAX_DEFAULT,
            queue_wait_max: limits::QUEUE_WAIT_MAX_DEFAULT,
            requests_per_minute_max: None,
            request_timeout: limits::REQUEST_TIMEOUT_DEFAULT,
            stall_max: limits::STALL_MAX_DEFAULT,
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

/// Answers chats. It exists before its model does, so that a client learns what is going on from the first second.
pub struct Service {
    defaults: Defaults,
    metrics: Metrics,
    admission: Admission,
    times: Replaceable<Times>,
    grammars: Arc<Grammars>,
    model_id: String,
    state: watch::Sender<State>,
    device: Mutex<Option<Arc<DeviceFacts>>>,
    used: Arc<Used>,
    is_loaded_at_start: AtomicBool,
    /// Whether requests for a model that is not there wait for it, rather than being sent away.
    is_loaded_on_use: AtomicBool,
    wanted: Notify,
    has_started: AtomicBool,
    is_draining: AtomicBool,
    cancelled: watch::Sender<bool>,
}

impl Service {
    /// A service without a model yet.
    #[must_use]
    pub fn new(config: ServiceConfig, metrics: Metrics) -> Self {
        let used = Arc::new(Used::default());
        metrics.inference.ready(&config.model_id, false);
        Self {
            admission: admission::new(&config, &metrics.inference, &used),
            times: Replaceable::new(Times::of(&config)),
            defaults: config.defaults,
            grammars: Arc::default(),
            metrics,
            model_id: config.model_id,
            device: Mutex::default(),
            state: watch::Sender::new(State::Loading("starting".to_owned())),
            used,
            is_loaded_at_start: AtomicBool::new(true),
            is_loaded_on_use: AtomicBool::new(false),
            wanted: Notify::new(),
            has_started: AtomicBool::new(false),
            is_draining: AtomicBool::new(false),
            cancelled: watch::Sender::new(false),
        }
    }

    /// The name that the model answers to.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.model_id
    }

    /// The model's facts and what it can be asked for, while it is loaded.
    #[must_use]
    pub fn model(&self) -> Option<(ModelCard, Capability)> {
        match &*self.state.borrow() {
            State::Ready { loaded, .. } => Some((loaded.card().clone(), loaded.capability())),
            State::OnFirstUse | State::Loading(_) | State::Failed(_) => None,
        }
    }

    /// Says what the model is computed with. Known when it is loaded.
    pub fn computes_with(&self, device: DeviceFacts) {
        *self.device.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(device));
    }

    /// What the model is computed with, while it is loaded.
    #[must_use]
    pub fn device(&self) -> Option<Arc<DeviceFacts>> {
        let device = self.device.lock().unwrap_or_else(PoisonError::into_inner);
        device.clone().filter(|_| matches!(*self.state.borrow(), State::Ready { .. }))
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
        self.metrics.inference.ready(&self.model_id, false);
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
}

impl std::fmt::Debug for Service {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Service")
            .field("readiness", &self.readiness())
            .field("active", &self.active())
            .finish_non_exhaustive()
    }
}
