//! How requests come by their slots: what they say about it, and what is counted.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use admission::{Admission, Arrival, Position, Priority, Reason, Refusal, Rules, Standing};
use telemetry::InferenceMetrics;
use tokio::time::Instant;

use super::choice::told_to_stop;
use super::lifecycle::Used;
use super::off_thread::{Hold, Share};
use super::record::Record;
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
    /// When it arrived; `None`: just now.
    pub arrived: Option<Instant>,
    /// Bytes of its body, which tell about how many tokens it has.
    pub bytes: usize,
    /// Where it stands in the line, from when it does.
    pub place: Arc<OnceLock<Position>>,
    /// Its share of what bodies may take.
    pub(crate) share: Option<Share>,
}

/// When a request has to be over.
#[derive(Debug, Clone, Copy)]
pub(super) struct Deadline {
    pub(super) at: Instant,
    pub(super) after: Duration,
}

impl Deadline {
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
    /// A slot, now or when it is this request's turn. `record`: where it is noted how long that took, or was waited in vain.
    pub(super) async fn admit(&self, terms: &Terms, record: Option<&mut Record>) -> Result<Hold, ChatError> {
        let in_time = self.deadline(terms).at.saturating_duration_since(Instant::now());
        let arrival = Arrival {
            caller: Arc::clone(&terms.caller),
            priority: terms.priority,
            tokens: (terms.bytes / limits::BYTES_PER_TOKEN) as u64,
            wait_max: self.times.now().queue_wait_max.min(in_time.saturating_sub(limits::TOLD_BEFORE)),
        };
        let is_waiting = |position| {
            // One request waits once.
            let _ = terms.place.set(position);
        };
        // Where the future is dropped in the line: its client has left, or its deadline came first.
        let mut waited = Waited { service: self, record, since: Instant::now(), outcome: LEFT };
        let entered = self.admission.enter(arrival, is_waiting).await;
        waited.outcome = entered.as_ref().map_or_else(|refusal| refusal.reason.as_str(), |_| "admitted");
        let (permit, _) = entered?;
        Ok(Hold { permit: Some(Arc::new(permit)), share: terms.share.clone() })
    }

    /// When a request on these terms has to be over.
    pub(super) fn deadline(&self, terms: &Terms) -> Deadline {
        let request_timeout = self.times.now().request_timeout;
        let after = terms.timeout.map_or(request_timeout, |timeout| timeout.min(request_timeout));
        Deadline { at: terms.arrived.unwrap_or_else(Instant::now) + after, after }
    }

    /// What `work` becomes, if it does in time and before everything is broken off.
    pub(super) async fn within<T>(
        &self,
        deadline: Deadline,
        work: impl Future<Output = Result<T, ChatError>>,
    ) -> Result<T, ChatError> {
        let mut cancelled = self.cancelled.subscribe();
        tokio::select! {
            biased;
            () = told_to_stop(&mut cancelled) => Err(ChatError::Draining),
            result = tokio::time::timeout_at(deadline.at, work) => result.unwrap_or_else(|_| Err(deadline.passed())),
        }
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

/// Somebody who asks for a slot. Counted when it is over, whichever way.
struct Waited<'a> {
    service: &'a Service,
    record: Option<&'a mut Record>,
    since: Instant,
    outcome: &'static str,
}

/// The client left the line, or its deadline passed in it.
const LEFT: &str = "left";

impl Drop for Waited<'_> {
    fn drop(&mut self) {
        self.service.metrics.inference.admission(&self.service.model_id, self.outcome);
        if let Some(record) = &mut self.record {
            record.waited(self.since.elapsed());
        }
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
