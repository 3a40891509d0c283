//! One file from the hub to the disk: in parallel ranges, resumed where an earlier download ended, hashed while it
//! arrives, and on the disk before anybody sees it.
//!
//! [`download`] is the story; [`board`] says what is next, [`fetch`] gets it, [`follow()`] hashes it, [`part`] owns the file
//! it goes to. All of it are futures polled by one task: whoever drops the download drops every request with it. Only a
//! write that has begun ends first, under the part file's lock.

mod board;
mod error;
mod fetch;
mod follow;
mod part;
mod ranges;
mod record;
#[cfg(test)]
mod tests;

use std::convert::Infallible;
use std::io;
use std::path::Path;
use std::sync::Arc;

use cap_std::fs::Dir;
use futures::future::{self, Either};
use futures::stream::{FuturesUnordered, TryStreamExt};
use hub::{Patience, RemoteFile, Sha256};
use model::RepositoryPath;
use tokio::time::{Instant, sleep};

use self::board::{Board, Mode};
use self::error::DiskFailure;
use self::fetch::{Failure, Worker};
use self::follow::{Digests, follow};
use self::part::{Leftover, Part, survey};
use self::ranges::Ranges;
#[cfg(test)]
use self::record::{Record, boot};
use crate::Progress;
use crate::layout::Stamp;
use crate::limits::{
    CHUNK_BYTES_DEFAULT, CLAIM_POLL, CLAIM_WAIT, COPY_STEP_BYTES, FLUSH_BYTES, RECORD_INTERVAL, REQUESTS_MAX_DEFAULT,
};
use crate::verify::Content;

pub(crate) use self::error::TransferError;

/// A file as the hub lists it.
#[derive(Debug, Clone)]
pub(crate) struct Wanted {
    pub(crate) path: RepositoryPath,
    pub(crate) size: u64,
    pub(crate) content: Content,
}

/// How a file is fetched.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TransferLimits {
    /// Requests for one file at once.
    pub(crate) requests_max: usize,
    /// Bytes asked for in one request.
    pub(crate) chunk_bytes: u64,
    /// How patient the retries of a chunk are.
    pub(crate) patience: Patience,
}

impl Default for TransferLimits {
    fn default() -> Self {
        Self { requests_max: REQUESTS_MAX_DEFAULT, chunk_bytes: CHUNK_BYTES_DEFAULT, patience: Patience::default() }
    }
}

/// A file that is complete, has the right digest, and is flushed, but does not have its name yet. Dropped instead of
/// published, it stays in the folder of parts, and the next download finds nothing left to fetch.
#[derive(Debug)]
pub(crate) struct Staged {
    part: Arc<Part>,
    path: RepositoryPath,
    /// Size, inode and time of the last change, which renaming does not alter.
    pub(crate) stamp: Stamp,
    /// The digest of its bytes.
    pub(crate) sha256: Sha256,
}

impl Staged {
    /// Renames the file to where it belongs. Flushing the folder is up to the caller, as several files may share one.
    #[expect(clippy::result_large_err, reason = "once per file, and the same error as the download's")]
    pub(crate) fn publish(self, to: &Dir, name: &Path) -> Result<(), TransferError> {
        let path = self.path;
        match self.part.publish(to, name) {
            Ok(true) => Ok(()),
            Ok(false) => Err(TransferError::Lost { path }),
            Err(source) => Err(TransferError::Disk { path, attempted: "rename", source }),
        }
    }
}

