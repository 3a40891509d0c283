//! A repository's `tokenizer.json`: text to tokens without the model, so that prompts are counted on any thread.
//!
//! It is believed only where it agrees with the vocabulary in the GGUF ([`Tokenizer::first_difference`]): the two are
//! published as separate files, and a fine-tune that added a token to one of them is the usual way for counts to go wrong.
//! That the same tokens also cut text alike is what the two must be asked: [`Tokenizer::encode`] on a probe text, beside
//! llama.cpp's answer.
//!
//! The file is foreign. It is read up to a size, and refused where it makes much of little ([`growth`]); the crate `tokenizers`, which unwraps here and there while it builds
//! and runs what a file asks for, is kept from unwinding into ours.

mod difference;
mod growth;

use std::io::Read;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use aho_corasick::{AhoCorasick, MatchKind};
use tokenizers::{ModelWrapper, Tokenizer as Inner};

pub use difference::Difference;

use crate::limits::TOKENIZER_BYTES_MAX;

/// A tokenizer. Cheap to share between threads, not to clone.
pub struct Tokenizer {
    inner: Inner,
    /// Finds the texts of special tokens; of several at one place the longest.
    finder: AhoCorasick,
    /// Their numbers, in the finder's order.
    specials: Vec<u32>,
}

/// Why there is no tokenizer, or no tokens.
#[derive(Debug, thiserror::Error)]
pub enum TokenizerError {
    /// The file could not be read.
    #[error("cannot read the tokenizer {path}", path = path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is beyond any real one's size.
    #[error("the tokenizer {path} has {found} bytes, and {limit} is the most that is accepted", path = path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Its size.
        found: u64,
        /// The most that is accepted.
        limit: u64,
    },
    /// The file is not what it is called.
    #[error("the tokenizer cannot be used: {0}; the GGUF's own vocabulary serves as well")]
    Unusable(String),
    /// A text could not be cut.
    #[error("the tokenizer cannot cut a text of {bytes} bytes: {reason}")]
    Encode {
        /// How long the text is.
        bytes: usize,
        /// Why.
        reason: String,
    },
}

impl Tokenizer {
    /// Reads a `tokenizer.json`.
    pub fn open(path: &Path) -> Result<Self, TokenizerError> {
        let io = |source| TokenizerError::Io { path: path.to_owned(), source };
        let facts = std::fs::metadata(path).map_err(io)?;
        if !facts.is_file() {
            return Err(io(std::io::Error::other("it is no regular file")));
        }
        let limit = TOKENIZER_BYTES_MAX;
        let mut bytes = Vec::new();
        let file = std::fs::File::open(path).map_err(io)?;
        let read = file.take(limit + 1).read_to_end(&mut bytes).map_err(io)?;
        if read as u64 > limit {
            return Err(TokenizerError::TooLarge { path: path.to_owned(), found: facts.len().max(read as u64), limit });
        }
        Self::parse(&bytes)
    }

    /// Makes a tokenizer of the text of a `tokenizer.json`.
    pub fn parse(bytes: &[u8]) -> Result<Self, TokenizerError> {
        growth::check(bytes).map_err(TokenizerError::Unusable)?;
        let built = guarded(|| Inner::from_bytes(bytes)).map_err(TokenizerError::Unusable)?;
        let mut inner = built.map_err(|error| TokenizerError::Unusable(error.to_string()))?;
        if let ModelWrapper::BPE(model) = inner.get_model()
            && model.dropout.is_some_and(|dropout| dropout > 0.0)
        {
            return Err(TokenizerError::Unusable("it draws its merges at random (`dropout`)".to_owned()));
        }
        // What is made for training cuts and fills up what is to be counted.
        inner.with_padding(None);
        inner.with_truncation(None).map_err(|error| TokenizerError::Unusable(error.to_string()))?;
        inner.set_encode_special_tokens(true);
        let (texts, specials): (Vec<String>, Vec<u32>) = inner
            .get_added_tokens_decoder()
            .into_iter()
            .filter(|(_, token)| token.special && !token.content.is_empty())
            .map(|(number, token)| (token.content, number))
            .unzip();
        let finder = AhoCorasick::builder()
            .match_kind(MatchKind::LeftmostLongest)
            .build(texts)
            .map_err(|error| TokenizerError::Unusable(error.to_string()))?;
        Ok(Self { inner, finder, specials })
    }

    /// The tokens of a text that spells no control tokens: what it says stays text, as llama.cpp does it without
    /// `parse_special`. No token is added at either end.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, TokenizerError> {
        if text.is_empty() {
            return Ok(Vec::new());
        }
        let failed = |reason| TokenizerError::Encode { bytes: text.len(), reason };
        let encoding = guarded(|| self.inner.encode_fast(text, false)).map_err(failed)?;
        Ok(encoding.map_err(|error| failed(error.to_string()))?.get_ids().to_vec())
    }

    /// The tokens of a template's text: control tokens that it spells become that, the text between them is cut on its
    /// own.
    pub fn encode_template(&self, text: &str) -> Result<Vec<u32>, TokenizerError> {
        let mut tokens = Vec::new();
        let mut done = 0;
        for found in self.finder.find_iter(text) {
            tokens.extend(self.encode(&text[done..found.start()])?);
            tokens.push(self.specials[found.pattern().as_usize()]);
            done = found.end();
        }
        tokens.extend(self.encode(&text[done..])?);
        Ok(tokens)
    }

    /// How many tokens a text has that spells no control tokens.
    pub fn count(&self, text: &str) -> Result<usize, TokenizerError> {
        self.encode(text).map(|tokens| tokens.len())
    }

    /// How many tokens there are.
    #[must_use]
    pub fn vocabulary_size(&self) -> usize {
        self.inner.get_vocab_size(true)
    }

    /// How a token is written in the file.
    #[must_use]
    pub fn text(&self, token: u32) -> Option<String> {
        self.inner.id_to_token(token)
    }
}

impl std::fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tokenizer").field("vocabulary_size", &self.vocabulary_size()).finish_non_exhaustive()
    }
}

/// Runs foreign code that may panic. Its state is not used again after it did while being built, and a tokenizer is only
/// read while it runs.
fn guarded<T>(run: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(run)).map_err(|panic| {
        let said = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref::<&str>().copied());
        format!("it broke down ({})", said.unwrap_or("without a word"))
    })
}

#[cfg(test)]
mod tests;
