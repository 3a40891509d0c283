//! The model's vocabulary: text to tokens and back.

use std::ffi::CStr;
use std::ops::Range;
use std::sync::{Arc, OnceLock};

use aho_corasick::{AhoCorasick, MatchKind};
use inference::{SpecialTokens, Token, Vocabulary};
use llama_cpp_sys_2 as sys;

use crate::dry::{Breakers, Words};
use crate::long_runs::pieces;
use crate::model::Weights;

/// llama.cpp's vocabulary, with the control tokens in an automaton of their own.
pub(crate) struct LlamaVocabulary {
    weights: Arc<Weights>,
    size: u32,
    control: ControlTokens,
    /// Words are made of pairs of pieces, merged.
    is_bpe: bool,
    add_bos: bool,
    bos: Option<Token>,
    eos: Option<Token>,
    /// Spelled when a request first names sequence breakers.
    words: OnceLock<Words>,
}

/// Finds control tokens in text.
struct ControlTokens {
    automaton: AhoCorasick,
    /// By pattern of the automaton.
    tokens: Vec<ControlToken>,
}

#[derive(Clone, Copy)]
struct ControlToken {
    token: Token,
    /// Takes the white space before it along.
    strips_left: bool,
    /// Takes the white space after it along.
    strips_right: bool,
}

impl LlamaVocabulary {
    /// Reads the vocabulary once. An error says why its tokenizer cannot be trusted with text.
    pub(crate) fn of(weights: &Arc<Weights>) -> Result<Self, String> {
        let vocab = weights.vocabulary();
        // SAFETY: the vocabulary lives as long as the model, here and below.
        let size = unsafe { sys::llama_vocab_n_tokens(vocab) };
        let size = u32::try_from(size).ok().filter(|&size| size > 0).ok_or("it has no tokens")?;
        // SAFETY: as above.
        let (add_bos, bos, eos, kind) = unsafe {
            (
                sys::llama_vocab_get_add_bos(vocab),
                sys::llama_vocab_bos(vocab),
                sys::llama_vocab_eos(vocab),
                sys::llama_vocab_type(vocab),
            )
        };
        let token = |id: sys::llama_token| u32::try_from(id).ok().filter(|&id| id < size).map(Token);
        let mut vocabulary = Self {
            weights: Arc::clone(weights),
            size,
            control: ControlTokens::new(&[])?,
            is_bpe: kind == sys::LLAMA_VOCAB_TYPE_BPE,
            add_bos,
            bos: token(bos),
            eos: token(eos),
            words: OnceLock::new(),
        };
        if kind == sys::LLAMA_VOCAB_TYPE_SPM {
            vocabulary.check_bytes()?;
        }
        vocabulary.control = ControlTokens::new(&vocabulary.control_tokens())?;
        Ok(vocabulary)
    }

    /// The end-of-sequence token.
    pub(crate) fn end_of_sequence(&self) -> Option<Token> {
        self.eos
    }

    /// A token's text, as the vocabulary spells it.
    pub(crate) fn text(&self, token: Token) -> String {
        String::from_utf8_lossy(self.bytes(token)).into_owned()
    }

    /// The sequences of tokens that contain one of `texts`.
    pub(crate) fn breakers(&self, texts: &[String]) -> Breakers {
        if texts.is_empty() {
            return Breakers::new();
        }
        let tokenize = |text: &str| self.tokenize(text, SpecialTokens::Literal);
        self.words.get_or_init(|| self.words()).breakers(texts, tokenize)
    }

    /// Every token as llama.cpp writes it where it stands alone, control tokens included.
    fn words(&self) -> Words {
        let mut words = Words::default();
        let mut word = vec![0u8; 64];
        for token in self.tokens() {
            loop {
                let room = i32::try_from(word.len()).unwrap_or(i32::MAX);
                // SAFETY: the token is in the vocabulary, which is alive, and the buffer has `room` bytes.
                let written = unsafe {
                    let (id, text) = (self.id(token), word.as_mut_ptr().cast());
                    sys::llama_detokenize(self.vocab(), &raw const id, 1, text, room, false, true)
                };
                match usize::try_from(written) {
                    Ok(written) => break words.push(&word[..written]),
                    // A negative length is the room that is needed.
                    Err(_) => word.resize(written.unsigned_abs() as usize, 0),
                }
            }
        }
        words
    }

