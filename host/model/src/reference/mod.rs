//! How people name a model.
//!
//! ```text
//! org/model[:QUANT | /path/file.gguf][@revision]    on the Hub; `hf:`, `huggingface:`, `hf.co/`, `huggingface.co/` may precede
//! file:/path/model.gguf                             on this machine
//! ```
//!
//! One parser makes of every spelling one value, and [`ModelReference`]'s `Display` is its one canonical form.

mod parts;

use std::fmt;
use std::path::{Path, PathBuf};

pub use parts::{Commit, RepositoryId, RepositoryPath, Revision};

/// A model that can be served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ModelReference {
    /// `file:PATH`: a GGUF on this machine.
    File(PathBuf),
    /// A GGUF in a repository of the Hub.
    Hub(HubReference),
}

/// A model on the Hub.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct HubReference {
    /// Whose it is.
    pub repository: RepositoryId,
    /// Which of its files.
    pub choice: FileChoice,
    /// As of when.
    pub revision: Revision,
}

/// Which GGUF of a repository.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum FileChoice {
    /// Nothing was said: the documented order of preference decides.
    Preferred,
    /// `:QUANT`: the file with this token in its name, such as `Q4_K_M`. Case does not matter.
    Quant(String),
    /// `/path/file.gguf`: this file and, of a split model, its other shards.
    File(RepositoryPath),
}

/// What may precede the name of a model on the Hub, and means nothing.
const PREFIXES: &[&str] = &["hf:", "huggingface:", "huggingface.co/", "hf.co/"];

/// Why a text does not name a model.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReferenceError {
    /// Nothing was written.
    #[error("the model reference is empty; write org/model of the Hugging Face Hub, or file:/path/to/model.gguf")]
    Empty,
    /// `file:` without a path.
    #[error("`file:` names no path; write file:/path/to/model.gguf")]
    NoPath,
    /// A path without `file:`.
    #[error("`{given}` looks like a path; write file:{given}, or org/model for a model of the Hugging Face Hub")]
    Path {
        /// What was written.
        given: String,
    },
    /// Not a form that is known.
    #[error("`{given}` is not a model reference; write org/model[:QUANT][@revision], or file:/path/to/model.gguf")]
    Unknown {
        /// What was written.
        given: String,
    },
    /// A part that cannot be what it stands for.
    #[error("`{given}` cannot be {what}: {why}")]
    Part {
        /// The part.
        given: String,
        /// What it stands for, with its article.
        what: &'static str,
        /// What is wrong, and what would be right.
        why: String,
    },
}

impl ModelReference {
    /// Parses what a person wrote.
    pub fn parse(given: &str) -> Result<Self, ReferenceError> {
        let given = given.trim();
        if given.is_empty() {
            return Err(ReferenceError::Empty);
        }
        let Some(path) = given.strip_prefix("file:") else { return HubReference::parse(given).map(Self::Hub) };
        // `file:///path` is what desktop programs write for `file:/path`.
        match path.strip_prefix("//").filter(|rest| rest.starts_with('/')).unwrap_or(path) {
            "" => Err(ReferenceError::NoPath),
            path => Ok(Self::File(PathBuf::from(path))),
        }
    }

    /// The name that clients use for the model unless the operator chose one: the file's name without `.gguf`, or
    /// `org/model[:QUANT]`.
    #[must_use]
    pub fn default_id(&self) -> String {
        match self {
            Self::File(path) => {
                let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy();
                name.strip_suffix(".gguf").unwrap_or(&name).to_owned()
            }
            Self::Hub(HubReference { repository, choice: FileChoice::Quant(quant), .. }) => {
                format!("{repository}:{quant}")
            }
            Self::Hub(HubReference { repository, .. }) => repository.to_string(),
        }
    }
}

impl fmt::Display for ModelReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "file:{}", path.display()),
            Self::Hub(reference) => reference.fmt(f),
        }
    }
}

