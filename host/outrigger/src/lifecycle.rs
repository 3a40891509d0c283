//! Models brought when they are to be there, given up when nobody asks for them, and brought again.
//!
//! Models are loaded one after the other, in the order of the configuration where they are loaded at the start: how much memory
//! there is for one is known when the one before has taken its own.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use inference::{EncodingEngine, Engine, RequestId};
use server::{Models, Service, Serving, Unloaded};
use telemetry::{Metrics, ModelDownloads};
use tokio::sync::{Mutex, OwnedMutexGuard};

use crate::config::{Load, ModelSettings, Settings};
use crate::placement::{self, Held};
use crate::reload::Reloader;
use crate::source::{Located, Source};
use crate::wiring::{self, Loaded, LoadedEngine};

/// After a model could not be had, before a request makes us try again: a hub that is down is not asked at every request.
const RELOAD_PAUSE: Duration = Duration::from_secs(5);

/// The models of a host.
pub(crate) struct Lifecycle {
    models: Vec<Model>,
    turn: Turn,
}

/// What the models that are loaded hold. Locked by whoever loads or frees one.
type Turn = Arc<Mutex<Vec<Held>>>;

/// One of them.
#[derive(Clone)]
struct Model {
    settings: Arc<ModelSettings>,
    source: Arc<Source>,
    service: Arc<Service>,
    downloads: ModelDownloads,
    metrics: Metrics,
    reloader: Arc<Reloader>,
    turn: Turn,
}

impl Lifecycle {
    /// `models`: a service for each model of `settings`.
    pub(crate) fn new(
        settings: &Settings,
        models: &Models,
        metrics: &Metrics,
        reloader: &Arc<Reloader>,
    ) -> anyhow::Result<Self> {
        let turn = Turn::default();
        let model = |(settings_of_one, service): (&ModelSettings, &Arc<Service>)| {
            anyhow::Ok(Model {
                source: Arc::new(Source::new(&settings_of_one.reference, &settings.store)?),
                downloads: metrics.downloads.of(&settings_of_one.id),
                settings: Arc::new(settings_of_one.clone()),
                service: Arc::clone(service),
                metrics: metrics.clone(),
                reloader: Arc::clone(reloader),
                turn: Arc::clone(&turn),
            })
        };
        let models = settings.models.iter().zip(models.iter()).map(model).collect::<anyhow::Result<_>>()?;
        Ok(Self { models, turn })
    }