    fn vocab(&self) -> *const sys::llama_vocab {
        self.weights.vocabulary()
    }

    fn tokens(&self) -> impl Iterator<Item = Token> + use<> {
        (0..self.size).map(Token)
    }

    fn bytes(&self, token: Token) -> &[u8] {
        // SAFETY: the token is checked; the text is NUL-terminated and lives as long as the model.
        unsafe {
            let text = sys::llama_vocab_get_text(self.vocab(), self.id(token));
            if text.is_null() { b"" } else { CStr::from_ptr(text).to_bytes() }
        }
    }

    fn attributes(&self, token: Token) -> sys::llama_token_attr {
        // SAFETY: the token is checked.
        unsafe { sys::llama_vocab_get_attr(self.vocab(), self.id(token)) }
    }

    /// The token as llama.cpp takes it. It throws or reads out of bounds for a token that is none.
    fn id(&self, token: Token) -> sys::llama_token {
        assert!(token.0 < self.size, "token {} is not in a vocabulary of {}", token.0, self.size);
        token.0.cast_signed()
    }

    /// SentencePiece falls back to byte tokens, and llama.cpp throws through the C interface where one is missing.
    fn check_bytes(&self) -> Result<(), String> {
        let mut has_byte = [false; 256];
        for token in self.tokens() {
            match self.bytes(token) {
                [byte] => has_byte[usize::from(*byte)] = true,
                [b'<', b'0', b'x', digits @ .., b'>'] if digits.len() == 2 => {
                    let byte = std::str::from_utf8(digits).ok().and_then(|digits| u8::from_str_radix(digits, 16).ok());
                    if let Some(byte) = byte {
                        has_byte[usize::from(byte)] = true;
                    }
                }
                _ => {}
            }
        }
        match has_byte.iter().position(|has| !has) {
            Some(byte) => Err(format!("it is of the SentencePiece kind and has no token for the byte 0x{byte:02X}")),
            None => Ok(()),
        }
    }

    /// What text can spell but never should unless a template wrote it: control tokens, and the unknown token.
    fn control_tokens(&self) -> Vec<(String, ControlToken)> {
        self.tokens()
            .filter_map(|token| {
                let attributes = self.attributes(token);
                let has = |attribute| attributes & attribute != 0;
                let text = std::str::from_utf8(self.bytes(token)).ok()?;
                let is_control = has(sys::LLAMA_TOKEN_ATTR_CONTROL) || has(sys::LLAMA_TOKEN_ATTR_UNKNOWN);
                let control = ControlToken {
                    token,
                    strips_left: has(sys::LLAMA_TOKEN_ATTR_LSTRIP),
                    strips_right: has(sys::LLAMA_TOKEN_ATTR_RSTRIP),
                };
                (is_control && !text.is_empty()).then(|| (text.to_owned(), control))
            })
            .collect()
    }

    fn tokenize_piece(&self, text: &str, special: SpecialTokens) -> Vec<Token> {
        let length = i32::try_from(text.len()).expect("a request's text is capped far below 2 GiB");
        let parse_special = special == SpecialTokens::Recognised;
        // No tokenizer makes more tokens than there are bytes, but for a space that some put in front.
        let mut tokens: Vec<sys::llama_token> = vec![0; text.len() + 2];
        loop {
            let room = i32::try_from(tokens.len()).unwrap_or(i32::MAX);
            // SAFETY: text and tokens are as long as said, and the vocabulary lives as long as `self`.
            let count = unsafe {
                let text = text.as_ptr().cast();
                sys::llama_tokenize(self.vocab(), text, length, tokens.as_mut_ptr(), room, false, parse_special)
            };
            match usize::try_from(count) {
                Ok(count) => {
                    tokens.truncate(count);
                    return tokens.into_iter().filter_map(|id| u32::try_from(id).ok()).map(Token).collect();
                }
                // A negative count is the room that is needed.
                Err(_) => tokens.resize(count.unsigned_abs() as usize, 0),
            }
        }
    }
}

