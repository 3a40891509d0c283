//! "Don't repeat yourself": against sequences of tokens that repeat.
//!
//! The penalty is llama.cpp's (`llama_sampler_init_dry`, after p-e-w's and pi6am's work), and `tests` hold the two
//! against each other. It is reckoned here because llama.cpp spells the whole vocabulary anew for each breaker of each
//! request, on the thread that decodes: 12 ms for four breakers on `SmolLM2`, 60 ms on Gemma, in which no client gets a
//! token. Here the vocabulary is spelled once per model, and a breaker searched in it takes some 20 µs.

use std::collections::HashMap;
use std::rc::Rc;

use inference::Token;
use memchr::{memchr_iter, memmem};

/// Bytes of a breaker that count, as in llama.cpp: what a breaker overlaps is looked for at each of them.
const BREAKER_BYTES_MAX: usize = 40;
/// Tokens that may follow a breaker's first one, as in llama.cpp.
const TAIL_TOKENS_MAX: usize = 20;
/// A penalty stays a number, however long a sequence repeats: it makes a token as unlikely as can be and bans nothing.
const PENALTY_MAX: f64 = 1e30;

/// What lowers the logits of tokens that would prolong a repetition. The prompt does not count.
#[derive(Debug)]
pub(crate) struct Dry {
    multiplier: f64,
    base: f64,
    allowed_length: usize,
    breakers: Breakers,
    /// The completion so far.
    history: Vec<Token>,
    /// Room to work in: see [`Dry::penalties`].
    repeats: Vec<usize>,
}

/// Sequences of tokens across which nothing counts as a repetition: the first token of each, and how it goes on.
pub(crate) type Breakers = HashMap<Token, Vec<Vec<Token>>>;

impl Dry {
    pub(crate) fn new(settings: &inference::Dry, breakers: Breakers) -> Self {
        Self {
            multiplier: f64::from(settings.multiplier),
            base: f64::from(settings.base),
            allowed_length: settings.allowed_length as usize,
            breakers,
            history: Vec::new(),
            repeats: Vec::new(),
        }
    }

    pub(crate) fn accept(&mut self, token: Token) {
        self.history.push(token);
    }

    pub(crate) fn apply(&mut self, logits: &mut [f32]) {
        for (token, length) in self.prolonged() {
            if self.breakers.get(&token).is_some_and(|tails| tails.iter().any(Vec::is_empty)) {
                continue;
            }
            #[expect(clippy::cast_possible_truncation, reason = "at most PENALTY_MAX")]
            let penalty = self.penalty(length) as f32;
            if let Some(logit) = logits.get_mut(token.0 as usize) {
                *logit -= penalty;
            }
        }
    }

    /// `multiplier * base ^ (length - allowed_length)`
    fn penalty(&self, length: usize) -> f64 {
        let exponent = (length - self.allowed_length) as f64;
        (self.multiplier * self.base.powf(exponent)).min(PENALTY_MAX)
    }

    /// The tokens that would prolong a sequence which the completion ends with and has had before, and how long the
    /// longest such sequence is already.
    fn prolonged(&mut self) -> HashMap<Token, usize> {
        let mut longest = HashMap::new();
        let count = self.history.len();
        let limit = self.tokens_since_breaker();
        if count <= self.allowed_length || limit < self.allowed_length {
            return longest;
        }
        let back = |place: usize| self.history[count - 1 - place];
        // Read backwards, `repeats[place]` is how long a sequence ends both there and at the end (the Z function).
        let repeats = &mut self.repeats;
        repeats.clear();
        repeats.resize(count, 0);
        let (mut left, mut right) = (0, 0);
        for place in 1..count {
            let known = if place < right { repeats[place - left].min(right - place) } else { 0 };
            let more = (known..count - place).take_while(|&length| back(length) == back(place + length)).count();
            repeats[place] = known + more;
            if place + repeats[place] > right {
                (left, right) = (place, place + repeats[place]);
            }
            let length = repeats[place].min(limit);
            if length >= self.allowed_length {
                let held: &mut usize = longest.entry(back(place - 1)).or_default();
                *held = length.max(*held);
            }
        }
        longest
    }

    /// Tokens after the last breaker.
    fn tokens_since_breaker(&self) -> usize {
        if self.breakers.is_empty() {
            return self.history.len();
        }
        for (since, place) in (0..self.history.len()).rev().enumerate() {
            let Some(tails) = self.breakers.get(&self.history[place]) else { continue };
            let follows = |tail: &&Vec<Token>| self.history[place + 1..].starts_with(tail);
            if let Some(longest) = tails.iter().filter(follows).map(Vec::len).max() {
                return since - longest;
            }
        }
        self.history.len()
    }
}

/// The texts of a vocabulary, one after the other.
#[derive(Debug, Default)]
pub(crate) struct Words {
    text: Vec<u8>,
    /// Where each token's text ends.
    ends: Vec<usize>,
}

impl Words {
    /// Takes the text of the next token.
    pub(crate) fn push(&mut self, word: &[u8]) {
        self.text.extend_from_slice(word);
        self.ends.push(self.text.len());
    }