/// Fetches a file into the folder of parts. Dropping the future stops it; what has landed is kept, and recorded.
pub(crate) async fn download(
    remote: &RemoteFile,
    wanted: &Wanted,
    parts: &Arc<Dir>,
    limits: &TransferLimits,
    progress: &Progress,
) -> Result<Staged, TransferError> {
    let Wanted { path, size, content } = wanted;
    let disk = |landed| move |failure| TransferError::disk(path, landed, *size, failure);
    let (part, mut landed, mut durable) = claim(parts, wanted).await.map_err(disk(0))?;
    progress.resumed(landed.bytes());
    if let Err(failure) = reserve(&part, &landed, &durable).await {
        return Err(disk(landed.bytes())(failure));
    }
    let mut mode = Mode::Chunks;
    loop {
        let board = Board::new(*size, landed, durable, mode, limits);
        let worker = Worker { remote, board: &board, file: &part.file, limits, progress };
        let digests = fill(&part, worker, *content).await.map_err(|failure| match failure {
            Failure::Hub(source) => {
                let (landed, attempts) = (board.bytes(), board.attempts());
                TransferError::Hub { path: path.clone(), landed, size: *size, attempts, source }
            }
            Failure::Disk(failure) => disk(board.bytes())(failure),
        })?;
        let actual = digests.as_for(*content);
        if actual == *content {
            return match stage(&part, wanted, digests).await {
                Ok(staged) => Ok(staged),
                Err(failure) => {
                    // See `Board::forget_unflushed`.
                    part.discard();
                    Err(disk(0)(failure))
                }
            };
        }
        progress.verify_failed();
        progress.discarded(*size);
        if mode != Mode::Chunks {
            part.discard();
            return Err(TransferError::Digest { path: path.clone(), expected: *content, actual });
        }
        // Proxies that inspect TLS have been seen to mix up parallel ranges, and the disk may have lost what it had.
        tracing::warn!(%path, expected = %content, %actual, "wrong digest: fetching the file again, in one stream");
        progress.retried();
        part.forget();
        (landed, durable, mode) = (Ranges::default(), Ranges::default(), Mode::Stream);
    }
}

/// A part file that only we write to, with what is in it.
async fn claim(parts: &Arc<Dir>, wanted: &Wanted) -> Result<(Arc<Part>, Ranges, Ranges), DiskFailure> {
    let (object, size) = (wanted.content.to_string(), wanted.size);
    let give_up = Instant::now() + CLAIM_WAIT;
    let leftover = loop {
        let (dir, id) = (Arc::clone(parts), object.clone());
        let found = blocking(move || survey(&dir, &id, size)).await.map_err(DiskFailure::when("look for"))?;
        // The last write of a download that was dropped just now may still hold the lock.
        if found.best.is_some() || !found.has_writer || Instant::now() >= give_up {
            break found.best;
        }
        sleep(CLAIM_POLL).await;
    };
    let (dir, id) = (Arc::clone(parts), object);
    let Some(leftover) = leftover else {
        let part = blocking(move || Part::create(&dir, &id, size)).await.map_err(DiskFailure::when("create"))?;
        return Ok((Arc::new(part), Ranges::default(), Ranges::default()));
    };
    let (landed, durable) = (leftover.landed.clone(), leftover.durable());
    match Part::take_up(parts, &id, size, leftover) {
        Ok(part) => Ok((Arc::new(part), landed, durable)),
        Err(leftover) => {
            let part = blocking(move || Part::create(&dir, &id, size)).await.map_err(DiskFailure::when("create"))?;
            let (part, copied) = copy(leftover, Arc::new(part), parts).await?;
            Ok((part, copied, Ranges::default()))
        }
    }
}

/// Copies what another machine, or this one before it was started anew, left behind. A disk that has no room for both
/// keeps the new file, with what had been copied.
async fn copy(leftover: Leftover, part: Arc<Part>, parts: &Dir) -> Result<(Arc<Part>, Ranges), DiskFailure> {
    let leftover = Arc::new(leftover);
    let mut copied = Ranges::default();
    'copying: for range in leftover.landed.iter() {
        let mut at = range.start;
        while at < range.end {
            let step = at..range.end.min(at.saturating_add(COPY_STEP_BYTES));
            let (from, to, end) = (Arc::clone(&leftover), Arc::clone(&part.file), step.end);
            match blocking(move || from.copy(step, &to)).await {
                Ok(reached) => {
                    copied.insert(at..reached);
                    if reached < end {
                        break 'copying;
                    }
                    at = reached;
                }
                Err(error) if error.kind() == io::ErrorKind::StorageFull => {
                    leftover.discard(parts);
                    break 'copying;
                }
                Err(source) => return Err(DiskFailure { attempted: "copy what was left of", source }),
            }
        }
    }
    Ok((part, copied))
}

/// Takes the space that the file needs, and what its record needs, which must be writable when the disk is full.
async fn reserve(part: &Arc<Part>, landed: &Ranges, durable: &Ranges) -> Result<(), DiskFailure> {
    let (reserving, landed, durable) = (Arc::clone(part), landed.clone(), durable.clone());
    let is_empty = landed.bytes() == 0;
    let reserved = blocking(move || {
        reserving.record(reserving.epoch(), landed, durable);
        reserving.reserve()
    });
    reserved.await.map_err(|source| {
        if is_empty {
            part.discard();
        }
        DiskFailure { attempted: "reserve space for", source }
    })
}

