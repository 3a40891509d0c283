#![doc = include_str!("../README.md")]

// What `export!` and the generated code call this crate, here as in a plugin.
extern crate self as outrigger_plugin;

mod bindings;
mod chunk;
mod context;
mod error;
mod export;
mod host;
mod mask;
mod plugin;
mod stages;
#[cfg(not(target_arch = "wasm32"))]
pub mod testing;
mod window;

pub use bindings::outrigger::plugin::types;
pub use chunk::{Chunk, PerChannel};
pub use context::Context;
pub use error::Result;
pub use host::{clock, config, kv, log, metrics, model};
pub use mask::TokenMask;
pub use plugin::Plugin;
pub use stages::audit::Audit;
pub use stages::parse::{Event, Parse};
pub use stages::policy::{Decision, Policy, Rejection, Verdict};
pub use stages::postprocess::{Channel, Output, Postprocess, Profile, Token};
pub use stages::prompt::{Options, Prompt, Rendered, Segment, ToolChoice};
pub use stages::token_control::{Bias, Constraint, TokenControl};
#[cfg(feature = "regex")]
pub use window::RegexWindow;
pub use window::{Found, MatchWindow, lower_case};

/// What most plugins name.
pub mod prelude {
    #[cfg(feature = "regex")]
    pub use crate::RegexWindow;
    pub use crate::types::{Annotations, Call, Error, Finish, Grammar, Message, Part, Request, Role, Usage};
    pub use crate::{
        Audit, Bias, Channel, Chunk, Constraint, Context, Decision, Event, Found, MatchWindow, Options, Output, Parse,
        PerChannel, Plugin, Policy, Postprocess, Profile, Prompt, Rendered, Result, Segment, TokenControl, TokenMask,
        clock, kv, log, metrics, model,
    };
}

/// What `export!` expands to; no part of the interface.
#[doc(hidden)]
pub mod glue {
    pub use wit_bindgen::rt;

    pub use crate::export::Component;
    pub use crate::stages::audit::bindings as audit;
    pub use crate::stages::lifecycle::bindings as lifecycle;
    pub use crate::stages::parse::bindings as parse;
    pub use crate::stages::policy::bindings as policy;
    pub use crate::stages::postprocess::bindings as postprocess;
    pub use crate::stages::prompt::bindings as prompt;
    pub use crate::stages::token_control::bindings as token_control;
}
