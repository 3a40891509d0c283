//! Reloads when a file that the plugins were read from is another one (`plugin_watch`).
//!
//! Folders are watched, not files: whoever replaces a file makes a new one, or swaps a link on the way to it ([`super::links`]). What
//! happened there only says when to look; whether a file is another one is told by its stamp.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use notify::{RecommendedWatcher, RecursiveMode, Watcher as _};
use plugin::FileStamp;
use tokio::sync::{Notify, watch as channel};
use tokio::time::Instant;

use super::links::folders_on_the_way;
use super::{Reloader, Running, Trigger};

/// Without a change for this long, whoever writes the files is taken to be done: copying a component takes milliseconds, and a
/// component and its manifest come one after the other.
const QUIET: Duration = Duration::from_millis(300);

/// Where changes do not end, they are looked at this often.
const QUIET_WAIT_MAX: Duration = Duration::from_secs(5);

/// Watches for ever. Where watching fails, a reload takes SIGHUP or the admin route.
pub(crate) async fn watch(reloader: Arc<Reloader>) {
    reloader.is_started().await;
    let mut running = reloader.running.subscribe();
    loop {
        let files = running.borrow_and_update().as_ref().map(|running| running.files.clone()).unwrap_or_default();
        let (folders, happened) = (folders_of(&files), Arc::new(Notify::new()));
        let watcher = match watch_folders(&folders, &happened) {
            Ok(watcher) => watcher,
            Err(error) => {
                tracing::warn!(
                    "`plugin_watch` does nothing, since files cannot be watched: {error}; send SIGHUP to reload"
                );
                return;
            }
        };
        if has_changed(&files, &folders, &happened, &mut running).await {
            drop(watcher);
            reloader.reload(Trigger::FileChange).await;
        }
    }
}

/// Waits until one of the files is another one and nobody writes any more: `true`; or until there are others to watch, since
/// other plugins run, or the way to a file leads through other folders: `false`.
async fn has_changed(
    files: &[FileStamp],
    folders: &BTreeSet<PathBuf>,
    happened: &Notify,
    running: &mut channel::Receiver<Option<Arc<Running>>>,
) -> bool {
    loop {
        // Looked at before anything has happened: they may have changed between being read and being watched.
        if files.iter().any(FileStamp::is_outdated) {
            settle(happened).await;
            return !running.has_changed().unwrap_or(false);
        }
        if folders_of(files) != *folders {
            return false;
        }
        tokio::select! {
            () = happened.notified() => {}
            _ = running.changed() => return false,
        }
    }
}

fn watch_folders(folders: &BTreeSet<PathBuf>, happened: &Arc<Notify>) -> notify::Result<RecommendedWatcher> {
    let notified = Arc::clone(happened);
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        // Errors too: what was lost may have been a change.
        if event.map_or(true, |event| !event.kind.is_access()) {
            notified.notify_one();
        }
    })?;
    for folder in folders {
        if let Err(error) = watcher.watch(folder, RecursiveMode::NonRecursive) {
            tracing::warn!("changes in {} are not seen: {error}", folder.display());
        }
    }
    Ok(watcher)
}

fn folders_of(files: &[FileStamp]) -> BTreeSet<PathBuf> {
    files.iter().flat_map(|file| folders_on_the_way(&file.path)).collect()
}

/// Waits until nothing has happened for a while.
async fn settle(happened: &Notify) {
    let give_up = Instant::now() + QUIET_WAIT_MAX;
    while Instant::now() < give_up {
        if tokio::time::timeout(QUIET, happened.notified()).await.is_err() {
            return;
        }
    }
}
