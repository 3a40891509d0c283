//! Serves directories as repositories of a hub, for scripts and by hand:
//! `test-hub [--tls] [--token T] [--seconds N] acme/tiny=DIRECTORY… acme/big:model.gguf=1000000000…`
//!
//! The first line of its output is JSON: `{"url": …, "cdn_url": …, "ca_file": …, "pid": …}`.
#![expect(clippy::print_stdout, reason = "its output is its interface")]

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::Path;
use std::time::Duration;

use serde_json::json;
use test_hub::{Content, Kind, Repo, TestHub};

/// What git stores itself is smaller than this, as on the real hub.
const GIT_BYTES_MAX: u64 = 10_000_000;
/// It ends by itself, should the script that started it have died.
const LIFE: Duration = Duration::from_hours(1);
const USAGE: &str = "usage: test-hub [--tls] [--token T] [--seconds N] ORG/MODEL=DIRECTORY... ORG/MODEL:FILE=BYTES...";

fn main() {
    let mut builder = TestHub::builder();
    let mut repositories = BTreeMap::new();
    let (mut arguments, mut life, mut has_tls) = (std::env::args().skip(1), LIFE, false);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().expect(USAGE);
        match argument.as_str() {
            "--tls" => (builder, has_tls) = (builder.tls(), true),
            "--token" => builder = builder.token(&value()),
            "--seconds" => life = Duration::from_secs(value().parse().expect(USAGE)),
            _ => {
                let (what, source) = argument.split_once('=').expect(USAGE);
                let id = what.split_once(':').map_or(what, |(id, _)| id);
                let repo = repositories.remove(id).unwrap_or_else(|| Repo::new(id));
                let repo = match what.split_once(':') {
                    Some((_, file)) => repo.file(file, Content::generated(1, source.parse().expect(USAGE)), Kind::Lfs),
                    None => directory(repo, Path::new(source), ""),
                };
                repositories.insert(id.to_owned(), repo);
            }
        }
    }
    let hub = repositories.into_values().fold(builder, test_hub::Builder::repository).start();
    let ca_file = has_tls.then(|| hub.ca_file().display().to_string());
    let says = json!({"url": hub.url(), "cdn_url": hub.cdn_url(), "ca_file": ca_file, "pid": std::process::id()});
    println!("{says}");
    std::io::stdout().flush().expect("a reader");
    std::thread::sleep(life);
}

/// Adds what is in `folder`, but for what git and the downloaders keep there.
fn directory(mut repo: Repo, folder: &Path, prefix: &str) -> Repo {
    let entries = std::fs::read_dir(folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    for entry in entries.flatten() {
        let name = entry.file_name().into_string().expect("names in UTF-8");
        let path = format!("{prefix}{name}");
        if name == ".git" || name == ".cache" {
            continue;
        }
        if entry.path().is_dir() {
            repo = directory(repo, &entry.path(), &format!("{path}/"));
            continue;
        }
        let content = Content::file(&entry.path());
        let is_weight = [".gguf", ".safetensors", ".bin"].iter().any(|end| name.ends_with(end));
        let is_large = is_weight || content.size_bytes() > GIT_BYTES_MAX;
        repo = repo.file(&path, content, if is_large { Kind::Lfs } else { Kind::Git });
    }
    repo
}
