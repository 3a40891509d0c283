//! How the plugins of a set are: what `/admin/plugins` shows.

use std::time::Instant;

use serde::Serialize;

use crate::breaker::BreakerStatus;
use crate::plugins::Plugins;
use crate::report::LoadReport;

/// What a plugin is, and what it has done since it was loaded.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PluginStatus {
    /// What loading it found out.
    #[serde(flatten)]
    pub report: LoadReport,
    /// Calls into it.
    pub calls: u64,
    /// Calls in which it broke its contract.
    pub faults: u64,
    /// The last of them.
    pub last_fault: Option<FaultStatus>,
    /// Whether it is asked, or is given up for a while.
    pub breaker: BreakerStatus,
}

/// A fault, for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FaultStatus {
    /// Seconds since 1970 in UTC.
    pub unix_seconds: u64,
    /// In which stage.
    pub stage: &'static str,
    /// How.
    pub kind: &'static str,
    /// The request that met it.
    pub request_id: String,
    /// What the sandbox reported, which may be the guest's own words.
    pub detail: String,
}

impl Plugins {
    /// How each plugin of the set is, in the order of the configuration.
    #[must_use]
    pub fn status(&self) -> Vec<PluginStatus> {
        let (set, now) = (self.set(), Instant::now());
        set.plugins
            .iter()
            .zip(&set.reports)
            .map(|(plugin, report)| PluginStatus {
                report: LoadReport::clone(report),
                calls: plugin.tally.calls(),
                faults: plugin.tally.faults(),
                last_fault: plugin.tally.last_fault(),
                breaker: plugin.breaker.status(now),
            })
            .collect()
    }
}
