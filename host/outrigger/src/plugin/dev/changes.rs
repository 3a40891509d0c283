//! When a plugin's sources are other ones. What happens in the folder only says when to look: builds write there too.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
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

type Stamps = BTreeMap<PathBuf, (Option<SystemTime>, u64)>;

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
        Self { seen: stamps(folder), folder: folder.to_owned(), happened, _watcher: watcher }
    }

    /// Returns when a source is another one than when this was called last, and nobody writes any more.
    pub(super) fn wait(&mut self) {
        loop {
            let now = stamps(&self.folder);
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
            let now = stamps(&self.folder);
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

fn stamps(folder: &Path) -> Stamps {
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
                stamps.insert(entry.path(), (metadata.modified().ok(), metadata.len()));
            }
        }
    }
    stamps
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
        let before = stamps(path);
        for made in ["target/debug/a", "src/__pycache__/a.pyc", "a.wasm", "Cargo.lock"] {
            fs::write(path.join(made), "b").expect("written");
        }
        assert_eq!(stamps(path), before);
        fs::write(path.join("src/build/mod.rs"), "b").expect("written");
        let after = stamps(path);
        assert_ne!(after, before);
        fs::write(path.join("src/lib.rs"), "changed").expect("written");
        assert_ne!(stamps(path), after);
    }

    #[test]
    fn a_change_is_noticed_once() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("plugin.toml");
        fs::write(&file, "a").expect("written");
        let mut changes = Changes::of(folder.path());
        fs::write(&file, "changed").expect("written");
        changes.wait();
        assert_eq!(stamps(folder.path()), changes.seen);
    }
}
