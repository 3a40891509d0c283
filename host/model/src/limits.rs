//! Every limit and measured constant of this crate that is not one of the GGUF header's (`gguf/limits.rs`).

/// Shards of one model. The largest models on the Hub have some 200 files of 5 GB.
pub(crate) const SHARDS_MAX: u32 = 4_096;
/// Choices that an error lists: what one still reads. Repositories with 30 quantisations exist.
pub(crate) const CHOICES_SHOWN_MAX: usize = 32;
/// Layers that are looked at: `LLAMA_MAX_LAYERS`.
pub(crate) const LAYERS_MAX: usize = 512;
/// Tokens to a multiple of which llama.cpp rounds up a sequence's context (`llama-context.cpp`).
pub(crate) const CELLS_PADDING: u64 = 256;
/// Likewise for the part that layers with a window keep (`llama-kv-cache-iswa.cpp`).
pub(crate) const WINDOW_CELLS_PADDING: u64 = 256;
/// Tokens of a batch of inputs to encode: `engine`'s `ROWS_PER_BATCH_DEFAULT`.
pub(crate) const ENCODING_BATCH_TOKENS: u32 = 512;
/// Tokens of a part of an input that is encoded in parts: `llama`'s `CAUSAL_ROWS`.
pub(crate) const ENCODING_PART_TOKENS: u32 = 128;
/// Bytes of the program's code that are resident while it serves, of a release build, measured.
pub const CODE_BYTES: u64 = 20_000_000;
/// Bytes of the process without a model: its code, and 8 MB of threads, plugins and allocator, measured.
pub(crate) const PROCESS_BYTES: u64 = CODE_BYTES + 8_000_000;
/// Bytes that llama.cpp and the host keep for a token or a merge: two maps and two texts each, measured.
pub(crate) const PROCESS_BYTES_PER_TOKEN: u64 = 210;
/// Bytes of a candidate of a sampler: `llama_token_data`.
pub(crate) const SAMPLER_BYTES_PER_TOKEN: u64 = 12;
/// Tokens of context for which layers are given up to the processor where the length is ours to choose: a conversation with a
/// document.
pub(crate) const CONTEXT_LENGTH_WANTED: u32 = 4_096;
/// Percent of a footprint that are asked for on top of it: what its formulas leave out.
pub(crate) const MARGIN_PERCENT: u64 = 5;
/// Likewise where the KV cache is an estimate.
pub(crate) const MARGIN_PERCENT_ESTIMATED: u64 = 25;
/// Bytes of that margin at the least: requests under way and their plugins, whatever the model.
pub(crate) const MARGIN_BYTES_MIN: u64 = 32_000_000;
/// Bytes of a `tokenizer.json`. Gemma's, with 262,144 tokens and their merges, has 33 MB.
pub(crate) const TOKENIZER_BYTES_MAX: u64 = 96 << 20;
/// Bytes of a text that is cut to compare a tokenizer, generously.
pub(crate) const TOKENIZER_TEXT_BYTES: u64 = 4_096;
/// Bytes that a tokenizer may make of such a text and of its added tokens before it cuts them. The crate holds some forty
/// times as much meanwhile. Gemma makes 300 kB of its 6,400 added tokens.
pub(crate) const TOKENIZER_GROWN_BYTES_MAX: u64 = 16 << 20;
/// Characters of a token's text in an error: what one recognises it by.
pub(crate) const TOKEN_SHOWN_CHARS_MAX: usize = 60;
