//! The socket for structured output: a compiled grammar, and one completion's way through it.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use crate::Token;

/// A compiled grammar. Cheap to clone; two are equal when they are the same one.
#[derive(Clone)]
pub struct Grammar(Arc<dyn CompiledGrammar>);

/// What [`Grammar`] holds.
pub trait CompiledGrammar: Send + Sync {
    /// The start of a completion.
    fn begin(&self) -> Box<dyn Constraint>;
}

/// One completion's place in a grammar. It is asked on the decode thread, once per token.
pub trait Constraint: Send {
    /// The tokens that may come next; a token that ends generation is among them exactly where the completion may end.
    /// At least one is. The error is for people: the completion cannot go on.
    fn allowed(&mut self) -> Result<&TokenMask, String>;

    /// Whether this one is among [`Self::allowed`]. Cheaper, for tokens that nobody chose from a mask.
    fn allows(&mut self, token: Token) -> Result<bool, String>;

    /// Whether the completion may end here.
    fn may_end(&mut self) -> Result<bool, String>;

    /// Takes the token that was sampled, one of those allowed.
    fn accept(&mut self, token: Token) -> Result<(), String>;

    /// Whether the completion is whole and nothing may follow.
    fn is_complete(&self) -> bool;
}

impl Grammar {
    /// Wraps what a compiler made.
    pub fn new(compiled: impl CompiledGrammar + 'static) -> Self {
        Self(Arc::new(compiled))
    }
}

impl Deref for Grammar {
    type Target = dyn CompiledGrammar;

    fn deref(&self) -> &Self::Target {
        &*self.0
    }
}

impl PartialEq for Grammar {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl fmt::Debug for Grammar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Grammar(…)")
    }
}

/// A set of tokens: a bit for each token of the vocabulary, token 0 in the lowest bit of the first word.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TokenMask(Vec<u32>);

impl TokenMask {
    /// The bits of `words`; those that are not there are not set.
    #[must_use]
    pub fn from_words(words: Vec<u32>) -> Self {
        Self(words)
    }

    /// The bits.
    #[must_use]
    pub fn words(&self) -> &[u32] {
        &self.0
    }

    /// Whether it holds no token.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(|&word| word == 0)
    }

    /// Becomes what is in both of two sets.
    pub fn set_to_both(&mut self, one: &Self, other: &Self) {
        self.0.clear();
        self.0.extend(one.0.iter().zip(&other.0).map(|(one, other)| one & other));
    }

    /// Whether `token` is in the set.
    #[must_use]
    pub fn contains(&self, token: Token) -> bool {
        self.0.get((token.0 / u32::BITS) as usize).is_some_and(|word| word >> (token.0 % u32::BITS) & 1 == 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mask_holds_the_tokens_whose_bits_are_set() {
        let mask = TokenMask::from_words(vec![0b101, 1 << 31]);
        let held: Vec<u32> = (0..100).filter(|&token| mask.contains(Token(token))).collect();
        assert_eq!(held, [0, 2, 63]);
    }

    #[test]
    fn what_is_in_both_is_in_the_shorter() {
        let mut both = TokenMask::from_words(vec![7; 3]);
        both.set_to_both(&TokenMask::from_words(vec![0b101, 1]), &TokenMask::from_words(vec![0b100]));
        assert_eq!(both, TokenMask::from_words(vec![0b100]));
        both.set_to_both(&TokenMask::from_words(vec![0b101, 1]), &TokenMask::from_words(vec![0b010, 2]));
        assert!(both.is_empty());
    }
}
