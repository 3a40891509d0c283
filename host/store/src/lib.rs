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
mod limits;
mod local;
mod lock;
mod manifest;
mod presence;
mod progress;
mod pull;
mod settle;
mod sidecars;
mod sources;
mod space;
mod transfer;
mod verify;

use std::path::Path;
use std::sync::Arc;

use hub::Hub;
use model::HubReference;

pub use error::StoreError;
pub use limits::{ORPHAN_AGE, TOKENIZER_BYTES_MAX};
pub use local::{LocalModel, Warning};
pub use lock::Lease;
pub use presence::Presence;
pub use progress::{Phase, Progress, Snapshot};
pub use pull::PullOptions;
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
}
