//! Compiled components, kept between starts.
//!
//! What is in a file here is run as native code, so a file is believed only when the folder and the file are ours
//! alone and its digest is right. Any doubt means compiling again; nothing about the cache ever fails a load.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use sha2::{Digest, Sha256};
use wasmtime::Engine;
use wasmtime::component::Component;

use crate::limits::{CACHE_BYTES_MAX, UNFINISHED_AGE_MAX};

/// The folder, and what makes this engine's code different from another's.
pub(crate) struct Cache {
    dir: PathBuf,
    engine: String,
}

/// First bytes of a file: what it is, and how it is laid out.
const MAGIC: &[u8; 8] = b"OUTRCW\x00\x01";
const DIGEST_BYTES: usize = 32;
const EXTENSION: &str = "cwasm";
const UNFINISHED: &str = "tmp";

impl Cache {
    /// The cache in `dir`, or none, with a warning, where the folder cannot be trusted.
    pub(crate) fn open(dir: PathBuf, engine: &Engine) -> Option<Self> {
        if let Err(error) = prepare(&dir) {
            tracing::warn!(
                "compiled plugins are not cached in {}, so every start compiles them again: {error}",
                dir.display()
            );
            return None;
        }
        remove_unfinished(&dir, SystemTime::now());
        let mut hasher = DefaultHasher::new();
        engine.precompile_compatibility_hash().hash(&mut hasher);
        Some(Self { dir, engine: format!("{:016x}", hasher.finish()) })
    }

    /// The component compiled earlier, if there is one and it is beyond doubt.
    pub(crate) fn load(&self, engine: &Engine, sha256: &str) -> Option<Component> {
        let path = self.path(sha256);
        let reason = match read(&path) {
            Ok(None) => return None,
            Ok(Some(code)) => match deserialize(engine, &code) {
                Ok(component) => {
                    // When it was last used is when it was last written. Best effort: on a volume that is read only, nothing is evicted.
                    drop(File::open(&path).and_then(|file| file.set_modified(SystemTime::now())));
                    return Some(component);
                }
                Err(error) => format!("{error:#}"),
            },
            Err(error) => error.to_string(),
        };
        tracing::warn!("the cached plugin code {} is not used and will be compiled again: {reason}", path.display());
        None
    }

    /// Keeps a compiled component. A file appears whole or not at all: another process may be reading it.
    pub(crate) fn store(&self, sha256: &str, component: &Component) {
        let path = self.path(sha256);
        let written = component.serialize().map_err(io::Error::other).and_then(|code| write(&path, &code));
        match written {
            Ok(()) => evict(&self.dir, CACHE_BYTES_MAX),
            Err(error) => tracing::warn!(
                "the compiled plugin could not be kept in {}, so the next start compiles it again: {error}",
                path.display()
            ),
        }
    }

    fn path(&self, sha256: &str) -> PathBuf {
        self.dir.join(format!("{sha256}-{}.{EXTENSION}", self.engine))
    }
}

/// Removes the files that were not used for longest, until all have this many bytes or it is one: every new version of a plugin leaves
/// one behind.
fn evict(dir: &Path, bytes_max: u64) {
    let Ok(entries) = fs::read_dir(dir) else { return };
    let files = entries.flatten().map(|entry| entry.path());
    let files = files.filter(|path| path.extension().is_some_and(|extension| extension == EXTENSION));
    let mut files: Vec<(SystemTime, u64, PathBuf)> = files
        .filter_map(|path| {
            let metadata = fs::symlink_metadata(&path).ok()?;
            Some((metadata.modified().ok()?, metadata.len(), path))
        })
        .collect();
    // The newest first.
    files.sort_by(|one, other| other.cmp(one));
    let mut sum = 0_u64;
    for (place, (_, bytes, path)) in files.iter().enumerate() {
        sum = sum.saturating_add(*bytes);
        if place > 0
            && sum > bytes_max
            && let Err(error) = fs::remove_file(path)
        {
            tracing::debug!("an old file of the plugin cache stays: {}: {error}", path.display());
        }
    }
}

