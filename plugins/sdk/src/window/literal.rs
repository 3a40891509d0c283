//! Literal texts.

use super::{Found, Place, replace_all};
use crate::chunk::Chunk;
use crate::stages::postprocess::Output;

/// Finds the first of several literal texts in a window of streamed text.
///
/// Text that cannot be the beginning of any of them is free to go at once; what is held is exactly the longest suffix
/// that more text could still complete. Of several texts that begin at the same place the longest is found.
#[derive(Debug, Clone)]
pub struct MatchWindow {
    texts: Vec<String>,
    ignores_case: bool,
    whole_words: bool,
    /// The ASCII characters that a text begins with; all others are looked at.
    beginnings: u128,
}

/// Whether a text stands at a place.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Stands {
    No,
    /// It does, and ends there.
    Until(usize),
    /// The window ends before it is known.
    Perhaps,
}

impl MatchWindow {
    /// A window that looks for `texts`; empty ones are never found.
    pub fn new(texts: impl IntoIterator<Item = impl Into<String>>) -> Self {
        let texts = texts.into_iter().map(Into::into).collect();
        Self { texts, ignores_case: false, whole_words: false, beginnings: 0 }.prepared()
    }

    /// Takes upper and lower case for the same, in all scripts, where a letter has a single counterpart.
    #[must_use]
    pub fn ignoring_case(self) -> Self {
        Self { ignores_case: true, ..self }.prepared()
    }

    /// Finds a text only as words of its own: no letter or digit of any script stands right before or behind it, where
    /// the text itself begins or ends with one.
    #[must_use]
    pub fn whole_words(self) -> Self {
        Self { whole_words: true, ..self }
    }

    /// Looks at `window`, the beginning of a text or of what is left of it. With `last` set nothing more will come, and
    /// nothing is held.
    #[must_use]
    pub fn find(&self, window: &str, last: bool) -> Found {
        self.find_at(Place { window, from: 0, before: None, last })
    }

    /// Looks at the window of a chunk, knowing what stood before it.
    #[must_use]
    pub fn find_in(&self, chunk: &Chunk) -> Found {
        self.find_at(Place { window: &chunk.window, from: 0, before: chunk.before, last: chunk.last })
    }

    /// Puts what `with` says in the place of every match; it is given the text as it stands there, and its number.
    #[must_use]
    pub fn replace(&self, chunk: &Chunk, with: impl FnMut(&str, usize) -> String) -> Output {
        replace_all(chunk, |place| self.find_at(place), with)
    }

    fn prepared(mut self) -> Self {
        if self.ignores_case {
            for text in &mut self.texts {
                *text = text.chars().map(lower_case).collect();
            }
        }
        self.beginnings = 0;
        for first in self.texts.iter().filter_map(|text| text.chars().next()).filter(char::is_ascii) {
            self.beginnings |= 1 << u32::from(first);
            if self.ignores_case {
                self.beginnings |= 1 << u32::from(first.to_ascii_uppercase());
            }
        }
        self
    }

    fn find_at(&self, place: Place<'_>) -> Found {
        let Place { window, last, .. } = place;
        for (at, character) in window[place.from..].char_indices() {
            if character.is_ascii() && self.beginnings >> u32::from(character) & 1 == 0 {
                continue;
            }
            let start = place.from + at;
            let mut longest = None;
            for (which, text) in self.texts.iter().enumerate() {
                match self.stands(text, place, start) {
                    // A longer text that may still be completed decides before a shorter one that already stands there.
                    Stands::Perhaps if !last => return Found::Nothing { free: start },
                    Stands::No | Stands::Perhaps => {}
                    Stands::Until(end) => {
                        if longest.is_none_or(|(longest, _)| end > longest) {
                            longest = Some((end, which));
                        }
                    }
                }
            }
            if let Some((end, which)) = longest {
                return Found::Match { place: start..end, which };
            }
        }
        Found::Nothing { free: window.len() }
    }

    fn stands(&self, text: &str, place: Place<'_>, start: usize) -> Stands {
        let mut rest = place.window[start..].chars();
        let mut own = text.chars();
        for wanted in own.by_ref() {
            match rest.next() {
                None => return if self.begins_right(text, place, start) { Stands::Perhaps } else { Stands::No },
                Some(character) if character == wanted => {}
                Some(character) if self.ignores_case && lower_case(character) == wanted => {}
                Some(_) => return Stands::No,
            }
        }
        if text.is_empty() || !self.begins_right(text, place, start) {
            return Stands::No;
        }
        let end = place.window.len() - rest.as_str().len();
        if !self.whole_words || !text.ends_with(char::is_alphanumeric) {
            return Stands::Until(end);
        }
        match rest.next() {
            Some(next) if next.is_alphanumeric() => Stands::No,
            None if !place.last => Stands::Perhaps,
            _ => Stands::Until(end),
        }
    }

