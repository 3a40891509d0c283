//! Answers in OpenAI's form: whole, and in chunks.

use inference::{Delta, TokenLogprobs, Usage};
use schemars::JsonSchema;
use serde::Serialize;

use super::ErrorBody;
use super::logprobs::Logprobs;
use super::parts::{
    ChunkUsage, DONE, FINISH_REASONS, Notes, UsageMembers, event, finish_reason, finish_reasons_or_none,
};
use super::writer::{Head, Writer};
use crate::service::Finished;

/// How the client wants its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ChatForm {
    /// `stream_options.include_usage`.
    pub(crate) include_usage: bool,
    /// The client asked for log probabilities.
    pub(crate) has_logprobs: bool,
    /// The answer has to be calls, which have no text.
    pub(crate) is_calls: bool,
    /// How many choices the answer has.
    pub(crate) choices: u32,
}

/// Writes an answer to `POST /v1/chat/completions`.
pub(crate) struct ChunkWriter {
    head: Head,
    form: ChatForm,
    id: String,
    collected: Vec<Collected>,
}

impl ChunkWriter {
    pub(crate) fn new(head: Head, form: ChatForm) -> Self {
        let id = format!("chatcmpl-{}", head.id);
        Self { head, form, id, collected: Vec::new() }
    }

    fn choice(&self, choice: ChunkChoice<'_>, notes: Option<Notes>) -> String {
        self.chunk(&[choice], ChunkUsage::later(self.form.include_usage), notes)
    }

    fn chunk(&self, choices: &[ChunkChoice<'_>], usage: ChunkUsage, notes: Option<Notes>) -> String {
        let chunk = Chunk {
            id: &self.id,
            object: "chat.completion.chunk",
            created: self.head.created,
            model: &self.head.model,
            system_fingerprint: &self.head.fingerprint,
            choices,
            usage,
            outrigger: notes,
        };
        event(&serde_json::to_string(&chunk).expect("strings and numbers serialise"))
    }

    fn whole_choice(&self, collected: Collected, finished: &Finished) -> WholeChoice {
        let Collected { content, reasoning, calls, logprobs } = collected;
        WholeChoice {
            index: finished.choice,
            message: WholeMessage {
                role: "assistant",
                // As with OpenAI: an answer that is only calls has no content.
                content: (!content.is_empty() || calls.is_empty()).then_some(content),
                refusal: None,
                reasoning_content: (!reasoning.is_empty()).then_some(reasoning),
                tool_calls: (!calls.is_empty()).then_some(calls),
            },
            logprobs: self.form.has_logprobs.then(|| Logprobs::new(logprobs)),
            finish_reason: finish_reason(finished.finish),
        }
    }
}

impl Writer for ChunkWriter {
    /// Who speaks.
    fn begin(&mut self) -> String {
        let role = |index| {
            let content = Some(if self.form.is_calls { Content::None } else { Content::Text("") });
            let delta = ChunkDelta { role: Some("assistant"), content, ..ChunkDelta::default() };
            self.choice(ChunkChoice { index, delta, logprobs: None, finish_reason: None }, None)
        };
        (0..self.form.choices).map(role).collect()
    }

    fn delta(&mut self, index: u32, delta: Delta, logprobs: Vec<TokenLogprobs>) -> String {
        let delta = match &delta {
            // Here a call has no end of its own.
            Delta::ToolCallEnd { .. } => return String::new(),
            Delta::Content(text) => ChunkDelta { content: Some(Content::Text(text)), ..ChunkDelta::default() },
            Delta::Reasoning(text) => ChunkDelta { reasoning_content: Some(text), ..ChunkDelta::default() },
            Delta::ToolCallStart { index, id, name, .. } => ChunkDelta {
                tool_calls: Some([CallDelta {
                    index: *index,
                    id: Some(id),
                    kind: Some("function"),
                    function: FunctionDelta { name: Some(name), arguments: "" },
                }]),
                ..ChunkDelta::default()
            },
            Delta::ToolArguments { index, text } => ChunkDelta {
                tool_calls: Some([CallDelta {
                    index: *index,
                    id: None,
                    kind: None,
                    function: FunctionDelta { name: None, arguments: text },
                }]),
                ..ChunkDelta::default()
            },
        };
        let logprobs = (self.form.has_logprobs && !logprobs.is_empty()).then(|| Logprobs::new(logprobs));
        self.choice(ChunkChoice { index, delta, logprobs, finish_reason: None }, None)
    }

    /// The last chunk of a choice and, behind the last of them, the usage where the client asked for it.
    fn finish(&mut self, finished: &Finished) -> String {
        let choice = ChunkChoice {
            index: finished.choice,
            delta: ChunkDelta::default(),
            logprobs: None,
            finish_reason: Some(finish_reason(finished.finish)),
        };
        let mut text = self.choice(choice, Notes::of([finished], self.form.choices));
        if let Some(usage) = finished.usage {
            if self.form.include_usage {
                text.push_str(&self.chunk(&[], ChunkUsage::Counted(usage.into()), None));
            }
            text.push_str(&event(DONE));
        }
        text
    }

