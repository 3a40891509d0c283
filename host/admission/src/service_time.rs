//! How long requests take, and so how long the line is.

use std::time::Duration;

use crate::limits;

/// The mean time that a request holds its slot, the newest counting most.
#[derive(Debug, Default)]
pub(crate) struct ServiceTime {
    seconds: f64,
    measured: u32,
}

impl ServiceTime {
    pub(crate) fn observe(&mut self, held: Duration) {
        let weight = if self.measured == 0 { 1.0 } else { limits::NEWEST_WEIGHT };
        let most = (self.seconds * limits::OUTLIER).max(limits::UNMEASURED.as_secs_f64());
        let held = if self.is_known() { held.as_secs_f64().min(most) } else { held.as_secs_f64() };
        self.seconds += weight * (held - self.seconds);
        self.measured = self.measured.saturating_add(1);
    }

    /// The mean, in seconds; a guess before anything was measured.
    pub(crate) fn seconds(&self) -> f64 {
        if self.measured == 0 { limits::UNMEASURED.as_secs_f64() } else { self.seconds }
    }

    /// Whether the mean is worth more than a guess.
    pub(crate) fn is_known(&self) -> bool {
        self.measured >= limits::MEASURED_MIN
    }

    /// How long who has `ahead` before them waits for one of `slots` slots, all of which are taken.
    pub(crate) fn wait(&self, ahead: usize, slots: usize) -> Duration {
        #[expect(clippy::cast_precision_loss, reason = "a line of 2⁵² requests waits long enough")]
        let turns = (ahead + 1) as f64 / slots.max(1) as f64;
        Duration::try_from_secs_f64(turns * self.seconds()).unwrap_or(Duration::MAX)
    }

    /// The same, as a client is told it.
    pub(crate) fn retry_after(&self, ahead: usize, slots: usize) -> Duration {
        self.wait(ahead, slots).clamp(limits::RETRY_AFTER_MIN, limits::RETRY_AFTER_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mean_follows_and_one_outlier_does_not_decide() {
        let mut time = ServiceTime::default();
        assert_eq!(time.wait(0, 1), limits::UNMEASURED);
        (0..limits::MEASURED_MIN).for_each(|_| time.observe(Duration::from_secs(1)));
        assert!(time.is_known());
        assert_eq!(time.wait(3, 2), Duration::from_secs(2), "four turns in two slots");
        time.observe(Duration::from_mins(10));
        assert!((time.seconds() - 1.8).abs() < 1e-9, "{}", time.seconds());
        (0..20).for_each(|_| time.observe(Duration::from_mins(10)));
        assert!(time.seconds() > 400.0, "{}: it is none any more", time.seconds());
        (0..50).for_each(|_| time.observe(Duration::from_secs(1)));
        assert!(time.seconds() < 1.05, "{}", time.seconds());
    }

    #[test]
    fn a_client_is_told_whole_sense() {
        let mut time = ServiceTime::default();
        time.observe(Duration::ZERO);
        assert_eq!(time.retry_after(0, 4), limits::RETRY_AFTER_MIN);
        assert_eq!(time.retry_after(usize::MAX - 1, 1), limits::RETRY_AFTER_MIN, "nothing takes any time");
        time.observe(Duration::MAX);
        assert_eq!(time.retry_after(usize::MAX - 1, 1), limits::RETRY_AFTER_MAX);
    }
}
