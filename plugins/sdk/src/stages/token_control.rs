//! `token-control`: a say in every token.

use std::cell::RefCell;

use crate::export::{Component, with_plugin};
use crate::types::Call;
use crate::{Plugin, Result, TokenMask};

/// Stage 3, one plugin, and only where the operator grants it (`token-control = true`): says of every token which may come.
///
/// What a grammar can say is better said by one ([`Rendered::grammar`](crate::Rendered), or the request's): it costs no call. A step runs
/// while the model computes, and the answer waits for it where the model is faster; no other answer does.
pub trait TokenControl: Plugin {
    /// What is remembered of one answer.
    type Controller: 'static;

    /// Begins an answer. `prompt` is what the model reads; tokens are numbers below `vocab_size`, and
    /// [`model::vocabulary`](crate::model::vocabulary) has their bytes.
    fn open(&mut self, call: &Call, choice: u32, prompt: Vec<u32>, vocab_size: u32) -> Result<Self::Controller>;

    /// Masks that `Constraint::Fixed` will name by their places: sent once, so a step need not.
    fn masks(&mut self, controller: &mut Self::Controller) -> Vec<TokenMask> {
        let _ = controller;
        Vec::new()
    }

    /// What may come after `appended`, which are the tokens since the last step: none in the first.
    fn step(&mut self, controller: &mut Self::Controller, appended: &[u32]) -> Result<Constraint>;
}

pub use bindings::exports::outrigger::plugin::token_control::{Bias, Constraint};

/// Generated; `export!` reaches it through [`crate::glue`].
#[expect(missing_docs, clippy::pedantic, reason = "generated code")]
pub mod bindings {
    wit_bindgen::generate!({
        path: "wit",
        inline: "
            package outrigger:sdk-token-control;
            world stage-token-control { export outrigger:plugin/token-control@0.1.0; }
        ",
        with: { "outrigger:plugin/types@0.1.0": crate::types },
        pub_export_macro: true,
        export_macro_name: "export_token_control",
        default_bindings_module: "outrigger_plugin::glue::token_control",
        runtime_path: "outrigger_plugin::glue::rt",
        additional_derives: [PartialEq],
    });
}

use bindings::exports::outrigger::plugin::token_control::{Controller as Handle, Guest, GuestController};

/// The resource behind the handle.
pub struct Open<P: TokenControl> {
    controller: RefCell<P::Controller>,
}

impl<C: Component<Plugin: TokenControl>> Guest for C {
    type Controller = Open<C::Plugin>;
}

impl<P: TokenControl> GuestController for Open<P> {
    fn open(call: Call, choice: u32, prompt: Vec<u32>, vocab_size: u32) -> Result<Handle> {
        let controller = with_plugin(|plugin: &mut P| plugin.open(&call, choice, prompt, vocab_size))?;
        Ok(Handle::new(Self { controller: RefCell::new(controller) }))
    }

    fn masks(&self) -> Vec<Vec<u32>> {
        let masks = with_plugin(|plugin: &mut P| Ok(plugin.masks(&mut self.controller.borrow_mut())));
        // There is an instance: it has opened this controller.
        masks.unwrap_or_default().into_iter().map(TokenMask::into_words).collect()
    }

    fn step(&self, appended: Vec<u32>) -> Result<Constraint> {
        with_plugin(|plugin: &mut P| plugin.step(&mut self.controller.borrow_mut(), &appended))
    }
}
