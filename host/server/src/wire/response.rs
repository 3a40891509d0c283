//! Answers in OpenAI's form: whole, and in chunks.

use inference::{Delta, Finish, TokenLogprobs, Usage};
use serde::Serialize;

use super::logprobs::Logprobs;
use crate::service::Finished;

/// What all parts of one answer have in common.
#[derive(Debug, Clone)]
pub(crate) struct ChunkWriter {
    pub(crate) id: String,
    pub(crate) created: u64,
    pub(crate) model: String,
    pub(crate) fingerprint: String,
    pub(crate) include_usage: bool,
    /// The client asked for log probabilities.
    pub(crate) has_logprobs: bool,
    /// The answer has to be calls, which have no text.
    pub(crate) is_calls: bool,
    /// How many choices the answer has.
    pub(crate) choices: u32,
}

impl ChunkWriter {
    /// The first chunks: who speaks.
    pub(crate) fn roles(&self) -> String {
        let role = |index| {
            let content = Some(if self.is_calls { Content::None } else { Content::Text("") });
            let delta = ChunkDelta { role: Some("assistant"), content, ..ChunkDelta::default() };
            self.choice(ChunkChoice { index, delta, logprobs: None, finish_reason: None }, None)
        };
        (0..self.choices).map(role).collect()
    }

    pub(crate) fn delta(&self, index: u32, delta: &Delta, logprobs: Vec<TokenLogprobs>) -> String {
        let delta = match delta {
            Delta::Content(text) => ChunkDelta { content: Some(Content::Text(text)), ..ChunkDelta::default() },
            Delta::Reasoning(text) => ChunkDelta { reasoning_content: Some(text), ..ChunkDelta::default() },
            Delta::ToolCallStart { index, id, name } => ChunkDelta {
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
        let logprobs = (self.has_logprobs && !logprobs.is_empty()).then(|| Logprobs::new(logprobs));
        self.choice(ChunkChoice { index, delta, logprobs, finish_reason: None }, None)
    }

    /// The last chunk of a choice and, behind the last of them, the usage where the client asked for it.
    pub(crate) fn finish(&self, finished: &Finished) -> String {
        let choice = ChunkChoice {
            index: finished.choice,
            delta: ChunkDelta::default(),
            logprobs: None,
            finish_reason: Some(finish_reason(finished.finish)),
        };
        let mut text = self.choice(choice, self.notes([finished]));
        if let Some(usage) = finished.usage
            && self.include_usage
        {
            text.push_str(&self.chunk(&[], ChunkUsage::Counted(usage.into()), None));
        }
        text
    }

    fn choice(&self, choice: ChunkChoice<'_>, notes: Option<Notes>) -> String {
        let usage = if self.include_usage { ChunkUsage::Later } else { ChunkUsage::Unwanted };
        self.chunk(&[choice], usage, notes)
    }

    fn chunk(&self, choices: &[ChunkChoice<'_>], usage: ChunkUsage, notes: Option<Notes>) -> String {
        let chunk = Chunk {
            id: &self.id,
            object: "chat.completion.chunk",
            created: self.created,
            model: &self.model,
            system_fingerprint: &self.fingerprint,
            choices,
            usage,
            outrigger: notes,
        };
        event(&serde_json::to_string(&chunk).expect("strings and numbers serialise"))
    }

    /// The whole answer in one object: what each choice came to and how it ended, by index.
    pub(crate) fn whole(&self, choices: Vec<(Collected, Finished)>, usage: Usage) -> String {
        let notes = self.notes(choices.iter().map(|(_, finished)| finished));
        let whole = Whole {
            id: &self.id,
            object: "chat.completion",
            created: self.created,
            model: &self.model,
            system_fingerprint: &self.fingerprint,
            choices: choices.into_iter().map(|(collected, finished)| self.whole_choice(collected, &finished)).collect(),
            usage: usage.into(),
            outrigger: notes,
        };
        serde_json::to_string(&whole).expect("strings and numbers serialise")
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
            logprobs: self.has_logprobs.then(|| Logprobs::new(logprobs)),
            finish_reason: finish_reason(finished.finish),
        }
    }

    fn notes<'a>(&self, finished: impl IntoIterator<Item = &'a Finished>) -> Option<Notes> {
        let is_one_of_several = self.choices > 1;
        let annotations: Vec<Note> = finished
            .into_iter()
            .flat_map(|finished| finished.annotations.iter().map(move |note| (finished.choice, note)))
            .map(|(choice, (name, value))| Note {
                name: name.clone(),
                value: value.clone(),
                choice: is_one_of_several.then_some(choice),
            })
            .collect();
        (!annotations.is_empty()).then_some(Notes { annotations })
    }
}

/// One event of a stream. JSON as we write it has no line break, so one `data` line carries it.
pub(crate) fn event(json: &str) -> String {
    format!("data: {json}\n\n")
}

/// The deltas of an answer, put together.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Collected {
    content: String,
    reasoning: String,
    calls: Vec<Call>,
    logprobs: Vec<TokenLogprobs>,
}

