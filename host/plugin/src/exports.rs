//! Where in a component the contract's interfaces are, and in an instance of it.

use inference::Stage;
use wasmtime::Store;
use wasmtime::component::{Instance, InstancePre};

use crate::bindings::exports::outrigger::plugin::{
    audit, lifecycle, parse, policy, postprocess, prompt, token_control,
};
use crate::state::GuestState;

/// Where in a component the contract's interfaces are; those that are not used are `None`.
pub(crate) struct StageIndices {
    lifecycle: lifecycle::GuestIndices,
    policy: Option<policy::GuestIndices>,
    prompt: Option<prompt::GuestIndices>,
    token_control: Option<token_control::GuestIndices>,
    parse: Option<parse::GuestIndices>,
    postprocess: Option<postprocess::GuestIndices>,
    audit: Option<audit::GuestIndices>,
}

impl StageIndices {
    /// Looks up the stages in use, and `lifecycle`.
    pub(crate) fn of(pre: &InstancePre<GuestState>, stages: &[(Stage, i32)]) -> wasmtime::Result<Self> {
        let uses = |stage| stages.iter().any(|&(used, _)| used == stage);
        Ok(Self {
            lifecycle: lifecycle::GuestIndices::new(pre)?,
            policy: uses(Stage::Policy).then(|| policy::GuestIndices::new(pre)).transpose()?,
            prompt: uses(Stage::Prompt).then(|| prompt::GuestIndices::new(pre)).transpose()?,
            token_control: uses(Stage::TokenControl).then(|| token_control::GuestIndices::new(pre)).transpose()?,
            parse: uses(Stage::Parse).then(|| parse::GuestIndices::new(pre)).transpose()?,
            postprocess: uses(Stage::Postprocess).then(|| postprocess::GuestIndices::new(pre)).transpose()?,
            audit: uses(Stage::Audit).then(|| audit::GuestIndices::new(pre)).transpose()?,
        })
    }

    /// Looks up the same in an instance, and `lifecycle`.
    pub(crate) fn load(
        &self,
        store: &mut Store<GuestState>,
        instance: &Instance,
    ) -> wasmtime::Result<(Exports, lifecycle::Guest)> {
        macro_rules! load {
            ($stage:ident) => {
                self.$stage.as_ref().map(|indices| indices.load(&mut *store, instance)).transpose()?
            };
        }
        let exports = Exports {
            policy: load!(policy),
            prompt: load!(prompt),
            token_control: load!(token_control),
            parse: load!(parse),
            postprocess: load!(postprocess),
            audit: load!(audit),
        };
        Ok((exports, self.lifecycle.load(store, instance)?))
    }
}

/// An instance's stages; those that are not used, and all of them before it is there, are `None`.
#[derive(Default)]
pub(crate) struct Exports {
    pub(crate) policy: Option<policy::Guest>,
    pub(crate) prompt: Option<prompt::Guest>,
    pub(crate) token_control: Option<token_control::Guest>,
    pub(crate) parse: Option<parse::Guest>,
    pub(crate) postprocess: Option<postprocess::Guest>,
    pub(crate) audit: Option<audit::Guest>,
}
