//! Why an answer cannot be held to the form that was asked for.

use std::time::Duration;

use inference::Blame;

/// Why there is no grammar for a format. The texts are for whoever wrote it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GrammarError {
    /// There is too much of it.
    #[error("the {kind} has {bytes} bytes, and at most {bytes_max} are compiled; make it smaller")]
    TooLarge {
        /// What it is.
        kind: &'static str,
        /// Its size.
        bytes: usize,
        /// The most.
        bytes_max: usize,
    },
    /// It says something that is wrong, or that cannot be enforced.
    #[error("the {kind} cannot be enforced: {reason}")]
    Refused {
        /// What it is.
        kind: &'static str,
        /// What and where.
        reason: String,
    },
    /// It took too long.
    #[error("the {kind} takes more than {} s of a processor to compile; make it simpler", .limit.as_secs())]
    TooSlow {
        /// What it is.
        kind: &'static str,
        /// How much it may take.
        limit: Duration,
    },
    /// The machine has no time for it.
    #[error(
        "there is no time to compile a grammar now: others are being compiled, or the machine is overloaded; try again later"
    )]
    Busy,
    /// The machine gives no thread, or the vocabulary cannot be used.
    #[error("grammars cannot be compiled here: {0}")]
    Unavailable(String),
}

impl GrammarError {
    /// Whose fault it is.
    #[must_use]
    pub fn blame(&self) -> Blame {
        match self {
            Self::TooLarge { .. } | Self::Refused { .. } | Self::TooSlow { .. } => Blame::Client,
            Self::Busy => Blame::Capacity,
            Self::Unavailable(_) => Blame::Internal,
        }
    }
}
