//! How far a download is, for whoever watches: a bar on a terminal, lines in a log, a sentence in `/readyz`.

use std::fmt::Write as _;
use std::future::Future;
use std::io::{self, IsTerminal as _};
use std::pin::pin;
use std::time::{Duration, Instant};

use bytesize::ByteSize;
use indicatif::{ProgressBar, ProgressStyle};
use store::{Phase, Progress, Snapshot};

use crate::console;

/// How often a bar or `/readyz` is brought up to date: fluent for the eye, nothing for the processor.
const TICK: Duration = Duration::from_millis(200);
/// How often a log gets a line: a download of an hour leaves 360.
const LOG_INTERVAL: Duration = Duration::from_secs(10);
/// Over how long the rate is averaged, so that it neither jumps nor lags.
const RATE_WINDOW: Duration = Duration::from_secs(5);

/// Runs `work` and calls `tick` again and again meanwhile, and once at its end.
pub(crate) async fn follow<T>(work: impl Future<Output = T>, mut tick: impl FnMut()) -> T {
    let mut work = pin!(work);
    let mut timer = tokio::time::interval(TICK);
    loop {
        tokio::select! {
            done = &mut work => {
                tick();
                return done;
            }
            _ = timer.tick() => tick(),
        }
    }
}

/// Runs a command's `work` and shows its progress: as a bar where people watch, else in log lines.
pub(crate) async fn show<T>(what: &str, progress: &Progress, work: impl Future<Output = T>) -> T {
    if !io::stderr().is_terminal() {
        let mut log = Log::new(what);
        return follow(work, || {
            log.tick(&progress.snapshot());
        })
        .await;
    }
    let bar = console::bars().add(ProgressBar::no_length());
    // The name comes last: it may be long, and what does not fit the line is cut off.
    let (counting, working) = ("{bar:16} {wide_msg}", "{spinner} {wide_msg}");
    // A template that is wrong is shown as indicatif's own bar.
    let style = |template| ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    let (mut rate, mut is_counting) = (Rate::default(), None);
    let done = follow(work, || {
        let now = progress.snapshot();
        let rate = rate.of(Instant::now(), &now);
        let (phase, amount) = (now.phase.as_str(), amount(&now));
        bar.set_message(match amount {
            Some((done, total)) => format!("{}  {what}: {phase}", numbers(done, total, rate)),
            None => format!("{what}: {phase}"),
        });
        if is_counting.replace(amount.is_some()) != Some(amount.is_some()) {
            bar.set_style(style(if amount.is_some() { counting } else { working }));
        }
        if let Some((done, total)) = amount {
            bar.set_length(total);
            bar.set_position(done);
        }
        bar.tick();
    })
    .await;
    bar.finish_and_clear();
    done
}

/// Log lines about a download, not too many of them.
pub(crate) struct Log<'a> {
    what: &'a str,
    rate: Rate,
    phase: Option<Phase>,
    due: Instant,
}

impl<'a> Log<'a> {
    pub(crate) fn new(what: &'a str) -> Self {
        Self { what, rate: Rate::default(), phase: None, due: Instant::now() }
    }

    /// Logs when the phase has changed, or when the last line is old. The sentence is returned in any case.
    pub(crate) fn tick(&mut self, now: &Snapshot) -> String {
        let rate = self.rate.of(Instant::now(), now);
        let sentence = sentence(self.what, now, rate);
        if matches!(now.phase, Phase::Idle | Phase::Done) {
            return sentence;
        }
        let is_new = self.phase.replace(now.phase) != Some(now.phase);
        if is_new || Instant::now() >= self.due {
            self.due = Instant::now() + LOG_INTERVAL;
            tracing::info!(
                model = self.what,
                phase = now.phase.as_str(),
                bytes_done = now.bytes_done,
                bytes_total = now.bytes_total,
                retries = now.retries,
                "{sentence}"
            );
        }
        sentence
    }
}

/// `acme/tiny: downloading 1.2 GB of 4.1 GB (29 %), 210 MB/s, 14 s left`.
fn sentence(what: &str, now: &Snapshot, bytes_per_second: Option<f64>) -> String {
    let phase = now.phase.as_str();
    match amount(now) {
        Some((done, total)) => format!("{what}: {phase} {}", numbers(done, total, bytes_per_second)),
        None => format!("{what}: {phase}"),
    }
}

