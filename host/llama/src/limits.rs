//! Every limit of the crate.

/// Tokens per sequence unless configured: what a model was trained for, but at most this many, so that a model made
/// for 128k does not claim gigabytes of memory for conversations that nobody has.
pub const CONTEXT_LENGTH_DEFAULT: u32 = 8192;

/// Sequences in one context: llama.cpp's `LLAMA_MAX_SEQ`.
pub const SLOTS_MAX: usize = 256;

/// Bytes of llama.cpp's last words that an error repeats.
pub(crate) const REASON_BYTES_MAX: usize = 2048;

/// Bytes of a metadata value that are read: far more than the longest chat templates (60 KiB).
pub(crate) const METADATA_BYTES_MAX: usize = 4 << 20;
