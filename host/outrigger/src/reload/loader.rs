//! From `[[plugin]]` tables to a set of plugins that works together, at the start and whenever they are to be replaced.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use inference::Stage;
use plugin::{FileStamp, Limits, LoadReport, ModelContext, PluginSpec, Plugins, Room, Sandbox, SandboxConfig};
use serde::Serialize;
use telemetry::PluginMetrics;

use crate::config::{PluginTable, Settings};
use crate::wiring::{spec, with_lines};
use crate::{bundle, encoder, running};

/// Loads sets of plugins for the models that are loaded: the same tables for all, a set for each that answers chats.
pub(crate) struct PluginLoader {
    models: Vec<Model>,
    /// Models that encode, for which no plugin may be meant.
    encoders: Vec<String>,
    metrics: PluginMetrics,
    cache_dir: Option<PathBuf>,
    workers: Option<NonZeroUsize>,
    /// Requests that all models together let in.
    max_concurrency: usize,
    /// One for all models, as plugins keep things across them. Made with the first set, and replaced by a larger one when a set
    /// needs it.
    sandbox: Option<Sandbox>,
}

/// A model that answers chats.
#[derive(Clone)]
struct Model {
    context: ModelContext,
    metrics: PluginMetrics,
}

/// Sets of plugins, all of them loaded.
pub(crate) struct LoadedSets {
    /// By model.
    pub(crate) sets: Vec<(String, Arc<Plugins>)>,
    /// What they were read from.
    pub(crate) files: Vec<FileStamp>,
}

/// Why there are none.
pub(crate) struct LoadRefused {
    pub(crate) error: anyhow::Error,
    /// What was found out of each plugin up to the one that was refused.
    pub(crate) reports: Vec<ModelReport>,
    /// What was read.
    pub(crate) files: Vec<FileStamp>,
}

/// What was found out of a plugin, loaded for one model.
#[derive(Debug, Serialize)]
pub(crate) struct ModelReport {
    model: String,
    #[serde(flatten)]
    report: LoadReport,
}

impl PluginLoader {
    pub(crate) fn new(settings: &Settings, metrics: PluginMetrics) -> Self {
        Self {
            models: Vec::new(),
            encoders: Vec::new(),
            metrics,
            cache_dir: settings.cache_dir.as_ref().map(|dir| dir.join("components")),
            workers: settings.plugin_workers,
            max_concurrency: settings.models.iter().map(|model| model.max_concurrency.get()).sum(),
            sandbox: None,
        }
    }

    /// Loads the plugins of `tables` for one model more, which from then on has a set in whatever is loaded.
    pub(crate) fn join(&mut self, context: ModelContext, tables: &[PluginTable]) -> Result<LoadedSets, LoadRefused> {
        let metrics = self.metrics.of_model(context.id());
        let model = Model { context, metrics };
        let sets = self.load_for(std::slice::from_ref(&model), tables)?;
        self.models.push(model);
        Ok(sets)
    }

    /// Remembers a model that encodes, if no plugin of `tables` is meant for it.
    pub(crate) fn join_encoder(&mut self, id: &str, tables: &[PluginTable]) -> anyhow::Result<()> {
        encoder::check_plugins(id, tables)?;
        self.encoders.push(id.to_owned());
        Ok(())
    }

    /// The model is not there any more.
    pub(crate) fn leave(&mut self, id: &str) {
        self.models.retain(|model| model.context.id() != id);
        self.encoders.retain(|encoder| encoder != id);
    }

    /// Loads the plugins of `tables` anew for all models that there are.
    pub(crate) fn load(&mut self, tables: &[PluginTable]) -> Result<LoadedSets, LoadRefused> {
        let for_encoders = self.encoders.iter().try_for_each(|id| encoder::check_plugins(id, tables));
        for_encoders.map_err(|error| LoadRefused { error, reports: Vec::new(), files: Vec::new() })?;
        let models = self.models.clone();
        self.load_for(&models, tables)
    }

    /// Loads all plugins of `tables` that are meant for each of `models`, and the default one where none of them renders prompts.
    /// Takes CPU-seconds for components that are not in the cache.
    fn load_for(&mut self, models: &[Model], tables: &[PluginTable]) -> Result<LoadedSets, LoadRefused> {
        let (mut reports, mut files) = (Vec::new(), Vec::new());
        match self.try_load(models, tables, &mut reports, &mut files) {
            Ok(sets) => Ok(LoadedSets { sets, files }),
            Err(error) => Err(LoadRefused { error, reports, files }),
        }
    }

