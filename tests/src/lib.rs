//! Fixtures shared by every suite.

pub mod bert;
pub mod gguf;
pub mod host;
pub mod markov;
