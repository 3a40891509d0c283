//! Is what was right still right? Every file is read again, and nothing that is recorded spares it.

use std::path::PathBuf;

use model::{HubReference, RepositoryId, RepositoryPath, Revision};

use crate::knowledge::Knowledge;
use crate::layout::{Found, Layout, Place};
use crate::list::places;
use crate::lock::writer_now;
use crate::manifest::{Manifest, now_s};
use crate::verify::{Content, Stop, hash};
use crate::{Phase, Progress, StoreError};

/// What became of one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// Whose it is.
    pub repository: RepositoryId,
    /// As of when.
    pub revision: Revision,
    /// Which.
    pub path: RepositoryPath,
    /// Where.
    pub file: PathBuf,
    /// Whether it is what it should be.
    pub outcome: Outcome,
}

/// Whether a file is what it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Every byte is.
    Right,
    /// It is not.
    Wrong {
        /// What it should be.
        expected: Content,
        /// What it is.
        found: Content,
    },
    /// It has another length.
    WrongSize {
        /// Bytes that it should have.
        expected: u64,
        /// Bytes that it has.
        found: u64,
    },
    /// It is recorded, and not there.
    Missing,
    /// There is no record of what it should be; a pull asks the hub.
    Unknown,
    /// It could not be read.
    Unreadable {
        /// Why not.
        why: String,
    },
}

/// Verifies one revision directory, or all.
pub(crate) fn verify(
    layout: &Layout,
    reference: Option<&HubReference>,
    progress: &Progress,
) -> Result<Vec<Verdict>, StoreError> {
    progress.enter(Phase::Verifying);
    let places = match reference {
        None => places(layout)?,
        Some(reference) => {
            let not_here =
                || StoreError::NotHere { reference: Box::new(reference.clone()), models_dir: layout.path().to_owned() };
            vec![layout.existing(&reference.repository, &reference.revision)?.ok_or_else(not_here)?]
        }
    };
    let mut verdicts = Vec::new();
    for place in &places {
        verdicts.extend(verify_place(layout, place, progress)?);
    }
    progress.enter(Phase::Done);
    Ok(verdicts)
}

fn verify_place(layout: &Layout, place: &Place, progress: &Progress) -> Result<Vec<Verdict>, StoreError> {
    let knowledge = Knowledge::read(place);
    let mut paths = knowledge.here.clone();
    paths.extend(knowledge.manifest.files.keys().cloned());
    progress.expect_files(progress.snapshot().files_total + paths.len() as u64);
    let mut manifest = knowledge.manifest.clone();
    let mut verdicts = Vec::new();
    for path in paths {
        let outcome = verify_file(place, &knowledge, &mut manifest, &path, progress);
        match outcome {
            Outcome::Right => progress.file_done(),
            Outcome::Wrong { .. } | Outcome::WrongSize { .. } => progress.verify_failed(),
            _ => {}
        }
        let (repository, revision) = (place.repository.clone(), place.revision.clone());
        verdicts.push(Verdict { repository, revision, file: place.absolute(&path), path, outcome });
    }
    keep(place, &knowledge.manifest, &manifest);
    spread(layout, place, &manifest)?;
    Ok(verdicts)
}

fn verify_file(
    place: &Place,
    knowledge: &Knowledge,
    manifest: &mut Manifest,
    path: &RepositoryPath,
    progress: &Progress,
) -> Outcome {
    let unreadable = |error: StoreError| Outcome::Unreadable { why: error.to_string() };
    let stamp = match place.look(path) {
        Ok(Found::File(stamp) | Found::Link(stamp)) => stamp,
        Ok(Found::Nothing | Found::DeadLink) => return Outcome::Missing,
        Ok(Found::Other(found)) => return Outcome::Unreadable { why: format!("it is {found}") },
        Err(error) => return unreadable(error),
    };
    // Its own record comes first: after an update, a file that nobody asked for is of the commit before.
    let recorded = manifest.files.get(path).map(|record| (record.stamp.size, record.content));
    let Some((size, content)) = recorded.or_else(|| knowledge.expected(place, path, stamp)) else {
        return Outcome::Unknown;
    };
    if stamp.size != size {
        return Outcome::WrongSize { expected: size, found: stamp.size };
    }
    let hashed =
        place.read(path).and_then(|file| hash(&file, &place.absolute(path), content, progress, &Stop::default()));
    let hashed = match hashed {
        Ok(hashed) => hashed,
        Err(error) => return unreadable(error),
    };
    let is_right = hashed.digests.is(content);
    if let Some(record) = manifest.files.get_mut(path) {
        if is_right {
            (record.stamp, record.verified_at, record.is_damaged) = (hashed.stamp, now_s(), false);
        } else if record.stamp == hashed.stamp {
            record.is_damaged = true;
        }
    }
    if is_right { Outcome::Right } else { Outcome::Wrong { expected: content, found: hashed.digests.content() } }
}

/// A file may have a name in several revisions. Damaged under one it is damaged under all: otherwise the next pull would
/// link it back from there.
fn spread(layout: &Layout, place: &Place, manifest: &Manifest) -> Result<(), StoreError> {
    let damaged: Vec<_> = manifest.files.values().filter(|it| it.is_damaged).map(|it| it.stamp).collect();
    if damaged.is_empty() {
        return Ok(());
    }
    let is_other = |it: &Place| it.repository == place.repository && it.revision != place.revision;
    for other in places(layout)?.into_iter().filter(is_other) {
        let Some(before) = Manifest::read(&other) else { continue };
        let mut after = before.clone();
        for record in after.files.values_mut() {
            record.is_damaged |= damaged.contains(&record.stamp);
        }
        keep(&other, &before, &after);
    }
    Ok(())
}

/// Writes down what was found, unless a pull is at work, which knows better.
fn keep(place: &Place, before: &Manifest, after: &Manifest) {
    if before == after {
        return;
    }
    let Some(_writer) = writer_now(place) else { return };
    if Manifest::read(place).as_ref() != Some(before) {
        return;
    }
    if let Err(error) = after.write(place) {
        tracing::warn!(directory = %place.path.display(), %error, "cannot write down what was verified");
    }
}
