//! Why a chat request got no answer, or only part of one.

use std::time::Duration;

use inference::{Blame, EngineFault, PipelineError, SubmitError};

/// Why a chat request got no answer, or only part of one. Its texts are for clients: none repeats what a guest wrote
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
    /// As many requests wait as may.
    #[error("all slots are taken and {waiting} requests wait already; try again later")]
    QueueFull {
        /// Requests that wait.
        waiting: usize,
    },
    /// No slot became free in time.
    #[error("no slot became free within {} s; try again later", waited.as_secs())]
    QueueTimeout {
        /// How long it waited.
        waited: Duration,
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
            Self::ModelNotFound { .. } => Blame::Client,
            Self::Loading { .. }
            | Self::LoadFailed { .. }
            | Self::Draining
            | Self::QueueFull { .. }
            | Self::QueueTimeout { .. } => Blame::Capacity,
            Self::Pipeline(error) => error.blame(),
            Self::Submit(error) => error.blame(),
            Self::Engine(_) | Self::Internal { .. } => Blame::Internal,
        }
    }
}
