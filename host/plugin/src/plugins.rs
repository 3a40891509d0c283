//! The configured plugins as one pipeline.

use std::sync::Arc;

use inference::{Call, Pipeline, PipelineRun, Stage};
use telemetry::{BreakerState, PluginMeter, PluginMetrics};

use crate::load::{LoadedPlugin, Plugin};
use crate::report::LoadReport;
use crate::reuse::Pool;
use crate::run::Run;
use crate::sandbox::{Inner, Sandbox};

/// A set of plugins that work together. Replace the value to reload: a run keeps the set that it began with.
pub struct Plugins {
    set: Arc<PluginSet>,
}

/// The plugins, and who does what in which order; numbers are places in `plugins`.
pub(crate) struct PluginSet {
    pub(crate) plugins: Vec<Arc<Plugin>>,
    /// What loading each of them found out.
    pub(crate) reports: Vec<Arc<LoadReport>>,
    pub(crate) policies: Vec<usize>,
    pub(crate) prompt: usize,
    pub(crate) controller: Option<usize>,
    pub(crate) parse: Option<usize>,
    pub(crate) filters: Vec<usize>,
    pub(crate) audits: Vec<usize>,
    pub(crate) metrics: PluginMetrics,
    /// Which set it is, for `metrics`.
    number: u64,
    /// One per plugin.
    pub(crate) meters: Vec<Arc<PluginMeter>>,
    /// One per plugin. They are the set's: instances that wait end with it.
    pub(crate) pools: Vec<Arc<Pool>>,
    pub(crate) sandbox: Arc<Inner>,
}

/// Why loaded plugins cannot work together.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SetError {
    /// Nobody renders prompts.
    #[error("no plugin has the stage `prompt`, so nothing can render a conversation; add the bundled `chat-template`")]
    NoPrompt,
    /// More than one for a stage that takes one.
    #[error(
        "the plugins {plugins} all have the stage `{stage}`, and there can be one; name the stages of the others in their \
         [[plugin]] sections, without `{stage}`"
    )]
    Several {
        /// The stage.
        stage: Stage,
        /// Their names.
        plugins: String,
    },
    /// Two of a name.
    #[error("two plugins are called `{name}`; logs and metrics could not tell them apart, rename one")]
    SameName {
        /// The name.
        name: String,
    },
    /// A family of metrics has one kind.
    #[error(
        "the plugins `{one}` and `{other}` both have an instrument `{instrument}`, one a counter and one a histogram; \
         only one of them can be granted it"
    )]
    Instrument {
        /// Its name.
        instrument: String,
        /// The one.
        one: String,
        /// The other.
        other: String,
    },
    /// A request would wait for ever.
    #[error(
        "there are {plugins} plugins and room for {instances} instances, and a request needs one of each; raise the \
         number of instances"
    )]
    NoRoom {
        /// How many plugins.
        plugins: usize,
        /// How many instances.
        instances: u32,
    },
}

impl Plugins {
    /// Puts loaded plugins together. Chains run by the configured order, and plugins of the same order as they stand
    /// in `plugins`.
    pub fn new(sandbox: &Sandbox, plugins: Vec<LoadedPlugin>, metrics: PluginMetrics) -> Result<Self, SetError> {
        let (plugins, reports): (Vec<Arc<Plugin>>, Vec<Arc<LoadReport>>) =
            plugins.into_iter().map(|loaded| (loaded.plugin, loaded.report)).unzip();
        check_names(&plugins)?;
        check_instruments(&plugins)?;
        let sandbox = Arc::clone(sandbox.inner());
        let instances = sandbox.instances_max();
        if plugins.len() > instances as usize {
            return Err(SetError::NoRoom { plugins: plugins.len(), instances });
        }
        let prompt = only(&plugins, Stage::Prompt)?.ok_or(SetError::NoPrompt)?;
        let parse = only(&plugins, Stage::Parse)?;
        if let Some(parse) = parse.filter(|&parse| parse != prompt) {
            tracing::warn!(
                "plugin `{}` renders prompts and plugin `{}` parses answers; a model's format is normally one plugin's \
                 business",
                plugins[prompt].owner.name,
                plugins[parse].owner.name
            );
        }
        // Nothing fails from here on, so that what is shown is a set that there is.
        plugins.iter().flat_map(|plugin| &plugin.owner.instruments).for_each(|instrument| metrics.show(instrument));
        let set = PluginSet {
            number: metrics.set_made(),
            policies: chain(&plugins, Stage::Policy),
            prompt,
            controller: only(&plugins, Stage::TokenControl)?,
            parse,
            filters: chain(&plugins, Stage::Postprocess),
            audits: chain(&plugins, Stage::Audit),
            meters: plugins.iter().map(|plugin| metrics.meter(&plugin.owner.name)).collect(),
            pools: plugins.iter().map(|plugin| Pool::new(plugin.reuse)).collect(),
            plugins,
            reports,
            metrics,
            sandbox,
        };
        set.sandbox.shared.serves();
        // The series are those of the set before; nobody has failed in this one.
        (0..set.meters.len()).for_each(|index| set.show_breaker(index, BreakerState::Closed));
        Ok(Self { set: Arc::new(set) })
    }

