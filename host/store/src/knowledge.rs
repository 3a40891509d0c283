//! What is known of a revision directory without a network: which commit it holds, what that commit's files are, and
//! which of the files here were found to be those.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use hub::Listing;
use model::{Commit, FileChoice, RepositoryPath, Selection, SelectionError, select};

use crate::StoreError;
use crate::layout::{Found, Place, Stamp};
use crate::limits::{TOKENIZER_BYTES_MAX, WALK_DEPTH_MAX, WALK_ENTRIES_MAX};
use crate::manifest::{Manifest, Origin, Record};
use crate::sidecars::{content_of, linked_content, listed_commits, read_listing, read_metadata};
use crate::verify::Content;

const TOKENIZER: &str = "tokenizer.json";

/// What is known without asking anybody.
#[derive(Debug, Clone, Default)]
pub(crate) struct Knowledge {
    pub(crate) manifest: Manifest,
    pub(crate) commit: Option<Commit>,
    pub(crate) listing: Option<Listing>,
    /// The models' files that are here, by name alone.
    pub(crate) here: BTreeSet<RepositoryPath>,
}

/// The files that a reference stands for.
#[derive(Debug, Clone)]
pub(crate) struct Wish {
    pub(crate) selection: Selection,
    pub(crate) tokenizer: Option<RepositoryPath>,
    /// The repository has one that is preferred; this one was put here by somebody.
    pub(crate) instead_of: Option<String>,
}

impl Knowledge {
    /// Reads all records of a directory.
    pub(crate) fn read(place: &Place) -> Self {
        let mut knowledge = Self {
            manifest: Manifest::read(place).unwrap_or_default(),
            here: models_here(&place.path),
            ..Self::default()
        };
        knowledge.commit = place.revision.commit().or_else(|| knowledge.recorded_commit(place));
        knowledge.listing = knowledge.commit.as_ref().and_then(|commit| read_listing(place, commit));
        knowledge
    }

    /// The commit of a directory whose name does not say it. What somebody else put here after us tells it; then our
    /// own record; then a listing, where there is only one.
    fn recorded_commit(&self, place: &Place) -> Option<Commit> {
        let noted = self.here.iter().filter_map(|path| {
            let stamp = place.look(path).ok()?.stamp()?;
            let is_ours = self.manifest.covers(path, stamp).is_some() || self.manifest.is_replaceable(path, stamp);
            let note = read_metadata(place, path).filter(|note| !is_ours && note.is_current(stamp))?;
            Some((note.written_at, note.commit))
        });
        let newest = noted.max_by(|one, other| one.0.total_cmp(&other.0)).map(|(_, commit)| commit);
        newest.or_else(|| self.manifest.commit.clone()).or_else(|| match listed_commits(place).as_slice() {
            [only] => Some(only.clone()),
            _ => None,
        })
    }

    /// The files that are meant. Without a listing, what is here is all there is to choose from.
    pub(crate) fn wish(&self, place: &Place, choice: &FileChoice) -> Result<Wish, SelectionError> {
        let Some(listing) = &self.listing else {
            let selection = select(self.here.iter(), choice)?;
            let is_known = |path: &RepositoryPath| {
                let stamp = place.look(path).ok().and_then(Found::stamp);
                stamp.is_some_and(|stamp| self.expected(place, path, stamp).is_some())
            };
            let tokenizer = tokenizer_beside(&selection, is_known);
            return Ok(Wish { selection, tokenizer, instead_of: None });
        };
        let mut selection = select(listing.files.keys(), choice)?;
        let mut instead_of = None;
        let is_here = |selection: &Selection| selection.files.iter().all(|path| self.here.contains(path));
        if *choice == FileChoice::Preferred && !is_here(&selection) {
            // R15: one file of the repository was put here, and no name was given: that file is meant. What we fetched
            // for another reference is not: it was asked for by its name.
            let put_here = self.here.iter().filter(|path| {
                let is_pulled = self.manifest.files.get(*path).is_some_and(|record| record.origin == Origin::Pulled);
                listing.files.contains_key(*path) && !is_pulled
            });
            if let Ok(local) = select(put_here, choice) {
                instead_of = selection.files.first().map(RepositoryPath::to_string);
                selection = local;
            }
        }
        let fits = |path: &RepositoryPath| listing.files.get(path).is_some_and(|it| it.size <= TOKENIZER_BYTES_MAX);
        let tokenizer = tokenizer_beside(&selection, fits);
        Ok(Wish { selection, tokenizer, instead_of })
    }

    /// What the file at `path` should be, as far as any record says.
    pub(crate) fn expected(&self, place: &Place, path: &RepositoryPath, stamp: Stamp) -> Option<(u64, Content)> {
        if let Some(listing) = &self.listing {
            return listing.files.get(path).map(|entry| (entry.size, content_of(entry)));
        }
        if let Some(record) = self.manifest.files.get(path).filter(|record| record.commit == self.commit) {
            return Some((record.stamp.size, record.content));
        }
        let noted = read_metadata(place, path).filter(|note| Some(&note.commit) == self.commit.as_ref());
        let content = noted.map(|note| note.content).or_else(|| linked_content(place, path))?;
        // Neither record says a length; the digest covers it.
        Some((stamp.size, content))
    }

    /// The record of the file that is at `path` now, if it was found to be what it should be.
    pub(crate) fn verified(&self, path: &RepositoryPath, found: Found) -> Option<&Record> {
        let record = self.manifest.covers(path, found.stamp()?)?;
        let is_right = match &self.listing {
            Some(listing) => listing.files.get(path).is_some_and(|entry| content_of(entry) == record.content),
            None => record.commit == self.commit,
        };
        is_right.then_some(record)
    }
}

/// `tokenizer.json` in the folder of the weights, or at the top.
pub(crate) fn tokenizer_beside(
    selection: &Selection,
    exists: impl Fn(&RepositoryPath) -> bool,
) -> Option<RepositoryPath> {
    let folder = selection.files.first().map_or("", RepositoryPath::folder);
    let beside = format!("{folder}/{TOKENIZER}");
    [beside.as_str(), TOKENIZER].into_iter().filter_map(|path| RepositoryPath::parse(path).ok()).find(exists)
}

/// Every GGUF in a directory, by its path in the repository.
pub(crate) fn models_here(directory: &Path) -> BTreeSet<RepositoryPath> {
    let mut here = BTreeSet::new();
    let mut seen = 0;
    let mut folders = vec![(directory.to_owned(), String::new(), 0)];
    while let Some((folder, prefix, depth)) = folders.pop() {
        let Ok(entries) = fs::read_dir(&folder) else { continue };
        for entry in entries.flatten() {
            seen += 1;
            if seen > WALK_ENTRIES_MAX {
                return here;
            }
            let (Ok(name), Ok(kind)) = (entry.file_name().into_string(), entry.file_type()) else { continue };
            let Ok(path) = RepositoryPath::parse(&format!("{prefix}{name}")) else { continue };
            if kind.is_dir() {
                if depth < WALK_DEPTH_MAX {
                    folders.push((entry.path(), format!("{path}/"), depth + 1));
                }
            } else if Path::new(&name).extension().is_some_and(|it| it.eq_ignore_ascii_case("gguf"))
                && fs::metadata(entry.path()).is_ok_and(|metadata| metadata.is_file())
            {
                here.insert(path);
            }
        }
    }
    here
}

/// What is at each path, in order.
pub(crate) fn look_at(place: &Place, paths: &[RepositoryPath]) -> Result<Vec<Found>, StoreError> {
    paths.iter().map(|path| place.look(path)).collect()
}
