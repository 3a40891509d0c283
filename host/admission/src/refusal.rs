//! Why a request was sent away.

use std::time::Duration;

/// Why a request was sent away, and when another try makes sense.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct Refusal {
    /// Why.
    pub reason: Reason,
    /// Requests that wait.
    pub waiting: usize,
    /// The time that those who wait now will have been served in, by what requests took so far: at least 1 s, at most a minute.
    pub retry_after: Duration,
}

/// Why a request was sent away.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    /// All slots are taken and the line is full.
    #[error("all slots are taken and the line is full; try again later")]
    Full,
    /// The line is full, and this caller has more of it than the others.
    #[error("you have more requests waiting here than others who wait too; let some be answered before you send more")]
    OverShare,
    /// It was a batch request and an interactive one needed its place.
    #[error("the line is full and interactive requests come before batch requests; try again later")]
    Displaced,
    /// By what requests take it would not have been its turn in time.
    #[error(
        "its turn would come in about {} s, and it waits {} s at most; try again later, or let it wait longer",
        shown(expected),
        shown(most)
    )]
    TooLong {
        /// When its turn would have come.
        expected: Duration,
        /// How long it may wait.
        most: Duration,
    },
    /// It was not its turn in time.
    #[error("no slot became free within {} s; try again later", shown(waited))]
    TimedOut {
        /// How long it waited.
        waited: Duration,
    },
    /// More requests came than a minute may have.
    #[error("more than {per_minute} requests a minute came; send them slower")]
    RateLimited {
        /// How many there may be.
        per_minute: u32,
    },
    /// Others have had what a minute may have.
    #[error("the {per_minute} requests that a minute may have were other callers'; try again later")]
    MinuteFull {
        /// How many there may be.
        per_minute: u32,
    },
    /// Nobody is let in any more.
    #[error("nobody is let in any more")]
    Closed,
}

impl Reason {
    /// Whether it is the caller who asks too much, rather than everybody.
    #[must_use]
    pub fn is_callers(&self) -> bool {
        matches!(self, Self::OverShare | Self::RateLimited { .. })
    }

    /// A name for metrics and machines.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Full => "queue_full",
            Self::OverShare => "over_share",
            Self::Displaced => "displaced",
            Self::TooLong { .. } => "queue_too_long",
            Self::TimedOut { .. } => "queue_timeout",
            Self::RateLimited { .. } => "rate_limited",
            Self::MinuteFull { .. } => "minute_full",
            Self::Closed => "shutting_down",
        }
    }
}

/// Seconds, with a tenth where they are few: `0` would say that nobody waits at all.
fn shown(time: &Duration) -> String {
    let seconds = time.as_secs_f64();
    if seconds > 10.0 { seconds.ceil() } else { (seconds * 10.0).round().max(1.0) / 10.0 }.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_never_nothing() {
        let shown = |milliseconds| shown(&Duration::from_millis(milliseconds));
        assert_eq!([1, 500, 1_000, 2_500, 12_345, 40_000].map(shown), ["0.1", "0.5", "1", "2.5", "13", "40"]);
    }
}
