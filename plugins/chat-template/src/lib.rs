//! Renders a conversation with the model's own Jinja chat template, and reads thoughts and calls out of its answer.
//!
//! The template came with the weights and is no more trusted than a plugin: it runs in this sandbox, on a budget. What
//! it renders is what Hugging Face's `apply_chat_template` would; what a client wrote never becomes a control token
//! (`guard.rs`). The form of the model's calls is known by the marks that the template spells (`format.rs`); what an answer
//! has of them is found piece by piece (`calls`), and an answer that must call is held to it (`grammar.rs`).

mod argument;
mod calls;
mod component;
mod config;
mod conversation;
mod cursor;
mod event;
mod format;
mod generic;
mod grammar;
mod guard;
mod harmony;
mod jinja;
mod json;
mod limits;
mod parse;
mod reasoning;
mod render;
mod scan;
mod strftime;

pub use component::ChatTemplate;
pub use config::{Config, Fallback, ReasoningMarks, ToolFormat, ToolPrompt};
pub use conversation::{Choice, Conversation};
pub use event::Event;
pub use format::Format;
pub use guard::Segment;
pub use parse::{Parser, Reading};
pub use render::{ModelFacts, Rendered, Template, Vocabulary, render};
