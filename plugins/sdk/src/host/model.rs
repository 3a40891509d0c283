//! The model behind the request.

#[cfg(target_arch = "wasm32")]
use crate::bindings::outrigger::plugin::model as host;
#[cfg(not(target_arch = "wasm32"))]
use crate::testing::double as host;

pub use crate::bindings::outrigger::plugin::model::{Info, Span, TokenTable};

/// What it is.
#[must_use]
pub fn describe() -> Info {
    host::describe()
}

/// Its own Jinja chat template. The host never renders it: it came with the weights, and is no more trusted than a
/// plugin.
#[must_use]
pub fn chat_template() -> Option<String> {
    host::chat_template()
}

/// The tokens of a text. `special`: control tokens that it spells are recognised.
#[must_use]
pub fn tokenize(text: &str, special: bool) -> Vec<u32> {
    host::tokenize(text, special)
}

/// How many tokens a text has.
#[must_use]
pub fn count_tokens(text: &str) -> u32 {
    host::count_tokens(text)
}

/// Where a text spells control tokens: in order, not overlapping, the longest of several that start together.
#[must_use]
pub fn control_tokens(text: &str) -> Vec<Span> {
    host::control_tokens(text)
}

/// The bytes of all tokens: megabytes, so only what needs it asks for it.
#[must_use]
pub fn vocabulary() -> TokenTable {
    host::vocabulary()
}
