//! A chat request as the house knows it: parsed, bounded and checked at the door.

use std::fmt;
use std::sync::Arc;

use crate::{OutputFormat, Token};

/// Names one request in logs, replies, plugins and history. Opaque; made by `server`.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct RequestId(Arc<str>);

impl RequestId {
    /// Wraps an identifier that is already unique.
    pub fn new(id: impl Into<Arc<str>>) -> Self {
        Self(id.into())
    }

    /// The identifier as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A conversation to continue.
#[derive(Debug, Clone, PartialEq)]
pub struct ChatRequest {
    /// Whether it is a conversation at all.
    pub operation: Operation,
    /// The model's name as the client wrote it.
    pub model: String,
    /// The conversation, oldest message first; never empty.
    pub messages: Vec<Message>,
    /// Functions that the model may call.
    pub tools: Vec<Tool>,
    /// Which calls the answer may hold. What names a function names one of `tools`.
    pub tool_choice: ToolChoice,
    /// Whether an answer may hold more than one call.
    pub parallel_tool_calls: bool,
    /// How the next token is chosen.
    pub sampling: Sampling,
    /// Most tokens of the completion; `None`: as many as the context still holds.
    pub max_tokens: Option<u32>,
    /// Texts that end the completion; none of them is part of the answer.
    pub stop: Vec<String>,
    /// Tokens that end the completion; none of them is part of the answer.
    pub stop_tokens: Vec<Token>,
    /// Go on when the model says it has finished: for benches.
    pub ignore_end: bool,
    /// Tell the log probability of every token of the answer, and those of so many likeliest ones in its place; at most
    /// 20. `None`: none.
    pub logprobs: Option<u32>,
    /// The form that the answer must have; `None`: any text.
    pub format: Option<OutputFormat>,
    /// Whether the client asked for a stream. Plugins are told; nothing else depends on it.
    pub streaming: bool,
    /// `chat_template_kwargs` of the request: a JSON object that the template sees as variables.
    pub template_arguments: String,
}

impl ChatRequest {
    /// A conversation to continue, buffered, with defaults for everything else.
    pub fn new(model: impl Into<String>, messages: Vec<Message>) -> Self {
        Self {
            operation: Operation::Chat,
            model: model.into(),
            messages,
            tools: Vec::new(),
            tool_choice: ToolChoice::Auto,
            parallel_tool_calls: true,
            sampling: Sampling::default(),
            max_tokens: None,
            stop: Vec::new(),
            stop_tokens: Vec::new(),
            ignore_end: false,
            logprobs: None,
            format: None,
            streaming: false,
            template_arguments: "{}".to_owned(),
        }
    }

    /// The text of a request's one message, where it is one that a user wrote and that is nothing but text: the only thing
    /// that [`Operation::Completion`] can complete.
    #[must_use]
    pub fn raw_prompt(&self) -> Option<String> {
        let [Message { role: Role::User, parts, .. }] = self.messages.as_slice() else { return None };
        let mut prompt = String::new();
        for part in parts {
            let Part::Text(text) = part else { return None };
            prompt.push_str(text);
        }
        Some(prompt)
    }

    /// The functions that the model is told of.
    #[must_use]
    pub fn tools_offered(&self) -> &[Tool] {
        if self.tool_choice == ToolChoice::None { &[] } else { &self.tools }
    }

    /// What the request asks of its calls that only a grammar can promise, by the member that says so.
    #[must_use]
    pub fn calls_to_enforce(&self) -> Option<&'static str> {
        let tools = self.tools_offered();
        match self.tool_choice {
            ToolChoice::Required | ToolChoice::Named(_) => Some("tool_choice"),
            ToolChoice::Auto if tools.iter().any(|tool| tool.strict) => Some("tools"),
            ToolChoice::Auto if !tools.is_empty() && !self.parallel_tool_calls => Some("parallel_tool_calls"),
            ToolChoice::Auto | ToolChoice::None => None,
        }
    }
}

/// What is to be done with the messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Operation {
    /// A template makes a prompt of them, and a parser reads the answer.
    Chat,
    /// The text of the only one is the prompt, as it stands, and what the model adds is the answer. It is a user's message,
    /// so that whoever judges what users say judges it too.
    Completion,
}

/// One message of a conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Who speaks.
    pub role: Role,
    /// The speaker's name, where the client gave one.
    pub name: Option<String>,
    /// What is said, in order.
    pub parts: Vec<Part>,
}

impl Message {
    /// A message of one text.
    pub fn text(role: Role, text: impl Into<String>) -> Self {
        Self { role, name: None, parts: vec![Part::Text(text.into())] }
    }
}