/// `1.2 GB of 4.1 GB (29 %), 210 MB/s, 14 s left`.
fn numbers(done: u64, total: u64, bytes_per_second: Option<f64>) -> String {
    let percent = done.saturating_mul(100) / total;
    let mut numbers = format!("{} of {} ({percent} %)", size(done), size(total));
    if let Some(rate) = bytes_per_second.filter(|&rate| rate >= 1.0) {
        let seconds = total.saturating_sub(done) as f64 / rate;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "at least 1, and shown to people")]
        let rate = rate as u64;
        let _ = write!(numbers, ", {}/s, {} left", size(rate), duration(seconds));
    }
    numbers
}

/// Seconds in the unit that one would say.
fn duration(seconds: f64) -> String {
    match seconds {
        ..=120.0 => format!("{seconds:.0} s"),
        ..=7200.0 => format!("{:.0} min", seconds / 60.0),
        _ => format!("{:.0} h", seconds / 3600.0),
    }
}

/// Bytes that are there and bytes to come to, in the phases that have such a number.
fn amount(now: &Snapshot) -> Option<(u64, u64)> {
    let (done, total) = match now.phase {
        Phase::Downloading => (now.bytes_done, now.bytes_total),
        Phase::Verifying => (now.bytes_hashed, now.bytes_to_hash),
        _ => return None,
    };
    (total > 0).then_some((done.min(total), total))
}

/// Bytes for people, in the decimal units that disks and models are sold in.
pub(crate) fn size(bytes: u64) -> String {
    ByteSize::b(bytes).display().si().to_string()
}

/// Bytes per second over the last seconds.
#[derive(Default)]
struct Rate {
    phase: Phase,
    seen: std::collections::VecDeque<(Instant, u64)>,
}

impl Rate {
    /// How fast this phase moves what it moves. What was found on this disk was not moved, and says nothing of the rest.
    fn of(&mut self, at: Instant, now: &Snapshot) -> Option<f64> {
        if std::mem::replace(&mut self.phase, now.phase) != now.phase {
            self.seen.clear();
        }
        match now.phase {
            Phase::Downloading => self.observe(at, now.bytes_received),
            Phase::Verifying => self.observe(at, now.bytes_hashed),
            _ => None,
        }
    }

    fn observe(&mut self, now: Instant, bytes: u64) -> Option<f64> {
        self.seen.push_back((now, bytes));
        while self.seen.len() > 2 && self.seen.front().is_some_and(|&(at, _)| now.duration_since(at) > RATE_WINDOW) {
            self.seen.pop_front();
        }
        let &(since, before) = self.seen.front()?;
        let seconds = now.duration_since(since).as_secs_f64();
        (seconds > 0.0).then(|| bytes.saturating_sub(before) as f64 / seconds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_that_of_the_last_seconds() {
        let (mut rate, start) = (Rate::default(), Instant::now());
        let mut at = |seconds, bytes| rate.observe(start + Duration::from_secs(seconds), bytes);
        assert_eq!(at(0, 0), None);
        assert_eq!(at(1, 1000), Some(1000.0));
        for second in 2..=20 {
            at(second, 1000 + (second - 1) * 10);
        }
        assert_eq!(at(21, 1200), Some(10.0), "the burst at the start is forgotten");
    }

    #[test]
    fn what_an_earlier_pull_left_is_no_speed() {
        let (mut rate, start) = (Rate::default(), Instant::now());
        let mut at = |seconds, now: Snapshot| rate.of(start + Duration::from_secs(seconds), &now);
        let resolving = Snapshot { phase: Phase::Resolving, ..Snapshot::default() };
        assert_eq!(at(0, resolving), None);
        let found = Snapshot { phase: Phase::Downloading, bytes_done: 3_000_000, ..Snapshot::default() };
        assert_eq!(at(1, found), None);
        let now = Snapshot { bytes_done: 3_000_500, bytes_received: 500, ..found };
        assert_eq!(at(2, now), Some(500.0));
        // Another phase counts other bytes.
        assert_eq!(at(3, Snapshot { phase: Phase::Verifying, bytes_hashed: 9_000, ..now }), None);
    }

    #[test]
    fn a_sentence_says_how_far_and_how_long() {
        let now = Snapshot { phase: Phase::Downloading, bytes_done: 1_200, bytes_total: 4_000, ..Snapshot::default() };
        assert_eq!(sentence("a/b", &now, Some(700.0)), "a/b: downloading 1.2 kB of 4.0 kB (30 %), 700 B/s, 4 s left");
        assert_eq!(sentence("a/b", &now, None), "a/b: downloading 1.2 kB of 4.0 kB (30 %)");
        let now = Snapshot { phase: Phase::Resolving, ..now };
        assert_eq!(sentence("a/b", &now, None), "a/b: asking the hub");
        assert_eq!([119.6, 125.0, 7_100.0, 86_000.0].map(duration), ["120 s", "2 min", "118 min", "24 h"]);
    }
}
