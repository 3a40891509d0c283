//! For the bench only: a request's stages on the calling thread, without the queue between.

use std::sync::Arc;

use inference::{Annotations, Call, ChatRequest, Finish, Output, PipelineError, Prepared, Usage};

use crate::instance::Instance;
use crate::lane::Lane;
use crate::load::LoadedPlugin;
use crate::plugins::Plugins;

/// A request whose caller is its worker.
pub struct Probe(Lane);

impl Probe {
    /// Begins a request; `None` where there is no room for its instances.
    #[must_use]
    pub fn begin(plugins: &Plugins, call: Call) -> Option<Self> {
        let set = plugins.set();
        let room = set.sandbox.try_reserve_instances(u32::try_from(set.plugins.len()).ok()?)?;
        Some(Self(Lane::new(Arc::clone(set), call, Arc::default(), room)))
    }

    /// See [`inference::PipelineRun::prepare`].
    pub fn prepare(&mut self, request: ChatRequest) -> Result<Prepared, PipelineError> {
        self.0.prepare(request)
    }

    /// See [`inference::PipelineRun::push`].
    pub fn push(&mut self, text: String, last: bool) -> Result<Output, PipelineError> {
        self.0.push(text, &[], last)
    }

    /// See [`inference::PipelineRun::finish`].
    pub fn finish(mut self, finish: Finish, usage: Usage) -> Result<Annotations, PipelineError> {
        let notes = self.0.finish(finish, usage);
        self.0.close(finish, usage);
        notes
    }
}

/// Makes an instance of a plugin, initialises it and drops it. Says whether it could.
#[must_use]
pub fn instantiate(plugin: &LoadedPlugin) -> bool {
    Instance::start(&plugin.plugin, Arc::default(), None).is_ok()
}
