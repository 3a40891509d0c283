//! Every limit of this crate that is not one of the GGUF header's (`gguf/limits.rs`), with its reason.

/// Shards of one model. The largest models on the Hub have some 200 files of 5 GB.
pub(crate) const SHARDS_MAX: u32 = 4_096;
/// Choices that an error lists: what one still reads. Repositories with 30 quantisations exist.
pub(crate) const CHOICES_SHOWN_MAX: usize = 32;
