//! Who may ask: keys from a file, of which only digests are kept.
//!
//! A line is `KEY` or `NAME KEY`; a name may have several keys, so that a new one can be handed out before the old one goes. What
//! a client presents is hashed and compared with every digest in constant time: neither a key's length nor how much of it was
//! right can be told from how long an answer takes, and no key is in memory to be found there.

use std::fmt;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sha2::{Digest as _, Sha256};
use subtle::{ConditionallySelectable as _, ConstantTimeEq as _};

use crate::limits::{KEY_BYTES_MAX, KEY_BYTES_MIN, KEY_FILE_BYTES_MAX, KEY_NAME_BYTES_MAX, KEYS_MAX};

/// Keys, any of which opens the API. Never empty.
#[derive(Clone, PartialEq, Eq)]
pub struct Keys {
    keys: Vec<Key>,
    others_may_read: Option<u32>,
}

#[derive(Clone, PartialEq, Eq)]
struct Key {
    /// Whose it is.
    name: Arc<str>,
    digest: [u8; 32],
}

/// Why a file's keys are not used. No part of a key is in it.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// The system does not give it.
    #[error("failed to read the API keys in {path}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// There is something else in it.
    #[error("failed to use the API keys in {path}: {why}")]
    Unusable {
        /// The file.
        path: PathBuf,
        /// Where and what.
        why: String,
    },
}

impl Keys {
    /// The keys in a file.
    pub fn read(path: &Path) -> Result<Self, KeysError> {
        let unreadable = |source| KeysError::Unreadable { path: path.to_owned(), source };
        let unusable = |why| KeysError::Unusable { path: path.to_owned(), why };
        let file = File::open(path).map_err(unreadable)?;
        let mode = file.metadata().map_err(unreadable)?.permissions().mode() & 0o777;
        let mut bytes = Vec::new();
        file.take(KEY_FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(unreadable)?;
        if bytes.len() as u64 > KEY_FILE_BYTES_MAX {
            return Err(unusable(format!("it is larger than {KEY_FILE_BYTES_MAX} bytes")));
        }
        let text = str::from_utf8(&bytes).map_err(|_| unusable("it is not a text".to_owned()))?;
        let keys = Self::parse(text).map_err(unusable)?;
        Ok(Self { others_may_read: Some(mode).filter(|mode| mode & 0o077 != 0), ..keys })
    }

    /// The keys in the text of a file.
    fn parse(text: &str) -> Result<Self, String> {
        let mut keys: Vec<(usize, Key)> = Vec::new();
        for (number, line) in (1..).zip(text.lines()) {
            let mut words = line.split_whitespace();
            let (name, key) = match (words.next(), words.next(), words.next()) {
                (None, ..) => continue,
                (Some(first), ..) if first.starts_with('#') => continue,
                (Some(key), None, _) => (format!("line-{number}"), key),
                (Some(name), Some(key), None) => (name.to_owned(), key),
                _ => return Err(format!("line {number} is neither `KEY` nor `NAME KEY`")),
            };
            if !is_name(&name) {
                return Err(format!(
                    "the name in line {number} is not one of at most {KEY_NAME_BYTES_MAX} letters, digits, `.`, `_` and `-`"
                ));
            }
            let is_visible = key.bytes().all(|byte| byte.is_ascii_graphic());
            if !is_visible || !(KEY_BYTES_MIN..=KEY_BYTES_MAX).contains(&key.len()) {
                return Err(format!(
                    "the key in line {number} is not one of {KEY_BYTES_MIN} to {KEY_BYTES_MAX} visible ASCII characters; \
                     `openssl rand -hex 32` makes one"
                ));
            }
            let key = Key { name: name.into(), digest: Sha256::digest(key).into() };
            if let Some((first, _)) = keys.iter().find(|(_, other)| other.digest == key.digest) {
                return Err(format!("line {number} has the same key as line {first}"));
            }
            if keys.len() == KEYS_MAX {
                return Err(format!("there are more than {KEYS_MAX} keys"));
            }
            keys.push((number, key));
        }
        if keys.is_empty() {
            return Err("there is no key in it; write one to a line, after the name of whoever it is for".to_owned());
        }
        Ok(Self { keys: keys.into_iter().map(|(_, key)| key).collect(), others_may_read: None })
    }

    /// Keys of a text, for tests.
    #[cfg(test)]
    pub(crate) fn of(text: &str) -> Self {
        Self::parse(text).expect("keys")
    }

    /// The mode of the file, where others than its owner may read it.
    #[must_use]
    pub fn others_may_read(&self) -> Option<u32> {
        self.others_may_read
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.keys.len()
    }

    /// Whose key this is, if it is one.
    pub(crate) fn holder(&self, presented: &[u8]) -> Option<&Arc<str>> {
        let digest: [u8; 32] = Sha256::digest(presented).into();
        // All of them are compared, and no branch depends on the outcome.
        let place = (0..)
            .zip(&self.keys)
            .fold(u32::MAX, |place, (index, key)| u32::conditional_select(&place, &index, key.digest.ct_eq(&digest)));
        self.keys.get(place as usize).map(|key| &key.name)
    }
}

/// Digests are not shown either: a short key could be guessed by its digest.
impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keys").field("count", &self.keys.len()).finish_non_exhaustive()
    }
}

