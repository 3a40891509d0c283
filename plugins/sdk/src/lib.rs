//! What a plugin in Rust needs beside its own idea.
//!
//! - [`types`] and the host's interfaces ([`model`], [`log`], [`clock`]), generated from `wit/plugin.wit`;
//! - [`start`], the first line of every `lifecycle.init`: reports panics to the host and reads the configuration;
//! - [`MatchWindow`], for filters: finds literal texts in a stream and holds back no more than it must.
//!
//! A plugin generates its own exports with `wit_bindgen::generate!` and maps the shared interfaces to this crate
//! (`plugins/redact/src/component.rs` is the example to copy). It keeps that glue in one module compiled for Wasm
//! only; everything else is plain Rust that `cargo test` runs natively.

mod bindings;
mod start;
mod window;

pub use bindings::outrigger::plugin::{clock, config, log, model, types};
pub use start::{parse_config, start};
pub use window::{Found, MatchWindow};
