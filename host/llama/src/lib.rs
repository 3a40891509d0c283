//! llama.cpp behind the engine's [`engine::Decoder`] and [`engine::Encoder`].
//!
//! [`Model::load`] maps a GGUF file and gives its [`inference::ModelCard`] and vocabulary at once; [`Model::decoder`]
//! makes the context that computes, on the thread that will drive it; [`Model::encoder`] does for a model that encodes. All
//! `unsafe` of the house that is due to C++ is in this crate, each kind of pointer in one file: the model in `model`, modules
//! in `modules`, devices in `device`, the vocabulary in `vocabulary`, the context in `context` and `encoder`, the sampler in
//! `sampler`, the file's header in
//! `precheck`, the callbacks in `log` and `context`.
//!
//! What computes is decided before a model is loaded: [`backends`] loads the variant for this processor and the first
//! GPU's module that has a device (`modules`, `probe`, `device`), and says why each other one was passed over.
//!
//! llama.cpp ends the process where one of its own assertions fails. `precheck` looks for what a file could provoke
//! that with; `log` says which assertion it was.

#![expect(unsafe_code, reason = "the calls into llama.cpp are here, and nowhere else in the house")]

mod backend;
mod buffers;
mod context;
mod cpus;
mod decoder;
mod device;
mod dry;
mod encoder;
mod encoding;
mod error;
mod kv_type;
mod likeliest;
mod limits;
mod log;
mod logprobs;
mod long_runs;
#[cfg(target_os = "linux")]
mod mapping;
mod model;
mod modules;
mod penalties;
mod precheck;
mod probe;
mod raw_context;
mod sampler;
mod threads;
mod visible;
mod vocabulary;

pub use backend::{BackendOptions, backends};
pub use buffers::{Buffer, Part};
pub use cpus::Cpus;
pub use decoder::LlamaDecoder;
pub use device::{Backend, Device, DeviceChoice};
pub use encoder::LlamaEncoder;
pub use error::{BackendError, LoadError};
pub use kv_type::KvType;
pub use limits::{CONTEXT_LENGTH_DEFAULT, CONTEXT_LENGTH_DEFAULT_ENCODING, SLOTS_MAX};
pub use model::{LoadOptions, Model};
pub use probe::{Backends, Skipped, Why};
pub use threads::available as threads_available;
pub use visible::{Maker, VisibleGpu, visible_gpus};
