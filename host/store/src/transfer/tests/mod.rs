//! The transfer against a hub on loopback that serves it faithfully, and one that does not.

mod disk;
mod faults;
mod interrupted;
mod properties;
mod writers;

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use cap_std::ambient_authority;
use cap_std::fs::Dir;
use hub::{Endpoint, Hub, HubConfig, Patience, RemoteFile, Timeouts};
use model::{Commit, RepositoryId, RepositoryPath};
use tempfile::TempDir;
use test_hub::{Content as Bytes, Kind, Mirror, Origin, Repo, TestHub};

use super::*;
use crate::Snapshot;
use crate::limits::FOLLOW_LAG_BYTES_MAX;

const CHUNK: u64 = 16 * 1024;
/// Not a multiple of anything.
const TEN_CHUNKS: u64 = 10 * CHUNK - 77;

const LIMITS: TransferLimits = TransferLimits {
    requests_max: 4,
    chunk_bytes: CHUNK,
    patience: Patience {
        delay_min: Duration::from_millis(1),
        delay_max: Duration::from_millis(4),
        retries_max: 6,
        asked_max: Duration::from_secs(5),
    },
};

/// A hub with one file, and a folder to put it into.
struct Scene {
    hub: TestHub,
    bytes: Bytes,
    wanted: Wanted,
    remote: RemoteFile,
    folder: TempDir,
    parts: Arc<Dir>,
    limits: TransferLimits,
    progress: Progress,
}

/// A hub with a file of this many bytes in large file storage.
fn scene(size: u64) -> Scene {
    Scene::new(size, Kind::Lfs, None)
}

impl Scene {
    fn new(size: u64, kind: Kind, mirror: Option<Mirror>) -> Self {
        let bytes = Bytes::generated(size + 1, size);
        let mut builder = TestHub::builder().repository(Repo::new("acme/tiny").file("model.gguf", bytes.clone(), kind));
        if let Some(mirror) = mirror {
            builder = builder.mirror(mirror);
        }
        let hub = builder.start();
        let remote = remote(&hub.url(), &hub.commit("acme/tiny", "main"));
        let folder = tempfile::tempdir().expect("a temporary folder");
        let parts = parts(folder.path());
        let digest = if kind == Kind::Git { bytes.git_sha1() } else { bytes.sha256() };
        let wanted = wanted(size, digest);
        Self { hub, bytes, wanted, remote, folder, parts, limits: LIMITS, progress: Progress::default() }
    }

    async fn download(&self) -> Result<Staged, TransferError> {
        download(&self.remote, &self.wanted, &self.parts, &self.limits, &self.progress).await
    }

    /// Downloads and publishes. Whatever has the file's name afterwards is the hub's bytes, and nothing else is left.
    async fn complete(&self) {
        let staged = self.download().await.unwrap_or_else(|error| panic!("{}\n{}", chain(&error), self.log()));
        assert_eq!(staged.sha256.to_string(), self.bytes.sha256());
        let stamp = staged.stamp;
        self.publish(staged).expect("the part is where it was");
        assert_eq!(self.left(), Vec::<String>::new(), "nothing is left in the folder of parts");
        let metadata = std::fs::metadata(self.folder.path().join("model.gguf")).expect("it was published");
        assert_eq!(Stamp::of(&metadata), stamp, "what was said of the file is true of it");
    }

    #[expect(clippy::result_large_err, reason = "a test")]
    fn publish(&self, staged: Staged) -> Result<(), TransferError> {
        let place = Dir::open_ambient_dir(self.folder.path(), ambient_authority()).expect("the folder");
        staged.publish(&place, Path::new("model.gguf"))?;
        let written = std::fs::read(self.folder.path().join("model.gguf")).expect("it was published");
        assert!(written == self.bytes.bytes(0..self.bytes.size_bytes()), "the file is not the hub's");
        Ok(())
    }

    fn seen(&self) -> Snapshot {
        self.progress.snapshot()
    }

