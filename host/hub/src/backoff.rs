//! When to ask again (R14): Fibonacci pauses with jitter, or the pause that the hub asks for.

use std::time::{Duration, SystemTime};

use backon::{BackoffBuilder, FibonacciBackoff, FibonacciBuilder};
use http::HeaderMap;
use http::header::{DATE, RETRY_AFTER};

use crate::error::HubError;
use crate::limits::{ASKED_MAX_DEFAULT, DELAY_MAX_DEFAULT, DELAY_MIN_DEFAULT, RETRIES_MAX_DEFAULT};

/// How patient retries are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// The first pause, and what each pause is jittered by.
    pub delay_min: Duration,
    /// The longest pause of our own choosing.
    pub delay_max: Duration,
    /// Retries in a row without progress.
    pub retries_max: usize,
    /// The longest pause that a hub may ask for; asked for more, nothing is retried and the error says how long.
    pub asked_max: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            delay_min: DELAY_MIN_DEFAULT,
            delay_max: DELAY_MAX_DEFAULT,
            retries_max: RETRIES_MAX_DEFAULT,
            asked_max: ASKED_MAX_DEFAULT,
        }
    }
}

/// The pauses of one piece of work, from its first failure to its success.
#[derive(Debug)]
pub struct Backoff {
    patience: Patience,
    delays: FibonacciBackoff,
}

impl Backoff {
    /// No failure yet.
    #[must_use]
    pub fn new(patience: Patience) -> Self {
        Self { patience, delays: delays(patience) }
    }

    /// How long to wait after this failure, or `None` to give up: it is final, the retries are used up, or the hub asks
    /// for more patience than there is.
    #[must_use]
    pub fn after(&mut self, error: &HubError) -> Option<Duration> {
        if !error.is_transient() {
            return None;
        }
        let asked = error.retry_after().unwrap_or_default();
        if asked > self.patience.asked_max {
            return None;
        }
        Some(self.delays.next()?.min(self.patience.delay_max).max(asked))
    }

    /// Something came: the next failure is a first one.
    pub fn progressed(&mut self) {
        self.delays = delays(self.patience);
    }
}

fn delays(patience: Patience) -> FibonacciBackoff {
    FibonacciBuilder::new()
        .with_jitter()
        .with_min_delay(patience.delay_min)
        .with_max_delay(patience.delay_max)
        .with_max_times(patience.retries_max)
        .build()
}

/// The pause that an answer asks for: the Hub's own count of requests when it is used up, else `Retry-After` in either
/// of its forms.
pub(crate) fn asked_pause(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim);
    if let Some(pause) = text("ratelimit").and_then(used_up) {
        return Some(pause);
    }
    let given = text(RETRY_AFTER.as_str())?;
    if let Ok(seconds) = given.parse() {
        return Some(Duration::from_secs(seconds));
    }
    // Against the server's own clock where it shows it: ours may be wrong.
    let now = text(DATE.as_str()).and_then(|date| httpdate::parse_http_date(date).ok()).unwrap_or(now);
    let then = httpdate::parse_http_date(given).ok()?;
    Some(then.duration_since(now).unwrap_or_default())
}

