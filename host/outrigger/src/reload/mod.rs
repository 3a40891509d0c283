//! Plugins replaced while requests run: read the configuration again, load everything anew, and publish the new set only if all
//! of it loads. Requests keep the set that they began with, which is freed with the last of them.

mod admin;
mod everything;
mod links;
mod loader;
mod watch;

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, anyhow};
use inference::RequestId;
use plugin::{FileStamp, ModelContext, Plugins};
use serde::Serialize;
use server::Models;
use telemetry::PluginMetrics;
use tokio::sync::watch as channel;

use crate::cli::SettingsArguments;
use crate::config::{PluginTable, Settings, choose_plugins};
use loader::{LoadRefused, LoadedSets, ModelReport};

pub(crate) use admin::Admin;
pub(crate) use everything::Everything;
pub(crate) use loader::PluginLoader;
pub(crate) use watch::watch;

/// What asked for a reload.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Trigger {
    /// The process started.
    Start,
    /// SIGHUP.
    Signal,
    /// A file that the plugins were read from is another one now.
    FileChange,
    /// `POST /admin/plugins/reload`.
    Admin,
}

/// How a reload ended.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// The new set answers from now on.
    Published,
    /// The old one goes on.
    Refused { message: String, reports: Vec<ModelReport> },
    /// There is nothing to replace yet.
    NotLoaded,
}

/// Replaces the plugins of all models, one attempt after the other.
pub(crate) struct Reloader {
    arguments: SettingsArguments,
    /// The configuration's file as it was at the start: loading a model takes long enough to edit it.
    config_at_start: Option<FileStamp>,
    tables_at_start: Vec<PluginTable>,
    /// By model.
    warm_prompts: Vec<(String, Vec<String>)>,
    models: Models,
    metrics: PluginMetrics,
    /// What runs, once there is a model that answers chats.
    running: channel::Sender<Option<Arc<Running>>>,
    /// Attempts that have begun. Read before waiting for a turn, so that one attempt answers all who came before it began.
    begun: AtomicU64,
    /// Held by whoever changes which plugins run: a reload, or a model that comes or goes.
    turn: tokio::sync::Mutex<Arc<Outcome>>,
    loader: Mutex<PluginLoader>,
    /// One at a time: the engine's line has a place beyond those of requests that were let in, and no more.
    warming: tokio::sync::Mutex<()>,
}

/// The sets that new requests get, all of one generation.
#[derive(Clone)]
pub(crate) struct Running {
    /// Counts from 1.
    generation: u64,
    published_by: Trigger,
    published_at: SystemTime,
    /// What was asked for: a model that comes later gets the same.
    tables: Vec<PluginTable>,
    /// By model.
    sets: Vec<(String, Arc<Plugins>)>,
    /// What they, and whatever was refused since, were read from.
    files: Vec<FileStamp>,
    refusal: Option<Refusal>,
}

/// The plugins of a model that has come. While this lives, nobody replaces them.
pub(crate) struct Joined<'a> {
    pub(crate) plugins: Arc<Plugins>,
    _turn: tokio::sync::MutexGuard<'a, Arc<Outcome>>,
}

/// The last attempt that failed since the set was published.
#[derive(Debug, Clone, Serialize)]
struct Refusal {
    unix_seconds: u64,
    by: Trigger,
    message: String,
}

impl Reloader {
    pub(crate) fn new(
        arguments: SettingsArguments,
        settings: &Settings,
        models: Models,
        metrics: PluginMetrics,
    ) -> Self {
        let warm_prompts = settings.models.iter().map(|model| (model.id.clone(), model.warm_prompts.clone()));
        Self {
            config_at_start: arguments.config.as_ref().map(FileStamp::of),
            arguments,
            tables_at_start: settings.plugins.clone(),
            warm_prompts: warm_prompts.collect(),
            models,
            loader: Mutex::new(PluginLoader::new(settings, metrics.clone())),
            metrics,
            running: channel::Sender::new(None),
            begun: AtomicU64::new(0),
            turn: tokio::sync::Mutex::new(Arc::new(Outcome::NotLoaded)),
            warming: tokio::sync::Mutex::new(()),
        }
    }

