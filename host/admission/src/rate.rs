//! Requests a minute, and who of several callers has had its part of them.
//!
//! A level rises by one with each request and sinks evenly by a minute's requests in a minute (GCRA as a leaky bucket): so many may
//! come at once. Each caller has a level of its own, which sinks by its part. Whoever is over its part does not get the last of
//! what a minute may have, so that who asks seldom is not shut out by who asks all the time.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use crate::limits;
use crate::refusal::Reason;

pub(crate) struct Rate {
    per_minute: NonZeroU32,
    all: Level,
    /// Who has asked within the last minute, let through or not.
    callers: HashMap<Arc<str>, Asker>,
}

#[derive(Default)]
struct Asker {
    level: Level,
    asked: Duration,
}

/// How full it was, in requests, and when.
#[derive(Clone, Copy, Default)]
struct Level {
    full: f64,
    at: Duration,
}

const MINUTE: Duration = Duration::from_mins(1);
/// Sums of parts of requests are this exact.
const EPSILON: f64 = 1e-6;

impl Rate {
    pub(crate) fn new(per_minute: NonZeroU32) -> Self {
        Self { per_minute, all: Level::default(), callers: HashMap::new() }
    }

    /// Lets one of this caller's through; or says why not, and when it may.
    pub(crate) fn take(&mut self, caller: &Arc<str>, now: Duration) -> Result<(), (Reason, Duration)> {
        self.note(caller, now);
        let most = f64::from(self.per_minute.get());
        #[expect(clippy::cast_precision_loss, reason = "there are a thousand at most")]
        let askers = self.callers.len() as f64;
        let a_second = most / MINUTE.as_secs_f64();
        let Some(own) = self.callers.get_mut(caller) else { return Ok(()) };
        own.level.sink(a_second / askers, now);
        self.all.sink(a_second, now);

        let is_over = own.level.full + 1.0 > (most / askers).max(1.0) + EPSILON;
        let kept = if is_over && askers > 1.0 { (most / limits::RATE_KEPT_PART).max(1.0) } else { 0.0 };
        let too_much = self.all.full + 1.0 - (most - kept);
        if too_much > EPSILON {
            let per_minute = self.per_minute.get();
            let reason = if is_over { Reason::RateLimited { per_minute } } else { Reason::MinuteFull { per_minute } };
            return Err((reason, Duration::from_secs_f64(too_much / a_second)));
        }
        self.all.full += 1.0;
        own.level.full += 1.0;
        Ok(())
    }

    /// Notes that this caller asks, and forgets who has not for a minute.
    fn note(&mut self, caller: &Arc<str>, now: Duration) {
        self.callers.retain(|_, asker| now.saturating_sub(asker.asked) < MINUTE);
        if self.callers.len() >= limits::ASKERS_MAX && !self.callers.contains_key(caller) {
            let oldest = self.callers.iter().min_by_key(|(_, asker)| asker.asked);
            if let Some(name) = oldest.map(|(name, _)| Arc::clone(name)) {
                self.callers.remove(&name);
            }
        }
        self.callers.entry(Arc::clone(caller)).or_default().asked = now;
    }
}

impl Level {
    fn sink(&mut self, a_second: f64, now: Duration) {
        let passed = now.saturating_sub(self.at).as_secs_f64();
        *self = Self { full: (self.full - passed * a_second).max(0.0), at: now };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rate(per_minute: u32) -> Rate {
        Rate::new(NonZeroU32::new(per_minute).expect("at least one"))
    }

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn a_minute_has_so_many_and_no_more() {
        let (mut rate, caller) = (rate(6), "".into());
        assert!((0..6).all(|_| rate.take(&caller, seconds(0)).is_ok()));
        let (reason, wait) = rate.take(&caller, seconds(0)).expect_err("a seventh");
        assert_eq!((reason, wait), (Reason::RateLimited { per_minute: 6 }, seconds(10)));
        assert!(rate.take(&caller, seconds(9)).is_err());
        assert!(rate.take(&caller, seconds(10)).is_ok());
        assert!(rate.take(&caller, seconds(10)).is_err());
    }

    #[test]
    fn who_has_had_its_part_leaves_the_last_to_others() {
        let (mut rate, flood, quiet) = (rate(60), "flood".into(), "quiet".into());
        let mut flooded = (0..60).filter(|_| rate.take(&flood, seconds(0)).is_ok()).count();
        assert_eq!(flooded, 60, "nobody else asks");
        // What was had is had; it is not this caller's doing, and it is soon its turn.
        let (reason, wait) = rate.take(&quiet, seconds(0)).expect_err("the minute is full");
        assert_eq!((reason.is_callers(), wait), (false, seconds(1)));
        // From here on the flood gets nothing that the other asks for.
        let mut answered = 0;
        for second in 1..=120 {
            flooded += (0..10).filter(|_| rate.take(&flood, seconds(second)).is_ok()).count();
            answered += usize::from(second % 5 == 1 && rate.take(&quiet, seconds(second)).is_ok());
        }
        assert_eq!(answered, 24, "each that it asked for");
        assert!((60 + 80..=60 + 120 - 24).contains(&flooded), "{flooded}: and the flood has the rest");
        assert!(rate.take(&flood, seconds(120)).expect_err("as ever").0.is_callers());
    }

    #[test]
    fn made_up_names_are_forgotten() {
        let mut rate = rate(10);
        for name in 0..5_000 {
            let _ = rate.take(&name.to_string().into(), seconds(0));
        }
        assert_eq!(rate.callers.len(), limits::ASKERS_MAX);
        assert!(rate.take(&"late".into(), seconds(60)).is_ok());
        assert_eq!(rate.callers.len(), 1);
    }
}
