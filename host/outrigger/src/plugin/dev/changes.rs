//! When a plugin's sources are other ones. What happens in the folder only says when to look: builds write there too.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::hash::{DefaultHasher, Hasher as _};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::{Duration, Instant, SystemTime};

use notify::{EventHandler, RecommendedWatcher, RecursiveMode, Watcher as _};

use crate::console;

/// Without a change for this long, whoever writes the files is taken to be done.
const QUIET: Duration = Duration::from_millis(200);

/// Where changes do not end, it is built this long after the first.
const QUIET_WAIT_MAX: Duration = Duration::from_secs(3);

/// How often it is looked at where nothing is told: on file systems that tell nobody.
const LOOK: Duration = Duration::from_secs(2);

/// Files that are looked at: of a folder with more, somebody keeps something else in it.
const FILES_MAX: usize = 10_000;

/// Bytes of a file that is read to see whether it is another one. Sources are smaller; of what is larger (a model, say) its time
/// and its size tell.
const READ_BYTES_MAX: u64 = 1 << 20;

/// Builds in a row in which a file may change before it is taken to be made by them. Twice may be somebody who goes on writing.
const CHANGED_BUILDS_MAX: u32 = 2;

/// Folders of what is made of the sources, or of what they are kept in; beside the manifest, not further down.
const IGNORED_FOLDERS: [&str; 6] = ["target", ".git", "node_modules", "dist", "build", ".venv"];

/// What is made by building, by tools that log, and by editors that are open.
const IGNORED_ENDS: [&str; 6] = [".wasm", ".wasm.new", ".lock", ".log", ".swp", "~"];

/// A folder's sources, as they were when they were last looked at.
pub(super) struct Changes {
    folder: PathBuf,
    seen: Stamps,
    /// Files that changed while they were being built, and in how many builds in a row.
    in_builds: BTreeMap<PathBuf, u32>,
    happened: Receiver<()>,
    /// `None`: nothing can be watched, and looking is all there is.
    _watcher: Option<RecommendedWatcher>,
}

type Stamps = BTreeMap<PathBuf, Stamp>;

#[derive(Debug, Clone, PartialEq, Eq)]
struct Stamp {
    modified: Option<SystemTime>,
    size: u64,
    /// Of what is in it; `None`: it is too large, or cannot be read.
    hash: Option<u64>,
}

impl Changes {
    pub(super) fn of(folder: &Path) -> Self {
        // One that waits stands for all: it is about when to look.
        let (sender, happened) = mpsc::sync_channel(1);
        let watcher = watcher(folder, move |event: notify::Result<notify::Event>| {
            if is_of_a_change(&event) {
                // Full: it will be looked at anyway. Closed: whoever listened has ended with the process.
                let _ = sender.try_send(());
            }
        });
        let seen = stamps(folder, &Stamps::new());
        Self { seen, folder: folder.to_owned(), in_builds: BTreeMap::new(), happened, _watcher: watcher.ok() }
    }

    /// Returns when a source is another one than when this was called last, and nobody writes any more; and which.
    pub(super) fn wait(&mut self) -> Vec<PathBuf> {
        let mut now = stamps(&self.folder, &self.seen);
        let mut is_due = self.may_be_built(&different(&self.seen, &now));
        if !is_due {
            self.seen.clone_from(&now);
        }
        loop {
            if is_due {
                let changed = self.settled(now);
                if !changed.is_empty() {
                    return changed;
                }
            }
            match self.happened.recv_timeout(LOOK) {
                Ok(()) | Err(RecvTimeoutError::Timeout) => {}
                // Without a watcher nobody ever sends.
                Err(RecvTimeoutError::Disconnected) => std::thread::sleep(LOOK),
            }
            now = stamps(&self.folder, &self.seen);
            is_due = !different(&self.seen, &now).is_empty();
        }
    }

