//! Reloads when a file that the plugins were read from is another one (`plugin_watch`).
//!
//! Folders are watched, not files: whoever replaces a file makes a new one, and Kubernetes swaps a link beside them. What happened
//! there only says when to look; whether a file is another one is told by its stamp.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use notify::{RecommendedWatcher, RecursiveMode, Watcher as _};
use plugin::FileStamp;
use tokio::sync::{Notify, watch as channel};
use tokio::time::Instant;

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
        let happened = Arc::new(Notify::new());
        let watcher = match watch_folders(&files, &happened) {
            Ok(watcher) => watcher,
            Err(error) => {
                tracing::warn!(
                    "`plugin_watch` does nothing, since files cannot be watched: {error}; send SIGHUP to reload"
                );
                return;
            }
        };
        if has_changed(&files, &happened, &mut running).await {
            drop(watcher);
            reloader.reload(Trigger::FileChange).await;
        }
    }
}

/// Waits until one of the files is another one and nobody writes any more: `true`; or until other plugins run, which were read
/// from other files perhaps: `false`.
async fn has_changed(
    files: &[FileStamp],
    happened: &Notify,
    running: &mut channel::Receiver<Option<Arc<Running>>>,
) -> bool {
    loop {
        // Looked at before anything has happened: they may have changed between being read and being watched.
        if files.iter().any(FileStamp::is_outdated) {
            settle(happened).await;
            return !running.has_changed().unwrap_or(false);
        }
        tokio::select! {
            () = happened.notified() => {}
            _ = running.changed() => return false,
        }
    }
}

fn watch_folders(files: &[FileStamp], happened: &Arc<Notify>) -> notify::Result<RecommendedWatcher> {
    let notified = Arc::clone(happened);
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        // Errors too: what was lost may have been a change.
        if event.map_or(true, |event| !event.kind.is_access()) {
            notified.notify_one();
        }
    })?;
    let folders: BTreeSet<PathBuf> = files.iter().map(|file| folder_of(&file.path)).collect();
    for folder in folders {
        if let Err(error) = watcher.watch(&folder, RecursiveMode::NonRecursive) {
            tracing::warn!("changes in {} are not seen: {error}", folder.display());
        }
    }
    Ok(watcher)
}

fn folder_of(file: &Path) -> PathBuf {
    match file.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    }
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
