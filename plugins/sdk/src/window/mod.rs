//! Looking for something in a stream without holding back more than needed.

mod literal;
#[cfg(feature = "regex")]
mod regex;

use std::ops::Range;

pub use literal::{MatchWindow, lower_case};
#[cfg(feature = "regex")]
pub use regex::RegexWindow;

use crate::chunk::Chunk;
use crate::stages::postprocess::Output;

/// What a window of text holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// A match, the earliest.
    Match {
        /// Where it stands in the window.
        place: Range<usize>,
        /// The number of its text or pattern in the set.
        which: usize,
    },
    /// None yet. The first `free` bytes can be part of none; the rest may become one.
    Nothing {
        /// Bytes that may go; on a character boundary.
        free: usize,
    },
}

/// A place in a text of which more may come.
#[derive(Debug, Clone, Copy)]
struct Place<'a> {
    window: &'a str,
    from: usize,
    /// The character before the window.
    before: Option<char>,
    last: bool,
}

impl Place<'_> {
    /// The character before `at`.
    fn before(&self, at: usize) -> Option<char> {
        self.window[..at].chars().next_back().or(self.before)
    }
}

/// Puts texts in the place of everything that `find` finds.
fn replace_all(
    chunk: &Chunk,
    mut find: impl FnMut(Place<'_>) -> Found,
    mut with: impl FnMut(&str, usize) -> String,
) -> Output {
    let window = chunk.window.as_str();
    let mut text: Option<String> = None;
    let mut from = 0;
    loop {
        match find(Place { window, from, before: chunk.before, last: chunk.last }) {
            Found::Match { place, which } => {
                let text = text.get_or_insert_default();
                text.push_str(&window[from..place.start]);
                text.push_str(&with(&window[place.clone()], which));
                from = place.end;
            }
            Found::Nothing { free } => {
                if let Some(text) = &mut text {
                    text.push_str(&window[from..free]);
                }
                return Output { instead: text, ..Output::pass_first(free) };
            }
        }
    }
}

#[cfg(test)]
mod tests_support {
    use super::*;

    /// What a filter that replaces every match by `[which]` sends, for one way of cutting `input`.
    pub(super) fn stream(mut find: impl FnMut(Place<'_>) -> Found, input: &str, cuts: &[usize]) -> String {
        let mut before = crate::chunk::Before::default();
        let mut out = String::new();
        let mut window = String::new();
        let mut start = 0;
        for end in cuts.iter().copied().chain([input.len()]) {
            window.push_str(&input[start..end]);
            let chunk = before.chunk(crate::Channel::Content, window.clone(), 0, end == input.len());
            start = end;
            let output = replace_all(&chunk, &mut find, |_, which| format!("[{which}]"));
            let consumed = output.consume as usize;
            out.push_str(output.instead.as_deref().unwrap_or(&window[..consumed]));
            window.drain(..consumed);
            before.consumed(&chunk, &output);
            if chunk.last {
                break;
            }
        }
        assert_eq!(window, "", "the end of the stream holds nothing");
        out
    }

    /// Sorted places on character boundaries.
    pub(super) fn cuts(input: &str, indices: &[proptest::sample::Index]) -> Vec<usize> {
        let boundaries: Vec<usize> = input.char_indices().map(|(at, _)| at).chain([input.len()]).collect();
        let mut cuts: Vec<usize> = indices.iter().map(|index| *index.get(&boundaries)).collect();
        cuts.sort_unstable();
        cuts
    }
}
