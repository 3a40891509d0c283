//! Requests a minute.

use std::num::NonZeroU32;
use std::time::Duration;

use governor::clock::{Clock, DefaultClock};
use governor::middleware::NoOpMiddleware;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};

/// Lets so many requests through at once, and then as many a minute, evenly (GCRA).
pub(crate) struct Rate<C: Clock = DefaultClock> {
    per_minute: NonZeroU32,
    limiter: RateLimiter<NotKeyed, InMemoryState, C, NoOpMiddleware<C::Instant>>,
    clock: C,
}

impl Rate {
    pub(crate) fn new(per_minute: NonZeroU32) -> Self {
        Self::with_clock(per_minute, DefaultClock::default())
    }
}

impl<C: Clock + Clone> Rate<C> {
    fn with_clock(per_minute: NonZeroU32, clock: C) -> Self {
        Self {
            per_minute,
            limiter: RateLimiter::direct_with_clock(Quota::per_minute(per_minute), clock.clone()),
            clock,
        }
    }

    /// Lets one through, or says when the next may come.
    pub(crate) fn check(&self) -> Result<(), (NonZeroU32, Duration)> {
        self.limiter.check().map_err(|until| (self.per_minute, until.wait_time_from(self.clock.now())))
    }
}

#[cfg(test)]
mod tests {
    use governor::clock::FakeRelativeClock;

    use super::*;

    #[test]
    fn a_minute_has_so_many_and_no_more() {
        let clock = FakeRelativeClock::default();
        let rate = Rate::with_clock(NonZeroU32::new(6).expect("six"), clock.clone());
        assert!((0..6).all(|_| rate.check().is_ok()));
        let (_, wait) = rate.check().expect_err("a seventh");
        assert_eq!(wait, Duration::from_secs(10));
        clock.advance(Duration::from_secs(9));
        assert!(rate.check().is_err());
        clock.advance(Duration::from_secs(1));
        assert!(rate.check().is_ok());
        assert!(rate.check().is_err());
    }
}
