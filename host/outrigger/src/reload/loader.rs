//! From `[[plugin]]` tables to a set of plugins that works together, at the start and whenever they are to be replaced.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use inference::Stage;
use plugin::{FileStamp, Limits, LoadReport, ModelContext, PluginSpec, Plugins, Room, Sandbox, SandboxConfig};
use telemetry::PluginMetrics;

use crate::config::{PluginTable, Settings};
use crate::wiring::{spec, with_lines};
use crate::{bundle, running};

/// Loads sets of plugins for one model.
pub(crate) struct PluginLoader {
    model: ModelContext,
    metrics: PluginMetrics,
    cache_dir: Option<PathBuf>,
    workers: Option<NonZeroUsize>,
    max_concurrency: NonZeroUsize,
    /// Made with the first set, and replaced by a larger one when a set needs it.
    sandbox: Option<Sandbox>,
}

/// A set of plugins, all of them loaded.
pub(crate) struct LoadedSet {
    pub(crate) plugins: Arc<Plugins>,
    /// What it was read from.
    pub(crate) files: Vec<FileStamp>,
}

/// Why there is no set.
pub(crate) struct LoadRefused {
    pub(crate) error: anyhow::Error,
    /// What was found out of each plugin up to the one that was refused.
    pub(crate) reports: Vec<LoadReport>,
    /// What was read.
    pub(crate) files: Vec<FileStamp>,
}

impl PluginLoader {
    pub(crate) fn new(settings: &Settings, model: ModelContext, metrics: PluginMetrics) -> Self {
        Self {
            model,
            metrics,
            cache_dir: settings.cache_dir.as_ref().map(|dir| dir.join("components")),
            workers: settings.plugin_workers,
            max_concurrency: settings.max_concurrency,
            sandbox: None,
        }
    }

    /// Loads all plugins of `tables`, and the default one where none of them renders prompts. Takes CPU-seconds for components
    /// that are not in the cache.
    pub(crate) fn load(&mut self, tables: &[PluginTable]) -> Result<LoadedSet, LoadRefused> {
        let (mut reports, mut files) = (Vec::new(), Vec::new());
        match self.try_load(tables, &mut reports, &mut files) {
            Ok((sandbox, plugins)) => {
                self.sandbox = Some(sandbox);
                Ok(LoadedSet { plugins: Arc::new(plugins), files })
            }
            Err(error) => Err(LoadRefused { error, reports, files }),
        }
    }

    fn try_load(
        &self,
        tables: &[PluginTable],
        reports: &mut Vec<LoadReport>,
        files: &mut Vec<FileStamp>,
    ) -> anyhow::Result<(Sandbox, Plugins)> {
        let model_id = self.model.id();
        let (tables, unused): (Vec<_>, Vec<_>) =
            tables.iter().partition(|table| running::applies(table.models.as_deref(), model_id));
        for table in unused {
            tracing::info!(
                plugin = table.name,
                model = model_id,
                "plugin not used: its `models` do not name this model"
            );
        }
        let specs = tables.iter().map(|table| spec(table, files)).collect::<anyhow::Result<Vec<_>>>()?;
        let sandbox = self.sandbox_for(&specs)?;
        let mut load = |(spec, table): (PluginSpec, &PluginTable)| -> anyhow::Result<_> {
            let (report, result) = sandbox.examine(spec, &self.model);
            if result.is_ok() {
                log_loaded(&report);
            }
            reports.push(report);
            result.map_err(|error| with_lines(error, table))
        };
        let mut plugins = specs.into_iter().zip(tables).map(&mut load).collect::<anyhow::Result<Vec<_>>>()?;
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
        let plugins = Plugins::new(&sandbox, plugins, self.metrics.clone())?;
        Ok((sandbox, plugins))
    }

    /// The sandbox there is, where it has room for these plugins, or one that has.
    fn sandbox_for(&self, specs: &[PluginSpec]) -> anyhow::Result<Sandbox> {
        // Every request that is let in has room for all its plugins, the default one included, while as many that have
        // just ended are still being wound up.
        let instances = u32::try_from(self.max_concurrency.get() * (specs.len() + 1) * 2);
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
