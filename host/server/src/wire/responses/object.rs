//! The response as an object, which stands in a whole answer and at both ends of a streamed one.

use inference::Usage;
use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::super::blocks::Block;
use super::super::writer::Head;

/// What a response shows again of its request, as the client said it: its text, which takes no more than the body did.
#[derive(Debug, Default)]
pub(super) struct Echo {
    pub(super) instructions: Option<String>,
    pub(super) max_output_tokens: Option<u32>,
    pub(super) metadata: Option<Box<RawValue>>,
    pub(super) is_parallel: bool,
    pub(super) temperature: f32,
    pub(super) top_p: f32,
    pub(super) format: Option<Box<RawValue>>,
    pub(super) tools: Option<Box<RawValue>>,
    pub(super) tool_choice: Option<Box<RawValue>>,
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
    /// Ours: what plugins noted, or which of them failed.
    pub(super) outrigger: Option<Value>,
}

/// An event that shows the response.
#[derive(Serialize)]
pub(super) struct ResponseEvent<'a> {
    #[serde(rename = "type")]
    pub(super) kind: &'a str,
    pub(super) sequence_number: u64,
    pub(super) response: &'a ResponseObject<'a>,
}

#[derive(Serialize)]
pub(super) struct ResponseObject<'a> {
    id: String,
    object: &'static str,
    created_at: u64,
    status: &'static str,
    background: bool,
    error: Option<Value>,
    incomplete_details: Option<Value>,
    instructions: Option<&'a str>,
    max_output_tokens: Option<u32>,
    metadata: Shown<'a>,
    model: &'a str,
    output: Vec<Value>,
    parallel_tool_calls: bool,
    previous_response_id: Option<&'static str>,
    store: bool,
    temperature: f64,
    text: Text<'a>,
    tool_choice: Shown<'a>,
    tools: Shown<'a>,
    top_p: f64,
    truncation: &'static str,
    usage: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    outrigger: Option<&'a Value>,
}

#[derive(Serialize)]
struct Text<'a> {
    format: Shown<'a>,
}

/// What the client said, or what goes without saying.
#[derive(Serialize)]
#[serde(untagged)]
enum Shown<'a> {
    Said(&'a RawValue),
    Usual(Value),
}

impl<'a> Shown<'a> {
    fn or(said: Option<&'a RawValue>, usual: Value) -> Self {
        said.map_or(Self::Usual(usual), Self::Said)
    }
}

pub(super) fn response<'a>(head: &'a Head, echo: &'a Echo, state: &'a State, output: Vec<Value>) -> ResponseObject<'a> {
    ResponseObject {
        id: format!("resp_{}", head.id),
        object: "response",
        created_at: head.created,
        status: state.status,
        background: false,
        error: state.error.as_ref().map(|(code, message)| json!({"code": code, "message": message})),
        incomplete_details: state.incomplete.map(|reason| json!({"reason": reason})),
        instructions: echo.instructions.as_deref(),
        max_output_tokens: echo.max_output_tokens,
        metadata: Shown::or(echo.metadata.as_deref(), json!({})),
        model: &head.model,
        output,
        parallel_tool_calls: echo.is_parallel,
        previous_response_id: None,
        store: false,
        temperature: plain(echo.temperature),
        text: Text { format: Shown::or(echo.format.as_deref(), json!({"type": "text"})) },
        tool_choice: Shown::or(echo.tool_choice.as_deref(), json!("auto")),
        tools: Shown::or(echo.tools.as_deref(), json!([])),
        top_p: plain(echo.top_p),
        truncation: "disabled",
        usage: state.usage.map(usage),
        outrigger: state.outrigger.as_ref(),
    }
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
        Block::Call { id: call_id, name, arguments, .. } => {
            let arguments = if is_begun { "" } else { arguments };
            json!({
                "id": id, "type": "function_call", "call_id": call_id, "name": name, "arguments": arguments,
                "status": status,
            })
        }
    }
}

/// How an item stands that nothing more comes to, in an answer that stands like this at its end.
pub(super) fn status_of(block: &Block, end: &'static str) -> &'static str {
    match block {
        Block::Call { is_whole: true, .. } => "completed",
        Block::Call { .. } => "incomplete",
        Block::Reasoning(_) | Block::Text(_) => end,
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
