//! Requests, tokens and where their time goes.

use std::time::Duration;

use inference::Blame;
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use super::ModelLabel;
use super::exposition::BareCounter;

/// Where a request came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Endpoint {
    /// `POST /v1/chat/completions`.
    ChatCompletions,
    /// `POST /v1/completions`.
    Completions,
    /// `POST /v1/messages`.
    Messages,
    /// `POST /v1/messages/count_tokens`.
    CountTokens,
    /// `POST /v1/responses`.
    Responses,
    /// `POST /render`.
    Render,
    /// `POST /v1/embeddings`.
    Embeddings,
    /// `POST /v1/rerank`.
    Rerank,
    /// `outrigger run`, in this process.
    Run,
}

impl Endpoint {
    /// The endpoint's name in metrics and logs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ChatCompletions => "chat_completions",
            Self::Completions => "completions",
            Self::Messages => "messages",
            Self::CountTokens => "count_tokens",
            Self::Responses => "responses",
            Self::Render => "render",
            Self::Embeddings => "embeddings",
            Self::Rerank => "rerank",
            Self::Run => "run",
        }
    }
}

impl EncodeLabelValue for Endpoint {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> std::fmt::Result {
        self.as_str().encode(encoder)
    }
}

/// What tells requests apart in metrics. Bounded: `model` is the served model's name, never the client's text.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RequestLabels {
    /// The served model.
    pub model: String,
    /// Whether the answer is streamed.
    pub is_streamed: bool,
    /// Where it came in.
    pub endpoint: Endpoint,
}

/// How things stand with slots and line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Standing {
    /// Requests that hold a slot.
    pub running: usize,
    /// Requests that wait for one, and for which somebody waits.
    pub interactive_waiting: usize,
    /// Others that wait.
    pub batch_waiting: usize,
    /// Tokens of the prompts of all that wait, about.
    pub tokens_waiting: u64,
    /// Callers who have a request here.
    pub callers: usize,
}

/// How a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct InferenceEnd {
    /// From its arrival to its end.
    pub elapsed: Duration,
    /// From its arrival to the first piece of the completion, where there was one.
    pub first_token: Option<Duration>,
    /// Tokens of the prompt.
    pub prompt_tokens: u32,
    /// Tokens that were sampled.
    pub completion_tokens: u32,
    /// Whose fault it is that it failed; `None`: it did not. A client that leaves has not failed.
    pub blame: Option<Blame>,
}

/// Requests, tokens and where their time goes. Clones share the same families.
#[derive(Debug, Clone)]
pub struct InferenceMetrics {
    ready: Family<ModelLabel, Gauge>,
    running: Family<ModelLabel, Gauge>,
    waiting: Family<PriorityLabels, Gauge>,
    tokens_waiting: Family<ModelLabel, Gauge>,
    callers: Family<ModelLabel, Gauge>,
    admissions: Family<OutcomeLabels, Counter>,
    requests: Family<Labels, BareCounter>,
    failures: Family<Labels, BareCounter>,
    errors: Family<ErrorLabels, Counter>,
    duration_ms: Family<Labels, Histogram, fn() -> Histogram>,
    prompt_tokens: Family<Labels, Counter>,
    completion_tokens: Family<Labels, Counter>,
    first_token_seconds: Family<Labels, Histogram, fn() -> Histogram>,
    queue_wait_seconds: Family<ModelLabel, Histogram, fn() -> Histogram>,
}

