//! What this plugin reads at most.

/// Bytes of an answer that is checked against a schema; a longer one counts as not valid. Read as JSON it takes several
/// times that, of the 32 MiB that a plugin has.
pub(crate) const ANSWER_BYTES_MAX: usize = 1 << 20;

/// Arrays and objects inside each other, in answers. `serde_json` reads no deeper ones.
pub(crate) const DEPTH_MAX: usize = 127;

/// Schemas inside each other on the way to a value, references included: more is a reference to itself.
pub(crate) const SCHEMA_DEPTH_MAX: usize = 256;

/// Steps of the check, a subschema or a value of an enumeration at a place of the answer each: so many, and one for every two
/// bytes, more than an answer has values. Alternatives that refer to themselves would double them with every level.
pub(crate) const CHECK_STEPS_MIN: usize = 10_000;

/// Bytes of what is wrong with an answer, in notes and errors. The host cuts notes at 256.
pub(crate) const REASON_BYTES_MAX: usize = 256;
