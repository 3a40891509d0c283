//! Stops asking a plugin that only fails: its requests fail at once, or go on without it, for a pause that grows while it
//! goes on failing.
//!
//! Whoever finds out what a plugin trips over must not have it refused to everybody else. So only faults in a row count,
//! those before the answer and those in it each by themselves, as the former come within milliseconds and the latter's
//! proof of the opposite, an answer that ends well, takes seconds. After a pause all requests are let in, not one that
//! tries for the others: that one could be anybody's, and take its time.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::report::seconds;

/// When a plugin is given up, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BreakerConfig {
    /// Requests in a row that end with a fault of the plugin before it is given up; 0: it never is. Five are no accident, and
    /// five times its CPU budget is what a broken plugin may cost.
    pub faults_max: u32,
    /// All of them within this time: a plugin that fails once an hour is not broken, even if nobody else asks it.
    pub window: Duration,
    /// The first pause. Short, since whoever provokes the faults would have it imposed on others.
    pub pause_min: Duration,
    /// The longest pause: each that follows another without a success between doubles it up to here.
    pub pause_max: Duration,
}

impl Default for BreakerConfig {
    fn default() -> Self {
        Self {
            faults_max: 5,
            window: Duration::from_secs(30),
            pause_min: Duration::from_secs(1),
            pause_max: Duration::from_secs(8),
        }
    }
}

/// One plugin's record.
#[derive(Debug)]
pub(crate) struct Breaker {
    config: BreakerConfig,
    state: Mutex<State>,
}

/// How far a request has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Policies, the prompt, the opening of parser and filters.
    Request,
    /// Everything behind the model.
    Answer,
}

#[derive(Debug)]
enum State {
    Asked {
        /// Times of the faults since the last success of each phase, the oldest first; fewer than make it open.
        faults: [Vec<Instant>; 2],
        /// What it was given up for, and how long the pause was, until it succeeds at that.
        was_open: Option<(Phase, Duration)>,
    },
    Open {
        until: Instant,
        phase: Phase,
        pause: Duration,
    },
}

/// How a plugin stands, for people and gauges.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    Closed,
    /// A pause is over, and what it was for has not succeeded yet.
    Trial,
    Open {
        pause: Duration,
    },
}

/// How a plugin stands with its breaker now, for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(tag = "state", rename_all = "lowercase")]
pub enum BreakerStatus {
    /// It is asked as always.
    Closed,
    /// A pause is over, and what it was for has not succeeded yet.
    Trial,
    /// It is not asked.
    Open {
        /// For so long from now.
        #[serde(rename = "retry_after_seconds", serialize_with = "seconds")]
        retry_after: Duration,
    },
}

/// Whether a request may use the plugin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Admission {
    /// As always.
    Allowed,
    /// It is the first after a pause.
    First,
    /// Not now, and when to ask again.
    Refused { retry_after: Duration },
}

impl Breaker {
    pub(crate) fn new(config: BreakerConfig) -> Self {
        Self { config, state: Mutex::new(State::Asked { faults: Default::default(), was_open: None }) }
    }

    pub(crate) fn admit(&self, now: Instant) -> Admission {
        let mut state = self.lock();
        match *state {
            State::Asked { .. } => Admission::Allowed,
            State::Open { until, .. } if now < until => Admission::Refused { retry_after: until - now },
            State::Open { phase, pause, .. } => {
                *state = State::Asked { faults: Default::default(), was_open: Some((phase, pause)) };
                Admission::First
            }
        }
    }

    /// A request was through with a phase, without a fault. Says how the plugin stands if that has changed.
    pub(crate) fn succeeded(&self, phase: Phase) -> Option<Standing> {
        let mut state = self.lock();
        // One that began before the plugin was given up says nothing of what comes now.
        let State::Asked { faults, was_open } = &mut *state else { return None };
        faults[phase as usize].clear();
        was_open.take_if(|(bad, _)| *bad == phase).map(|_| Standing::Closed)
    }

