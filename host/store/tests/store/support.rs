//! What the suites of the store share: a hub with a model, a models directory, and ways to look at both.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hub::{Endpoint, Hub, HubConfig, Patience, Timeouts, Tokens};
use model::HubReference;
use serde_json::json;
use store::{LocalModel, Presence, Progress, PullOptions, Store, StoreError, Verified};
use test_hub::{Content, Kind, Repo, TestHub, Tree};

/// The repository that every suite pulls from.
pub(crate) const REPOSITORY: &str = "acme/tiny";

/// A GGUF of `size_bytes`, whose content `seed` determines: a sound header, one tensor, and noise in it.
pub(crate) fn gguf(seed: u64, size_bytes: usize) -> Vec<u8> {
    let mut file = b"GGUF".to_vec();
    file.extend(3_u32.to_le_bytes());
    file.extend(1_u64.to_le_bytes());
    file.extend(0_u64.to_le_bytes());
    let name = b"output.weight";
    file.extend((name.len() as u64).to_le_bytes());
    file.extend(name);
    file.extend(1_u32.to_le_bytes());
    let header_bytes = (file.len() + 8 + 4 + 8_usize).next_multiple_of(32);
    let values = (size_bytes - header_bytes) / 4;
    file.extend((values as u64).to_le_bytes());
    file.extend(0_u32.to_le_bytes());
    file.extend(0_u64.to_le_bytes());
    file.resize(header_bytes, 0);
    let mut state = seed.wrapping_mul(2).wrapping_add(1);
    while file.len() < size_bytes {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        file.push(state.to_be_bytes()[0]);
    }
    file
}

/// The files of a commit: where each is stored, and what it holds.
#[derive(Debug, Clone, Default)]
pub(crate) struct Files(pub(crate) BTreeMap<String, (Kind, Vec<u8>)>);

impl Files {
    pub(crate) fn with(mut self, path: &str, kind: Kind, content: impl Into<Vec<u8>>) -> Self {
        self.0.insert(path.to_owned(), (kind, content.into()));
        self
    }

    pub(crate) fn content(&self, path: &str) -> &[u8] {
        &self.0.get(path).unwrap_or_else(|| panic!("there is no {path}")).1
    }

    /// What the hub names the content by, and `hf` records as its `ETag`.
    pub(crate) fn etag(&self, path: &str) -> String {
        let content = Content::from(self.content(path).to_vec());
        match self.0[path].0 {
            Kind::Git => content.git_sha1().to_owned(),
            Kind::Lfs | Kind::Xet => content.sha256().to_owned(),
        }
    }

    pub(crate) fn tree(&self) -> Tree {
        self.0.iter().fold(Tree::new(), |tree, (path, (kind, content))| tree.file(path, content.clone(), *kind))
    }
}

/// The files of `acme/tiny`: two quantisations, one of them in two shards, a tokenizer, and something small.
pub(crate) fn files(seed: u64) -> Files {
    Files::default()
        .with("tiny-Q4_K_M.gguf", Kind::Lfs, gguf(seed, 300_000))
        .with("tiny-Q8_0-00001-of-00002.gguf", Kind::Xet, gguf(seed + 1, 200_000))
        .with("tiny-Q8_0-00002-of-00002.gguf", Kind::Xet, gguf(seed + 2, 100_000))
        .with("tokenizer.json", Kind::Git, format!("{{\"seed\": {seed}}}"))
        .with("README.md", Kind::Git, "# tiny\n")
}

/// A hub that has them.
pub(crate) fn hub() -> TestHub {
    hub_with(&files(1))
}

/// A hub whose `main` has these files.
pub(crate) fn hub_with(files: &Files) -> TestHub {
    TestHub::builder().repository(Repo::new(REPOSITORY).branch("main", files.tree())).start()
}

/// A client of it that gives up soon.
pub(crate) fn client(test_hub: &TestHub) -> Hub {
    client_with(test_hub, None)
}

/// A client that may not use any network.
pub(crate) fn offline(test_hub: &TestHub) -> Hub {
    client_with(test_hub, Some("the test says so".to_owned()))
}

fn client_with(test_hub: &TestHub, offline: Option<String>) -> Hub {
    client_of(&test_hub.url(), offline)
}

/// A client of whatever is at `url`.
pub(crate) fn client_of(url: &str, offline: Option<String>) -> Hub {
    let patience = Patience {
        delay_min: Duration::from_millis(5),
        delay_max: Duration::from_millis(20),
        retries_max: 3,
        ..Patience::default()
    };
    let timeouts = Timeouts { connect: Duration::from_secs(5), idle: Duration::from_secs(5) };
    let endpoint = Endpoint::parse(url).expect("the test hub's address");
    let config = HubConfig { endpoint, offline, tokens: Tokens::none(), timeouts, patience, ..HubConfig::default() };
    Hub::new(config).expect("a client")
}

/// A reference.
pub(crate) fn reference(given: &str) -> HubReference {
    HubReference::parse(given).expect("a reference")
}

/// An empty models directory.
pub(crate) struct Models {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) store: Store,
}