    /// Brings what is to be there from the start, and sees to it that the rest comes when it is asked for (R29). A model that
    /// cannot be brought at the start is an error; later, it is what its requests are told.
    pub(crate) async fn bring(&self) -> anyhow::Result<()> {
        let mut at_start = Vec::new();
        for model in &self.models {
            if model.is_loaded_at_start()? {
                at_start.push(model);
            } else {
                model.service.on_first_use();
                tracing::info!(model = model.settings.id, "the model will be loaded at its first use");
                tokio::spawn(model.clone().live(None));
            }
        }
        for model in at_start {
            match model.load().await {
                Ok(located) => drop(tokio::spawn(model.clone().live(Some(located)))),
                Err(error) => {
                    // The process ends, and C++ must not be reading another one then.
                    let _settled = self.turn.lock().await;
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    /// Whether C++ is reading or freeing a model now.
    pub(crate) fn is_busy(&self) -> bool {
        self.turn.try_lock().is_err()
    }
}

impl Model {
    fn is_loaded_at_start(&self) -> anyhow::Result<bool> {
        match self.settings.load {
            Some(load) => Ok(load == Load::Start),
            None => Ok(!self.source.is_missing()?),
        }
    }

    /// For ever: loaded, given up, wanted, loaded. `located` keeps the store from removing a model that is loaded.
    async fn live(self, mut located: Option<Located>) {
        loop {
            if let Some(located) = located.take() {
                let Some(idle) = self.settings.idle_unload else { return std::future::pending().await };
                let unloaded = self.service.unloaded_when_idle(idle).await;
                let (id, idle_s) = (&self.settings.id, idle.as_secs());
                tracing::info!(model = id, idle_s, "nobody asked for the model, so it is freed until somebody does");
                self.give_up(unloaded).await;
                drop(located);
            }
            self.service.wanted().await;
            match self.load().await {
                Ok(new) => located = Some(new),
                Err(error) => {
                    tracing::error!(model = self.settings.id, "{error:#}");
                    self.service.failed(format!("{error:#}"));
                    tokio::time::sleep(RELOAD_PAUSE).await;
                }
            }
        }
    }

    /// Downloads it if need be, loads it when it is its turn, and serves it.
    async fn load(&self) -> anyhow::Result<Located> {
        let loaded = self.try_load().await;
        if loaded.is_err() {
            // What is left of it went with the error, or goes with the last of its plugins.
            self.forget(Arc::clone(&self.turn).lock_owned().await);
        }
        loaded
    }

    async fn try_load(&self) -> anyhow::Result<Located> {
        let located = self.source.locate(&self.downloads, |progress| self.service.loading(progress)).await?;
        let id = &self.settings.id;
        self.service.loading(format!("{id}: waiting until another model is loaded"));
        let turn = Arc::clone(&self.turn).lock_owned().await;
        self.service.loading(format!("{id}: loading"));
        let (settings, metrics) = (Arc::clone(&self.settings), self.metrics.clone());
        // The turn goes along: this runs to its end even where nobody waits for it any more.
        let work = move || {
            let mut held = turn;
            let loaded = wiring::load(&settings, &located, &held, &metrics)?;
            held.push(loaded.held.clone());
            anyhow::Ok((loaded, located))
        };
        let (loaded, located) = tokio::task::spawn_blocking(work).await.context("loading panicked")??;
        let Loaded { engine, device, .. } = loaded;
        self.service.computes_with(device);
        match engine {
            LoadedEngine::Chat(engine) => self.serve(engine).await?,
            LoadedEngine::Encoder(engine) => self.serve_encoder(engine).await?,
        }
        Ok(located)
    }

    async fn serve(&self, engine: Arc<dyn Engine>) -> anyhow::Result<()> {
        let joined = match self.reloader.join(wiring::context(&*engine)).await {
            Ok(joined) => joined,
            Err(error) => {
                dropped_elsewhere(engine).await;
                return Err(error);
            }
        };
        let serving = Serving { engine, pipeline: Arc::clone(&joined.plugins) as _ };
        self.warm(&serving).await;
        self.service.ready(serving);
        Ok(())
    }

    async fn serve_encoder(&self, engine: Arc<dyn EncodingEngine>) -> anyhow::Result<()> {
        if let Err(error) = self.reloader.join_encoder(&self.settings.id).await {
            dropped_elsewhere(engine).await;
            return Err(error);
        }
        self.service.ready_to_encode(engine);
        Ok(())
    }

    /// Computes the configured beginnings of prompts. Without one that cannot be computed everything works, only slower.
    async fn warm(&self, serving: &Serving) {
        let prompts = &self.settings.warm_prompts;
        for (number, prompt) in (1..).zip(prompts) {
            self.service.loading(format!("{}: warming prompt {number} of {}", self.settings.id, prompts.len()));
            let started = Instant::now();
            match serving.warm(RequestId::new(format!("warm-{number}")), prompt).await {
                Ok(tokens) => {
                    tracing::info!(number, tokens, elapsed_ms = started.elapsed().as_millis(), "prompt warmed");
                }
                Err(error) => tracing::warn!("cannot warm prompt {number} of `warm_prompts`: {error}"),
            }
        }
    }

    /// Frees a model, before anybody loads another in its place.
    async fn give_up(&self, unloaded: Unloaded) {
        let turn = Arc::clone(&self.turn).lock_owned().await;
        self.reloader.leave(&self.settings.id).await;
        dropped_elsewhere(unloaded).await;
        self.forget(turn);
    }

    fn forget(&self, mut held: OwnedMutexGuard<Vec<Held>>) {
        held.retain(|held| held.id != self.settings.id);
        placement::forget(&self.settings.id, &self.metrics.devices);
    }
}

/// Drops what takes its time, on a thread that may, and gives back to the system what the allocator kept of it.
async fn dropped_elsewhere<T: Send + 'static>(value: T) {
    let dropping = move || {
        drop(value);
        #[cfg(all(target_os = "linux", target_env = "gnu"))]
        #[expect(unsafe_code, reason = "std cannot tell the allocator")]
        // SAFETY: takes no pointers, and may be called at any time from any thread.
        unsafe {
            libc::malloc_trim(0);
        }
    };
    if tokio::task::spawn_blocking(dropping).await.is_err() {
        tracing::error!("freeing a model panicked");
    }
}
