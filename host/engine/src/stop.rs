//! Ends a completion where a stop text appears, and never lets a part of one out.

/// Looks for stop texts in a text that comes in pieces.
///
/// The completion ends as soon as it contains a stop text; what stands before that text is released, and of two that
/// end at the same place the longer one counts. Held back is exactly the longest end of the text that a stop text
/// begins with. Each byte is looked at once per stop text (Knuth, Morris and Pratt).
#[derive(Debug)]
pub(crate) struct StopMatcher {
    patterns: Vec<Pattern>,
    /// The longest end of the text that a pattern begins with.
    held: String,
    found: Option<usize>,
}

#[derive(Debug)]
struct Pattern {
    /// Its place in the list that it came in.
    number: usize,
    bytes: Box<[u8]>,
    /// For every length of a matched beginning, the next shorter beginning that is its end too.
    shorter: Box<[usize]>,
    /// How many bytes of the pattern the text ends with.
    matched: usize,
}

/// Whether a stop text was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Found {
    Nothing,
    Stop,
}

impl StopMatcher {
    /// An empty stop text would end everything at once and is left out.
    pub(crate) fn new(stop: &[String]) -> Self {
        let given = stop.iter().enumerate().filter(|(_, text)| !text.is_empty());
        let patterns = given.map(|(number, text)| Pattern::new(number, text)).collect();
        Self { patterns, held: String::new(), found: None }
    }

    /// The stop text that was found, by its place in the list that [`StopMatcher::new`] was given.
    pub(crate) fn found(&self) -> Option<usize> {
        self.found
    }

    /// Takes more text and appends to `released` what can no longer become a stop text. Nothing may be pushed after
    /// [`Found::Stop`].
    pub(crate) fn push(&mut self, text: &str, released: &mut String) -> Found {
        if self.patterns.is_empty() {
            released.push_str(text);
            return Found::Nothing;
        }
        let text_before = self.held.len();
        self.held.push_str(text);
        for (place, byte) in text.bytes().enumerate() {
            let longest_match = self
                .patterns
                .iter_mut()
                .filter_map(|pattern| pattern.advance(byte).then_some((pattern.bytes.len(), pattern.number)))
                .max();
            if let Some((length, number)) = longest_match {
                self.found = Some(number);
                let start = text_before + place + 1 - length;
                released.push_str(&self.held[..start]);
                self.held.clear();
                return Found::Stop;
            }
        }
        let kept = self.patterns.iter().map(|pattern| pattern.matched).max().unwrap_or(0);
        released.extend(self.held.drain(..self.held.len() - kept));
        Found::Nothing
    }

    /// No more text will come: releases what was held back.
    pub(crate) fn finish(&mut self, released: &mut String) {
        released.push_str(&self.held);
        self.held.clear();
    }
}

impl Pattern {
    fn new(number: usize, text: &str) -> Self {
        let bytes: Box<[u8]> = text.bytes().collect();
        let mut shorter = vec![0; bytes.len() + 1];
        let mut length = 0;
        for place in 1..bytes.len() {
            while length > 0 && bytes[place] != bytes[length] {
                length = shorter[length];
            }
            length += usize::from(bytes[place] == bytes[length]);
            shorter[place + 1] = length;
        }
        Self { number, bytes, shorter: shorter.into(), matched: 0 }
    }

    /// Whether the text, with this byte, ends with the pattern.
    fn advance(&mut self, byte: u8) -> bool {
        while self.matched > 0 && self.bytes[self.matched] != byte {
            self.matched = self.shorter[self.matched];
        }
        self.matched += usize::from(self.bytes[self.matched] == byte);
        self.matched == self.bytes.len()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn run(stop: &[String], chunks: &[&str]) -> (String, Found) {
        let mut matcher = StopMatcher::new(stop);
        let mut text = String::new();
        for chunk in chunks {
            if matcher.push(chunk, &mut text) == Found::Stop {
                return (text, Found::Stop);
            }
        }
        matcher.finish(&mut text);
        (text, Found::Nothing)
    }

    /// The same by trying everything.
    fn naive(stop: &[String], text: &str) -> (String, Found) {
        for end in 1..=text.len() {
            let lengths =
                stop.iter().filter(|stop| !stop.is_empty() && text.as_bytes()[..end].ends_with(stop.as_bytes()));
            if let Some(length) = lengths.map(String::len).max() {
                return (text[..end - length].to_owned(), Found::Stop);
            }
        }
        (text.to_owned(), Found::Nothing)
    }

    fn check(stop: &[&str], chunks: &[&str], expected: &str) {
        let stop: Vec<String> = stop.iter().map(|&text| text.to_owned()).collect();
        assert_eq!(run(&stop, chunks).0, expected);
        assert_eq!(naive(&stop, &chunks.concat()).0, expected);
    }

    #[test]
    fn a_stop_text_across_pieces_is_never_released() {
        check(&["STOP"], &["to ST", "O", "P here"], "to ");
    }

    #[test]
    fn a_false_start_is_released_whole() {
        check(&["STOP"], &["S", "T", "O", "Ssss"], "STOSsss");
    }

    #[test]
    fn the_first_stop_text_to_be_complete_counts() {
        check(&["bcd", "c"], &["abcd"], "ab");
        check(&["bc", "c"], &["abcd"], "a");
    }

    #[test]
    fn which_one_it_was_is_known() {
        let found = |stop: &[&str], text: &str| {
            let stop: Vec<String> = stop.iter().map(|&text| text.to_owned()).collect();
            let mut matcher = StopMatcher::new(&stop);
            matcher.push(text, &mut String::new());
            matcher.found()
        };
        assert_eq!(found(&["", "x", "c", "bc"], "abcd"), Some(3), "the longer of two that end together");
        assert_eq!(found(&["x", "c"], "ab"), None);
    }

    #[test]
    fn overlapping_beginnings_are_followed() {
        check(&["aab"], &["a", "a", "a", "b"], "a");
        check(&["abab!", "bac"], &["aba", "bac"], "aba");
    }

    #[test]
    fn an_empty_stop_text_is_none() {
        check(&[""], &["abc"], "abc");
    }

    fn stops() -> impl Strategy<Value = Vec<String>> {
        proptest::collection::vec("[abé]{0,4}", 0..4)
    }

    proptest! {
        #[test]
        fn every_chunking_gives_the_naive_result(stop in stops(), chunks in proptest::collection::vec("[abcé]{0,5}", 0..8)) {
            let chunks: Vec<&str> = chunks.iter().map(String::as_str).collect();
            prop_assert_eq!(run(&stop, &chunks), naive(&stop, &chunks.concat()));
        }

        #[test]
        fn held_back_is_exactly_what_may_become_a_stop_text(stop in stops(), text in "[abcé]{0,12}") {
            let mut matcher = StopMatcher::new(&stop);
            let mut released = String::new();
            if matcher.push(&text, &mut released) == Found::Nothing {
                let may_grow = |end: &str| stop.iter().any(|stop| stop.len() > end.len() && stop.starts_with(end));
                let held = text.char_indices().map(|(start, _)| &text[start..]).find(|end| may_grow(end)).unwrap_or("");
                prop_assert_eq!(released + held, text.clone());
                prop_assert_eq!(&matcher.held, held);
            }
        }
    }
}
