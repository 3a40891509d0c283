//! Models at rest: how they are named, and what their files say of themselves before anything loads them.
//!
//! Nothing here trusts a file. A GGUF header is read in safe Rust with every count and length capped, so that a
//! truncated or hostile file is refused with a sentence instead of being handed to C++.

#[cfg(test)]
mod allocation;
mod encoding;
mod facts;
mod footprint;
mod limits;
mod reference;
mod selection;
mod shard;
mod tokenizer;

pub mod gguf;
pub mod memory;

pub use encoding::Encodes;
pub use facts::{Facts, TemplateFacts, TypeShare};
pub use footprint::{Basis, Footprint, Workload};
pub use limits::CODE_BYTES;
pub use reference::{
    Commit, FileChoice, HubReference, ModelReference, ReferenceError, RepositoryId, RepositoryPath, Revision,
};
pub use selection::{Choices, Chosen, PREFERENCE, Selection, SelectionError, select};
pub use tokenizer::{Difference, Tokenizer, TokenizerError};