impl Models {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let store = Store::open(&folder.path().join("models")).expect("a store");
        Self { folder, store }
    }

    /// The revision directory of `acme/tiny`.
    pub(crate) fn directory(&self, revision: &str) -> PathBuf {
        self.store.models_dir().join(REPOSITORY).join(revision)
    }

    pub(crate) async fn pull(&self, hub: &Hub, given: &str) -> Result<LocalModel, StoreError> {
        self.pull_with(hub, given, PullOptions::default()).await
    }

    pub(crate) async fn update(&self, hub: &Hub, given: &str) -> Result<LocalModel, StoreError> {
        self.pull_with(hub, given, PullOptions { update: true, ..PullOptions::default() }).await
    }

    pub(crate) async fn pull_with(
        &self,
        hub: &Hub,
        given: &str,
        options: PullOptions,
    ) -> Result<LocalModel, StoreError> {
        let progress = Arc::new(Progress::default());
        self.store.pull(hub, &reference(given), options, &progress).await
    }

    pub(crate) fn find(&self, given: &str) -> Presence {
        self.store.find(&reference(given)).expect("an answer")
    }

    pub(crate) fn is_complete(&self, given: &str) -> bool {
        matches!(self.find(given), Presence::Complete(_))
    }
}

/// That a model's files hold exactly what the repository has at its commit.
pub(crate) fn assert_right(model: &LocalModel, files: &Files) {
    for path in model.weights.iter().chain(&model.tokenizer) {
        let name = path.strip_prefix(&model.directory).expect("inside").to_str().expect("UTF-8");
        assert!(fs::read(path).expect("the file") == files.content(name), "{name} differs");
    }
}

/// That a digest vouches for the model.
pub(crate) fn assert_digest(model: &LocalModel) {
    assert!(matches!(model.verified, Verified::Digest { .. }), "{:?}", model.verified);
}

/// Puts files into a directory, as a person would.
pub(crate) fn put(directory: &Path, files: &Files, paths: &[&str]) {
    for path in paths {
        let file = directory.join(path);
        fs::create_dir_all(file.parent().expect("a parent")).expect("a folder");
        fs::write(file, files.content(path)).expect("written");
    }
}

/// Notes of `hf` since 0.23: `.cache/huggingface/download/<path>.metadata`.
pub(crate) fn note(directory: &Path, files: &Files, commit: &str, paths: &[&str]) {
    for path in paths {
        let file = directory.join(".cache/huggingface/download").join(format!("{path}.metadata"));
        fs::create_dir_all(file.parent().expect("a parent")).expect("a folder");
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs_f64();
        fs::write(file, format!("{commit}\n{}\n{now}\n", files.etag(path))).expect("written");
    }
}

/// The listing that `hf` keeps since 1.22: `.cache/huggingface/trees/<commit>.json`.
pub(crate) fn list(directory: &Path, files: &Files, commit: &str) {
    let entries = files.0.iter().map(|(path, (kind, content))| {
        let digests = Content::from(content.clone());
        let entry = match kind {
            Kind::Git => json!({"size": content.len(), "blob_id": digests.git_sha1()}),
            Kind::Lfs | Kind::Xet => json!({
                "size": content.len(),
                // Git's name of the pointer; nothing that verifies a file may take it for the file's.
                "blob_id": "5".repeat(40),
                "lfs_sha256": digests.sha256(),
                "lfs_size": content.len(),
            }),
        };
        (path.clone(), entry)
    });
    let trees = directory.join(".cache/huggingface/trees");
    fs::create_dir_all(&trees).expect("a folder");
    let tree = json!({"format_version": 1, "files": entries.collect::<serde_json::Map<_, _>>()});
    fs::write(trees.join(format!("{commit}.json")), tree.to_string()).expect("written");
}

/// Everything below a folder, with what tells one state of it from another.
pub(crate) fn snapshot(folder: &Path) -> BTreeMap<PathBuf, String> {
    let mut all = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder").flatten() {
            let metadata = fs::symlink_metadata(entry.path()).expect("an entry");
            let what = if metadata.is_dir() {
                folders.push(entry.path());
                "folder".to_owned()
            } else if metadata.is_symlink() {
                format!("link to {}", fs::read_link(entry.path()).expect("a link").display())
            } else {
                format!("{} bytes, inode {}, {}", metadata.len(), metadata.ino(), metadata.mtime_nsec())
            };
            all.insert(entry.path(), what);
        }
    }
    all
}

/// The whole chain of an error, for a message.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

/// A process of its own that pulls, by the test `child` of the suite that calls this.
pub(crate) fn child(url: &str, models_dir: &Path, given: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("this suite"));
    command.args(["--exact", "child", "--ignored", "--nocapture"]);
    command.env("STORE_CHILD_URL", url).env("STORE_CHILD_MODELS_DIR", models_dir).env("STORE_CHILD_REFERENCE", given);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// What such a process does: pulls, says so, and with `STORE_CHILD_HOLDS` keeps the model until its input ends.
pub(crate) async fn be_a_child() {
    let said = |name: &str| std::env::var(name).ok();
    let Some(url) = said("STORE_CHILD_URL") else { return };
    let store = Store::open(Path::new(&said("STORE_CHILD_MODELS_DIR").expect("a directory"))).expect("a store");
    let given = said("STORE_CHILD_REFERENCE").expect("a reference");
    let options = PullOptions { update: said("STORE_CHILD_UPDATES").is_some(), ..PullOptions::default() };
    let progress = Arc::new(Progress::default());
    match store.pull(&client_of(&url, None), &reference(&given), options, &progress).await {
        Ok(model) => {
            println!("\nPULLED {} of {}", model.weights.len(), model.commit.as_ref().expect("a commit"));
            if said("STORE_CHILD_HOLDS").is_some() {
                let _ = std::io::stdin().read_to_end(&mut Vec::new());
            }
        }
        Err(error) => panic!("{}", chain(&error)),
    }
}
