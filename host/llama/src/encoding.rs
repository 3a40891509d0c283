//! Whether a model encodes instead of completing, and how: by its file's metadata.

use std::ffi::CString;

use inference::{EncodingFacts, EncodingTask, Frame, Token};
use llama_cpp_sys_2 as sys;

use crate::model::Weights;

/// How the vectors of an input's tokens become one: llama.cpp's `llama_pooling_type`, beside 0, which is none.
mod pooling {
    pub(super) const MEAN: &str = "1";
    /// The first token's.
    pub(super) const CLS: &str = "2";
    /// The last token's.
    pub(super) const LAST: &str = "3";
    /// A classifier's score; of the first token, of the last one where tokens see only what stands before them, or of the
    /// mean.
    pub(super) const RANK: &str = "4";
}

/// What is known of a model that encodes.
#[derive(Debug, Clone)]
pub(crate) struct Encodes {
    /// A token sees only what stands before it, and the last one stands for all.
    pub(crate) is_by_last: bool,
    pub(crate) facts: EncodingFacts,
}

/// Why a model that says that it encodes cannot.
pub(crate) enum Refusal {
    /// Its file contradicts itself.
    Broken(String),
    /// It is of a kind that is not served.
    Unsupported(&'static str),
}

impl Encodes {
    /// `None` for a model that completes: one whose file names no pooling.
    pub(crate) fn of(weights: &Weights, architecture: &str) -> Result<Option<Self>, Refusal> {
        let number = |name: &str| metadata(weights, &format!("{architecture}.{name}"));
        let pooling = number("pooling_type").unwrap_or_default();
        let task = match pooling.as_str() {
            "" | "0" => return Ok(None),
            _ if !weights.can_go_back() => {
                return Err(Refusal::Unsupported("encodes with a recurrent state, which is not supported"));
            }
            pooling::MEAN | pooling::CLS | pooling::LAST => EncodingTask::Embedding { dimensions: weights.width_out() },
            pooling::RANK => ranking(weights, architecture)?,
            // llama.cpp ends the process over others.
            other => {
                return Err(Refusal::Broken(format!("`{architecture}.pooling_type` is {other}, and 0 to 4 are known")));
            }
        };
        let is_causal = number("attention.causal").is_none_or(|said| said != "false") && !weights.is_without_memory();
        let takes_last = match pooling.as_str() {
            pooling::RANK => number("classifier.pooling_type").is_none_or(|said| said != pooling::MEAN),
            other => other == pooling::LAST,
        };
        let facts = EncodingFacts { task, frame: frame(weights) };
        Ok(Some(Self { is_by_last: is_causal && takes_last, facts }))
    }

    /// Numbers that llama.cpp gives per input.
    pub(crate) fn width(&self, weights: &Weights) -> usize {
        match self.facts.task {
            EncodingTask::Embedding { dimensions } => dimensions as usize,
            EncodingTask::Ranking => weights.classes() as usize,
        }
    }

    /// What of those numbers is handed on: a score from 0 to 1, or the vector as it is.
    pub(crate) fn output(&self, mut numbers: Vec<f32>) -> Vec<f32> {
        if self.facts.task == EncodingTask::Ranking {
            // Of two classes, "yes" and "no", llama.cpp gives probabilities already; a single one is a logit.
            let is_logit = numbers.len() == 1;
            numbers.truncate(1);
            if is_logit {
                numbers[0] = 1.0 / (1.0 + (-numbers[0]).exp());
            }
        }
        numbers
    }
}

/// A model that ranks has one class, or the classes "yes" and "no" in this order (Qwen3-Reranker), of which llama.cpp
/// computes the probabilities (`llama-graph.cpp: build_pooling`).
fn ranking(weights: &Weights, architecture: &str) -> Result<EncodingTask, Refusal> {
    let labels: Vec<String> = (0..weights.classes().min(2)).map(|class| weights.label(class)).collect();
    match weights.classes() {
        1 => Ok(EncodingTask::Ranking),
        2 if labels == ["yes", "no"] && matches!(architecture, "qwen3" | "qwen3vl") => Ok(EncodingTask::Ranking),
        _ => Err(Refusal::Unsupported("sorts texts into classes; to rank, it needs one class")),
    }
}

/// What llama.cpp's own tokenizer puts around a text with `add_special`.
fn frame(weights: &Weights) -> Frame {
    let vocab = weights.vocabulary();
    // SAFETY: the vocabulary lives as long as the model, here and below.
    let (size, kind) = unsafe { (sys::llama_vocab_n_tokens(vocab), sys::llama_vocab_type(vocab)) };
    // SAFETY: as above.
    let (beginning, end, separator) =
        unsafe { (sys::llama_vocab_bos(vocab), sys::llama_vocab_eos(vocab), sys::llama_vocab_sep(vocab)) };
    // SAFETY: as above.
    let [adds_beginning, adds_end, adds_separator] = unsafe {
        [sys::llama_vocab_get_add_bos(vocab), sys::llama_vocab_get_add_eos(vocab), sys::llama_vocab_get_add_sep(vocab)]
    };
    let token = |id: sys::llama_token| u32::try_from(id).ok().filter(|_| id < size).map(Token);
    let pair_template = metadata(weights, "tokenizer.chat_template.rerank").filter(|template| !template.is_empty());
    if kind == sys::LLAMA_VOCAB_TYPE_WPM {
        // `[CLS]` and `[SEP]`, whatever the file says; between two texts stands one `[SEP]`.
        return Frame { start: token(beginning), end: token(separator), separator: None, pair_template };
    }
    Frame {
        start: token(beginning).filter(|_| adds_beginning),
        end: token(end).or(token(separator)).filter(|_| adds_end),
        separator: token(separator).filter(|_| adds_separator),
        pair_template,
    }
}

fn metadata(weights: &Weights, key: &str) -> Option<String> {
    weights.metadata(&CString::new(key).ok()?)
}
