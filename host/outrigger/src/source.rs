//! Where a model comes from: a file of this machine, or the store, which downloads what it lacks.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context as _;
use hub::Hub;
use model::{HubReference, ModelReference};
use store::{LocalModel, Presence, Progress, PullOptions, Snapshot, Store};
use telemetry::ModelDownloads;

use crate::config::StoreSettings;
use crate::progress;

/// Where the configured model comes from.
pub(crate) enum Source {
    /// `file:PATH`.
    File(PathBuf),
    /// The Hub, by way of the store.
    Hub(Box<HubSource>),
}

/// A model of the Hub.
pub(crate) struct HubSource {
    reference: HubReference,
    store: Store,
    hub: Hub,
    options: PullOptions,
}

/// A model's files, complete and on this machine.
pub(crate) struct Located {
    /// The weights; of a split model the first shard.
    pub(crate) path: PathBuf,
    /// The commit; empty for a file.
    pub(crate) revision: String,
    /// The repository's `tokenizer.json`, where it has one.
    pub(crate) tokenizer: Option<PathBuf>,
    /// Keeps `remove` and `prune` away from it.
    local: Option<LocalModel>,
}

impl Source {
    /// The source of `model`.
    pub(crate) fn new(model: &ModelReference, settings: &StoreSettings) -> anyhow::Result<Self> {
        Ok(match model {
            ModelReference::File(path) => Self::File(path.clone()),
            ModelReference::Hub(reference) => Self::Hub(Box::new(HubSource {
                reference: reference.clone(),
                store: Store::open(&settings.models_dir()?)?,
                hub: Hub::new(settings.hub()?)?,
                options: PullOptions { hf_cache: settings.hf_cache.clone(), ..PullOptions::default() },
            })),
        })
    }

    /// Whether something has to be downloaded before the model can be loaded. What is here and not yet verified is not.
    pub(crate) fn is_missing(&self) -> anyhow::Result<bool> {
        match self {
            Self::File(_) => Ok(false),
            Self::Hub(hub) => Ok(matches!(hub.store.find(&hub.reference)?, Presence::Missing { .. })),
        }
    }

    /// The model's files, downloaded if need be. `tick` is called with a sentence about how far that is.
    pub(crate) async fn locate(
        &self,
        metrics: &ModelDownloads,
        mut tick: impl FnMut(String),
    ) -> anyhow::Result<Located> {
        let hub = match self {
            Self::File(path) => return Ok(Located::file(path.clone())),
            Self::Hub(hub) => hub,
        };
        let name = hub.reference.to_string();
        let progress = Arc::new(Progress::default());
        let (mut log, mut before) = (progress::Log::new(&name), Snapshot::default());
        let pulled = progress::follow(hub.pull(&progress), || {
            let now = progress.snapshot();
            record(metrics, &before, &now);
            before = now;
            tick(log.tick(&now));
        });
        let pulled = pulled.await;
        metrics.size_bytes.set(0);
        metrics.done_bytes.set(0);
        Located::local(pulled?)
    }

    /// As [`locate`](Self::locate), for people at a terminal.
    pub(crate) async fn locate_shown(&self) -> anyhow::Result<Located> {
        let hub = match self {
            Self::File(path) => return Ok(Located::file(path.clone())),
            Self::Hub(hub) => hub,
        };
        let progress = Arc::new(Progress::default());
        let pull = hub.pull(&progress);
        Located::local(progress::show(&hub.reference.to_string(), &progress, pull).await?)
    }
}

impl HubSource {
    async fn pull(&self, progress: &Arc<Progress>) -> anyhow::Result<LocalModel> {
        Ok(self.store.pull(&self.hub, &self.reference, self.options.clone(), progress).await?)
    }
}

impl Located {
    pub(crate) fn file(path: PathBuf) -> Self {
        Self { path, revision: String::new(), tokenizer: None, local: None }
    }

    fn local(local: LocalModel) -> anyhow::Result<Self> {
        let commit = local.commit.as_ref().map(ToString::to_string).unwrap_or_default();
        tracing::info!(model = %local.reference, commit, quant = local.quant, verified = crate::models::verified(local.verified), "the model is here");
        // R13, R28: what moves may answer differently after the next download.
        for note in crate::models::notes(&local) {
            tracing::warn!(model = %local.reference, "{note}");
        }
        Ok(Self {
            path: local.weights.first().cloned().context("the model has no weights")?,
            revision: commit,
            tokenizer: local.tokenizer.clone(),
            local: Some(local),
        })
    }

    /// After loading: whether what was loaded is what had been verified.
    pub(crate) fn check_unchanged(&self) -> anyhow::Result<()> {
        self.local.as_ref().map_or(Ok(()), |local| Ok(local.check_unchanged()?))
    }
}

fn record(metrics: &ModelDownloads, before: &Snapshot, now: &Snapshot) {
    metrics.bytes.inc_by(now.bytes_received.saturating_sub(before.bytes_received));
    metrics.retries.inc_by(now.retries.saturating_sub(before.retries));
    metrics.verify_failures.inc_by(now.verify_failures.saturating_sub(before.verify_failures));
    metrics.size_bytes.set(now.bytes_total);
    metrics.done_bytes.set(now.bytes_done);
}
