//! Our record of a revision directory: which commit it holds, and which of its files were found to be what they should be.
//!
//! A record is believed only as far as it costs nothing to be wrong: a file whose size, time of change or inode is not
//! the recorded one is hashed again, and a manifest that cannot be read is as good as none. It is written whole or not at
//! all, and before the files get their names, so that a crash in between leaves files that the record does not know
//! (they are hashed) and never a record that covers other files.

use std::collections::BTreeMap;
use std::io::Read;
use std::time::{SystemTime, UNIX_EPOCH};

use hub::{GitSha1, Sha256};
use model::{Commit, RepositoryPath};
use serde::{Deserialize, Serialize};

use crate::StoreError;
use crate::layout::{Folder, Place, Stamp, open_regular};
use crate::limits::MANIFEST_BYTES_MAX;
use crate::verify::Content;

const NAME: &str = "manifest.json";
const FORMAT_VERSION: u32 = 1;

/// What is recorded of a revision directory.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Manifest {
    /// The hub that was asked last, for people.
    pub(crate) endpoint: Option<String>,
    /// What the revision was resolved to. Unknown where old records of `hf` do not say.
    pub(crate) commit: Option<Commit>,
    /// When it was, in seconds since 1970.
    pub(crate) resolved_at: Option<u64>,
    pub(crate) files: BTreeMap<RepositoryPath, Record>,
}

/// What is recorded of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Record {
    /// What the hub names its content by.
    pub(crate) content: Content,
    /// What we found when every byte of it was read.
    pub(crate) sha256: Sha256,
    /// The file that was found to be so.
    pub(crate) stamp: Stamp,
    /// When, in seconds since 1970.
    pub(crate) verified_at: u64,
    /// Of which commit it is, when known: after an update, files that nobody asked for may be of an older one.
    pub(crate) commit: Option<Commit>,
    pub(crate) origin: Origin,
    /// Its bytes are no longer what they were, although nothing wrote to it: the disk is at fault.
    pub(crate) is_damaged: bool,
    /// The file of the hub's that this one takes the place of. It is still there when a crash came before the renaming.
    pub(crate) replaces: Option<Stamp>,
}

/// Where a file came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Origin {
    /// We put it there, and may replace it.
    Pulled,
    /// It was there, and belongs to whoever put it there.
    Found,
}

#[derive(Serialize, Deserialize)]
struct Written {
    format_version: u32,
    repository: String,
    revision: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    endpoint: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    commit: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    resolved_at: Option<u64>,
    files: BTreeMap<String, WrittenRecord>,
}

#[derive(Serialize, Deserialize)]
struct WrittenRecord {
    size: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    blob_id: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    lfs_sha256: Option<String>,
    sha256: String,
    verified_at: u64,
    mtime_ns: i64,
    inode: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    commit: Option<String>,
    origin: Origin,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    is_damaged: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    replaces: Option<WrittenStamp>,
}

#[derive(Serialize, Deserialize)]
struct WrittenStamp {
    size: u64,
    mtime_ns: i64,
    inode: u64,
}

impl Manifest {
    /// Reads the record of a directory. One that is damaged, or of another directory, counts as none.
    pub(crate) fn read(place: &Place) -> Option<Self> {
        let folder = place.ours().ok().flatten()?;
        let text = read_capped(&folder, NAME, MANIFEST_BYTES_MAX)?;
        let manifest = serde_json::from_slice(&text).map_err(|error| error.to_string()).and_then(|it| parse(it, place));
        match manifest {
            Ok(manifest) => Some(manifest),
            Err(why) => {
                let path = folder.path.join(NAME);
                tracing::warn!(manifest = %path.display(), why, "cannot use the model's record; its files are verified again");
                None
            }
        }
    }

    /// Writes the record, whole or not at all.
    pub(crate) fn write(&self, place: &Place) -> Result<(), StoreError> {
        let folder = place.ours_created("")?;
        let written = Written {
            format_version: FORMAT_VERSION,
            repository: place.repository.to_string(),
            revision: place.revision.to_string(),
            endpoint: self.endpoint.clone(),
            commit: self.commit.as_ref().map(Commit::to_string),
            resolved_at: self.resolved_at,
            files: self.files.iter().map(|(path, record)| (path.to_string(), record.to_written())).collect(),
        };
        let text = serde_json::to_vec_pretty(&written)
            .map_err(|error| StoreError::io("write", folder.path.join(NAME), error.into()))?;
        folder.write_atomically(NAME, &text)
    }

