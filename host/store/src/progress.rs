//! How far a pull is: written by the puller, read by whoever wants to know.
//!
//! Plain atomics, so that a progress bar or a scrape never waits for the puller nor the puller for them. A snapshot is
//! not one instant: its fields are read one after the other, and each is right by itself.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

/// What a pull is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Phase {
    /// Nothing yet.
    #[default]
    Idle,
    /// Another process holds the directory.
    WaitingForLock,
    /// The hub is asked what the revision is and which files it has.
    Resolving,
    /// Files that are there are hashed.
    Verifying,
    /// Bytes are fetched.
    Downloading,
    /// Everything is there: names and records are written.
    Finishing,
    /// The pull has ended.
    Done,
}

impl Phase {
    const ALL: [Self; 7] = [
        Self::Idle,
        Self::WaitingForLock,
        Self::Resolving,
        Self::Verifying,
        Self::Downloading,
        Self::Finishing,
        Self::Done,
    ];

    /// The phase in a word or two, for people.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::WaitingForLock => "waiting for another process",
            Self::Resolving => "asking the hub",
            Self::Verifying => "verifying",
            Self::Downloading => "downloading",
            Self::Finishing => "finishing",
            Self::Done => "done",
        }
    }
}

/// The counters of one pull, or of one run of `verify`.
#[derive(Debug, Default)]
pub struct Progress {
    phase: AtomicU8,
    bytes_done: AtomicU64,
    bytes_total: AtomicU64,
    bytes_resumed: AtomicU64,
    bytes_received: AtomicU64,
    bytes_hashed: AtomicU64,
    bytes_to_hash: AtomicU64,
    files_done: AtomicU64,
    files_total: AtomicU64,
    retries: AtomicU64,
    verify_failures: AtomicU64,
}

/// What [`Progress`] said when it was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Snapshot {
    /// What the pull is doing.
    pub phase: Phase,
    /// Bytes of the missing files that are on this disk. Goes back where a part turns out to be wrong.
    pub bytes_done: u64,
    /// Bytes of the missing files: what `bytes_done` grows towards.
    pub bytes_total: u64,
    /// Of `bytes_done`, what an earlier pull had left in part files.
    pub bytes_resumed: u64,
    /// Bytes that came over the network, those that were thrown away included. Never goes back.
    pub bytes_received: u64,
    /// Bytes of files that were hashed, of [`Snapshot::bytes_to_hash`].
    pub bytes_hashed: u64,
    /// Bytes of files that are to be hashed.
    pub bytes_to_hash: u64,
    /// Files of the selection that are there and verified.
    pub files_done: u64,
    /// Files of the selection.
    pub files_total: u64,
    /// Attempts that were repeated.
    pub retries: u64,
    /// Files whose digest was not what the hub says.
    pub verify_failures: u64,
}

impl Progress {
    /// What it says now.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let phase = usize::from(self.phase.load(Ordering::Relaxed));
        Snapshot {
            phase: Phase::ALL.get(phase).copied().unwrap_or_default(),
            bytes_done: read(&self.bytes_done),
            bytes_total: read(&self.bytes_total),
            bytes_resumed: read(&self.bytes_resumed),
            bytes_received: read(&self.bytes_received),
            bytes_hashed: read(&self.bytes_hashed),
            bytes_to_hash: read(&self.bytes_to_hash),
            files_done: read(&self.files_done),
            files_total: read(&self.files_total),
            retries: read(&self.retries),
            verify_failures: read(&self.verify_failures),
        }
    }

    /// Another phase begins.
    pub fn enter(&self, phase: Phase) {
        self.phase.store(phase as u8, Ordering::Relaxed);
    }

    /// This many bytes are missing, and are what `bytes_done` grows towards.
    pub fn expect_bytes(&self, missing: u64) {
        self.bytes_total.store(missing, Ordering::Relaxed);
    }

    /// The selection has this many files.
    pub fn expect_files(&self, count: u64) {
        self.files_total.store(count, Ordering::Relaxed);
    }

    /// Bytes came over the network and are kept.
    pub fn received(&self, bytes: u64) {
        self.bytes_received.fetch_add(bytes, Ordering::Relaxed);
        self.bytes_done.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Bytes that were counted as done are thrown away and fetched again.
    pub fn discarded(&self, bytes: u64) {
        // The closure always answers `Some`, so this cannot fail.
        let _ =
            self.bytes_done.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |done| Some(done.saturating_sub(bytes)));
    }

    /// Bytes of an earlier pull were found in part files.
    pub fn resumed(&self, bytes: u64) {
        self.bytes_resumed.fetch_add(bytes, Ordering::Relaxed);
        self.bytes_done.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Bytes were found elsewhere on this machine, and need no network.
    pub fn copied(&self, bytes: u64) {
        self.bytes_done.fetch_add(bytes, Ordering::Relaxed);
    }

    /// A file of this many bytes is going to be hashed.
    pub fn expect_hashing(&self, bytes: u64) {
        self.bytes_to_hash.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Bytes were hashed.
    pub fn hashed(&self, bytes: u64) {
        self.bytes_hashed.fetch_add(bytes, Ordering::Relaxed);
    }

    /// A file of the selection is there and verified.
    pub fn file_done(&self) {
        self.files_done.fetch_add(1, Ordering::Relaxed);
    }

    /// An attempt is repeated.
    pub fn retried(&self) {
        self.retries.fetch_add(1, Ordering::Relaxed);
    }

    /// A file was not what the hub says.
    pub fn verify_failed(&self) {
        self.verify_failures.fetch_add(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_phase_that_is_entered_is_the_one_that_is_seen() {
        let progress = Progress::default();
        for phase in Phase::ALL {
            progress.enter(phase);
            assert_eq!(progress.snapshot().phase, phase);
        }
    }

    #[test]
    fn what_is_discarded_is_no_longer_done_but_was_received() {
        let progress = Progress::default();
        progress.expect_bytes(100);
        progress.resumed(20);
        progress.received(30);
        progress.discarded(40);
        progress.discarded(40);
        let seen = progress.snapshot();
        assert_eq!((seen.bytes_done, seen.bytes_received, seen.bytes_resumed, seen.bytes_total), (0, 30, 20, 100));
    }
}
