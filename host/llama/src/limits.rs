//! Every limit of the crate.

/// Tokens per sequence unless configured: what a model was trained for, but at most this many, so that a model made
/// for 128k does not claim gigabytes of memory for conversations that nobody has.
pub const CONTEXT_LENGTH_DEFAULT: u32 = 8192;

/// Sequences in one context: llama.cpp's `LLAMA_MAX_SEQ`.
pub const SLOTS_MAX: usize = 256;

/// Modules of a folder that are looked at: llama.cpp has some 20 of them, CPU variants included.
pub(crate) const MODULES_MAX: usize = 256;

/// Buffers whose sizes are kept: a few for each device and part of a model.
pub(crate) const BUFFERS_MAX: usize = 256;

/// GPUs of a machine that are told of. The largest servers have 16.
pub(crate) const VISIBLE_MAX: usize = 64;

/// Bytes of llama.cpp's last words that an error repeats.
pub(crate) const REASON_BYTES_MAX: usize = 2048;

/// Bytes of a metadata value that are read: far more than the longest chat templates (60 KiB).
pub(crate) const METADATA_BYTES_MAX: usize = 4 << 20;

/// Biases from here down ban their token, as at `OpenAI`.
pub(crate) const BIAS_BANS: f32 = -100.0;

/// Temperatures below this take the likeliest token, as 0 does: two logits that a float tells apart (some 10⁻⁶ at a
/// logit of 20) are then almost one certainty apart, and divisions by less overflow.
pub(crate) const TEMPERATURE_MIN: f32 = 1e-6;
