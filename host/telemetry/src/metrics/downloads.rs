//! What downloads of models leave behind.

use std::sync::atomic::AtomicU64;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::ModelLabel;

/// Downloads of models. Clones share the same families.
#[derive(Debug, Clone, Default)]
pub struct DownloadMetrics {
    bytes: Family<ModelLabel, Counter>,
    retries: Family<ModelLabel, Counter>,
    verify_failures: Family<ModelLabel, Counter>,
    size_bytes: Family<ModelLabel, Gauge<u64, AtomicU64>>,
    done_bytes: Family<ModelLabel, Gauge<u64, AtomicU64>>,
}

/// Downloads of one model.
#[derive(Debug, Clone)]
pub struct ModelDownloads {
    /// Bytes that came over the network, those of failed attempts included.
    pub bytes: Counter,
    /// Attempts that were repeated.
    pub retries: Counter,
    /// Files whose digest was not what the hub says.
    pub verify_failures: Counter,
    /// Bytes of the download that is under way; 0 when there is none.
    pub size_bytes: Gauge<u64, AtomicU64>,
    /// Bytes of it that are there.
    pub done_bytes: Gauge<u64, AtomicU64>,
}

impl DownloadMetrics {
    pub(super) fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        registry.register(
            "outrigger_download_bytes",
            "Bytes of models that came over the network, those of failed attempts included",
            metrics.bytes.clone(),
        );
        registry.register(
            "outrigger_download_retries",
            "Attempts to download that were repeated",
            metrics.retries.clone(),
        );
        registry.register(
            "outrigger_download_verify_failures",
            "Downloaded or found files whose digest was not what the hub says",
            metrics.verify_failures.clone(),
        );
        registry.register(
            "outrigger_download_size_bytes",
            "Bytes of the download that is under way; 0 when there is none",
            metrics.size_bytes.clone(),
        );
        registry.register(
            "outrigger_download_done_bytes",
            "Bytes that are there of the download that is under way",
            metrics.done_bytes.clone(),
        );
        metrics
    }

    /// What is counted of one model, from now on with its zeros.
    #[must_use]
    pub fn of(&self, model: &str) -> ModelDownloads {
        let label = ModelLabel::of(model);
        ModelDownloads {
            bytes: self.bytes.get_or_create_owned(&label),
            retries: self.retries.get_or_create_owned(&label),
            verify_failures: self.verify_failures.get_or_create_owned(&label),
            size_bytes: self.size_bytes.get_or_create_owned(&label),
            done_bytes: self.done_bytes.get_or_create_owned(&label),
        }
    }
}
