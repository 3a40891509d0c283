//! The access token: where it comes from, and that nothing ever shows it.

use std::fmt;
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use http::HeaderValue;

use crate::error::HubError;
use crate::limits::{SECRET_BYTES_MIN, TOKEN_FILE_BYTES_MAX};

/// An access token of the hub. It is shown nowhere: neither `Debug` nor an error has it, and the header that carries it
/// is marked as sensitive.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

/// Where a token came from, for people. Never the value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TokenSource {
    /// The configuration, named as its reader would find it: `hf_token in /etc/outrigger.toml`.
    Config(String),
    /// An environment variable.
    Environment(&'static str),
    /// A file, read at every use.
    File(PathBuf),
}

/// Where a token is looked for, in order; the first that has one wins. Files are read again at every use, so that a
/// rotated secret is noticed without a restart.
#[derive(Debug, Clone, Default)]
pub struct Tokens {
    candidates: Vec<Candidate>,
}

#[derive(Debug, Clone)]
enum Candidate {
    Value(Token, TokenSource),
    File { path: PathBuf, is_required: bool },
}

/// Why a text cannot be a token. The text itself is never repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it holds {0}, which no token does")]
pub struct TokenError(&'static str);

impl Token {
    /// The token in a text, without the white space around it; an empty text holds none.
    pub fn parse(given: &str) -> Result<Option<Self>, TokenError> {
        let given = given.trim();
        if let Some(odd) = given.bytes().find(|byte| !byte.is_ascii_graphic()) {
            return Err(TokenError(match odd {
                b'\r' | b'\n' => "a line break",
                b' ' | b'\t' => "a space",
                0..0x20 | 0x7f => "a control character",
                _ => "a character outside ASCII",
            }));
        }
        Ok((!given.is_empty()).then(|| Self(given.to_owned())))
    }

    /// `Authorization`, marked so that no log of the layers below shows it.
    pub(crate) fn header(&self) -> Option<HeaderValue> {
        let mut value = HeaderValue::try_from(format!("Bearer {}", self.0)).ok()?;
        value.set_sensitive(true);
        Some(value)
    }

    /// A text without this token, should a server have echoed it.
    pub(crate) fn redacted(&self, text: &str) -> String {
        let (lower, secret) = (text.to_ascii_lowercase(), self.0.to_ascii_lowercase());
        let (mut redacted, mut end) = (String::with_capacity(text.len()), 0);
        for (start, found) in lower.match_indices(&secret) {
            redacted.push_str(&text[end..start]);
            redacted.push_str("(token)");
            end = start + found.len();
        }
        redacted + &text[end..]
    }

    /// Whether a text holds this token, in any case: a host's name is written in lower case.
    pub(crate) fn is_in(&self, text: &str) -> bool {
        self.0.len() >= SECRET_BYTES_MIN && text.to_ascii_lowercase().contains(&self.0.to_ascii_lowercase())
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

impl fmt::Display for TokenSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Config(place) => f.write_str(place),
            Self::Environment(name) => f.write_str(name),
            Self::File(path) => write!(f, "the file {}", path.display()),
        }
    }
}

impl Tokens {
    /// No token: every request is anonymous.
    #[must_use]
    pub fn none() -> Self {
        Self::default()
    }

    /// Adds a value that was given. An empty one is as good as none.
    pub fn value(mut self, given: &str, source: TokenSource) -> Result<Self, HubError> {
        match Token::parse(given) {
            Ok(Some(token)) => self.candidates.push(Candidate::Value(token, source)),
            Ok(None) => {}
            Err(why) => return Err(HubError::Token { from: source, why }),
        }
        Ok(self)
    }

    /// Adds a file where a token may lie, as a login leaves it. Where there is none, the next candidate has its turn.
    #[must_use]
    pub fn file(mut self, path: impl Into<PathBuf>) -> Self {
        self.candidates.push(Candidate::File { path: path.into(), is_required: false });
        self
    }

    /// Adds a file that was named as *the* place of the token: without a token in it, nothing is asked of the hub.
    #[must_use]
    pub fn required_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.candidates.push(Candidate::File { path: path.into(), is_required: true });
        self
    }

    /// The token as of now, and where it came from.
    pub fn read(&self) -> Result<Option<(Token, TokenSource)>, HubError> {
        for candidate in &self.candidates {
            let found = match candidate {
                Candidate::Value(token, source) => Some((token.clone(), source.clone())),
                Candidate::File { path, is_required } => from_file(path, *is_required)?,
            };
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }
}