    fn failed(&mut self, _status: u16, error: &ErrorBody) -> String {
        event(&error.json())
    }

    fn collect(&mut self, choice: u32, delta: Delta, logprobs: Vec<TokenLogprobs>) {
        self.collected.resize_with(self.form.choices as usize, Collected::default);
        self.collected[choice as usize].add(delta, logprobs);
    }

    fn whole(&mut self, finished: &[Finished], usage: Usage) -> String {
        self.collected.resize_with(self.form.choices as usize, Collected::default);
        let collected = std::mem::take(&mut self.collected);
        let whole = Whole {
            id: &self.id,
            object: "chat.completion",
            created: self.head.created,
            model: &self.head.model,
            system_fingerprint: &self.head.fingerprint,
            choices: finished.iter().zip(collected).map(|(end, said)| self.whole_choice(said, end)).collect(),
            usage: usage.into(),
            outrigger: Notes::of(finished, self.form.choices),
        };
        serde_json::to_string(&whole).expect("strings and numbers serialise")
    }
}

/// The deltas of an answer, put together.
#[derive(Debug, Clone, Default, PartialEq)]
struct Collected {
    content: String,
    reasoning: String,
    calls: Vec<Call>,
    logprobs: Vec<TokenLogprobs>,
}

impl Collected {
    fn add(&mut self, delta: Delta, logprobs: Vec<TokenLogprobs>) {
        self.logprobs.extend(logprobs);
        match delta {
            Delta::Content(text) => self.content.push_str(&text),
            Delta::Reasoning(text) => self.reasoning.push_str(&text),
            Delta::ToolCallStart { id, name, .. } => {
                let function = Function { name, arguments: String::new() };
                self.calls.push(Call { id, kind: "function", function });
            }
            Delta::ToolArguments { index, text } => {
                let call = usize::try_from(index).ok().and_then(|index| self.calls.get_mut(index));
                if let Some(call) = call {
                    call.function.arguments.push_str(&text);
                }
            }
            Delta::ToolCallEnd { .. } => {}
        }
    }
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "ChatCompletionChunk")]
pub(super) struct Chunk<'a> {
    id: &'a str,
    #[schemars(extend("const" = "chat.completion.chunk"))]
    object: &'static str,
    created: u64,
    model: &'a str,
    system_fingerprint: &'a str,
    choices: &'a [ChunkChoice<'a>],
    #[serde(skip_serializing_if = "ChunkUsage::is_unwanted")]
    #[schemars(with = "Option<UsageMembers>")]
    usage: ChunkUsage,
    #[serde(skip_serializing_if = "Option::is_none")]
    outrigger: Option<Notes>,
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "ChatCompletionChunkChoice")]
struct ChunkChoice<'a> {
    index: u32,
    delta: ChunkDelta<'a>,
    logprobs: Option<Logprobs>,
    #[schemars(extend("enum" = finish_reasons_or_none()))]
    finish_reason: Option<&'static str>,
}

#[derive(Default, Serialize, JsonSchema)]
#[schemars(rename = "ChatCompletionDelta")]
struct ChunkDelta<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("const" = "assistant"))]
    role: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    content: Option<Content<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reasoning_content: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_calls: Option<[CallDelta<'a>; 1]>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Content<'a> {
    Text(&'a str),
    /// `null`: there will be none.
    None,
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "ToolCallDelta")]
struct CallDelta<'a> {
    index: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    #[schemars(extend("const" = "function"))]
    kind: Option<&'static str>,
    function: FunctionDelta<'a>,
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "FunctionDelta")]
struct FunctionDelta<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    arguments: &'a str,
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "ChatCompletion")]
pub(super) struct Whole<'a> {
    id: &'a str,
    #[schemars(extend("const" = "chat.completion"))]
    object: &'static str,
    created: u64,
    model: &'a str,
    system_fingerprint: &'a str,
    choices: Vec<WholeChoice>,
    usage: UsageMembers,
    #[serde(skip_serializing_if = "Option::is_none")]
    outrigger: Option<Notes>,
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "ChatCompletionChoice")]
struct WholeChoice {
    index: u32,
    message: WholeMessage,
    logprobs: Option<Logprobs>,
    #[schemars(extend("enum" = FINISH_REASONS))]
    finish_reason: &'static str,
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "ChatCompletionMessage")]
struct WholeMessage {
    #[schemars(extend("const" = "assistant"))]
    role: &'static str,
    content: Option<String>,
    refusal: Option<()>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reasoning_content: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_calls: Option<Vec<Call>>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(rename = "ToolCall")]
struct Call {
    id: String,
    #[serde(rename = "type")]
    #[schemars(extend("const" = "function"))]
    kind: &'static str,
    function: Function,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[schemars(rename = "Function")]
struct Function {
    name: String,
    arguments: String,
}
