//! A hub, a home directory, and what tests ask of the binary between them.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::{Value, json};
use tempfile::TempDir;
use test_hub::{Fault, Kind, Match, Repo, TestHub};
use tests::host::command;
use tests::markov::Markov;

pub(crate) const TOKEN: &str = "hf_canary_NeverToBeSeenAnywhere";

pub(crate) const NAME: &str = "acme/tiny";

pub(crate) const WEIGHTS: &str = "tiny-Q4_K_M.gguf";

/// A hub with one model, and a home directory of its own.
pub(crate) struct Scene {
    pub(crate) hub: TestHub,
    pub(crate) home: TempDir,
}

impl Scene {
    pub(crate) fn new() -> Self {
        Self::with(TestHub::builder().repository(tiny()).token(TOKEN).start())
    }

    pub(crate) fn with(hub: TestHub) -> Self {
        Self { hub, home: tempfile::tempdir().expect("a folder") }
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = command();
        command.args(arguments).env("HF_ENDPOINT", self.hub.url()).env("HOME", self.home.path());
        command.env("OUTRIGGER_CACHE_DIR", cache_dir());
        command
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().expect("the binary runs")
    }

    /// Runs a command that succeeds, and gives what it printed.
    pub(crate) fn ok(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
        text(&output.stdout)
    }

    /// Runs a command that fails, and gives what it said about that.
    pub(crate) fn fails(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {}", text(&output.stderr));
        text(&output.stderr)
    }

    pub(crate) fn directory(&self, revision: &str) -> PathBuf {
        self.home.path().join(".outrigger/models").join(NAME).join(revision)
    }
}

/// Compiled plugins are shared by all tests, as they are by all runs of a user.
fn cache_dir() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("outrigger-cache")
}

pub(crate) fn tiny() -> Repo {
    let model = Markov::default().chain(&["Hello", " there"]).to_bytes();
    Repo::new(NAME).file(WEIGHTS, model, Kind::Lfs).file("README.md", "# tiny", Kind::Git)
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

pub(crate) fn request() -> Value {
    json!({"model": NAME, "messages": [{"role": "user", "content": "hi"}], "temperature": 0})
}

/// Slow enough to be seen on its way, fast enough to wait for.
pub(crate) fn slow_cdn(hub: &TestHub) {
    hub.fault(Fault::new(Match::cdn_get("")).bytes_per_second(150_000));
}

impl Scene {
    pub(crate) fn run_with_token(&self, arguments: &[&str]) -> String {
        let output = self.command(arguments).env("HF_TOKEN", TOKEN).output().expect("the binary runs");
        assert_eq!(output.status.code(), Some(1));
        text(&output.stderr)
    }
}

pub(crate) fn walk(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten() {
        let path = entry.expect("an entry").path();
        if path.is_dir() { found.extend(walk(&path)) } else { found.push(path) }
    }
    found
}

/// Two quantisations of one model.
pub(crate) fn two_quantisations() -> Scene {
    let [large, small] = [["Hello", " there"], ["Hi", " you"]].map(|words| Markov::default().chain(&words).to_bytes());
    let repository = Repo::new(NAME).file("tiny-Q8_0.gguf", large, Kind::Lfs).file(WEIGHTS, small, Kind::Lfs);
    Scene::with(TestHub::builder().repository(repository).start())
}
