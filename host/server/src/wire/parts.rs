//! What the answers of several endpoints have in common.

use inference::{Annotations, Finish, Usage};
use schemars::JsonSchema;
use serde::Serialize;

use crate::service::Finished;

/// What ends a stream that came to its end, as with OpenAI.
pub(super) const DONE: &str = "[DONE]";

/// One event of a stream. JSON as we write it has no line break, so one `data` line carries it.
pub(super) fn event(json: &str) -> String {
    format!("data: {json}\n\n")
}

/// One event of a stream whose events have names.
pub(super) fn named_event(name: &str, json: &str) -> String {
    format!("event: {name}\ndata: {json}\n\n")
}

/// Why choices end, in OpenAI's words.
pub(super) const FINISH_REASONS: [&str; 4] = ["stop", "length", "tool_calls", "content_filter"];

/// In a stream nothing says so before the end.
pub(super) fn finish_reasons_or_none() -> Vec<Option<&'static str>> {
    FINISH_REASONS.into_iter().map(Some).chain([None]).collect()
}

/// Why a choice ended: one of [`FINISH_REASONS`].
pub(super) fn finish_reason(finish: Finish) -> &'static str {
    match finish {
        Finish::Stop => "stop",
        Finish::Length => "length",
        Finish::ToolCalls => "tool_calls",
        // A plugin that ends an answer as cancelled or failed withholds the rest too, and OpenAI's clients know no
        // other word for an answer that is shorter than the model's.
        Finish::Filtered | Finish::Cancelled | Finish::Failed => "content_filter",
    }
}

/// With `include_usage` every part of a stream has the member, and all but the last have it as null.
#[derive(Serialize)]
#[serde(untagged)]
pub(super) enum ChunkUsage {
    Unwanted,
    Later,
    Counted(UsageMembers),
}

impl ChunkUsage {
    /// What a part has that is not the last.
    pub(super) fn later(include_usage: bool) -> Self {
        if include_usage { Self::Later } else { Self::Unwanted }
    }

    pub(super) fn is_unwanted(&self) -> bool {
        matches!(self, Self::Unwanted)
    }
}

#[derive(Clone, Copy, Serialize, JsonSchema)]
#[schemars(rename = "Usage")]
pub(super) struct UsageMembers {
    prompt_tokens: u32,
    completion_tokens: u32,
    total_tokens: u64,
    prompt_tokens_details: PromptDetails,
}

#[derive(Clone, Copy, Serialize, JsonSchema)]
#[schemars(rename = "PromptTokensDetails")]
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
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Notes")]
pub(super) struct Notes {
    annotations: Vec<Note>,
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Note")]
struct Note {
    name: String,
    value: String,
    /// On which choice, where there are several.
    #[serde(skip_serializing_if = "Option::is_none")]
    choice: Option<u32>,
}

impl Notes {
    /// What they noted on these of so many choices; `None`: nothing.
    pub(super) fn of<'a>(finished: impl IntoIterator<Item = &'a Finished>, choices: u32) -> Option<Self> {
        let is_one_of_several = choices > 1;
        let annotations: Vec<Note> = finished
            .into_iter()
            .flat_map(|finished| finished.annotations.iter().map(move |note| (finished.choice, note)))
            .map(|(choice, (name, value))| Note {
                name: name.clone(),
                value: value.clone(),
                choice: is_one_of_several.then_some(choice),
            })
            .collect();
        (!annotations.is_empty()).then_some(Self { annotations })
    }

    /// What they noted on a request that was not answered.
    pub(super) fn of_request(annotations: Annotations) -> Option<Self> {
        let note = |(name, value)| Note { name, value, choice: None };
        let annotations: Vec<Note> = annotations.into_iter().map(note).collect();
        (!annotations.is_empty()).then_some(Self { annotations })
    }
}
