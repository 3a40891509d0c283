//! How requests come by their slots: what they say about it, and what is counted.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use admission::{Admission, Arrival, Permit, Position, Priority, Reason, Refusal, Rules, Standing};
use telemetry::InferenceMetrics;
use tokio::time::Instant;

use super::lifecycle::Used;
use super::{ChatError, Service, ServiceConfig};
use crate::limits;

/// What a request says about how it is served, beside what it asks for.
#[derive(Debug, Clone, Default)]
pub struct Terms {
    /// Who asks. Callers share the slots fairly; those who say nothing are one.
    pub caller: Arc<str>,
    /// How urgent it is.
    pub priority: Priority,
    /// How long it may take, waiting included; the operator's limit holds beside it.
    pub timeout: Option<Duration>,
    /// Bytes of its body, which tell about how many tokens it has.
    pub bytes: usize,
    /// Where it stands in the line, from when it does.
    pub place: Arc<OnceLock<Position>>,
}

/// When a request has to be over.
#[derive(Debug, Clone, Copy)]
pub(super) struct Deadline {
    pub(super) at: Instant,
    pub(super) after: Duration,
}

impl Deadline {
    /// What `work` becomes, if it does in time.
    pub(super) async fn bound<T>(self, work: impl Future<Output = Result<T, ChatError>>) -> Result<T, ChatError> {
        match tokio::time::timeout_at(self.at, work).await {
            Ok(result) => result,
            Err(_elapsed) => Err(self.passed()),
        }
    }

    pub(super) fn passed(self) -> ChatError {
        ChatError::DeadlinePassed { after: self.after }
    }
}

pub(super) fn new(config: &ServiceConfig, metrics: &InferenceMetrics, used: &Arc<Used>) -> Admission {
    let (line, used) = (metrics.line(&config.model_id), Arc::clone(used));
    Admission::new(rules(config), move |standing| {
        // Whoever comes and whoever goes: a long answer's end is its last use.
        used.now();
        line.standing(gauges(standing));
    })
}

fn rules(config: &ServiceConfig) -> Rules {
    Rules {
        slots: config.max_concurrency,
        waiting_max: config.queue_max,
        waiting_tokens_max: config.queue_tokens_max,
        per_minute_max: config.requests_per_minute_max,
    }
}

/// How long requests may wait, and take.
#[derive(Debug, Clone, Copy)]
pub(super) struct Times {
    pub(super) queue_wait_max: Duration,
    pub(super) request_timeout: Duration,
    /// How long a step of the engine may take.
    pub(super) stall_max: Duration,
}

impl Times {
    pub(super) fn of(config: &ServiceConfig) -> Self {
        let &ServiceConfig { queue_wait_max, request_timeout, stall_max, .. } = config;
        Self { queue_wait_max, request_timeout, stall_max }
    }
}

fn gauges(standing: &Standing) -> telemetry::Standing {
    telemetry::Standing {
        running: standing.running,
        interactive_waiting: standing.interactive_waiting,
        batch_waiting: standing.batch_waiting,
        tokens_waiting: standing.waiting_tokens,
        callers: standing.callers,
    }
}

impl Service {
    /// A slot, now or when it is this request's turn, and how long that took.
    pub(super) async fn admit(&self, terms: &Terms) -> Result<(Permit, Duration), ChatError> {
        let queue_wait_max = self.times.now().queue_wait_max;
        let arrival = Arrival {
            caller: Arc::clone(&terms.caller),
            priority: terms.priority,
            tokens: (terms.bytes / limits::BYTES_PER_TOKEN) as u64,
            wait_max: terms.timeout.map_or(queue_wait_max, |timeout| timeout.min(queue_wait_max)),
        };
        let is_waiting = |position| {
            // One request waits once.
            let _ = terms.place.set(position);
        };
        let entered = self.admission.enter(arrival, is_waiting).await;
        let outcome = entered.as_ref().map_or_else(|refusal| refusal.reason.as_str(), |_| "admitted");
        self.metrics.inference.admission(&self.model_id, outcome);
        Ok(entered?)
    }

    /// When a request that begins now has to be over.
    pub(super) fn deadline(&self, terms: &Terms) -> Deadline {
        let request_timeout = self.times.now().request_timeout;
        let after = terms.timeout.map_or(request_timeout, |timeout| timeout.min(request_timeout));
        Deadline { at: Instant::now() + after, after }
    }

    /// From now on the bounds of the line and the times of `config` hold, for requests that come. Everything else of it stays
    /// as it was when the service began.
    pub fn set_limits(&self, config: &ServiceConfig) {
        self.admission.set_rules(&rules(config));
        self.times.replace(Times::of(config));
    }

    /// How things stand with slots and line.
    #[must_use]
    pub fn standing(&self) -> Standing {
        self.admission.standing()
    }
}

impl From<Refusal> for ChatError {
    fn from(refusal: Refusal) -> Self {
        match refusal.reason {
            Reason::Closed => Self::Draining,
            _ => Self::NotAdmitted(refusal),
        }
    }
}
