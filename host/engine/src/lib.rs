//! The scheduler and the one decode thread.
//!
//! [`start`] builds a [`Decoder`] on a thread of its own and drives it there. A request's way: [`EngineHandle`] checks
//! it and puts it into a bounded queue → the `DecodeLoop` gives it a slot → the `Scheduler` plans its rows, step by
//! step, beside those of other sequences → sampled tokens become text in its `Sequence` (`Detokenizer`,
//! `StopMatcher`) → events go into a bounded channel. A client that reads slowly pauses its own sequence and nobody
//! else's; a client that leaves drops the receiving end, and the slot is free at the next step.
//!
//! A sequence may be controlled token by token from outside (`Control`): asked while the decoder computes, and left out, its
//! logits put aside, as long as it has no answer.
//!
//! A model that encodes is driven beside that by [`start_encoding`]: a queue, a thread and a pure plan (`Packer`) of its own
//! over an [`Encoder`], as whole inputs in batches have neither slots nor steps.

mod attribution;
mod control;
mod decode_loop;
mod decoder;
mod detokenizer;
mod draft;
mod encode_loop;
mod encoder;
mod encoding;
mod handle;
pub mod limits;
mod pace;
mod packer;
mod prefix;
mod pulse;
mod scheduler;
mod sequence;
mod stop;
mod thread;

#[cfg(test)]
mod encode_simulation;
#[cfg(test)]
mod fake;
#[cfg(test)]
mod fake_control;
#[cfg(test)]
mod random;
#[cfg(test)]
mod simulation;

pub use decoder::{Choice, DecodeError, Decoder, DecoderShape, Logits, RawLogprobs, Row, Sampled, Slot};
pub use encoder::{Encoder, EncoderShape};
pub use encoding::{EncodingConfig, EncodingHandle, start_encoding};
pub use handle::{Config, EngineHandle, start};
pub use thread::StartError;
