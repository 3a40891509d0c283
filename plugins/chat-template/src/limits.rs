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

/// Bytes that the beginning of a call may have, its name and what comes before its arguments. It is held back until it is known
/// to be one, and read anew with every piece: 32 KiB take some 50 µs.
pub(crate) const HEAD_BYTES_MAX: usize = 32 * 1024;

/// Bytes of an argument that is not written as JSON, and is held back until it is whole: a file of source code.
pub(crate) const PARAMETER_BYTES_MAX: usize = 256 * 1024;

/// Bytes of white space that may stand around a mark and belong to it.
pub(crate) const BLANK_BYTES_MAX: usize = 64;

/// Calls of one answer under a grammar. A model that must call could go on with it for ever.
pub(crate) const CALLS_MAX: usize = 32;

/// Subschemas that are looked at to know how an argument is spelled, each by a call inside the last one's. References multiply
/// them; a real parameter has a dozen.
pub(crate) const SCHEMA_PLACES_MAX: usize = 128;

/// References in a row on the way to a function's parameters.
pub(crate) const REFERENCES_MAX: usize = 8;

/// Bytes of a name in the beginning of a call, where nothing else says when it ends: OpenAI's clients allow 64.
pub(crate) const NAME_BYTES_MAX: usize = 256;
