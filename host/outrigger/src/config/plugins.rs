//! `[[plugin]]` tables: which plugin, what it may do, and what it may use.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::ConfigLines;
use super::grants::Grants;
use super::running::{BreakerTable, InstanceTable};

/// One `[[plugin]]` table.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PluginTable {
    /// Name in logs, metrics and errors.
    pub(crate) name: String,
    /// Path of the component; without it, the bundled plugin of that name.
    pub(crate) from: Option<String>,
    /// Digest that the component must have.
    pub(crate) sha256: Option<String>,
    /// `none` (default) or `quiet`.
    pub(crate) wasi: Option<String>,
    /// The plugin's own configuration.
    #[serde(default)]
    pub(crate) config: toml::Table,
    /// Where the file says it.
    #[serde(skip)]
    pub(crate) config_lines: ConfigLines,
    /// Stages to use with their place in the chain; without it, all that the component exports.
    pub(crate) stages: Option<BTreeMap<String, i32>>,
    /// Models that it is there for, by name or pattern (`*`); without it, all.
    pub(crate) models: Option<Vec<String>>,
    /// What it may see and change.
    #[serde(default)]
    pub(crate) grants: Grants,
    /// What it may use.
    #[serde(default)]
    pub(crate) limits: PluginLimits,
    /// What happens when it fails, by stage: `closed` (default) or `open`.
    #[serde(default)]
    pub(crate) on_failure: OnFailure,
    /// When it is given up for a while.
    #[serde(default)]
    pub(crate) breaker: BreakerTable,
    /// Whether its instances are reused.
    #[serde(default)]
    pub(crate) instance: InstanceTable,
}

impl PluginTable {
    /// The table that a bare name or path stands for.
    pub(crate) fn bare(name: String, from: Option<String>) -> Self {
        Self {
            name,
            from,
            sha256: None,
            wasi: None,
            config: toml::Table::new(),
            config_lines: ConfigLines::default(),
            stages: None,
            models: None,
            grants: Grants::default(),
            limits: PluginLimits::default(),
            on_failure: OnFailure::default(),
            breaker: BreakerTable::default(),
            instance: InstanceTable::default(),
        }
    }
}

/// Limits that differ from the defaults.
#[derive(Debug, Default, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct PluginLimits {
    pub(crate) component_bytes: Option<u64>,
    pub(crate) memory_bytes: Option<u64>,
    pub(crate) call_bytes: Option<u64>,
    pub(crate) host_calls: Option<u32>,
    pub(crate) log_bytes: Option<u32>,
    pub(crate) holdback_bytes: Option<u32>,
    pub(crate) output_bytes: Option<u64>,
    pub(crate) init_ms: Option<u64>,
    pub(crate) policy_ms: Option<u64>,
    pub(crate) prompt_ms: Option<u64>,
    pub(crate) push_ms: Option<u64>,
    pub(crate) step_ms: Option<u64>,
    pub(crate) finish_ms: Option<u64>,
    pub(crate) request_ms: Option<u64>,
}

/// Failure by stage.
#[derive(Debug, Default, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct OnFailure {
    pub(crate) policy: Option<String>,
    pub(crate) parse: Option<String>,
    pub(crate) postprocess: Option<String>,
}
