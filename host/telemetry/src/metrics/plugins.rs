//! Calls into plugins: how many, how long, how they failed, what they held, and how many instances live.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Metric, Registry};

use super::ModelLabel;
use super::custom::{Instrument, Shown};
use super::meter::PluginMeter;

type Histograms<L> = Family<L, Histogram, fn() -> Histogram>;

/// Everything about plugins. Clones share the same families. A plugin's name is the operator's, so labels are bounded.
#[derive(Debug, Clone)]
pub struct PluginMetrics {
    pub(super) calls: Family<CallLabels, Counter>,
    pub(super) call_seconds: Histograms<StageLabels>,
    pub(super) faults: Family<FaultLabels, Counter>,
    pub(super) cpu_seconds: Family<PluginLabel, Counter<f64, AtomicU64>>,
    pub(super) instances: Family<PluginLabel, Gauge>,
    pub(super) instance_memory: Histograms<PluginLabel>,
    pub(super) held_bytes: Histograms<PluginLabel>,
    pub(super) held_seconds: Histograms<PluginLabel>,
    pub(super) breaker_state: Family<BreakerLabels, Gauge>,
    pub(super) breaker_refusals: Family<PluginLabel, Counter>,
    pub(super) log_dropped: Family<PluginLabel, Counter>,
    pub(super) custom_dropped: Family<DroppedLabels, Counter>,
    queue_seconds: Histograms<QueueLabel>,
    overloads: Family<OverloadLabel, Counter>,
    shown: Shown,
    sets: Family<ModelLabel, Gauge>,
    /// The model whose plugins they are; empty where there is one, or none.
    pub(super) model: String,
    /// The number of the model's newest set.
    newest: Arc<AtomicU64>,
    reloads: Family<ReloadLabel, Counter>,
}

impl PluginMetrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        /// `outrigger_plugin_` and the rest of its name.
        fn register<M: Metric + Clone>(registry: &mut Registry, name: &str, help: &str, family: &M) {
            registry.register(format!("outrigger_plugin_{name}"), help, family.clone());
        }

        let metrics = Self {
            calls: Family::default(),
            call_seconds: Family::new_with_constructor(|| Histogram::new(CALL_BUCKETS_SECONDS)),
            faults: Family::default(),
            cpu_seconds: Family::default(),
            instances: Family::default(),
            instance_memory: Family::new_with_constructor(|| Histogram::new(MEMORY_BUCKETS_BYTES)),
            held_bytes: Family::new_with_constructor(|| Histogram::new(HELD_BUCKETS_BYTES)),
            held_seconds: Family::new_with_constructor(|| Histogram::new(WAIT_BUCKETS_SECONDS)),
            breaker_state: Family::default(),
            breaker_refusals: Family::default(),
            log_dropped: Family::default(),
            custom_dropped: Family::default(),
            queue_seconds: Family::new_with_constructor(|| Histogram::new(WAIT_BUCKETS_SECONDS)),
            overloads: Family::default(),
            sets: Family::default(),
            model: String::new(),
            newest: Arc::default(),
            reloads: Family::default(),
            shown: Shown::default(),
        };
        // Shown from the start: an alert on the second needs its zero.
        for outcome in [PUBLISHED, REFUSED] {
            drop(metrics.reloads.get_or_create(&ReloadLabel { outcome }));
        }
        register(registry, "calls", "Calls into plugins by outcome", &metrics.calls);
        register(registry, "call_seconds", "Seconds that calls into plugins took", &metrics.call_seconds);
        register(registry, "faults", "Plugins that broke their contract, by stage and kind", &metrics.faults);
        register(registry, "cpu_seconds", "CPU time that plugins used, in seconds", &metrics.cpu_seconds);
        register(registry, "instances", "Plugin instances alive now", &metrics.instances);
        let help = "Memory of plugin instances when they ended, which is the most that they ever had";
        register(registry, "instance_memory_bytes", help, &metrics.instance_memory);
        let help = "Most bytes that a filter held back in an answer, for answers in which it did";
        register(registry, "held_bytes", help, &metrics.held_bytes);
        register(registry, "held_seconds", "How long text was held back by filters", &metrics.held_seconds);
        let help = "Whether plugins are called: 0 yes, 1 on trial, 2 not, since they failed again and again";
        register(registry, "breaker_state", help, &metrics.breaker_state);
        let help = "Requests that were kept from plugins that failed again and again";
        register(registry, "breaker_refusals", help, &metrics.breaker_refusals);
        let help = "Bytes that plugins logged beyond their limit and that were dropped";
        register(registry, "log_dropped_bytes", help, &metrics.log_dropped);
        let help = "Values that plugins gave to instruments and that were not taken, by reason";
        register(registry, "custom_dropped", help, &metrics.custom_dropped);
        register(registry, "queue_seconds", "How long work waited for a thread of the plugins", &metrics.queue_seconds);
        register(registry, "overloads", "Requests that the plugins had no room for", &metrics.overloads);
        let help = "Sets of plugins in memory: the one that answers new requests, and those that others still run with";
        register(registry, "generations", help, &metrics.sets);
        let help = "Attempts to replace the plugins, by whether the new ones were published or refused";
        register(registry, "reloads", help, &metrics.reloads);
        registry.register_collector(Box::new(metrics.shown.clone()));
        metrics
    }

    /// The same for the sets of one model, of which the newest is to be told from those before it.
    #[must_use]
    pub fn of_model(&self, model: &str) -> Self {
        Self { model: model.to_owned(), newest: Arc::default(), ..self.clone() }
    }

    /// What is recorded of one plugin. Made once per loaded plugin.
    #[must_use]
    pub fn meter(&self, plugin: &str) -> Arc<PluginMeter> {
        Arc::new(PluginMeter::new(plugin, self))
    }

    /// Shows a plugin's own instrument from now on, as long as somebody owns it.
    pub fn show(&self, instrument: &Arc<Instrument>) {
        self.shown.add(instrument);
    }

    /// A set of plugins was put together, and is the model's newest from now on. Returns its number.
    #[must_use = "says which set it is"]
    pub fn set_made(&self) -> u64 {
        self.sets.get_or_create(&ModelLabel::of(&self.model)).inc();
        self.newest.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Whether no set was put together after this one: what is not counted but is in some way, is as the newest says.
    #[must_use]
    pub fn is_newest(&self, set: u64) -> bool {
        self.newest.load(Ordering::Relaxed) == set
    }

    /// The last that used a set of plugins let go of it.
    pub fn set_freed(&self) {
        self.sets.get_or_create(&ModelLabel::of(&self.model)).dec();
    }

    /// The plugins were to be replaced, and were or were not.
    pub fn reloaded(&self, is_published: bool) {
        let outcome = if is_published { PUBLISHED } else { REFUSED };
        self.reloads.get_or_create(&ReloadLabel { outcome }).inc();
    }

    /// Work for the plugins' threads waited so long for one. `kind` is one of a few fixed words.
    pub fn queued(&self, kind: &'static str, elapsed: Duration) {
        self.queue_seconds.get_or_create(&QueueLabel { kind }).observe(elapsed.as_secs_f64());
    }

    /// There was no room for a request. `what` was full is one of a few fixed words.
    pub fn overloaded(&self, what: &'static str) {
        self.overloads.get_or_create(&OverloadLabel { what }).inc();
    }
}

