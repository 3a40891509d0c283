//! Ways to cut a text into the pieces that a model may give it in.

use std::collections::BTreeSet;

use fastrand::Rng;

use crate::limits::{SHRINK_RUNS_MAX, SINGLE_CUTS_MAX};

/// Where a text is cut, and how it ends.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Chunking {
    /// Places in bytes, ascending, each between two characters.
    pub(crate) cuts: Vec<usize>,
    /// Whether the end comes alone, with no text.
    pub(crate) ends_empty: bool,
    /// What made it.
    pub(crate) seed: Option<u64>,
}

impl Chunking {
    /// At these places, in whatever order they are given.
    pub(crate) fn at(cuts: &[usize], ends_empty: bool) -> Self {
        let cuts: BTreeSet<usize> = cuts.iter().copied().collect();
        Self { cuts: cuts.into_iter().collect(), ends_empty, seed: None }
    }

    /// The pieces.
    pub(crate) fn pieces<'a>(&self, text: &'a str) -> Vec<&'a str> {
        let mut start = 0;
        let ends = self.cuts.iter().copied().chain([text.len()]);
        let mut pieces: Vec<&str> = ends.map(|end| &text[std::mem::replace(&mut start, end)..end]).collect();
        if self.ends_empty {
            pieces.push("");
        }
        pieces
    }

    /// A chunking with fewer cuts that fails too. It may be another failure; it is one.
    pub(crate) fn shrunk(mut self, mut fails: impl FnMut(&Self) -> bool) -> Self {
        let mut runs = 0;
        let mut step = self.cuts.len().div_ceil(2);
        while step > 0 {
            let mut from = 0;
            while from < self.cuts.len() && runs < SHRINK_RUNS_MAX {
                let mut fewer = self.clone();
                fewer.cuts.drain(from..(from + step).min(self.cuts.len()));
                runs += 1;
                if fails(&fewer) {
                    self = fewer;
                } else {
                    from += step;
                }
            }
            step /= 2;
        }
        self
    }
}

/// The places where `text` may be cut.
fn places(text: &str) -> Vec<usize> {
    text.char_indices().skip(1).map(|(at, _)| at).collect()
}

/// Every way that is tried: the end alone, in two at every place, character by character, and `random` ways by chance.
pub(crate) fn all(text: &str, seed: u64, random: u32) -> impl Iterator<Item = Chunking> {
    let places = places(text);
    let whole = Chunking { ends_empty: true, ..Chunking::default() };
    let single = spread(&places, SINGLE_CUTS_MAX);
    let single = single.into_iter().map(|cut| Chunking { cuts: vec![cut], ..Chunking::default() });
    let characters = [false, true].map(|ends_empty| Chunking { cuts: places.clone(), ends_empty, seed: None });
    let by_chance = (0..u64::from(random)).map(move |number| by_chance(&places, seed.wrapping_add(number)));
    [whole].into_iter().chain(characters).chain(single).chain(by_chance)
}

/// Pieces of a few characters: of one on average, or of up to some twenty.
fn by_chance(places: &[usize], seed: u64) -> Chunking {
    let mut rng = Rng::with_seed(seed);
    let share = [0.05, 0.2, 0.5, 0.8][rng.usize(..4)];
    let cuts = places.iter().copied().filter(|_| rng.f64() < share).collect();
    Chunking { cuts, ends_empty: rng.bool(), seed: Some(seed) }
}

/// At most `count` of them, evenly.
pub(crate) fn spread(places: &[usize], count: usize) -> Vec<usize> {
    let step = places.len().div_ceil(count).max(1);
    places.iter().copied().step_by(step).collect()
}

/// The beginnings of a text that stand for answers which were cut short.
pub(crate) fn beginnings(text: &str, count: usize) -> Vec<&str> {
    spread(&places(text), count).into_iter().map(|end| &text[..end]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_the_text_and_chance_is_repeatable() {
        let text = "häuser, ☃ und mehr";
        for chunking in all(text, 7, 50) {
            let pieces = chunking.pieces(text);
            assert_eq!(pieces.concat(), text);
            assert_eq!(pieces.last() == Some(&""), chunking.ends_empty);
            if let Some(seed) = chunking.seed {
                assert_eq!(by_chance(&places(text), seed), chunking);
            }
        }
        assert_eq!(all(text, 7, 0).count(), 3 + text.chars().count() - 1);
        assert_eq!(all("", 7, 0).count(), 3);
    }

    #[test]
    fn cuts_come_in_any_order() {
        assert_eq!(Chunking::at(&[5, 2, 5], false).pieces("0123456"), ["01", "234", "56"]);
    }

    #[test]
    fn what_fails_is_made_small() {
        let text = "0123456789";
        let fails = |chunking: &Chunking| chunking.cuts.contains(&4) && chunking.cuts.contains(&7);
        let all = Chunking { cuts: places(text), ends_empty: false, seed: None };
        assert_eq!(all.shrunk(fails).cuts, [4, 7]);
    }
}
