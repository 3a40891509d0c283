//! Why a request got no answer, or only part of one.

use std::time::Duration;

use admission::Refusal;
use grammar::GrammarError;
use inference::{Blame, EngineFault, PipelineError, Stage, SubmitError};

/// Why a request got no answer, or only part of one. Its texts are for clients: none repeats what a guest wrote
/// about its own failure.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChatError {
    /// The model is not there yet.
    #[error("the model is not ready: {progress}")]
    Loading {
        /// How far it is.
        progress: String,
    },
    /// The model will not come.
    #[error("the model could not be loaded: {reason}")]
    LoadFailed {
        /// Why.
        reason: String,
    },
    /// The process was told to stop.
    #[error("the server is shutting down; try again on another instance or later")]
    Draining,
    /// Another model is served here.
    #[error("the model `{model}` is not served here; served: `{served}`")]
    ModelNotFound {
        /// What was asked for.
        model: String,
        /// What there is.
        served: String,
    },
    /// Several models are served here, and none was named.
    #[error("`model` is missing, and several models are served here; name one of `{served}`")]
    ModelNotNamed {
        /// What there is.
        served: String,
    },
    /// The model does something else than what it is asked for here.
    #[error("the model `{model}` {does}; ask it with POST {path}")]
    OtherTask {
        /// The model.
        model: String,
        /// What it does.
        does: &'static str,
        /// Where it is asked for that.
        path: &'static str,
    },
    /// An input does not fit the context.
    #[error(
        "`{member}` has {tokens} tokens and the model takes {context_length}; shorten or split it, or send `truncate`: true \
         to have its end cut off"
    )]
    InputTooLong {
        /// Where the request has it.
        member: String,
        /// Its tokens, with what stands around it.
        tokens: usize,
        /// Tokens that the context holds.
        context_length: usize,
    },
    /// An input is nothing to the model.
    #[error("`{member}` has no tokens; leave it out")]
    InputEmpty {
        /// Where the request has it.
        member: String,
    },
    /// The model's vectors are shorter than what is asked for.
    #[error("`dimensions` is {asked}, and the model's vectors have {most}; ask for 1 to {most}")]
    TooManyDimensions {
        /// What was asked for.
        asked: u32,
        /// What there is.
        most: u32,
    },
    /// The request names a token that the model does not have.
    #[error(
        "`{member}` names token {token}, and the tokens of this model are 0 to {}; use the numbers of its own tokenizer",
        vocabulary_size.saturating_sub(1)
    )]
    UnknownToken {
        /// Where the request names it.
        member: String,
        /// The token.
        token: u32,
        /// Tokens of the model.
        vocabulary_size: u32,
    },
    /// A text has more tokens than are told.
    #[error("the text has {count} tokens, and at most {most} are told at once; send it in parts")]
    TooManyTokens {
        /// Its tokens.
        count: usize,
        /// What is told.
        most: usize,
    },
    /// Tokens have more text than is told.
    #[error("`tokens` have more than {bytes_max} bytes of text, and no more is told at once; send them in parts")]
    TooMuchText {
        /// Bytes of text that are told.
        bytes_max: usize,
    },
    /// A prompt of tokens has one that no text has.
    #[error(
        "`{member}` has token {token}, which stands for no text: control tokens are for the model's template to write; leave it \
         out, or send messages to /v1/chat/completions"
    )]
    TokenWithoutText {
        /// Where the request has it.
        member: String,
        /// The token.
        token: u32,
    },
    /// A prompt of tokens is no text.
    #[error(
        "the tokens of `{member}` do not make whole characters, so nobody can tell what they say; send whole characters"
    )]
    TokensOfNoText {
        /// Where the request has them.
        member: String,
    },
    /// Log probabilities show the tokens as they were sampled, past what a plugin makes of them.
    #[error(
        "`logprobs` shows the model's own tokens, and the plugin `{plugin}` ({stage}) decides what of them is shown; leave \
         `logprobs` out, or have the operator serve the model without that stage of `{plugin}`"
    )]
    LogprobsWithheld {
        /// The plugin.
        plugin: String,
        /// Where it stands in the way.
        stage: Stage,
    },
    /// The form that the answer must have cannot be enforced.
    #[error(transparent)]
    Format(GrammarError),
    /// The form that the prompt asks for cannot be enforced: the client did not ask for it.
    #[error("the model's prompt asks for a form that cannot be had: {0}")]
    PromptFormat(GrammarError),
    /// The request and its prompt want different forms.
    #[error(
        "the request asks for an answer by a {request} and the model's prompt for one by a {prompt}; both cannot be \
         enforced at once, so leave out what asks for the {request}"
    )]
    TwoFormats {
        /// What the request asks for.
        request: &'static str,
        /// What the prompt asks for.
        prompt: &'static str,
    },
    /// The prompt's plugin does not hold answers to what the request asks of its calls.
    #[error(
        "`{member}` asks for what nothing here can promise: the plugin that writes this model's prompts knows no form of \
         its calls that an answer could be held to; leave it out, or have the operator set the plugin's `tool_format`"
    )]
    CallsUnbound {
        /// What asks for it.
        member: &'static str,
    },
    /// The request asks of its calls what cannot be enforced.
    #[error("the calls that `{member}` asks for cannot be had: {reason}")]
    Calls {
        /// What asks for it.
        member: &'static str,
        /// Why.
        reason: GrammarError,
    },
    /// A function's schema cannot be enforced.
    #[error(
        "`{member}` asks for calls by their schemas, and the `parameters` of the function `{function}` cannot be enforced: \
         {reason}"
    )]
    CallSchema {
        /// What asks for it.
        member: &'static str,
        /// The function.
        function: String,
        /// What and where.
        reason: String,
    },
    /// The model may call functions or answer, and the answer must have a form.
    #[error(
        "the request offers `tools` and asks for an answer by a {form}, and an answer cannot be held to either of both; send \
         `tool_choice` as `none` or `required`, or leave out what asks for the {form}"
    )]
    CallsOrFormat {
        /// What the request asks for.
        form: &'static str,
    },
    /// The model called a function with what the answer's form cannot carry.
    #[error(
        "the model called `{function}` with arguments that are no JSON object, and an answer of this form carries no others;          ask again, or set `strict` on the tool to have its calls held to its schema"
    )]
    CallUnreadable {
        /// The function.
        function: String,
    },
    /// It got no slot.
    #[error(transparent)]
    NotAdmitted(Refusal),
    /// It was not over in time.
    #[error(
        "the answer was not complete after {} s and was broken off; ask for less, or for more time", after.as_secs_f64()
    )]
    DeadlinePassed {
        /// The time that it had.
        after: Duration,
    },
    /// The plugins did not let it go on.
    #[error(transparent)]
    Pipeline(#[from] PipelineError),
    /// The engine did not take it.
    #[error(transparent)]
    Submit(#[from] SubmitError),
    /// The engine broke off.
    #[error(transparent)]
    Engine(#[from] EngineFault),
    /// We failed.
    #[error("the server failed to {attempted}")]
    Internal {
        /// What it tried to do.
        attempted: &'static str,
    },
}

impl ChatError {
    /// Whose fault it is.
    #[must_use]
    pub fn blame(&self) -> Blame {
        match self {
            Self::ModelNotFound { .. }
            | Self::ModelNotNamed { .. }
            | Self::OtherTask { .. }
            | Self::InputTooLong { .. }
            | Self::InputEmpty { .. }
            | Self::TooManyDimensions { .. }
            | Self::UnknownToken { .. }
            | Self::TooManyTokens { .. }
            | Self::TooMuchText { .. }
            | Self::TokenWithoutText { .. }
            | Self::TokensOfNoText { .. }
            | Self::LogprobsWithheld { .. }
            | Self::TwoFormats { .. }
            | Self::CallsUnbound { .. }
            | Self::CallSchema { .. }
            | Self::CallsOrFormat { .. }
            | Self::Engine(EngineFault::NoToken) => Blame::Client,
            Self::Format(error) | Self::Calls { reason: error, .. } => error.blame(),
            Self::PromptFormat(error) => {
                if error.blame() == Blame::Client {
                    Blame::Plugin
                } else {
                    error.blame()
                }
            }
            Self::Loading { .. } | Self::LoadFailed { .. } | Self::Draining | Self::DeadlinePassed { .. } => {
                Blame::Capacity
            }
            Self::NotAdmitted(refusal) if refusal.reason.is_callers() => Blame::Client,
            Self::NotAdmitted(_) => Blame::Capacity,
            Self::Pipeline(error) | Self::Engine(EngineFault::Control(error)) => error.blame(),
            Self::Submit(error) => error.blame(),
            Self::Engine(_) | Self::CallUnreadable { .. } | Self::Internal { .. } => Blame::Internal,
        }
    }
}
