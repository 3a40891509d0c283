//! Every limit of this room, with its unit and its reason.

use std::time::Duration;

// ---- what is read ----

/// Bytes of our own record of a revision directory: some 400 per file.
pub(crate) const MANIFEST_BYTES_MAX: u64 = 16 << 20;
/// Bytes of a recorded listing. The hub's client takes 64 MiB of listing from the wire, which says more per file.
pub(crate) const LISTING_BYTES_MAX: u64 = 64 << 20;
/// Bytes of one of `hf`'s `.metadata` files: three lines, of which the longest is a digest.
pub(crate) const METADATA_BYTES_MAX: u64 = 4 * 1024;
/// Bytes of a `tokenizer.json`. The largest in use (Gemma's, 262,144 tokens) has 33 MB; it is parsed in memory.
pub const TOKENIZER_BYTES_MAX: u64 = 128 << 20;
/// Files and folders seen while a revision directory is walked. Repositories stay below 100,000 files by the Hub's advice.
pub(crate) const WALK_ENTRIES_MAX: usize = 200_000;
/// Folders within folders while a directory is walked. A repository's path has 2,048 bytes, but nobody nests like that.
pub(crate) const WALK_DEPTH_MAX: usize = 32;
/// Bytes hashed between two looks at whether anybody still wants the digest; also the size of the buffer.
pub(crate) const HASH_BUFFER_BYTES: usize = 1 << 20;

// ---- disk ----

/// Bytes that must remain free beside what a pull writes: records, the file system's own needs, and room for the
/// neighbours that share the disk.
pub(crate) const DISK_MARGIN_BYTES: u64 = 64 << 20;

// ---- time ----

/// Pause between two tries for a lock that another process holds.
pub(crate) const LOCK_POLL: Duration = Duration::from_millis(100);
/// Time between two log lines that say what is waited for.
pub(crate) const LOCK_LOG_INTERVAL: Duration = Duration::from_secs(5);
/// Times that a directory is looked at that others write to meanwhile.
pub(crate) const ATTEMPTS_MAX: u32 = 5;
/// Times that a revision directory is created while others remove the folders that it is in.
pub(crate) const CREATE_ATTEMPTS_MAX: u32 = 10;
/// Longest wait for the lock of a running `hf` before a file is replaced all the same: either of us replaces it whole.
pub(crate) const HF_LOCK_WAIT: Duration = Duration::from_secs(5);
/// Age after which a part file or a file set aside that nobody came back to is removed by `prune`: a week, so that a
/// download broken off on a Friday goes on on Monday.
pub const ORPHAN_AGE: Duration = Duration::from_hours(7 * 24);

// ---- transfer ----

/// Requests for one file at once. One connection to a CDN carries some 20 to 60 MB/s; eight fill 2 Gbit/s, and sixteen have
/// been answered with 403.
pub(crate) const REQUESTS_MAX_DEFAULT: usize = 8;
/// Bytes asked for in one request: at 30 MB/s half a second, against which the time to the first byte is small.
pub(crate) const CHUNK_BYTES_DEFAULT: u64 = 16 << 20;
/// Bytes gathered for one write. With one write under way, a request holds twice this and what the connection has read.
pub(crate) const WRITE_BYTES: usize = 1 << 20;
/// Bytes that must have landed for a request to count as progress, after which a chunk's retries begin anew. A server that
/// gives a few bytes and breaks off must not be asked for ever.
pub(crate) const RETRY_PROGRESS_BYTES_MIN: u64 = 64 * 1024;
/// Retries of all chunks of a file together: this many for each chunk ...
pub(crate) const RETRIES_PER_CHUNK: u64 = 4;
/// ... and at least this many, as a small file has one chunk.
pub(crate) const RETRIES_TOTAL_MIN: u64 = 64;
/// Answers with another range than the one asked for, after which the file is read in one stream from its start.
pub(crate) const RANGE_FAILURES_MAX: u32 = 2;
/// Chunks without a failure in between after which one more request may run at once. Each failure takes one away, so this is
/// the rate of failures that is borne: one in nine.
pub(crate) const SLOT_REGAINED_AFTER_CHUNKS: u32 = 8;
/// Bytes that lie ready before they are hashed: 5 ms of work.
pub(crate) const FOLLOW_STEP_BYTES: u64 = 8 << 20;
/// Bytes that may lie ready to be hashed before writing waits: some dozens of milliseconds of work, so that little is left
/// when the last byte has come.
pub(crate) const FOLLOW_LAG_BYTES_MAX: u64 = 64 << 20;
/// Bytes read back for hashing at once: few enough to be still in the second-level cache.
pub(crate) const FOLLOW_BUFFER_BYTES: usize = 256 * 1024;
/// Bytes that land before they are flushed. The disk is kept busy, and after a loss of power little more than this is
/// missing.
pub(crate) const FLUSH_BYTES: u64 = 64 << 20;
/// Time between two records of what has landed: what a kill loses at most.
pub(crate) const RECORD_INTERVAL: Duration = Duration::from_millis(250);
/// Bytes of a record: one range per request at work and a few more, of 40 each. A file that was interrupted at the worst
/// places a thousand times still fits.
pub(crate) const RECORD_BYTES_MAX: usize = 1 << 20;
/// Names looked at in the folder of parts.
pub(crate) const PARTS_SEEN_MAX: usize = 10_000;
/// Longest wait for the lock of a part file whose writer seems to be alive. A download that was dropped lets go within
/// one write; another process has it for hours, and a new part file is begun.
pub(crate) const CLAIM_WAIT: Duration = Duration::from_secs(1);
/// Pause between two tries for that lock.
pub(crate) const CLAIM_POLL: Duration = Duration::from_millis(20);
/// Bytes of a part file copied before looking whether anybody still wants it.
pub(crate) const COPY_STEP_BYTES: u64 = 64 << 20;
/// Bytes copied by one call.
pub(crate) const COPY_BUFFER_BYTES: usize = 1 << 20;
