//! One place in a text, and what a finder says of it.

use crate::tail::Tail;

/// A place where something may begin.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place<'a> {
    /// The text from here on, as far as it is known.
    pub(crate) rest: &'a str,
    /// The character before.
    pub(crate) before: Option<char>,
    /// The one before that.
    pub(crate) before_that: Option<char>,
    /// Whether `rest` is all there will be.
    pub(crate) last: bool,
}

/// What a finder says of a place. `No` and `Match` hold whatever text follows; what depends on text that is not known
/// yet is `More`, and never when the text is complete.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    No,
    Match {
        /// Bytes.
        length: usize,
        /// What follows the match and goes with it.
        tail: Option<Tail>,
    },
    More,
}

impl Verdict {
    /// A match that is complete.
    pub(crate) fn whole(length: usize) -> Self {
        Self::Match { length, tail: None }
    }
}

impl Place<'_> {
    /// The verdict where the known text ends in the middle of something.
    pub(crate) fn undecided(&self) -> Verdict {
        if self.last { Verdict::No } else { Verdict::More }
    }

    /// Whether a word or number cannot have begun earlier.
    pub(crate) fn begins_word(&self) -> bool {
        !self.before.is_some_and(goes_on)
    }
}

/// Whether a word goes on with this character: a digit, or a letter of a script that puts spaces between words. Those of the others
/// stand right beside a number or an address that is no part of them: Thai to Burmese, Khmer, and all from U+2E80 on (Chinese,
/// Japanese; in Korean, particles follow without a space).
pub(crate) fn goes_on(character: char) -> bool {
    character.is_alphanumeric() && !matches!(character, '\u{E00}'..='\u{109F}' | '\u{1780}'..='\u{17FF}' | '\u{2E80}'..)
}
