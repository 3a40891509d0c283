//! The events of a streamed response, as `responses::writer` writes them.

use serde_json::{Value, json};

use super::response::{output_item, output_text, reasoning_text};
use super::{Members, Schemas, any_of, any_text, or_null, response_answer};

/// What the `data` lines of a stream hold. The event's name is its `type`.
pub(crate) fn response_event(schemas: &mut Schemas) -> Value {
    let count = || json!({"type": "integer", "minimum": 0});
    let of = |kind: &str| Members::new().must("type", json!({"const": kind})).must("sequence_number", count());
    let place = |kind: &str| of(kind).must("item_id", any_text()).must("output_index", count());
    let in_part = |kind: &str| place(kind).must("content_index", count());
    let none = || json!({"type": "array", "maxItems": 0});
    let (response, item) = (response_answer(schemas), output_item(schemas));
    let part = any_of([output_text(), reasoning_text()]);

    let whole = ["created", "in_progress", "completed", "incomplete", "failed"]
        .map(|state| of(&format!("response.{state}")).must("response", response.clone()));
    let items = ["added", "done"]
        .map(|end| of(&format!("response.output_item.{end}")).must("output_index", count()).must("item", item.clone()));
    let parts =
        ["added", "done"].map(|end| in_part(&format!("response.content_part.{end}")).must("part", part.clone()));
    let texts = [
        in_part("response.output_text.delta").must("delta", any_text()).must("logprobs", none()),
        in_part("response.output_text.done").must("text", any_text()).must("logprobs", none()),
        in_part("response.reasoning_text.delta").must("delta", any_text()),
        in_part("response.reasoning_text.done").must("text", any_text()),
        place("response.function_call_arguments.delta").must("delta", any_text()),
        place("response.function_call_arguments.done").must("name", any_text()).must("arguments", any_text()),
    ];
    let error = of("error").must("code", any_text()).must("message", any_text()).must("param", or_null(any_text()));
    let events = whole.into_iter().chain(items).chain(parts).chain(texts).chain([error]);
    schemas.named("ResponseEvent", any_of(events.map(Members::written).collect::<Vec<_>>()))
}
