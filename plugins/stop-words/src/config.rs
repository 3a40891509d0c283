//! The plugin's `[config]` table.

use serde::Deserialize;

/// What the operator may set; README.md explains each.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// What ends an answer.
    pub phrases: Vec<String>,
    /// Take upper and lower case for the same.
    pub ignore_case: bool,
    /// Find phrases as words of their own only.
    pub whole_words: bool,
    /// Leave the phrase in the answer.
    pub keep: bool,
    /// Which parts of an answer are looked at.
    pub channels: Vec<ChannelName>,
    /// Why the answer ended, as the client is told.
    pub reason: Reason,
}

impl Default for Config {
    fn default() -> Self {
        // Marks of chat templates: small models spell them as text where they should have ended.
        let marks = ["<|im_end|>", "<|im_start|>", "<|endoftext|>", "<|eot_id|>", "<end_of_turn>", "</s>"];
        Self {
            phrases: marks.map(str::to_owned).to_vec(),
            ignore_case: false,
            whole_words: false,
            keep: false,
            channels: vec![ChannelName::Content],
            reason: Reason::Stop,
        }
    }
}

/// A part of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ChannelName {
    /// The answer's text.
    Content,
    /// What the model thought before.
    Reasoning,
    /// The JSON of tool calls.
    ToolArguments,
}

/// What the client is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Reason {
    /// `finish_reason = "stop"`, as if the model had ended by itself.
    Stop,
    /// `finish_reason = "content_filter"`.
    Filtered,
}