    /// The sequences of tokens that contain one of `texts`. Where a token ends inside a breaker, the rest of the breaker
    /// follows as `tokenize` would have it; a rest that begins inside a character follows no token.
    pub(crate) fn breakers(&self, texts: &[String], tokenize: impl Fn(&str) -> Vec<Token>) -> Breakers {
        let mut breakers = Breakers::new();
        for text in texts {
            let breaker = &text.as_bytes()[..text.floor_char_boundary(BREAKER_BYTES_MAX)];
            if !breaker.is_empty() {
                self.add(breaker, &tokenize, &mut breakers);
            }
        }
        breakers
    }

    fn add(&self, breaker: &[u8], tokenize: &impl Fn(&str) -> Vec<Token>, breakers: &mut Breakers) {
        let mut tails: HashMap<usize, Option<Rc<[Token]>>> = HashMap::new();
        let mut tail = |from: usize| {
            let tokens = |rest: &str| tokenize(rest).into_iter().take(TAIL_TOKENS_MAX).collect();
            tails.entry(from).or_insert_with(|| std::str::from_utf8(&breaker[from..]).ok().map(tokens)).clone()
        };
        let mut token = 0;
        for place in memchr_iter(breaker[0], &self.text) {
            token += self.ends[token..].partition_point(|&end| end <= place);
            let start = token.checked_sub(1).map_or(0, |before| self.ends[before]);
            let word = &self.text[start..self.ends[token]];
            let rest = &self.text[place..self.ends[token]];
            let follows = if memmem::find(word, breaker).is_some() {
                Vec::new()
            } else if breaker.starts_with(rest)
                && let Some(tokens) = tail(rest.len())
            {
                tokens.to_vec()
            } else {
                continue;
            };
            let known = breakers.entry(Token(u32::try_from(token).unwrap_or(u32::MAX))).or_default();
            if !known.contains(&follows) {
                known.push(follows);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(text: &str) -> Vec<Token> {
        text.bytes().map(|byte| Token(u32::from(byte))).collect()
    }

    /// The words of a vocabulary of bytes, and after them these.
    fn words(more: &[&str]) -> Words {
        let mut words = Words::default();
        for byte in 0..=u8::MAX {
            words.push(&[byte]);
        }
        for word in more {
            words.push(word.as_bytes());
        }
        words
    }

    /// What is penalised after `history`, as `token:length`.
    fn check(history: &str, breakers: &[&str], expected: &[(char, usize)]) {
        let breakers: Vec<String> = breakers.iter().map(|&text| text.to_owned()).collect();
        let settings =
            inference::Dry { multiplier: 1.0, base: 2.0, allowed_length: 2, sequence_breakers: breakers.clone() };
        let mut dry = Dry::new(&settings, words(&[]).breakers(&breakers, tokens));
        for token in tokens(history) {
            dry.accept(token);
        }
        let mut found: Vec<(char, usize)> =
            dry.prolonged().into_iter().map(|(token, length)| (char::from_u32(token.0).unwrap(), length)).collect();
        found.sort_unstable();
        assert_eq!(found, expected, "after {history:?}");
    }

    #[test]
    fn what_would_prolong_a_repetition_is_found() {
        // The example in llama.cpp's own code.
        check("abccbcyabc", &[], &[('c', 3), ('y', 2)]);
        check("abcdef", &[], &[]);
        check("aaaa", &[], &[('a', 3)]);
    }

    #[test]
    fn nothing_repeats_across_a_breaker() {
        check("ab:cd-ab:cd", &[], &[('-', 5)]);
        check("ab:cd-ab:cd", &[":"], &[('-', 2)]);
        check("abc:abc:", &[":"], &[]);
        check("xab\n\nxab\n\nxa", &[], &[('b', 7)]);
        check("xab\n\nxab\n\nxa", &["\n\n"], &[('b', 2)]);
        check("xab\n\nxab\n\nx", &["\n\n"], &[]);
    }

    #[test]
    fn the_penalty_grows_with_the_length_and_stays_a_number() {
        let settings = inference::Dry { multiplier: 0.5, base: 3.0, allowed_length: 2, sequence_breakers: Vec::new() };
        let mut dry = Dry::new(&settings, Breakers::new());
        for token in tokens("abcxabc") {
            dry.accept(token);
        }
        let mut logits = vec![0.0; 256];
        dry.apply(&mut logits);
        let changed: Vec<(usize, f32)> = logits.into_iter().enumerate().filter(|&(_, logit)| logit != 0.0).collect();
        assert_eq!(changed, [(usize::from(b'x'), -1.5)]);

        (0..2000).for_each(|_| dry.accept(Token(7)));
        let mut logits = vec![0.0; 256];
        dry.apply(&mut logits);
        assert!(logits[7].is_finite() && logits[7] < -1e29, "{}", logits[7]);
    }

    #[test]
    fn breakers_are_found_inside_words_and_across_their_ends() {
        let words = words(&["x:y", "a\n", "\n\nb", "é", "zz"]);
        let found = words.breakers(&["\n\n".to_owned(), ":".to_owned(), "é!".to_owned()], tokens);
        let tails = |token: u32| found.get(&Token(token)).cloned().unwrap_or_default();
        assert_eq!(tails(256), [vec![]], "a colon inside");
        assert_eq!(tails(257), [tokens("\n")], "half of it at the end");
        assert_eq!(tails(u32::from(b'\n')), [tokens("\n")]);
        assert_eq!(tails(258), [vec![]], "the whole of it; that it begins again inside is the same");
        assert_eq!(tails(259), [tokens("!")]);
        assert!(tails(0xC3).is_empty(), "half a character is followed by no text");
        assert!(tails(260).is_empty());
    }
}
