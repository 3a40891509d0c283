//! Every limit on a GGUF header, with its reason. A header beyond them is refused before memory is taken for it.

/// Metadata keys. Real models have some 30 to 60.
pub(super) const METADATA_COUNT_MAX: u64 = 65_536;
/// Tensors. The largest mixture-of-experts files have a few thousand.
pub(super) const TENSOR_COUNT_MAX: u64 = 65_536;
/// Bytes of a key or tensor name: the specification's own limit for keys.
pub(super) const NAME_BYTES_MAX: u64 = 65_535;
/// Bytes of one string value. Chat templates are the longest and stay below 100 KiB.
pub(super) const STRING_BYTES_MAX: u64 = 16 << 20;
/// Elements of an array. Vocabularies are the longest: 262,144 tokens, and their merges some millions.
pub(super) const ARRAY_LENGTH_MAX: u64 = 16 << 20;
/// Bytes of all metadata together: what a vocabulary of a million long tokens would take, several times over.
pub(super) const METADATA_BYTES_MAX: u64 = 256 << 20;
/// Dimensions of a tensor: `GGML_MAX_DIMS`.
pub(super) const DIMENSIONS_MAX: u32 = 4;
/// Bytes between tensors' boundaries. Files use 32; llama.cpp wants a power of two.
pub(super) const ALIGNMENT_MAX: u64 = 65_536;
