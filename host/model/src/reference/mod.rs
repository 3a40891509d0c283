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
        let bare = ["hf:", "huggingface:", "https://huggingface.co/", "https://hf.co/", "huggingface.co/", "hf.co/"]
            .into_iter()
            .find_map(|prefix| given.strip_prefix(prefix));
        if bare.is_none() && is_path_like(given) {
            return Err(ReferenceError::Path { given: given.to_owned() });
        }
        let (name, revision) = match bare.unwrap_or(given).rsplit_once('@') {
            Some((name, revision)) => (name, Revision::parse(revision)?),
            None => (bare.unwrap_or(given), Revision::main()),
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
}

impl fmt::Display for HubReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.repository.fmt(f)?;
        match &self.choice {
            FileChoice::Preferred => {}
            FileChoice::Quant(quant) => write!(f, ":{quant}")?,
            FileChoice::File(path) => write!(f, "/{path}")?,
        }
        if self.revision == Revision::main() { Ok(()) } else { write!(f, "@{}", self.revision) }
    }
}

/// `org/model` cannot be told from a relative path by form alone; these cannot be `org/model`.
fn is_path_like(given: &str) -> bool {
    let has_extension = Path::new(given).extension().is_some_and(|it| it.eq_ignore_ascii_case("gguf"));
    given.starts_with(['/', '.', '~', '\\']) || (has_extension && given.matches('/').count() < 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(given: &str, expected: Result<&str, &str>) {
        let parsed = ModelReference::parse(given).map(|reference| reference.to_string());
        let parsed = parsed.map_err(|error| error.to_string());
        assert_eq!(parsed.as_deref().map_err(String::as_str), expected, "{given}");
        if let Ok(canonical) = parsed {
            let again = ModelReference::parse(&canonical).expect("the canonical form");
            assert_eq!(again, ModelReference::parse(given).expect("parsed above"), "{given}");
        }
    }

    // R10
    #[test]
    fn files_are_named_by_path() {
        check("file:/models/a.gguf", Ok("file:/models/a.gguf"));
        check("file:a.gguf", Ok("file:a.gguf"));
        check("file:///models/a.gguf", Ok("file:/models/a.gguf"));
        check(" file:a b.gguf ", Ok("file:a b.gguf"));
    }

    // R10, R11
    #[test]
    fn every_spelling_has_one_canonical_form() {
        for prefix in ["", "hf:", "huggingface:", "hf.co/", "huggingface.co/", "https://huggingface.co/"] {
            check(&format!("{prefix}acme/tiny"), Ok("acme/tiny"));
            check(&format!("{prefix}acme/tiny@main"), Ok("acme/tiny"));
            check(&format!("{prefix}acme/tiny@latest"), Ok("acme/tiny"));
            check(&format!("{prefix}acme/tiny:Q4_K_M@v1.0"), Ok("acme/tiny:Q4_K_M@v1.0"));
            check(&format!("{prefix}acme/tiny/sub/a.gguf@v1"), Ok("acme/tiny/sub/a.gguf@v1"));
        }
        check("acme/tiny:q4_k_m", Ok("acme/tiny:Q4_K_M"));
        check("acme/tiny.v2-GGUF", Ok("acme/tiny.v2-GGUF"));
    }

    #[test]
    fn the_default_id_is_what_a_client_would_write() {
        let id = |given| ModelReference::parse(given).expect("a reference").default_id();
        assert_eq!(id("file:/m/SmolLM2.Q4_1.gguf"), "SmolLM2.Q4_1");
        assert_eq!(id("hf:acme/tiny@v1"), "acme/tiny");
        assert_eq!(id("acme/tiny:q8_0@v1"), "acme/tiny:Q8_0");
        assert_eq!(id("acme/tiny/sub/a.gguf"), "acme/tiny");
    }

    #[test]
    fn what_is_not_a_reference_is_answered_with_one() {
        check(
            "",
            Err("the model reference is empty; write org/model of the Hugging Face Hub, or file:/path/to/model.gguf"),
        );
        check("file:", Err("`file:` names no path; write file:/path/to/model.gguf"));
        check(
            "models/a.gguf",
            Err(
                "`models/a.gguf` looks like a path; write file:models/a.gguf, or org/model for a model of the Hugging Face Hub",
            ),
        );
        check(
            "a",
            Err("`a` is not a model reference; write org/model[:QUANT][@revision], or file:/path/to/model.gguf"),
        );
    }

    // R12, R30
    #[test]
    fn revisions_that_are_no_directory_name_are_refused() {
        let why = "a revision consists of letters, digits, `_`, `-` and inner `.`, at most 200; the commit's SHA is always safe";
        for revision in ["", "..", "../x", "a/b", ".a", "a.", "-a", "a..b", "a b", "a\\b", "a\0b", "é"] {
            let shown = format!("`{revision}` cannot be a revision: {why}");
            check(&format!("acme/tiny@{revision}"), Err(&shown));
        }
    }
}
