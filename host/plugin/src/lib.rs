//! Plugins: WebAssembly components, run in a wasmtime sandbox, that render prompts, judge requests and filter answers.
//!
//! A [`Sandbox`] loads components ([`Sandbox::load`]) and runs them on threads of its own. [`Plugins`] puts loaded ones
//! together and is the [`inference::Pipeline`] that the server uses. The contract with the guests is `wit/plugin.wit`.
//!
//! One request's way: `run` (asynchronous, waits) → `workers` (a queue and threads) → `lane` (the request's stages in
//! order) and `answer` (its text on the way out) → `instance` (one typed call under its budget) → the guest.
//! `load` is the way of a file to a plugin. Every limit is in `limits`.

mod answer;
mod bindings;
mod budget;
mod cache;
mod convert;
mod engine;
mod extra;
mod fault;
mod imports;
mod instance;
mod items;
mod lane;
mod limits;
mod load;
mod load_error;
mod outline;
mod plugins;
#[doc(hidden)]
pub mod probe;
mod run;
mod sandbox;
mod spec;
mod state;
mod text;
mod ticker;
mod tool_choice;
mod wasi;
mod window;
mod workers;

pub use instance::Identity;
pub use limits::Limits;
pub use load::{CodeOrigin, LoadedPlugin, PluginFacts};
pub use load_error::LoadError;
pub use plugins::{Plugins, SetError};
pub use sandbox::{Sandbox, SandboxError};
pub use spec::{ModelContext, Modify, OnFailure, PluginSpec, SandboxConfig, Wasi};