impl HubReference {
    /// Parses `org/model[:QUANT | /path/file.gguf][@revision]`, with or without a prefix.
    pub fn parse(given: &str) -> Result<Self, ReferenceError> {
        let given = given.trim();
        let bare = PREFIXES.iter().find_map(|prefix| given.strip_prefix(prefix));
        let address = given.strip_prefix("https://").unwrap_or(given);
        let page = ["huggingface.co/", "hf.co/"].into_iter().find_map(|site| address.strip_prefix(site));
        if bare.or(page).is_none() && is_path_like(given) {
            return Err(ReferenceError::Path { given: given.to_owned() });
        }
        // Of addresses those of the Hub's own site are known. A mirror is named once, as `hf_endpoint`.
        if page.is_none() && given.contains("://") {
            return Err(ReferenceError::Unknown { given: given.to_owned() });
        }
        if let Some(reference) = page.and_then(Self::of_page) {
            return reference;
        }
        let (name, revision) = match split_revision(bare.or(page).unwrap_or(given)) {
            (name, Some(revision)) => (name, Revision::parse(revision)?),
            (name, None) => (name, Revision::main()),
        };
        let (name, quant) = match name.rsplit_once(':') {
            Some((name, quant)) => (name, Some(parts::quant(quant)?)),
            None => (name, None),
        };
        let unknown = || ReferenceError::Unknown { given: given.to_owned() };
        let mut segments = name.splitn(3, '/');
        let (Some(org), Some(model)) = (segments.next(), segments.next()) else { return Err(unknown()) };
        let choice = match (segments.next(), quant) {
            (None, None) => FileChoice::Preferred,
            (None, Some(quant)) => FileChoice::Quant(quant),
            (Some(path), None) => FileChoice::File(parts::gguf_path(path)?),
            (Some(_), Some(_)) => return Err(unknown()),
        };
        Ok(Self { repository: RepositoryId::new(org, model)?, choice, revision })
    }

    /// What a browser shows: `org/model/blob/REVISION/path.gguf`, `…/resolve/…` and `…/tree/REVISION`. There, and only there,
    /// `%20` is a space.
    fn of_page(path: &str) -> Option<Result<Self, ReferenceError>> {
        let path = path.split(['?', '#']).next().unwrap_or(path);
        let mut segments = path.splitn(5, '/');
        let (org, model) = (segments.next()?, segments.next()?);
        let (kind, revision) = (segments.next()?, segments.next()?);
        let choice = match (kind, segments.next()) {
            ("blob" | "resolve", Some(file)) => parts::gguf_path_of_page(file).map(FileChoice::File),
            ("tree", None | Some("")) => Ok(FileChoice::Preferred),
            _ => return None,
        };
        let reference = || {
            Ok(Self {
                repository: RepositoryId::new(org, model)?,
                choice: choice?,
                revision: Revision::parse(&parts::unescaped(revision)?)?,
            })
        };
        Some(reference())
    }
}

/// The name, and the revision behind `@`. A file may have an `@` in its path: what ends in `.gguf` behind a path that does
/// not is the rest of that.
fn split_revision(given: &str) -> (&str, Option<&str>) {
    let is_gguf = |name: &str| name.to_ascii_lowercase().ends_with(".gguf");
    match given.rsplit_once('@') {
        Some((path, rest)) if is_gguf(rest) && !is_gguf(path) && path.matches('/').count() >= 2 => (given, None),
        Some((name, revision)) => (name, Some(revision)),
        None => (given, None),
    }
}

impl fmt::Display for HubReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bare = self.repository.to_string();
        match &self.choice {
            FileChoice::Preferred => {}
            FileChoice::Quant(quant) => bare.extend([":", quant]),
            FileChoice::File(path) => bare.extend(["/", path.as_str()]),
        }
        // `main` goes without saying, unless the path has an `@` that would be taken for it.
        let is_plain = !matches!(&self.choice, FileChoice::File(path) if path.as_str().contains('@'));
        if !is_plain || self.revision != Revision::main() {
            bare.extend(["@", self.revision.as_str()]);
        }
        // A model that is called like a file, or an owner like a prefix, needs to be told from one.
        let is_ambiguous = is_path_like(&bare) || PREFIXES.iter().any(|prefix| bare.starts_with(prefix));
        if is_ambiguous { write!(f, "hf:{bare}") } else { f.write_str(&bare) }
    }
}

/// `org/model` cannot be told from a relative path by form alone; these cannot be `org/model`.
fn is_path_like(given: &str) -> bool {
    let has_extension = Path::new(given).extension().is_some_and(|it| it.eq_ignore_ascii_case("gguf"));
    given.starts_with(['/', '.', '~', '\\']) || (has_extension && given.matches('/').count() < 2)
}

#[cfg(test)]
mod properties;

#[cfg(test)]
mod tests;
