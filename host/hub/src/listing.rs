//! What a repository holds, as the hub lists it, and the checks that a listing must pass before anything of it is used.
//!
//! A listing decides which files are written, under which names and how large. So one bad entry condemns it all:
//! whoever sends `../x` is not believed about the rest either.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use model::{Commit, RepositoryPath};
use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::digest::{GitSha1, Sha256};
use crate::limits::{ENTRIES_MAX, FILE_BYTES_MAX};

/// The files of a repository at a commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listing {
    /// As of when.
    pub commit: Commit,
    /// Every file, by its path.
    pub files: BTreeMap<RepositoryPath, Entry>,
}

/// What the hub says of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Bytes.
    pub size: u64,
    /// Git's name of the file or, where it is in LFS, of the pointer that stands for it.
    pub blob_id: GitSha1,
    /// The digest of its bytes, where it is in LFS.
    pub sha256: Option<Sha256>,
    /// Its name in the Hub's chunk store, 64 hexadecimal digits: for the records that `hf` keeps beside a file.
    pub xet_hash: Option<String>,
}

/// A listing in the making, page by page.
#[derive(Debug, Default)]
pub(crate) struct Draft {
    files: BTreeMap<RepositoryPath, Entry>,
    folders: BTreeSet<String>,
    /// Every name as a disk that ignores case would store it, with `/` as the least character: a file then stands right
    /// before what claims to be inside it.
    folded: BTreeMap<String, String>,
    entries: usize,
    /// Why it is refused.
    pub(crate) hostile: Option<Hostile>,
}

/// The entry that condemns a listing.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Hostile {
    pub(crate) entry: String,
    pub(crate) why: String,
}

/// An entry as the hub writes it. What it does not say, or says in another form, is judged in [`Draft::take`].
#[derive(Deserialize)]
struct Item {
    #[serde(rename = "type", default)]
    kind: String,
    #[serde(default)]
    path: String,
    #[serde(default)]
    oid: Option<String>,
    #[serde(default)]
    size: Number,
    #[serde(default)]
    lfs: Option<Lfs>,
    #[serde(rename = "xetHash", default)]
    xet_hash: Option<String>,
}

#[derive(Deserialize)]
struct Lfs {
    #[serde(default)]
    oid: String,
    #[serde(default)]
    size: Number,
}

/// A number of bytes, or what stood in its place.
#[derive(Default)]
enum Number {
    #[default]
    Missing,
    Whole(u64),
    Other(String),
}

impl Draft {
    /// Reads one page. Entries are judged as they come, so that a page costs what its sound entries cost.
    pub(crate) fn page(&mut self, json: &[u8]) -> Result<(), serde_json::Error> {
        let mut deserializer = serde_json::Deserializer::from_slice(json);
        Page(self).deserialize(&mut deserializer)?;
        deserializer.end()
    }

    /// The listing, if all its names can stand side by side.
    pub(crate) fn finish(self, commit: Commit) -> Result<Listing, Hostile> {
        let hostile = |entry: &str, why| Err(Hostile { entry: entry.escape_debug().to_string(), why });
        if let Some(hostile) = self.hostile {
            return Err(hostile);
        }
        for ((file, name), (next, other)) in self.folded.iter().zip(self.folded.iter().skip(1)) {
            if next.strip_prefix(file.as_str()).is_some_and(|rest| rest.starts_with('\0')) {
                return hostile(other, format!("`{name}` is a file, so nothing can be inside it"));
            }
        }
        if let Some(path) = self.files.keys().find(|path| self.folders.contains(path.as_str())) {
            return hostile(path.as_str(), "it is listed as a file and as a folder".to_owned());
        }
        Ok(Listing { commit, files: self.files })
    }

