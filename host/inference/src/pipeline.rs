//! The sockets for plugins: a [`PipelineRun`] takes one request, and one answer to it, through every stage, streamed or not.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use crate::{Blame, ChatRequest, Finish, Prompt, RequestId, Token, TokenControl, Usage};

/// The configured plugins. A run keeps the set it began with, whatever is reloaded meanwhile.
pub trait Pipeline: Send + Sync {
    /// Begins one request's pass. Cheap: instances are made when a stage first needs them.
    fn begin(&self, call: Call) -> Box<dyn PipelineRun>;

    /// The first plugin that decides what the client sees of the model's text, and the stage in which it does. `None`: what
    /// the model wrote goes out, sorted at most (`parse`), so that showing its tokens shows nothing else.
    fn changes_text(&self) -> Option<(&str, Stage)>;
}

/// What a pipeline's stages answer with. The work is done on the plugins' own threads; the future only waits.
pub type Step<'a, T> = Pin<Box<dyn Future<Output = Result<T, PipelineError>> + Send + 'a>>;

/// One answer's pass through the plugins. Called in order: `prepare` or `open`, `control`, any number of `push` of which exactly
/// the last has `last` set, `finish`.
///
/// What comes before the model happens once for a request, however many answers it has: the run that [`Pipeline::begin`] made
/// prepares it, and belongs to the first answer; [`another`](Self::another) makes those of the others. The request is over when
/// all of its runs have finished. When a step of one of them fails, or one is dropped before it has finished, it is over for all
/// of them: no guest code runs for it again but `audit`.
pub trait PipelineRun: Send {
    /// Runs the policies, renders the prompt, and opens the parser and the filters of the first answer.
    fn prepare(&mut self, request: ChatRequest) -> Step<'_, Prepared>;

    /// The run of another answer to the same request: the next one in the reply. Cheap. Asked for before any has finished.
    fn another(&mut self) -> Box<dyn PipelineRun>;

    /// Opens the parser and the filters of this answer, behind the first one's `prepare`. Says what [`Prepared::wants_tokens`]
    /// says of that one.
    fn open(&mut self) -> Step<'_, bool>;

    /// Opens the plugin that controls tokens, where there is one: it is shown the tokens of the prompt. What comes back answers
    /// while the pushes of the same request go on.
    fn control(&mut self, prompt: &[Token]) -> Step<'_, Option<TokenControl>>;

    /// Takes more of the model's text through `parse` and the filters. `text` may be empty when `last` is set, which
    /// releases whatever was held back. `tokens` are those that `text` is made of where [`Prepared::wants_tokens`], and
    /// otherwise none.
    fn push(&mut self, text: String, tokens: Vec<ChosenToken>, last: bool) -> Step<'_, Output>;

    /// Says what this answer has used so far: the sum is what the plugins that audit are told where the client leaves, or a
    /// plugin fails, before the end.
    fn used(&mut self, usage: Usage);

    /// Tells the plugins how it ended, and returns what they noted: on the request, and on this answer.
    fn finish(&mut self, finish: Finish, usage: Usage) -> Step<'_, Annotations>;
}

/// What the host vouches for; the same for every stage of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// Names the request.
    pub request_id: RequestId,
    /// W3C trace context of the client, as received.
    pub traceparent: Option<String>,
    /// The model that will answer.
    pub model: String,
    /// Request headers, lower-case names; a plugin sees those it was granted.
    pub headers: Vec<(String, String)>,
    /// The place in the reply of the first answer to this, from 0. A reply to several prompts has several of these.
    pub choice: u32,
}

/// A request that the policies accepted, with its prompt.
#[derive(Debug, Clone, PartialEq)]
pub struct Prepared {
    /// The request, as the policies left it.
    pub request: ChatRequest,
    /// Its prompt.
    pub prompt: Prompt,
    /// A filter wants to see the tokens that the answer's text is made of. They cost the engine a look at all logits.
    pub wants_tokens: bool,
}

/// A token that the model chose, as filters see it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ChosenToken {
    /// Its number.
    pub token: Token,
    /// The natural logarithm of the probability that the model gave it; at most 0.
    pub logprob: f32,
}

/// What a push releases.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Output {
    /// Parts of the answer to send now, in order.
    pub deltas: Vec<Delta>,
    /// A plugin ends the generation for this reason; nothing more is pushed.
    pub stop: Option<Finish>,
    /// The answer ends inside a tool call, whose arguments are therefore not whole.
    pub cuts_call: bool,
}

