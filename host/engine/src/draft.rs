//! Prompt-lookup drafting: what followed the last tokens when they came before is guessed to follow again
//! (github.com/apoorvumang/prompt-lookup-decoding). Pure, and no second model.
//!
//! Guesses are computed together with the token they follow, in one batch, and each is kept only where the sampler chooses
//! it: an answer is what it would have been. Texts that repeat their prompt (extraction, code that is edited, quotes) take a
//! fraction of the steps.
//!
//! Whether that is worth it depends on what a row more costs in a batch, next to nothing on a GPU and half a step of its own on
//! two cores, and on how often guesses are right. Both are measured, and as many tokens are guessed as promise the most tokens
//! for the time; often that is none.

use std::ops::RangeInclusive;
use std::time::Duration;

use inference::Token;

/// Tokens that have to agree, at most and at least. Two agree by chance all the time.
const AGREEING: RangeInclusive<usize> = 3..=6;
/// How likely a guessed token is thought to be right before any was seen, by how many tokens agree. Rather too little: what is
/// not guessed is learned from all the same, and the first wrong guesses of every answer are what guessing costs.
const LIKELIHOODS: [f64; 4] = [0.3, 0.4, 0.5, 0.6];
/// How much one more right or wrong guess counts against all before it.
const LEARNING: f64 = 0.2;
/// What is thought of the cost of guesses that are not made any more goes back by this share to what was thought before, step
/// by step.
const FORGETTING: f64 = 0.01;
/// What guesses have to promise to be made: what is measured is not exact, and a step with guesses comes less evenly.
const GAIN_MIN: f64 = 1.05;
/// What a row more is thought to cost before it was measured, in steps of one row: two cores, and a small model.
const ROW_COST: f64 = 0.5;

/// What may follow a text, and how many of its last tokens it followed before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Guess<'a> {
    pub(crate) tokens: &'a [Token],
    pub(crate) agreeing: usize,
}

/// What followed the last tokens of `tokens` where most of them, and of such places where they last, occurred before.
pub(crate) fn guess(tokens: &[Token]) -> Option<Guess<'_>> {
    let (least, most) = (*AGREEING.start(), *AGREEING.end());
    let pattern = &tokens[tokens.len().checked_sub(least)?..];
    // By the end of each occurrence. It may overlap the pattern, but not be it.
    let mut best: Option<Guess<'_>> = None;
    for end in (least..tokens.len()).rev() {
        if &tokens[end - least..end] != pattern {
            continue;
        }
        let more = tokens[..end - least].iter().rev().zip(tokens[..tokens.len() - least].iter().rev());
        let agreeing = least + more.take(most - least).take_while(|(a, b)| a == b).count();
        if best.is_none_or(|best| agreeing > best.agreeing) {
            best = Some(Guess { tokens: &tokens[end..], agreeing });
        }
        if agreeing == most {
            break;
        }
    }
    best
}

/// How likely the guesses of one sequence are right.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Speculation {
    /// By how many tokens agree.
    likelihoods: [f64; LIKELIHOODS.len()],
    /// How many agreed for the last guess.
    agreed: usize,
    /// What it would have been where it was not made: whether it is right is seen all the same, for nothing.
    expected: Option<Token>,
}

impl Default for Speculation {
    fn default() -> Self {
        Self { likelihoods: LIKELIHOODS, agreed: *AGREEING.start(), expected: None }
    }
}

impl Speculation {
    /// Takes note of a token that was sampled where none was guessed.
    pub(crate) fn sampled(&mut self, token: Token) {
        if let Some(expected) = self.expected.take() {
            self.learn(1, usize::from(expected == token));
        }
    }

