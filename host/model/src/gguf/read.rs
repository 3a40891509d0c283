//! Reading numbers and strings from a file that may be lying.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::limits::NAME_SHOWN_CHARS_MAX;

/// Why a file is not a GGUF that can be loaded.
#[derive(Debug, thiserror::Error)]
pub enum GgufError {
    /// The file could not be opened or read.
    #[error("cannot read {path}", path = path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file is something else.
    #[error("not a GGUF file: it starts with {found}, and a GGUF starts with the letters GGUF")]
    NotGguf {
        /// Its first bytes, as text or numbers.
        found: String,
    },
    /// A version that llama.cpp does not read.
    #[error("GGUF version {found} is not supported (2 and 3 are); convert the model again with a current converter")]
    Version {
        /// The version found.
        found: u32,
    },
    /// The file ends before its content does.
    #[error(
        "the file is cut short: {what} needs {needed} bytes and the file has {found}; the download was probably \
         interrupted, fetch it again"
    )]
    Truncated {
        /// What does not fit.
        what: String,
        /// Bytes that the file would need.
        needed: u64,
        /// Bytes that it has.
        found: u64,
    },
    /// A count or length beyond any real model's.
    #[error("{what} is {found}, and {limit} is the most that is accepted; the file is damaged or hostile")]
    Limit {
        /// What is too large.
        what: String,
        /// How large it says it is.
        found: u64,
        /// The most that is accepted.
        limit: u64,
    },
    /// A shard of a split model that is missing or damaged.
    #[error("the model is split, and its shard {path} cannot be used", path = path.display())]
    Shard {
        /// The shard.
        path: PathBuf,
        /// Why.
        source: Box<GgufError>,
    },
    /// A shard under a name that does not lead to the others.
    #[error(
        "the file is one of {count} shards of a model, and its name is not NAME-00001-of-{count:05}.gguf or the like; \
         name it as it was published, with the others beside it"
    )]
    ShardName {
        /// How many shards there are.
        count: u64,
    },
    /// Something that the format does not allow.
    #[error("{0}; the file is damaged or hostile")]
    Invalid(String),
}

/// A name that stands in a file, for an error: without what a terminal would act on, and no longer than one reads.
pub(super) fn shown(name: &str) -> String {
    let mut shown: String = name.chars().take(NAME_SHOWN_CHARS_MAX).flat_map(char::escape_debug).collect();
    if name.chars().nth(NAME_SHOWN_CHARS_MAX).is_some() {
        shown.push('…');
    }
    shown
}

/// Opens a file, and says how long it is. What is no file is refused before it is opened: a pipe would never be.
pub(super) fn open(path: &Path) -> Result<(File, u64), GgufError> {
    let io = |source| GgufError::Io { path: path.to_owned(), source };
    let facts = std::fs::metadata(path).map_err(io)?;
    if facts.is_dir() {
        return Err(io(io::ErrorKind::IsADirectory.into()));
    }
    if !facts.is_file() {
        return Err(io(io::Error::other("it is no regular file")));
    }
    let file = File::open(path).map_err(io)?;
    let length = file.metadata().map_err(io)?.len();
    Ok((file, length))
}

/// A reader that knows where it is, how long the file is, and how much metadata it may still take.
pub(super) struct Reader<R> {
    inner: R,
    path: PathBuf,
    position: u64,
    length: u64,
    position_max: u64,
}

impl<R: Read> Reader<R> {
    pub(super) fn new(inner: R, path: PathBuf, length: u64, position_max: u64) -> Self {
        Self { inner, path, position: 0, length, position_max }
    }

    /// A reader of what starts at `position` of the file.
    pub(super) fn at(inner: R, path: PathBuf, length: u64, position: u64, position_max: u64) -> Self {
        Self { inner, path, position, length, position_max }
    }

    pub(super) fn position(&self) -> u64 {
        self.position
    }

    pub(super) fn length(&self) -> u64 {
        self.length
    }

    /// Makes sure that `bytes` more are there, before memory is taken for them.
    fn claim(&mut self, what: &str, bytes: u64) -> Result<(), GgufError> {
        let end = self.position.saturating_add(bytes);
        if end > self.length {
            return Err(GgufError::Truncated { what: what.to_owned(), needed: end, found: self.length });
        }
        if end > self.position_max {
            return Err(GgufError::Limit {
                what: "the size of the header in bytes".to_owned(),
                found: end,
                limit: self.position_max,
            });
        }
        self.position = end;
        Ok(())
    }

    fn array<const N: usize>(&mut self, what: &str) -> Result<[u8; N], GgufError> {
        self.claim(what, N as u64)?;
        let mut bytes = [0; N];
        self.inner.read_exact(&mut bytes).map_err(|source| GgufError::Io { path: self.path.clone(), source })?;
        Ok(bytes)
    }

    pub(super) fn magic(&mut self) -> Result<[u8; 4], GgufError> {
        self.array("the magic number")
    }

    pub(super) fn u8(&mut self, what: &str) -> Result<u8, GgufError> {
        Ok(u8::from_le_bytes(self.array(what)?))
    }

    pub(super) fn u16(&mut self, what: &str) -> Result<u16, GgufError> {
        Ok(u16::from_le_bytes(self.array(what)?))
    }

    pub(super) fn u32(&mut self, what: &str) -> Result<u32, GgufError> {
        Ok(u32::from_le_bytes(self.array(what)?))
    }

    pub(super) fn u64(&mut self, what: &str) -> Result<u64, GgufError> {
        Ok(u64::from_le_bytes(self.array(what)?))
    }

    /// A count that is used to loop or allocate.
    pub(super) fn count(&mut self, what: &str, limit: u64) -> Result<u64, GgufError> {
        let found = self.u64(what)?;
        if found > limit {
            return Err(GgufError::Limit { what: what.to_owned(), found, limit });
        }
        Ok(found)
    }

    pub(super) fn string(&mut self, what: &str, limit: u64) -> Result<String, GgufError> {
        let bytes = self.bytes(what, limit)?;
        String::from_utf8(bytes).map_err(|_| GgufError::Invalid(format!("{what} is not UTF-8")))
    }

    /// A text in which what is not UTF-8 is replaced.
    pub(super) fn text(&mut self, what: &str, limit: u64) -> Result<String, GgufError> {
        let bytes = self.bytes(what, limit)?;
        Ok(String::from_utf8(bytes).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned()))
    }

    fn bytes(&mut self, what: &str, limit: u64) -> Result<Vec<u8>, GgufError> {
        let length = self.u64(what)?;
        if length > limit {
            return Err(GgufError::Limit { what: format!("the length of {what}"), found: length, limit });
        }
        self.claim(what, length)?;
        let mut bytes = vec![0; usize::try_from(length).unwrap_or(usize::MAX)];
        self.inner.read_exact(&mut bytes).map_err(|source| GgufError::Io { path: self.path.clone(), source })?;
        Ok(bytes)
    }

    pub(super) fn skip(&mut self, what: &str, bytes: u64) -> Result<(), GgufError> {
        self.claim(what, bytes)?;
        io::copy(&mut self.inner.by_ref().take(bytes), &mut io::sink())
            .map_err(|source| GgufError::Io { path: self.path.clone(), source })?;
        Ok(())
    }
}