    /// Loads the plugins of the generation that runs for a model that has come, or the first generation for the first of them.
    pub(crate) async fn join(self: &Arc<Self>, context: ModelContext) -> anyhow::Result<Joined<'_>> {
        let turn = self.turn.lock().await;
        let (this, tables) = (Arc::clone(self), self.tables_now());
        let loading = tokio::task::spawn_blocking(move || this.loader().join(context, &tables));
        let LoadedSets { sets, files } = loading.await.context(PANICKED)?.map_err(|refused| refused.error)?;
        let plugins = Arc::clone(&sets.first().context("the plugins are loaded and not there")?.1);
        let mut running = self.running.borrow().as_deref().cloned().unwrap_or_else(|| Running {
            generation: 1,
            published_by: Trigger::Start,
            published_at: SystemTime::now(),
            tables: self.tables_at_start.clone(),
            sets: Vec::new(),
            files: self.config_at_start.iter().cloned().collect(),
            refusal: None,
        });
        running.sets.extend(sets);
        running.files.extend(files);
        self.running.send_replace(Some(Arc::new(running)));
        Ok(Joined { plugins, _turn: turn })
    }

    /// A model that encodes has come, and no plugin may be meant for it.
    pub(crate) async fn join_encoder(&self, id: &str) -> anyhow::Result<()> {
        let _turn = self.turn.lock().await;
        self.loader().join_encoder(id, &self.tables_now())
    }

    /// A model has gone, and its plugins go with it.
    pub(crate) async fn leave(&self, id: &str) {
        let _turn = self.turn.lock().await;
        self.loader().leave(id);
        let Some(mut running) = self.running.borrow().as_deref().cloned() else { return };
        running.sets.retain(|(model, _)| model != id);
        self.running.send_replace(Some(Arc::new(running)));
    }

    fn tables_now(&self) -> Vec<PluginTable> {
        self.running.borrow().as_ref().map_or_else(|| self.tables_at_start.clone(), |running| running.tables.clone())
    }

    fn loader(&self) -> MutexGuard<'_, PluginLoader> {
        self.loader.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether there is something to replace.
    pub(crate) fn has_started(&self) -> bool {
        self.running.borrow().is_some()
    }

    /// Waits until there is something to replace.
    pub(crate) async fn is_started(&self) {
        // The sender lives in `self`, so there is no error to expect.
        let _ = self.running.subscribe().wait_for(Option::is_some).await;
    }

    /// Replaces the plugins, or has whoever is about to do it answer for us too. Goes on when nobody waits for it any more.
    pub(crate) async fn reload(self: &Arc<Self>, trigger: Trigger) -> Arc<Outcome> {
        let this = Arc::clone(self);
        let attempt = tokio::spawn(async move { this.take_turn(trigger).await });
        attempt
            .await
            .unwrap_or_else(|_| Arc::new(Outcome::Refused { message: PANICKED.to_owned(), reports: Vec::new() }))
    }

    async fn take_turn(self: Arc<Self>, trigger: Trigger) -> Arc<Outcome> {
        let begun = self.begun.load(Ordering::Acquire);
        let mut turn = self.turn.lock().await;
        if self.begun.load(Ordering::Acquire) > begun {
            // It began after we came, so it has seen what we came for.
            return Arc::clone(&turn);
        }
        self.begun.fetch_add(1, Ordering::Release);
        *turn = Arc::new(self.attempt(trigger).await);
        Arc::clone(&turn)
    }

    async fn attempt(self: &Arc<Self>, trigger: Trigger) -> Outcome {
        let Some(before) = self.running.borrow().clone() else { return Outcome::NotLoaded };
        // What is not read in this attempt has been looked at too: it would otherwise be another file for ever.
        let seen: Vec<FileStamp> = before.files.iter().map(|file| FileStamp::of(&file.path)).collect();
        let this = Arc::clone(self);
        let loaded = tokio::task::spawn_blocking(move || this.load()).await;
        let loaded = loaded.unwrap_or_else(|_| {
            let error = anyhow!("{PANICKED}");
            Err(LoadRefused { error, reports: Vec::new(), files: Vec::new() })
        });
        let outcome = match loaded {
            Ok((tables, sets)) => self.publish(&before, tables, sets, trigger),
            Err(refused) => self.refuse(&before, seen, refused, trigger),
        };
        self.metrics.reloaded(matches!(outcome, Outcome::Published));
        outcome
    }

    /// Reads the configuration and loads what its tables say.
    fn load(&self) -> Result<(Vec<PluginTable>, LoadedSets), LoadRefused> {
        let config: Vec<FileStamp> = self.arguments.config.iter().map(FileStamp::of).collect();
        let tables =
            self.tables().map_err(|error| LoadRefused { error, reports: Vec::new(), files: config.clone() })?;
        match self.loader().load(&tables) {
            Ok(mut sets) => {
                sets.files.extend(config);
                Ok((tables, sets))
            }
            Err(mut refused) => {
                refused.files.extend(config);
                Err(refused)
            }
        }
    }

    /// The `[[plugin]]` tables, as flags and file say them now. Of the file nothing else counts.
    fn tables(&self) -> anyhow::Result<Vec<PluginTable>> {
        let said = self.arguments.said.clone().or_file(self.arguments.config.as_deref())?;
        choose_plugins(said.plugin_names, said.plugin_tables)
    }

    fn publish(
        self: &Arc<Self>,
        before: &Running,
        tables: Vec<PluginTable>,
        loaded: LoadedSets,
        trigger: Trigger,
    ) -> Outcome {
        let generation = before.generation + 1;
        let LoadedSets { sets, files } = loaded;
        for service in self.models.iter() {
            if let Some((_, plugins)) = sets.iter().find(|(model, _)| model == service.id()) {
                service.replace_pipeline(Arc::clone(plugins) as Arc<dyn inference::Pipeline>);
            }
        }
        self.running.send_replace(Some(Arc::new(Running {
            generation,
            published_by: trigger,
            published_at: SystemTime::now(),
            tables,
            sets,
            files,
            refusal: None,
        })));
        tracing::info!(generation, by = ?trigger, "the plugins were replaced; running requests end with the old ones");
        let this = Arc::clone(self);
        // Nobody waits for it: a request that comes first computes its own beginning.
        tokio::spawn(async move { this.warm(generation).await });
        Outcome::Published
    }

    /// `seen`: the files of the old set, as they were when the attempt began.
    fn refuse(&self, before: &Running, seen: Vec<FileStamp>, refused: LoadRefused, trigger: Trigger) -> Outcome {
        let LoadRefused { error, reports, files } = refused;
        let message = format!("{error:#}");
        tracing::error!(generation = before.generation, by = ?trigger, "the plugins were not replaced and go on as they are: {message}");
        let known = seen.into_iter().chain(files).map(|file| (file.path.clone(), file));
        let files = known.collect::<BTreeMap<PathBuf, FileStamp>>().into_values().collect();
        let refusal = Refusal { unix_seconds: unix_seconds(SystemTime::now()), by: trigger, message: message.clone() };
        let running = Running { files, refusal: Some(refusal), ..before.clone() };
        self.running.send_replace(Some(Arc::new(running)));
        Outcome::Refused { message, reports }
    }

    /// Computes the configured beginnings of prompts as the new plugins render them; one that they render as before costs a token.
    async fn warm(&self, generation: u64) {
        let _turn = self.warming.lock().await;
        for service in self.models.iter() {
            let Some(serving) = service.serving() else { continue };
            let of_model = self.warm_prompts.iter().filter(|(model, _)| model == service.id());
            for (number, prompt) in (1..).zip(of_model.flat_map(|(_, prompts)| prompts)) {
                if self.running.borrow().as_ref().is_none_or(|running| running.generation != generation) {
                    return;
                }
                if let Err(error) = serving.warm(RequestId::new(format!("warm-{generation}-{number}")), prompt).await {
                    tracing::warn!("cannot warm prompt {number} of `warm_prompts` with the new plugins: {error}");
                }
            }
        }
    }
}

impl fmt::Debug for Reloader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reloader").finish_non_exhaustive()
    }
}

const PANICKED: &str = "the host panicked; this is a bug of Outrigger, please report it";

fn unix_seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
