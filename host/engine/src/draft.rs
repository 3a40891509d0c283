//! Prompt-lookup drafting: what followed the last tokens when they came before is guessed to follow again
//! (github.com/apoorvumang/prompt-lookup-decoding). Pure, and no second model.
//!
//! Guesses are computed together with the token they follow, in one batch, and each is kept only where the sampler chooses
//! it: an answer is what it would have been. Texts that repeat their prompt (extraction, code that is edited, quotes) take a
//! fraction of the steps; where guesses are wrong, fewer and fewer are made.

use inference::Token;

/// Tokens that have to agree, at most and at least. Two agree by chance all the time.
const PATTERN_TOKENS: std::ops::RangeInclusive<usize> = 3..=6;
/// Guesses that a sequence begins with.
const LENGTH_AT_FIRST: usize = 4;
/// Steps without a guess after the first wrong one.
const PAUSE_AT_FIRST: usize = 2;
/// Steps without a guess where all of them are wrong.
const PAUSE_MAX: usize = 64;

/// What followed the last tokens of `tokens` where they occurred last before; at most `count` tokens.
pub(crate) fn guess(tokens: &[Token], count: usize) -> &[Token] {
    for length in PATTERN_TOKENS.rev() {
        let Some(start) = tokens.len().checked_sub(length).filter(|&start| start > 0) else { continue };
        let pattern = &tokens[start..];
        // The occurrence may overlap the pattern, but not be it.
        if let Some(place) = tokens[..tokens.len() - 1].windows(length).rposition(|window| window == pattern) {
            let follows = &tokens[place + length..];
            return &follows[..follows.len().min(count)];
        }
    }
    &[]
}

/// How much is guessed for one sequence: what its last guesses were worth.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Speculation {
    length: usize,
    length_max: usize,
    pause: usize,
    pause_next: usize,
}

impl Speculation {
    /// `length_max`: 0 for none at all.
    pub(crate) fn new(length_max: usize) -> Self {
        Self { length: LENGTH_AT_FIRST.min(length_max), length_max, pause: 0, pause_next: PAUSE_AT_FIRST }
    }

    /// How many tokens to guess in the next step.
    pub(crate) fn wanted(&mut self) -> usize {
        if self.pause > 0 {
            self.pause -= 1;
            return 0;
        }
        self.length
    }

    /// Takes note that of `guessed` tokens, at least one, the first `right` were right.
    pub(crate) fn learn(&mut self, guessed: usize, right: usize) {
        if right == guessed {
            self.length = (self.length * 2).min(self.length_max);
            self.pause_next = PAUSE_AT_FIRST;
        } else if 2 * right < guessed {
            self.length = LENGTH_AT_FIRST.min(self.length_max);
            self.pause = self.pause_next;
            self.pause_next = (self.pause_next * 2).min(PAUSE_MAX);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(text: &str) -> Vec<Token> {
        text.bytes().map(|byte| Token(u32::from(byte))).collect()
    }

    fn guessed(text: &str, count: usize) -> String {
        guess(&tokens(text), count).iter().map(|token| char::from(u8::try_from(token.0).unwrap())).collect()
    }

    #[test]
    fn what_followed_before_is_guessed() {
        assert_eq!(guessed("the cat sat. the c", 5), "at sa");
        assert_eq!(guessed("the cat sat. the c", 100), "at sat. the c");
        assert_eq!(guessed("the cat sat. the c", 0), "");
    }

    #[test]
    fn the_longest_agreement_wins_and_then_the_last_one() {
        assert_eq!(guessed("xabcd1 abc2 abc3 xabc", 1), "d", "four agree in one place only");
        assert_eq!(guessed("abc1 abc2 -abc", 1), "2");
    }

    #[test]
    fn where_nothing_agrees_nothing_is_guessed() {
        for text in ["", "a", "abc", "abcdef", "ab ab", "the cat"] {
            assert_eq!(guessed(text, 4), "", "{text}");
        }
    }

    #[test]
    fn a_loop_is_guessed_to_go_on() {
        assert_eq!(guessed("aaaa", 3), "a");
        assert_eq!(guessed("hahahaha", 8), "ha");
    }

    #[test]
    fn right_guesses_make_more_of_them_and_wrong_ones_fewer() {
        let mut speculation = Speculation::new(16);
        let mut lengths = Vec::new();
        for _ in 0..4 {
            let length = speculation.wanted();
            lengths.push(length);
            speculation.learn(length, length);
        }
        assert_eq!(lengths, [4, 8, 16, 16]);

        let mut steps_with_guesses = 0;
        for _ in 0..200 {
            let length = speculation.wanted();
            if length > 0 {
                steps_with_guesses += 1;
                speculation.learn(length, 0);
            }
        }
        assert!(steps_with_guesses < 9, "{steps_with_guesses} of 200");
        assert_eq!(Speculation::new(0).wanted(), 0);
    }
}
