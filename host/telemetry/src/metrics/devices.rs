//! What computes, what does not and why, and the memory of it.

use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// Devices and their memory. Clones share the same families. Every label is one of our own words, or the name of one of the
/// machine's few devices.
#[derive(Debug, Clone, Default)]
pub struct DeviceMetrics {
    info: Family<DeviceLabels, Gauge>,
    skipped: Family<SkippedLabels, Gauge>,
    layers: Family<PlaceLabel, Gauge>,
    memory: Family<MemoryLabels, Gauge<u64, AtomicU64>>,
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

    /// A device that computes.
    pub fn computes(&self, backend: &str, device: &str, cpu_variant: &str) {
        let labels = DeviceLabels {
            backend: backend.to_owned(),
            device: device.to_owned(),
            cpu_variant: cpu_variant.to_owned(),
        };
        self.info.get_or_create(&labels).set(1);
    }

    /// A backend that does not.
    pub fn skipped(&self, backend: &'static str, reason: &'static str) {
        self.skipped.get_or_create(&SkippedLabels { backend, reason }).set(1);
    }

    /// Layers at one place.
    pub fn layers(&self, place: Place, count: u32) {
        self.layers.get_or_create(&PlaceLabel { place: place.as_str() }).set(count.into());
    }

    /// Memory of one part at one place.
    pub fn memory(&self, kind: MemoryKind, part: &'static str, place: Place, bytes: u64) {
        let labels = MemoryLabels { kind: kind.as_str(), part, place: place.as_str() };
        self.memory.get_or_create(&labels).set(bytes);
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
    backend: String,
    device: String,
    cpu_variant: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct SkippedLabels {
    backend: &'static str,
    reason: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PlaceLabel {
    place: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct MemoryLabels {
    kind: &'static str,
    part: &'static str,
    place: &'static str,
}