    /// How many tokens of a guess to compute in the next step, at most `most`, where a row more costs `row_cost` steps.
    pub(crate) fn wanted(&mut self, guess: Guess<'_>, row_cost: f64, most: usize) -> usize {
        self.agreed = guess.agreeing;
        let likelihood = self.likelihoods[class(guess.agreeing)];
        // A right token brings the next one with it: 1 + p + p² + …, for the time of one step and `count` rows more.
        let (mut tokens, mut term, mut best, mut wanted) = (1.0, 1.0, GAIN_MIN, 0);
        for count in 1..=most {
            term *= likelihood;
            tokens += term;
            let gain = tokens / (1.0 + row_cost * count as f64);
            if gain > best {
                (best, wanted) = (gain, count);
            }
        }
        self.expected = guess.tokens.first().copied().filter(|_| wanted == 0);
        wanted
    }

    /// Takes note that of the `guessed` tokens that were computed the first `right` were right.
    pub(crate) fn learn(&mut self, guessed: usize, right: usize) {
        let likelihood = &mut self.likelihoods[class(self.agreed)];
        for _ in 0..right {
            *likelihood += LEARNING * (1.0 - *likelihood);
        }
        if right < guessed {
            *likelihood -= LEARNING * *likelihood;
        }
    }
}

fn class(agreeing: usize) -> usize {
    agreeing.clamp(*AGREEING.start(), *AGREEING.end()) - *AGREEING.start()
}

/// What a row more costs, in steps of one row: of steps that only one answer took part in.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RowCost {
    /// Seconds of a step of one row.
    alone: Option<f64>,
    relative: f64,
}

impl Default for RowCost {
    fn default() -> Self {
        Self { alone: None, relative: ROW_COST }
    }
}

impl RowCost {
    #[cfg(test)]
    pub(crate) fn free() -> Self {
        Self { alone: None, relative: 0.0 }
    }

    pub(crate) fn relative(&self) -> f64 {
        self.relative
    }

    /// Takes note that a guess was not made. What a row costs is found out by guessing only, and a few steps beside a busy
    /// neighbour may have told too much of it.
    pub(crate) fn forget(&mut self) {
        self.relative += FORGETTING * (ROW_COST.min(self.relative) - self.relative);
    }

