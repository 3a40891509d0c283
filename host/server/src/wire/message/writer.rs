//! Answers in Anthropic's form: blocks one after the other, whole or as they come.

use inference::{Delta, Finish, TokenLogprobs, Usage};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::super::ErrorBody;
use super::super::blocks::{Added, Block, Blocks};
use super::super::parts::{Notes, named_event};
use super::super::writer::{Head, Writer};
use super::message_error;
use crate::service::Finished;

/// Writes an answer to `POST /v1/messages`.
pub(super) struct MessageWriter {
    head: Head,
    blocks: Blocks,
    /// The block that a stream has begun and not ended.
    open: Option<usize>,
}

impl MessageWriter {
    pub(super) fn new(head: Head) -> Self {
        Self { head, blocks: Blocks::default(), open: None }
    }

    fn message<'a>(
        &'a self,
        content: Vec<BlockObject<'a>>,
        end: Option<&'a Finished>,
        usage: UsageObject,
    ) -> MessageObject<'a> {
        MessageObject {
            id: format!("msg_{}", self.head.id),
            kind: "message",
            role: "assistant",
            model: &self.head.model,
            content,
            stop_reason: end.map(stop_reason),
            stop_sequence: end.and_then(|end| end.stop_text.as_deref()),
            usage,
            outrigger: end.and_then(|end| Notes::of([end], 1)),
        }
    }

    fn close(&mut self) -> String {
        let Some(place) = self.open.take() else { return String::new() };
        event("content_block_stop", &json!({"type": "content_block_stop", "index": place}))
    }

    /// More of a block, or another one.
    fn added(&mut self, Added { place, is_new, text }: Added) -> String {
        let mut events = String::new();
        if is_new {
            events += &self.close();
            self.open = Some(place);
            let empty = match &self.blocks.as_slice()[place] {
                Block::Reasoning(_) => json!({"type": "thinking", "thinking": "", "signature": ""}),
                Block::Text(_) => json!({"type": "text", "text": ""}),
                Block::Call { id, name, .. } => json!({"type": "tool_use", "id": id, "name": name, "input": {}}),
            };
            let start = json!({"type": "content_block_start", "index": place, "content_block": empty});
            events += &event("content_block_start", &start);
        }
        if !text.is_empty() {
            let delta = match &self.blocks.as_slice()[place] {
                Block::Reasoning(_) => json!({"type": "thinking_delta", "thinking": text}),
                Block::Text(_) => json!({"type": "text_delta", "text": text}),
                Block::Call { .. } => json!({"type": "input_json_delta", "partial_json": text}),
            };
            let delta = json!({"type": "content_block_delta", "index": place, "delta": delta});
            events += &event("content_block_delta", &delta);
        }
        events
    }
}

impl Writer for MessageWriter {
    fn begin(&mut self) -> String {
        let usage = UsageObject::of(Usage { prompt_tokens: self.head.prompt_tokens, ..Usage::default() });
        let start = Start { kind: "message_start", message: self.message(Vec::new(), None, usage) };
        event("message_start", &start) + self.ping()
    }

    fn delta(&mut self, _choice: u32, delta: Delta, _logprobs: Vec<TokenLogprobs>) -> String {
        let added = self.blocks.add(delta);
        added.into_iter().map(|added| self.added(added)).collect()
    }

    fn finish(&mut self, finished: &Finished) -> String {
        let mut events: String = self.blocks.end().into_iter().map(|added| self.added(added)).collect();
        events += &self.close();
        let end = End { stop_reason: stop_reason(finished), stop_sequence: finished.stop_text.as_deref() };
        let delta = MessageDelta {
            kind: "message_delta",
            delta: end,
            usage: UsageObject::of(finished.usage.unwrap_or_default()),
            outrigger: Notes::of([finished], 1),
        };
        events += &event("message_delta", &delta);
        events + &event("message_stop", &json!({"type": "message_stop"}))
    }

    fn failed(&mut self, status: u16, error: &ErrorBody) -> String {
        named_event("error", &message_error(status, error, &self.head.id))
    }

    fn ping(&self) -> &'static str {
        "event: ping\ndata: {\"type\":\"ping\"}\n\n"
    }

    fn collect(&mut self, _choice: u32, delta: Delta, _logprobs: Vec<TokenLogprobs>) {
        self.blocks.add(delta);
    }

    fn whole(&mut self, finished: &[Finished], usage: Usage) -> String {
        self.blocks.end();
        let content = self.blocks.as_slice().iter().map(BlockObject::of).collect();
        let message = self.message(content, finished.first(), UsageObject::of(usage));
        serde_json::to_string(&message).expect("strings and numbers serialise")
    }
}