impl Vocabulary for LlamaVocabulary {
    fn size(&self) -> u32 {
        self.size
    }

    fn tokenize(&self, text: &str, special: SpecialTokens) -> Vec<Token> {
        if !self.is_bpe {
            return self.tokenize_piece(text, special);
        }
        pieces(text).into_iter().flat_map(|piece| self.tokenize_piece(piece, special)).collect()
    }

    fn append_piece(&self, token: Token, bytes: &mut Vec<u8>) {
        /// Longer pieces are rare: they take a second call.
        const ROOM: usize = 32;
        if token.0 >= self.size {
            return;
        }
        let start = bytes.len();
        let mut room = ROOM;
        loop {
            bytes.resize(start + room, 0);
            let length = i32::try_from(room).unwrap_or(i32::MAX);
            // SAFETY: the token is in the vocabulary, and the buffer has `length` bytes from `start` on.
            let written = unsafe {
                let buffer = bytes[start..].as_mut_ptr().cast();
                sys::llama_token_to_piece(self.vocab(), self.id(token), buffer, length, 0, false)
            };
            match usize::try_from(written) {
                Ok(written) => return bytes.truncate(start + written),
                // A negative length is the room that is needed.
                Err(_) => room = written.unsigned_abs() as usize,
            }
        }
    }

    fn find_control_token(&self, text: &str) -> Option<(Range<usize>, Token)> {
        self.control.find(text)
    }

    fn prompt_start(&self) -> Option<Token> {
        self.bos.filter(|_| self.add_bos)
    }

    fn beginning_of_sequence(&self) -> Option<Token> {
        self.bos
    }

    fn ends_generation(&self, token: Token) -> bool {
        // SAFETY: the vocabulary lives as long as `self`; the token is in it.
        token.0 < self.size && unsafe { sys::llama_vocab_is_eog(self.vocab(), self.id(token)) }
    }
}

impl ControlTokens {
    fn new(tokens: &[(String, ControlToken)]) -> Result<Self, String> {
        let automaton = AhoCorasick::builder()
            .match_kind(MatchKind::LeftmostLongest)
            .build(tokens.iter().map(|(text, _)| text))
            .map_err(|error| format!("its control tokens cannot be searched for ({error})"))?;
        Ok(Self { automaton, tokens: tokens.iter().map(|&(_, token)| token).collect() })
    }

    /// The first of the longest, with the white space that belongs to it.
    fn find(&self, text: &str) -> Option<(Range<usize>, Token)> {
        let found = self.automaton.find(text)?;
        let control = self.tokens[found.pattern().as_usize()];
        let is_space = |character: char| character.is_ascii_whitespace() || character == '\u{B}';
        let start =
            if control.strips_left { text[..found.start()].trim_end_matches(is_space).len() } else { found.start() };
        let end = if control.strips_right {
            text.len() - text[found.end()..].trim_start_matches(is_space).len()
        } else {
            found.end()
        };
        Some((start..end, control.token))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Option<(&str, u32)>) {
        let control =
            |token, strips_left, strips_right| ControlToken { token: Token(token), strips_left, strips_right };
        let tokens = [
            ("<s>".to_owned(), control(1, false, false)),
            ("<|end|>".to_owned(), control(2, false, true)),
            ("<|end|>!".to_owned(), control(3, false, false)),
            ("<mask>".to_owned(), control(4, true, false)),
        ];
        let found = ControlTokens::new(&tokens).unwrap().find(text).map(|(place, token)| (&text[place], token.0));
        assert_eq!(found, expected);
    }

    #[test]
    fn the_first_and_longest_is_found() {
        check("a<|end|>!<s>", Some(("<|end|>!", 3)));
        check("a<s><|end|>", Some(("<s>", 1)));
        check("nothing < here", None);
    }

    #[test]
    fn white_space_goes_with_the_token_that_strips_it() {
        check("a<|end|> \n b", Some(("<|end|> \n ", 2)));
        check("a \n<mask> b", Some((" \n<mask>", 4)));
    }
}
