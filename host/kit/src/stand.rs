//! A host without a model: the sandbox, and the set of plugins that a request meets.

use std::path::PathBuf;

use inference::Stage;
use plugin::probe::{self, Begun};
use plugin::{
    FaultStatus, LoadedPlugin, ModelContext, Package, PluginSpec, PluginStatus, Plugins, Sandbox, SandboxConfig,
};
use telemetry::Metrics;

use crate::stand_in;

/// Renders prompts and reads answers beside a plugin that does not.
const PROMPT_PLUGIN: &str = "chat-template";

/// A sandbox for plugins and the model that they are loaded for.
pub struct Stand {
    sandbox: Sandbox,
    model: ModelContext,
}

/// A plugin, and all that is around it.
pub struct Loaded {
    pub(crate) plugins: Plugins,
    plugin: LoadedPlugin,
    model: ModelContext,
    /// The stages of the default plugin beside it; `None`: it is not there.
    default_stages: Option<DefaultStages>,
}

/// `None`: all that it has.
type DefaultStages = Option<Vec<(Stage, i32)>>;

/// Why a plugin does not load. The text is the loader's.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct LoadFailed(pub String);

impl Stand {
    /// A stand. `counts_instructions`: see [`SandboxConfig`]; not for figures of time. Compiled components are kept in
    /// `cache_dir`.
    pub fn new(
        model: ModelContext,
        memory_bytes_max: usize,
        counts_instructions: bool,
        cache_dir: Option<PathBuf>,
    ) -> Result<Self, LoadFailed> {
        let sandbox = Sandbox::new(SandboxConfig {
            cache_dir,
            workers: Some(1),
            // A request has two plugins, and nobody else has requests here.
            max_instances: Some(2),
            memory_bytes_max: Some(memory_bytes_max.max(plugin::Limits::default().memory_bytes_max)),
            counts_instructions,
            ..SandboxConfig::default()
        });
        let sandbox = sandbox.map_err(|error| LoadFailed(with_sources(&error)))?;
        Ok(Self { sandbox, model })
    }

    /// The same, for cases that are about the stand-in model.
    #[must_use]
    pub fn with_template(&self, chat_template: &str) -> Self {
        Self { sandbox: self.sandbox.clone(), model: stand_in::model(Some(chat_template)) }
    }

    /// The model that requests name.
    #[must_use]
    pub fn model_id(&self) -> &str {
        self.model.id()
    }

    /// The default plugin alone, as it is beside `loaded`: what a request costs without the one in question. `None`: it is not
    /// there.
    pub(crate) fn load_default(&self, loaded: &Loaded) -> Result<Option<Loaded>, LoadFailed> {
        let Some(stages) = &loaded.default_stages else { return Ok(None) };
        let spec = PluginSpec { stages: stages.clone(), ..default_spec()? };
        let plugin = self.load_one(spec)?;
        self.together(vec![plugin.clone()], plugin, None).map(Some)
    }

    /// Loads a plugin as `serve` would, and beside it the default plugin where it renders no prompts.
    pub fn load(&self, spec: PluginSpec) -> Result<Loaded, LoadFailed> {
        let plugin = self.load_one(spec)?;
        let mut plugins = vec![plugin.clone()];
        let has = |stage| plugin.report().stages.iter().any(|used| used.stage == stage);
        // One plugin parses, and the default steps back.
        let beside = has(Stage::Parse).then(|| vec![(Stage::Prompt, 0)]);
        let default_stages = if has(Stage::Prompt) { None } else { Some(beside) };
        if let Some(stages) = &default_stages {
            plugins.insert(0, self.load_one(PluginSpec { stages: stages.clone(), ..default_spec()? })?);
        }
        self.together(plugins, plugin, default_stages)
    }

    fn load_one(&self, mut spec: PluginSpec) -> Result<LoadedPlugin, LoadFailed> {
        // The same request is made hundreds of times here: a plugin that fails has to fail every time, and is never given up.
        spec.breaker.faults_max = 0;
        self.sandbox.load(spec, &self.model).map_err(|error| LoadFailed(with_sources(&error)))
    }

    fn together(
        &self,
        plugins: Vec<LoadedPlugin>,
        plugin: LoadedPlugin,
        default_stages: Option<DefaultStages>,
    ) -> Result<Loaded, LoadFailed> {
        let plugins = Plugins::new(&self.sandbox, plugins, Metrics::new(&[]).plugins);
        let plugins = plugins.map_err(|error| LoadFailed(with_sources(&error)))?;
        Ok(Loaded { plugins, plugin, model: self.model.clone(), default_stages })
    }
}

/// The default plugin, under a name that a plugin under test hardly has.
fn default_spec() -> Result<PluginSpec, LoadFailed> {
    let package = Package::bundled(bundled::CHAT_TEMPLATE, bundled::manifest(PROMPT_PLUGIN));
    let package = package.map_err(|error| LoadFailed(with_sources(&error)))?;
    let spec = PluginSpec::new("default-prompt", package.source, package.component);
    Ok(PluginSpec { manifest: package.manifest, ..spec })
}

impl Loaded {
    /// The model that it was loaded for.
    #[must_use]
    pub fn model(&self) -> &ModelContext {
        &self.model
    }

    /// The name of the plugin in question.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.plugin.report().name
    }

    /// All plugins of a request.
    #[must_use]
    pub fn plugins(&self) -> &Plugins {
        &self.plugins
    }

    /// A new instance of it.
    #[must_use]
    pub fn instantiate(&self) -> Option<Begun> {
        probe::instantiate(&self.plugin)
    }

    /// How often it has failed so far.
    pub(crate) fn faults(&self) -> u64 {
        self.status().map_or(0, |status| status.faults)
    }

    /// The last of its faults, if there are more than `before`.
    pub(crate) fn fault_since(&self, before: u64) -> Option<FaultStatus> {
        self.status().filter(|status| status.faults > before)?.last_fault
    }

    fn status(&self) -> Option<PluginStatus> {
        self.plugins.status().into_iter().find(|status| status.report.name == self.name())
    }
}

/// An error and what it comes from, in a line.
pub(crate) fn with_sources(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    text
}
