//! The sandbox: one engine, its ticker, the threads that run guests and the room for their instances.

use std::sync::Arc;
use std::thread;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use wasmtime::Engine;

use crate::cache::Cache;
use crate::engine::{self, PoolSize};
use crate::limits::{INSTANCES_DEFAULT, Limits, POOL_MEMORY_BYTES_DEFAULT, QUEUE_WAIT, WORKERS_MAX, WORKERS_MIN};
use crate::load::{self, LoadedPlugin};
use crate::load_error::LoadError;
use crate::report::LoadReport;
use crate::shared::Shared;
use crate::spec::{ModelContext, PluginSpec, SandboxConfig};
use crate::sweeper::Sweeper;
use crate::ticker::Ticker;
use crate::workers::{QueueFull, Workers};

/// Where plugins are loaded and run. One per process; cheap to clone.
#[derive(Clone)]
pub struct Sandbox {
    inner: Arc<Inner>,
}

/// What a set of plugins needs of a sandbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// Instances that live at once.
    pub instances: u32,
    /// Instances that wait for the next request, beside them.
    pub idle_instances: u32,
    /// Bytes of memory that one may have.
    pub memory_bytes: usize,
}

pub(crate) struct Inner {
    pub(crate) engine: Engine,
    pub(crate) ticker: Ticker,
    pub(crate) workers: Workers,
    pub(crate) cache: Option<Cache>,
    pub(crate) shared: Arc<Shared>,
    pub(crate) memory_bytes_max: usize,
    pub(crate) table_elements_max: usize,
    /// Room for instances that wait for a request.
    pub(crate) idle: Arc<Semaphore>,
    /// Ends them when they have waited too long; `None` where there is no room for any.
    pub(crate) sweeper: Option<Sweeper>,
    instances: Arc<Semaphore>,
    instances_max: u32,
    config: SandboxConfig,
}

/// Why there is no sandbox.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// wasmtime could not be set up.
    #[error("failed to set up the WebAssembly engine")]
    Engine(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// A thread could not be started.
    #[error("failed to start a thread for plugins")]
    Thread(#[source] std::io::Error),
    /// A sandbox in which nothing could run.
    #[error("{0} must be at least 1")]
    Zero(&'static str),
}

impl Sandbox {
    /// Sets up the engine and starts the threads.
    pub fn new(config: SandboxConfig) -> Result<Self, SandboxError> {
        Self::with(config, Arc::default())
    }

    fn with(config: SandboxConfig, shared: Arc<Shared>) -> Result<Self, SandboxError> {
        let instances_max = config.max_instances.unwrap_or(INSTANCES_DEFAULT);
        let workers = config.workers.unwrap_or_else(default_workers);
        if instances_max == 0 {
            return Err(SandboxError::Zero("the number of plugin instances"));
        }
        if workers == 0 {
            return Err(SandboxError::Zero("the number of plugin threads"));
        }
        let size = PoolSize {
            instances: instances_max.saturating_add(config.idle_instances),
            memory_bytes: config.memory_bytes_max.unwrap_or(POOL_MEMORY_BYTES_DEFAULT),
            table_elements: Limits::default().table_elements_max,
        };
        let engine =
            engine::build(&size, config.counts_instructions).map_err(|error| SandboxError::Engine(error.into()))?;
        let sweeper = (config.idle_instances > 0).then(Sweeper::start).transpose().map_err(SandboxError::Thread)?;
        let inner = Inner {
            ticker: Ticker::start(&engine).map_err(SandboxError::Thread)?,
            workers: Workers::start(workers).map_err(SandboxError::Thread)?,
            cache: config.cache_dir.clone().and_then(|dir| Cache::open(dir, &engine)),
            shared,
            memory_bytes_max: size.memory_bytes,
            table_elements_max: size.table_elements,
            idle: Arc::new(Semaphore::new(config.idle_instances as usize)),
            sweeper,
            instances: Arc::new(Semaphore::new(instances_max as usize)),
            instances_max,
            engine,
            config,
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// Another sandbox of another size, to replace this one when its plugins are replaced by more or larger ones. Both work until
    /// the last plugin of this one is gone, and what plugins keep in stores and instruments is there in both.
    pub fn resized(&self, room: Room) -> Result<Self, SandboxError> {
        let config = SandboxConfig {
            max_instances: Some(room.instances),
            idle_instances: room.idle_instances,
            memory_bytes_max: Some(room.memory_bytes),
            ..self.inner.config.clone()
        };
        Self::with(config, Arc::clone(&self.inner.shared))
    }

    /// Checks, compiles and tries a plugin. Takes up to some CPU-seconds for a component that is not in the cache:
    /// not for a thread of the async runtime.
    pub fn load(&self, spec: PluginSpec, model: &ModelContext) -> Result<LoadedPlugin, LoadError> {
        self.examine(spec, model).1
    }

    /// [`load`](Self::load), with what was found out, also where the plugin is refused.
    pub fn examine(&self, spec: PluginSpec, model: &ModelContext) -> (LoadReport, Result<LoadedPlugin, LoadError>) {
        load::load(&self.inner, spec, model)
    }

    /// Whether there is as much room.
    #[must_use]
    pub fn has_room(&self, room: Room) -> bool {
        room.instances <= self.inner.instances_max
            && room.idle_instances <= self.inner.config.idle_instances
            && room.memory_bytes <= self.inner.memory_bytes_max
    }

    pub(crate) fn inner(&self) -> &Arc<Inner> {
        &self.inner
    }
}

impl Inner {
    pub(crate) fn counts_instructions(&self) -> bool {
        self.config.counts_instructions
    }

    pub(crate) fn instances_max(&self) -> u32 {
        self.instances_max
    }

    /// Room for a request's instances, all at once: two requests that each hold half of what they need would wait for
    /// each other.
    pub(crate) async fn reserve_instances(&self, count: u32) -> Result<OwnedSemaphorePermit, QueueFull> {
        let room = Arc::clone(&self.instances).acquire_many_owned(count);
        tokio::time::timeout(QUEUE_WAIT, room).await.map_err(|_| QueueFull)?.map_err(|_| QueueFull)
    }

    /// Room now or not at all.
    pub(crate) fn try_reserve_instances(&self, count: u32) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.instances).try_acquire_many_owned(count).ok()
    }
}

fn default_workers() -> usize {
    let cores = thread::available_parallelism().map_or(1, usize::from);
    (cores / 4).clamp(WORKERS_MIN, WORKERS_MAX)
}
