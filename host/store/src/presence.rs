//! Is a model here? Answered from records and file times alone: no network, and nothing is hashed.

use model::{HubReference, RepositoryPath};

use crate::knowledge::{Knowledge, look_at};
use crate::layout::{Found, Layout};
use crate::local::{LocalModel, Part};
use crate::verify::Verified;
use crate::{StoreError, lock};

/// What of a model is here.
#[derive(Debug)]
pub enum Presence {
    /// All of it, and verified.
    Complete(Box<LocalModel>),
    /// All of it, by name; a pull verifies it, and fetches nothing that turns out right.
    Unverified {
        /// What has to be verified.
        files: Vec<RepositoryPath>,
    },
    /// Not all of it.
    Missing {
        /// What is not here, for people.
        why: String,
    },
}

/// Looks for a model.
pub(crate) fn find(layout: &Layout, reference: &HubReference) -> Result<Presence, StoreError> {
    let missing = |why: String| Ok(Presence::Missing { why });
    let Some(place) = layout.existing(&reference.repository, &reference.revision)? else {
        return missing(format!("{} does not exist", layout.directory(reference).display()));
    };
    let knowledge = Knowledge::read(&place);
    let wish = match knowledge.wish(&place, &reference.choice) {
        Ok(wish) => wish,
        Err(error) => return missing(error.to_string()),
    };
    // Before the files are looked at: from now on nobody removes them.
    let weights = &wish.selection.files;
    let found = look_at(&place, weights)?;
    if let Some((path, _)) = weights.iter().zip(&found).find(|(_, found)| found.stamp().is_none()) {
        return missing(format!("{path} is not here"));
    }
    let Some(lease) = lock::lease(&place) else { return missing("it is being removed".to_owned()) };

    let tokenizer =
        wish.tokenizer.iter().map(|path| Ok((path, place.look(path)?))).collect::<Result<Vec<_>, StoreError>>()?;
    let tokenizer = tokenizer.into_iter().filter(|(_, found)| found.stamp().is_some());
    let mut parts = Vec::new();
    let mut unverified = Vec::new();
    let mut verified_at = u64::MAX;
    for (path, _) in weights.iter().zip(found).chain(tokenizer) {
        // Looked at once more, now that the directory is held.
        let found: Found = place.look(path)?;
        match (knowledge.verified(path, found), found.stamp()) {
            (Some(record), Some(stamp)) => {
                verified_at = verified_at.min(record.verified_at);
                parts.push(Part { path: path.clone(), stamp });
            }
            _ => unverified.push(path.clone()),
        }
    }
    if !unverified.is_empty() {
        return Ok(Presence::Unverified { files: unverified });
    }
    let verified = Verified::Digest { at: verified_at };
    let commit = knowledge.commit.clone();
    Ok(Presence::Complete(Box::new(LocalModel::new(&place, reference, &wish, &parts, commit, verified, lease))))
}
