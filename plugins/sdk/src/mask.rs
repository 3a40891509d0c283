//! A set of tokens, as the contract has it.

use crate::Constraint;

/// A set of tokens: a bit for each token of the vocabulary.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenMask {
    words: Vec<u32>,
    size: u32,
}

impl TokenMask {
    /// None of `vocab_size` tokens.
    #[must_use]
    pub fn none(vocab_size: u32) -> Self {
        Self { words: vec![0; vocab_size.div_ceil(u32::BITS) as usize], size: vocab_size }
    }

    /// All of them.
    #[must_use]
    pub fn all(vocab_size: u32) -> Self {
        Self { words: vec![u32::MAX; vocab_size.div_ceil(u32::BITS) as usize], size: vocab_size }
    }

    /// Adds a token. What is no token of the vocabulary changes nothing.
    pub fn insert(&mut self, token: u32) {
        if token < self.size {
            self.words[(token / u32::BITS) as usize] |= 1 << (token % u32::BITS);
        }
    }

    /// Takes a token out.
    pub fn remove(&mut self, token: u32) {
        if token < self.size {
            self.words[(token / u32::BITS) as usize] &= !(1 << (token % u32::BITS));
        }
    }

    /// Whether `token` is in it.
    #[must_use]
    pub fn contains(&self, token: u32) -> bool {
        token < self.size && self.words[(token / u32::BITS) as usize] >> (token % u32::BITS) & 1 == 1
    }

    /// As the contract has it.
    #[must_use]
    pub fn into_words(self) -> Vec<u32> {
        self.words
    }
}

impl From<TokenMask> for Constraint {
    fn from(mask: TokenMask) -> Self {
        Self::Mask(mask.words)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mask_has_a_bit_for_each_token() {
        let mut mask = TokenMask::none(35);
        for token in [0, 33, 34, 35, 99] {
            mask.insert(token);
        }
        mask.remove(0);
        assert_eq!((0..100).filter(|&token| mask.contains(token)).collect::<Vec<_>>(), [33, 34]);
        assert_eq!(Constraint::from(mask), Constraint::Mask(vec![0, 0b110]));
        assert_eq!((0..100).filter(|&token| TokenMask::all(35).contains(token)).count(), 35);
    }
}
