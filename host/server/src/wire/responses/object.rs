//! The response as an object, which stands in a whole answer and at both ends of a streamed one.

use inference::Usage;
use serde_json::{Value, json};

use super::super::blocks::Block;
use super::super::writer::Head;

/// What a response shows again of its request, as the client said it.
#[derive(Debug, Default)]
pub(super) struct Echo {
    pub(super) instructions: Option<String>,
    pub(super) max_output_tokens: Option<u32>,
    pub(super) metadata: Value,
    pub(super) is_parallel: bool,
    pub(super) temperature: f32,
    pub(super) top_p: f32,
    pub(super) format: Value,
    pub(super) tools: Value,
    pub(super) tool_choice: Value,
}

/// Where a response stands.
#[derive(Default)]
pub(super) struct State {
    pub(super) status: &'static str,
    /// Why there is not more of it.
    pub(super) incomplete: Option<&'static str>,
    /// Code and message.
    pub(super) error: Option<(String, String)>,
    pub(super) usage: Option<Usage>,
}

pub(super) fn response(head: &Head, echo: &Echo, state: &State, output: &[Value]) -> Value {
    let or = |value: &Value, usual: Value| if value.is_null() { usual } else { value.clone() };
    json!({
        "id": format!("resp_{}", head.id),
        "object": "response",
        "created_at": head.created,
        "status": state.status,
        "background": false,
        "error": state.error.as_ref().map(|(code, message)| json!({"code": code, "message": message})),
        "incomplete_details": state.incomplete.map(|reason| json!({"reason": reason})),
        "instructions": echo.instructions,
        "max_output_tokens": echo.max_output_tokens,
        "metadata": or(&echo.metadata, json!({})),
        "model": head.model,
        "output": output,
        "parallel_tool_calls": echo.is_parallel,
        "previous_response_id": null,
        "store": false,
        "temperature": plain(echo.temperature),
        "text": {"format": or(&echo.format, json!({"type": "text"}))},
        "tool_choice": or(&echo.tool_choice, json!("auto")),
        "tools": or(&echo.tools, json!([])),
        "top_p": plain(echo.top_p),
        "truncation": "disabled",
        "usage": state.usage.map(usage),
    })
}

/// A number with the digits that it was written with, not with those of its nearest binary fraction.
fn plain(number: f32) -> f64 {
    number.to_string().parse().unwrap_or_else(|_| number.into())
}

fn usage(usage: Usage) -> Value {
    let Usage { prompt_tokens, completion_tokens, cached_tokens } = usage;
    json!({
        "input_tokens": prompt_tokens,
        "input_tokens_details": {"cached_tokens": cached_tokens},
        "output_tokens": completion_tokens,
        // Tokens of thoughts are not told from others here.
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": u64::from(prompt_tokens) + u64::from(completion_tokens),
    })
}

/// The name of the item at `place`.
pub(super) fn item_id(head: &Head, place: usize, block: &Block) -> String {
    let prefix = match block {
        Block::Reasoning(_) => "rs",
        Block::Text(_) => "msg",
        Block::Call { .. } => "fc",
    };
    format!("{prefix}_{}_{place}", head.id)
}

/// A part of the answer as an item. `is_begun`: what it will be, with nothing in it yet.
pub(super) fn item(id: &str, block: &Block, status: &str, is_begun: bool) -> Value {
    let content = || if is_begun { Vec::new() } else { vec![part(block)] };
    match block {
        Block::Reasoning(_) => {
            json!({"id": id, "type": "reasoning", "summary": [], "content": content(), "status": status})
        }
        Block::Text(_) => {
            json!({"id": id, "type": "message", "role": "assistant", "content": content(), "status": status})
        }
        Block::Call { id: call_id, name, arguments } => {
            let arguments = if is_begun { "" } else { arguments };
            json!({
                "id": id, "type": "function_call", "call_id": call_id, "name": name, "arguments": arguments,
                "status": status,
            })
        }
    }
}

/// The one part of an item that has any.
pub(super) fn part(block: &Block) -> Value {
    match block {
        Block::Reasoning(text) => json!({"type": "reasoning_text", "text": text}),
        Block::Text(text) | Block::Call { arguments: text, .. } => {
            json!({"type": "output_text", "text": text, "annotations": [], "logprobs": []})
        }
    }
}
