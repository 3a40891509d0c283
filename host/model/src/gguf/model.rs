//! A model at rest: one file, or all shards of one that was split.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::header::Header;
use super::limits::TENSOR_COUNT_MAX;
use super::read::{GgufError, shown};
use crate::limits::SHARDS_MAX;
use crate::shard;

/// The files of a model, and what they say as if they were one.
#[derive(Debug, Clone, PartialEq)]
pub struct Model {
    /// The file, or all shards in their order. Never empty.
    pub shards: Vec<PathBuf>,
    /// The metadata of the first shard with the tensors, counts and sizes of all.
    pub header: Header,
}

impl Model {
    /// Reads and checks the headers of the file at `path`, which may be any shard of a split model, and of all others
    /// that belong to it.
    pub fn open(path: &Path) -> Result<Self, GgufError> {
        let header = Header::read(path)?;
        let Some(count) = header.number("split.count").filter(|&count| count > 1) else {
            return Ok(Self { shards: vec![path.to_owned()], header });
        };
        let shards = shard_paths(path, count)?;
        // One after the other, and of those behind the first only the tensors are kept: each may hold as much metadata as
        // one file may, and there may be thousands.
        drop(header);
        let mut whole = None;
        for (shard, number) in shards.iter().zip(1..) {
            let header = read_shard(shard, number, count)
                .map_err(|source| GgufError::Shard { path: shard.clone(), source: Box::new(source) })?;
            match &mut whole {
                None => whole = Some(header),
                Some(whole) => join(whole, header)?,
            }
        }
        let Some(header) = whole else { return Err(GgufError::Invalid("the model has no shard".to_owned())) };
        check_whole(&header)?;
        Ok(Self { shards, header })
    }
}

/// The paths of all shards, by the name of one.
fn shard_paths(path: &Path, count: u64) -> Result<Vec<PathBuf>, GgufError> {
    if count > SHARDS_MAX.into() {
        let what = "the number of shards".to_owned();
        return Err(GgufError::Limit { what, found: count, limit: SHARDS_MAX.into() });
    }
    let named = path.file_name().and_then(|name| name.to_str()).and_then(shard::split);
    let (stem, count) = match named {
        Some((stem, shard)) if u64::from(shard.count) == count => (stem, shard.count),
        _ => return Err(GgufError::ShardName { count }),
    };
    Ok((1..=count).map(|number| path.with_file_name(shard::name(stem, number, count))).collect())
}

fn read_shard(path: &Path, number: u32, count: u64) -> Result<Header, GgufError> {
    let header = Header::read(path)?;
    let says = (header.number("split.no").map(|number| number.saturating_add(1)), header.number("split.count"));
    if says == (Some(number.into()), Some(count)) {
        return Ok(header);
    }
    let shown = |number: Option<u64>| number.map_or("?".to_owned(), |number| number.to_string());
    Err(GgufError::Invalid(format!(
        "its header says that it is shard {} of {}, and its name that it is {number} of {count}",
        shown(says.0),
        shown(says.1)
    )))
}

/// Adds a shard to what the first says. The first has the metadata; of the others only what splitting wrote is of
/// interest.
fn join(whole: &mut Header, shard: Header) -> Result<(), GgufError> {
    if let Some(other) = shard.architecture()
        && whole.architecture() != Some(other)
    {
        let first = whole.architecture().unwrap_or("unknown");
        return Err(GgufError::Invalid(format!(
            "a shard is of architecture `{}`, and the first of `{}`",
            shown(other),
            shown(first)
        )));
    }
    whole.tensor_count = whole.tensor_count.saturating_add(shard.tensor_count);
    if whole.tensor_count > TENSOR_COUNT_MAX {
        let what = "the number of tensors of all shards".to_owned();
        return Err(GgufError::Limit { what, found: whole.tensor_count, limit: TENSOR_COUNT_MAX });
    }
    whole.tensors.extend(shard.tensors);
    whole.tensor_bytes = whole.tensor_bytes.saturating_add(shard.tensor_bytes);
    whole.file_bytes = whole.file_bytes.saturating_add(shard.file_bytes);
    Ok(())
}

/// What holds of all shards together.
fn check_whole(whole: &Header) -> Result<(), GgufError> {
    if let Some(announced) = whole.number("split.tensors.count")
        && announced != whole.tensor_count
    {
        return Err(GgufError::Invalid(format!(
            "the shards hold {} tensors together, and {announced} are announced",
            whole.tensor_count
        )));
    }
    let mut names = BTreeSet::new();
    if let Some(twice) = whole.tensors.iter().find(|tensor| !names.insert(&tensor.name)) {
        return Err(GgufError::Invalid(format!("tensor `{}` stands in two shards", shown(&twice.name))));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
