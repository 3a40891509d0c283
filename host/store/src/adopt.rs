//! Files that somebody else put here, taken over without the hub.

use model::gguf::Header;
use model::{HubReference, RepositoryPath};

use crate::examine::{Item, State, examine};
use crate::knowledge::{Knowledge, Wish, look_at, tokenizer_beside};
use crate::layout::{Found, Place};
use crate::limits::TOKENIZER_BYTES_MAX;
use crate::local::{LocalModel, Part, Warning};
use crate::verify::{Stop, Verified};
use crate::{Progress, StoreError, lock};

/// The files, if all of them are here and the records beside them say what each should be, and each is that. Nothing
/// where only the hub can tell.
pub(crate) fn by_records(
    place: &Place,
    knowledge: &Knowledge,
    reference: &HubReference,
    progress: &Progress,
    stop: &Stop,
) -> Result<Option<(Wish, Vec<Item>)>, StoreError> {
    let Ok(wish) = knowledge.wish(place, &reference.choice) else { return Ok(None) };
    let mut wanted = Vec::new();
    for path in wish.selection.files.iter().chain(&wish.tokenizer) {
        let expected = place.look(path)?.stamp().and_then(|stamp| knowledge.expected(place, path, stamp));
        let Some(expected) = expected else { return Ok(None) };
        wanted.push((path, expected));
    }
    progress.expect_files(wanted.len() as u64);
    let mut items = Vec::new();
    for (path, expected) in wanted {
        let item = examine(place, knowledge, path, expected, progress, stop)?;
        if !matches!(item.state, State::Good(_)) {
            return Ok(None);
        }
        items.push(item);
    }
    Ok(Some((wish, items)))
}

/// The model by its headers alone, when neither a record nor the hub can say more. The reason why not is for people.
pub(crate) fn by_headers(
    place: &Place,
    knowledge: &Knowledge,
    reference: &HubReference,
    why: &str,
) -> Result<LocalModel, String> {
    let wish = knowledge.wish(place, &reference.choice).map_err(|error| error.to_string())?;
    let weights = &wish.selection.files;
    let found = look_at(place, weights).map_err(|error| error.to_string())?;
    let (mut parts, mut recorded) = (Vec::new(), Vec::new());
    for (path, found) in weights.iter().zip(found) {
        let stamp = found.stamp().ok_or_else(|| format!("{path} is not here"))?;
        if knowledge.expected(place, path, stamp).is_some() {
            recorded.push(path);
            continue;
        }
        Header::read(&place.absolute(path)).map_err(|error| format!("{path}: {error}"))?;
        parts.push(Part { path: path.clone(), stamp });
    }
    // Had there been a record of all, and each been right, nobody would have come here.
    match (recorded.as_slice(), parts.first()) {
        ([], _) => {}
        ([only], None) => return Err(format!("{only} is not what the record beside it says")),
        (_, None) => {
            return Err("a shard is not what the record beside it says; `outrigger verify` tells which".to_owned());
        }
        ([known, ..], Some(Part { path, .. })) => {
            return Err(format!("there is a record of {known}, and none of {path} at the same commit"));
        }
    }
    let stamp_of = |path: &RepositoryPath| place.look(path).ok().and_then(Found::stamp);
    let fits = |path: &RepositoryPath| stamp_of(path).is_some_and(|stamp| stamp.size <= TOKENIZER_BYTES_MAX);
    let tokenizer = tokenizer_beside(&wish.selection, fits);
    parts.extend(tokenizer.iter().filter_map(|path| Some(Part { path: path.clone(), stamp: stamp_of(path)? })));
    let wish = Wish { tokenizer, ..wish };
    let lease = lock::lease(place).ok_or("it is being removed")?;
    let commit = knowledge.commit.clone();
    let mut model = LocalModel::new(place, reference, &wish, &parts, commit, Verified::HeaderOnly, lease);
    model.warnings.push(Warning::HeaderOnly { why: why.to_owned() });
    Ok(model)
}
