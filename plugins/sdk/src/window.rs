//! Literal texts in a stream, found without holding back more than needed.

use std::ops::Range;

/// Finds the first of several literal texts in a window of streamed text.
///
/// Text that cannot be the beginning of any of them is free to go at once; what is held is exactly the longest suffix
/// that more text could still complete.
#[derive(Debug, Clone)]
pub struct MatchWindow {
    texts: Vec<String>,
}

/// What a window of text holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// A text of the set, the earliest; of several that begin there, the longest.
    Match {
        /// Where it stands in the window.
        place: Range<usize>,
        /// Its number in the set.
        which: usize,
    },
    /// None yet. The first `free` bytes can be part of none; the rest may become one.
    Nothing {
        /// Bytes that may go; on a character boundary.
        free: usize,
    },
}

impl MatchWindow {
    /// A window that looks for `texts`; empty ones are never found.
    pub fn new(texts: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self { texts: texts.into_iter().map(Into::into).filter(|text: &String| !text.is_empty()).collect() }
    }

    /// Looks at `window`. With `last` set nothing more will come, and nothing is held.
    #[must_use]
    pub fn find(&self, window: &str, last: bool) -> Found {
        for (start, _) in window.char_indices() {
            let rest = &window[start..];
            // A longer text that may still be completed decides before a shorter one that already stands there.
            if !last && self.texts.iter().any(|text| text.len() > rest.len() && text.starts_with(rest)) {
                return Found::Nothing { free: start };
            }
            let longest = self
                .texts
                .iter()
                .enumerate()
                .filter(|(_, text)| rest.starts_with(text.as_str()))
                .max_by_key(|(_, t)| t.len());
            if let Some((which, text)) = longest {
                return Found::Match { place: start..start + text.len(), which };
            }
        }
        Found::Nothing { free: window.len() }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(texts: &[&str], window: &str, last: bool, expected: &Found) {
        assert_eq!(MatchWindow::new(texts.iter().copied()).find(window, last), *expected);
    }

    #[test]
    fn text_without_a_beginning_is_free() {
        check(&["<think>"], "hello", false, &Found::Nothing { free: 5 });
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

    /// Every text that is found, with what stood before it, for one way of cutting `input`.
    fn stream(window: &MatchWindow, input: &str, cuts: &[usize]) -> Vec<String> {
        let mut out = vec![String::new()];
        let mut held = String::new();
        let mut pieces: Vec<&str> = Vec::new();
        let mut start = 0;
        for &cut in cuts {
            pieces.push(&input[start..cut]);
            start = cut;
        }
        pieces.push(&input[start..]);
        let count = pieces.len();
        for (number, piece) in pieces.into_iter().enumerate() {
            held.push_str(piece);
            loop {
                match window.find(&held, number + 1 == count) {
                    Found::Match { place, which } => {
                        out.last_mut().unwrap().push_str(&held[..place.start]);
                        out.push(which.to_string());
                        out.push(String::new());
                        held.drain(..place.end);
                    }
                    Found::Nothing { free } => {
                        out.last_mut().unwrap().push_str(&held[..free]);
                        held.drain(..free);
                        break;
                    }
                }
            }
        }
        out
    }

    proptest! {
        #[test]
        fn every_chunking_finds_the_same(
            input in "[ab<é]{0,24}",
            texts in proptest::collection::vec("[ab<é]{1,4}", 1..4),
            cuts in proptest::collection::vec(any::<proptest::sample::Index>(), 0..6),
        ) {
            let boundaries: Vec<usize> = input.char_indices().map(|(at, _)| at).chain([input.len()]).collect();
            let mut cuts: Vec<usize> = cuts.iter().map(|index| *index.get(&boundaries)).collect();
            cuts.sort_unstable();
            let window = MatchWindow::new(texts);
            prop_assert_eq!(stream(&window, &input, &cuts), stream(&window, &input, &[]));
        }
    }
}