/// Who speaks in a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// Instructions of the application.
    System,
    /// What newer `OpenAI` models call `system`.
    Developer,
    /// The person.
    User,
    /// The model.
    Assistant,
    /// The result of a tool call.
    Tool,
}

impl Role {
    /// The role's name on the wire and in templates.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::Developer => "developer",
            Self::User => "user",
            Self::Assistant => "assistant",
            Self::Tool => "tool",
        }
    }
}

/// A part of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// Text.
    Text(String),
    /// A call that the model made earlier in the conversation.
    ToolCall(ToolCall),
    /// What such a call returned.
    ToolResult(ToolResult),
}

/// A function call made by the model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToolCall {
    /// Identifier that the result refers to.
    pub id: String,
    /// The function's name.
    pub name: String,
    /// Arguments as JSON text.
    pub arguments_json: String,
}

/// The result of a function call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToolResult {
    /// Identifier of the call.
    pub id: String,
    /// What the function returned.
    pub content: String,
    /// Whether the function failed.
    pub failed: bool,
}

/// A function that the model may call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tool {
    /// The function's name.
    pub name: String,
    /// What it does, for the model.
    pub description: Option<String>,
    /// JSON Schema of its arguments: an object.
    pub schema_json: String,
    /// Whether the arguments of every call have to be what the schema says.
    pub strict: bool,
}

impl Tool {
    /// Whether a function may have this name: one to 64 letters, digits, underscores and hyphens, as at `OpenAI`.
    #[must_use]
    pub fn is_name(name: &str) -> bool {
        (1..=64).contains(&name.len())
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'))
    }
}

/// Which calls an answer may hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ToolChoice {
    /// As the model likes.
    Auto,
    /// None: the model is not told of any function.
    None,
    /// At least one.
    Required,
    /// One, of this function.
    Named(String),
}

/// How the next token is chosen. The defaults are llama.cpp's, which small local models are tuned with.
#[derive(Debug, Clone, PartialEq)]
pub struct Sampling {
    /// Divides the logits; 0 takes the likeliest token always. 0..=2.
    pub temperature: f32,
    /// Keep the `k` likeliest tokens; 0: all.
    pub top_k: u32,
    /// Keep the likeliest tokens whose probabilities add up to this. 0..=1, 1: all.
    pub top_p: f32,
    /// Keep tokens at least this probable relative to the likeliest. 0..=1, 0: all.
    pub min_p: f32,
    /// Keep the tokens whose information is nearest to what is expected, until their probabilities add up to this
    /// (locally typical sampling, arXiv:2202.00666). 0..=1, 1: all.
    pub typical_p: f32,
    /// Subtracted once from the logit of every token seen in the completion. -2..=2.
    pub presence_penalty: f32,
    /// Subtracted from the logit of a token for each time it was seen in the completion. -2..=2.
    pub frequency_penalty: f32,
    /// Divides the logits of tokens seen in the completion; 1: off. Above 0, at most 2.
    pub repeat_penalty: f32,
    /// Against sequences of tokens that repeat; `None`: off.
    pub dry: Option<Dry>,
    /// Added to the logits of these tokens, which come in ascending order. -100..=100; -100 bans a token, as at `OpenAI`.
    pub logit_bias: Vec<(Token, f32)>,
    /// Makes the choice repeatable, as far as the batch's shape allows; `None`: a fresh one.
    pub seed: Option<u64>,
}

/// "Don't repeat yourself": a token that would prolong a sequence that is already there loses
/// `multiplier * base ^ (length - allowed_length)` of its logit.
#[derive(Debug, Clone, PartialEq)]
pub struct Dry {
    /// 0: off.
    pub multiplier: f32,
    /// At least 1.
    pub base: f32,
    /// Sequences up to so many tokens may repeat.
    pub allowed_length: u32,
    /// Texts across which nothing counts as a sequence.
    pub sequence_breakers: Vec<String>,
}

/// llama.cpp's values (`common.h`), and off.
impl Default for Dry {
    fn default() -> Self {
        let sequence_breakers = ["\n", ":", "\"", "*"].map(str::to_owned).to_vec();
        Self { multiplier: 0.0, base: 1.75, allowed_length: 2, sequence_breakers }
    }
}

impl Default for Sampling {
    fn default() -> Self {
        Self {
            temperature: 0.8,
            top_k: 40,
            top_p: 0.95,
            min_p: 0.05,
            typical_p: 1.0,
            presence_penalty: 0.0,
            frequency_penalty: 0.0,
            repeat_penalty: 1.0,
            dry: None,
            logit_bias: Vec::new(),
            seed: None,
        }
    }
}