impl InferenceMetrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            running: Family::default(),
            waiting: Family::default(),
            tokens_waiting: Family::default(),
            callers: Family::default(),
            admissions: Family::default(),
            ready: Family::default(),
            requests: Family::default(),
            failures: Family::default(),
            errors: Family::default(),
            duration_ms: Family::new_with_constructor(|| Histogram::new(DURATION_BUCKETS_MS)),
            prompt_tokens: Family::default(),
            completion_tokens: Family::default(),
            first_token_seconds: Family::new_with_constructor(|| Histogram::new(WAIT_BUCKETS_SECONDS)),
            queue_wait_seconds: Family::new_with_constructor(|| Histogram::new(WAIT_BUCKETS_SECONDS)),
        };
        // R21: these five names are the guide's. Counters get `_total` from the encoder, bare ones never.
        registry.register(
            "llm_requests",
            "Inference requests that ended, whichever way; a client that left is counted",
            metrics.requests.clone(),
        );
        registry.register(
            "llm_failures",
            "Inference requests that ended with an error; a client that left is none",
            metrics.failures.clone(),
        );
        registry.register(
            "llm_internal_request_duration_ms",
            "Milliseconds from a request's arrival to its end, waiting for a slot included",
            metrics.duration_ms.clone(),
        );
        registry.register("llm_prompt_tokens", "Tokens of prompts given to the model", metrics.prompt_tokens.clone());
        registry.register(
            "llm_completion_tokens",
            "Tokens sampled by the model, also for answers that were given up",
            metrics.completion_tokens.clone(),
        );
        registry.register(
            "outrigger_request_errors",
            "Inference requests that ended with an error, by whose fault it is",
            metrics.errors.clone(),
        );
        registry.register(
            "outrigger_time_to_first_token_seconds",
            "Seconds from a request's arrival to the first piece of its completion",
            metrics.first_token_seconds.clone(),
        );
        registry.register(
            "outrigger_queue_wait_seconds",
            "Seconds that requests waited for a slot",
            metrics.queue_wait_seconds.clone(),
        );
        registry.register("outrigger_requests_running", "Requests that hold a slot", metrics.running.clone());
        registry.register(
            "outrigger_requests_waiting",
            "Requests that wait for a slot, by how urgent they are",
            metrics.waiting.clone(),
        );
        registry.register(
            "outrigger_prompt_tokens_waiting",
            "Tokens of the prompts of requests that wait for a slot, about",
            metrics.tokens_waiting.clone(),
        );
        registry.register(
            "outrigger_callers",
            "Callers who have a request here, waiting or in a slot",
            metrics.callers.clone(),
        );
        registry.register(
            "outrigger_admissions",
            "Requests that asked for a slot and were told, by what they were told",
            metrics.admissions.clone(),
        );
        registry.register(
            "outrigger_ready",
            "1 when the model answers, 0 while it is not loaded or failed to be",
            metrics.ready.clone(),
        );
        metrics
    }

    /// Whether a model answers.
    pub fn ready(&self, model: &str, is_ready: bool) {
        self.ready.get_or_create(&ModelLabel::of(model)).set(i64::from(is_ready));
    }

    /// Shows the zeros of a model that answers chats from now on: a rate needs a first value to start from.
    pub fn model_ready(&self, model: &str) {
        self.ready(model, true);
        for stream in [false, true] {
            let labels = Labels { model: model.to_owned(), stream, endpoint: Endpoint::ChatCompletions };
            self.show_zeros(&labels);
            drop(self.completion_tokens.get_or_create(&labels));
            drop(self.first_token_seconds.get_or_create(&labels));
        }
    }

    /// Likewise of a model that is asked at `endpoint` and completes nothing.
    pub fn encoder_ready(&self, model: &str, endpoint: Endpoint) {
        self.ready(model, true);
        let labels = Labels { model: model.to_owned(), stream: false, endpoint };
        self.show_zeros(&labels);
        // R21: one of the five, though it stays zero.
        drop(self.completion_tokens.get_or_create(&labels));
    }

    fn show_zeros(&self, labels: &Labels) {
        drop(self.requests.get_or_create(labels));
        drop(self.failures.get_or_create(labels));
        drop(self.duration_ms.get_or_create(labels));
        drop(self.prompt_tokens.get_or_create(labels));
    }

    /// A request got its slot after waiting for this long.
    pub fn queue_wait(&self, model: &str, waited: Duration) {
        self.queue_wait_seconds.get_or_create(&ModelLabel::of(model)).observe(waited.as_secs_f64());
    }

    /// A request that asked a model for a slot was told this.
    pub fn admission(&self, model: &str, outcome: &'static str) {
        self.admissions.get_or_create(&OutcomeLabels { model: model.to_owned(), outcome }).inc();
    }

    /// The gauges of a model's slots and line, from now on with their zeros.
    #[must_use]
    pub fn line(&self, model: &str) -> LineMetrics {
        let (label, model) = (ModelLabel::of(model), model.to_owned());
        let waiting = |priority| self.waiting.get_or_create_owned(&PriorityLabels { model: model.clone(), priority });
        LineMetrics {
            running: self.running.get_or_create_owned(&label),
            interactive_waiting: waiting("interactive"),
            batch_waiting: waiting("batch"),
            tokens_waiting: self.tokens_waiting.get_or_create_owned(&label),
            callers: self.callers.get_or_create_owned(&label),
        }
    }

    /// A request ended.
    pub fn record(&self, request: &RequestLabels, end: &InferenceEnd) {
        let labels = Labels { model: request.model.clone(), stream: request.is_streamed, endpoint: request.endpoint };
        self.requests.get_or_create(&labels).inc();
        if let Some(blame) = end.blame {
            self.failures.get_or_create(&labels).inc();
            let (model, endpoint) = (request.model.clone(), request.endpoint);
            self.errors.get_or_create(&ErrorLabels { model, endpoint, blame: name(blame) }).inc();
        }
        self.duration_ms.get_or_create(&labels).observe(end.elapsed.as_secs_f64() * 1000.0);
        self.prompt_tokens.get_or_create(&labels).inc_by(u64::from(end.prompt_tokens));
        self.completion_tokens.get_or_create(&labels).inc_by(u64::from(end.completion_tokens));
        if let Some(first_token) = end.first_token {
            self.first_token_seconds.get_or_create(&labels).observe(first_token.as_secs_f64());
        }
    }
}

