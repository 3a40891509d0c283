//! From a reference to files that are here, complete and verified.
//!
//! [`Pull::run`] is the story: find → lock → commit → listing → choice → what is here → what is elsewhere on this
//! machine → is there room → fetch → record → names. Everything is addressed by commit from the moment it is known, so a
//! branch that moves meanwhile changes nothing; and every step can be the last one before the power fails.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use hub::{Hub, HubError};
use model::{Commit, HubReference, RepositoryPath};

use crate::examine::{Item, State, examine};
use crate::knowledge::{Knowledge, Wish};
use crate::layout::{Layout, Place};
use crate::learn::{Asked, Learnt};
use crate::limits::{ATTEMPTS_MAX, CHUNK_BYTES_DEFAULT, LOCK_POLL, REQUESTS_MAX_DEFAULT};
use crate::local::{LocalModel, Part, Warning};
use crate::lock::{WriterLock, blocking};
use crate::manifest::now_s;
use crate::presence::{Presence, find};
use crate::sidecars::content_of;
use crate::sources::{Ready, Source};
use crate::transfer::{TransferError, TransferLimits, Wanted};
use crate::verify::{Stop, Verified};
use crate::{Phase, Progress, StoreError, lock, settle, sources, space, transfer};

/// How to pull.
#[derive(Debug, Clone)]
pub struct PullOptions {
    /// Asks what the revision is now, and fetches what changed. Otherwise a branch stays what it was when it was first
    /// pulled. A commit never changes.
    pub update: bool,
    /// The cache that `hf` keeps for everybody, `$HF_HOME/hub`: what is in there is copied instead of fetched.
    pub hf_cache: Option<PathBuf>,
    /// Requests for one file at once.
    pub requests_max: usize,
}

impl Default for PullOptions {
    fn default() -> Self {
        Self { update: false, hf_cache: None, requests_max: REQUESTS_MAX_DEFAULT }
    }
}

/// One pull.
#[derive(Debug, Clone)]
pub(crate) struct Pull {
    pub(crate) layout: Layout,
    pub(crate) hub: Hub,
    pub(crate) reference: HubReference,
    pub(crate) options: PullOptions,
    pub(crate) progress: Arc<Progress>,
    pub(crate) stop: Stop,
}

/// A revision directory that we may write to.
#[derive(Debug, Clone)]
pub(crate) struct Held {
    pub(crate) place: Place,
    pub(crate) lock: Arc<WriterLock>,
}

/// What a pull has come to before it writes its record.
#[derive(Debug)]
pub(crate) struct Haul {
    pub(crate) knowledge: Knowledge,
    pub(crate) wish: Wish,
    pub(crate) items: Vec<Item>,
    pub(crate) ready: BTreeMap<RepositoryPath, Ready>,
    pub(crate) resolved_at: Option<u64>,
}

impl Pull {
    pub(crate) async fn run(self) -> Result<LocalModel, StoreError> {
        let _stop_with_us = self.stop.on_drop();
        let is_update = self.options.update && self.reference.revision.commit().is_none();
        if !is_update && let Some(model) = self.found().await? {
            return Ok(model);
        }
        // The hub is asked before anything is created: a name that was mistyped leaves no folders behind.
        let early = if self.is_here().await? { None } else { Some(self.ask_for_new().await?) };
        let (place, lock) = lock::writer(&self.layout, &self.reference, &self.progress).await?;
        let held = Held { place, lock: Arc::new(lock) };
        // Whoever held the lock may have fetched it.
        if !is_update && let Some(model) = self.found().await? {
            return Ok(model);
        }
        let mut early = early;
        for _ in 1..ATTEMPTS_MAX {
            match self.under_lock(&held, early.take(), is_update).await {
                // Somebody wrote to the directory at the same time: an `hf`, or one of us where there are no locks. What
                // they put there may be right.
                Err(StoreError::Unsteady { path }) => {
                    tracing::info!(path = %path.display(), "the directory changed meanwhile; looking at it again");
                    tokio::time::sleep(LOCK_POLL).await;
                }
                pulled => return pulled,
            }
        }
        self.under_lock(&held, early, is_update).await
    }

    async fn under_lock(&self, held: &Held, early: Option<Asked>, is_update: bool) -> Result<LocalModel, StoreError> {
        let mut knowledge = self.read(&held.place).await;
        let resolved_at = match self.learn(held, &mut knowledge, early, is_update).await? {
            Learnt::All { resolved_at } => resolved_at,
            Learnt::Enough(model) => return Ok(*model),
        };
        let wish = knowledge.wish(&held.place, &self.reference.choice).map_err(|source| self.unselectable(source))?;

        self.progress.enter(Phase::Verifying);
        let items = self.examine(&held.place, &knowledge, &wish).await?;
        let ready = self.obtain(held, &knowledge, &items).await?;
        self.progress.enter(Phase::Finishing);
        self.settle(held, Haul { knowledge, wish, items, ready, resolved_at }).await
    }

