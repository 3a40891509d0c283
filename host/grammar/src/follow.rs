//! A compiled grammar, and a completion's way through it.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use inference::{CompiledGrammar, Constraint, Token, TokenMask};
use llguidance::{Matcher, TokenParser};

use crate::limits::{LEXER_STATES_WORN, REASON_BYTES_MAX};

/// A grammar that completions can follow. They share one lexer, whose states are computed as they are needed: what one
/// completion has computed, the next one finds.
pub(crate) struct Compiled {
    /// Nothing was ever followed in it.
    fresh: TokenParser,
    warm: Mutex<Warm>,
    /// Of the lexer, as it was when a completion last began.
    bytes: AtomicUsize,
    /// Tokens of the vocabulary.
    tokens: u32,
}

struct Warm {
    parser: TokenParser,
    /// A completion failed in it, and the lexer that it shares with others may be of no use any more.
    spoiled: Arc<AtomicBool>,
}

impl Warm {
    fn new(fresh: &TokenParser) -> Self {
        Self { parser: fresh.deep_clone(), spoiled: Arc::default() }
    }
}

impl Compiled {
    pub(crate) fn new(fresh: TokenParser, tokens: u32) -> Self {
        let bytes = AtomicUsize::new(2 * fresh.parser.lexer_stats().num_bytes);
        Self { warm: Mutex::new(Warm::new(&fresh)), fresh, bytes, tokens }
    }

    /// Bytes of the lexers' states: by far the most of what a grammar holds.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes.load(Relaxed)
    }
}

impl CompiledGrammar for Compiled {
    fn begin(&self) -> Box<dyn Constraint> {
        let mut warm = self.warm.lock().unwrap_or_else(PoisonError::into_inner);
        // In this order: a lexer that panicked must not be asked for its figures.
        let is_worn = warm.spoiled.load(Relaxed) || {
            let lexer = warm.parser.parser.lexer_stats();
            self.bytes.store(self.fresh.parser.lexer_stats().num_bytes + lexer.num_bytes, Relaxed);
            lexer.num_states > LEXER_STATES_WORN
        };
        if is_worn {
            *warm = Warm::new(&self.fresh);
        }
        Box::new(Following {
            matcher: Matcher::new(Ok(warm.parser.clone())),
            spoiled: Arc::clone(&warm.spoiled),
            mask: TokenMask::from_words(Vec::new()),
            tokens: self.tokens,
        })
    }
}

struct Following {
    matcher: Matcher,
    spoiled: Arc<AtomicBool>,
    mask: TokenMask,
    tokens: u32,
}

impl Following {
    fn failed(&self, error: &impl ToString) -> String {
        self.spoiled.store(true, Relaxed);
        reason(&error.to_string())
    }
}

impl Constraint for Following {
    fn allowed(&mut self) -> Result<&TokenMask, String> {
        let mask = self.matcher.compute_mask_or_eos().map_err(|error| self.failed(&error))?;
        // The words move: llguidance makes a new mask each time, and copying it would only cost more.
        let mut words: Vec<u32> = mask.into();
        clear_from(&mut words, self.tokens);
        if words.iter().all(|&word| word == 0) {
            return Err("no token of this model can follow".to_owned());
        }
        self.mask = TokenMask::from_words(words);
        Ok(&self.mask)
    }

    fn allows(&mut self, token: Token) -> Result<bool, String> {
        if token.0 >= self.tokens {
            return Ok(false);
        }
        let trie = self.matcher.tok_env().map_err(|error| self.failed(&error))?;
        // llguidance judges a token by its bytes. What has none, as an end or a control token, it judges in masks only.
        if self.matcher.is_stopped() || trie.tok_trie().token(token.0).is_empty() {
            return Ok(self.allowed()?.contains(token));
        }
        let valid = self.matcher.validate_tokens(&[token.0]).map_err(|error| self.failed(&error))?;
        Ok(valid == 1)
    }

    fn may_end(&mut self) -> Result<bool, String> {
        Ok(self.matcher.is_stopped() || self.matcher.is_accepting().map_err(|error| self.failed(&error))?)
    }

    fn accept(&mut self, token: Token) -> Result<(), String> {
        self.matcher.consume_token(token.0).map_err(|error| self.failed(&error))
    }

    fn is_complete(&self) -> bool {
        self.matcher.is_stopped() && !self.matcher.is_error()
    }
}

/// Clears all bits from `first` on: the vocabulary ends there.
fn clear_from(words: &mut Vec<u32>, first: u32) {
    let whole = (first / u32::BITS) as usize;
    if let Some(word) = words.get_mut(whole) {
        *word &= (1 << (first % u32::BITS)) - 1;
    }
    words.truncate(whole + usize::from(!first.is_multiple_of(u32::BITS)));
}

/// llguidance's text without the state that it appends, short enough to pass on. A panic of its is not for clients.
pub(crate) fn reason(text: &str) -> String {
    if text.starts_with("panic: ") {
        tracing::warn!(detail = text, "llguidance panicked");
        return "llguidance failed on it".to_owned();
    }
    let text = text.split("\n<").next().unwrap_or_default().trim();
    let end = (0..=text.len().min(REASON_BYTES_MAX)).rev().find(|&end| text.is_char_boundary(end)).unwrap_or(0);
    text[..end].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mask_ends_where_the_vocabulary_does() {
        for (tokens, expected) in [(32, vec![u32::MAX]), (33, vec![u32::MAX, 1]), (40, vec![u32::MAX, 0xff])] {
            let mut words = vec![u32::MAX; 3];
            clear_from(&mut words, tokens);
            assert_eq!(words, expected);
        }
    }

    #[test]
    fn reasons_are_short_and_without_state() {
        assert_eq!(reason("no\n<state>\nsecret\n</state>"), "no");
        assert_eq!(reason("panic: index out of bounds\n<backtrace>"), "llguidance failed on it");
        assert_eq!(reason(&"é".repeat(REASON_BYTES_MAX)).len(), REASON_BYTES_MAX);
    }
}
