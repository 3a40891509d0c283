//! Text to tokens and back, without a word of the model.

use inference::{SpecialTokens, Token};

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
    /// with, or what stands around a text that it encodes. `model`: by name, or whichever is served.
    pub async fn tokenize(
        &self,
        model: Option<&str>,
        text: String,
        adds_special: bool,
        wants_pieces: bool,
        terms: &Terms,
    ) -> Result<Tokenized, ChatError> {
        let deadline = self.deadline(terms);
        let loaded = self.within(deadline, self.loaded_or_any(model)).await?;
        let bytes = text.len();
        self.compute(bytes, terms, deadline, move || {
            let vocabulary = loaded.vocabulary();
            let tokens =
                if adds_special { loaded.framed(&text) } else { vocabulary.tokenize(&text, SpecialTokens::Literal) };
            let piece = |&token: &Token| {
                let mut bytes = Vec::new();
                vocabulary.append_piece(token, &mut bytes);
                bytes
            };
            let pieces = if wants_pieces { tokens.iter().map(piece).collect() } else { Vec::new() };
            Ok(Tokenized { tokens, pieces, context_length: loaded.card().context_length })
        })
        .await
    }

    /// The text of `tokens`; what is no whole character is shown as U+FFFD. `model`: by name, or whichever is served.
    pub async fn detokenize(
        &self,
        model: Option<&str>,
        tokens: Vec<Token>,
        terms: &Terms,
    ) -> Result<String, ChatError> {
        let deadline = self.deadline(terms);
        let loaded = self.within(deadline, self.loaded_or_any(model)).await?;
        self.compute(tokens.len(), terms, deadline, move || {
            let (vocabulary, mut bytes) = (loaded.vocabulary(), Vec::new());
            let vocabulary_size = vocabulary.size();
            for (place, &token) in tokens.iter().enumerate() {
                if token.0 >= vocabulary_size {
                    let member = format!("tokens[{place}]");
                    return Err(ChatError::UnknownToken { member, token: token.0, vocabulary_size });
                }
                vocabulary.append_piece(token, &mut bytes);
            }
            Ok(String::from_utf8_lossy(&bytes).into_owned())
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
