//! Which files of a repository are the model that was asked for.
//!
//! The candidates are the GGUF files that hold a whole model: not projectors (`mmproj`), importance matrices
//! (`imatrix`) or draft heads (`mtp-`, `eagle3-`, `dflash-`, `dspark-`), which is llama.cpp's own rule
//! (`common/download.cpp`: `gguf_filename_is_model`). The shards of a split model (`-00001-of-00003.gguf`) are one
//! candidate, and it is taken whole or not at all.
//!
//! A quantisation is matched as a whole, unlike there: `Q4_K_M` is neither `UD-Q4_K_M` nor `Q4_K_M_XL`, and a name that
//! fits nothing, or more than one thing, is an error that lists what there is. See [`name`] for what a whole is.

mod error;
mod name;

use std::collections::{BTreeMap, BTreeSet};

pub use error::{Choices, SelectionError};

use crate::limits::SHARDS_MAX;
use crate::shard::{self, Shard};
use crate::{FileChoice, RepositoryPath};

/// What is chosen when no quantisation is asked for, best first: about 4.5 bits per weight, where a model is small and still
/// itself; then its near relatives; then larger and better ones; then smaller and worse ones. A name with the prefix
/// `i1-` (a repository of importance-weighted quantisations) counts as the name without it.
pub const PREFERENCE: &[&str] = &[
    "Q4_K_M",
    "UD-Q4_K_XL",
    "MXFP4",
    "Q4_K_S",
    "Q4_K_L",
    "IQ4_XS",
    "IQ4_NL",
    "Q4_0",
    "Q4_1",
    "Q5_K_M",
    "Q5_K_S",
    "Q6_K",
    "Q8_0",
    "Q3_K_M",
    "BF16",
    "F16",
    "FP16",
    "F32",
];

/// The files of one model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selection {
    /// The file, or all shards in their order. Never empty.
    pub files: Vec<RepositoryPath>,
    /// The quantisation that the name shows, in upper case and with its prefix, such as `UD-Q4_K_XL`.
    pub quant: Option<String>,
    /// How the choice came about.
    pub reason: Chosen,
}

/// How a choice of files came about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Chosen {
    /// The reference names the quantisation or the file.
    Named,
    /// The reference leaves it open; it is the first of [`PREFERENCE`] that the repository has.
    Preferred,
    /// The reference leaves it open, and there is nothing else.
    Only,
}

/// One model that could be chosen: a file, or a set of shards.
#[derive(Debug)]
struct Candidate<'a> {
    /// The path without shard number and extension.
    stem: &'a str,
    label: Option<String>,
    /// By shard number; a file that is no shard is number 1 of 1.
    files: BTreeMap<u32, &'a RepositoryPath>,
    count: u32,
}

/// Chooses the files of a model among the paths of its repository.
pub fn select<'a>(
    paths: impl Iterator<Item = &'a RepositoryPath>,
    choice: &FileChoice,
) -> Result<Selection, SelectionError> {
    let paths: BTreeSet<&RepositoryPath> = paths.collect();
    if let FileChoice::File(path) = choice {
        return named_file(&paths, path);
    }
    let candidates = candidates(&paths, |path| name::is_model(path.file_name()));
    if candidates.is_empty() {
        return Err(SelectionError::NoModel { also: name::other_weights(paths.iter().map(|path| path.file_name())) });
    }
    let (candidate, reason) = match choice {
        FileChoice::Quant(quant) => (by_quant(&candidates, quant)?, Chosen::Named),
        _ => match candidates.as_slice() {
            [only] => (only, Chosen::Only),
            several => (preferred(several)?, Chosen::Preferred),
        },
    };
    candidate.select(reason)
}

