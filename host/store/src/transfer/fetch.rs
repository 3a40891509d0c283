//! One worker: takes chunks, asks for them, retries, and writes what comes to its place in the part file.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use bytes::Bytes;
use hub::{Backoff, HubError, RemoteFile};
use tokio::task::JoinHandle;
use tokio::time::sleep;

use super::TransferLimits;
use super::board::{Board, Mode};
use super::error::DiskFailure;
use crate::Progress;
use crate::limits::{RETRY_PROGRESS_BYTES_MIN, WRITE_BYTES};

/// What all workers of a download work with.
#[derive(Debug, Clone, Copy)]
pub(super) struct Worker<'a> {
    pub(super) remote: &'a RemoteFile,
    pub(super) board: &'a Board,
    pub(super) file: &'a Arc<File>,
    pub(super) limits: &'a TransferLimits,
    pub(super) progress: &'a Progress,
}

/// Why a worker ended the download.
#[derive(Debug)]
pub(super) enum Failure {
    Hub(HubError),
    Disk(DiskFailure),
}

impl From<DiskFailure> for Failure {
    fn from(failure: DiskFailure) -> Self {
        Self::Disk(failure)
    }
}

/// How one request went.
enum Attempt {
    /// All that was asked for is there.
    Complete,
    /// The whole file came where a chunk was asked for.
    RangeIgnored,
    Failed(HubError),
}

impl Worker<'_> {
    /// Fetches chunk after chunk, until nothing is left to claim.
    pub(super) async fn work(self) -> Result<(), Failure> {
        while let Some(claimed) = self.board.claim() {
            self.fetch(claimed).await?;
        }
        Ok(())
    }

    /// Fetches what was claimed, or gives it up because there is to be one stream only.
    async fn fetch(self, claimed: Range<u64>) -> Result<(), Failure> {
        let is_chunk = self.board.mode() == Mode::Chunks;
        let mut rest = claimed;
        let mut backoff = Backoff::new(self.limits.patience);
        loop {
            let permit = self.board.turn().await;
            if is_chunk && self.board.mode() != Mode::Chunks {
                return Ok(());
            }
            let before = rest.start;
            let error = match self.attempt(&mut rest).await? {
                Attempt::Complete => {
                    self.board.succeeded(self.limits.requests_max);
                    return Ok(());
                }
                Attempt::RangeIgnored => {
                    tracing::debug!("the server ignores ranges: one stream");
                    self.board.ranges_are_ignored();
                    return Ok(());
                }
                // It broke off behind the last byte. The digest says whether the bytes are right.
                Attempt::Failed(_) if rest.is_empty() => return Ok(()),
                Attempt::Failed(error) => error,
            };
            if rest.start - before >= RETRY_PROGRESS_BYTES_MIN {
                backoff.progressed();
            }
            if matches!(error, HubError::WrongRange { .. }) {
                self.board.range_was_wrong();
            }
            let has_retries = self.board.failed(permit);
            let Some(pause) = backoff.after(&error).filter(|_| has_retries) else {
                return Err(Failure::Hub(error));
            };
            tracing::debug!(error = %error, missing = ?rest, ?pause, "asking again");
            self.progress.retried();
            if error.retry_after().is_some() {
                // What the hub counts is the requests of all workers together.
                self.board.pause_for(pause);
            } else {
                sleep(pause).await;
            }
        }
    }

    /// One request. What came of it is in the file, and off `rest`, whichever way it ended.
    async fn attempt(self, rest: &mut Range<u64>) -> Result<Attempt, DiskFailure> {
        let mode = self.board.mode();
        let asked = rest.clone();
        let opened = match mode {
            Mode::Whole => self.remote.read_whole(self.board.size()).await,
            Mode::Chunks | Mode::Stream => self.remote.read(asked.clone(), self.board.size()).await,
        };
        let mut body = match opened {
            Ok(body) => body,
            Err(error) => return Ok(Attempt::Failed(error)),
        };
        let mut at = body.range().start;
        if body.range() != asked && mode == Mode::Chunks {
            return Ok(Attempt::RangeIgnored);
        }
        let mut writer = Writer::new(self, rest.start);
        let ended = loop {
            match body.chunk().await {
                Ok(Some(bytes)) => {
                    // Of a stream that begins before what is missing, the first bytes are here already.
                    let known = usize::try_from(rest.start.saturating_sub(at)).unwrap_or(usize::MAX).min(bytes.len());
                    at += bytes.len() as u64;
                    self.progress.received(known as u64);
                    self.progress.discarded(known as u64);
                    writer.write(bytes.slice(known..)).await?;
                }
                Ok(None) => break Attempt::Complete,
                Err(error) => break Attempt::Failed(error),
            }
        };
        rest.start = writer.finish().await?;
        Ok(ended)
    }
}

/// Writes what comes, in order from one offset on: gathered to [`WRITE_BYTES`], on a blocking thread, one write at a
/// time while the next one is gathered.
struct Writer<'a> {
    worker: Worker<'a>,
    /// Where the gathered bytes belong.
    at: u64,
    gathered: Vec<Bytes>,
    gathered_bytes: usize,
    writing: Option<Writing>,
}

struct Writing {
    range: Range<u64>,
    /// Gives the vector back, empty, for the next bytes.
    task: JoinHandle<io::Result<Vec<Bytes>>>,
}

impl<'a> Writer<'a> {
    fn new(worker: Worker<'a>, at: u64) -> Self {
        Self { worker, at, gathered: Vec::new(), gathered_bytes: 0, writing: None }
    }

    async fn write(&mut self, bytes: Bytes) -> Result<(), DiskFailure> {
        if bytes.is_empty() {
            return Ok(());
        }
        self.gathered_bytes += bytes.len();
        self.gathered.push(bytes);
        if self.gathered_bytes < WRITE_BYTES {
            return Ok(());
        }
        self.flush().await
    }

    /// Starts to write what is gathered, once the write before it has ended.
    async fn flush(&mut self) -> Result<(), DiskFailure> {
        let spare = self.settle().await?;
        self.worker.board.hashing_keeps_up().await;
        let pen = Arc::clone(&self.worker.board.pen).acquire_owned().await;
        let pieces = std::mem::replace(&mut self.gathered, spare);
        let range = self.at..self.at + self.gathered_bytes as u64;
        (self.at, self.gathered_bytes) = (range.end, 0);
        let (file, start) = (Arc::clone(self.worker.file), range.start);
        let task = tokio::task::spawn_blocking(move || {
            let _pen = pen;
            write_all(&file, pieces, start)
        });
        self.writing = Some(Writing { range, task });
        Ok(())
    }

    /// Waits for the write that is under way, and reports its bytes.
    async fn settle(&mut self) -> Result<Vec<Bytes>, DiskFailure> {
        let Some(Writing { range, task }) = self.writing.take() else { return Ok(Vec::new()) };
        let written = task.await.map_err(io::Error::other).flatten();
        let spare = written.map_err(DiskFailure::when("write to"))?;
        self.worker.board.land(range, self.worker.progress);
        Ok(spare)
    }

    /// Writes the rest, and says up to where the file is written now.
    async fn finish(mut self) -> Result<u64, DiskFailure> {
        if !self.gathered.is_empty() {
            self.flush().await?;
        }
        self.settle().await?;
        Ok(self.at)
    }
}

fn write_all(file: &File, mut pieces: Vec<Bytes>, mut at: u64) -> io::Result<Vec<Bytes>> {
    for piece in pieces.drain(..) {
        file.write_all_at(&piece, at)?;
        at += piece.len() as u64;
    }
    Ok(pieces)
}
