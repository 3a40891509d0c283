//! `prompt`: a conversation becomes what the model reads.

use crate::export::{Component, with_plugin};
use crate::types::{Call, Message};
use crate::{Plugin, Result};

/// Stage 2, one plugin: renders the prompt.
pub trait Prompt: Plugin {
    /// The prompt in segments. Only [`Segment::Template`] text can become control tokens: text of users and tools
    /// belongs into [`Segment::Content`].
    fn render(&mut self, messages: Vec<Message>, options: Options, call: &Call) -> Result<Rendered>;
}

pub use bindings::exports::outrigger::plugin::prompt::{Options, Rendered, Segment, ToolChoice};

/// Generated; `export!` reaches it through [`crate::glue`].
#[expect(missing_docs, clippy::pedantic, reason = "generated code")]
pub mod bindings {
    wit_bindgen::generate!({
        path: "wit",
        inline: "
            package outrigger:sdk-prompt;
            world stage-prompt { export outrigger:plugin/prompt@0.1.0; }
        ",
        with: { "outrigger:plugin/types@0.1.0": crate::types },
        pub_export_macro: true,
        export_macro_name: "export_prompt",
        default_bindings_module: "outrigger_plugin::glue::prompt",
        runtime_path: "outrigger_plugin::glue::rt",
        additional_derives: [PartialEq],
    });
}

impl<C: Component<Plugin: Prompt>> bindings::exports::outrigger::plugin::prompt::Guest for C {
    fn render(messages: Vec<Message>, options: Options, call: Call) -> Result<Rendered> {
        with_plugin(|plugin: &mut C::Plugin| plugin.render(messages, options, &call))
    }
}
