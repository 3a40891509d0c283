//! Which bytes of a file are there, as sorted ranges that neither overlap nor touch.

use std::ops::Range;

use serde::{Deserialize, Serialize};

/// A set of bytes. Chunks land in ascending order, a few at a time, so it holds about as many ranges as there are
/// workers, whatever the size of the file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<(u64, u64)>", into = "Vec<(u64, u64)>")]
pub(super) struct Ranges(Vec<Range<u64>>);

impl Ranges {
    /// Adds bytes, and says how many of them were not there yet.
    pub(super) fn insert(&mut self, new: Range<u64>) -> u64 {
        if new.is_empty() {
            return 0;
        }
        // All that overlaps or touches the new range becomes one range with it.
        let first = self.0.partition_point(|range| range.end < new.start);
        let behind = self.0.partition_point(|range| range.start <= new.end);
        let mut merged = new;
        let mut known = 0;
        for range in &self.0[first..behind] {
            known += range.end.min(merged.end).saturating_sub(range.start.max(merged.start));
        }
        let added = merged.end - merged.start - known;
        if let (Some(low), Some(high)) = (self.0.get(first), self.0[first..behind].last()) {
            merged = merged.start.min(low.start)..merged.end.max(high.end);
        }
        self.0.splice(first..behind, [merged]);
        added
    }

    /// Forgets what lies behind `end`.
    pub(super) fn truncate(&mut self, end: u64) {
        self.0.retain(|range| range.start < end);
        if let Some(last) = self.0.last_mut() {
            last.end = last.end.min(end);
        }
    }

    /// How many bytes there are.
    pub(super) fn bytes(&self) -> u64 {
        self.0.iter().map(|range| range.end - range.start).sum()
    }

    /// Up to where everything from the start of the file is there.
    pub(super) fn frontier(&self) -> u64 {
        self.0.first().filter(|range| range.start == 0).map_or(0, |range| range.end)
    }

    /// The ranges that are there, in ascending order.
    pub(super) fn iter(&self) -> impl Iterator<Item = Range<u64>> {
        self.0.iter().cloned()
    }

    /// What a file of `size` bytes lacks, in ascending order.
    pub(super) fn missing(&self, size: u64) -> impl Iterator<Item = Range<u64>> {
        let starts = std::iter::once(0).chain(self.0.iter().map(|range| range.end));
        let ends = self.0.iter().map(|range| range.start).chain(std::iter::once(size));
        starts.zip(ends).filter(|(start, end)| start < end).map(|(start, end)| start..end)
    }

    /// The last byte that is there, and one.
    pub(super) fn end(&self) -> u64 {
        self.0.last().map_or(0, |range| range.end)
    }
}

impl TryFrom<Vec<(u64, u64)>> for Ranges {
    type Error = &'static str;

    /// What was written must be what would have been written: sorted, apart, and not empty.
    fn try_from(written: Vec<(u64, u64)>) -> Result<Self, Self::Error> {
        let mut before = None;
        for &(start, end) in &written {
            if start >= end || before.is_some_and(|before| start <= before) {
                return Err("ranges of bytes that are empty, overlap, or are out of order");
            }
            before = Some(end);
        }
        Ok(Self(written.into_iter().map(|(start, end)| start..end).collect()))
    }
}

impl From<Ranges> for Vec<(u64, u64)> {
    fn from(ranges: Ranges) -> Self {
        ranges.0.into_iter().map(|range| (range.start, range.end)).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn ranges_hold_what_a_table_of_every_byte_holds(
            inserted in prop::collection::vec((0u64..60, 0u64..20), 0..20),
        ) {
            const SIZE: usize = 80;
            let mut ranges = Ranges::default();
            let mut table = [false; SIZE];
            for (start, length) in inserted {
                let range = start..start + length;
                let mut added = 0;
                for byte in range.clone() {
                    let cell = &mut table[usize::try_from(byte).expect("below 80")];
                    added += u64::from(!*cell);
                    *cell = true;
                }
                prop_assert_eq!(ranges.insert(range), added);
            }
            let there = |range: Range<u64>| range.map(|byte| table[usize::try_from(byte).expect("below 80")]);
            prop_assert!(ranges.iter().all(|range| there(range).all(|it| it)));
            prop_assert!(ranges.missing(SIZE as u64).all(|range| there(range).all(|it| !it)));
            let count = |wanted| table.iter().filter(|cell| **cell == wanted).count() as u64;
            prop_assert_eq!(ranges.bytes(), count(true));
            prop_assert_eq!(ranges.missing(SIZE as u64).map(|range| range.end - range.start).sum::<u64>(), count(false));
            prop_assert_eq!(ranges.frontier(), table.iter().take_while(|cell| **cell).count() as u64);

            let written = serde_json::to_string(&ranges).expect("numbers");
            prop_assert_eq!(&serde_json::from_str::<Ranges>(&written).expect("what was just written"), &ranges);

            let before = |end: usize| table[..end].iter().filter(|cell| **cell).count() as u64;
            for end in (0..=SIZE).rev() {
                ranges.truncate(end as u64);
                prop_assert_eq!((ranges.bytes(), ranges.end() <= end as u64), (before(end), true));
            }
        }
    }

    #[test]
    fn ranges_that_nobody_would_have_written_are_refused() {
        for written in ["[[0,0]]", "[[5,3]]", "[[0,4],[4,6]]", "[[0,4],[2,6]]", "[[6,9],[0,4]]", "[[-1,4]]"] {
            assert!(serde_json::from_str::<Ranges>(written).is_err(), "{written}");
        }
    }
}