    async fn found(&self) -> Result<Option<LocalModel>, StoreError> {
        let (layout, reference) = (self.layout.clone(), self.reference.clone());
        let presence = blocking(move || find(&layout, &reference)).await?;
        Ok(match presence {
            Presence::Complete(model) => Some(*model),
            Presence::Unverified { .. } | Presence::Missing { .. } => None,
        })
    }

    async fn is_here(&self) -> Result<bool, StoreError> {
        let (layout, HubReference { repository, revision, .. }) = (self.layout.clone(), self.reference.clone());
        blocking(move || Ok(layout.existing(&repository, &revision)?.is_some())).await
    }

    async fn read(&self, place: &Place) -> Knowledge {
        let place = place.clone();
        blocking(move || Ok(Knowledge::read(&place))).await.unwrap_or_default()
    }

    /// What of the wish is here. A tokenizer that is not, is wanted only where weights are: a directory that somebody
    /// filled with just the weights is complete.
    async fn examine(&self, place: &Place, knowledge: &Knowledge, wish: &Wish) -> Result<Vec<Item>, StoreError> {
        let (place, knowledge, wish) = (place.clone(), knowledge.clone(), wish.clone());
        let (progress, stop) = (Arc::clone(&self.progress), self.stop.clone());
        blocking(move || {
            let paths: Vec<_> = wish.selection.files.iter().chain(&wish.tokenizer).collect();
            progress.expect_files(paths.len() as u64);
            let mut items = Vec::new();
            for path in paths {
                let entry = knowledge.listing.as_ref().and_then(|listing| listing.files.get(path));
                let Some(entry) = entry else { continue };
                let expected = (entry.size, content_of(entry));
                items.push(examine(&place, &knowledge, path, expected, &progress, &stop)?);
            }
            let is_missing = |item: &Item| item.record().is_none();
            let weights_missing =
                items.iter().any(|item| is_missing(item) && Some(&item.path) != wish.tokenizer.as_ref());
            if !weights_missing {
                items.retain(|item| !matches!(item.state, State::Absent));
            }
            progress.expect_files(items.len() as u64);
            Ok(items)
        })
        .await
    }

    /// Everything that is missing, complete and verified, under names of our own.
    async fn obtain(
        &self,
        held: &Held,
        knowledge: &Knowledge,
        items: &[Item],
    ) -> Result<BTreeMap<RepositoryPath, Ready>, StoreError> {
        let place = &held.place;
        let mut ready = BTreeMap::new();
        let missing: Vec<Item> = items.iter().filter(|item| item.record().is_none()).cloned().collect();
        let (Some(commit), false) = (&knowledge.commit, missing.is_empty()) else { return Ok(ready) };
        self.progress.expect_bytes(missing.iter().fold(0, |sum, item| sum.saturating_add(item.size)));
        let planned = self.plan(held, missing).await?;
        self.progress.enter(Phase::Downloading);
        let folder = place.ours_created("parts")?;
        let parts = Arc::new(folder.dir);
        let limits = TransferLimits {
            requests_max: self.options.requests_max,
            chunk_bytes: CHUNK_BYTES_DEFAULT,
            patience: self.hub.patience(),
        };
        for (item, source) in planned {
            let taken = match source {
                Some(source) => self.take(place, &item, source).await?,
                None => None,
            };
            let got = if let Some(taken) = taken {
                taken
            } else {
                let remote = self.hub.file(&self.reference.repository, commit, &item.path);
                let wanted = Wanted { path: item.path.clone(), size: item.size, content: item.content };
                let fetched = transfer::download(&remote, &wanted, &parts, &limits, &self.progress).await;
                Ready::Fetched(fetched.map_err(|error| self.unfetched(place, error))?)
            };
            self.progress.file_done();
            ready.insert(item.path, got);
        }
        Ok(ready)
    }

    /// Where each missing file comes from, and whether there is room and a place for all of them.
    async fn plan(&self, held: &Held, missing: Vec<Item>) -> Result<Vec<(Item, Option<Source>)>, StoreError> {
        let (layout, place, cache) = (self.layout.clone(), held.place.clone(), self.options.hf_cache.clone());
        let is_exclusive = held.lock.is_exclusive();
        blocking(move || {
            if is_exclusive {
                sources::sweep(&place);
            }
            let parts = place.ours_created("parts")?;
            let mut planned = Vec::new();
            let mut written_bytes = 0_u64;
            for item in missing {
                // A folder that cannot be had is better known before hours of download than after.
                place.parent_created(&item.path)?;
                let source = sources::look_for(&layout, &place, &item, cache.as_deref());
                let bytes = match &source {
                    Some(Source::Sibling { .. }) => 0,
                    Some(Source::SharedCache(_)) => item.size,
                    None => item.size.saturating_sub(space::held_by_parts(&parts.path, item.content)),
                };
                written_bytes = written_bytes.saturating_add(bytes);
                planned.push((item, source));
            }
            space::check(&place, written_bytes)?;
            Ok(planned)
        })
        .await
    }

