//! `audit`: after the reply.

use crate::export::{Component, with_plugin};
use crate::types::{Annotations, Call, Finish, Usage};
use crate::{Plugin, Result};

/// Stage 6: told of every request when it has ended, also of those that were rejected or given up.
pub trait Audit: Plugin {
    /// Nothing can be changed any more.
    fn completed(&mut self, call: &Call, end: Finish, usage: Usage, notes: &[(String, String)]);
}

/// Generated; `export!` reaches it through [`crate::glue`].
#[expect(missing_docs, clippy::pedantic, reason = "generated code")]
pub mod bindings {
    wit_bindgen::generate!({
        path: "wit",
        inline: "
            package outrigger:sdk-audit;
            world stage-audit { export outrigger:plugin/audit@0.1.0; }
        ",
        with: { "outrigger:plugin/types@0.1.0": crate::types },
        pub_export_macro: true,
        export_macro_name: "export_audit",
        default_bindings_module: "outrigger_plugin::glue::audit",
        runtime_path: "outrigger_plugin::glue::rt",
        additional_derives: [PartialEq],
    });
}

impl<C: Component<Plugin: Audit>> bindings::exports::outrigger::plugin::audit::Guest for C {
    fn completed(call: Call, end: Finish, usage: Usage, notes: Annotations) {
        // There is nobody to tell that `init` was not called.
        let told: Result<()> = with_plugin(|plugin: &mut C::Plugin| {
            plugin.completed(&call, end, usage, &notes);
            Ok(())
        });
        drop(told);
    }
}
