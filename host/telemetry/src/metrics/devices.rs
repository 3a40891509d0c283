//! What computes, what does not and why, and the memory of it.

use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// Devices and their memory. Clones share the same families. Every label is one of our own words, a served model's name, or
/// the name of one of the machine's few devices.
#[derive(Debug, Clone, Default)]
pub struct DeviceMetrics {
    info: Family<DeviceLabels, Gauge>,
    skipped: Family<SkippedLabels, Gauge>,
    layers: Family<PlaceLabels, Gauge>,
    memory: Family<MemoryLabels, Gauge<u64, AtomicU64>>,
    /// What `info` and `skipped` show: a family does not tell.
    shown: Arc<Mutex<Shown>>,
}

#[derive(Debug, Default)]
struct Shown {
    info: Vec<DeviceLabels>,
    skipped: Vec<SkippedLabels>,
}

impl DeviceMetrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        registry.register(
            "outrigger_device_info",
            "What computes the model: backend, device, and the CPU variant beside it; always 1",
            metrics.info.clone(),
        );
        registry.register(
            "outrigger_device_skipped",
            "Backends that do not compute the model, and why; always 1",
            metrics.skipped.clone(),
        );
        registry.register(
            "outrigger_model_layers",
            "Layers of the model by where they are computed, the output counted as one",
            metrics.layers.clone(),
        );
        registry.register(
            "outrigger_model_memory_bytes",
            "Memory of the model by part and place: as expected from its header, and as llama.cpp allocated it",
            metrics.memory.clone(),
        );
        metrics
    }

    /// A device that computes a model.
    pub fn computes(&self, model: &str, backend: &str, device: &str, cpu_variant: &str) {
        let labels = DeviceLabels {
            model: model.to_owned(),
            backend: backend.to_owned(),
            device: device.to_owned(),
            cpu_variant: cpu_variant.to_owned(),
        };
        self.info.get_or_create(&labels).set(1);
        self.shown().info.push(labels);
    }

    /// A backend that does not.
    pub fn skipped(&self, model: &str, backend: &'static str, reason: &'static str) {
        let labels = SkippedLabels { model: model.to_owned(), backend, reason };
        self.skipped.get_or_create(&labels).set(1);
        self.shown().skipped.push(labels);
    }

    /// Layers of a model at one place.
    pub fn layers(&self, model: &str, place: Place, count: u32) {
        let labels = PlaceLabels { model: model.to_owned(), place: place.as_str() };
        self.layers.get_or_create(&labels).set(count.into());
    }

    /// Memory of one part of a model at one place.
    pub fn memory(&self, model: &str, kind: MemoryKind, part: &'static str, place: Place, bytes: u64) {
        let labels = MemoryLabels { model: model.to_owned(), kind: kind.as_str(), part, place: place.as_str() };
        self.memory.get_or_create(&labels).set(bytes);
    }

    /// Nothing computes the model any more, or something else is about to.
    pub fn forget(&self, model: &str) {
        let mut shown = self.shown();
        for labels in shown.info.extract_if(.., |labels| labels.model == model) {
            self.info.remove(&labels);
        }
        for labels in shown.skipped.extract_if(.., |labels| labels.model == model) {
            self.skipped.remove(&labels);
        }
    }

    fn shown(&self) -> MutexGuard<'_, Shown> {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whose memory or work it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// A GPU's.
    Device,
    /// The machine's own.
    Host,
}

impl Place {
    fn as_str(self) -> &'static str {
        match self {
            Self::Device => "device",
            Self::Host => "host",
        }
    }
}

/// Where a number of bytes comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MemoryKind {
    /// Computed from the model's header before it was loaded.
    Expected,
    /// What llama.cpp says it made.
    Allocated,
}

impl MemoryKind {
    fn as_str(self) -> &'static str {
        match self {
            Self::Expected => "expected",
            Self::Allocated => "allocated",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DeviceLabels {
    model: String,
    backend: String,
    device: String,
    cpu_variant: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct SkippedLabels {
    model: String,
    backend: &'static str,
    reason: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PlaceLabels {
    model: String,
    place: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct MemoryLabels {
    model: String,
    kind: &'static str,
    part: &'static str,
    place: &'static str,
}
