//! Models on disk: downloads, and a cache in which what exists is complete and verified.
//!
//! A [`Store`] is a models directory. [`Store::find`] says from records alone whether a model is there; [`Store::pull`] makes
//! it so. What a model's files are is known by digest, from the hub's listing or from what `hf` recorded; a file that
//! merely exists is worth nothing. `layout` says where things lie, `pull` tells the story, `settle` says why a crash at
//! any point of it leaves nothing that would be taken for a model and is none.

mod adopt;
mod error;
mod examine;
mod knowledge;
mod layout;
mod learn;
mod limits;
mod list;
mod local;
mod lock;
mod manifest;
mod presence;
mod progress;
mod pull;
mod recheck;
mod remove;
mod settle;
mod sidecars;
mod sources;
mod space;
mod transfer;
mod verify;

use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use hub::Hub;
use model::HubReference;

pub use error::StoreError;
pub use limits::{ORPHAN_AGE, TOKENIZER_BYTES_MAX};
pub use list::{FileState, StoredFile, StoredRevision};
pub use local::{LocalModel, Warning};
pub use lock::Lease;
pub use presence::Presence;
pub use progress::{Phase, Progress, Snapshot};
pub use pull::PullOptions;
pub use recheck::{Outcome, Verdict};
pub use remove::{Pruned, Removed, RemovedWhat};
pub use space::available as free_bytes;
pub use verify::{Content, Verified};

use crate::layout::Layout;
use crate::pull::Pull;
use crate::verify::Stop;

/// A models directory. Clones are the same one.
#[derive(Debug, Clone)]
pub struct Store {
    layout: Layout,
}

impl Store {
    /// Opens a models directory, and creates it if it is not there.
    pub fn open(models_dir: &Path) -> Result<Self, StoreError> {
        Ok(Self { layout: Layout::open(models_dir)? })
    }

    /// Opens a models directory if it is there: for whoever only looks, or takes away.
    pub fn open_existing(models_dir: &Path) -> Result<Option<Self>, StoreError> {
        Ok(Layout::open_existing(models_dir)?.map(|layout| Self { layout }))
    }

    /// The models directory, without links.
    #[must_use]
    pub fn models_dir(&self) -> &Path {
        self.layout.path()
    }

    /// Looks for a model. No network, and nothing is hashed.
    pub fn find(&self, reference: &HubReference) -> Result<Presence, StoreError> {
        presence::find(&self.layout, reference)
    }

    /// Makes a model be here, complete and verified. One that is so already costs no socket. Dropping the future stops
    /// it; what has arrived is kept, and the next pull goes on from there.
    pub async fn pull(
        &self,
        hub: &Hub,
        reference: &HubReference,
        options: PullOptions,
        progress: &Arc<Progress>,
    ) -> Result<LocalModel, StoreError> {
        let (layout, hub, reference) = (self.layout.clone(), hub.clone(), reference.clone());
        let pull = Pull { layout, hub, reference, options, progress: Arc::clone(progress), stop: Stop::default() };
        let pulled = pull.run().await;
        progress.enter(Phase::Done);
        pulled
    }

    /// Everything that is here, by name. Nothing is hashed.
    pub fn list(&self) -> Result<Vec<StoredRevision>, StoreError> {
        list::list(&self.layout)
    }

    /// Hashes every file again, of one revision directory or of all, whatever is recorded of it. What turns out damaged is
    /// not loaded from then on, and the next pull replaces it. Takes as long as reading everything takes.
    pub fn verify(&self, reference: Option<&HubReference>, progress: &Progress) -> Result<Vec<Verdict>, StoreError> {
        recheck::verify(&self.layout, reference, progress)
    }

    /// Removes what a reference names: its revision directory or, where others are beside it, the one quantisation or file
    /// that it names. What a process uses, or fetches, is removed by force only.
    pub fn remove(&self, reference: &HubReference, is_forced: bool) -> Result<Removed, StoreError> {
        remove::remove(&self.layout, reference, is_forced)
    }

    /// Makes the store smaller than `size_bytes_max`. What was not used for longest goes first, and nothing that is in use.
    /// Unfinished downloads and files set aside that are older than [`ORPHAN_AGE`] go in any case. What cannot be removed
    /// keeps nothing else from being so.
    pub fn prune(&self, size_bytes_max: u64) -> Result<Pruned, StoreError> {
        remove::prune(&self.layout, size_bytes_max, SystemTime::now())
    }
}
