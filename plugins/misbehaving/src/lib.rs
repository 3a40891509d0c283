//! A guest that breaks its contract in every way it is told to, for the tests of `host/plugin`.
//!
//! Its configuration says how: `{"behaviour": "loop-in-policy"}`. Without a behaviour it is a plain plugin: accepts,
//! renders, parses and passes text on. [`act`] has what works in any stage, the stages have what only they can do.
#![cfg(target_arch = "wasm32")]

mod act;
mod answer;
mod bindings;
mod control;
mod puppet;
mod request;
mod script;

use crate::act::{Where, act, config};
use crate::bindings::exports::outrigger::plugin::{audit, lifecycle};
use crate::bindings::outrigger::plugin::log;
use crate::bindings::outrigger::plugin::types::{Annotations, Call, Error, Finish, Usage};

pub(crate) struct Misbehaving;

impl lifecycle::Guest for Misbehaving {
    fn init() -> Result<lifecycle::Identity, Error> {
        act(Where::Init)?;
        Ok(lifecycle::Identity { name: "misbehaving".to_owned(), version: env!("CARGO_PKG_VERSION").to_owned() })
    }
}

impl audit::Guest for Misbehaving {
    fn completed(call: Call, end: Finish, usage: Usage, notes: Annotations) {
        // An error cannot be said here; loops and panics can.
        drop(act(Where::Audit));
        if config("log-audit").is_some() {
            let end = format!("{end:?} after {} tokens, {} notes", usage.completion_tokens, notes.len());
            log::log(log::Level::Info, "audit", &[("request".to_owned(), call.request_id), ("end".to_owned(), end)]);
        }
    }
}
