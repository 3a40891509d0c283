//! What the host keeps beside one instance: whose it is, and what it may still use.

use std::sync::Arc;

use telemetry::{Instrument, PluginMeter};
use wasmtime::ResourceLimiter;

use crate::budget::{Budget, Cancellation};
use crate::fault::Breach;
use crate::kv::GrantedStore;
use crate::limits::{CORE_INSTANCES_PER_COMPONENT, Limits, MEMORIES_PER_COMPONENT, TABLES_PER_COMPONENT};
use crate::spec::ModelContext;
use crate::wasi::QuietWasi;

/// The data of one instance's store.
pub(crate) struct GuestState {
    pub(crate) owner: Arc<Owner>,
    pub(crate) budget: Budget,
    pub(crate) memory: MemoryLimiter,
    /// Answers of the request that were opened so far, and 1 before there is any.
    pub(crate) answers: u32,
    pub(crate) host_calls: u32,
    pub(crate) log_bytes: usize,
    /// `None` in a trial, which is no call of a request.
    pub(crate) meter: Option<Arc<PluginMeter>>,
    /// A trial's own stores, made when it first asks for one.
    pub(crate) scratch: Option<Vec<GrantedStore>>,
    /// Made when a `wasi = "quiet"` guest first asks for it.
    pub(crate) wasi: Option<Box<QuietWasi>>,
}

/// What all instances of one plugin share.
pub(crate) struct Owner {
    /// The operator's name for the plugin.
    pub(crate) name: String,
    pub(crate) limits: Limits,
    /// The plugin's configuration, as text and taken apart.
    pub(crate) config_json: String,
    pub(crate) config: serde_json::Value,
    pub(crate) model: ModelContext,
    pub(crate) stores: Vec<GrantedStore>,
    pub(crate) instruments: Vec<Arc<Instrument>>,
}

impl GuestState {
    pub(crate) fn new(owner: &Arc<Owner>, cancellation: Arc<Cancellation>, meter: Option<Arc<PluginMeter>>) -> Self {
        Self {
            owner: Arc::clone(owner),
            budget: Budget::new(cancellation),
            memory: MemoryLimiter {
                memory_bytes: 0,
                memory_bytes_max: owner.limits.memory_bytes_max,
                table_elements: 0,
                table_elements_max: owner.limits.table_elements_max,
            },
            answers: 1,
            host_calls: 0,
            log_bytes: 0,
            meter,
            scratch: None,
            wasi: None,
        }
    }

    /// Begins another request in the same instance.
    pub(crate) fn renew(&mut self, cancellation: Arc<Cancellation>) {
        self.budget = Budget::new(cancellation);
        self.answers = 1;
        self.host_calls = 0;
        self.log_bytes = 0;
        if let Some(wasi) = &mut self.wasi {
            wasi.renew(self.owner.limits.log_bytes_max);
        }
    }

    /// Counts a call of the host; every import of the contract begins with this. Those of WASI cost microseconds each, and the
    /// guest's CPU budget counts them.
    pub(crate) fn count_host_call(&mut self) -> wasmtime::Result<()> {
        let limit = self.owner.limits.host_calls_max.saturating_mul(self.answers);
        if self.host_calls >= limit {
            return Err(Breach::HostCalls { limit }.into());
        }
        self.host_calls += 1;
        Ok(())
    }
}

/// Bounds memories and tables of an instance, all of them together. Growth beyond the limit is an error, not a `-1`
/// for the guest: a Rust guest answers `-1` with an anonymous `unreachable`, and nobody learns why.
pub(crate) struct MemoryLimiter {
    /// Memories never shrink, so this is the most that there ever was.
    pub(crate) memory_bytes: usize,
    memory_bytes_max: usize,
    table_elements: usize,
    table_elements_max: usize,
}

impl MemoryLimiter {
    pub(crate) fn memory_bytes(&self) -> usize {
        self.memory_bytes
    }
}

impl ResourceLimiter for MemoryLimiter {
    // The pool has room for so many; where there is none, these are the same bounds.
    fn instances(&self) -> usize {
        CORE_INSTANCES_PER_COMPONENT as usize
    }

    fn memories(&self) -> usize {
        MEMORIES_PER_COMPONENT as usize
    }

    fn tables(&self) -> usize {
        TABLES_PER_COMPONENT as usize
    }

    fn memory_growing(&mut self, current: usize, desired: usize, _maximum: Option<usize>) -> wasmtime::Result<bool> {
        let wanted = self.memory_bytes.saturating_add(desired.saturating_sub(current));
        if wanted > self.memory_bytes_max {
            return Err(Breach::Memory { wanted, limit: self.memory_bytes_max }.into());
        }
        self.memory_bytes = wanted;
        Ok(true)
    }

    fn table_growing(&mut self, current: usize, desired: usize, _maximum: Option<usize>) -> wasmtime::Result<bool> {
        let wanted = self.table_elements.saturating_add(desired.saturating_sub(current));
        if wanted > self.table_elements_max {
            return Err(Breach::Table { wanted, limit: self.table_elements_max }.into());
        }
        self.table_elements = wanted;
        Ok(true)
    }
}
