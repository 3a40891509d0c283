//! Which tokens a piece of text is made of.
//!
//! Text is released later than its tokens are sampled: half a character waits for the other half, and what may become a
//! stop text waits until it cannot. A token belongs to the piece that releases the last of its bytes; where a stop text
//! cuts it off it belongs to none.

use std::collections::VecDeque;

use inference::TokenLogprobs;

/// The tokens whose text is not released yet.
#[derive(Debug, Default)]
pub(crate) struct Attribution {
    /// Bytes of text that the tokens have become so far, held back or not.
    made: usize,
    /// Bytes of text that pieces have carried so far.
    released: usize,
    /// Tokens that end inside a character: at most three, which are as many bytes as wait for the rest of one.
    unfinished: Vec<TokenLogprobs>,
    /// The others, each with the place in the text where it ends. No more than the held text has bytes.
    waiting: VecDeque<(usize, TokenLogprobs)>,
}

impl Attribution {
    /// Takes a token and the text that came out of it. `is_midway`: its last byte is no text yet.
    pub(crate) fn push(&mut self, token: TokenLogprobs, text: &str, is_midway: bool) {
        self.made(text);
        if is_midway {
            self.unfinished.push(token);
        } else {
            self.waiting.push_back((self.made, token));
        }
    }

    /// Takes text that came of earlier tokens. What was left of a character becomes its first one, whole or replaced.
    pub(crate) fn made(&mut self, text: &str) {
        if let Some(first) = text.chars().next() {
            let end = self.made + first.len_utf8();
            self.waiting.extend(self.unfinished.drain(..).map(|token| (end, token)));
        }
        self.made += text.len();
    }

    /// The tokens of a piece of so many bytes, which is released next.
    pub(crate) fn release(&mut self, bytes: usize) -> Vec<TokenLogprobs> {
        self.released += bytes;
        let count = self.waiting.partition_point(|&(end, _)| end <= self.released);
        self.waiting.drain(..count).map(|(_, token)| token).collect()
    }
}
