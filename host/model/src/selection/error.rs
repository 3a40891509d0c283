//! Why no file was chosen.

use std::fmt;

use crate::RepositoryPath;
use crate::limits::CHOICES_SHOWN_MAX;

/// Why a reference does not choose the files of one model. Each lists what could be written instead.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SelectionError {
    /// There is no GGUF with a model in it.
    #[error("the repository holds no GGUF model{}", also.map(|also| format!(", only {also}")).unwrap_or_default())]
    NoModel {
        /// What weights it has instead.
        also: Option<&'static str>,
    },
    /// No name shows the quantisation.
    #[error("no file of the repository has the quantisation `{quant}`; there are: {choices}")]
    NoQuant {
        /// What was asked for.
        quant: String,
        /// The quantisations, or paths of files whose names show none.
        choices: Choices,
    },
    /// Several names show the quantisation.
    #[error("several models of the repository are `{quant}`; name one as org/model/PATH: {choices}")]
    Ambiguous {
        /// What was asked for or preferred.
        quant: String,
        /// Their paths.
        choices: Choices,
    },
    /// Nothing was asked for, and nothing that there is comes before another.
    #[error("the repository holds several models and none that is preferred; name one as org/model/PATH: {choices}")]
    Undecided {
        /// Their paths.
        choices: Choices,
    },
    /// The path names nothing.
    #[error("the repository holds no file `{path}`; its models are: {choices}")]
    NoFile {
        /// What was asked for.
        path: RepositoryPath,
        /// The paths of its models.
        choices: Choices,
    },
    /// A split model of which a part is missing.
    #[error(
        "the model is split in {count} files, and the repository lacks: {missing}; choose another, or tell its owner"
    )]
    Incomplete {
        /// How many there should be.
        count: u32,
        /// Those that are not there.
        missing: Choices,
    },
    /// More shards than any real model has.
    #[error("`{name}` says that it is one of {found} files, and {limit} is the most that is accepted")]
    TooManyShards {
        /// One of them.
        name: String,
        /// How many it says there are.
        found: u32,
        /// The most that is accepted.
        limit: u32,
    },
}

/// What could have been chosen: each once, in order, and no more of them than one reads.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Choices {
    shown: Vec<String>,
    more: usize,
}

impl Choices {
    pub(super) fn new(all: impl Iterator<Item = String>) -> Self {
        let mut shown: Vec<String> = all.collect();
        shown.sort();
        shown.dedup();
        let more = shown.len().saturating_sub(CHOICES_SHOWN_MAX);
        shown.truncate(CHOICES_SHOWN_MAX);
        Self { shown, more }
    }

    /// Those that are shown.
    #[must_use]
    pub fn shown(&self) -> &[String] {
        &self.shown
    }

    /// How many more there are.
    #[must_use]
    pub fn more(&self) -> usize {
        self.more
    }
}

impl fmt::Display for Choices {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.shown.is_empty() {
            return f.write_str("none");
        }
        f.write_str(&self.shown.join(", "))?;
        if self.more > 0 { write!(f, " and {} more", self.more) } else { Ok(()) }
    }
}