/// Fetches what is missing, and hashes all of it.
async fn fill(part: &Arc<Part>, worker: Worker<'_>, content: Content) -> Result<Digests, Failure> {
    let board = worker.board;
    // Written last of all, however this ends.
    let _keeper = Keeper { part, board, epoch: part.epoch() };
    let work = work(worker);
    let hash = async { follow(&part.file, board, content).await.map_err(Failure::Disk) };
    let fetched = std::pin::pin!(future::try_join(work, hash));
    let kept = std::pin::pin!(future::select(Box::pin(record(part, board)), Box::pin(flush(part, board))));
    match future::select(fetched, kept).await {
        Either::Left((filled, _)) => filled.map(|((), digests)| digests),
        Either::Right((Either::Left((never, _)), _)) => match never {},
        Either::Right((Either::Right((failure, _)), _)) => Err(Failure::Disk(failure)),
    }
}

/// Runs the workers, and one alone where it turns out that the server does no ranges.
async fn work(worker: Worker<'_>) -> Result<(), Failure> {
    let Worker { board, limits, progress, .. } = worker;
    let chunks = board.size().div_ceil(limits.chunk_bytes.max(1));
    let mut count = usize::try_from(chunks).unwrap_or(usize::MAX).min(limits.requests_max.max(1));
    loop {
        let workers: FuturesUnordered<_> = (0..count).map(|_| worker.work()).collect();
        workers.try_collect::<()>().await?;
        if board.bytes() == board.size() {
            return Ok(());
        }
        board.claim_rest(progress);
        count = 1;
    }
}

/// Records now and then what is there, so that a kill loses little.
async fn record(part: &Arc<Part>, board: &Board) -> Infallible {
    let epoch = part.epoch();
    let mut recorded = board.bytes();
    loop {
        sleep(RECORD_INTERVAL).await;
        let (landed, durable) = board.snapshot();
        if landed.bytes() > recorded {
            recorded = landed.bytes();
            let part = Arc::clone(part);
            let _ = tokio::task::spawn_blocking(move || part.record(epoch, landed, durable)).await;
        }
    }
}

/// Flushes as it goes, so that the disk is busy from the start and has little left to do at the end.
async fn flush(part: &Arc<Part>, board: &Board) -> DiskFailure {
    let mut flushed = board.bytes();
    loop {
        let enough = |landed: &Ranges| (landed.bytes() >= flushed + FLUSH_BYTES).then(|| landed.clone());
        let landed = board.when_landed(enough).await;
        let file = Arc::clone(&part.file);
        if let Err(source) = blocking(move || file.sync_data()).await {
            board.forget_unflushed();
            return DiskFailure { attempted: "flush", source };
        }
        flushed = landed.bytes();
        board.make_durable(&landed);
    }
}

/// Puts the file on the disk for good.
async fn stage(part: &Arc<Part>, wanted: &Wanted, digests: Digests) -> Result<Staged, DiskFailure> {
    let (part, syncing) = (Arc::clone(part), Arc::clone(part));
    let epoch = part.epoch();
    let size = wanted.size;
    let synced = blocking(move || {
        syncing.file.sync_all()?;
        let mut whole = Ranges::default();
        whole.insert(0..size);
        syncing.record(epoch, whole.clone(), whole);
        syncing.stamp()
    });
    let stamp = synced.await.map_err(DiskFailure::when("flush"))?;
    Ok(Staged { part, path: wanted.path.clone(), stamp, sha256: digests.sha256 })
}

/// Records what is there when a download ends, by an error or because nobody waits for it any more. A part with nothing
/// in it goes, as it would only hold space.
struct Keeper<'a> {
    part: &'a Part,
    board: &'a Board,
    epoch: u64,
}

impl Drop for Keeper<'_> {
    fn drop(&mut self) {
        let (landed, durable) = self.board.snapshot();
        if landed.bytes() == 0 && self.board.size() > 0 {
            self.part.discard();
        } else {
            self.part.record(self.epoch, landed, durable);
        }
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other).flatten()
}