    /// The plugin that controls tokens, where there is one.
    #[must_use]
    pub fn controller(&self) -> Option<&str> {
        self.set.controller.map(|index| self.set.plugins[index].owner.name.as_str())
    }

    pub(crate) fn set(&self) -> &Arc<PluginSet> {
        &self.set
    }
}

impl Pipeline for Plugins {
    fn begin(&self, call: Call) -> Box<dyn PipelineRun> {
        Box::new(Run::new(Arc::clone(&self.set), call))
    }

    fn changes_text(&self) -> Option<(&str, Stage)> {
        let first = self.set.filters.first()?;
        Some((self.set.plugins[*first].owner.name.as_str(), Stage::Postprocess))
    }
}

/// The generation ends here: with the last of its requests, or when it is replaced and none runs.
impl Drop for PluginSet {
    fn drop(&mut self) {
        self.metrics.set_freed();
    }
}

impl PluginSet {
    /// Whether nothing stands between the model's text and the client.
    pub(crate) fn passes_text_through(&self) -> bool {
        self.parse.is_none() && self.filters.is_empty()
    }

    /// Shows how a plugin's breaker stands. The last requests of a set that was replaced say nothing of the new one.
    pub(crate) fn show_breaker(&self, index: usize, state: BreakerState) {
        if self.metrics.is_newest(self.number) {
            self.meters[index].breaker(state);
        }
    }
}

fn check_names(plugins: &[Arc<Plugin>]) -> Result<(), SetError> {
    for (index, plugin) in plugins.iter().enumerate() {
        if plugins[..index].iter().any(|other| other.owner.name == plugin.owner.name) {
            return Err(SetError::SameName { name: plugin.owner.name.clone() });
        }
    }
    Ok(())
}

/// Whether the plugins' own instruments can stand side by side.
fn check_instruments(plugins: &[Arc<Plugin>]) -> Result<(), SetError> {
    let all = || plugins.iter().flat_map(|plugin| plugin.owner.instruments.iter().map(move |it| (plugin, it)));
    for (plugin, instrument) in all() {
        let (name, kind) = (&instrument.spec().name, instrument.spec().kind);
        if let Some((other, _)) = all().find(|(_, it)| it.spec().name == *name && it.spec().kind != kind) {
            let (one, other) = (plugin.owner.name.clone(), other.owner.name.clone());
            return Err(SetError::Instrument { instrument: name.clone(), one, other });
        }
    }
    Ok(())
}

/// The plugins of a stage, in their order.
fn chain(plugins: &[Arc<Plugin>], stage: Stage) -> Vec<usize> {
    let place = |plugin: &Plugin| plugin.stages.iter().find(|(used, _)| *used == stage).map(|&(_, order)| order);
    let mut chain: Vec<(i32, usize)> =
        plugins.iter().enumerate().filter_map(|(index, plugin)| place(plugin).map(|order| (order, index))).collect();
    chain.sort_unstable();
    chain.into_iter().map(|(_, index)| index).collect()
}

fn only(plugins: &[Arc<Plugin>], stage: Stage) -> Result<Option<usize>, SetError> {
    match *chain(plugins, stage) {
        [] => Ok(None),
        [index] => Ok(Some(index)),
        ref several => {
            let names: Vec<_> = several.iter().map(|&index| format!("`{}`", plugins[index].owner.name)).collect();
            Err(SetError::Several { stage, plugins: names.join(", ") })
        }
    }
}
