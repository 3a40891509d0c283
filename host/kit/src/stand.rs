//! A host without a model: the sandbox, and the set of plugins that a request meets.

use std::path::PathBuf;

use inference::Stage;
use plugin::probe::{self, Begun};
use plugin::{LoadedPlugin, ModelContext, Package, PluginSpec, Plugins, Sandbox, SandboxConfig};
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
    /// Whether the default plugin renders its prompts.
    has_default: bool,
}

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

    /// The default plugin alone: what a request costs without the one in question.
    pub fn load_default(&self) -> Result<Loaded, LoadFailed> {
        self.load(default_spec()?)
    }

    /// Loads a plugin as `serve` would, and beside it the default plugin where it renders no prompts.
    pub fn load(&self, spec: PluginSpec) -> Result<Loaded, LoadFailed> {
        let load = |spec| self.sandbox.load(spec, &self.model).map_err(|error| LoadFailed(with_sources(&error)));
        let plugin = load(spec)?;
        let mut plugins = vec![plugin.clone()];
        let has = |stage| plugin.report().stages.iter().any(|used| used.stage == stage);
        let renders = has(Stage::Prompt);
        if !renders {
            let mut default = default_spec()?;
            // One plugin parses, and the default steps back.
            default.stages = has(Stage::Parse).then(|| vec![(Stage::Prompt, 0)]);
            plugins.insert(0, load(default)?);
        }
        let plugins = Plugins::new(&self.sandbox, plugins, Metrics::new(&[]).plugins);
        Ok(Loaded {
            plugins: plugins.map_err(|error| LoadFailed(with_sources(&error)))?,
            plugin,
            has_default: !renders,
        })
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
    /// Whether the default plugin works beside it.
    pub(crate) fn has_default(&self) -> bool {
        self.has_default
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

    /// Faults of it that nobody was told of, in its `audit` say: the last of them.
    pub(crate) fn last_fault(&self) -> Option<String> {
        let status = self.plugins.status().into_iter().find(|status| status.report.name == self.name())?;
        status
            .last_fault
            .map(|fault| format!("it failed in its {} stage ({}): {}", fault.stage, fault.kind, fault.detail))
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
