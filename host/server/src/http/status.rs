//! From an error to its answer: the one place where HTTP statuses are chosen for requests that failed.

use std::time::Duration;

use axum::response::{IntoResponse, Response};
use grammar::GrammarError;
use http::header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderValue, StatusCode};
use inference::{Blame, EngineFault, PipelineError, SubmitError};

use crate::admin::ReloadRefused;
use crate::limits;
use crate::service::ChatError;
use crate::wire::{ErrorBody, PluginFault, Refusal};

/// An error as it goes to the client.
#[derive(Debug, Clone)]
pub(super) struct Failure {
    pub(super) status: StatusCode,
    pub(super) retry_after: Option<Duration>,
    pub(super) body: Box<ErrorBody>,
}

impl Failure {
    fn new(blame: Blame, code: impl Into<String>, message: impl Into<String>) -> Self {
        let (status, kind) = match blame {
            Blame::Client => (StatusCode::BAD_REQUEST, "invalid_request_error"),
            Blame::Plugin => (StatusCode::INTERNAL_SERVER_ERROR, "plugin_error"),
            Blame::Capacity => (StatusCode::SERVICE_UNAVAILABLE, "overloaded_error"),
            Blame::Internal => (StatusCode::INTERNAL_SERVER_ERROR, "server_error"),
        };
        Self { status, retry_after: None, body: Box::new(ErrorBody::new(kind, code, message)) }
    }

    pub(super) fn client(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, ..Self::new(Blame::Client, code, message) }
    }

    pub(super) fn overloaded(message: impl Into<String>) -> Self {
        Self { retry_after: Some(limits::RETRY_AFTER_BUSY), ..Self::new(Blame::Capacity, "overloaded", message) }
    }

    /// It is this caller who asks too much.
    fn too_many(mut self) -> Self {
        self.status = StatusCode::TOO_MANY_REQUESTS;
        self.body.error.kind = "rate_limit_error";
        self
    }

    /// R34: a part of OpenAI's API that is not served here.
    pub(super) fn unserved(path: &str) -> Self {
        let message = format!(
            "{path} is not served here; POST /v1/chat/completions, /v1/completions, /v1/responses, /v1/messages, \
             /v1/embeddings and /v1/rerank and GET /v1/models are"
        );
        Self { status: StatusCode::NOT_IMPLEMENTED, ..Self::new(Blame::Client, "unsupported_endpoint", message) }
    }
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        let mut failure = Self::new(Blame::Client, refusal.code, refusal.message);
        failure.body.error.param = refusal.param;
        failure
    }
}

impl Failure {
    /// The failure of a request whose prompt is made of its member `prompt`.
    pub(super) fn of(error: &ChatError, prompt: &str) -> Self {
        let base = |code: &str| Self::new(error.blame(), code, error.to_string());
        let later = |code: &str, retry_after| Self { retry_after: Some(retry_after), ..base(code) };
        let at = |param: &str, code: &str| {
            let mut failure = base(code);
            failure.body.error.param = Some(param.to_owned());
            failure
        };
        match error {
            ChatError::Loading { .. } => later("model_loading", limits::RETRY_AFTER_LOADING),
            ChatError::LoadFailed { .. } => later("model_failed", limits::RETRY_AFTER_LOADING),
            ChatError::Draining => later("shutting_down", limits::RETRY_AFTER_LOADING),
            ChatError::ModelNotFound { .. } => Self { status: StatusCode::NOT_FOUND, ..at("model", "model_not_found") },
            ChatError::ModelNotNamed { .. } => at("model", "missing_required_parameter"),
            ChatError::OtherTask { .. } => at("model", "model_cannot"),
            ChatError::InputTooLong { member, .. } => at(member, "context_length_exceeded"),
            ChatError::TooManyDimensions { .. } => at("dimensions", "invalid_value"),
            ChatError::Submit(SubmitError::InputTooLong { .. }) => base("context_length_exceeded"),
            ChatError::UnknownToken { member, .. }
            | ChatError::TokenWithoutText { member, .. }
            | ChatError::TokensOfNoText { member }
            | ChatError::InputEmpty { member } => at(member, "invalid_value"),
            ChatError::TooManyTokens { .. } => at("prompt", "invalid_value"),
            ChatError::TooMuchText { .. } => at("tokens", "invalid_value"),
            ChatError::LogprobsWithheld { .. } => at("logprobs", "unsupported_parameter"),
            ChatError::NotAdmitted(refusal) => {
                let failure = later(refusal.reason.as_str(), refusal.retry_after);
                if refusal.reason.is_callers() { failure.too_many() } else { failure }
            }
            ChatError::Submit(SubmitError::QueueFull { .. }) => later("queue_full", limits::RETRY_AFTER_BUSY),
            ChatError::DeadlinePassed { .. } => {
                Self { status: StatusCode::GATEWAY_TIMEOUT, ..base("deadline_exceeded") }
            }
            ChatError::Format(GrammarError::Busy)
            | ChatError::PromptFormat(GrammarError::Busy)
            | ChatError::Calls { reason: GrammarError::Busy, .. } => later("overloaded", limits::RETRY_AFTER_BUSY),
            ChatError::CallsUnbound { member } => at(member, "unsupported_parameter"),
            ChatError::CallUnreadable { .. } => base("call_unreadable"),
            ChatError::CallSchema { .. } => at("tools", "invalid_value"),
            ChatError::CallsOrFormat { .. } => at("tool_choice", "unsupported_parameter"),
            ChatError::Pipeline(error) => pipeline(error),
            ChatError::Submit(SubmitError::PromptTooLong { .. }) => at(prompt, "context_length_exceeded"),
            ChatError::Submit(SubmitError::PromptEmpty) => base("empty_prompt"),
            ChatError::Engine(EngineFault::NoToken) => at("logit_bias", "no_token_left"),
            ChatError::Submit(SubmitError::Stopped) | ChatError::Engine(_) => base("engine_failed"),
            ChatError::Internal { .. }
            | ChatError::Format(GrammarError::Unavailable(_))
            | ChatError::Calls { reason: GrammarError::Unavailable(_), .. } => base("internal_error"),
            ChatError::Calls { member, .. } => at(member, "invalid_value"),
            ChatError::Format(_) | ChatError::PromptFormat(_) | ChatError::TwoFormats { .. } => {
                base("invalid_output_format")
            }
        }
    }
}

