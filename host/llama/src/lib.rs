//! llama.cpp behind the engine's [`engine::Decoder`] and [`engine::Encoder`].
//!
//! [`Model::load`] maps a GGUF file and gives its [`inference::ModelCard`] and vocabulary at once; [`Model::decoder`]
//! makes the context that computes, on the thread that will drive it; [`Model::encoder`] does for a model that encodes. All `unsafe` of the house that is due to C++ is
//! in this crate, each kind of pointer in one file: the model in `model`, the vocabulary in `vocabulary`, the context
//! in `context` and `encoder`, the sampler in `sampler`, the file's header in
//! `precheck`, the callbacks in `log` and `context`.
//!
//! llama.cpp ends the process where one of its own assertions fails. `precheck` looks for what a file could provoke
//! that with; `log` says which assertion it was.

#![expect(unsafe_code, reason = "the calls into llama.cpp are here, and nowhere else in the house")]

mod backend;
mod context;
mod decoder;
mod dry;
mod encoder;
mod encoding;
mod error;
mod likeliest;
mod limits;
mod log;
mod logprobs;
#[cfg(target_os = "linux")]
mod mapping;
mod model;
mod penalties;
mod precheck;
mod sampler;
mod threads;
mod vocabulary;

pub use decoder::LlamaDecoder;
pub use encoder::LlamaEncoder;
pub use error::LoadError;
pub use limits::{CONTEXT_LENGTH_DEFAULT, CONTEXT_LENGTH_DEFAULT_ENCODING, SLOTS_MAX};
pub use model::{LoadOptions, Model};
