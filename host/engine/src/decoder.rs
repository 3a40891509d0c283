//! The socket for a model: what the engine asks of it, row by row.

use inference::{EngineFault, Sampling, Token, TokenMask};

/// Computes tokens. It lives on the decode thread, where it was built, and is driven by nobody else.
///
/// A slot remembers the tokens that were computed in it until they are forgotten, whether or not a sequence is under way
/// in it. The engine promises: a row belongs to a slot that has begun and has not ended; the rows of a slot stand together
/// and their positions count up from what it remembers without a gap; a batch holds at most [`DecoderShape::rows_max`]
/// rows; the rows that want logits are the last ones of their slot, at most [`DecoderShape::samples_max`] in a batch.
pub trait Decoder {
    /// Starts a sequence in `slot`, with a sampler of its own, on the first `keep` tokens that the slot remembers; it
    /// forgets the others. Returns how many are kept: `keep`, or 0 where this model cannot go back to that place.
    fn begin(&mut self, slot: Slot, keep: u32, sampling: &Sampling) -> u32;

    /// Computes a batch. On [`DecodeError::Aborted`] every slot remembers what it remembered before the call.
    ///
    /// `abort` is cheap and may be asked at any time on this thread; once it is true, the sooner this returns the
    /// better, but finishing is no fault.
    fn decode(&mut self, rows: &[Row], abort: &dyn Fn() -> bool) -> Result<(), DecodeError>;

    /// Chooses the token that follows a row of `slot` which wanted logits, and tells the slot's sampler of it. Where no
    /// token may be chosen the sequence cannot go on; a token that is not allowed is never returned.
    fn sample(&mut self, slot: Slot, logits: Logits, choice: &Choice<'_>) -> Result<Sampled, EngineFault>;

    /// Puts the logits of row number `row` of the last batch, which belongs to `slot`, aside: they are the slot's
    /// [`Logits::Parked`] from now on, whatever is computed meanwhile.
    fn park(&mut self, slot: Slot, row: usize);

    /// Tells the slot's sampler of a token that nobody chose.
    fn accept(&mut self, slot: Slot, token: Token);

    /// Whether [`Decoder::forget_from`] is possible.
    fn can_forget(&self) -> bool;

    /// Forgets the last tokens of `slot`, those at `position` and behind it.
    fn forget_from(&mut self, slot: Slot, position: u32);

    /// Ends the sequence in `slot`. What was computed stays remembered.
    fn end(&mut self, slot: Slot);

    /// Forgets all that `slot` remembers.
    fn forget(&mut self, slot: Slot);

    /// Bytes that [`Decoder::save`] would take now.
    fn saved_bytes(&mut self, slot: Slot) -> usize;

    /// A copy of what `slot` remembers; `None` where this model's memory cannot be copied.
    fn save(&mut self, slot: Slot) -> Option<Vec<u8>>;

    /// Lets `slot`, in which no sequence is under way, remember what was saved, and nothing else. `false` where that did
    /// not work: then it remembers nothing.
    fn restore(&mut self, slot: Slot, saved: &[u8]) -> bool;
}

/// Where the logits of a choice are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Logits {
    /// In the last batch, of the row with this number.
    Row(usize),
    /// Where [`Decoder::park`] put them.
    Parked,
}

/// What bounds a choice, and what is asked about it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Choice<'a> {
    /// The tokens to choose from; `None`: all.
    pub allowed: Option<&'a TokenMask>,
    /// What is added to the logits of these tokens, for this choice. -100..=100; -100 bans a token.
    pub biases: &'a [(Token, f32)],
    /// Tell how likely the token was, and so many others.
    pub logprobs: Option<u32>,
}

/// A choice.
#[derive(Debug, Clone, PartialEq)]
pub struct Sampled {
    /// The token.
    pub token: Token,
    /// How likely it was, where that was asked.
    pub logprobs: Option<RawLogprobs>,
}

/// Natural logarithms of probabilities, as the model gave them before anything changed them.
#[derive(Debug, Clone, PartialEq)]
pub struct RawLogprobs {
    /// Of the chosen token.
    pub sampled: f32,
    /// The likeliest tokens, likeliest first.
    pub top: Vec<(Token, f32)>,
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
    /// Rows of a batch that want logits.
    pub samples_max: usize,
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