fn is_name(name: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    name.len() <= KEY_NAME_BYTES_MAX && name.bytes().all(is_plain)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const ONE: &str = "0123456789abcdef0123456789abcdef";
    const TWO: &str = "sk-zyxwvutsrqponmlkjihgfedcba9876";

    #[test]
    fn a_line_is_a_key_and_perhaps_whose() {
        let text = format!("# keys of the house\n\n  app-1\t{ONE}  \r\n{TWO}\n#{TWO}\n");
        let keys = Keys::parse(&text).expect("keys");
        assert_eq!(keys.count(), 2);
        assert_eq!(keys.holder(ONE.as_bytes()).map(|name| &**name), Some("app-1"));
        assert_eq!(keys.holder(TWO.as_bytes()).map(|name| &**name), Some("line-4"));
        for wrong in ["", &ONE[1..], &format!("{ONE}0"), &ONE.to_uppercase(), "app-1", &format!("#{TWO}")] {
            assert_eq!(keys.holder(wrong.as_bytes()), None, "{wrong}");
        }
    }

    #[test]
    fn one_who_has_two_keys_is_one_caller() {
        let keys = Keys::parse(&format!("app {ONE}\napp {TWO}")).expect("keys");
        assert_eq!(keys.holder(ONE.as_bytes()), keys.holder(TWO.as_bytes()));
    }

    #[test]
    fn what_is_no_key_is_refused_by_its_line_and_never_shown() {
        let refusal = |text: &str| Keys::parse(text).expect_err(text);
        assert!(refusal("# nothing\n").starts_with("there is no key in it"));
        assert!(refusal("secretword").starts_with("the key in line 1 is not one of 16 to 512"));
        assert!(refusal("\na secretword").contains("line 2"));
        assert!(refusal("ä 0123456789abcdef").starts_with("the name in line 1"));
        assert!(refusal("a 0123456789abcdeä").starts_with("the key in line 1"));
        assert!(refusal("a b secretword").starts_with("line 1 is neither"));
        assert!(refusal(&"x".repeat(513)).starts_with("the key in line 1"));
        assert_eq!(refusal(&format!("a {ONE}\n\nb {ONE}")), "line 3 has the same key as line 1");
        let many = (0..=KEYS_MAX).map(|number| format!("{number:032}")).collect::<Vec<_>>().join("\n");
        assert_eq!(refusal(&many), "there are more than 1024 keys");
        for text in ["secretword", "a b secretword", "a secretword"] {
            assert!(!refusal(text).contains("secretword"));
        }
        assert!(!format!("{:?}", Keys::parse(ONE).expect("a key")).contains(&ONE[..4]));
    }

    #[test]
    fn a_file_says_who_else_may_read_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("keys");
        assert!(matches!(Keys::read(&path), Err(KeysError::Unreadable { .. })));
        fs::write(&path, ONE).expect("written");
        for (mode, expected) in [(0o600, None), (0o400, None), (0o640, Some(0o640)), (0o604, Some(0o604))] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("ours");
            assert_eq!(Keys::read(&path).expect("a key").others_may_read(), expected, "{mode:o}");
        }
        fs::write(&path, b"\xff\xfe0123456789abcdef").expect("written");
        assert!(Keys::read(&path).expect_err("no text").to_string().ends_with("it is not a text"));
        fs::write(&path, "#".repeat(2 << 20)).expect("written");
        assert!(Keys::read(&path).expect_err("too much").to_string().contains("larger than"));
    }
}