    /// The ranges that were asked of the CDN, in ascending order.
    fn ranges(&self) -> Vec<Range<u64>> {
        let requests = self.hub.requests_to(Origin::Cdn).into_iter();
        let mut ranges: Vec<_> = requests.map(|seen| range_of(seen.range.as_deref(), self.wanted.size)).collect();
        ranges.sort_by_key(|range| (range.start, range.end));
        ranges
    }

    /// The chunks of which not every byte was sent: what another download has to ask for.
    fn chunks_to_come(&self) -> Vec<Range<u64>> {
        let size = self.wanted.size;
        let came = |chunk: &Range<u64>| {
            self.hub.requests_to(Origin::Cdn).iter().any(|seen| {
                range_of(seen.range.as_deref(), size) == *chunk && seen.bytes_sent == chunk.end - chunk.start
            })
        };
        chunks(0, size).into_iter().filter(|chunk| !came(chunk)).collect()
    }

    /// What lies in the folder of parts.
    fn left(&self) -> Vec<String> {
        let names = self.parts.entries().expect("the folder of parts");
        names.map(|it| it.expect("an entry").file_name().into_string().expect("a name in UTF-8")).collect()
    }

    fn log(&self) -> String {
        self.hub.requests().iter().map(|seen| seen.line() + "\n").collect()
    }

