//! When a plugin's sources are other ones. What happens in the folder only says when to look: builds write there too.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::hash::{DefaultHasher, Hasher as _};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::{Duration, SystemTime};

use notify::{RecommendedWatcher, RecursiveMode, Watcher as _};

/// Without a change for this long, whoever writes the files is taken to be done.
const QUIET: Duration = Duration::from_millis(200);

/// How often it is looked at where nothing is told: on file systems that tell nobody.
const LOOK: Duration = Duration::from_secs(2);

/// Files that are looked at: of a folder with more, somebody keeps something else in it.
const FILES_MAX: usize = 10_000;

/// Of a longer file the time counts: it is no source that somebody writes.
const READ_BYTES_MAX: u64 = 1 << 20;

/// Folders of what is made of the sources, or of what they are kept in; beside the manifest, not further down.
const IGNORED_FOLDERS: [&str; 6] = ["target", ".git", "node_modules", "dist", "build", ".venv"];

/// What is made by building.
const IGNORED_ENDS: [&str; 4] = [".wasm", ".wasm.new", ".lock", "~"];

/// A folder's sources, as they were when they were last looked at.
pub(super) struct Changes {
    folder: PathBuf,
    seen: Stamps,
    happened: Receiver<()>,
    /// `None`: nothing can be watched, and looking is all there is.
    _watcher: Option<RecommendedWatcher>,
}

type Stamps = BTreeMap<PathBuf, Stamp>;

/// What a file is, as far as it is looked at: its text where that is short. A build may write sources anew each time, and what it
/// writes is then the same.
#[derive(Debug, Clone, Copy)]
struct Stamp {
    modified: Option<SystemTime>,
    bytes: u64,
    /// `None`: it is too long, or cannot be read.
    hash: Option<u64>,
}

impl PartialEq for Stamp {
    fn eq(&self, other: &Self) -> bool {
        let is_same = match (self.hash, other.hash) {
            (Some(hash), Some(other)) => hash == other,
            _ => self.modified == other.modified,
        };
        is_same && self.bytes == other.bytes
    }
}

impl Changes {
    pub(super) fn of(folder: &Path) -> Self {
        let (sender, happened) = mpsc::channel();
        let watcher = notify::recommended_watcher(move |_| {
            // Whoever listened has ended with the process.
            let _ = sender.send(());
        });
        let watcher = watcher.ok().map(|mut watcher| {
            for folder in folders(folder) {
                // What cannot be watched is looked at.
                let _ = watcher.watch(&folder, RecursiveMode::NonRecursive);
            }
            watcher
        });
        Self { seen: stamps(folder, &Stamps::new()), folder: folder.to_owned(), happened, _watcher: watcher }
    }

    /// Returns when a source is another one than when this was called last, and nobody writes any more.
    pub(super) fn wait(&mut self) {
        loop {
            let now = stamps(&self.folder, &self.seen);
            if now != self.seen {
                self.seen = self.settled(now);
                return;
            }
            match self.happened.recv_timeout(LOOK) {
                Ok(()) | Err(RecvTimeoutError::Timeout) => {}
                // Without a watcher nobody ever sends.
                Err(RecvTimeoutError::Disconnected) => std::thread::sleep(LOOK),
            }
        }
    }

    fn settled(&self, mut last: Stamps) -> Stamps {
        loop {
            std::thread::sleep(QUIET);
            while self.happened.try_recv().is_ok() {}
            let now = stamps(&self.folder, &last);
            if now == last {
                return now;
            }
            last = now;
        }
    }
}

/// The folder and those below it that hold sources.
fn folders(folder: &Path) -> Vec<PathBuf> {
    let mut all = vec![folder.to_owned()];
    let mut next = 0;
    while next < all.len() && all.len() < FILES_MAX {
        let entries = fs::read_dir(&all[next]).into_iter().flatten().flatten();
        let below = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
        let is_ignored = |name: &OsStr| {
            let name = name.to_string_lossy();
            // Python's lie beside every module.
            name == "__pycache__" || (next == 0 && IGNORED_FOLDERS.contains(&name.as_ref()))
        };
        let below = below.filter(|entry| !is_ignored(&entry.file_name()));
        let below: Vec<PathBuf> = below.map(|entry| entry.path()).collect();
        all.extend(below);
        next += 1;
    }
    all
}

/// `seen`: what was found before; a file that was not written since need not be read again.
fn stamps(folder: &Path, seen: &Stamps) -> Stamps {
    let mut stamps = Stamps::new();
    for folder in folders(folder) {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let is_made = IGNORED_ENDS.iter().any(|end| name.to_string_lossy().ends_with(end));
            if is_made || stamps.len() >= FILES_MAX {
                continue;
            }
            if let Ok(metadata) = entry.path().metadata()
                && metadata.is_file()
            {
                let (path, modified, bytes) = (entry.path(), metadata.modified().ok(), metadata.len());
                let before = seen.get(&path).filter(|before| before.modified == modified && before.bytes == bytes);
                let stamp = before.copied().unwrap_or_else(|| Stamp { modified, bytes, hash: hash(&path, bytes) });
                stamps.insert(path, stamp);
            }
        }
    }
    stamps
}

fn hash(path: &Path, bytes: u64) -> Option<u64> {
    let text = if bytes <= READ_BYTES_MAX { fs::read(path).ok()? } else { return None };
    let mut hasher = DefaultHasher::new();
    hasher.write(&text);
    Some(hasher.finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_count_and_what_is_made_of_them_does_not() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path();
        fs::create_dir_all(path.join("src")).expect("a folder");
        fs::create_dir_all(path.join("target/debug")).expect("a folder");
        fs::create_dir_all(path.join("src/build")).expect("a folder");
        fs::create_dir_all(path.join("src/__pycache__")).expect("a folder");
        fs::write(path.join("src/lib.rs"), "a").expect("written");
        let before = stamps(path, &Stamps::new());
        for made in ["target/debug/a", "src/__pycache__/a.pyc", "a.wasm", "Cargo.lock"] {
            fs::write(path.join(made), "b").expect("written");
        }
        assert_eq!(stamps(path, &Stamps::new()), before);
        fs::write(path.join("src/build/mod.rs"), "b").expect("written");
        let after = stamps(path, &Stamps::new());
        assert_ne!(after, before);
        fs::write(path.join("src/lib.rs"), "changed").expect("written");
        assert_ne!(stamps(path, &Stamps::new()), after);
    }

    /// Otherwise a build that writes one would be followed by another, for ever.
    #[test]
    fn a_source_that_is_written_anew_is_the_same() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("generated.rs");
        let write = |text: &str, seconds| {
            fs::write(&file, text).expect("written");
            let times = fs::FileTimes::new().set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds));
            fs::File::options().write(true).open(&file).and_then(|file| file.set_times(times)).expect("a time");
        };
        write("a", 1);
        let before = stamps(folder.path(), &Stamps::new());
        write("a", 2);
        assert_eq!(stamps(folder.path(), &before), before);
        write("b", 3);
        assert_ne!(stamps(folder.path(), &before), before);
    }

    #[test]
    fn a_change_is_noticed_once() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("plugin.toml");
        fs::write(&file, "a").expect("written");
        let mut changes = Changes::of(folder.path());
        fs::write(&file, "changed").expect("written");
        changes.wait();
        assert_eq!(stamps(folder.path(), &Stamps::new()), changes.seen);
    }
}