    /// Whether these, which changed since the last build began, are a reason for another one. What each build writes anew is none,
    /// or there would be no end of them.
    fn may_be_built(&mut self, changed: &[PathBuf]) -> bool {
        self.in_builds.retain(|path, _| changed.contains(path));
        let mut is_new = false;
        for path in changed {
            let builds = self.in_builds.entry(path.clone()).or_default();
            *builds += 1;
            is_new |= *builds <= CHANGED_BUILDS_MAX;
        }
        if !changed.is_empty() && !is_new {
            console::say(format_args!(
                "{} changed in each of the last builds, so it is taken to be made by them, and is not waited for; if you changed it, \
                 save it again, and if a build does, have it made in `target`, or leave it as it is where nothing is new in it",
                shown(&self.folder, changed)
            ));
        }
        is_new
    }

    /// Waits until nobody writes any more, and says which files are others then.
    fn settled(&mut self, mut last: Stamps) -> Vec<PathBuf> {
        let give_up = Instant::now() + QUIET_WAIT_MAX;
        while Instant::now() < give_up {
            std::thread::sleep(QUIET);
            while self.happened.try_recv().is_ok() {}
            let now = stamps(&self.folder, &last);
            if now == last {
                break;
            }
            last = now;
        }
        let changed = different(&self.seen, &last);
        self.seen = last;
        changed
    }
}

/// Files as they are told to people: as they are called in `folder`, and not all where they are many.
pub(super) fn shown(folder: &Path, files: &[PathBuf]) -> String {
    const MANY: usize = 3;
    let names = files.iter().take(MANY).map(|file| file.strip_prefix(folder).unwrap_or(file).display().to_string());
    let names = names.collect::<Vec<_>>().join(", ");
    match files.len().saturating_sub(MANY) {
        0 => names,
        more => format!("{names} and {more} more"),
    }
}

fn watcher(folder: &Path, tell: impl EventHandler) -> notify::Result<RecommendedWatcher> {
    let mut watcher = notify::recommended_watcher(tell)?;
    for folder in folders(folder) {
        // What cannot be watched is looked at.
        let _ = watcher.watch(&folder, RecursiveMode::NonRecursive);
    }
    Ok(watcher)
}

/// Reading is told too, and we read; errors count, since what was lost may have been a change.
fn is_of_a_change(event: &notify::Result<notify::Event>) -> bool {
    event.as_ref().map_or(true, |event| !event.kind.is_access())
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

/// The files, each read only where its time or size is another one than `before`.
fn stamps(folder: &Path, before: &Stamps) -> Stamps {
    let mut stamps = Stamps::new();
    for folder in folders(folder) {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let is_made = IGNORED_ENDS.iter().any(|end| name.to_string_lossy().ends_with(end));
            if is_made || stamps.len() >= FILES_MAX {
                continue;
            }
            let path = entry.path();
            if let Ok(metadata) = path.metadata()
                && metadata.is_file()
            {
                let (modified, size) = (metadata.modified().ok(), metadata.len());
                let known = before.get(&path).filter(|known| (known.modified, known.size) == (modified, size));
                let hash = known.map_or_else(|| hash(&path, size), |known| known.hash);
                stamps.insert(path, Stamp { modified, size, hash });
            }
        }
    }
    stamps
}

fn hash(path: &Path, size: u64) -> Option<u64> {
    if size > READ_BYTES_MAX {
        return None;
    }
    let mut hasher = DefaultHasher::new();
    hasher.write(&fs::read(path).ok()?);
    Some(hasher.finish())
}

