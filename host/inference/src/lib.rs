//! The words of the house: what a request, a generation and an answer are, and the sockets where rooms meet.
//!
//! Every other room speaks in these types and none of them knows another room. Nothing here does I/O, reads a
//! clock, starts a thread or knows a wire format: a value of these types has been checked once, at the door it
//! came in by, and is trusted from there on.
//!
//! The sockets, and who fills them:
//!
//! | socket | filled by | used by |
//! |---|---|---|
//! | [`Engine`] | `engine` | `server` |
//! | [`EncodingEngine`] | `engine` | `server` |
//! | [`Vocabulary`] | `llama` | `server` (tokens of a prompt), `plugin` (the `model` import), `engine` (pieces) |
//! | [`CompiledGrammar`], [`Constraint`] | `grammar` | `server` (compiles), `engine` (follows) |
//! | [`Pipeline`], [`PipelineRun`] | `plugin` | `server` |
//! | [`TokenController`], [`ControlRun`] | `plugin` | `engine` (asks it for each token) |

mod blame;
mod control;
mod device;
mod encoding;
mod format;
mod generation;
mod grammar;
mod model;
mod pipeline;
mod progress;
mod prompt;
mod request;

pub use blame::Blame;
pub use control::{CONTROL_WAIT_MAX, ControlFailure, ControlRun, Steer, TokenControl, TokenController};
pub use device::DeviceFacts;
pub use encoding::{Encoded, Encoding, EncodingEngine, EncodingFacts, EncodingRequest, EncodingTask, Frame};
pub use format::OutputFormat;
pub use generation::{
    Completion, Engine, EngineFault, Finish, Generation, GenerationEvent, GenerationRequest, Mark, SubmitError,
    Timings, TokenLogprob, TokenLogprobs, Usage,
};
pub use grammar::{CompiledGrammar, Constraint, Grammar, TokenMask};
pub use model::{ModelCard, SpecialTokens, Token, Vocabulary};
pub use pipeline::{
    Annotations, Call, ChosenToken, Delta, FaultKind, Output, Pipeline, PipelineError, PipelineRun, Prepared, Stage,
    Step,
};
pub use progress::Progress;
pub use prompt::{Prompt, Segment};
pub use request::{
    ChatRequest, Dry, Message, Operation, Part, RequestId, Role, Sampling, Tool, ToolCall, ToolChoice, ToolResult,
};