/// A part of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Delta {
    /// More of the answer's text.
    Content(String),
    /// More of what the model thought before it answered.
    Reasoning(String),
    /// A tool call begins.
    ToolCallStart {
        /// Its place among the answer's calls, from 0.
        index: u32,
        /// Identifier for the result.
        id: String,
        /// The function's name.
        name: String,
        /// Text that stands before it is held by a plugin, and comes behind it.
        overtakes_text: bool,
    },
    /// More of the arguments of the call at `index`, as JSON text.
    ToolArguments {
        /// Which call.
        index: u32,
        /// JSON text to append.
        text: String,
    },
    /// The call at `index` is whole. One that is cut short has no end.
    ToolCallEnd {
        /// Which call.
        index: u32,
    },
}

/// Notes that plugins made on a request: bounded pairs for the access log and the reply's `outrigger` member.
pub type Annotations = Vec<(String, String)>;

/// A stage of the plugin contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Stage {
    /// `lifecycle.init`.
    Init,
    /// `policy.inspect`.
    Policy,
    /// `prompt.render`.
    Prompt,
    /// `token-control.controller`.
    TokenControl,
    /// `parse.parser`.
    Parse,
    /// `postprocess.filter`.
    Postprocess,
    /// `audit.completed`.
    Audit,
}

impl Stage {
    /// The stage's name in configuration, metrics and error bodies.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Init => "init",
            Self::Policy => "policy",
            Self::Prompt => "prompt",
            Self::TokenControl => "token-control",
            Self::Parse => "parse",
            Self::Postprocess => "postprocess",
            Self::Audit => "audit",
        }
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// How a plugin broke its contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FaultKind {
    /// It trapped: a panic, an out-of-bounds access.
    Trap,
    /// It used up its CPU time.
    Timeout,
    /// It asked for more memory or table space than it may have.
    Memory,
    /// It used up its stack.
    Stack,
    /// It returned more than it may.
    OutputSize,
    /// It called the host too often.
    HostCalls,
    /// It answered nonsense: a boundary inside a character, a change that was not granted.
    Contract,
    /// It said so itself: a typed `unavailable` or `internal`.
    Error,
}

impl FaultKind {
    /// The kind's name in metrics and error bodies.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Trap => "trap",
            Self::Timeout => "timeout",
            Self::Memory => "memory",
            Self::Stack => "stack",
            Self::OutputSize => "output",
            Self::HostCalls => "host-calls",
            Self::Contract => "contract",
            Self::Error => "error",
        }
    }
}

impl fmt::Display for FaultKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why the pipeline did not let a request go on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PipelineError {
    /// A policy said no. Code and message are for the client.
    #[error("plugin `{plugin}` rejected the request: {message}")]
    Rejected {
        /// The plugin that said so.
        plugin: String,
        /// 400..=499.
        status: u16,
        /// For programs.
        code: String,
        /// For people.
        message: String,
        /// When to try again.
        retry_after: Option<Duration>,
    },
    /// The request cannot be rendered: the template or a plugin called it invalid. The message is for the client.
    #[error("plugin `{plugin}` cannot use the request in its {stage} stage: {message}")]
    Invalid {
        /// The plugin that said so.
        plugin: String,
        /// Where.
        stage: Stage,
        /// For people.
        message: String,
    },
    /// A plugin broke its contract. The client learns which one and how; `detail` is for the operator's log only.
    #[error("plugin `{plugin}` failed in its {stage} stage ({kind})")]
    Fault {
        /// The plugin.
        plugin: String,
        /// Where.
        stage: Stage,
        /// How.
        kind: FaultKind,
        /// What the sandbox reported.
        detail: String,
    },
    /// A plugin has failed again and again, and is not asked for a while.
    #[error("plugin `{plugin}` failed again and again and is not asked now ({stage}); try again later")]
    Unavailable {
        /// The plugin.
        plugin: String,
        /// The stage in which it would have been asked.
        stage: Stage,
        /// When it is asked again.
        retry_after: Duration,
    },
    /// No thread or instance for the plugins became free in time.
    #[error("the plugins are overloaded; try again later")]
    Overloaded,
}

impl PipelineError {
    /// Whether it is a plugin that failed, so that the operator may have chosen to go on without it.
    #[must_use]
    pub fn is_of_a_plugin(&self) -> bool {
        matches!(self, Self::Fault { .. } | Self::Unavailable { .. })
    }

    /// Whose fault it is.
    #[must_use]
    pub fn blame(&self) -> Blame {
        match self {
            Self::Rejected { .. } | Self::Invalid { .. } => Blame::Client,
            Self::Fault { .. } | Self::Unavailable { .. } => Blame::Plugin,
            Self::Overloaded => Blame::Capacity,
        }
    }
}