impl From<&ChatError> for Failure {
    fn from(error: &ChatError) -> Self {
        Self::of(error, "messages")
    }
}

impl From<&ReloadRefused> for Failure {
    fn from(refused: &ReloadRefused) -> Self {
        match refused {
            ReloadRefused::NotLoaded => Self::client(
                StatusCode::CONFLICT,
                "not_loaded",
                "no plugins are loaded: the model is not loaded yet, or it answers no chats; /readyz says which",
            ),
            ReloadRefused::Plugins { message, .. } => {
                Self::client(StatusCode::UNPROCESSABLE_ENTITY, "plugins_refused", message.clone())
            }
        }
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let json = HeaderValue::from_static("application/json");
        let mut response = (self.status, [(CONTENT_TYPE, json)], self.body.json()).into_response();
        if let Some(retry_after) = self.retry_after {
            // Whole seconds, and never none: `0` invites a client to spin.
            let seconds = retry_after.as_millis().div_ceil(1000).max(1);
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(u64::try_from(seconds).unwrap_or(u64::MAX)));
        }
        if self.status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"outrigger\""));
        }
        // For where errors have another form.
        response.extensions_mut().insert(self);
        response
    }
}

fn pipeline(error: &PipelineError) -> Failure {
    let base = |code: &str| Failure::new(error.blame(), code, error.to_string());
    match error {
        PipelineError::Rejected { status, code, message, retry_after, .. } => {
            // The contract allows 400 to 499; the plugin room vouches for it, and a 5xx would be retried.
            let status = StatusCode::from_u16(*status).ok().filter(StatusCode::is_client_error);
            Failure {
                status: status.unwrap_or(StatusCode::FORBIDDEN),
                retry_after: *retry_after,
                ..Failure::new(Blame::Client, code.clone(), message.clone())
            }
        }
        PipelineError::Invalid { .. } => base("invalid_prompt"),
        PipelineError::Fault { plugin, stage, kind, .. } => {
            let mut failure = base("plugin_failed");
            failure.body.error.outrigger =
                Some(PluginFault { plugin: plugin.clone(), stage: stage.as_str(), kind: kind.as_str() });
            failure
        }
        PipelineError::Unavailable { plugin, stage, retry_after } => {
            let mut failure = base("plugin_unavailable");
            failure.body.error.outrigger =
                Some(PluginFault { plugin: plugin.clone(), stage: stage.as_str(), kind: "breaker" });
            // The request is not at fault and may be asked again, which a 500 does not say.
            Failure { status: StatusCode::SERVICE_UNAVAILABLE, retry_after: Some(*retry_after), ..failure }
        }
        PipelineError::Overloaded => {
            Failure { retry_after: Some(limits::RETRY_AFTER_BUSY), ..base("plugins_overloaded") }
        }
    }
}
