//! `lifecycle`: exported by every plugin, and written by nobody but `export!`.

use crate::Result;
use crate::export::{Component, make};

/// Generated; `export!` reaches it through [`crate::glue`].
#[expect(missing_docs, reason = "generated code")]
pub mod bindings {
    wit_bindgen::generate!({
        path: "wit",
        inline: "
            package outrigger:sdk-lifecycle;
            world stage-lifecycle { export outrigger:plugin/lifecycle@0.1.0; }
        ",
        with: { "outrigger:plugin/types@0.1.0": crate::types },
        pub_export_macro: true,
        export_macro_name: "export_lifecycle",
        default_bindings_module: "outrigger_plugin::glue::lifecycle",
        runtime_path: "outrigger_plugin::glue::rt",
        additional_derives: [PartialEq],
    });
}

use bindings::exports::outrigger::plugin::lifecycle::{Guest, Identity};

impl<C: Component> Guest for C {
    fn init() -> Result<Identity> {
        make::<C>()?;
        Ok(Identity { name: C::NAME.to_owned(), version: C::VERSION.to_owned() })
    }
}
