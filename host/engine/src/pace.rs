//! How much of a prompt a step computes beside answers: as much as keeps their readers waiting no longer than they should.
//!
//! What a prompt token costs depends on the machine, on its neighbours, and on how far into the prompt it stands (attention
//! to 3,500 tokens more than doubles it on two cores), so it is measured at every step. Pure: time comes from outside.

use std::time::Duration;

/// Chunks are multiples of this where they are longer: what matrix kernels compute together.
const GRAIN: usize = 16;

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
        let least = GRAIN.min(self.tokens_max);
        let wanted = affordable.min(2 * tokens.max(least)).clamp(least, self.tokens_max);
        self.tokens = if wanted > GRAIN { wanted / GRAIN * GRAIN } else { wanted };
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
        let steps = run(&mut pace(), Duration::from_millis(10), 4);
        assert_eq!(steps[0].0, 128);
        for (tokens, elapsed) in &steps[1..] {
            assert!(*tokens >= 16 && *elapsed <= Duration::from_millis(400), "{steps:?}");
        }
    }

    #[test]
    fn a_fast_machine_gets_the_longest_chunks() {
        let steps = run(&mut pace(), Duration::from_micros(20), 3);
        assert_eq!(steps.iter().map(|step| step.0).collect::<Vec<_>>(), [128, 256, 256]);
    }

    #[test]
    fn what_was_slow_once_recovers() {
        let mut pace = pace();
        pace.learn(128, Duration::from_secs(60));
        assert_eq!(pace.tokens(), 16, "never less: a prompt has to come to its end");
        let steps = run(&mut pace, Duration::from_millis(2), 6);
        assert_eq!(steps.iter().map(|step| step.0).collect::<Vec<_>>(), [16, 32, 64, 128, 192, 192]);
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
