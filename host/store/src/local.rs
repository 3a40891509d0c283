//! A model that is here, and what is said about it.

use std::fmt;
use std::path::PathBuf;

use model::{Chosen, Commit, HubReference, RepositoryPath, Revision};

use crate::StoreError;
use crate::knowledge::Wish;
use crate::layout::{Place, Stamp, look};
use crate::lock::Lease;
use crate::verify::Verified;

/// A model whose files are here, complete, and as far as can be known the right ones.
#[derive(Debug)]
pub struct LocalModel {
    /// What was asked for.
    pub reference: HubReference,
    /// The revision directory.
    pub directory: PathBuf,
    /// The file, or all shards in their order.
    pub weights: Vec<PathBuf>,
    /// The repository's `tokenizer.json`, where it has one and it is here.
    pub tokenizer: Option<PathBuf>,
    /// The quantisation that the files' names show.
    pub quant: Option<String>,
    /// How these files came to be chosen.
    pub reason: Chosen,
    /// The commit that the files are of, where it is known.
    pub commit: Option<Commit>,
    /// How it is known that the files are right.
    pub verified: Verified,
    /// What the operator should know.
    pub warnings: Vec<Warning>,
    /// Keeps `remove` and `prune` away for as long as it lives. It ends with the process.
    pub lease: Lease,
    stamps: Vec<(PathBuf, Stamp)>,
}

/// What the operator of a model should know about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Warning {
    /// R13: the revision is a branch or a tag, and what it means may change.
    Unpinned {
        /// The revision.
        revision: Revision,
        /// What would pin it.
        pinned: HubReference,
    },
    /// No digest was compared.
    HeaderOnly {
        /// Why the hub was not asked.
        why: String,
    },
    /// What was found out cannot be written down, so that it is found out again at every start.
    Unrecorded {
        /// Why not.
        why: String,
    },
    /// A file that somebody put here is taken instead of the one that would have been fetched.
    PutHere {
        /// The file.
        path: RepositoryPath,
        /// The preferred one.
        preferred: String,
    },
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unpinned { revision, pinned } => write!(
                f,
                "`{revision}` is not a commit and may mean something else tomorrow; write {pinned} for what is here now"
            ),
            Self::HeaderOnly { why } => write!(
                f,
                "the model's files were not compared with any digest ({why}): their headers are sound and no shard is missing; \
                 `outrigger pull` while online verifies them"
            ),
            Self::Unrecorded { why } => {
                write!(f, "cannot write down that the model's files are right ({why}): they are hashed at every start")
            }
            Self::PutHere { path, preferred } => write!(
                f,
                "{path} was put here and is taken; without it, {preferred} would be: name a quantisation to be sure"
            ),
        }
    }
}

/// One file of a local model.
#[derive(Debug, Clone)]
pub(crate) struct Part {
    pub(crate) path: RepositoryPath,
    pub(crate) stamp: Stamp,
}

impl LocalModel {
    /// A model of these files: the wish's weights in order and, where it is here, its tokenizer.
    pub(crate) fn new(
        place: &Place,
        reference: &HubReference,
        wish: &Wish,
        parts: &[Part],
        commit: Option<Commit>,
        verified: Verified,
        lease: Lease,
    ) -> Self {
        let mut warnings = Vec::new();
        if reference.revision.commit().is_none()
            && let Some(commit) = &commit
            && let Ok(pinned) = Revision::parse(commit.as_str())
        {
            let pinned = HubReference { revision: pinned, ..reference.clone() };
            warnings.push(Warning::Unpinned { revision: reference.revision.clone(), pinned });
        }
        if let (Some(preferred), Some(path)) = (&wish.instead_of, wish.selection.files.first()) {
            warnings.push(Warning::PutHere { path: path.clone(), preferred: preferred.clone() });
        }
        let is_here = |path: &RepositoryPath| parts.iter().any(|part| part.path == *path);
        Self {
            reference: reference.clone(),
            directory: place.path.clone(),
            weights: wish.selection.files.iter().map(|path| place.absolute(path)).collect(),
            tokenizer: wish.tokenizer.as_ref().filter(|path| is_here(path)).map(|path| place.absolute(path)),
            quant: wish.selection.quant.clone(),
            reason: wish.selection.reason,
            commit,
            verified,
            warnings,
            lease,
            stamps: parts.iter().map(|part| (place.absolute(&part.path), part.stamp)).collect(),
        }
    }

    /// Whether the files are still those that were verified. Whoever has loaded them by their paths asks afterwards: a
    /// `pull --update` or an `hf download` in between may have put others in their places.
    pub fn check_unchanged(&self) -> Result<(), StoreError> {
        for (path, stamp) in &self.stamps {
            if look(path)?.stamp() != Some(*stamp) {
                return Err(StoreError::Changed { path: path.clone() });
            }
        }
        Ok(())
    }
}
