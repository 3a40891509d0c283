//! How much this plugin takes and holds back.

/// Phrases; each is compared at every place that begins like it.
pub(crate) const PHRASES_MAX: usize = 256;

/// Bytes of a phrase. What may become one is held back, and the host lets a plugin hold back 4 KiB.
pub(crate) const PHRASE_BYTES_MAX: usize = 1024;

/// Most bytes of a window that a phrase may take: a letter of another case may have three bytes where the phrase has
/// one (the Kelvin sign for `k`).
pub(crate) const HOLDBACK_BYTES_MAX: u32 = 3 * 1024;
