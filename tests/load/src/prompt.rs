//! Texts of a wanted number of tokens that no server has seen before.

use serde_json::Value;

use crate::chat::{Question, Sampling};

/// Each is one token of `SmolLM2` and of most other vocabularies when a space precedes it.
const WORDS: [&str; 48] = [
    "time", "people", "water", "house", "river", "light", "world", "story", "hand", "night", "music", "tree", "city",
    "road", "book", "stone", "fire", "ship", "king", "child", "mother", "field", "war", "bird", "sea", "bread",
    "winter", "summer", "door", "table", "window", "horse", "garden", "letter", "village", "market", "forest",
    "mountain", "island", "bridge", "school", "doctor", "money", "gold", "iron", "paper", "dream", "voice",
];

/// Tokens of a `ChatML` conversation of two messages without their texts: `SmolLM2`'s template.
const FRAME_TOKENS: usize = 13;
/// What every conversation asks for, so that the answer is long. Tokens with the words that precede it.
const REQUEST: &str = "Tell a very long story.";
const REQUEST_TOKENS: usize = 7;

/// Makes questions; two never share more than a few words at their beginning.
pub(crate) struct Prompts(fastrand::Rng);

impl Prompts {
    /// The same questions in every run.
    pub(crate) fn new(seed: u64) -> Self {
        Self(fastrand::Rng::with_seed(seed))
    }

    /// A question of about `tokens` prompt tokens.
    pub(crate) fn question(&mut self, tokens: usize, tokens_max: u32) -> Question {
        let words = tokens.saturating_sub(FRAME_TOKENS + REQUEST_TOKENS);
        let system = self.words(words.min(4));
        let user = format!("{}. {REQUEST}", self.words(words.saturating_sub(4)));
        Question { system, user, tokens_max, sampling: Sampling::Greedy, extra: Value::Null }
    }

    /// Random words.
    pub(crate) fn words(&mut self, count: usize) -> String {
        let words: Vec<&str> = (0..count).map(|_| WORDS[self.0.usize(..WORDS.len())]).collect();
        words.join(" ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_are_as_long_as_asked_and_begin_differently() {
        let mut prompts = Prompts::new(1);
        let (one, other) = (prompts.question(32, 8), prompts.question(32, 8));
        let words =
            |question: &Question| question.system.split_whitespace().count() + question.user.split_whitespace().count();
        // The request has five words and two full stops.
        assert_eq!(words(&one) + 2 + FRAME_TOKENS, 32);
        assert_ne!(one.system, other.system);
        assert_eq!(Prompts::new(1).question(32, 8).user, one.user, "the same in every run");
    }
}