/// A push takes about 1 µs, rendering a prompt 10–150 µs, and the CPU budgets end at 20 and 200 ms; two steps per
/// factor of ten, since there is one histogram per plugin and stage.
const CALL_BUCKETS_SECONDS: [f64; 12] = [1e-6, 5e-6, 1e-5, 5e-5, 1e-4, 5e-4, 1e-3, 5e-3, 2e-2, 5e-2, 2e-1, 1.0];

/// From a thread that was free to the time after which a request is refused.
const WAIT_BUCKETS_SECONDS: [f64; 10] = [1e-5, 1e-4, 5e-4, 1e-3, 5e-3, 2e-2, 1e-1, 5e-1, 2.0, 10.0];

/// A Rust guest has 1 to 2 MiB; the default limit is 32 MiB, and an interpreter needs more.
const MEMORY_BUCKETS_BYTES: [f64; 8] = [
    (1 << 20) as f64,
    (2 << 20) as f64,
    (4 << 20) as f64,
    (8 << 20) as f64,
    (16 << 20) as f64,
    (32 << 20) as f64,
    (64 << 20) as f64,
    (128 << 20) as f64,
];

/// Up to the default limit of 4 KiB, and what an operator may have allowed beyond it.
const HELD_BUCKETS_BYTES: [f64; 8] = [8.0, 32.0, 128.0, 512.0, 2_048.0, 4_096.0, 16_384.0, 65_536.0];

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct CallLabels {
    pub(super) plugin: String,
    pub(super) stage: &'static str,
    pub(super) outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct StageLabels {
    pub(super) plugin: String,
    pub(super) stage: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct FaultLabels {
    pub(super) plugin: String,
    pub(super) stage: &'static str,
    pub(super) kind: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct PluginLabel {
    pub(super) plugin: String,
}

/// Each model's plugins have breakers of their own.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct BreakerLabels {
    pub(super) model: String,
    pub(super) plugin: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct DroppedLabels {
    pub(super) plugin: String,
    pub(super) reason: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct QueueLabel {
    kind: &'static str,
}

const PUBLISHED: &str = "published";
const REFUSED: &str = "refused";

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReloadLabel {
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OverloadLabel {
    what: &'static str,
}
