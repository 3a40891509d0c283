//! `policy`: may the request go on, and as what?

use std::time::Duration;

use crate::export::{Component, with_plugin};
use crate::types::{Annotations, Call, Request};
use crate::{Plugin, Result};

/// Stage 1, a chain: sees a request before anything is computed for it.
pub trait Policy: Plugin {
    /// Accepts the request, puts another in its place, or rejects it.
    ///
    /// An `Err` is no rejection: [`Error::Invalid`](crate::types::Error::Invalid) tells the client what is wrong with
    /// the request, and the others are faults of the plugin, at which the operator's `on_failure` decides.
    fn inspect(&mut self, request: Request, call: &Call) -> Result<Decision>;
}

pub use bindings::exports::outrigger::plugin::policy::{Rejection, Verdict};

/// What a policy says of a request, with notes for the log and the reply.
#[derive(Debug, Clone, PartialEq)]
pub struct Decision {
    /// What becomes of the request.
    pub verdict: Verdict,
    /// Up to 16 names and values of 256 bytes.
    pub notes: Annotations,
}

impl Decision {
    /// The request goes on as it came: the cheap answer, nothing is copied back.
    #[must_use]
    pub fn accept() -> Self {
        Verdict::Accept.into()
    }

    /// This request goes on instead. Only what the operator granted by `modify` may differ.
    #[must_use]
    pub fn replace(request: Request) -> Self {
        Verdict::Replace(request).into()
    }

    /// The request ends here: a status from 400 to 499, a code for programs, a message for people.
    #[must_use]
    pub fn reject(status: u16, code: impl Into<String>, message: impl Into<String>) -> Self {
        let rejection = Rejection { status, code: code.into(), message: message.into(), retry_after_ms: None };
        Verdict::Reject(rejection).into()
    }

    /// Tells a rejected client when to come again.
    #[must_use]
    pub fn retry_after(mut self, pause: Duration) -> Self {
        if let Verdict::Reject(rejection) = &mut self.verdict {
            rejection.retry_after_ms = Some(u32::try_from(pause.as_millis()).unwrap_or(u32::MAX));
        }
        self
    }

    /// Leaves a note.
    #[must_use]
    pub fn note(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.notes.push((name.into(), value.into()));
        self
    }
}

impl From<Verdict> for Decision {
    fn from(verdict: Verdict) -> Self {
        Self { verdict, notes: Annotations::new() }
    }
}

/// Generated; `export!` reaches it through [`crate::glue`].
#[expect(missing_docs, clippy::pedantic, reason = "generated code")]
pub mod bindings {
    wit_bindgen::generate!({
        path: "wit",
        inline: "
            package outrigger:sdk-policy;
            world stage-policy { export outrigger:plugin/policy@0.1.0; }
        ",
        with: { "outrigger:plugin/types@0.1.0": crate::types },
        pub_export_macro: true,
        export_macro_name: "export_policy",
        default_bindings_module: "outrigger_plugin::glue::policy",
        runtime_path: "outrigger_plugin::glue::rt",
        additional_derives: [PartialEq],
    });
}

impl<C: Component<Plugin: Policy>> bindings::exports::outrigger::plugin::policy::Guest for C {
    fn inspect(request: Request, call: Call) -> Result<(Verdict, Annotations)> {
        let decision = with_plugin(|plugin: &mut C::Plugin| plugin.inspect(request, &call))?;
        Ok((decision.verdict, decision.notes))
    }
}
