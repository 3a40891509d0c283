//! How much of a prompt a step computes beside answers: as much as keeps their readers waiting no longer than they should.
//!
//! What a prompt token costs depends on the machine, on its neighbours, and on how far into the prompt it stands (attention to 3,500
//! tokens more than doubles it on two cores), so it is measured at every step. Pure: time comes from outside.

use std::time::Duration;

/// Rows that llama.cpp's CPU kernel of attention takes as a tile (`GGML_FA_TILE_Q`). With fewer it reads the keys and values
/// again for each row: of 3,500 tokens beside an answer, chunks of some 34 took 0.28 s each and 29 s in all, chunks of 65 0.36 s and
/// 20 s (`SmolLM2`, two cores, `tests/load/run.sh gap`).
const TILE: usize = 64;
/// Beside answers, the first row of a chunk is computed with theirs: llama.cpp splits a batch so that all sequences of a part
/// have as many rows.
const WITH_ANSWERS: usize = 1;

#[derive(Debug)]
pub(crate) struct Pace {
    step_time: Duration,
    tokens: usize,
    tokens_max: usize,
}

impl Pace {
    /// Begins with `tokens`, goes never beyond `tokens_max`, and aims at steps of `step_time`.
    pub(crate) fn new(tokens: usize, tokens_max: usize, step_time: Duration) -> Self {
        Self { step_time, tokens: tokens.min(tokens_max), tokens_max }
    }

    /// Prompt tokens of the next step that answers take part in.
    pub(crate) fn tokens(&self) -> usize {
        self.tokens
    }

    /// Takes note that such a step with `tokens` of prompts took so long. Slower steps count at once; faster ones twice as
    /// much at most, as one fast step proves little.
    pub(crate) fn learn(&mut self, tokens: usize, elapsed: Duration) {
        if tokens == 0 || elapsed.is_zero() {
            return;
        }
        let affordable = self.step_time.as_secs_f64() / elapsed.as_secs_f64() * tokens as f64;
        // As a float it saturates; beyond `tokens_max` it does not matter how far.
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "positive, and capped below")]
        let affordable = affordable as usize;
        let tiles = (affordable.min(2 * tokens) / TILE).max(1);
        self.tokens = tiles.saturating_mul(TILE).saturating_add(WITH_ANSWERS).min(self.tokens_max);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Steps on a machine on which a prompt token costs `cost` and everything else 10 ms.
    fn run(pace: &mut Pace, cost: Duration, steps: usize) -> Vec<(usize, Duration)> {
        let step = |_| {
            let tokens = pace.tokens();
            let elapsed = Duration::from_millis(10) + cost * u32::try_from(tokens).unwrap();
            pace.learn(tokens, elapsed);
            (tokens, elapsed)
        };
        (0..steps).map(step).collect()
    }

    fn pace() -> Pace {
        Pace::new(128, 256, Duration::from_millis(400))
    }

    #[test]
    fn a_slow_machine_gets_shorter_chunks_at_once() {
        let steps = run(&mut pace(), Duration::from_millis(4), 4);
        assert_eq!(steps.iter().map(|step| step.0).collect::<Vec<_>>(), [128, 65, 65, 65]);
        assert!(steps[1..].iter().all(|(_, elapsed)| *elapsed <= Duration::from_millis(400)), "{steps:?}");
    }

    #[test]
    fn a_fast_machine_gets_the_longest_chunks() {
        let steps = run(&mut pace(), Duration::from_micros(20), 3);
        assert_eq!(steps.iter().map(|step| step.0).collect::<Vec<_>>(), [128, 256, 256]);
    }

    #[test]
    fn what_was_slow_once_recovers() {
        let mut pace = pace();
        pace.learn(128, Duration::from_mins(1));
        assert_eq!(pace.tokens(), 65, "never less than a tile: that would gain nothing");
        let steps = run(&mut pace, Duration::from_millis(2), 4);
        assert_eq!(steps.iter().map(|step| step.0).collect::<Vec<_>>(), [65, 129, 193, 193]);
        let steps = run(&mut pace, Duration::from_millis(1), 3);
        assert_eq!(steps.iter().map(|step| step.0).collect::<Vec<_>>(), [193, 256, 256]);
    }

    #[test]
    fn a_step_that_says_nothing_changes_nothing() {
        let mut pace = pace();
        pace.learn(0, Duration::from_secs(1));
        pace.learn(128, Duration::ZERO);
        assert_eq!(pace.tokens(), 128);
        assert_eq!(Pace::new(128, 6, Duration::from_secs(1)).tokens(), 6);
    }
}
