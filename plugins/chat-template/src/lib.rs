//! Renders a conversation with the model's own Jinja chat template, and reads the reasoning out of its answer.
//!
//! The template came with the weights and is no more trusted than a plugin: it runs in this sandbox, on a budget. What
//! it renders is what Hugging Face's `apply_chat_template` would; what a client wrote never becomes a control token
//! (`guard.rs`).

#[cfg(target_arch = "wasm32")]
mod component;
mod config;
mod conversation;
mod guard;
mod jinja;
mod json;
mod limits;
mod parse;
mod render;
mod strftime;

pub use config::{Config, Fallback};
pub use conversation::Conversation;
pub use guard::Segment;
pub use parse::{Event, Parser};
pub use render::{ModelFacts, Rendered, Template, render};
