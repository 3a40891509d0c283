//! What came of a request.

use serde::Deserialize;
use serde_json::Value;

/// What came of a request. What it did not come to is empty.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[non_exhaustive]
pub struct Ran {
    /// How it broke off, if it did.
    pub error: Option<Failed>,
    /// The answer's text, as a client has it.
    pub output: String,
    /// The thoughts before it.
    pub reasoning: String,
    /// The calls of tools.
    pub tool_calls: Vec<ToolCall>,
    /// Why it ended: `stop`, `length`, `tool-calls`, `filtered`, `failed`.
    pub finish: String,
    /// What plugins noted.
    pub notes: Vec<(String, String)>,
    /// The request as the policies left it, in `OpenAI`'s form.
    pub request: Option<Value>,
    /// The prompt's text.
    pub prompt: Option<String>,
    /// Its segments: `template "…"`, whose control tokens count, and `content "…"`, whose do not.
    pub segments: Vec<String>,
    /// What the model wrote: its answer, as a plugin that controls tokens left it.
    pub written: String,
    /// What that plugin said, step by step, without what it said again and again.
    pub steps: Vec<String>,
    /// What the plugin used; all zero where it broke its contract.
    #[serde(default, deserialize_with = "or_none")]
    pub used: Used,
    /// What it may use.
    pub limits: Limits,
    /// Ways in which the answer was cut.
    pub chunkings: usize,
    /// What is odd and no failure.
    pub warnings: Vec<String>,
}

/// How a request broke off.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub struct Failed {
    /// `rejected`, `invalid`, or the kind of a fault: `timeout`, `memory`, `trap`, `contract`, `error`, …
    pub kind: String,
    /// For people. Of a rejection and an invalid request: the client's text.
    pub message: String,
    /// HTTP status of a rejection.
    pub status: Option<u16>,
    /// A rejection's code, for programs.
    pub code: Option<String>,
}

/// A call of a tool.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub struct ToolCall {
    /// The function.
    pub name: String,
    /// Its arguments: JSON, if the model is good at it.
    pub arguments: String,
}

/// What a plugin used for a request.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
#[serde(default)]
pub struct Used {
    /// Instructions that it executed, `Plugin::new` included: the same on every machine.
    pub instructions: u64,
    /// The most linear memory that it had.
    pub memory_bytes: usize,
    /// Calls of the host.
    pub host_calls: u32,
    /// The most bytes of one channel that its filter held back.
    pub held_bytes: usize,
}

/// What a plugin may use: the host's defaults, and what its manifest asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub struct Limits {
    /// Linear memory.
    pub memory_bytes: usize,
    /// Text of a channel that a filter may hold back.
    pub held_bytes: usize,
    /// Calls of the host.
    pub host_calls: u32,
}

fn or_none<'de, D: serde::Deserializer<'de>>(used: D) -> Result<Used, D::Error> {
    Option::<Used>::deserialize(used).map(Option::unwrap_or_default)
}
