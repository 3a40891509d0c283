//! The parts of a reference: texts that were checked once and need no checking again.

use std::fmt;
use std::path::{Path, PathBuf};

use super::ReferenceError;

/// Bytes of a repository's owner or name: the Hub's own limit.
const NAME_BYTES_MAX: usize = 96;
/// Bytes of a revision: below what any file system takes for one name (255), with room for our suffixes.
const REVISION_BYTES_MAX: usize = 200;
/// Bytes of one segment of a path in a repository: what ext4, xfs and most others take.
const SEGMENT_BYTES_MAX: usize = 255;
/// Bytes of a path in a repository: well below `PATH_MAX`, which counts the models directory as well.
const PATH_BYTES_MAX: usize = 2048;
/// Bytes of a quantisation's name. `IQ3_XXS` and `UD-Q4_K_XL` are long ones.
const QUANT_BYTES_MAX: usize = 32;

/// `org/model`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RepositoryId {
    org: String,
    model: String,
}

impl RepositoryId {
    /// A repository by owner and name. The Hub's rule: letters, digits, `_`, `-` and `.`, neither `-` nor `.` at an
    /// end, neither `--` nor `..` inside.
    pub fn new(org: &str, model: &str) -> Result<Self, ReferenceError> {
        let checked = |given: &str, what| {
            let is_sound = is_name(given, NAME_BYTES_MAX) && !given.contains("--") && !given.ends_with('-');
            let why = format!(
                "it consists of letters, digits, `_`, and inner `-` and `.`, neither twice in a row, at most {NAME_BYTES_MAX}"
            );
            if is_sound {
                Ok(given.to_owned())
            } else {
                Err(ReferenceError::Part { given: given.to_owned(), what, why })
            }
        };
        Ok(Self { org: checked(org, "the owner of a model")?, model: checked(model, "the name of a model")? })
    }

    /// Whose it is.
    #[must_use]
    pub fn org(&self) -> &str {
        &self.org
    }

    /// What it is called.
    #[must_use]
    pub fn model(&self) -> &str {
        &self.model
    }
}

impl fmt::Display for RepositoryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.org, self.model)
    }
}

/// A branch, tag or commit; always a sound directory name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Revision(String);

impl Revision {
    /// The branch that is meant when nothing is said.
    #[must_use]
    pub fn main() -> Self {
        Self("main".to_owned())
    }

    /// Parses a revision. `latest` is `main` (R11).
    pub fn parse(given: &str) -> Result<Self, ReferenceError> {
        if given == "latest" {
            return Ok(Self::main());
        }
        if is_name(given, REVISION_BYTES_MAX) {
            return Ok(Self(given.to_owned()));
        }
        let why = format!(
            "a revision consists of letters, digits, `_`, `-` and inner `.`, at most {REVISION_BYTES_MAX}; the commit's SHA \
             is always safe"
        );
        Err(ReferenceError::Part { given: given.to_owned(), what: "a revision", why })
    }

