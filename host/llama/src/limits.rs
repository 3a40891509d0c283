//! Every limit of the crate.

use std::time::Duration;

/// Tokens per sequence unless configured: what a model was trained for, but at most this many, so that a model made
/// for 128k does not claim gigabytes of memory for conversations that nobody has.
pub const CONTEXT_LENGTH_DEFAULT: u32 = 8192;

/// Tokens of an input to encode unless configured, as [`CONTEXT_LENGTH_DEFAULT`]: an input is computed in one piece, and
/// llama.cpp keeps the logits of all its tokens, 0.5 GB at this length for a vocabulary of 65,000.
pub const CONTEXT_LENGTH_DEFAULT_ENCODING: u32 = 2048;

/// Rows of one call for models that can encode an input in parts: their logits take 0.6 MB each for a vocabulary of
/// 152,000, twice.
pub(crate) const CAUSAL_ROWS: usize = 128;

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

/// Characters without a space, or spaces without anything else, that a BPE tokenizer is shown at once. A thread's stack of 2 MiB
/// takes 5,000 with libstdc++'s regular expressions, which may take in a run of each; words have some ten, links some hundred.
pub(crate) const RUN_CHARS_MAX: usize = 1024;

/// Between two batches of an answer lie sampling and the texts' way out: a millisecond or two, a few on a busy machine. A model that
/// computes nothing for longer than this leaves its threads to others.
pub(crate) const TURN_PAUSE_MAX: Duration = Duration::from_millis(20);
