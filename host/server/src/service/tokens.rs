//! Text to tokens and back, without a word of the model.

use inference::{SpecialTokens, Token};

use super::admission::Terms;
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
    /// with, or what stands around a text that it encodes.
    pub async fn tokenize(
        &self,
        text: String,
        adds_special: bool,
        wants_pieces: bool,
        terms: &Terms,
    ) -> Result<Tokenized, ChatError> {
        let loaded = self.loaded_any().await?.0;
        let bytes = text.len();
        self.compute(bytes, terms, move || {
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

    /// The text of `tokens`; what is no whole character is shown as U+FFFD.
    pub async fn detokenize(&self, tokens: Vec<Token>, terms: &Terms) -> Result<String, ChatError> {
        let loaded = self.loaded_any().await?.0;
        self.compute(tokens.len(), terms, move || {
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
        work: impl FnOnce() -> Result<T, ChatError> + Send + 'static,
    ) -> Result<T, ChatError> {
        if size <= limits::TOKENIZE_INLINE_BYTES_MAX {
            return work();
        }
        let (_permit, _waited) = self.admit(terms).await?;
        let done = tokio::task::spawn_blocking(work).await;
        done.map_err(|_| ChatError::Internal { attempted: "tokenize the text" })?
    }
}
