//! Calls into plugins: how many, how long, how they failed, and how many instances live.

use std::sync::Arc;
use std::time::Duration;

use inference::{FaultKind, Stage};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use super::custom::{Dropped, Instrument, Shown};

/// Calls into plugins. Clones share the same families. A plugin's name is the operator's, so labels are bounded.
#[derive(Debug, Clone)]
pub struct PluginMetrics {
    calls: Family<CallLabels, Counter>,
    call_seconds: Family<StageLabels, Histogram, fn() -> Histogram>,
    faults: Family<FaultLabels, Counter>,
    instances: Family<PluginLabel, Gauge>,
    custom_dropped: Family<DroppedLabels, Counter>,
    shown: Shown,
}

impl PluginMetrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let metrics = Self {
            calls: Family::default(),
            call_seconds: Family::new_with_constructor(|| Histogram::new(CALL_BUCKETS_SECONDS)),
            faults: Family::default(),
            instances: Family::default(),
            custom_dropped: Family::default(),
            shown: Shown::default(),
        };
        registry.register("outrigger_plugin_calls", "Calls into plugins by outcome", metrics.calls.clone());
        registry.register(
            "outrigger_plugin_call_seconds",
            "Seconds that calls into plugins took",
            metrics.call_seconds.clone(),
        );
        registry.register(
            "outrigger_plugin_faults",
            "Plugins that broke their contract, by stage and kind",
            metrics.faults.clone(),
        );
        registry.register("outrigger_plugin_instances", "Plugin instances alive now", metrics.instances.clone());
        registry.register(
            "outrigger_plugin_custom_dropped",
            "Values that plugins gave to instruments and that were not taken, by reason",
            metrics.custom_dropped.clone(),
        );
        registry.register_collector(Box::new(metrics.shown.clone()));
        metrics
    }

    /// A call into a plugin returned, whichever way. `outcome` is one of a few fixed words.
    pub fn record_call(&self, plugin: &str, stage: Stage, outcome: &'static str, elapsed: Duration) {
        let (plugin, stage) = (plugin.to_owned(), stage.as_str());
        let labels = StageLabels { plugin, stage };
        self.call_seconds.get_or_create(&labels).observe(elapsed.as_secs_f64());
        self.calls.get_or_create(&CallLabels { plugin: labels.plugin, stage, outcome }).inc();
    }

    /// A plugin broke its contract.
    pub fn record_fault(&self, plugin: &str, stage: Stage, kind: FaultKind) {
        let labels = FaultLabels { plugin: plugin.to_owned(), stage: stage.as_str(), kind: kind.as_str() };
        self.faults.get_or_create(&labels).inc();
    }

    /// An instance of a plugin came to life.
    pub fn instance_started(&self, plugin: &str) {
        self.instances.get_or_create(&PluginLabel { plugin: plugin.to_owned() }).inc();
    }

    /// An instance of a plugin was dropped.
    pub fn instance_ended(&self, plugin: &str) {
        self.instances.get_or_create(&PluginLabel { plugin: plugin.to_owned() }).dec();
    }

    /// Shows a plugin's own instrument from now on, as long as somebody owns it.
    pub fn show(&self, instrument: &Arc<Instrument>) {
        self.shown.add(instrument);
    }

    /// A plugin gave a value to an instrument, and it was not taken.
    pub fn custom_dropped(&self, plugin: &str, reason: Dropped) {
        let labels = DroppedLabels { plugin: plugin.to_owned(), reason: reason.as_str() };
        self.custom_dropped.get_or_create(&labels).inc();
    }
}

/// A push takes about 1 µs, rendering a prompt 10–150 µs, and the CPU budgets end at 20 and 200 ms; two steps per
/// factor of ten, since there is one histogram per plugin and stage.
const CALL_BUCKETS_SECONDS: [f64; 12] = [1e-6, 5e-6, 1e-5, 5e-5, 1e-4, 5e-4, 1e-3, 5e-3, 2e-2, 5e-2, 2e-1, 1.0];

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CallLabels {
    plugin: String,
    stage: &'static str,
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StageLabels {
    plugin: String,
    stage: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct FaultLabels {
    plugin: String,
    stage: &'static str,
    kind: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PluginLabel {
    plugin: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DroppedLabels {
    plugin: String,
    reason: &'static str,
}