/// A text with its percent-encoding undone, to look for something in it.
pub(crate) fn percent_decoded(text: &str) -> String {
    let digit = |byte: Option<&u8>| byte.and_then(|byte| char::from(*byte).to_digit(16));
    let (bytes, mut decoded, mut at) = (text.as_bytes(), Vec::with_capacity(text.len()), 0);
    while let Some(byte) = bytes.get(at) {
        let escape = digit(bytes.get(at + 1)).zip(digit(bytes.get(at + 2))).filter(|_| *byte == b'%');
        decoded.push(escape.and_then(|(high, low)| u8::try_from(high * 16 + low).ok()).unwrap_or(*byte));
        at += if escape.is_some() { 3 } else { 1 };
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

fn from_file(path: &Path, is_required: bool) -> Result<Option<(Token, TokenSource)>, HubError> {
    let failed = |source| HubError::TokenFile { path: path.to_owned(), source };
    let text = match text_of(path) {
        Ok(text) => text,
        // Somebody else's token is not ours to read: an implicit file that is missing or closed to us is no token.
        Err(error) if !is_required && is_absent(&error) => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    match Token::parse(&text) {
        Ok(None) if is_required => Err(failed(io::Error::new(io::ErrorKind::InvalidData, "the file is empty"))),
        Ok(token) => Ok(token.map(|token| (token, TokenSource::File(path.to_owned())))),
        Err(why) => Err(HubError::Token { from: TokenSource::File(path.to_owned()), why }),
    }
}

fn is_absent(error: &io::Error) -> bool {
    use io::ErrorKind::{NotADirectory, NotFound, PermissionDenied};
    matches!(error.kind(), NotFound | NotADirectory | PermissionDenied)
}

/// The text of a regular file of modest size. A pipe would hold up the request for ever, and could not be read again.
fn text_of(path: &Path) -> io::Result<String> {
    let wrong = |why| io::Error::new(io::ErrorKind::InvalidData, why);
    if !fs::metadata(path)?.is_file() {
        return Err(wrong("it is not a regular file"));
    }
    let mut text = Vec::new();
    fs::File::open(path)?.take(TOKEN_FILE_BYTES_MAX + 1).read_to_end(&mut text)?;
    if text.len() as u64 > TOKEN_FILE_BYTES_MAX {
        return Err(wrong("it is larger than 16 KiB, which no token is"));
    }
    // Without the decoder's own error, which says what it found and where.
    String::from_utf8(text).map_err(|_| wrong("it is not text"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const CANARY: &str = "hf_canary";

    fn read(tokens: &Tokens) -> Option<(String, String)> {
        let found = tokens.read().expect("readable");
        found.map(|(token, from)| (token.0, from.to_string()))
    }

    fn found(value: &str, from: &str) -> (String, String) {
        (value.to_owned(), from.to_owned())
    }

    fn value(given: &str, name: &'static str) -> Tokens {
        Tokens::none().value(given, TokenSource::Environment(name)).expect("sound")
    }

    // R4
    #[test]
    fn the_first_place_that_holds_a_token_wins() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = |name: &str| folder.path().join(name);
        fs::write(path("empty"), " \n").expect("written");
        fs::write(path("token"), "hf_file\r\n").expect("written");
        let tokens = Tokens::none()
            .value(" \t", TokenSource::Config("hf_token in a.toml".to_owned()))
            .expect("empty")
            .file(path("missing"))
            .file(path("token").join("below a file"))
            .file(path("empty"));
        assert_eq!(read(&tokens), None);
        let tokens = tokens.file(path("token")).value("hf_last", TokenSource::Environment("HF_TOKEN")).expect("sound");
        assert_eq!(read(&tokens), Some(found("hf_file", &format!("the file {}", path("token").display()))));
        assert_eq!(read(&value(" hf_env\n", "HF_TOKEN").file(path("token"))), Some(found("hf_env", "HF_TOKEN")));
    }

    // R3: a rotated secret is noticed
    #[test]
    fn a_file_is_read_at_every_use() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("token");
        let tokens = Tokens::none().file(&path);
        assert_eq!(read(&tokens), None);
        for turn in ["hf_one", "hf_two"] {
            fs::write(&path, turn).expect("written");
            assert_eq!(read(&tokens).map(|(token, _)| token).as_deref(), Some(turn));
        }
    }

    // R5
    #[test]
    fn a_file_that_was_named_must_hold_a_token() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("token");
        let refusal = |path: &Path| {
            let error = Tokens::none().required_file(path).value("hf_other", TokenSource::Environment("HF_TOKEN"));
            let error = error.expect("sound").read().expect_err("no token in it");
            format!("{error}: {}", std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default())
        };
        assert!(refusal(&path).contains("cannot read a token from"), "{}", refusal(&path));
        fs::write(&path, "\n").expect("written");
        assert!(refusal(&path).ends_with("the file is empty"), "{}", refusal(&path));
        fs::write(&path, vec![b'x'; 16 * 1024 + 1]).expect("written");
        assert!(refusal(&path).ends_with("it is larger than 16 KiB, which no token is"), "{}", refusal(&path));
        assert!(refusal(folder.path()).ends_with("it is not a regular file"), "{}", refusal(folder.path()));
        fs::write(&path, [0xff, 0xfe]).expect("written");
        assert!(refusal(&path).ends_with("it is not text"), "{}", refusal(&path));
    }

    // R3
    #[test]
    fn what_no_header_can_carry_is_refused_without_being_shown() {
        for (given, why) in [
            ("hf_canary\nX: y", "a line break"),
            ("hf_canary hf_canary", "a space"),
            ("hf_canary\0", "a control character"),
            ("hf_canary\u{7f}", "a control character"),
            ("hf_canaryé", "a character outside ASCII"),
        ] {
            let error = Tokens::none().value(given, TokenSource::Environment("HF_TOKEN")).expect_err("unsound");
            let expected = format!("cannot use the token from HF_TOKEN: it holds {why}, which no token does");
            assert_eq!(error.to_string(), expected);
            assert!(!format!("{error:?}").contains("canary"), "{error:?}");
        }
    }

    // R3
    #[test]
    fn a_token_is_shown_by_nothing() {
        let tokens = value(CANARY, "HF_TOKEN");
        let (token, from) = tokens.read().expect("readable").expect("a token");
        let header = token.header().expect("a header");
        assert_eq!(header.to_str().expect("text"), "Bearer hf_canary");
        let shown = format!("{tokens:?} {tokens:#?} {token:?} {from:?} {from} {header:?}");
        assert!(shown.contains("Token(…)") && !shown.contains("canary"), "{shown}");
    }
}
