//! Whether an engine gets on.

use std::time::Duration;

/// How an engine gets on, as its thread leaves it behind after every step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// There is nothing to do.
    Idle,
    /// There is work.
    Working {
        /// How long ago the last step ended, or the work came.
        since_step: Duration,
    },
    /// Its thread has ended: every request fails from now on.
    Stopped,
}