fn event(name: &str, data: &impl Serialize) -> String {
    named_event(name, &serde_json::to_string(data).expect("strings and numbers serialise"))
}

/// Why answers end, in Anthropic's words.
const STOP_REASONS: [&str; 5] = ["end_turn", "stop_sequence", "max_tokens", "tool_use", "refusal"];

/// At the beginning of a stream nothing says so.
fn stop_reasons_or_none() -> Vec<Option<&'static str>> {
    STOP_REASONS.into_iter().map(Some).chain([None]).collect()
}

/// One of [`STOP_REASONS`].
fn stop_reason(finished: &Finished) -> &'static str {
    match finished.finish {
        Finish::Stop if finished.stop_text.is_some() => "stop_sequence",
        Finish::Stop => "end_turn",
        Finish::Length => "max_tokens",
        Finish::ToolCalls => "tool_use",
        // Withheld by a plugin: of this form's words the one for an answer that is shorter than the model's.
        Finish::Filtered | Finish::Cancelled | Finish::Failed => "refusal",
    }
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "MessageStart")]
pub(in crate::wire) struct Start<'a> {
    #[serde(rename = "type")]
    #[schemars(extend("const" = "message_start"))]
    kind: &'static str,
    message: MessageObject<'a>,
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Message")]
pub(in crate::wire) struct MessageObject<'a> {
    id: String,
    #[serde(rename = "type")]
    #[schemars(extend("const" = "message"))]
    kind: &'static str,
    #[schemars(extend("const" = "assistant"))]
    role: &'static str,
    model: &'a str,
    content: Vec<BlockObject<'a>>,
    #[schemars(extend("enum" = stop_reasons_or_none()))]
    stop_reason: Option<&'static str>,
    stop_sequence: Option<&'a str>,
    usage: UsageObject,
    #[serde(skip_serializing_if = "Option::is_none")]
    outrigger: Option<Notes>,
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "ContentBlock")]
#[serde(tag = "type", rename_all = "snake_case")]
enum BlockObject<'a> {
    Thinking {
        thinking: &'a str,
        signature: &'static str,
    },
    Text {
        text: &'a str,
    },
    ToolUse {
        id: &'a str,
        name: &'a str,
        #[schemars(with = "serde_json::Map<String, Value>")]
        input: Input<'a>,
    },
}

/// A call's arguments: the object that they are, or, where the answer was cut short within them, none.
#[derive(Serialize)]
#[serde(untagged)]
enum Input<'a> {
    Whole(&'a RawValue),
    None(Value),
}

impl<'a> BlockObject<'a> {
    fn of(block: &'a Block) -> Self {
        match block {
            // Nobody signs thoughts here, and nobody asks for the signature when they come back.
            Block::Reasoning(text) => Self::Thinking { thinking: text, signature: "" },
            Block::Text(text) => Self::Text { text },
            Block::Call { id, name, arguments, .. } => {
                let whole = serde_json::from_str::<&RawValue>(arguments.trim()).ok();
                let whole = whole.filter(|json| json.get().starts_with('{'));
                Self::ToolUse { id, name, input: whole.map_or_else(|| Input::None(json!({})), Input::Whole) }
            }
        }
    }
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "MessageDelta")]
pub(in crate::wire) struct MessageDelta<'a> {
    #[serde(rename = "type")]
    #[schemars(extend("const" = "message_delta"))]
    kind: &'static str,
    delta: End<'a>,
    usage: UsageObject,
    #[serde(skip_serializing_if = "Option::is_none")]
    outrigger: Option<Notes>,
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "MessageEnd")]
struct End<'a> {
    #[schemars(extend("enum" = STOP_REASONS))]
    stop_reason: &'static str,
    stop_sequence: Option<&'a str>,
}

/// Tokens as Anthropic counts them: those of the prompt that were computed, and beside them those that were kept.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "MessageUsage")]
#[expect(clippy::struct_field_names, reason = "Anthropic's names")]
struct UsageObject {
    input_tokens: u32,
    cache_creation_input_tokens: u32,
    cache_read_input_tokens: u32,
    output_tokens: u32,
}

impl UsageObject {
    fn of(usage: Usage) -> Self {
        Self {
            input_tokens: usage.prompt_tokens.saturating_sub(usage.cached_tokens),
            cache_creation_input_tokens: 0,
            cache_read_input_tokens: usage.cached_tokens,
            output_tokens: usage.completion_tokens,
        }
    }
}
