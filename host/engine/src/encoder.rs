//! The socket for a model that encodes: what the engine asks of it, batch by batch.

use inference::Token;

use crate::decoder::DecodeError;

/// Encodes inputs. It lives on the encode thread, where it was built, and is driven by nobody else.
///
/// The engine promises: a batch has 1 to [`EncoderShape::inputs_max`] inputs, each of 1 to
/// [`EncoderShape::context_length`] tokens, and together they have at most [`EncoderShape::rows_max`].
pub trait Encoder {
    /// Encodes a batch of whole inputs: by input, in order, its vector or its score. Nothing is remembered of it.
    ///
    /// `abort` is cheap and may be asked at any time on this thread; once it is true, the sooner this returns
    /// [`DecodeError::Aborted`] the better, but finishing is no fault.
    fn encode(&mut self, inputs: &[&[Token]], abort: &dyn Fn() -> bool) -> Result<Vec<Vec<f32>>, DecodeError>;
}

/// What an encoder has to hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EncoderShape {
    /// Tokens of an input.
    pub context_length: u32,
    /// Tokens of a batch.
    pub rows_max: usize,
    /// Inputs of a batch.
    pub inputs_max: usize,
}
