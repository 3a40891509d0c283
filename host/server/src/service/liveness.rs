//! Whether the service gets on, as its engine does.

use std::sync::atomic::Ordering;
use std::time::Duration;

use inference::Progress;

use super::Service;
use super::lifecycle::State;

/// Whether requests get on, whether any are taken or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Liveness {
    /// There is no engine yet.
    NotLoaded,
    /// There is nothing to do.
    Idle,
    /// There is work, and it gets on. Waiting for a plugin or for a reader counts as that.
    Working,
    /// There is work, and no step of it has ended for longer than any should take.
    Stalled {
        /// How long.
        since_step: Duration,
    },
    /// The engine has ended; every request fails.
    Stopped,
}

impl Liveness {
    /// Whether nothing but a new process helps.
    #[must_use]
    pub fn is_lost(self) -> bool {
        matches!(self, Self::Stalled { .. } | Self::Stopped)
    }

    /// The worst is the greatest.
    pub(crate) fn severity(self) -> u8 {
        match self {
            Self::NotLoaded => 0,
            Self::Idle => 1,
            Self::Working => 2,
            Self::Stalled { .. } => 3,
            Self::Stopped => 4,
        }
    }
}

impl Service {
    /// Whether requests get on. Waits for nobody.
    #[must_use]
    pub fn liveness(&self) -> Liveness {
        let progress = match &*self.state.borrow() {
            State::Ready { loaded, .. } => loaded.progress(),
            State::OnFirstUse | State::Loading(_) | State::Failed(_) => return Liveness::NotLoaded,
        };
        match progress {
            Progress::Idle => Liveness::Idle,
            Progress::Working { since_step } if since_step >= self.times.now().stall_max => {
                Liveness::Stalled { since_step }
            }
            Progress::Working { .. } => Liveness::Working,
            Progress::Stopped => Liveness::Stopped,
        }
    }

    /// Waits until the model has been loaded, or has waited for its first use, for the first time.
    pub async fn started(&self) {
        // The sender lives in `self`, so there is no error to expect.
        let _ = self.state.subscribe().wait_for(|_| self.has_started()).await;
    }

    /// Whether requests have been answered, or waited for, at any time since the process began.
    #[must_use]
    pub fn has_started(&self) -> bool {
        self.has_started.load(Ordering::Relaxed)
    }
}
