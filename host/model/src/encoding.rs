//! Whether a model encodes texts instead of completing them, by its header, and in what pieces llama.cpp computes an input.

use crate::footprint::WITHOUT_MEMORY;
use crate::gguf::{Header, Value};

/// How a model that encodes computes an input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encodes {
    /// All its tokens at once: each may see all others, or the result is the mean of all.
    InOnePiece,
    /// In parts: a token sees only what stands before it, and the last one is the result.
    InParts,
}

impl Encodes {
    /// `None` for a model that completes. What `llama` finds when it has loaded the model (`llama/src/encoding.rs`).
    #[must_use]
    pub fn of(header: &Header) -> Option<Self> {
        const MEAN: u64 = 1;
        const LAST: u64 = 3;
        const RANK: u64 = 4;
        let pooling = header.fact("pooling_type").filter(|&pooling| pooling > 0)?;
        let architecture = header.architecture().unwrap_or_default();
        let says_otherwise =
            header.metadata.get(&format!("{architecture}.attention.causal")) == Some(&Value::Bool(false));
        let is_causal = !says_otherwise && !WITHOUT_MEMORY.contains(&architecture);
        let is_last = match pooling {
            RANK => header.fact("classifier.pooling_type") != Some(MEAN),
            other => other == LAST,
        };
        Some(if is_causal && is_last { Self::InParts } else { Self::InOnePiece })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gguf::written::Written;

    fn check(header: &Written, expected: Option<Encodes>) {
        assert_eq!(Encodes::of(&header.header()), expected);
    }

    #[test]
    fn a_model_encodes_where_it_says_how() {
        check(&Written::of("llama"), None);
        check(&Written::of("llama").number("llama.pooling_type", 0), None);
        check(&Written::of("bert"), None);
        check(&Written::of("bert").number("bert.pooling_type", 1), Some(Encodes::InOnePiece));
        check(&Written::of("bert").number("bert.pooling_type", 3), Some(Encodes::InOnePiece));
        check(&Written::of("qwen3").number("qwen3.pooling_type", 3), Some(Encodes::InParts));
        check(&Written::of("qwen3").number("qwen3.pooling_type", 1), Some(Encodes::InOnePiece));
        check(&Written::of("qwen3").number("qwen3.pooling_type", 4), Some(Encodes::InParts));
    }
}
