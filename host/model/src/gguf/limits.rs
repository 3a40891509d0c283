//! Every limit on a GGUF header, with its reason. A header beyond them is refused before memory is taken for it.

/// Metadata keys. Real models have some 30 to 60.
pub(super) const METADATA_COUNT_MAX: u64 = 65_536;
/// Tensors. The largest mixture-of-experts files have a few thousand.
pub(super) const TENSOR_COUNT_MAX: u64 = 65_536;
/// Bytes of a key: the specification's own limit.
pub(super) const NAME_BYTES_MAX: u64 = 65_535;
/// Bytes of a tensor's name: `GGML_MAX_NAME`, which counts the NUL behind it, is 64.
pub(super) const TENSOR_NAME_BYTES_MAX: u64 = 63;
/// Bytes of one string value. Chat templates are the longest and stay below 100 KiB.
pub(super) const STRING_BYTES_MAX: u64 = 16 << 20;
/// Bytes of all keys and string values together, which are kept. Real models have some hundred kilobytes.
pub(super) const TEXT_KEPT_BYTES_MAX: u64 = 32 << 20;
/// Elements of an array. Vocabularies are the longest: 262,144 tokens, and their merges some millions.
pub(super) const ARRAY_LENGTH_MAX: u64 = 16 << 20;
/// Elements up to which an array of whole numbers is kept: facts by layer, of which llama.cpp takes 512
/// (`LLAMA_MAX_LAYERS`).
pub(super) const NUMBERS_KEPT_MAX: u64 = 1_024;
/// Elements that are kept of all such arrays together. Real models have fewer than ten of them.
pub(super) const NUMBERS_KEPT_TOTAL_MAX: u64 = 65_536;
/// Bytes of all metadata together: what a vocabulary of a million long tokens would take, several times over.
pub(super) const METADATA_BYTES_MAX: u64 = 256 << 20;
/// Dimensions of a tensor: `GGML_MAX_DIMS`.
pub(super) const DIMENSIONS_MAX: u32 = 4;
/// Bytes between tensors' boundaries. Files use 32; llama.cpp wants a power of two.
pub(super) const ALIGNMENT_MAX: u64 = 65_536;
/// Tokens of a vocabulary that is read whole: sixteen times Gemma's.
pub(super) const TOKENS_MAX: u64 = 4 << 20;
/// Bytes of one token's text. The longest real ones are runs of some hundred blanks.
pub(super) const TOKEN_BYTES_MAX: u64 = 65_535;
/// Characters of a name in an error: what one recognises it by. The longest keys of real models have some 60.
pub(super) const NAME_SHOWN_CHARS_MAX: usize = 80;
