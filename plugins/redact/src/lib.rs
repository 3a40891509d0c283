//! Masks what identifies or unlocks: e-mail addresses, telephone and card numbers, IBANs, keys, and shapes of the
//! operator's own; in answers, and in requests if configured.
//!
//! A finder looks at one place of the text and says "no", "this long" or "more text decides" (`place.rs`). Text is
//! held back at the first place where more text decides, and nowhere else; so what is masked depends on the text
//! alone, never on how it was cut into pieces.

mod config;
mod email;
mod iban;
mod keys;
mod limits;
mod numbers;
mod place;
mod plugin;
mod redactor;
mod shape;
mod stream;
mod tail;

pub use config::{ChannelName, Config, Kind, ShapeConfig};
pub use limits::HOLDBACK_BYTES_MAX;
pub use plugin::Redact;
pub use redactor::Redactor;
pub use stream::{Pushed, Stream};
