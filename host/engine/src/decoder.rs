//! The socket for a model: what the engine asks of it, row by row.

use inference::{Sampling, Token};

/// Computes tokens. It lives on the decode thread, where it was built, and is driven by nobody else.
///
/// The engine promises: a row belongs to a slot that has begun and has not been cleared; the positions of a slot count
/// up from 0 without a gap; a batch holds at most [`DecoderShape::rows_max`] rows; a slot wants logits at most once in
/// a batch.
pub trait Decoder {
    /// Starts a new, empty sequence in `slot`, with a sampler of its own.
    fn begin(&mut self, slot: Slot, sampling: &Sampling);

    /// Computes a batch. On [`DecodeError::Aborted`] every slot holds what it held before the call.
    ///
    /// `abort` is cheap and may be asked at any time on this thread; once it is true, the sooner this returns the
    /// better, but finishing is no fault.
    fn decode(&mut self, rows: &[Row], abort: &dyn Fn() -> bool) -> Result<(), DecodeError>;

    /// Chooses the token that follows row number `row` of the last batch, which belongs to `slot` and wanted logits,
    /// and tells the slot's sampler of it.
    fn sample(&mut self, slot: Slot, row: usize) -> Token;

    /// Forgets the sequence in `slot`.
    fn clear(&mut self, slot: Slot);
}

/// What a decoder has to hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DecoderShape {
    /// Sequences side by side.
    pub slots: usize,
    /// Tokens of each.
    pub context_length: u32,
    /// Rows of a batch.
    pub rows_max: usize,
}

/// The place of a sequence in the decoder, counted from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Slot(pub usize);

/// One token to compute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row {
    /// The sequence it belongs to.
    pub slot: Slot,
    /// The token.
    pub token: Token,
    /// Its place in the sequence, from 0.
    pub position: u32,
    /// Whether the token after it will be sampled.
    pub wants_logits: bool,
}

/// Why a batch was not computed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// `abort` became true.
    #[error("the step was aborted")]
    Aborted,
    /// The model failed; the sequences of the batch cannot go on.
    #[error("{0}")]
    Failed(String),
}