    /// The record of a file, if it speaks of the file that is there now and finds it sound.
    pub(crate) fn covers(&self, path: &RepositoryPath, stamp: Stamp) -> Option<&Record> {
        self.files.get(path).filter(|record| record.stamp == stamp && !record.is_damaged)
    }

    /// Whether the file that is there now came from the hub and can come from there again: nothing is lost with it.
    pub(crate) fn is_replaceable(&self, path: &RepositoryPath, stamp: Stamp) -> bool {
        self.files.get(path).is_some_and(|record| {
            let is_recorded = record.stamp == stamp && (!record.is_damaged || record.origin == Origin::Pulled);
            is_recorded || record.replaces == Some(stamp)
        })
    }
}

impl Record {
    fn to_written(&self) -> WrittenRecord {
        let (blob_id, lfs_sha256) = match self.content {
            Content::Sha256(digest) => (None, Some(digest.to_string())),
            Content::GitSha1(digest) => (Some(digest.to_string()), None),
        };
        WrittenRecord {
            size: self.stamp.size,
            blob_id,
            lfs_sha256,
            sha256: self.sha256.to_string(),
            verified_at: self.verified_at,
            mtime_ns: self.stamp.mtime_ns,
            inode: self.stamp.inode,
            commit: self.commit.as_ref().map(Commit::to_string),
            origin: self.origin,
            is_damaged: self.is_damaged,
            replaces: self.replaces.map(|it| WrittenStamp { size: it.size, mtime_ns: it.mtime_ns, inode: it.inode }),
        }
    }
}

fn parse(written: Written, place: &Place) -> Result<Manifest, String> {
    if written.format_version != FORMAT_VERSION {
        return Err(format!("it has format {}, and {FORMAT_VERSION} is understood", written.format_version));
    }
    if written.repository != place.repository.to_string() || written.revision != place.revision.as_str() {
        return Err(format!("it is of {}@{}", written.repository, written.revision));
    }
    let commit = |given: Option<String>| match given {
        None => Ok(None),
        Some(given) => Commit::parse(&given).map(Some).ok_or_else(|| "it names no commit".to_owned()),
    };
    let mut files = BTreeMap::new();
    for (path, record) in written.files {
        let path = RepositoryPath::parse(&path).map_err(|error| error.to_string())?;
        let content = match (&record.blob_id, &record.lfs_sha256) {
            (_, Some(digest)) => Sha256::parse(digest).map(Content::Sha256),
            (Some(digest), None) => GitSha1::parse(digest).map(Content::GitSha1),
            (None, None) => None,
        };
        let (Some(content), Some(sha256)) = (content, Sha256::parse(&record.sha256)) else {
            return Err(format!("it has no digest of {path}"));
        };
        let stamp = Stamp { size: record.size, mtime_ns: record.mtime_ns, inode: record.inode };
        let commit = commit(record.commit)?;
        let WrittenRecord { verified_at, origin, is_damaged, replaces, .. } = record;
        let replaces = replaces.map(|it| Stamp { size: it.size, mtime_ns: it.mtime_ns, inode: it.inode });
        files.insert(path, Record { content, sha256, stamp, verified_at, commit, origin, is_damaged, replaces });
    }
    let commit = commit(written.commit)?;
    Ok(Manifest { endpoint: written.endpoint, commit, resolved_at: written.resolved_at, files })
}

/// The bytes of a small file of ours or of `hf`, nothing where there is none, or one that is too large to be one.
pub(crate) fn read_capped(folder: &Folder, name: &str, bytes_max: u64) -> Option<Vec<u8>> {
    let file = open_regular(&folder.path.join(name)).ok()?;
    let length = file.metadata().ok()?.len();
    if length > bytes_max {
        let path = folder.path.join(name);
        tracing::warn!(path = %path.display(), bytes = length, bytes_max, "a record is too large to be one");
        return None;
    }
    let mut text = Vec::new();
    file.take(bytes_max).read_to_end(&mut text).ok()?;
    Some(text)
}

