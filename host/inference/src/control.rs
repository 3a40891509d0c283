//! The socket for control of single tokens: what bounds the choice of the next one, beside the grammar.
//!
//! A controller is code that takes its time, and the decode thread has none. So it is asked as soon as a token is known and
//! answers while the model computes what follows it; nobody ever waits for it but its own completion.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use crate::{PipelineError, Token, TokenMask};

/// How long a completion waits for what controls its tokens. That has budgets of its own, of milliseconds of work and a second of
/// wall time; this ends the wait where nothing comes of them, as on a machine where the controller's threads get no time.
pub const CONTROL_WAIT_MAX: Duration = Duration::from_secs(10);

/// Who controls the tokens of one answer. Cheap to clone; two are equal when they are the same one.
#[derive(Clone)]
pub struct TokenControl(Arc<dyn TokenController>);

/// What [`TokenControl`] holds.
pub trait TokenController: Send + Sync {
    /// The start of the completion. Called once, on the decode thread.
    fn begin(&self) -> Box<dyn ControlRun>;
}

/// One completion under control. It is driven on the decode thread, so nothing in here waits.
pub trait ControlRun: Send {
    /// Asks how the completion goes on behind `appended`, which are the tokens that came since the last question: none the
    /// first time. The next question follows the answer to this one.
    fn ask(&mut self, appended: Vec<Token>);

    /// The answer, once, when it is there. After an error the completion cannot go on.
    fn poll(&mut self) -> Poll<Result<Steer, PipelineError>>;

    /// The engine cannot go on with what was answered, or was not. Says what becomes of the request.
    fn fail(&mut self, failure: ControlFailure) -> PipelineError;
}

/// How a completion goes on. Every token is one of the vocabulary.
#[derive(Debug, Clone, PartialEq)]
pub enum Steer {
    /// As the model likes, for so many tokens; at least one.
    Free(u32),
    /// With one of these tokens, of which there is one at least.
    Only(Arc<TokenMask>),
    /// As the model likes, with these added to the logits of these tokens. -100..=100; -100 bans a token.
    Bias(Vec<(Token, f32)>),
    /// With these tokens, of which there is one at least; nothing is chosen.
    Force(Vec<Token>),
    /// Not at all: the completion is whole.
    Stop,
}

/// Why the engine cannot go on with a controller.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ControlFailure {
    /// No token is left to choose, or one that was forced may not follow. There are tokens that the controller allows, so
    /// what the client asks for has a part in it.
    #[error("dead end: no token is allowed both by the plugin and by {beside}")]
    DeadEnd {
        /// What else bounds the choice, for people.
        beside: &'static str,
    },
    /// The controller ends a completion whose grammar does not.
    #[error("dead end: it ends an answer that the grammar of the request does not let end there")]
    CutShort,
    /// No answer came.
    #[error("did not say within {} s how the answer goes on", waited.as_secs())]
    Late {
        /// How long the engine waited.
        waited: Duration,
    },
}

impl TokenControl {
    /// Wraps a controller.
    pub fn new(controller: impl TokenController + 'static) -> Self {
        Self(Arc::new(controller))
    }
}

impl Deref for TokenControl {
    type Target = dyn TokenController;

    fn deref(&self) -> &Self::Target {
        &*self.0
    }
}

impl PartialEq for TokenControl {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl fmt::Debug for TokenControl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenControl(…)")
    }
}
