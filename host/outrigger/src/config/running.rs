//! How a plugin is run: when it is given up for a while, and whether its instances are reused.

use serde::Deserialize;

/// `[plugin.breaker]`: what differs from the usual.
#[derive(Debug, Default, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct BreakerTable {
    /// Faults in a row; 0: it is never given up.
    pub(crate) faults: Option<u32>,
    pub(crate) within_ms: Option<u64>,
    pub(crate) pause_ms: Option<u64>,
    pub(crate) pause_max_ms: Option<u64>,
}

/// `[plugin.instance]`: one instance per request unless `reuse` is set.
#[derive(Debug, Default, Clone, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct InstanceTable {
    pub(crate) reuse: bool,
    pub(crate) idle: Option<u32>,
    pub(crate) requests: Option<u32>,
    pub(crate) growth_bytes: Option<u64>,
    pub(crate) idle_ms: Option<u64>,
}
