//! Text to tokens and back, without a word of the model.

use inference::{SpecialTokens, Token, Vocabulary};

use super::admission::{Deadline, Terms};
use super::off_thread::off_thread;
use super::{ChatError, Service};
use crate::limits;

/// A text's tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tokenized {
    /// The tokens.
    pub tokens: Vec<Token>,
    /// The bytes that each stands for in a text: none for a control token. Empty unless asked for.
    pub pieces: Vec<Vec<u8>>,
    /// Tokens that the model's context holds.
    pub context_length: u32,
}

impl Service {
    /// The tokens of `text`, which stays text whatever it spells; `adds_special`: with what a prompt of the model begins
    /// with, or what stands around a text that it encodes. `write`: what the caller makes of them, as a part of the work.
    pub async fn tokenize<T: Send + 'static>(
        &self,
        text: String,
        adds_special: bool,
        wants_pieces: bool,
        terms: &Terms,
        write: impl FnOnce(Tokenized) -> T + Send + 'static,
    ) -> Result<T, ChatError> {
        let deadline = self.deadline(terms);
        let loaded = self.within(deadline, self.loaded_any()).await?.0;
        let bytes = text.len();
        self.compute(bytes, terms, deadline, move || {
            let vocabulary = loaded.vocabulary();
            let tokens =
                if adds_special { loaded.framed(&text) } else { vocabulary.tokenize(&text, SpecialTokens::Literal) };
            drop(text);
            let (count, most) = (tokens.len(), limits::TOKENS_SHOWN_MAX);
            if count > most {
                return Err(ChatError::TooManyTokens { count, most });
            }
            let piece = |&token: &Token| {
                let mut bytes = Vec::new();
                vocabulary.append_piece(token, &mut bytes);
                bytes
            };
            let pieces = if wants_pieces { tokens.iter().map(piece).collect() } else { Vec::new() };
            Ok(write(Tokenized { tokens, pieces, context_length: loaded.card().context_length }))
        })
        .await
    }

    /// The text of `tokens`; what is no whole character is shown as U+FFFD. `write`: what the caller makes of it, as a part of
    /// the work.
    pub async fn detokenize<T: Send + 'static>(
        &self,
        tokens: Vec<Token>,
        terms: &Terms,
        write: impl FnOnce(String) -> T + Send + 'static,
    ) -> Result<T, ChatError> {
        let deadline = self.deadline(terms);
        let loaded = self.within(deadline, self.loaded_any()).await?.0;
        self.compute(tokens.len().saturating_mul(limits::BYTES_PER_TOKEN), terms, deadline, move || {
            text_of(&tokens, loaded.vocabulary(), limits::TEXT_SHOWN_BYTES_MAX).map(write)
        })
        .await
    }

    /// Does a little work at once. More of it takes a slot, as it takes the processor from whoever generates.
    async fn compute<T: Send + 'static>(
        &self,
        size: usize,
        terms: &Terms,
        deadline: Deadline,
        work: impl FnOnce() -> Result<T, ChatError> + Send + 'static,
    ) -> Result<T, ChatError> {
        if size <= limits::TOKENIZE_INLINE_BYTES_MAX {
            return work();
        }
        let computed = async {
            let hold = self.admit(terms, None).await?;
            off_thread("tokenize the text", hold, |_| work()).await?
        };
        self.within(deadline, computed).await
    }
}

/// The text of `tokens`, unless it is more than so many bytes: a token may stand for a hundred blanks.
fn text_of(tokens: &[Token], vocabulary: &dyn Vocabulary, bytes_max: usize) -> Result<String, ChatError> {
    let (mut bytes, vocabulary_size) = (Vec::new(), vocabulary.size());
    for (place, &token) in tokens.iter().enumerate() {
        if token.0 >= vocabulary_size {
            let member = format!("tokens[{place}]");
            return Err(ChatError::UnknownToken { member, token: token.0, vocabulary_size });
        }
        vocabulary.append_piece(token, &mut bytes);
        if bytes.len() > bytes_max {
            return Err(ChatError::TooMuchText { bytes_max });
        }
    }
    Ok(String::from_utf8(bytes).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::allocation::peak_bytes;
    use crate::fakes::Bytes;

    #[test]
    fn text_is_told_up_to_a_bound() {
        let tokens = vec![Token(32); 1_000_000];
        assert_eq!(text_of(&tokens[..10], &Bytes, 10), Ok(" ".repeat(10)));
        let mut told = Ok(String::new());
        let peak = peak_bytes(|| told = text_of(&tokens, &Bytes, 10_000));
        assert_eq!(told, Err(ChatError::TooMuchText { bytes_max: 10_000 }));
        assert!(peak < 64 * 1024, "{peak} bytes were held on the way");
        assert_eq!(text_of(&[Token(0xC3)], &Bytes, 10), Ok("\u{fffd}".to_owned()));
    }
}
