//! What is recorded of one plugin: the handles into the families, looked up once, since a filter is called for every piece
//! of every answer.

use std::sync::OnceLock;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use inference::{FaultKind, Stage};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;

use super::custom::Dropped;
use super::plugins::{BreakerLabels, CallLabels, DroppedLabels, FaultLabels, PluginLabel, PluginMetrics, StageLabels};

/// How a call into a plugin ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// It did what there was to do.
    Ok,
    /// A parser or filter was opened.
    Open,
    /// A filter was told of the end.
    Finish,
    /// A policy accepted.
    Accept,
    /// A policy replaced the request.
    Replace,
    /// A policy rejected.
    Reject,
    /// A filter let text pass.
    Pass,
    /// A filter held text back.
    Hold,
    /// A filter put other text in place of the model's.
    Rewrite,
    /// A filter ended the answer.
    Stop,
    /// It called the request invalid.
    Invalid,
    /// It said that it failed.
    Error,
    /// It broke its contract.
    Fault,
}

impl Outcome {
    /// The outcome's name in metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Open => "open",
            Self::Finish => "finish",
            Self::Accept => "accept",
            Self::Replace => "replace",
            Self::Reject => "reject",
            Self::Pass => "pass",
            Self::Hold => "hold",
            Self::Rewrite => "rewrite",
            Self::Stop => "stop",
            Self::Invalid => "invalid",
            Self::Error => "error",
            Self::Fault => "fault",
        }
    }
}

/// How a plugin's breaker stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BreakerState {
    /// The plugin is called.
    Closed,
    /// One request tries the plugin out.
    Trial,
    /// The plugin is not called.
    Open,
}

/// What is recorded of one plugin.
#[derive(Debug)]
pub struct PluginMeter {
    plugin: String,
    families: PluginMetrics,
    stages: [StageMeter; Stage::Audit as usize + 1],
    cpu: Counter<f64, AtomicU64>,
    instances: Gauge,
    instance_memory: Histogram,
    held_bytes: Histogram,
    held_seconds: Histogram,
    log_dropped: Counter,
    breaker: Gauge,
    refused: Counter,
}

/// Series appear with the first call: most plugins have a stage or two, with a few outcomes each.
#[derive(Debug, Default)]
struct StageMeter {
    seconds: OnceLock<Histogram>,
    calls: [OnceLock<Counter>; Outcome::Fault as usize + 1],
}

impl PluginMeter {
    pub(super) fn new(plugin: &str, families: &PluginMetrics) -> Self {
        let label = PluginLabel { plugin: plugin.to_owned() };
        let breaker = BreakerLabels { model: families.model.clone(), plugin: plugin.to_owned() };
        Self {
            stages: Default::default(),
            cpu: families.cpu_seconds.get_or_create_owned(&label),
            instances: families.instances.get_or_create_owned(&label),
            instance_memory: families.instance_memory.get_or_create_owned(&label),
            held_bytes: families.held_bytes.get_or_create_owned(&label),
            held_seconds: families.held_seconds.get_or_create_owned(&label),
            log_dropped: families.log_dropped.get_or_create_owned(&label),
            breaker: families.breaker_state.get_or_create_owned(&breaker),
            refused: families.breaker_refusals.get_or_create_owned(&label),
            plugin: label.plugin,
            families: families.clone(),
        }
    }

    /// The plugin's name.
    #[must_use]
    pub fn plugin(&self) -> &str {
        &self.plugin
    }

    /// A call into the plugin returned, whichever way.
    pub fn call(&self, stage: Stage, outcome: Outcome, elapsed: Duration) {
        let meter = &self.stages[stage as usize];
        let seconds = meter.seconds.get_or_init(|| {
            let labels = StageLabels { plugin: self.plugin.clone(), stage: stage.as_str() };
            self.families.call_seconds.get_or_create_owned(&labels)
        });
        seconds.observe(elapsed.as_secs_f64());
        let calls = meter.calls[outcome as usize].get_or_init(|| {
            let (stage, outcome) = (stage.as_str(), outcome.as_str());
            self.families.calls.get_or_create_owned(&CallLabels { plugin: self.plugin.clone(), stage, outcome })
        });
        calls.inc();
    }

    /// The plugin broke its contract.
    pub fn fault(&self, stage: Stage, kind: FaultKind) {
        let labels = FaultLabels { plugin: self.plugin.clone(), stage: stage.as_str(), kind: kind.as_str() };
        self.families.faults.get_or_create(&labels).inc();
    }

    /// An instance came to life.
    pub fn instance_started(&self) {
        self.instances.inc();
    }

    /// An instance was dropped; it had so much memory in the end, which is the most that it ever had.
    pub fn instance_ended(&self, memory_bytes: usize) {
        self.instances.dec();
        self.instance_memory.observe(memory_bytes as f64);
    }

    /// The plugin used so much CPU time for a request.
    pub fn cpu(&self, used: Duration) {
        self.cpu.inc_by(used.as_secs_f64());
    }

    /// A filter held text back in an answer: so much of it, at most.
    pub fn held_bytes(&self, bytes: usize) {
        self.held_bytes.observe(bytes as f64);
    }

    /// Text that a filter held back went on, or was taken away, after so long.
    pub fn held(&self, elapsed: Duration) {
        self.held_seconds.observe(elapsed.as_secs_f64());
    }

    /// Text for the log that was dropped, as it was too much.
    pub fn log_dropped(&self, bytes: usize) {
        self.log_dropped.inc_by(u64::try_from(bytes).unwrap_or(u64::MAX));
    }

    /// The plugin's breaker stands like this from now on.
    pub fn breaker(&self, state: BreakerState) {
        self.breaker.set(match state {
            BreakerState::Closed => 0,
            BreakerState::Trial => 1,
            BreakerState::Open => 2,
        });
    }

    /// The breaker kept a request from the plugin.
    pub fn refused(&self) {
        self.refused.inc();
    }

    /// The plugin gave a value to an instrument, and it was not taken.
    pub fn custom_dropped(&self, reason: Dropped) {
        let labels = DroppedLabels { plugin: self.plugin.clone(), reason: reason.as_str() };
        self.families.custom_dropped.get_or_create(&labels).inc();
    }
}
