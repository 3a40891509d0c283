//! `POST /v1/responses`.

use serde_json::{Value, json};

use super::sampling::sampling;
use super::tools::{callers, function_name, named_schema, response_tools, service_tier, template_arguments, unread};
use super::{
    Members, Schemas, any_of, any_text, array, filled, flag, json_schema, metadata, model, one_of_words, or_null,
    short_text, token_count, told,
};
use crate::limits;

pub(crate) fn response_request(schemas: &mut Schemas) -> Value {
    let item = item(schemas);
    let format = |kind: &str| named_schema().must("type", json!({"const": kind}));
    let format = any_of([
        format("text").object(),
        format("json_object").object(),
        format("json_schema").must("schema", json_schema()).object(),
    ]);
    let options = Members::new().may("include_obfuscation", json!({"const": false}));
    let nothing = || json!({"enum": ["", [], {}], "description": "Taken as long as it asks for nothing."});
    let request = Members::new()
        .must("model", model())
        .must("input", any_of([any_text(), filled(array(item, limits::MESSAGES_MAX))]))
        .may("instructions", told(any_text(), "A system message before all others."))
        .may("max_output_tokens", told(token_count(), "Most tokens of the answer."))
        .may("stream", told(flag(), "Answers as server-sent events, while the model writes."))
        .may("stream_options", options.object())
        .and(response_tools())
        .may("text", Members::new().may("format", format).object())
        .may("metadata", metadata())
        .may("chat_template_kwargs", template_arguments())
        .and(sampling())
        .and(callers())
        .may("store", told(json!({"const": false}), "Nothing is stored."))
        .may("background", json!({"const": false}))
        .may("service_tier", service_tier())
        .may("truncation", json!({"const": "disabled"}))
        .may("top_logprobs", json!({"const": 0}))
        .may("include", nothing())
        .may("reasoning", any_of([nothing(), json!({"type": "object", "properties": {"effort": {"enum": ["medium", null]}}, "additionalProperties": {"type": "null"}})]));
    schemas.named("ResponseRequest", request.object())
}

fn item(schemas: &mut Schemas) -> Value {
    let part = Members::new()
        .must("type", one_of_words(&["input_text", "output_text", "text"]))
        .must("text", any_text())
        .empty(&["annotations", "logprobs"]);
    let texts = schemas.named("ResponseText", any_of([any_text(), array(part.object(), limits::PARTS_MAX)]));
    // What answers carry, and clients send back.
    let of = |members: &[&'static str]| members.iter().fold(Members::new(), |of, name| of.may(name, unread()));
    let message = of(&["id", "status", "phase"])
        .may("type", json!({"const": "message"}))
        .must("role", one_of_words(&["user", "assistant", "system", "developer"]))
        .must("content", texts.clone());
    let call = of(&["id", "status", "caller"])
        .must("type", json!({"const": "function_call"}))
        .must("call_id", short_text())
        .must("name", function_name())
        .must("arguments", told(any_text(), "JSON text."));
    let output = of(&["id", "status", "caller"])
        .must("type", json!({"const": "function_call_output"}))
        .must("call_id", short_text())
        .must("output", texts);
    let thought = json!({
        "type": "object",
        "properties": {"type": {"const": "reasoning"}},
        "required": ["type"],
        "description": "Of an earlier answer; without effect.",
    });
    schemas.named("ResponseInputItem", any_of([message.object(), call.object(), output.object(), thought]))
}

/// The response as `responses::object` writes it.
pub(crate) fn response_answer(schemas: &mut Schemas) -> Value {
    let (output, notes) = (output_item(schemas), schemas.of::<super::super::parts::Notes>());
    let fault = schemas.of::<super::super::PluginFault>();
    let count = || json!({"type": "integer", "minimum": 0});
    let counts = |names: &[&'static str]| names.iter().fold(Members::new(), |of, name| of.must(name, count()));
    let usage = counts(&["input_tokens", "output_tokens", "total_tokens"])
        .must("input_tokens_details", counts(&["cached_tokens"]).written())
        .must("output_tokens_details", counts(&["reasoning_tokens"]).written());
    let error = Members::new().must("code", any_text()).must("message", any_text());
    let reason = Members::new().must("reason", one_of_words(&["max_output_tokens", "content_filter"]));
    let shown = || told(json!({}), "As the request has it.");
    let response = Members::new()
        .must("id", any_text())
        .must("object", json!({"const": "response"}))
        .must("created_at", count())
        .must("status", one_of_words(&["in_progress", "completed", "incomplete", "failed"]))
        .must("background", json!({"const": false}))
        .must("error", or_null(error.written()))
        .must("incomplete_details", or_null(reason.written()))
        .must("instructions", or_null(any_text()))
        .must("max_output_tokens", or_null(count()))
        .must("metadata", json!({"type": "object"}))
        .must("model", any_text())
        .must("output", json!({"type": "array", "items": output}))
        .must("parallel_tool_calls", flag())
        .must("previous_response_id", json!({"type": "null"}))
        .must("store", json!({"const": false}))
        .must("temperature", json!({"type": "number"}))
        .must("text", Members::new().must("format", json!({"type": "object"})).written())
        .must("tool_choice", shown())
        .must("tools", json!({"type": "array", "description": "As the request has them."}))
        .must("top_p", json!({"type": "number"}))
        .must("truncation", json!({"const": "disabled"}))
        .must("usage", or_null(usage.written()))
        .may("outrigger", any_of([notes, fault]));
    schemas.named("Response", response.written())
}

/// What a response is made of.
pub(super) fn output_item(schemas: &mut Schemas) -> Value {
    let status = || one_of_words(&["in_progress", "completed", "incomplete"]);
    let of = |kind: &str| {
        Members::new().must("id", any_text()).must("type", json!({"const": kind})).must("status", status())
    };
    let parts = |part: Value| json!({"type": "array", "items": part, "maxItems": 1});
    let message = of("message").must("role", json!({"const": "assistant"})).must("content", parts(output_text()));
    let thought = of("reasoning")
        .must("summary", json!({"type": "array", "maxItems": 0}))
        .must("content", parts(reasoning_text()));
    let call = of("function_call")
        .must("call_id", any_text())
        .must("name", any_text())
        .must("arguments", told(any_text(), "JSON text."));
    schemas.named("ResponseOutputItem", any_of([message.written(), thought.written(), call.written()]))
}

pub(super) fn output_text() -> Value {
    let none = || json!({"type": "array", "maxItems": 0});
    let part = Members::new()
        .must("type", json!({"const": "output_text"}))
        .must("text", any_text())
        .must("annotations", none())
        .must("logprobs", none());
    part.written()
}

pub(super) fn reasoning_text() -> Value {
    Members::new().must("type", json!({"const": "reasoning_text"})).must("text", any_text()).written()
}