    /// A request met a fault of the plugin. Says how the plugin stands if that has changed.
    pub(crate) fn failed(&self, phase: Phase, now: Instant) -> Option<Standing> {
        let BreakerConfig { faults_max, window, pause_min, pause_max } = self.config;
        let mut state = self.lock();
        let State::Asked { faults, was_open } = &mut *state else { return None };
        if faults_max == 0 {
            return None;
        }
        let faults = &mut faults[phase as usize];
        faults.retain(|&fault| now.duration_since(fault) <= window);
        faults.push(now);
        if faults.len() < faults_max as usize {
            return None;
        }
        let pause = was_open.map_or(pause_min, |(_, pause)| (pause * 2).min(pause_max));
        *state = State::Open { until: now + pause, phase, pause };
        Some(Standing::Open { pause })
    }

    /// How the plugin stands. A pause that is over is a trial, even if nobody has come since.
    pub(crate) fn status(&self, now: Instant) -> BreakerStatus {
        match *self.lock() {
            State::Asked { was_open: None, .. } => BreakerStatus::Closed,
            State::Open { until, .. } if now < until => BreakerStatus::Open { retry_after: until - now },
            State::Asked { .. } | State::Open { .. } => BreakerStatus::Trial,
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
        breaker.failed(Phase::Request, now)
    }

    #[test]
    fn faults_in_a_row_open_it_and_all_may_try_after_a_pause() {
        let (breaker, now) = (breaker(), Instant::now());
        assert_eq!([fail(&breaker, now), fail(&breaker, now)], [None, None]);
        assert_eq!(fail(&breaker, now), Some(Standing::Open { pause: SECOND }));
        assert_eq!(breaker.admit(now), Admission::Refused { retry_after: SECOND });
        assert_eq!(breaker.status(now), BreakerStatus::Open { retry_after: SECOND });
        assert_eq!(breaker.status(now + SECOND), BreakerStatus::Trial, "though nobody has come yet");
        assert_eq!(breaker.succeeded(Phase::Request), None, "an older request proves nothing");
        assert_eq!(breaker.admit(now + SECOND), Admission::First);
        assert_eq!(breaker.admit(now + SECOND), Admission::Allowed, "nobody waits for the first to end");
        assert_eq!(breaker.succeeded(Phase::Answer), None, "that is not what it was given up for");
        assert_eq!(breaker.status(now + SECOND), BreakerStatus::Trial);
        assert_eq!(breaker.succeeded(Phase::Request), Some(Standing::Closed));
        assert_eq!(breaker.status(now + SECOND), BreakerStatus::Closed);
        assert_eq!(breaker.succeeded(Phase::Request), None, "said once");
    }

    #[test]
    fn each_pause_without_a_success_is_twice_as_long() {
        let (breaker, mut now) = (breaker(), Instant::now());
        for pause in [1, 2, 3, 3] {
            assert_eq!([fail(&breaker, now), fail(&breaker, now)], [None, None]);
            assert_eq!(fail(&breaker, now), Some(Standing::Open { pause: pause * SECOND }));
            now += pause * SECOND;
            assert_eq!(breaker.admit(now), Admission::First);
        }
        assert_eq!(breaker.succeeded(Phase::Request), Some(Standing::Closed));
        let _ = [fail(&breaker, now), fail(&breaker, now)];
        assert_eq!(fail(&breaker, now), Some(Standing::Open { pause: SECOND }), "it began anew");
    }

    #[test]
    fn a_success_between_and_old_faults_do_not_count() {
        let (breaker, now) = (breaker(), Instant::now());
        for _ in 0..10 {
            assert_eq!([fail(&breaker, now), fail(&breaker, now)], [None, None]);
            assert_eq!(breaker.succeeded(Phase::Request), None);
        }
        for number in 0..10 {
            assert_eq!(fail(&breaker, now + number * 6 * SECOND), None);
        }
    }

    #[test]
    fn each_phase_has_a_row_of_its_own() {
        let (breaker, now) = (breaker(), Instant::now());
        for _ in 0..2 {
            assert_eq!(fail(&breaker, now), None);
            assert_eq!(breaker.failed(Phase::Answer, now), None);
            assert_eq!(breaker.succeeded(Phase::Request), None);
        }
        assert_eq!(breaker.failed(Phase::Answer, now), Some(Standing::Open { pause: SECOND }));
    }

    #[test]
    fn none_never_opens() {
        let breaker = Breaker::new(BreakerConfig { faults_max: 0, ..BreakerConfig::default() });
        let now = Instant::now();
        assert!((0..1_000).all(|_| fail(&breaker, now).is_none()));
    }
}
