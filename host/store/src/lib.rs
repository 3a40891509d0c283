//! Models on disk: downloads, and a cache in which what exists is complete and verified.

mod error;
mod layout;
mod limits;
mod lock;
mod manifest;
mod progress;
mod sidecars;
mod transfer;
mod verify;

pub use error::StoreError;
pub use limits::{ORPHAN_AGE, TOKENIZER_BYTES_MAX};
pub use lock::Lease;
pub use progress::{Phase, Progress, Snapshot};
pub use verify::{Content, Verified};
