//! `POST /v1/messages` and `POST /v1/messages/count_tokens`: Anthropic's form.

use serde_json::{Value, json};

use super::super::message::{MessageDelta, MessageError, MessageObject, Start};
use super::sampling::{sampling, stop_texts};
use super::tools::{description, function_name, parameters, text_or_parts, unread};
use super::{
    Members, Schemas, any_of, any_text, array, filled, flag, json_schema, model, one_of_words, short_text, token_count,
    told,
};
use crate::limits;

pub(crate) fn message_request(schemas: &mut Schemas) -> Value {
    let request = request(schemas).must("max_tokens", told(token_count(), "Most tokens of the answer."));
    schemas.named("MessageRequest", request.object())
}

/// What says how the prompt is answered may stand there too.
pub(crate) fn count_tokens_request(schemas: &mut Schemas) -> Value {
    let request = request(schemas).may("max_tokens", token_count());
    schemas.named("CountTokensRequest", request.object())
}

fn request(schemas: &mut Schemas) -> Members {
    let (message, text) = (message(schemas), text_block());
    let blocks = any_of([any_text(), array(text, limits::PARTS_MAX)]);
    let chosen = ["temperature", "top_p", "top_k"];
    let thinking = any_of([
        thinking(&["disabled", "adaptive"]).may("budget_tokens", token_count()).object(),
        thinking(&["enabled"]).must("budget_tokens", token_count()).object(),
    ]);
    let format = Members::new().may("type", json!({"const": "json_schema"})).must("schema", json_schema());
    Members::new()
        .must("model", model())
        .must("messages", told(filled(array(message, limits::MESSAGES_MAX)), "The last is not the model's own."))
        .may("system", blocks)
        .may("stop_sequences", stop_texts())
        .may("stream", told(flag(), "Answers as server-sent events, while the model writes."))
        .and(sampling().into_iter().filter(|(name, _)| chosen.contains(name)))
        .may("tools", array(tool(), limits::TOOLS_MAX))
        .may("tool_choice", tool_choice())
        .may("thinking", thinking)
        .may("output_config", Members::new().may("format", format.object()).object())
        .may("cache_control", cache_control())
        .may("metadata", Members::new().may("user_id", short_text()).object())
        .may("service_tier", one_of_words(&["auto", "standard_only"]))
        .may("speed", json!({"const": "standard"}))
}

fn thinking(kinds: &[&str]) -> Members {
    Members::new().must("type", one_of_words(kinds)).may("display", json!({"const": "summarized"}))
}

fn tool() -> Value {
    let tool = Members::new()
        .must("name", function_name())
        .must("input_schema", parameters())
        .may("type", json!({"const": "custom"}))
        .may("description", description())
        .may("strict", flag())
        .may("cache_control", cache_control())
        .may("eager_input_streaming", flag())
        .may("defer_loading", json!({"const": false}));
    tool.object()
}

fn tool_choice() -> Value {
    let of = |kinds: &[&str]| Members::new().must("type", one_of_words(kinds)).may("disable_parallel_tool_use", flag());
    any_of([of(&["auto", "any", "none"]).object(), of(&["tool"]).must("name", function_name()).object()])
}

/// A mark that changes nothing: beginnings are found again without it.
fn cache_control() -> Value {
    Members::new().may("type", short_text()).may("ttl", short_text()).object()
}

fn block(kind: &str) -> Members {
    Members::new().must("type", json!({"const": kind}))
}

fn text_block() -> Value {
    block("text").must("text", any_text()).may("cache_control", cache_control()).empty(&["citations"]).object()
}

fn message(schemas: &mut Schemas) -> Value {
    let of = |role: &str, content: Vec<Value>| {
        let blocks = filled(array(any_of(content), limits::PARTS_MAX));
        Members::new().must("role", json!({"const": role})).must("content", any_of([any_text(), blocks])).object()
    };
    let result = block("tool_result")
        .must("tool_use_id", short_text())
        .may("content", text_or_parts(text_block()))
        .may("is_error", flag())
        .may("cache_control", cache_control());
    let call = block("tool_use")
        .must("id", short_text())
        .must("name", function_name())
        .must("input", json!({"type": "object"}))
        .may("caller", unread())
        .may("cache_control", cache_control());
    let thought = json!({
        "type": "object",
        "properties": {"type": one_of_words(&["thinking", "redacted_thinking"])},
        "required": ["type"],
        "description": "Of an earlier answer; without effect.",
    });
    let message = any_of([
        of("user", vec![text_block(), result.object()]),
        of("assistant", vec![text_block(), call.object(), thought]),
        of("system", vec![text_block()]),
    ]);
    schemas.named("MessageParam", message)
}

pub(crate) fn message_answer(schemas: &mut Schemas) -> Value {
    schemas.of::<MessageObject<'_>>()
}

/// What the `data` lines of a stream hold. The event's name is its `type`.
pub(crate) fn message_event(schemas: &mut Schemas) -> Value {
    let event = |kind: &str, members: Vec<(&'static str, Value)>| {
        let members =
            members.into_iter().fold(Members::new().must("type", json!({"const": kind})), |event, (name, schema)| {
                event.must(name, schema)
            });
        members.written()
    };
    let index = || json!({"type": "integer", "minimum": 0});
    let begun = any_of([
        block("text").must("text", json!({"const": ""})).written(),
        block("thinking").must("thinking", json!({"const": ""})).must("signature", json!({"const": ""})).written(),
        block("tool_use").must("id", any_text()).must("name", any_text()).must("input", json!({"const": {}})).written(),
    ]);
    let delta = any_of([
        block("text_delta").must("text", any_text()).written(),
        block("thinking_delta").must("thinking", any_text()).written(),
        block("input_json_delta").must("partial_json", any_text()).written(),
    ]);
    let events = [
        schemas.of::<Start<'_>>(),
        event("ping", vec![]),
        event("content_block_start", vec![("index", index()), ("content_block", begun)]),
        event("content_block_delta", vec![("index", index()), ("delta", delta)]),
        event("content_block_stop", vec![("index", index())]),
        schemas.of::<MessageDelta<'_>>(),
        event("message_stop", vec![]),
        schemas.of::<MessageError<'_>>(),
    ];
    schemas.named("MessageEvent", any_of(events))
}
