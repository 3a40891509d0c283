//! Fixtures shared by every suite.

pub mod gguf;
pub mod host;
pub mod markov;
