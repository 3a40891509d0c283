//! Models on disk: downloads, and a cache in which what exists is complete and verified.

mod progress;

pub use progress::{Phase, Progress, Snapshot};
