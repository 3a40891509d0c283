//! What of the files that are wanted is here already? Hashing, and nothing else that takes long.

use std::fs::File;
use std::io::ErrorKind;

use hub::Sha256;
use model::RepositoryPath;

use crate::knowledge::Knowledge;
use crate::layout::{Found, Place, Stamp};
use crate::manifest::{Origin, Record, now_s};
use crate::sidecars::read_metadata;
use crate::verify::{Content, Digests, Hashed, Stop, hash};
use crate::{Progress, StoreError};

/// A file that is wanted, and what is in its place.
#[derive(Debug, Clone)]
pub(crate) struct Item {
    pub(crate) path: RepositoryPath,
    pub(crate) size: u64,
    pub(crate) content: Content,
    pub(crate) state: State,
}

/// What is in the place of a file that is wanted.
#[derive(Debug, Clone)]
pub(crate) enum State {
    /// The right file.
    Good(Record),
    /// Nothing, or a link to nothing.
    Absent,
    /// Another file that came from the hub, such as the one of an earlier commit. It makes room for the right one.
    Outdated(Stamp),
    /// A file of unknown origin that is not the right one. It is kept aside.
    Wrong,
}

impl Item {
    pub(crate) fn record(&self) -> Option<&Record> {
        match &self.state {
            State::Good(record) => Some(record),
            _ => None,
        }
    }
}

/// Examines what is in the place of one file. `size` and `content` are what should be there.
pub(crate) fn examine(
    place: &Place,
    knowledge: &Knowledge,
    path: &RepositoryPath,
    (size, content): (u64, Content),
    progress: &Progress,
    stop: &Stop,
) -> Result<Item, StoreError> {
    let state = match place.look(path)? {
        Found::Nothing | Found::DeadLink => State::Absent,
        Found::Other(found) => return Err(StoreError::NoFile { path: place.absolute(path), found }),
        found @ (Found::File(stamp) | Found::Link(stamp)) => {
            if let Some(record) = knowledge.verified(path, found).filter(|record| record.content == content) {
                State::Good(Record { commit: knowledge.commit.clone(), replaces: None, ..record.clone() })
            } else if knowledge.manifest.is_replaceable(path, stamp) {
                State::Outdated(stamp)
            } else if stamp.size != size {
                unlike(place, path, stamp, None, progress, stop)
            } else {
                let hashed = hash(&read(place, path)?, &place.absolute(path), content, progress, stop)?;
                if hashed.digests.is(content) {
                    State::Good(record(&hashed, content, knowledge, Origin::Found))
                } else {
                    progress.verify_failed();
                    unlike(place, path, stamp, Some(&hashed), progress, stop)
                }
            }
        }
    };
    if matches!(state, State::Good(_)) {
        progress.file_done();
    }
    Ok(Item { path: path.clone(), size, content, state })
}

/// Opens a file that was there a moment ago. `hf` removes the old one before it fetches the new one.
fn read(place: &Place, path: &RepositoryPath) -> Result<File, StoreError> {
    place.read(path).map_err(|error| match error {
        StoreError::Io { path, source, .. } if source.kind() == ErrorKind::NotFound => StoreError::Unsteady { path },
        error => error,
    })
}

/// A file that is not the right one: what `hf` once got from the hub is outdated, everything else is somebody's.
fn unlike(
    place: &Place,
    path: &RepositoryPath,
    stamp: Stamp,
    hashed: Option<&Hashed>,
    progress: &Progress,
    stop: &Stop,
) -> State {
    let is_as_noted = || {
        let noted = read_metadata(place, path)?.content;
        if let Some(hashed) = hashed.filter(|hashed| hashed.digests.content().is_same_kind(noted)) {
            return Some(hashed.digests.is(noted));
        }
        let hashed = hash(&place.read(path).ok()?, &place.absolute(path), noted, progress, stop).ok()?;
        Some(hashed.digests.is(noted))
    };
    let shown = place.absolute(path);
    if is_as_noted() == Some(true) {
        tracing::info!(path = %shown.display(), "the file is of another commit");
        return State::Outdated(stamp);
    }
    tracing::warn!(path = %shown.display(), bytes = stamp.size, "the file is not the one that the repository has");
    State::Wrong
}

/// What is recorded of a file that was found to be right.
fn record(hashed: &Hashed, content: Content, knowledge: &Knowledge, origin: Origin) -> Record {
    let Hashed { digests: Digests { sha256, .. }, stamp } = *hashed;
    let commit = knowledge.commit.clone();
    Record { content, sha256, stamp, verified_at: now_s(), commit, origin, is_damaged: false, replaces: None }
}

/// What is recorded of a file that we put there.
pub(crate) fn pulled(item: &Item, sha256: Sha256, stamp: Stamp, knowledge: &Knowledge) -> Record {
    let replaces = match item.state {
        State::Outdated(stamp) => Some(stamp),
        _ => None,
    };
    let commit = knowledge.commit.clone();
    let (content, verified_at, origin) = (item.content, now_s(), Origin::Pulled);
    Record { content, sha256, stamp, verified_at, commit, origin, is_damaged: false, replaces }
}
