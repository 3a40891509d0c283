//! Plugins: WebAssembly components, run in a wasmtime sandbox, that render prompts, judge requests and filter answers.
//!
//! A [`Sandbox`] loads components ([`Sandbox::load`]) and runs them on threads of its own. [`Plugins`] puts loaded ones
//! together and is the [`inference::Pipeline`] that the server uses. The contract with the guests is `wit/plugin.wit`.
//!
//! One request's way: `run` (asynchronous, waits) → `strand` (one thing at a time) → `workers` (a queue and threads) → `lane` (the
//! request's stages in order), `answer`, `parsing` and `filter` (one answer's text on the way out) and `control` (its tokens, while they
//! are chosen) → `guests` (the request's instances), `calls` and `instance` (one typed call under its budget) → the guest.
//! `package`, `manifest`, `grants`, `load` and `report` are the way of a file to a plugin, and what is said of it. Every limit is
//! in `limits`.

mod answer;
mod background;
mod bindings;
mod breaker;
mod budget;
mod cache;
mod calls;
mod closed;
mod config_json;
mod control;
mod convert;
mod engine;
mod exports;
mod extra;
mod fault;
mod filter;
mod grants;
mod guests;
mod imports;
mod inspect;
mod instance;
mod instruments;
mod items;
mod kv;
mod lane;
mod limits;
mod load;
mod load_error;
mod manifest;
mod outline;
mod package;
mod parsing;
mod plugins;
pub mod probe;
mod report;
mod reuse;
mod run;
mod sandbox;
mod shared;
mod spec;
mod state;
mod status;
mod strand;
mod sweeper;
mod tally;
mod text;
mod ticker;
mod tool_choice;
mod wasi;
mod window;
mod workers;

pub use breaker::{BreakerConfig, BreakerStatus};
pub use config_json::{NotJson, config_json};
pub use extra::of as extra_members;
pub use grants::{Grant, GrantState, grant_what_is_asked, toml_to_write};
pub use instance::Identity;
pub use kv::KvGrant;
pub use limits::{LimitKey, Limits};
pub use load::LoadedPlugin;
pub use load_error::{LoadError, Objections};
pub use manifest::{
    About, Asks, Build, KvAsk, LimitAsk, Manifest, ManifestError, MetricAsk, MetricKind, NamedAsk, Need, WasiAsk,
    is_plugin_name,
};
pub use outline::Interfaces;
pub use package::{FileStamp, Package, PackageError};
pub use plugins::{Plugins, SetError};
pub use report::{CodeOrigin, LimitValue, LoadReport, ManifestFacts, StageUse, Trial};
pub use reuse::Reuse;
pub use sandbox::{Room, Sandbox, SandboxError};
pub use spec::{ModelContext, Modify, OnFailure, PluginSpec, SandboxConfig, Wasi};
pub use status::{FaultStatus, PluginStatus};
pub use telemetry::{InstrumentKind, InstrumentSpec};
