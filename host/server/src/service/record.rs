//! The one account of a request: metrics and a log line, written when it ends, whichever way.

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
    started: Instant,
    waited: Duration,
    first_piece: Option<Duration>,
    pub(super) usage: Usage,
    end: Option<End>,
}

enum End {
    Finished { finish: Finish, timings: Option<Timings>, annotations: Annotations },
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
            started: Instant::now(),
            waited: Duration::ZERO,
            first_piece: None,
            usage: Usage::default(),
            end: None,
        }
    }

    pub(super) fn id(&self) -> &RequestId {
        &self.id
    }

    pub(super) fn admitted(&mut self, waited: Duration) {
        self.waited = waited;
        self.metrics.queue_wait(&self.labels.model, waited);
    }

    pub(super) fn piece(&mut self, completion_tokens: u32) {
        self.first_piece.get_or_insert_with(|| self.started.elapsed());
        self.usage.completion_tokens = completion_tokens;
    }

    pub(super) fn finished(&mut self, finish: Finish, timings: Option<Timings>, annotations: &Annotations) {
        self.end = Some(End::Finished { finish, timings, annotations: annotations.clone() });
    }

    pub(super) fn failed(&mut self, error: &ChatError) {
        self.end = Some(End::Failed(error.clone()));
    }

    fn blame(&self) -> Option<Blame> {
        match &self.end {
            Some(End::Failed(error)) => Some(error.blame()),
            Some(End::Finished { .. }) | None => None,
        }
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        let elapsed = self.started.elapsed();
        let Usage { prompt_tokens, completion_tokens, cached_tokens } = self.usage;
        self.metrics.record(
            &self.labels,
            &InferenceEnd {
                elapsed,
                first_token: self.first_piece,
                prompt_tokens,
                completion_tokens,
                blame: self.blame(),
            },
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
                    first_token_ms = self.first_piece.map(milliseconds),
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
