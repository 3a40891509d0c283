//! The header of a GGUF file, read without trusting it.
//!
//! Format: <https://github.com/ggml-org/ggml/blob/master/docs/gguf.md>. What is checked is what keeps the C++ loader
//! on known ground: magic and version, caps on every count and length before anything is allocated, tensor types and
//! shapes that multiply without overflow, and every tensor inside the file.

mod header;
mod limits;
mod model;
mod parse;
mod read;
mod tensor;
mod vocabulary;

#[cfg(test)]
mod hostile;
#[cfg(test)]
pub(crate) mod written;

pub use header::{Array, Header, Value};
pub use model::Model;
pub use read::GgufError;
pub use tensor::{Tensor, TensorType};
pub use vocabulary::{TokenKind, Vocabulary};
