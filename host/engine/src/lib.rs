//! The scheduler and the one decode thread.
//!
//! [`start`] builds a [`Decoder`] on a thread of its own and drives it there. A request's way: [`EngineHandle`] checks
//! it and puts it into a bounded queue → the `DecodeLoop` gives it a slot → the `Scheduler` plans its rows, step by
//! step, beside those of other sequences → sampled tokens become text in its `Sequence` (`Detokenizer`,
//! `StopMatcher`) → events go into a bounded channel. A client that reads slowly pauses its own sequence and nobody
//! else's; a client that leaves drops the receiving end, and the slot is free at the next step.

mod attribution;
mod decode_loop;
mod decoder;
mod detokenizer;
mod draft;
mod handle;
pub mod limits;
mod pace;
mod prefix;
mod scheduler;
mod sequence;
mod stop;

#[cfg(test)]
mod fake;
#[cfg(test)]
mod simulation;

pub use decoder::{Choice, DecodeError, Decoder, DecoderShape, RawLogprobs, Row, Sampled, Slot};
pub use handle::{Config, EngineHandle, StartError, start};
