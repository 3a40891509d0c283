//! One request being answered by the engine. Dropping a [`Generation`] cancels it.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use crate::{Blame, Grammar, ModelCard, PipelineError, Progress, RequestId, Sampling, Token, TokenControl, Vocabulary};

/// A loaded model that completes prompts.
pub trait Engine: Send + Sync {
    /// The model's facts.
    fn card(&self) -> &ModelCard;

    /// The model's vocabulary.
    fn vocabulary(&self) -> &Arc<dyn Vocabulary>;

    /// Hands a prompt to the engine. Never waits: what does not fit now is refused or queued, and the queue is
    /// bounded.
    fn submit(&self, request: GenerationRequest) -> Result<Generation, SubmitError>;

    /// How it gets on. Asks nothing of whoever computes, so it answers where that hangs.
    fn progress(&self) -> Progress;
}

/// What the engine needs to know of a request.
#[derive(Debug, Clone, PartialEq)]
pub struct GenerationRequest {
    /// Names the request in the engine's logs.
    pub id: RequestId,
    /// The prompt; never empty.
    pub prompt: Vec<Token>,
    /// How tokens are chosen.
    pub sampling: Sampling,
    /// Most tokens of the completion; at least 1. Prompt and completion together fit the context.
    pub max_tokens: u32,
    /// Texts that end the completion.
    pub stop: Vec<String>,
    /// Tokens that end the completion, beside those that the model itself ends with.
    pub stop_tokens: Vec<Token>,
    /// Control tokens that are part of the completion's text; any other one stands for none.
    pub marks: Vec<Mark>,
    /// What the completion has to match.
    pub grammar: Option<Grammar>,
    /// Who has a say in every token, beside the grammar.
    pub control: Option<TokenControl>,
    /// Tell the log probability of every token, and those of so many likeliest ones in its place.
    pub logprobs: Option<u32>,
    /// Go on when the model says it has finished: for benches.
    pub ignore_end: bool,
}

/// A control token that a completion shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark {
    /// The token.
    pub token: Token,
    /// What stands in the text for it.
    pub text: String,
}

impl GenerationRequest {
    /// A completion of `prompt` of at most `max_tokens` tokens, with defaults for everything else.
    #[must_use]
    pub fn new(id: RequestId, prompt: Vec<Token>, max_tokens: u32) -> Self {
        Self {
            id,
            prompt,
            sampling: Sampling::default(),
            max_tokens,
            stop: Vec::new(),
            stop_tokens: Vec::new(),
            marks: Vec::new(),
            grammar: None,
            control: None,
            logprobs: None,
            ignore_end: false,
        }
    }
}

/// A completion under way: a stream of events that ends with [`GenerationEvent::Finished`] or
/// [`GenerationEvent::Failed`]. Dropping it cancels the work; the engine notices at its next step.
#[derive(Debug)]
pub struct Generation {
    events: mpsc::Receiver<GenerationEvent>,
}

impl Generation {
    /// The receiving end of the engine's bounded event channel.
    #[must_use]
    pub fn new(events: mpsc::Receiver<GenerationEvent>) -> Self {
        Self { events }
    }

    /// The next event. When the engine died without a last word, that is a failure too: an answer never just ends.
    pub async fn next(&mut self) -> GenerationEvent {
        self.events.recv().await.unwrap_or(GenerationEvent::Failed(EngineFault::Stopped))
    }
}

/// What happens to a generation.
#[derive(Debug, Clone, PartialEq)]
pub enum GenerationEvent {
    /// More of the completion's text.
    Piece {
        /// Whole characters, never empty, never part of a stop text.
        text: String,
        /// Tokens sampled since the completion began, those of this piece included. It is what an answer that is
        /// given up here has cost: nobody estimates.
        completion_tokens: u32,
        /// Of the tokens that `text` is made of, where the request wants them; otherwise empty.
        logprobs: Vec<TokenLogprobs>,
    },
    /// The completion is whole. Nothing follows.
    Finished(Completion),
    /// The completion broke off. Nothing follows.
    Failed(EngineFault),
}

