//! `parse`: what the model's raw text means.

use std::cell::RefCell;

use crate::export::{Component, with_plugin};
use crate::types::{Call, Tool};
use crate::{Plugin, Result};

/// Stage 4, one plugin, normally the one that renders the prompt: tells thoughts and tool calls from the answer.
pub trait Parse: Plugin {
    /// What is remembered of one answer.
    type Parser: 'static;

    /// Begins an answer. `prefix` is what the prompt says that it starts with already.
    fn open(&mut self, call: &Call, choice: u32, tools: Vec<Tool>, prefix: String) -> Result<Self::Parser>;

    /// More of the model's text, in whole characters. With `last` nothing more comes, and nothing may be kept back.
    fn parse(&mut self, parser: &mut Self::Parser, text: String, last: bool) -> Result<Vec<Event>>;
}

pub use bindings::exports::outrigger::plugin::parse::Event;

/// Generated; `export!` reaches it through [`crate::glue`].
#[expect(missing_docs, clippy::pedantic, reason = "generated code")]
pub mod bindings {
    wit_bindgen::generate!({
        path: "wit",
        inline: "
            package outrigger:sdk-parse;
            world stage-parse { export outrigger:plugin/parse@0.1.0; }
        ",
        with: { "outrigger:plugin/types@0.1.0": crate::types },
        pub_export_macro: true,
        export_macro_name: "export_parse",
        default_bindings_module: "outrigger_plugin::glue::parse",
        runtime_path: "outrigger_plugin::glue::rt",
        additional_derives: [PartialEq],
    });
}

use bindings::exports::outrigger::plugin::parse::{Guest, GuestParser, Parser as Handle};

/// The resource behind the handle.
pub struct Open<P: Parse> {
    parser: RefCell<P::Parser>,
}

impl<C: Component<Plugin: Parse>> Guest for C {
    type Parser = Open<C::Plugin>;
}

impl<P: Parse> GuestParser for Open<P> {
    fn open(call: Call, choice: u32, tools: Vec<Tool>, prefix: String) -> Result<Handle> {
        let parser = with_plugin(|plugin: &mut P| plugin.open(&call, choice, tools, prefix))?;
        Ok(Handle::new(Self { parser: RefCell::new(parser) }))
    }

    fn push(&self, text: String, last: bool) -> Result<Vec<Event>> {
        with_plugin(|plugin: &mut P| plugin.parse(&mut self.parser.borrow_mut(), text, last))
    }
}
