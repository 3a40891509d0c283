//! Where a tokenizer and a GGUF's vocabulary part.

use std::fmt;

use super::Tokenizer;
use crate::gguf::{TokenKind, Vocabulary};
use crate::limits::TOKEN_SHOWN_CHARS_MAX;

/// The first difference between a tokenizer and a vocabulary, by number of the token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Difference {
    /// They have different texts for one token.
    Text {
        /// Its number.
        token: u32,
        /// Its text in `tokenizer.json`.
        tokenizer: String,
        /// Its text in the GGUF.
        vocabulary: String,
    },
    /// What steers the model for the tokenizer is text for the GGUF, so that anyone could write it.
    Special {
        /// Its number.
        token: u32,
        /// Its text.
        text: String,
    },
    /// Only the GGUF has the token.
    NotInTokenizer {
        /// Its number.
        token: u32,
        /// Its text.
        vocabulary: String,
    },
    /// Only the tokenizer has the token.
    NotInVocabulary {
        /// Its number.
        token: u32,
        /// Its text.
        tokenizer: String,
        /// Tokens in the GGUF.
        vocabulary_size: usize,
    },
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text { token, tokenizer, vocabulary } => write!(
                f,
                "token {token} is {} in tokenizer.json and {} in the GGUF",
                shown(tokenizer),
                shown(vocabulary)
            ),
            Self::Special { token, text } => {
                write!(f, "token {token}, {}, is a control token in tokenizer.json and text in the GGUF", shown(text))
            }
            Self::NotInTokenizer { token, vocabulary } => {
                write!(f, "token {token}, {}, is in the GGUF and not in tokenizer.json", shown(vocabulary))
            }
            Self::NotInVocabulary { token, tokenizer, vocabulary_size } => write!(
                f,
                "token {token}, {}, is in tokenizer.json and not in the GGUF, which has {vocabulary_size} tokens",
                shown(tokenizer)
            ),
        }
    }
}

/// A token's text without what a terminal would act on.
fn shown(text: &str) -> String {
    let mut chars = text.chars();
    let start: String = chars.by_ref().take(TOKEN_SHOWN_CHARS_MAX).collect();
    format!("{start:?}{}", if chars.next().is_some() { "…" } else { "" })
}

impl Tokenizer {
    /// The first token that is not the same in both, if there is one.
    ///
    /// Three things that converters do are no difference: tokens that fill the GGUF's vocabulary up to the size of the
    /// embeddings (unused ones, `[PAD…]`), special tokens of the tokenizer behind the GGUF's last (`<image_soft_token>`),
    /// and tokens that a converter made control tokens because of how they look.
    #[must_use]
    pub fn first_difference(&self, vocabulary: &Vocabulary) -> Option<Difference> {
        let size = vocabulary.texts.len();
        let added = self.inner.get_added_tokens_decoder();
        let is_special = |token| added.get(&token).is_some_and(|added| added.special);
        for (token, text) in (0_u32..).zip(&vocabulary.texts) {
            let kind = vocabulary.kinds.get(token as usize).copied();
            match self.text(token) {
                None if is_filler(text, kind) => {}
                None => return Some(Difference::NotInTokenizer { token, vocabulary: text.clone() }),
                Some(tokenizer) if !is_same(&tokenizer, text, &vocabulary.model) => {
                    return Some(Difference::Text { token, tokenizer, vocabulary: text.clone() });
                }
                Some(text) if is_special(token) && kind == Some(TokenKind::Normal) => {
                    return Some(Difference::Special { token, text });
                }
                Some(_) => {}
            }
        }
        let beyond =
            self.inner.get_vocab(true).into_iter().filter(|&(_, token)| token as usize >= size && !is_special(token));
        let (tokenizer, token) = beyond.min_by_key(|(_, token)| *token)?;
        Some(Difference::NotInVocabulary { token, tokenizer, vocabulary_size: size })
    }
}

fn is_filler(text: &str, kind: Option<TokenKind>) -> bool {
    kind == Some(TokenKind::Unused) || text.starts_with("[PAD")
}

/// Converters write some tokens as they read, others as the tokenizer spells them.
fn is_same(tokenizer: &str, vocabulary: &str, model: &str) -> bool {
    if tokenizer == vocabulary {
        return true;
    }
    match model {
        "gpt2" => byte_level(tokenizer) == byte_level(vocabulary),
        _ => tokenizer.replace('▁', " ") == vocabulary.replace('▁', " "),
    }
}

/// The bytes that a text of letters for bytes stands for; a text with other letters stands for itself.
fn byte_level(text: &str) -> Vec<u8> {
    text.chars().map(byte_of).collect::<Option<_>>().unwrap_or_else(|| text.as_bytes().to_vec())
}

/// GPT-2's alphabet: bytes that print are themselves, the others follow upon 256 in their order.
fn byte_of(letter: char) -> Option<u8> {
    let prints = |code: u32| matches!(code, 0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff);
    let code = u32::from(letter);
    if prints(code) {
        return u8::try_from(code).ok();
    }
    let place = usize::try_from(code.checked_sub(256)?).ok()?;
    (0..=255_u8).filter(|&byte| !prints(byte.into())).nth(place)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_alphabet_of_bytes_is_gpt2s() {
        assert_eq!(byte_level("ĠaĊ"), b" a\n");
        assert_eq!(byte_level("ðŁĺĢ"), "😀".as_bytes());
        assert_eq!(byte_level(" a"), b" a");
        assert_eq!(byte_level("日本"), "日本".as_bytes());
        let all: Vec<u8> = (0..0x144).filter_map(char::from_u32).filter_map(byte_of).collect();
        let mut sorted = all.clone();
        sorted.sort_unstable();
        sorted.dedup();
        assert_eq!((all.len(), sorted.len()), (256, 256));
    }

    #[test]
    fn a_text_is_shown_so_that_a_terminal_keeps_still() {
        assert_eq!(shown("\u{1b}[2J"), r#""\u{1b}[2J""#);
        assert_eq!(shown(&"a".repeat(100)), format!("\"{}\"…", "a".repeat(60)));
    }
}