/// A model's slots and the line in front of them.
#[derive(Debug, Clone)]
pub struct LineMetrics {
    running: Gauge,
    interactive_waiting: Gauge,
    batch_waiting: Gauge,
    tokens_waiting: Gauge,
    callers: Gauge,
}

impl LineMetrics {
    /// How things stand now.
    pub fn standing(&self, standing: Standing) {
        let set = |gauge: &Gauge, value: u64| gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
        set(&self.running, standing.running as u64);
        set(&self.interactive_waiting, standing.interactive_waiting as u64);
        set(&self.batch_waiting, standing.batch_waiting as u64);
        set(&self.tokens_waiting, standing.tokens_waiting);
        set(&self.callers, standing.callers as u64);
    }
}

fn name(blame: Blame) -> &'static str {
    match blame {
        Blame::Client => "client",
        Blame::Plugin => "plugin",
        Blame::Capacity => "capacity",
        Blame::Internal => "internal",
    }
}

/// From a refusal that costs nothing (under 5 ms) to the longest answer a small machine gives to a long prompt; three
/// steps per factor of ten, since an answer's length spreads more than any finer step could show.
const DURATION_BUCKETS_MS: [f64; 16] = [
    5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 1_000.0, 2_500.0, 5_000.0, 10_000.0, 30_000.0, 60_000.0, 120_000.0,
    300_000.0, 600_000.0,
];

/// From a short prompt on a GPU (10 ms) to the longest a client waits in line (30 s) plus a long prefill on a CPU.
const WAIT_BUCKETS_SECONDS: [f64; 12] = [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0];

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    model: String,
    stream: bool,
    endpoint: Endpoint,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ErrorLabels {
    model: String,
    endpoint: Endpoint,
    blame: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PriorityLabels {
    model: String,
    priority: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OutcomeLabels {
    model: String,
    outcome: &'static str,
}
