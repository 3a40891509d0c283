//! Why a model cannot be served.

use std::io;
use std::path::PathBuf;

use crate::limits::SLOTS_MAX;

/// Why a model cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The file cannot be read.
    #[error("failed to open the model file {path}", path = .path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The file is something else.
    #[error(
        "{path} is not a GGUF file: it starts with {found}, not with \"GGUF\"; give a model in llama.cpp's format",
        path = .path.display()
    )]
    NotGguf {
        /// The file.
        path: PathBuf,
        /// Its first bytes.
        found: String,
    },
    /// The path cannot be handed to llama.cpp.
    #[error("the path {path:?} is not UTF-8 or contains a NUL; rename the file")]
    Path {
        /// The path.
        path: PathBuf,
    },
    /// llama.cpp does not take it.
    #[error("llama.cpp cannot load {path}: {reason}", path = .path.display())]
    Rejected {
        /// The file.
        path: PathBuf,
        /// Its last words.
        reason: String,
    },
    /// The model neither completes nor encodes text in a way that is served.
    #[error(
        "{path} holds a model of architecture `{architecture}`, which {why}; serve a model that completes text or embeds it",
        path = .path.display()
    )]
    Unsupported {
        /// The file.
        path: PathBuf,
        /// `general.architecture`.
        architecture: String,
        /// What it is instead.
        why: &'static str,
    },
    /// llama.cpp would end the process over what the file says.
    #[error("the model file {path} is broken: {reason}; download it again, or convert it again", path = .path.display())]
    Broken {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// More sequences than llama.cpp can hold.
    #[error("{slots} concurrent requests are asked for, and llama.cpp computes at most {SLOTS_MAX} side by side")]
    TooManySlots {
        /// What was asked for.
        slots: usize,
    },
    /// There is no memory for the context, most likely.
    #[error(
        "failed to make a context of {context_length} tokens for each of {slots} concurrent requests: {reason}; try a \
         smaller context length or fewer concurrent requests"
    )]
    Context {
        /// Tokens per sequence.
        context_length: u32,
        /// Sequences.
        slots: usize,
        /// llama.cpp's last words.
        reason: String,
    },
    /// The same, for a model that encodes.
    #[error("failed to make a context for inputs of {context_length} tokens: {reason}; try a smaller context length")]
    EncodingContext {
        /// Tokens of an input.
        context_length: u32,
        /// llama.cpp's last words.
        reason: String,
    },
    /// The model loads and does not compute.
    #[error("the model failed to compute its first token: {reason}")]
    WarmUp {
        /// What the decoder said.
        reason: String,
    },
}