    fn begins_right(&self, text: &str, place: Place<'_>, start: usize) -> bool {
        let is_word = |character: Option<char>| character.is_some_and(char::is_alphanumeric);
        !(self.whole_words && text.starts_with(char::is_alphanumeric) && is_word(place.before(start)))
    }
}

/// The lower-case form where it is a single character, so that characters can be compared one by one, and lengths stay: how
/// [`MatchWindow::ignoring_case`] compares.
#[must_use]
pub fn lower_case(character: char) -> char {
    let mut lower = character.to_lowercase();
    match (lower.next(), lower.next()) {
        (Some(single), None) => single,
        _ => character,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::tests_support::{cuts, stream};
    use super::*;

    fn check(texts: &[&str], window: &str, last: bool, expected: &Found) {
        assert_eq!(MatchWindow::new(texts.iter().copied()).find(window, last), *expected);
    }

    #[test]
    fn text_without_a_beginning_is_free() {
        check(&["<think>"], "hello", false, &Found::Nothing { free: 5 });
        check(&["", "x"], "hello", false, &Found::Nothing { free: 5 });
    }

    #[test]
    fn exactly_the_beginning_is_held() {
        check(&["<think>"], "a < b <thi", false, &Found::Nothing { free: 6 });
        check(&["<think>"], "a < b <thi", true, &Found::Nothing { free: 10 });
    }

    #[test]
    fn the_earliest_text_wins_and_then_the_longest() {
        check(&["bc", "abc", "ab"], "xabcd", false, &Found::Match { place: 1..4, which: 1 });
        check(&["ab", "abcd"], "abc", false, &Found::Nothing { free: 0 });
        check(&["ab", "abcd"], "abc", true, &Found::Match { place: 0..2, which: 0 });
    }

    #[test]
    fn boundaries_fall_between_characters() {
        check(&["é!"], "naïveé", false, &Found::Nothing { free: 6 });
    }

    #[test]
    fn case_is_ignored_in_all_scripts() {
        let window = MatchWindow::new(["Übung", "kelvin"]).ignoring_case();
        assert_eq!(window.find("die ÜBUNG", false), Found::Match { place: 4..10, which: 0 });
        // U+212A is three bytes long and has `k` as its lower case.
        assert_eq!(window.find("\u{212a}ELVIN", false), Found::Match { place: 0..8, which: 1 });
        assert_eq!(window.find("kel", false), Found::Nothing { free: 0 });
    }

    #[test]
    fn words_of_their_own() {
        let window = MatchWindow::new(["stop", "!"]).whole_words();
        let found = |text, last| window.find(text, last);
        assert_eq!(found("unstoppable stop now", false), Found::Match { place: 12..16, which: 0 });
        assert_eq!(found("stop", false), Found::Nothing { free: 0 }, "`stopping` may come");
        assert_eq!(found("stop", true), Found::Match { place: 0..4, which: 0 });
        assert_eq!(found("a!b", false), Found::Match { place: 1..2, which: 1 });
        let chunk = Chunk {
            channel: crate::Channel::Content,
            window: "stop ".to_owned(),
            new_from: 0,
            last: false,
            before: Some('é'),
            tokens: Vec::new(),
        };
        assert_eq!(window.find_in(&chunk), Found::Nothing { free: 5 });
    }

    #[test]
    fn nothing_is_held_for_a_word_that_begins_inside_another() {
        let window = MatchWindow::new(["stop"]).whole_words();
        assert_eq!(window.find("nonst", false), Found::Nothing { free: 5 });
    }

    proptest! {
        #[test]
        fn every_chunking_finds_the_same(
            input in "[abB<é É]{0,24}",
            texts in proptest::collection::vec("[ab<é ]{1,4}", 1..4),
            indices in proptest::collection::vec(any::<proptest::sample::Index>(), 0..6),
            ignores_case in any::<bool>(),
            whole_words in any::<bool>(),
        ) {
            let mut window = MatchWindow::new(texts);
            if ignores_case { window = window.ignoring_case(); }
            if whole_words { window = window.whole_words(); }
            let find = |place: Place<'_>| window.find_at(place);
            prop_assert_eq!(stream(find, &input, &cuts(&input, &indices)), stream(find, &input, &[]));
        }

        /// What is held could still become a match: some text completes it.
        #[test]
        fn nothing_is_held_in_vain(input in "[ab<]{0,12}", texts in proptest::collection::vec("[ab<]{1,4}", 1..4)) {
            let window = MatchWindow::new(texts.clone());
            if let Found::Nothing { free } = window.find(&input, false) {
                let held = &input[free..];
                prop_assert!(held.is_empty() || texts.iter().any(|text| text.len() > held.len() && text.starts_with(held)));
            }
        }
    }
}