/// The files that are others, came, or went. One that was written again as it was is the same.
fn different(before: &Stamps, now: &Stamps) -> Vec<PathBuf> {
    let is_same = |one: &Stamp, other: &Stamp| one == other || (one.hash.is_some() && one.hash == other.hash);
    let changed = now.iter().filter(|(path, stamp)| !before.get(*path).is_some_and(|known| is_same(known, stamp)));
    let gone = before.keys().filter(|path| !now.contains_key(*path));
    changed.map(|(path, _)| path).chain(gone).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(files: &[&str]) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().to_owned();
        for file in files {
            write(&path.join(file), "a");
        }
        (folder, path)
    }

    fn write(file: &Path, text: &str) {
        fs::create_dir_all(file.parent().expect("a folder")).expect("a folder");
        fs::write(file, text).expect("written");
    }

    #[test]
    fn sources_count_and_what_is_made_of_them_does_not() {
        let (_folder, path) = folder(&["src/lib.rs", "src/other.rs"]);
        let before = stamps(&path, &Stamps::new());
        let changed = |before: &Stamps| different(before, &stamps(&path, before));
        for made in ["target/debug/a", "src/__pycache__/a.pyc", "a.wasm", "Cargo.lock", "dev.log", "src/.lib.rs.swp"] {
            write(&path.join(made), "b");
        }
        assert_eq!(changed(&before), <[PathBuf; 0]>::default());
        write(&path.join("src/build/mod.rs"), "b");
        write(&path.join("src/lib.rs"), "changed");
        // A generator that writes what was there.
        fs::remove_file(path.join("src/other.rs")).expect("removed");
        write(&path.join("src/other.rs"), "a");
        assert_eq!(changed(&before), [path.join("src/build/mod.rs"), path.join("src/lib.rs")]);
        let before = stamps(&path, &before);
        fs::remove_file(path.join("src/lib.rs")).expect("removed");
        assert_eq!(changed(&before), [path.join("src/lib.rs")]);
        assert_eq!(shown(&path, &changed(&before)), "src/lib.rs");
    }

    #[test]
    fn a_change_is_noticed_once() {
        let (_folder, path) = folder(&["plugin.toml"]);
        let mut changes = Changes::of(&path);
        write(&path.join("plugin.toml"), "changed");
        assert_eq!(changes.wait(), [path.join("plugin.toml")]);
        assert_eq!(stamps(&path, &Stamps::new()), changes.seen);
    }

    /// Looking at the folder must not be a reason to look at it.
    #[test]
    fn looking_is_no_change() {
        let (_folder, path) = folder(&["src/lib.rs"]);
        let (sender, events) = mpsc::channel();
        let _watcher =
            watcher(&path, move |event: notify::Result<notify::Event>| drop(sender.send(event))).expect("a watcher");
        for _ in 0..3 {
            stamps(&path, &Stamps::new());
        }
        let end = path.join("end");
        write(&end, "");
        // They come in the order in which they happened.
        let is_of_the_end =
            |event: &notify::Result<notify::Event>| event.as_ref().is_ok_and(|event| event.paths.contains(&end));
        let before: Vec<_> = events.iter().take_while(|event| !is_of_the_end(event)).collect();
        assert!(!before.iter().any(is_of_a_change), "{before:?}");
    }

    #[test]
    fn what_every_build_writes_anew_is_built_no_further() {
        let (_folder, path) = folder(&["src/lib.rs", "src/made.rs"]);
        let mut changes = Changes::of(&path);
        let [lib, made] = ["src/lib.rs", "src/made.rs"].map(|file| path.join(file));
        let of = |files: &[&PathBuf]| files.iter().map(|file| (*file).clone()).collect::<Vec<_>>();
        for _ in 0..CHANGED_BUILDS_MAX {
            assert!(changes.may_be_built(&of(&[&made])));
        }
        assert!(!changes.may_be_built(&of(&[&made])));
        assert!(!changes.may_be_built(&of(&[&made])), "and it stays so while they write it");
        assert!(changes.may_be_built(&of(&[&lib, &made])), "somebody wrote another one meanwhile");
        assert!(!changes.may_be_built(&of(&[&made])));
        assert!(!changes.may_be_built(&[]), "a build that wrote nothing");
        assert!(changes.may_be_built(&of(&[&made])));
    }

    /// A program that writes all the time does not keep an edit from being built.
    #[test]
    fn changes_without_an_end_are_built() {
        let (_folder, path) = folder(&["src/lib.rs", "noise"]);
        let mut changes = Changes::of(&path);
        write(&path.join("src/lib.rs"), "changed");
        let (stop, stopped) = mpsc::channel::<()>();
        let noise = path.join("noise");
        let writer = std::thread::spawn(move || {
            for number in 0_u64.. {
                write(&noise, &number.to_string());
                if stopped.recv_timeout(QUIET / 20) != Err(RecvTimeoutError::Timeout) {
                    return;
                }
            }
        });
        let files = changes.wait();
        drop(stop);
        writer.join().expect("it ends");
        assert!(files.contains(&path.join("src/lib.rs")), "{files:?}");
    }
}