    fn take(&mut self, item: Item) -> Result<(), String> {
        self.entries += 1;
        if self.entries > ENTRIES_MAX {
            return Err(format!("the listing has more than {ENTRIES_MAX} entries"));
        }
        let path = RepositoryPath::parse(&item.path).map_err(|error| match error {
            model::ReferenceError::Part { why, .. } => why,
            other => other.to_string(),
        })?;
        match item.kind.as_str() {
            "file" => {}
            "directory" => {
                self.folders.insert(item.path);
                return Ok(());
            }
            other => return Err(format!("it is of the type `{}`, not a file or directory", other.escape_debug())),
        }
        let size = item.size.bytes()?;
        let blob_id = item.oid.as_deref().and_then(GitSha1::parse).ok_or("its oid is not 40 hexadecimal digits")?;
        let sha256 = item.lfs.map(|lfs| lfs.sha256(size)).transpose()?;
        if item.xet_hash.as_deref().is_some_and(|hash| Sha256::parse(hash).is_none()) {
            return Err("its xetHash is not 64 hexadecimal digits".to_owned());
        }
        let folded = item.path.to_lowercase().replace('/', "\0");
        if let Some(twin) = self.folded.insert(folded, item.path.clone()) {
            return Err(if twin == item.path {
                "it is listed twice".to_owned()
            } else {
                format!("`{twin}` differs from it in case only, and some disks cannot hold both")
            });
        }
        self.files.insert(path, Entry { size, blob_id, sha256, xet_hash: item.xet_hash });
        Ok(())
    }
}

impl Number {
    fn bytes(self) -> Result<u64, String> {
        match self {
            Self::Whole(bytes) if bytes <= FILE_BYTES_MAX => Ok(bytes),
            Self::Whole(bytes) => {
                Err(format!("its size is {bytes} bytes, and no file is larger than {FILE_BYTES_MAX}"))
            }
            Self::Missing => Err("it has no size".to_owned()),
            Self::Other(given) => Err(format!("its size is {given}, which is no number of bytes")),
        }
    }
}

impl Lfs {
    fn sha256(self, size: u64) -> Result<Sha256, String> {
        // Mirrors may leave the size out; two sizes that differ are a contradiction.
        match self.size {
            Number::Missing => {}
            given => match given.bytes()? {
                same if same == size => {}
                other => return Err(format!("its size is {size} bytes, and {other} in LFS")),
            },
        }
        Sha256::parse(&self.oid).ok_or_else(|| "its oid in LFS is not 64 hexadecimal digits".to_owned())
    }
}

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NumberVisitor)
    }
}

struct NumberVisitor;

impl<'de> Visitor<'de> for NumberVisitor {
    type Value = Number;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number of bytes")
    }

    fn visit_u64<E>(self, value: u64) -> Result<Number, E> {
        Ok(Number::Whole(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Number, E> {
        Ok(u64::try_from(value).map_or_else(|_| Number::Other(value.to_string()), Number::Whole))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Number, E> {
        Ok(Number::Other(value.to_string()))
    }

    fn visit_bool<E>(self, value: bool) -> Result<Number, E> {
        Ok(Number::Other(value.to_string()))
    }

    fn visit_str<E>(self, _: &str) -> Result<Number, E> {
        Ok(Number::Other("a text".to_owned()))
    }

    fn visit_unit<E>(self) -> Result<Number, E> {
        Ok(Number::Missing)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Number, A::Error> {
        while access.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Number::Other("a list".to_owned()))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Number, A::Error> {
        while access.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Number::Other("an object".to_owned()))
    }
}

/// An array of entries that go straight into the draft.
struct Page<'a>(&'a mut Draft);

impl<'de> DeserializeSeed<'de> for Page<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Page<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of files")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<(), A::Error> {
        while let Some(item) = access.next_element::<Item>()? {
            let name = item.path.clone();
            if let Err(why) = self.0.take(item) {
                self.0.hostile = Some(Hostile { entry: name.escape_debug().to_string(), why });
                return Err(A::Error::custom("an entry is refused"));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "listing_tests.rs"]
mod tests;
