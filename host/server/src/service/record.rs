//! The one account of a request: metrics and a log line, written when it ends, whichever way.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use inference::{Annotations, Blame, Finish, RequestId, Timings, Usage};
use telemetry::{Endpoint, InferenceEnd, InferenceMetrics, RequestLabels};
use tokio::time::Instant;
use tracing::{info, warn};

use super::ChatError;

/// Collects what is known of a request and accounts for it when dropped. A request that nobody ended was left by its
/// client.
pub(super) struct Record {
    metrics: InferenceMetrics,
    id: RequestId,
    labels: RequestLabels,
    waited: Duration,
    tally: Arc<Tally>,
    end: Option<End>,
}

/// What a request has cost so far. Its choices add to it while they run.
pub(super) struct Tally {
    started: Instant,
    first_piece: OnceLock<Duration>,
    prompt_tokens: AtomicU32,
    /// `u32::MAX` until the engine has said.
    cached_tokens: AtomicU32,
    completion_tokens: AtomicU32,
}

impl Tally {
    fn new() -> Self {
        Self {
            started: Instant::now(),
            first_piece: OnceLock::new(),
            prompt_tokens: AtomicU32::new(0),
            cached_tokens: AtomicU32::new(u32::MAX),
            completion_tokens: AtomicU32::new(0),
        }
    }

    /// A prompt has so many tokens.
    pub(super) fn prompt(&self, tokens: u32) {
        self.prompt_tokens.fetch_add(tokens, Relaxed);
    }

    pub(super) fn prompt_tokens(&self) -> u32 {
        self.prompt_tokens.load(Relaxed)
    }

    /// A choice has a piece more, of so many tokens.
    pub(super) fn piece(&self, tokens: u32) {
        self.first_piece.get_or_init(|| self.started.elapsed());
        self.completion_tokens.fetch_add(tokens, Relaxed);
    }

    /// The engine is done with a choice, after so many tokens more. The choice that found the least of the prompt says what
    /// the request was spared: the others found what that one had computed.
    pub(super) fn finished(&self, tokens: u32, cached_tokens: u32) {
        self.completion_tokens.fetch_add(tokens, Relaxed);
        self.cached_tokens.fetch_min(cached_tokens, Relaxed);
    }

    pub(super) fn usage(&self) -> Usage {
        Usage {
            prompt_tokens: self.prompt_tokens(),
            completion_tokens: self.completion_tokens.load(Relaxed),
            cached_tokens: Some(self.cached_tokens.load(Relaxed)).filter(|&tokens| tokens != u32::MAX).unwrap_or(0),
        }
    }
}

enum End {
    Finished {
        finish: Finish,
        timings: Option<Timings>,
        annotations: Annotations,
    },
    /// A prompt was all that was wanted.
    Rendered {
        annotations: Annotations,
    },
    Failed(ChatError),
}

impl Record {
    pub(super) fn new(
        metrics: InferenceMetrics,
        id: RequestId,
        model: &str,
        is_streamed: bool,
        endpoint: Endpoint,
    ) -> Self {
        Self {
            metrics,
            id,
            labels: RequestLabels { model: model.to_owned(), is_streamed, endpoint },
            waited: Duration::ZERO,
            tally: Arc::new(Tally::new()),
            end: None,
        }
    }

    /// It has waited so long for a slot, with or without success.
    pub(super) fn waited(&mut self, waited: Duration) {
        self.waited = waited;
        self.metrics.queue_wait(&self.labels.model, waited);
    }

    pub(super) fn tally(&self) -> &Arc<Tally> {
        &self.tally
    }

    pub(super) fn finished(&mut self, finish: Finish, timings: Option<Timings>, annotations: Annotations) {
        self.end = Some(End::Finished { finish, timings, annotations });
    }

    pub(super) fn rendered(&mut self, annotations: Annotations) {
        self.end = Some(End::Rendered { annotations });
    }

    pub(super) fn failed(&mut self, error: &ChatError) {
        self.end = Some(End::Failed(error.clone()));
    }

    fn blame(&self) -> Option<Blame> {
        match &self.end {
            Some(End::Failed(error)) => Some(error.blame()),
            Some(End::Finished { .. } | End::Rendered { .. }) | None => None,
        }
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        let elapsed = self.tally.started.elapsed();
        let first_token = self.tally.first_piece.get().copied();
        let Usage { prompt_tokens, completion_tokens, cached_tokens } = self.tally.usage();
        self.metrics.record(
            &self.labels,
            &InferenceEnd { elapsed, first_token, prompt_tokens, completion_tokens, blame: self.blame() },
        );

        // One event per request, for every outcome: what was asked for and answered never is in it.
        macro_rules! account {
            ($level:ident, $outcome:expr, $($extra:tt)*) => {
                $level!(
                    request_id = %self.id,
                    model = %self.labels.model,
                    endpoint = self.labels.endpoint.as_str(),
                    stream = self.labels.is_streamed,
                    outcome = $outcome,
                    prompt_tokens,
                    completion_tokens,
                    cached_tokens,
                    duration_ms = milliseconds(elapsed),
                    queue_ms = milliseconds(self.waited),
                    first_token_ms = first_token.map(milliseconds),
                    $($extra)*
                )
            };
        }
        match &self.end {
            None => account!(info, name(Finish::Cancelled), "the client left before the answer was complete"),
            Some(End::Finished { finish, timings, annotations }) => account!(
                info,
                name(*finish),
                prefill_ms = timings.map(|timings| milliseconds(timings.prefill)),
                decode_ms = timings.map(|timings| milliseconds(timings.decode)),
                annotations = (!annotations.is_empty()).then(|| tracing::field::debug(annotations)),
                "request answered"
            ),
            Some(End::Rendered { annotations }) => account!(
                info,
                "rendered",
                annotations = (!annotations.is_empty()).then(|| tracing::field::debug(annotations)),
                "prompt rendered"
            ),
            Some(End::Failed(error)) => {
                let detail = detail(error);
                match error.blame() {
                    Blame::Client | Blame::Capacity => {
                        account!(info, name(Finish::Failed), error = %error, "request refused");
                    }
                    Blame::Plugin | Blame::Internal => {
                        account!(warn, name(Finish::Failed), error = %error, detail, "request failed");
                    }
                }
            }
        }
    }
}

/// What only the operator may read of an error.
fn detail(error: &ChatError) -> Option<&str> {
    match error {
        ChatError::Pipeline(inference::PipelineError::Fault { detail, .. }) => Some(detail),
        _ => None,
    }
}

fn name(finish: Finish) -> &'static str {
    match finish {
        Finish::Stop => "stop",
        Finish::Length => "length",
        Finish::ToolCalls => "tool_calls",
        Finish::Filtered => "filtered",
        Finish::Cancelled => "cancelled",
        Finish::Failed => "failed",
    }
}

fn milliseconds(duration: Duration) -> f64 {
    // A tenth of a millisecond is finer than anything that is done with the figure.
    (duration.as_secs_f64() * 10_000.0).round() / 10.0
}
