//! How people name a model.

use std::path::{Path, PathBuf};

/// A model that can be served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ModelReference {
    /// `file:PATH`: a GGUF on this machine.
    File(PathBuf),
}

/// Why a text does not name a model.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReferenceError {
    /// Nothing was written.
    #[error("the model reference is empty; write file:/path/to/model.gguf")]
    Empty,
    /// `file:` without a path.
    #[error("`file:` names no path; write file:/path/to/model.gguf")]
    NoPath,
    /// Not a form that this version serves.
    #[error("`{given}` is not a model reference that can be served; write file:{hint}")]
    Unknown {
        /// What was written.
        given: String,
        /// A path that may have been meant.
        hint: String,
    },
}

impl ModelReference {
    /// Parses what a person wrote.
    pub fn parse(given: &str) -> Result<Self, ReferenceError> {
        let given = given.trim();
        if given.is_empty() {
            return Err(ReferenceError::Empty);
        }
        let Some(path) = given.strip_prefix("file:") else {
            let looks_like_a_path = Path::new(given).extension().is_some_and(|it| it.eq_ignore_ascii_case("gguf"));
            let hint = if looks_like_a_path { given } else { "/path/to/model.gguf" };
            return Err(ReferenceError::Unknown { given: given.to_owned(), hint: hint.to_owned() });
        };
        // `file:///path` is what desktop programs write for `file:/path`.
        match path.strip_prefix("//").filter(|rest| rest.starts_with('/')).unwrap_or(path) {
            "" => Err(ReferenceError::NoPath),
            path => Ok(Self::File(PathBuf::from(path))),
        }
    }

    /// The name that clients use for the model unless the operator chose one: the file's name without `.gguf`.
    #[must_use]
    pub fn default_id(&self) -> String {
        let Self::File(path) = self;
        let name = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy();
        name.strip_suffix(".gguf").unwrap_or(&name).to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(given: &str, expected: Result<&str, &str>) {
        let parsed = ModelReference::parse(given);
        match (&parsed, expected) {
            (Ok(ModelReference::File(path)), Ok(wanted)) => assert_eq!(path, Path::new(wanted)),
            (Err(error), Err(wanted)) => assert_eq!(error.to_string(), wanted),
            _ => panic!("{given:?} gave {parsed:?}, not {expected:?}"),
        }
    }

    // R10
    #[test]
    fn files_are_named_by_path() {
        check("file:/models/a.gguf", Ok("/models/a.gguf"));
        check("file:a.gguf", Ok("a.gguf"));
        check("file:///models/a.gguf", Ok("/models/a.gguf"));
        check(" file:a b.gguf ", Ok("a b.gguf"));
    }

    #[test]
    fn what_is_not_a_reference_is_answered_with_one() {
        check("", Err("the model reference is empty; write file:/path/to/model.gguf"));
        check("file:", Err("`file:` names no path; write file:/path/to/model.gguf"));
        check(
            "models/a.gguf",
            Err("`models/a.gguf` is not a model reference that can be served; write file:models/a.gguf"),
        );
        check("a", Err("`a` is not a model reference that can be served; write file:/path/to/model.gguf"));
    }

    #[test]
    fn the_default_id_is_the_file_name() {
        assert_eq!(ModelReference::File("/m/SmolLM2.Q4_1.gguf".into()).default_id(), "SmolLM2.Q4_1");
    }
}
