//! Bytes of tokens to text, without ever splitting a character.

/// Keeps the beginning of a character until the rest of it has come: at most three bytes.
///
/// All its output together is what [`String::from_utf8_lossy`] makes of all its input, however the input is cut.
#[derive(Debug, Default)]
pub(crate) struct Detokenizer {
    pending: Vec<u8>,
}

impl Detokenizer {
    /// Takes more bytes and appends the characters that are whole now.
    pub(crate) fn push(&mut self, bytes: &[u8], text: &mut String) {
        self.pending.extend_from_slice(bytes);
        let mut held = 0;
        let mut chunks = self.pending.utf8_chunks().peekable();
        while let Some(chunk) = chunks.next() {
            text.push_str(chunk.valid());
            let broken = chunk.invalid();
            let is_cut_short = std::str::from_utf8(broken).is_err_and(|error| error.error_len().is_none());
            if is_cut_short && chunks.peek().is_none() {
                held = broken.len();
            } else if !broken.is_empty() {
                text.push(char::REPLACEMENT_CHARACTER);
            }
        }
        self.pending.drain(..self.pending.len() - held);
    }

    /// Whether a character has begun and not ended.
    pub(crate) fn is_midway(&self) -> bool {
        !self.pending.is_empty()
    }

    /// No more bytes will come: a character that was begun and never ended becomes U+FFFD.
    pub(crate) fn finish(&mut self, text: &mut String) {
        if !self.pending.is_empty() {
            text.push(char::REPLACEMENT_CHARACTER);
            self.pending.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(chunks: &[&[u8]]) {
        let mut detokenizer = Detokenizer::default();
        let mut text = String::new();
        for chunk in chunks {
            detokenizer.push(chunk, &mut text);
            assert!(detokenizer.pending.len() <= 3);
        }
        detokenizer.finish(&mut text);
        assert_eq!(text, String::from_utf8_lossy(&chunks.concat()));
    }

    #[test]
    fn a_character_in_four_tokens_is_one_character() {
        check(&[b"a\xF0", b"\x9F", b"\x98", b"\x80b"]);
    }

    #[test]
    fn a_broken_tail_becomes_one_replacement_character() {
        check(&[b"a\xF0\x9F", b"\x98"]);
        check(&[b"\xE2\x82"]);
        check(&[b"\xE2\x82 ", b"\xF0\x9F", b"a"]);
    }

    #[test]
    fn what_cannot_be_a_character_is_not_held() {
        let mut detokenizer = Detokenizer::default();
        let mut text = String::new();
        detokenizer.push(b"\xFFx\xF0", &mut text);
        assert_eq!((text.as_str(), &detokenizer.pending[..]), ("\u{FFFD}x", &b"\xF0"[..]));
    }

    /// Bytes that are often almost text.
    fn bytes() -> impl Strategy<Value = Vec<u8>> {
        let part = prop_oneof![
            any::<char>().prop_map(|character| character.to_string().into_bytes()),
            proptest::collection::vec(any::<u8>(), 0..3),
            Just(vec![0xF0, 0x9F]),
            Just(vec![0xE2]),
            Just(vec![0xED, 0xA0]),
            Just(vec![0x80]),
        ];
        proptest::collection::vec(part, 0..12).prop_map(|parts| parts.concat())
    }

    proptest! {
        #[test]
        fn every_chunking_gives_the_lossy_text(bytes in bytes(), cuts in proptest::collection::vec(any::<prop::sample::Index>(), 0..8)) {
            let mut places: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
            places.extend([0, bytes.len()]);
            places.sort_unstable();
            let chunks: Vec<&[u8]> = places.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect();
            check(&chunks);
        }

        #[test]
        fn what_is_held_is_the_beginning_of_a_character(bytes in bytes()) {
            let mut detokenizer = Detokenizer::default();
            let mut text = String::new();
            detokenizer.push(&bytes, &mut text);
            let held = std::str::from_utf8(&detokenizer.pending);
            prop_assert!(detokenizer.pending.is_empty() || held.is_err_and(|error| error.valid_up_to() == 0 && error.error_len().is_none()));
        }
    }
}