/// Seconds since 1970, by this machine's clock.
pub(crate) fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use model::{RepositoryId, Revision};
    use proptest::prelude::*;

    use super::*;
    use crate::layout::Layout;

    fn place(folder: &tempfile::TempDir) -> Place {
        let layout = Layout::open(folder.path()).expect("a layout");
        layout.created(&RepositoryId::new("acme", "tiny").expect("an id"), &Revision::main()).expect("a place")
    }

    fn stamp() -> impl Strategy<Value = Stamp> {
        (any::<u64>(), any::<i64>(), any::<u64>()).prop_map(|(size, mtime_ns, inode)| Stamp { size, mtime_ns, inode })
    }

    fn commit() -> impl Strategy<Value = Option<Commit>> {
        prop::option::of("[0-9a-f]{40}".prop_map(|digits| Commit::parse(&digits).expect("40 digits")))
    }

    fn record() -> impl Strategy<Value = Record> {
        let content = prop_oneof![
            any::<[u8; 32]>().prop_map(|bytes| Content::Sha256(Sha256(bytes))),
            any::<[u8; 20]>().prop_map(|bytes| Content::GitSha1(GitSha1(bytes))),
        ];
        let origin = prop_oneof![Just(Origin::Pulled), Just(Origin::Found)];
        let facts = (content, any::<[u8; 32]>(), stamp(), any::<u64>(), commit(), origin);
        (facts, any::<bool>(), prop::option::of(stamp())).prop_map(|(facts, is_damaged, replaces)| {
            let (content, sha256, stamp, verified_at, commit, origin) = facts;
            let sha256 = Sha256(sha256);
            Record { content, sha256, stamp, verified_at, commit, origin, is_damaged, replaces }
        })
    }

    fn manifest() -> impl Strategy<Value = Manifest> {
        let path = "[a-z ]{1,8}(/[a-zé#%]{1,8}){0,2}".prop_filter_map("a path", |it| RepositoryPath::parse(&it).ok());
        let files = prop::collection::btree_map(path, record(), 0..4);
        (prop::option::of("[ -~]{0,20}"), commit(), prop::option::of(any::<u64>()), files)
            .prop_map(|(endpoint, commit, resolved_at, files)| Manifest { endpoint, commit, resolved_at, files })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn a_record_is_read_as_it_was_written(manifest in manifest()) {
            let folder = tempfile::tempdir().expect("a folder");
            let place = place(&folder);
            manifest.write(&place).expect("written");
            prop_assert_eq!(Manifest::read(&place), Some(manifest));
        }

        #[test]
        fn a_record_cut_anywhere_is_none(manifest in manifest(), at in 0.0_f64..1.0) {
            let folder = tempfile::tempdir().expect("a folder");
            let place = place(&folder);
            manifest.write(&place).expect("written");
            let path = place.path.join(".cache/outrigger/manifest.json");
            let whole = std::fs::read(&path).expect("the record");
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a place within the file")]
            let end = (whole.len() as f64 * at) as usize;
            std::fs::write(&path, &whole[..end]).expect("cut");
            prop_assert_eq!(Manifest::read(&place), None);
        }
    }

    #[test]
    fn a_file_that_was_written_to_is_not_covered_and_not_replaceable() {
        let path = RepositoryPath::parse("a.gguf").expect("a path");
        let stamp = Stamp { size: 5, mtime_ns: 7, inode: 9 };
        let record = Record {
            content: Content::Sha256(Sha256([1; 32])),
            sha256: Sha256([1; 32]),
            stamp,
            verified_at: 1,
            commit: None,
            origin: Origin::Found,
            is_damaged: false,
            replaces: Some(Stamp { inode: 10, ..stamp }),
        };
        let mut manifest = Manifest { files: [(path.clone(), record)].into(), ..Manifest::default() };
        assert!(manifest.covers(&path, stamp).is_some() && manifest.is_replaceable(&path, stamp));
        for other in [Stamp { size: 6, ..stamp }, Stamp { mtime_ns: 8, ..stamp }, Stamp { inode: 11, ..stamp }] {
            assert!(manifest.covers(&path, other).is_none() && !manifest.is_replaceable(&path, other));
        }
        assert!(manifest.is_replaceable(&path, Stamp { inode: 10, ..stamp }), "what was being replaced");
        // A rotten file that somebody else put there is theirs; one that we fetched can be fetched again.
        manifest.files.get_mut(&path).expect("the record").is_damaged = true;
        assert!(manifest.covers(&path, stamp).is_none() && !manifest.is_replaceable(&path, stamp));
        manifest.files.get_mut(&path).expect("the record").origin = Origin::Pulled;
        assert!(manifest.covers(&path, stamp).is_none() && manifest.is_replaceable(&path, stamp));
    }
}