    /// The revision as text, which is also its directory's name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The commit, when the revision is one: it never moves.
    #[must_use]
    pub fn commit(&self) -> Option<Commit> {
        Commit::parse(&self.0)
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The full name of a commit: 40 lower-case hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Commit(String);

impl Commit {
    /// A commit, if it is one.
    #[must_use]
    pub fn parse(given: &str) -> Option<Self> {
        let is_digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        (given.len() == 40 && given.bytes().all(is_digit)).then(|| Self(given.to_owned()))
    }

    /// The 40 digits.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Commit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The path of a file in a repository: relative, of ordinary segments separated by `/`, and so always inside the
/// directory that it is joined to (R9).
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RepositoryPath(String);

impl RepositoryPath {
    /// Checks a path that a person or a hub said.
    pub fn parse(given: &str) -> Result<Self, ReferenceError> {
        match wrong_with_path(given) {
            None => Ok(Self(given.to_owned())),
            Some(why) => Err(ReferenceError::Part {
                given: given.chars().take(SEGMENT_BYTES_MAX).collect(),
                what: "a path in a repository",
                why: why.to_owned(),
            }),
        }
    }

    /// The path as text, with `/` between segments.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The last segment.
    #[must_use]
    pub fn file_name(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or(&self.0)
    }

    /// What precedes the last segment; empty at the top.
    #[must_use]
    pub fn folder(&self) -> &str {
        self.0.rsplit_once('/').map_or("", |(folder, _)| folder)
    }

    /// The path below `directory`.
    #[must_use]
    pub fn below(&self, directory: &Path) -> PathBuf {
        directory.join(&self.0)
    }
}

impl fmt::Display for RepositoryPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Also what Windows, a case-insensitive disk or our own records would trip over: a models directory may be shared.
fn wrong_with_path(given: &str) -> Option<&'static str> {
    if given.len() > PATH_BYTES_MAX {
        return Some("it is longer than 2,048 bytes");
    }
    if given.starts_with('/') {
        return Some("it is absolute");
    }
    if given.contains(|char: char| char.is_control() || char == '\\' || char == ':') {
        return Some("it holds a control character, a backslash or a colon");
    }
    given.split('/').find_map(|segment| match segment {
        "" => Some("it has an empty segment"),
        "." | ".." => Some("it has a segment `.` or `..`"),
        _ if segment.len() > SEGMENT_BYTES_MAX => Some("a segment is longer than 255 bytes"),
        _ if segment.eq_ignore_ascii_case(".cache") => Some("`.cache` holds the records of what was downloaded"),
        _ if segment.eq_ignore_ascii_case(".git") => Some("`.git` is no file of a repository"),
        _ => None,
    })
}

/// Letters, digits, `_`, `-`, inner `.`; nothing that a path or a command line takes for something else.
fn is_name(given: &str, bytes_max: usize) -> bool {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.');
    (1..=bytes_max).contains(&given.len())
        && given.bytes().all(is_allowed)
        && !given.starts_with(['.', '-'])
        && !given.ends_with('.')
        && !given.contains("..")
}

/// A quantisation's name, in upper case as the field writes it.
pub(super) fn quant(given: &str) -> Result<String, ReferenceError> {
    if is_name(given, QUANT_BYTES_MAX) {
        return Ok(given.to_ascii_uppercase());
    }
    Err(ReferenceError::Part {
        given: given.to_owned(),
        what: "a quantisation",
        why: "it is a name such as Q4_K_M or Q8_0; a revision is written behind `@`".to_owned(),
    })
}

/// The path of a GGUF as an address has it. A slash that was encoded is no separator, and no file's name has one.
pub(super) fn gguf_path_of_page(given: &str) -> Result<RepositoryPath, ReferenceError> {
    let plain = unescaped(given)?;
    if plain.matches('/').count() == given.matches('/').count() {
        return gguf_path(&plain);
    }
    Err(unfit_for_address(given, "it holds an encoded `/`, which no file's name does"))
}

/// A part of an address, its percent-encoding undone once. What it may hold then is for whoever takes it to check.
pub(super) fn unescaped(given: &str) -> Result<String, ReferenceError> {
    let digit = |byte: Option<&u8>| char::from(*byte?).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let (bytes, mut plain, mut at) = (given.as_bytes(), Vec::with_capacity(given.len()), 0);
    while let Some(byte) = bytes.get(at) {
        // A `%` that begins no escape is meant as it stands.
        let escape = digit(bytes.get(at + 1)).zip(digit(bytes.get(at + 2))).filter(|_| *byte == b'%');
        plain.push(escape.map_or(*byte, |(high, low)| high << 4 | low));
        at += if escape.is_some() { 3 } else { 1 };
    }
    String::from_utf8(plain).map_err(|_| unfit_for_address(given, "its escapes are no UTF-8"))
}

fn unfit_for_address(given: &str, why: &str) -> ReferenceError {
    let given = given.chars().take(SEGMENT_BYTES_MAX).collect();
    ReferenceError::Part { given, what: "a part of an address", why: why.to_owned() }
}

/// The path of a GGUF.
pub(super) fn gguf_path(given: &str) -> Result<RepositoryPath, ReferenceError> {
    let path = RepositoryPath::parse(given)?;
    if Path::new(given).extension().is_some_and(|it| it.eq_ignore_ascii_case("gguf")) {
        return Ok(path);
    }
    Err(ReferenceError::Part {
        given: given.to_owned(),
        what: "a model's file",
        why: "its name does not end in .gguf".to_owned(),
    })
}