impl Collected {
    pub(crate) fn add(&mut self, delta: Delta, logprobs: Vec<TokenLogprobs>) {
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
        }
    }
}

fn finish_reason(finish: Finish) -> &'static str {
    match finish {
        Finish::Stop => "stop",
        Finish::Length => "length",
        Finish::ToolCalls => "tool_calls",
        // A plugin that ends an answer as cancelled or failed withholds the rest too, and OpenAI's clients know no
        // other word for an answer that is shorter than the model's.
        Finish::Filtered | Finish::Cancelled | Finish::Failed => "content_filter",
    }
}

#[derive(Serialize)]
struct Chunk<'a> {
    id: &'a str,
    object: &'static str,
    created: u64,
    model: &'a str,
    system_fingerprint: &'a str,
    choices: &'a [ChunkChoice<'a>],
    #[serde(skip_serializing_if = "ChunkUsage::is_unwanted")]
    usage: ChunkUsage,
    #[serde(skip_serializing_if = "Option::is_none")]
    outrigger: Option<Notes>,
}

/// With `include_usage` every chunk has the member, and all but the last have it as null.
#[derive(Serialize)]
#[serde(untagged)]
enum ChunkUsage {
    Unwanted,
    Later,
    Counted(UsageMembers),
}

impl ChunkUsage {
    fn is_unwanted(&self) -> bool {
        matches!(self, Self::Unwanted)
    }
}

#[derive(Serialize)]
struct ChunkChoice<'a> {
    index: u32,
    delta: ChunkDelta<'a>,
    logprobs: Option<Logprobs>,
    finish_reason: Option<&'static str>,
}

#[derive(Default, Serialize)]
struct ChunkDelta<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
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

#[derive(Serialize)]
struct CallDelta<'a> {
    index: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    kind: Option<&'static str>,
    function: FunctionDelta<'a>,
}

#[derive(Serialize)]
struct FunctionDelta<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    arguments: &'a str,
}

#[derive(Serialize)]
struct Whole<'a> {
    id: &'a str,
    object: &'static str,
    created: u64,
    model: &'a str,
    system_fingerprint: &'a str,
    choices: Vec<WholeChoice>,
    usage: UsageMembers,
    #[serde(skip_serializing_if = "Option::is_none")]
    outrigger: Option<Notes>,
}

#[derive(Serialize)]
struct WholeChoice {
    index: u32,
    message: WholeMessage,
    logprobs: Option<Logprobs>,
    finish_reason: &'static str,
}

#[derive(Serialize)]
struct WholeMessage {
    role: &'static str,
    content: Option<String>,
    refusal: Option<()>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reasoning_content: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tool_calls: Option<Vec<Call>>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Call {
    id: String,
    #[serde(rename = "type")]
    kind: &'static str,
    function: Function,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Function {
    name: String,
    arguments: String,
}

#[derive(Clone, Copy, Serialize)]
struct UsageMembers {
    prompt_tokens: u32,
    completion_tokens: u32,
    total_tokens: u64,
    prompt_tokens_details: PromptDetails,
}

#[derive(Clone, Copy, Serialize)]
struct PromptDetails {
    cached_tokens: u32,
}

impl From<Usage> for UsageMembers {
    fn from(usage: Usage) -> Self {
        let Usage { prompt_tokens, completion_tokens, cached_tokens } = usage;
        Self {
            prompt_tokens,
            completion_tokens,
            total_tokens: u64::from(prompt_tokens) + u64::from(completion_tokens),
            prompt_tokens_details: PromptDetails { cached_tokens },
        }
    }
}

/// Ours: what the plugins noted on this answer. A list, since two plugins may use the same name.
#[derive(Serialize)]
struct Notes {
    annotations: Vec<Note>,
}

#[derive(Serialize)]
struct Note {
    name: String,
    value: String,
    /// On which choice, where there are several.
    #[serde(skip_serializing_if = "Option::is_none")]
    choice: Option<u32>,
}
