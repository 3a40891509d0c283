//! Stops asking a plugin that only fails: its requests fail at once, or go on without it, until a trial succeeds.
//!
//! Only faults in a row count. One that only some requests meet, perhaps because somebody found out how, must not keep the
//! others from being served: any request that the plugin takes without a fault begins the count anew.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// When a plugin is given up, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BreakerConfig {
    /// Requests in a row that end with a fault of the plugin before it is given up; 0: it never is. Five are no accident, and
    /// five times its CPU budget is what a broken plugin may cost.
    pub faults_max: u32,
    /// All of them within this time: a plugin that fails once an hour is not broken, even if nobody else asks it.
    pub window: Duration,
    /// The first pause before a trial. Short, since whoever provokes the faults would have it imposed on others.
    pub pause_min: Duration,
    /// The longest pause: each trial that fails doubles it up to here.
    pub pause_max: Duration,
}

impl Default for BreakerConfig {
    fn default() -> Self {
        Self {
            faults_max: 5,
            window: Duration::from_secs(30),
            pause_min: Duration::from_secs(1),
            pause_max: Duration::from_mins(1),
        }
    }
}

/// One plugin's record.
#[derive(Debug)]
pub(crate) struct Breaker {
    config: BreakerConfig,
    state: Mutex<State>,
}

#[derive(Debug)]
enum State {
    /// Times of the faults since the last success, the oldest first; fewer than make it open.
    Closed(Vec<Instant>),
    Open {
        until: Instant,
        pause: Duration,
    },
    /// A request tries it out.
    Trial {
        pause: Duration,
    },
}

/// How a plugin stands, for people and gauges.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    Closed,
    Trial,
    Open { pause: Duration },
}

/// Whether a request may use the plugin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Admission {
    /// As always.
    Allowed,
    /// It is the one that tries it out; how that ended has to be told.
    Trial,
    /// Not now, and when to ask again.
    Refused { retry_after: Duration },
}

impl Breaker {
    pub(crate) fn new(config: BreakerConfig) -> Self {
        Self { config, state: Mutex::new(State::Closed(Vec::new())) }
    }

    pub(crate) fn admit(&self, now: Instant) -> Admission {
        let mut state = self.lock();
        match *state {
            State::Closed(_) => Admission::Allowed,
            State::Open { until, .. } if now < until => Admission::Refused { retry_after: until - now },
            State::Open { pause, .. } => {
                *state = State::Trial { pause };
                Admission::Trial
            }
            State::Trial { pause } => Admission::Refused { retry_after: pause },
        }
    }

    /// A request was through with the plugin, without a fault. Says how the plugin stands if that has changed.
    pub(crate) fn succeeded(&self, admission: Admission) -> Option<Standing> {
        let mut state = self.lock();
        match (&mut *state, admission) {
            (State::Closed(faults), _) => {
                faults.clear();
                None
            }
            // One that began before the plugin was given up says nothing of what comes now.
            (_, Admission::Allowed | Admission::Refused { .. }) => None,
            (_, Admission::Trial) => {
                *state = State::Closed(Vec::new());
                Some(Standing::Closed)
            }
        }
    }

    /// A request met a fault of the plugin. Says how the plugin stands if that has changed.
    pub(crate) fn failed(&self, admission: Admission, now: Instant) -> Option<Standing> {
        let BreakerConfig { faults_max, window, pause_min, pause_max } = self.config;
        let mut state = self.lock();
        let pause = match &mut *state {
            State::Closed(faults) => {
                faults.retain(|&fault| now.duration_since(fault) <= window);
                faults.push(now);
                if faults_max == 0 {
                    faults.clear();
                }
                if faults.len() < faults_max.max(1) as usize {
                    return None;
                }
                pause_min
            }
            State::Trial { pause } if admission == Admission::Trial => (*pause * 2).min(pause_max),
            State::Trial { .. } | State::Open { .. } => return None,
        };
        *state = State::Open { until: now + pause, pause };
        Some(Standing::Open { pause })
    }

    /// A request left before anybody could say how the plugin does; the next one tries.
    pub(crate) fn abandoned(&self, admission: Admission, now: Instant) {
        let mut state = self.lock();
        if let (State::Trial { pause }, Admission::Trial) = (&*state, admission) {
            *state = State::Open { until: now, pause: *pause };
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing that can panic half way runs under this lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn breaker() -> Breaker {
        let config = BreakerConfig { faults_max: 3, window: 10 * SECOND, pause_min: SECOND, pause_max: 3 * SECOND };
        Breaker::new(config)
    }

    fn fail(breaker: &Breaker, now: Instant) -> Option<Standing> {
        let admission = breaker.admit(now);
        breaker.failed(admission, now)
    }

    #[test]
    fn faults_in_a_row_open_it_and_a_trial_closes_it() {
        let (breaker, now) = (breaker(), Instant::now());
        assert_eq!([fail(&breaker, now), fail(&breaker, now)], [None, None]);
        assert_eq!(fail(&breaker, now), Some(Standing::Open { pause: SECOND }));
        assert_eq!(breaker.admit(now), Admission::Refused { retry_after: SECOND });
        assert_eq!(breaker.admit(now + SECOND), Admission::Trial);
        assert_eq!(breaker.admit(now + SECOND), Admission::Refused { retry_after: SECOND }, "one at a time");
        assert_eq!(breaker.succeeded(Admission::Allowed), None, "an older request proves nothing");
        assert_eq!(breaker.succeeded(Admission::Trial), Some(Standing::Closed));
        assert_eq!(breaker.admit(now + SECOND), Admission::Allowed);
        assert_eq!(fail(&breaker, now), None, "the count began anew");
    }

    #[test]
    fn each_trial_that_fails_doubles_the_pause() {
        let (breaker, mut now) = (breaker(), Instant::now());
        let _ = [fail(&breaker, now), fail(&breaker, now), fail(&breaker, now)];
        for pause in [2, 3, 3] {
            now += 3 * SECOND;
            assert_eq!(fail(&breaker, now), Some(Standing::Open { pause: pause * SECOND }));
        }
    }

    #[test]
    fn a_success_between_and_old_faults_do_not_count() {
        let (breaker, now) = (breaker(), Instant::now());
        for _ in 0..10 {
            assert_eq!([fail(&breaker, now), fail(&breaker, now)], [None, None]);
            assert_eq!(breaker.succeeded(Admission::Allowed), None);
        }
        for number in 0..10 {
            assert_eq!(fail(&breaker, now + number * 6 * SECOND), None);
        }
    }

    #[test]
    fn a_trial_that_nobody_waited_for_is_made_again() {
        let (breaker, now) = (breaker(), Instant::now());
        let _ = [fail(&breaker, now), fail(&breaker, now), fail(&breaker, now)];
        let later = now + SECOND;
        assert_eq!(breaker.admit(later), Admission::Trial);
        breaker.abandoned(Admission::Allowed, later);
        assert_eq!(breaker.admit(later), Admission::Refused { retry_after: SECOND });
        breaker.abandoned(Admission::Trial, later);
        assert_eq!(breaker.admit(later), Admission::Trial);
    }

    #[test]
    fn none_never_opens() {
        let breaker = Breaker::new(BreakerConfig { faults_max: 0, ..BreakerConfig::default() });
        let now = Instant::now();
        assert!((0..1_000).all(|_| fail(&breaker, now).is_none()));
    }
}