/// The file at `path`, and of a split model the rest of it.
fn named_file(paths: &BTreeSet<&RepositoryPath>, path: &RepositoryPath) -> Result<Selection, SelectionError> {
    if !paths.contains(path) {
        let models = candidates(paths, |path| name::is_model(path.file_name()));
        return Err(SelectionError::NoFile {
            path: path.clone(),
            choices: Choices::new(models.iter().map(Candidate::show)),
        });
    }
    let (stem, shard) = name::split(path);
    let is_same_set = |other: &RepositoryPath| match (shard, name::split(other)) {
        (Some(shard), (other_stem, Some(other))) => other_stem == stem && other.count == shard.count,
        _ => other == path,
    };
    match candidates(paths, is_same_set).as_slice() {
        [set] => set.select(Chosen::Named),
        _ => Err(SelectionError::NoFile { path: path.clone(), choices: Choices::default() }),
    }
}

/// The sets that the paths make which `belongs` lets in.
fn candidates<'a>(
    paths: &BTreeSet<&'a RepositoryPath>,
    belongs: impl Fn(&RepositoryPath) -> bool,
) -> Vec<Candidate<'a>> {
    let mut sets: BTreeMap<(&str, Option<u32>), Candidate<'a>> = BTreeMap::new();
    for &path in paths.iter().filter(|path| belongs(path)) {
        let (stem, shard) = name::split(path);
        let Shard { number, count } = shard.unwrap_or(Shard { number: 1, count: 1 });
        // Two plain files differ in their stems unless only the case of `.gguf` tells them apart; the first is kept.
        sets.entry((stem, shard.map(|shard| shard.count)))
            .or_insert_with(|| Candidate { stem, label: name::label(stem), files: BTreeMap::new(), count })
            .files
            .entry(number)
            .or_insert(path);
    }
    sets.into_values().collect()
}

fn by_quant<'a, 'b>(candidates: &'b [Candidate<'a>], quant: &str) -> Result<&'b Candidate<'a>, SelectionError> {
    let matching: Vec<_> = candidates.iter().filter(|candidate| name::has_quant(candidate.stem, quant)).collect();
    match matching.as_slice() {
        [one] => Ok(one),
        [] => {
            let choices = Choices::new(candidates.iter().map(|it| it.label.clone().unwrap_or_else(|| it.show())));
            Err(SelectionError::NoQuant { quant: quant.to_owned(), choices })
        }
        several => Err(SelectionError::Ambiguous {
            quant: quant.to_owned(),
            choices: Choices::new(several.iter().map(|it| it.show())),
        }),
    }
}

fn preferred<'a, 'b>(candidates: &'b [Candidate<'a>]) -> Result<&'b Candidate<'a>, SelectionError> {
    for quant in PREFERENCE {
        let is_it = |label: &str| label.strip_prefix("I1-").unwrap_or(label) == *quant;
        let matching: Vec<_> = candidates.iter().filter(|it| it.label.as_deref().is_some_and(is_it)).collect();
        match matching.as_slice() {
            [] => {}
            [one] => return Ok(one),
            several => {
                let choices = Choices::new(several.iter().map(|it| it.show()));
                return Err(SelectionError::Ambiguous { quant: (*quant).to_owned(), choices });
            }
        }
    }
    Err(SelectionError::Undecided { choices: Choices::new(candidates.iter().map(Candidate::show)) })
}

impl Candidate<'_> {
    /// What a person would write behind `org/model/` to name it.
    fn show(&self) -> String {
        self.files.values().next().map_or_else(|| self.stem.to_owned(), ToString::to_string)
    }

    fn select(&self, reason: Chosen) -> Result<Selection, SelectionError> {
        if self.count > SHARDS_MAX {
            return Err(SelectionError::TooManyShards { name: self.show(), found: self.count, limit: SHARDS_MAX });
        }
        let missing: Vec<u32> = (1..=self.count).filter(|number| !self.files.contains_key(number)).collect();
        if !missing.is_empty() {
            let names = missing.iter().map(|&number| shard::name(self.stem, number, self.count));
            return Err(SelectionError::Incomplete { count: self.count, missing: Choices::new(names) });
        }
        let files = (1..=self.count).filter_map(|number| self.files.get(&number)).map(|&path| path.clone()).collect();
        Ok(Selection { files, quant: self.label.clone(), reason })
    }
}

#[cfg(test)]
mod tests;