    fn try_load(
        &mut self,
        models: &[Model],
        tables: &[PluginTable],
        reports: &mut Vec<ModelReport>,
        files: &mut Vec<FileStamp>,
    ) -> anyhow::Result<Vec<(String, Arc<Plugins>)>> {
        // Read once, so that all models have the same.
        let is_used = |table: &PluginTable| models.iter().any(|model| model.takes(table));
        let specs = tables.iter().map(|table| is_used(table).then(|| spec(table, files)).transpose());
        let specs = specs.collect::<anyhow::Result<Vec<_>>>()?;
        if models.is_empty() {
            return Ok(Vec::new());
        }
        let used: Vec<&PluginSpec> = specs.iter().flatten().collect();
        let sandbox = self.sandbox_for(&used)?;
        let mut sets = Vec::new();
        for model in models {
            let mut chosen = Vec::new();
            for (table, spec) in tables.iter().zip(&specs) {
                match spec {
                    Some(spec) if model.takes(table) => chosen.push((spec.clone(), table)),
                    _ => tracing::info!(
                        plugin = table.name,
                        model = model.context.id(),
                        "plugin not used: its `models` do not name this model"
                    ),
                }
            }
            sets.push((model.context.id().to_owned(), Arc::new(model.load(chosen, &sandbox, reports, files)?)));
        }
        self.sandbox = Some(sandbox);
        Ok(sets)
    }

    /// The sandbox there is, where it has room for these plugins beside each request, or one that has.
    fn sandbox_for(&self, specs: &[&PluginSpec]) -> anyhow::Result<Sandbox> {
        // Every request that is let in has room for all its plugins, the default one included, while as many that have
        // just ended are still being wound up.
        let instances = u32::try_from(self.max_concurrency * (specs.len() + 1) * 2);
        let instances = instances.context("there are too many plugins for so many requests at once")?;
        let kept = specs.iter().filter_map(|spec| spec.reuse);
        let idle_instances = kept.fold(0, |sum: u32, reuse| sum.saturating_add(reuse.idle_max));
        // The default plugin has the default limits, however little the others are given.
        let default = Limits::default().memory_bytes_max;
        let memory_bytes = specs.iter().map(|spec| spec.limits.memory_bytes_max).fold(default, usize::max);
        let room = Room { instances, idle_instances, memory_bytes };
        match &self.sandbox {
            Some(sandbox) if sandbox.has_room(room) => Ok(sandbox.clone()),
            Some(sandbox) => Ok(sandbox.resized(room)?),
            None => Ok(Sandbox::new(SandboxConfig {
                cache_dir: self.cache_dir.clone(),
                workers: self.workers.map(NonZeroUsize::get),
                memory_bytes_max: Some(memory_bytes),
                max_instances: Some(instances),
                idle_instances,
                counts_instructions: false,
            })?),
        }
    }
}

impl Model {
    fn takes(&self, table: &PluginTable) -> bool {
        running::applies(table.models.as_deref(), self.context.id())
    }

    /// The set of this model.
    fn load(
        &self,
        chosen: Vec<(PluginSpec, &PluginTable)>,
        sandbox: &Sandbox,
        reports: &mut Vec<ModelReport>,
        files: &mut Vec<FileStamp>,
    ) -> anyhow::Result<Plugins> {
        let mut load = |(spec, table): (PluginSpec, &PluginTable)| -> anyhow::Result<_> {
            let (report, result) = sandbox.examine(spec, &self.context);
            if result.is_ok() {
                log_loaded(&report);
            }
            reports.push(ModelReport { model: self.context.id().to_owned(), report });
            result.map_err(|error| with_lines(error, table))
        };
        let mut plugins = chosen.into_iter().map(&mut load).collect::<anyhow::Result<Vec<_>>>()?;
        let somebody_has =
            |stage| plugins.iter().any(|plugin| plugin.report().stages.iter().any(|used| used.stage == stage));
        if !somebody_has(Stage::Prompt) {
            let mut default = PluginTable::bare(bundle::DEFAULT_PROMPT_PLUGIN.to_owned(), None);
            if somebody_has(Stage::Parse) {
                // One plugin parses, and the default steps back.
                default.stages = Some([(Stage::Prompt.as_str().to_owned(), 0)].into());
            }
            plugins.insert(0, load((spec(&default, files)?, &default))?);
        }
        Ok(Plugins::new(sandbox, plugins, self.metrics.clone())?)
    }
}

fn log_loaded(report: &LoadReport) {
    let stages: Vec<&str> = report.stages.iter().map(|used| used.stage.as_str()).collect();
    tracing::info!(
        plugin = report.name,
        version = report.version(),
        source = report.source,
        sha256 = report.sha256,
        stages = stages.join(","),
        code = ?report.code,
        elapsed_ms = millis(report.elapsed),
        "plugin loaded"
    );
    for grant in report.declined() {
        let reason = grant.reason.as_deref().unwrap_or("it does not say what for");
        tracing::info!(
            plugin = report.name,
            "it asked for what it was not granted: {}, {reason}; `outrigger plugin check` shows what would grant it",
            grant.describe()
        );
    }
    for note in &report.notes {
        tracing::warn!(plugin = report.name, "{note}");
    }
}

fn millis(elapsed: Duration) -> u64 {
    u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX)
}