    /// Takes note that a step of so many rows of one answer took so long.
    pub(crate) fn learn(&mut self, rows: usize, elapsed: Duration) {
        let elapsed = elapsed.as_secs_f64();
        let towards = |known: f64, found: f64| known + LEARNING * (found - known);
        match (rows, self.alone) {
            _ if elapsed <= 0.0 => {}
            (0, _) | (2.., None) => {}
            (1, alone) => self.alone = Some(alone.map_or(elapsed, |alone| towards(alone, elapsed))),
            (rows, Some(alone)) => {
                // A step that was interrupted says nothing of rows.
                let found = ((elapsed / alone - 1.0) / (rows - 1) as f64).clamp(0.0, 1.0);
                self.relative = towards(self.relative, found);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIX: Guess<'_> = Guess { tokens: &[Token(7)], agreeing: 6 };

    fn tokens(text: &str) -> Vec<Token> {
        text.bytes().map(|byte| Token(u32::from(byte))).collect()
    }

    fn guessed(text: &str) -> Option<(String, usize)> {
        let tokens = tokens(text);
        let Guess { tokens, agreeing } = guess(&tokens)?;
        Some((tokens.iter().map(|token| char::from(u8::try_from(token.0).unwrap())).collect(), agreeing))
    }

    #[test]
    fn what_followed_before_is_guessed() {
        assert_eq!(guessed("the cat sat. the c"), Some(("at sat. the c".to_owned(), 5)));
        assert_eq!(guessed("one the cat sat. one the c"), Some(("at sat. one the c".to_owned(), 6)));
    }

    #[test]
    fn the_longest_agreement_wins_and_then_the_last_one() {
        assert_eq!(guessed("xabcd1 abc2 abc3 xabc").unwrap().0.get(..1), Some("d"), "four agree in one place only");
        assert_eq!(guessed("abc1 abc2 -abc").unwrap().0.get(..1), Some("2"));
    }

    #[test]
    fn where_nothing_agrees_nothing_is_guessed() {
        for text in ["", "a", "abc", "abcdef", "ab ab", "the cat"] {
            assert_eq!(guessed(text), None, "{text}");
        }
    }

    #[test]
    fn a_loop_is_guessed_to_go_on() {
        assert_eq!(guessed("aaaa"), Some(("a".to_owned(), 3)));
        assert_eq!(guessed("hahahaha"), Some(("ha".to_owned(), 6)));
    }

    #[test]
    fn right_guesses_make_more_of_them_and_wrong_ones_none() {
        let mut speculation = Speculation::default();
        let mut wanted = Vec::new();
        for _ in 0..8 {
            let count = speculation.wanted(SIX, 0.5, 16);
            wanted.push(count);
            speculation.learn(count, count);
        }
        assert!(wanted.is_sorted() && wanted[0] >= 1 && wanted[7] == 16, "{wanted:?}");

        let steps_with_guesses = (0..200).filter(|_| {
            let count = speculation.wanted(SIX, 0.5, 16);
            if count > 0 {
                speculation.learn(count, 0);
            }
            speculation.sampled(Token(1));
            count > 0
        });
        let steps_with_guesses = steps_with_guesses.count();
        assert!((2..20).contains(&steps_with_guesses), "{steps_with_guesses} of 200");
        assert_eq!(Speculation::default().wanted(SIX, 0.0, 0), 0);
    }

    #[test]
    fn guesses_that_were_not_made_are_learned_from() {
        let mut speculation = Speculation { likelihoods: [0.1; 4], ..Speculation::default() };
        let steps = (1..50).find(|_| {
            let wanted = speculation.wanted(SIX, 0.5, 16);
            speculation.sampled(SIX.tokens[0]);
            wanted > 0
        });
        assert!(steps.is_some_and(|steps| (4..12).contains(&steps)), "{steps:?}: a copy is recognised in a few tokens");
        speculation.sampled(Token(1));
        let before = format!("{speculation:?}");
        speculation.sampled(Token(1));
        assert_eq!(format!("{speculation:?}"), before, "nothing was expected, so nothing is learned");
    }

    #[test]
    fn where_rows_are_cheap_more_is_guessed() {
        let wanted = |agreeing, row_cost| Speculation::default().wanted(Guess { agreeing, ..SIX }, row_cost, 16);
        assert_eq!(wanted(3, 0.5), 0);
        assert!(wanted(3, 0.01) > 1 && wanted(6, 0.01) > wanted(6, 0.5), "{} {}", wanted(6, 0.01), wanted(6, 0.5));
        assert_eq!(wanted(6, 1.0), 0, "what costs as much as a step is worth nothing");
    }

    #[test]
    fn a_busy_moment_does_not_end_guessing_for_good() {
        let (mut cost, mut speculation) = (RowCost::default(), Speculation::default());
        cost.learn(1, Duration::from_millis(10));
        for _ in 0..20 {
            cost.learn(2, Duration::from_millis(90));
        }
        assert_eq!(speculation.wanted(SIX, cost.relative(), 16), 0, "{cost:?}");
        let steps = (1..500).find(|_| {
            cost.forget();
            speculation.wanted(SIX, cost.relative(), 16) > 0
        });
        assert!(steps.is_some_and(|steps| steps > 20), "{steps:?}: neither at once nor never");

        let mut free = RowCost::free();
        free.forget();
        assert!(free.relative() < f64::EPSILON, "what is known to be cheap is not forgotten: {free:?}");
    }

    #[test]
    fn what_a_row_costs_is_measured() {
        let mut cost = RowCost::default();
        cost.learn(5, Duration::from_millis(50));
        assert!((cost.relative() - ROW_COST).abs() < 1e-9, "nothing to compare with");
        for _ in 0..40 {
            cost.learn(1, Duration::from_millis(10));
            cost.learn(5, Duration::from_millis(14));
        }
        assert!((cost.relative() - 0.1).abs() < 0.01, "{cost:?}");
        cost.learn(5, Duration::ZERO);
        cost.learn(5, Duration::from_mins(1));
        assert!(cost.relative() < 0.3, "one step proves little: {cost:?}");
    }
}