/// How likely a sampled token was, and what else was likely in its place: natural logarithms of the probabilities that
/// the model gave, before temperature, penalties, masks and cuts.
#[derive(Debug, Clone, PartialEq)]
pub struct TokenLogprobs {
    /// The sampled token's number.
    pub token: Token,
    /// The sampled token.
    pub sampled: TokenLogprob,
    /// The likeliest ones, likeliest first; as many as the request wants.
    pub top: Vec<TokenLogprob>,
}

/// One token and how likely it was.
#[derive(Debug, Clone, PartialEq)]
pub struct TokenLogprob {
    /// The bytes that it stands for: perhaps part of a character.
    pub bytes: Vec<u8>,
    /// The natural logarithm of its probability; at most 0.
    pub logprob: f32,
}

/// How a completion ended and what it cost.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Completion {
    /// Why it ended.
    pub finish: Finish,
    /// The stop text that ended it, by its place in [`GenerationRequest::stop`].
    pub stop_text: Option<usize>,
    /// Tokens in and out.
    pub usage: Usage,
    /// Where the time went.
    pub timings: Timings,
}

/// Why a completion ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Finish {
    /// The model, a stop text or a plugin ended it.
    Stop,
    /// `max_tokens` or the context was reached.
    Length,
    /// The model called tools and waits for their results.
    ToolCalls,
    /// A plugin withheld the rest.
    Filtered,
    /// The client left.
    Cancelled,
    /// It broke off.
    Failed,
}

/// Tokens of one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// Tokens of the prompt.
    pub prompt_tokens: u32,
    /// Tokens that were sampled, the one that ended the completion included.
    pub completion_tokens: u32,
    /// Tokens of the prompt that were not computed again.
    pub cached_tokens: u32,
}

/// Where a generation's time went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Timings {
    /// From submission to the first step that worked on it.
    pub queued: Duration,
    /// From there to the first sampled token.
    pub prefill: Duration,
    /// From there to the last.
    pub decode: Duration,
}

/// Why a prompt was not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SubmitError {
    /// Prompt and completion cannot fit the context.
    #[error(
        // Clients (litellm among them) tell this error from others by OpenAI's words for it.
        "the prompt has {prompt_tokens} tokens and this model's maximum context length is {context_length} tokens, one of which the answer \
         needs; shorten the conversation or serve the model with a larger context"
    )]
    PromptTooLong {
        /// Tokens of the prompt.
        prompt_tokens: u32,
        /// Tokens that the context holds.
        context_length: u32,
    },
    /// An input to encode is longer than the context. It is computed in one piece or not at all.
    #[error("an input has {tokens} tokens and the model takes {context_length}; shorten or split it")]
    InputTooLong {
        /// Tokens of the longest one.
        tokens: u32,
        /// Tokens that the context holds.
        context_length: u32,
    },
    /// The prompt rendered to no token at all.
    #[error("the prompt is empty: the chat template rendered nothing")]
    PromptEmpty,
    /// The engine's own queue is full.
    #[error("the engine's queue is full ({queued} requests); try again later")]
    QueueFull {
        /// Requests that wait.
        queued: usize,
    },
    /// The engine thread has ended.
    #[error("the engine has stopped")]
    Stopped,
}

impl SubmitError {
    /// Whose fault it is.
    #[must_use]
    pub fn blame(&self) -> Blame {
        match self {
            Self::PromptTooLong { .. } | Self::InputTooLong { .. } | Self::PromptEmpty => Blame::Client,
            Self::QueueFull { .. } => Blame::Capacity,
            Self::Stopped => Blame::Internal,
        }
    }
}

/// Why a generation broke off.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EngineFault {
    /// The engine thread ended while the generation ran.
    #[error("the engine stopped before the answer was complete")]
    Stopped,
    /// A step of the model failed.
    #[error("the model failed to decode: {0}")]
    Decode(String),
    /// The grammar's side of the completion failed.
    #[error("the answer cannot go on as its grammar demands: {0}")]
    Grammar(String),
    /// Who controls the completion's tokens failed, or left none.
    #[error(transparent)]
    Control(PipelineError),
    /// The request excludes every token.
    #[error(
        "no token is left to choose from: the request's `logit_bias`, and its grammar if there is one, exclude all of \
         them; ban fewer tokens"
    )]
    NoToken,
}
