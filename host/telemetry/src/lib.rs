//! What the house says about itself: metric families with their exposition, and the log.
//!
//! [`Metrics`] owns the registry; each room gets the typed fields it records into and never sees a metric's name.
//! [`logging`] sets up the one subscriber of the process.

pub mod logging;
mod metrics;

pub use metrics::{
    BreakerState, DeviceMetrics, DownloadMetrics, Dropped, Endpoint, Format, InferenceEnd, InferenceMetrics,
    Instrument, InstrumentKind, InstrumentSpec, LineMetrics, MemoryKind, Metrics, ModelDownloads, OTHER, Outcome,
    Place, PluginMeter, PluginMetrics, RequestLabels, Standing,
};
