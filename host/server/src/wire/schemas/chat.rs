//! `POST /v1/chat/completions`.

use serde_json::{Value, json};

use super::super::ErrorBody;
use super::super::response::{Chunk, Whole};
use super::sampling::{ending, sampling};
use super::tools::{callers, chat_tools, formats, function_name, service_tier, template_arguments};
use super::{
    Members, Schemas, any_of, any_text, array, filled, flag, integer, metadata, model, short_text, token_count, told,
};
use crate::limits;

pub(crate) fn chat_request(schemas: &mut Schemas) -> Value {
    let message = message(schemas);
    let max_tokens = told(token_count(), "Most tokens of an answer. It has two names; where both are said they agree.");
    let request = Members::new()
        .must("model", model())
        .must("messages", filled(array(message, limits::MESSAGES_MAX)))
        .may("max_tokens", max_tokens.clone())
        .may("max_completion_tokens", max_tokens)
        .may("logprobs", told(flag(), "The log probability of each token of the answer."))
        .may("top_logprobs", told(integer(0..=limits::TOP_LOGPROBS_MAX), "Beside `logprobs`: those of the likeliest."))
        .may("chat_template_kwargs", template_arguments())
        .and(ending())
        .and(sampling())
        .and(formats())
        .and(chat_tools())
        .and(callers())
        .empty(&["functions"])
        .may("metadata", metadata())
        .may("store", json!({"const": false}))
        .may("service_tier", service_tier())
        .may("modalities", json!({"const": ["text"]}));
    schemas.named("ChatCompletionRequest", request.object())
}

pub(crate) fn chat_answer(schemas: &mut Schemas) -> Value {
    schemas.of::<Whole<'_>>()
}

/// What a `data` line of a stream holds, but for the last, which is `[DONE]`.
pub(crate) fn chat_event(schemas: &mut Schemas) -> Value {
    any_of([schemas.of::<Chunk<'_>>(), schemas.of::<ErrorBody>()])
}

fn message(schemas: &mut Schemas) -> Value {
    let part = Members::new().must("type", json!({"const": "text"})).must("text", any_text()).object();
    let content = any_of([any_text(), filled(array(part, limits::PARTS_MAX))]);
    let content = schemas.named("TextContent", content);
    let call = Members::new().must("name", function_name()).must("arguments", told(any_text(), "JSON text."));
    let call = Members::new()
        .may("type", json!({"const": "function"}))
        .must("id", short_text())
        .must("function", call.object());
    let calls = filled(array(call.object(), limits::TOOL_CALLS_MAX));

    let of = |roles: &[&str]| {
        Members::new()
            .must("role", json!({"type": "string", "enum": roles}))
            .may("name", short_text())
            .may("reasoning_content", told(any_text(), "Of an earlier answer; without effect."))
            .empty(&["refusal", "annotations", "audio", "function_call"])
    };
    let user = of(&["system", "developer", "user"]).must("content", content.clone()).empty(&["tool_calls"]);
    let said = of(&["assistant"]).must("content", content.clone()).empty(&["tool_calls"]);
    let called = of(&["assistant"]).may("content", content.clone()).must("tool_calls", calls);
    let tool = of(&["tool"]).must("tool_call_id", short_text()).must("content", content).empty(&["tool_calls"]);
    schemas.named("ChatMessage", any_of([user.object(), said.object(), called.object(), tool.object()]))
}
