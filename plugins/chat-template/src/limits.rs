//! What a template may use up. The host bounds time and memory of the whole instance besides; these come first
//! because they end in an error that says what happened.

/// Instructions of one rendering. A long conversation with tools takes tens of thousands.
pub(crate) const RENDER_INSTRUCTIONS_MAX: u64 = 2_000_000;

/// Nested macro calls and blocks. Real templates nest three deep; the host grants 256 KiB of stack.
pub(crate) const RENDER_DEPTH_MAX: usize = 50;

/// Bytes of a message from `raise_exception`: the contract's cap for texts that a client sees.
pub(crate) const MESSAGE_BYTES_MAX: usize = 1024;

/// Nesting of JSON that a client sent: schemas and arguments. `serde_json` refuses at the same depth when it reads
/// text.
pub(crate) const JSON_DEPTH_MAX: usize = 128;