/// `"resolvers";r=0;t=172`: nothing is left of this window, which ends in 172 s.
fn used_up(header: &str) -> Option<Duration> {
    let parameter = |name: &str| {
        let mut parameters = header.split(';').skip(1).map(str::trim);
        parameters.find_map(|it| it.strip_prefix(name)?.strip_prefix('=')?.parse::<u64>().ok())
    };
    // One second more: the window's end is rounded.
    (parameter("r")? == 0).then(|| parameter("t").map(|it| Duration::from_secs(it.saturating_add(1))))?
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::refusal::{Refusal, RefusalKind};

    const QUICK: Patience = Patience {
        delay_min: Duration::from_millis(10),
        delay_max: Duration::from_millis(60),
        retries_max: 9,
        asked_max: Duration::from_mins(5),
    };

    fn refusal(kind: RefusalKind, retry_after: Option<Duration>) -> HubError {
        HubError::Refused(Box::new(Refusal {
            kind,
            status: 0,
            what: String::new(),
            origin: String::new(),
            page: String::new(),
            is_endpoint: true,
            token: None,
            message: None,
            request_id: None,
            retry_after,
        }))
    }

    // R14
    #[test]
    fn pauses_grow_like_fibonaccis_numbers_up_to_the_longest() {
        let failure = refusal(RefusalKind::Server, None);
        let mut backoff = Backoff::new(QUICK);
        let pauses: Vec<_> = std::iter::from_fn(|| backoff.after(&failure)).collect();
        let least = [10, 10, 20, 30, 50, 60, 60, 60, 60].map(Duration::from_millis);
        assert_eq!(pauses.len(), least.len());
        for (pause, least) in pauses.iter().zip(least) {
            assert!((least..=least + QUICK.delay_min).contains(pause), "{pauses:?}");
        }
    }

    // R14
    #[test]
    fn pauses_of_two_clients_differ() {
        let failure = refusal(RefusalKind::Server, None);
        let sum = || {
            let mut backoff = Backoff::new(QUICK);
            std::iter::from_fn(|| backoff.after(&failure)).sum::<Duration>()
        };
        assert_ne!(sum(), sum());
    }

    // R14
    #[test]
    fn progress_makes_the_next_failure_a_first_one() {
        let failure = refusal(RefusalKind::Storage, None);
        let mut backoff = Backoff::new(QUICK);
        while backoff.after(&failure).is_some() {}
        backoff.progressed();
        assert!(backoff.after(&failure).expect("retries again") <= 2 * QUICK.delay_min);
    }

    // R14
    #[test]
    fn what_is_final_is_never_retried() {
        use RefusalKind::{Anonymous, FileMissing, GatedAccess, GatedLogin, Missing, RepositoryMissing, Token};
        for kind in [Anonymous, Token, GatedLogin, GatedAccess, RepositoryMissing, FileMissing, Missing] {
            assert_eq!(Backoff::new(QUICK).after(&refusal(kind, Some(Duration::ZERO))), None, "{kind:?}");
        }
    }

    // R14
    #[test]
    fn the_hub_is_given_the_time_it_asks_for_within_reason() {
        let mut backoff = Backoff::new(QUICK);
        let asked = Duration::from_secs(42);
        assert_eq!(backoff.after(&refusal(RefusalKind::TooMany, Some(asked))), Some(asked));
        let shortly = refusal(RefusalKind::TooMany, Some(Duration::ZERO));
        assert!(backoff.after(&shortly).expect("a pause") >= QUICK.delay_min);
        let too_long = refusal(RefusalKind::TooMany, Some(Duration::from_secs(301)));
        assert_eq!(backoff.after(&too_long), None);
    }

    fn check(headers: &[(&'static str, &'static str)], expected_seconds: Option<u64>) {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.insert(*name, http::HeaderValue::from_static(value));
        }
        let now = httpdate::parse_http_date("Sat, 21 Nov 2026 10:00:00 GMT").expect("a date");
        assert_eq!(asked_pause(&map, now), expected_seconds.map(Duration::from_secs), "{headers:?}");
    }

    // R14
    #[test]
    fn every_way_to_ask_for_a_pause_is_understood() {
        check(&[], None);
        check(&[("retry-after", "7")], Some(7));
        check(&[("retry-after", " 0 ")], Some(0));
        check(&[("retry-after", "Sat, 21 Nov 2026 10:00:30 GMT")], Some(30));
        check(&[("retry-after", "Sat, 21 Nov 2026 09:00:00 GMT")], Some(0));
        let skewed = ("date", "Sat, 21 Nov 2026 08:00:00 GMT");
        check(&[("retry-after", "Sat, 21 Nov 2026 08:00:05 GMT"), skewed], Some(5));
        check(&[("ratelimit", "\"resolvers\";r=0;t=172")], Some(173));
        check(&[("ratelimit", "\"api\"; r=0; t=9"), ("retry-after", "300")], Some(10));
        check(&[("ratelimit", "\"api\";r=12;t=172"), ("retry-after", "3")], Some(3));
        check(&[("ratelimit", "\"api\";r=12;t=172")], None);
    }

    #[test]
    fn nonsense_asks_for_nothing() {
        for given in ["-1", "1.5", "soon", "", "99999999999999999999999"] {
            check(&[("retry-after", given)], None);
        }
        for given in ["", ";", "r=0", "\"api\";r=0", "\"api\";r=x;t=1", "\"api\";rr=0;t=1"] {
            check(&[("ratelimit", given)], None);
        }
        check(&[("ratelimit", "\"api\";r=0;t=18446744073709551615")], Some(u64::MAX));
    }
}