    async fn take(&self, place: &Place, item: &Item, source: Source) -> Result<Option<Ready>, StoreError> {
        let (place, item, progress) = (place.clone(), item.clone(), Arc::clone(&self.progress));
        let stop = self.stop.clone();
        blocking(move || sources::take(&place, &item, &source, &progress, &stop)).await
    }

    /// Writes the record, gives the files their names, and answers with what is there then.
    pub(crate) async fn settle(&self, held: &Held, haul: Haul) -> Result<LocalModel, StoreError> {
        let (layout, held, reference) = (self.layout.clone(), held.clone(), self.reference.clone());
        let endpoint = Some(self.hub.endpoint().to_string());
        blocking(move || {
            // The lock is held until the last rename, even if nobody waits for us any more.
            let Held { place, lock: _lock } = held;
            let Haul { knowledge, wish, items, ready, resolved_at } = haul;
            let manifest = settle::record(&knowledge, endpoint, resolved_at, &items, &ready);
            let is_all_here = ready.is_empty();
            match manifest.write(&place) {
                Err(error) if is_all_here && error.is_refusal_to_write() => {
                    return unrecorded(&place, &reference, &knowledge, &wish, &items, &error);
                }
                written => written?,
            }
            settle::publish(&place, &items, ready)?;
            let records: Vec<_> =
                items.iter().filter_map(|it| Some((&it.path, manifest.files.get(&it.path)?))).collect();
            settle::tell_hf(&place, &knowledge, &records);
            match find(&layout, &reference)? {
                Presence::Complete(model) => Ok(*model),
                Presence::Unverified { files } => {
                    let path = files.first().map_or(place.path.clone(), |path| place.absolute(path));
                    Err(StoreError::Unsteady { path })
                }
                Presence::Missing { .. } => Err(StoreError::Unsteady { path: place.path.clone() }),
            }
        })
        .await
    }

    pub(crate) fn refused(&self, source: HubError) -> StoreError {
        StoreError::Hub { reference: self.reference.clone().into(), source: source.into() }
    }

    pub(crate) fn unselectable(&self, source: model::SelectionError) -> StoreError {
        StoreError::Selection { reference: self.reference.clone().into(), source }
    }

    fn unfetched(&self, place: &Place, error: TransferError) -> StoreError {
        let reference = self.reference.clone().into();
        match error {
            TransferError::NoSpace { landed, size, source, .. } => StoreError::full(&place.path, size - landed, source),
            TransferError::Hub { path, source: source @ HubError::Offline { .. }, .. } => {
                let why = format!("{path} is not here, or not the file that the repository has");
                StoreError::Incomplete { reference, directory: place.path.clone(), why, source: source.into() }
            }
            TransferError::Disk { attempted, source, .. } if is_about_the_directory(&source) => {
                StoreError::io(attempted, place.path.join(".cache/outrigger/parts"), source)
            }
            error => StoreError::Transfer { reference, source: Box::new(error) },
        }
    }
}

/// Whether the way out is another directory, or other rights to this one.
fn is_about_the_directory(error: &io::Error) -> bool {
    use io::ErrorKind::{PermissionDenied, QuotaExceeded, ReadOnlyFilesystem};
    matches!(error.kind(), PermissionDenied | QuotaExceeded | ReadOnlyFilesystem)
}

/// A model that is here and right, where nothing can be written.
fn unrecorded(
    place: &Place,
    reference: &HubReference,
    knowledge: &Knowledge,
    wish: &Wish,
    items: &[Item],
    why: &StoreError,
) -> Result<LocalModel, StoreError> {
    let records: Vec<_> = items.iter().filter_map(|item| Some((&item.path, item.record()?))).collect();
    let parts: Vec<_> =
        records.iter().map(|(path, record)| Part { path: (*path).clone(), stamp: record.stamp }).collect();
    let at = records.iter().map(|(_, record)| record.verified_at).min().unwrap_or_else(now_s);
    let removed = || StoreError::Unsteady { path: place.path.clone() };
    let lease = lock::lease(place).ok_or_else(removed)?;
    let commit: Option<Commit> = knowledge.commit.clone();
    let mut model = LocalModel::new(place, reference, wish, &parts, commit, Verified::Digest { at }, lease);
    model.warnings.push(Warning::Unrecorded { why: why.to_string() });
    Ok(model)
}