/// Removes what a process left that was killed while it wrote.
fn remove_unfinished(dir: &Path, now: SystemTime) {
    let Ok(entries) = fs::read_dir(dir) else { return };
    for path in entries.flatten().map(|entry| entry.path()) {
        let is_unfinished = path.extension().is_some_and(|extension| extension == UNFINISHED);
        let modified = || fs::symlink_metadata(&path).and_then(|file| file.modified()).ok();
        // One that is from the future is from a clock that was set; it will be old one day.
        let is_old =
            || modified().and_then(|time| now.duration_since(time).ok()).is_some_and(|age| age > UNFINISHED_AGE_MAX);
        if is_unfinished
            && is_old()
            && let Err(error) = fs::remove_file(&path)
        {
            tracing::debug!("an unfinished file of the plugin cache stays: {}: {error}", path.display());
        }
    }
}

fn prepare(dir: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    check_ours(&fs::metadata(dir)?, "the folder")
}

fn check_ours(metadata: &fs::Metadata, what: &str) -> io::Result<()> {
    let user = effective_user();
    if metadata.uid() != user {
        return Err(io::Error::other(format!("{what} belongs to user {}, and we are user {user}", metadata.uid())));
    }
    let mode = metadata.mode() & 0o777;
    if mode & 0o022 != 0 {
        return Err(io::Error::other(format!(
            "{what} has mode {mode:03o}, so others can write to it, and what is in it runs as native code; `chmod go-w` it"
        )));
    }
    Ok(())
}

#[expect(unsafe_code, reason = "one libc call; std does not tell who we are")]
fn effective_user() -> u32 {
    // SAFETY: takes no arguments, touches no memory, cannot fail.
    unsafe { libc::geteuid() }
}

/// The code in a file of ours; `None` where there is no file.
fn read(path: &Path) -> io::Result<Option<Vec<u8>>> {
    let mut file = match OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    check_ours(&metadata, "the file")?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    let header = MAGIC.len() + DIGEST_BYTES;
    if bytes.len() < header || bytes[..MAGIC.len()] != *MAGIC {
        return Err(io::Error::other("it was not written by this cache"));
    }
    if Sha256::digest(&bytes[header..])[..] != bytes[MAGIC.len()..header] {
        return Err(io::Error::other("it is damaged"));
    }
    bytes.drain(..header);
    Ok(Some(bytes))
}

#[expect(unsafe_code, reason = "compiled code is trusted by nature; see SAFETY")]
fn deserialize(engine: &Engine, code: &[u8]) -> wasmtime::Result<Component> {
    // SAFETY: the bytes are what an engine of this version and configuration serialized (their digest, and the engine's
    // hash in the file's name), from a file and folder that nobody but us can write to. They are a copy, so a later
    // change of the file does not matter.
    unsafe { Component::deserialize(engine, code) }
}

fn write(path: &Path, code: &[u8]) -> io::Result<()> {
    // Two pods on one volume may have the same process id; the clock tells them apart, and `create_new` the rest.
    let nanoseconds = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |time| time.as_nanos());
    let temporary = path.with_extension(format!("{}-{nanoseconds}.{UNFINISHED}", std::process::id()));
    let result = write_to(&temporary, code).and_then(|()| fs::rename(&temporary, path));
    if result.is_err() {
        // Best effort: the first error is the one worth reporting.
        drop(fs::remove_file(&temporary));
    }
    result
}

fn write_to(path: &Path, code: &[u8]) -> io::Result<()> {
    let mut file: File = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(MAGIC)?;
    file.write_all(&Sha256::digest(code))?;
    file.write_all(code)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn what_was_not_used_for_longest_goes_first() {
        let dir = tempfile::tempdir().expect("a folder");
        let write = |name: &str, seconds: u64, bytes: usize| {
            let path = dir.path().join(name);
            fs::write(&path, vec![0; bytes]).expect("written");
            let time = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
            File::options().write(true).open(path).and_then(|file| file.set_modified(time)).expect("a time");
        };
        let left = |bytes_max: u64| {
            evict(dir.path(), bytes_max);
            let names = fs::read_dir(dir.path()).expect("a folder").map(|entry| entry.expect("a file").file_name());
            let mut names: Vec<_> = names.map(|name| name.into_string().expect("a name")).collect();
            names.sort();
            names
        };
        for (name, seconds) in [("a.cwasm", 3), ("b.cwasm", 1), ("c.cwasm", 4), ("d.cwasm", 2)] {
            write(name, seconds, 10);
        }
        write("other", 0, 1_000);
        assert_eq!(left(40).len(), 5);
        assert_eq!(left(39), ["a.cwasm", "c.cwasm", "d.cwasm", "other"]);
        assert_eq!(left(20), ["a.cwasm", "c.cwasm", "other"]);
        assert_eq!(left(0), ["c.cwasm", "other"], "what was just written is used");
    }
}
