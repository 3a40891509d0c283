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
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::anyhow;
use inference::RequestId;
use plugin::{FileStamp, LoadReport, Plugins};
use serde::Serialize;
use server::Service;
use telemetry::PluginMetrics;
use tokio::sync::watch as channel;

use crate::cli::SettingsArguments;
use crate::config::{PluginTable, choose_plugins};
use loader::LoadRefused;

pub(crate) use admin::Admin;
pub(crate) use everything::Everything;
pub(crate) use loader::{LoadedSet, PluginLoader};
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
    Refused { message: String, reports: Vec<LoadReport> },
    /// There is nothing to replace yet.
    NotLoaded,
}

/// Replaces the plugins of a service, one attempt after the other.
pub(crate) struct Reloader {
    arguments: SettingsArguments,
    /// The configuration's file as it was at the start: loading a model takes long enough to edit it.
    config_at_start: Option<FileStamp>,
    warm_prompts: Vec<String>,
    service: Arc<Service>,
    metrics: PluginMetrics,
    /// What runs, once the model is loaded.
    running: channel::Sender<Option<Arc<Running>>>,
    /// Attempts that have begun. Read before waiting for a turn, so that one attempt answers all who came before it began.
    begun: AtomicU64,
    turn: tokio::sync::Mutex<Arc<Outcome>>,
    loader: Mutex<Option<PluginLoader>>,
    /// One at a time: the engine's line has a place beyond those of requests that were let in, and no more.
    warming: tokio::sync::Mutex<()>,
}

/// The set that new requests get.
pub(crate) struct Running {
    /// Counts from 1.
    generation: u64,
    published_by: Trigger,
    published_at: SystemTime,
    plugins: Arc<Plugins>,
    /// What it, and whatever was refused since, was read from.
    files: Vec<FileStamp>,
    refusal: Option<Refusal>,
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
        warm_prompts: Vec<String>,
        service: Arc<Service>,
        metrics: PluginMetrics,
    ) -> Self {
        Self {
            config_at_start: arguments.config.as_ref().map(FileStamp::of),
            arguments,
            warm_prompts,
            service,
            metrics,
            running: channel::Sender::new(None),
            begun: AtomicU64::new(0),
            turn: tokio::sync::Mutex::new(Arc::new(Outcome::NotLoaded)),
            loader: Mutex::new(None),
            warming: tokio::sync::Mutex::new(()),
        }
    }

    /// The first set is there. From now on it can be replaced.
    pub(crate) fn started(&self, loader: PluginLoader, set: LoadedSet) {
        *self.loader.lock().unwrap_or_else(PoisonError::into_inner) = Some(loader);
        let files = self.config_at_start.iter().cloned().chain(set.files).collect();
        self.running.send_replace(Some(Arc::new(Running {
            generation: 1,
            published_by: Trigger::Start,
            published_at: SystemTime::now(),
            plugins: set.plugins,
            files,
            refusal: None,
        })));
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
            Ok(set) => self.publish(&before, set, trigger),
            Err(refused) => self.refuse(&before, seen, refused, trigger),
        };
        self.metrics.reloaded(matches!(outcome, Outcome::Published));
        outcome
    }

    /// Reads the configuration and loads what its tables say.
    fn load(&self) -> Result<LoadedSet, LoadRefused> {
        let config: Vec<FileStamp> = self.arguments.config.iter().map(FileStamp::of).collect();
        let tables =
            self.tables().map_err(|error| LoadRefused { error, reports: Vec::new(), files: config.clone() })?;
        let mut loader = self.loader.lock().unwrap_or_else(PoisonError::into_inner);
        let loader = loader.as_mut().expect("it is there since there is something to replace");
        match loader.load(&tables) {
            Ok(mut set) => {
                set.files.extend(config);
                Ok(set)
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

    fn publish(self: &Arc<Self>, before: &Running, set: LoadedSet, trigger: Trigger) -> Outcome {
        let generation = before.generation + 1;
        self.service.replace_pipeline(Arc::clone(&set.plugins) as Arc<dyn inference::Pipeline>);
        self.running.send_replace(Some(Arc::new(Running {
            generation,
            published_by: trigger,
            published_at: SystemTime::now(),
            plugins: set.plugins,
            files: set.files,
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
        let Running { generation, published_by, published_at, ref plugins, .. } = *before;
        let plugins = Arc::clone(plugins);
        let running = Running { generation, published_by, published_at, plugins, files, refusal: Some(refusal) };
        self.running.send_replace(Some(Arc::new(running)));
        Outcome::Refused { message, reports }
    }

    /// Computes the configured beginnings of prompts as the new plugins render them; one that they render as before costs a token.
    async fn warm(&self, generation: u64) {
        let _turn = self.warming.lock().await;
        let Some(serving) = self.service.serving() else { return };
        for (number, prompt) in (1..).zip(&self.warm_prompts) {
            if self.running.borrow().as_ref().is_none_or(|running| running.generation != generation) {
                return;
            }
            if let Err(error) = serving.warm(RequestId::new(format!("warm-{generation}-{number}")), prompt).await {
                tracing::warn!("cannot warm prompt {number} of `warm_prompts` with the new plugins: {error}");
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
