//! The model's vocabulary as llguidance wants it: the bytes of every token, and which tokens end a completion.

use std::sync::Arc;

use inference::{Token, Vocabulary};
use llguidance::toktrie::{ApproximateTokEnv, TokEnv, TokRxInfo, TokTrie};

/// No text of UTF-8 has this byte, and llguidance marks names of special tokens with it.
const NEVER_IN_TEXT: u8 = TokTrie::SPECIAL_TOKEN_MARKER;

/// A vocabulary's tokens in a trie.
pub(crate) struct Tokens {
    pub(crate) env: TokEnv,
    /// Tokens of the vocabulary. Where it has none that ends a completion, the trie has one more than that.
    pub(crate) size: u32,
}

impl Tokens {
    /// Tokens that stand for no text (control tokens) and tokens that end a completion have no bytes here: a grammar
    /// never allows the former, and the latter exactly where it may end.
    pub(crate) fn of(vocabulary: &dyn Vocabulary) -> Self {
        let size = vocabulary.size();
        let mut words: Vec<Vec<u8>> = Vec::with_capacity(size as usize + 1);
        let mut ends = Vec::new();
        for token in (0..size).map(Token) {
            let mut bytes = Vec::new();
            if vocabulary.ends_generation(token) {
                ends.push(token.0);
            } else {
                vocabulary.append_piece(token, &mut bytes);
                if bytes.contains(&NEVER_IN_TEXT) {
                    bytes.clear();
                }
            }
            words.push(bytes);
        }
        if ends.is_empty() {
            ends.push(size);
            words.push(Vec::new());
        }
        let info = TokRxInfo::new(u32::try_from(words.len()).unwrap_or(u32::MAX), ends[0]);
        let trie = TokTrie::from(&info, &words).with_eos_tokens(&ends);
        // The model may spell a text with whichever tokens it likes: the environment forces no tokenization on it.
        Self { env: Arc::new(ApproximateTokEnv::new(trie)), size }
    }
}