    /// Starts a download and drops it once so many bytes have landed.
    async fn drop_at(&self, bytes: u64) {
        let landed = async {
            while self.seen().bytes_done < bytes {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        let (download, landed) = (std::pin::pin!(self.download()), std::pin::pin!(landed));
        match future::select(download, landed).await {
            Either::Left((ended, _)) => {
                panic!("it ended before it was dropped: {:?}", ended.map(|staged| staged.stamp))
            }
            Either::Right(_) => assert_eq!(self.seen().bytes_done, bytes),
        }
    }
}

fn remote(url: &str, commit: &str) -> RemoteFile {
    let timeouts = Timeouts { connect: Duration::from_secs(1), idle: Duration::from_millis(300) };
    let endpoint = Endpoint::parse(url).expect("the test hub's address");
    let hub = Hub::new(HubConfig { endpoint, timeouts, ..HubConfig::default() }).expect("a client");
    let repository = RepositoryId::new("acme", "tiny").expect("a repository's name");
    let commit = Commit::parse(commit).expect("a commit");
    hub.file(&repository, &commit, &RepositoryPath::parse("model.gguf").expect("a path"))
}

fn wanted(size: u64, digest: &str) -> Wanted {
    let content = Content::parse(digest).expect("a digest");
    Wanted { path: RepositoryPath::parse("model.gguf").expect("a path"), size, content }
}

fn parts(folder: &Path) -> Arc<Dir> {
    std::fs::create_dir_all(folder.join("parts")).expect("a folder");
    Arc::new(Dir::open_ambient_dir(folder.join("parts"), ambient_authority()).expect("the folder of parts"))
}

fn range_of(header: Option<&str>, size: u64) -> Range<u64> {
    let Some(header) = header else { return 0..size };
    let (first, last) = header.strip_prefix("bytes=").and_then(|it| it.split_once('-')).expect("a range");
    let last = if last.is_empty() { size - 1 } else { last.parse().expect("a number") };
    first.parse().expect("a number")..last + 1
}

fn chunks(from: u64, size: u64) -> Vec<Range<u64>> {
    (from / CHUNK..size.div_ceil(CHUNK)).map(|index| index * CHUNK..size.min((index + 1) * CHUNK)).collect()
}

/// An error with everything below it.
fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

#[tokio::test]
async fn a_file_comes_in_chunks_each_asked_for_once() {
    let scene = scene(TEN_CHUNKS);
    scene.complete().await;
    assert_eq!(scene.ranges(), chunks(0, TEN_CHUNKS));
    let seen = scene.seen();
    assert_eq!((seen.bytes_done, seen.bytes_received, seen.bytes_resumed), (TEN_CHUNKS, TEN_CHUNKS, 0));
    assert_eq!((seen.retries, seen.verify_failures), (0, 0));
}

#[tokio::test]
async fn sizes_around_a_chunk_take_as_many_requests_as_they_must() {
    for (size, requests) in [(0, 0), (1, 1), (CHUNK - 1, 1), (CHUNK, 1), (CHUNK + 1, 2), (4 * CHUNK, 4)] {
        let scene = scene(size);
        scene.complete().await;
        assert_eq!(scene.ranges().len(), requests, "{size} bytes\n{}", scene.log());
    }
}

#[tokio::test]
async fn a_file_of_git_is_held_to_gits_digest() {
    for size in [0, TEN_CHUNKS] {
        let mut scene = Scene::new(size, Kind::Git, None);
        scene.complete().await;
        scene.wanted = wanted(size, &"0".repeat(40));
        let error = scene.download().await.expect_err("not the file that is listed");
        let TransferError::Digest { actual, .. } = error else { panic!("{}", chain(&error)) };
        assert_eq!(actual.to_string(), scene.bytes.git_sha1());
    }
}

#[tokio::test]
async fn a_server_without_ranges_gives_the_file_in_one_stream() {
    for mirror in [Mirror::bare(), Mirror { ranges: false, ..Mirror::good() }] {
        let scene = Scene::new(TEN_CHUNKS, Kind::Lfs, Some(mirror));
        scene.complete().await;
        let whole = scene.hub.file_requests().iter().filter(|seen| seen.bytes_sent >= TEN_CHUNKS).count();
        assert!((1..=1 + LIMITS.requests_max).contains(&whole), "{}", scene.log());
        assert_eq!((scene.seen().bytes_done, scene.seen().retries), (TEN_CHUNKS, 0));
    }
}

#[tokio::test]
async fn a_mirror_that_redirects_nowhere_gives_ranges() {
    let scene = Scene::new(TEN_CHUNKS, Kind::Lfs, Some(Mirror::artifactory()));
    scene.complete().await;
    assert_eq!(scene.hub.file_requests().iter().filter(|seen| seen.status == 206).count(), 10, "{}", scene.log());
}

#[tokio::test]
async fn a_file_larger_than_every_threshold_comes_whole() {
    let size = FLUSH_BYTES + FOLLOW_LAG_BYTES_MAX + 12_345;
    let mut scene = scene(size);
    scene.limits = TransferLimits { chunk_bytes: CHUNK_BYTES_DEFAULT, ..LIMITS };
    scene.complete().await;
    assert_eq!((scene.seen().bytes_received, scene.seen().retries), (size, 0));
}

#[tokio::test]
async fn writing_waits_for_hashing_but_not_for_what_an_earlier_download_left() {
    let waits =
        async |board: &Board| tokio::time::timeout(Duration::from_millis(10), board.hashing_keeps_up()).await.is_err();
    let size = 10 * FOLLOW_LAG_BYTES_MAX;
    let mut resumed = Ranges::default();
    resumed.insert(0..2 * FOLLOW_LAG_BYTES_MAX);
    let progress = Progress::default();

    let fresh = Board::new(size, Ranges::default(), Ranges::default(), Mode::Chunks, &LIMITS);
    fresh.land(size / 2..size, &progress);
    assert!(!waits(&fresh).await, "nothing is ready to be hashed");
    fresh.land(0..FOLLOW_LAG_BYTES_MAX + 1, &progress);
    assert!(waits(&fresh).await);
    fresh.hashed(1);
    assert!(!waits(&fresh).await);

    let resumed = Board::new(size, resumed.clone(), resumed, Mode::Chunks, &LIMITS);
    assert!(!waits(&resumed).await);
    resumed.land(2 * FOLLOW_LAG_BYTES_MAX..4 * FOLLOW_LAG_BYTES_MAX, &progress);
    assert!(!waits(&resumed).await, "the network does not wait for what lay on the disk");
    resumed.hashed(2 * FOLLOW_LAG_BYTES_MAX);
    assert!(waits(&resumed).await);
}
