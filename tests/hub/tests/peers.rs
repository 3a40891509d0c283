//! The hub is faithful: clients that nobody here wrote download from it, byte by byte what it holds.
#![allow(missing_docs)]

#[expect(dead_code, reason = "shared with other tests")]
mod peer;

use std::collections::BTreeMap;
use std::path::Path;

use peer::{Hf, Olah, files_below, git_repository, node};
use test_hub::{Content, Kind, Mirror, Origin, Repo, TestHub};

const ID: &str = "acme/tiny";
const TOKEN: &str = "hf_peersSecret";

/// Large enough for `huggingface_hub` 0.22 to link it instead of copying it.
const WEIGHTS_BYTES: u64 = 6_000_000;

/// Files of every kind. olah and the JavaScript client cannot have the odd names: they do not encode them.
fn files(has_odd_names: bool) -> BTreeMap<String, (Vec<u8>, Kind)> {
    let weights = Content::generated(3, WEIGHTS_BYTES).bytes(0..WEIGHTS_BYTES);
    let mut files = BTreeMap::from([
        ("tiny-Q4_K_M.gguf".to_owned(), (weights, Kind::Lfs)),
        ("model.safetensors".to_owned(), (b"xet or lfs".to_vec(), Kind::Xet)),
        ("config.json".to_owned(), (b"{\"a\": 1}\n".to_vec(), Kind::Git)),
        (".gitattributes".to_owned(), (b"*.gguf filter=lfs\n".to_vec(), Kind::Git)),
        ("sub/deep/notes.txt".to_owned(), (b"notes\n".to_vec(), Kind::Git)),
    ]);
    if has_odd_names {
        files.insert("sub/a b #1 [x] 100% \u{fc}.txt".to_owned(), (b"odd".to_vec(), Kind::Git));
        files.insert("sub/w #2 [y] 50% \u{e9}.bin".to_owned(), (b"odd weights".to_vec(), Kind::Lfs));
        files.insert("empty.txt".to_owned(), (Vec::new(), Kind::Git));
    }
    files
}

fn repo(has_odd_names: bool) -> Repo {
    let add = |repo: Repo, (path, (bytes, kind)): (String, (Vec<u8>, Kind))| repo.file(&path, bytes, kind);
    files(has_odd_names).into_iter().fold(Repo::new(ID), add)
}

#[track_caller]
fn assert_same(directory: &Path, has_odd_names: bool) {
    let expected: BTreeMap<_, _> = files(has_odd_names).into_iter().map(|(path, (bytes, _))| (path, bytes)).collect();
    let found = files_below(directory);
    assert_eq!(found.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
    for (path, bytes) in expected {
        assert!(found[&path] == bytes, "{path} differs");
    }
}

/// Downloads everything from a private repository, over TLS and plain, listed in small pages; no token leaks.
fn downloads(peer: &str) {
    for has_tls in [true, false] {
        let builder =
            TestHub::builder().repository(repo(true).private().formerly("old/name")).token(TOKEN).page_size(3);
        let hub = if has_tls { builder.tls().start() } else { builder.start() };
        let hf = Hf::new(peer, &hub.url(), has_tls.then(|| hub.ca_file())).set("HF_TOKEN", TOKEN);
        let folder = tempfile::tempdir().expect("a temporary folder");
        for (id, into) in [(ID, "new"), ("old/name", "old")] {
            let directory = folder.path().join(into);
            hf.download(id, "main", &directory).unwrap();
            assert_same(&directory, true);
        }
        assert!(hub.leaks().is_empty(), "{:?}", hub.leaks());
        assert!(!hub.weight_requests().is_empty());
        let refused = Hf::new(peer, &hub.url(), has_tls.then(|| hub.ca_file()));
        let outcome = refused.download(ID, "main", &folder.path().join("refused"));
        assert!(!outcome.is_ok(), "a private repository without a token\n{}", outcome.output);
        assert!(files_below(&folder.path().join("refused")).is_empty());
    }
}

#[test]
#[ignore = "heavy: run by tests/run.sh --full"]
fn hf_2_downloads_what_the_hub_holds() {
    downloads("hf-2");
}

#[test]
#[ignore = "heavy: run by tests/run.sh --full"]
fn huggingface_hub_0_36_downloads_what_the_hub_holds() {
    downloads("hf-0.36");
}

#[test]
#[ignore = "heavy: run by tests/run.sh --full"]
fn huggingface_hub_0_22_downloads_what_the_hub_holds() {
    downloads("hf-0.22");
}

#[test]
#[ignore = "heavy: run by tests/run.sh --full"]
fn hf_tells_the_refusals_apart_that_the_hub_tells_apart() {
    let repository = |id: &str| Repo::new(id).file("config.json", "{}", Kind::Git);
    let hub = TestHub::builder()
        .tls()
        .repository(repository("acme/open"))
        .repository(repository("acme/gated").gated())
        .repository(repository("acme/private").private())
        .token_with("hf_other", test_hub::Access::Public)
        .start();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let check = |id: &str, revision: &str, file: &str, token: Option<&str>, expected: &str| {
        let mut hf = Hf::new("hf-2", &hub.url(), Some(hub.ca_file()));
        if let Some(token) = token {
            hf = hf.set("HF_TOKEN", token);
        }
        let into = folder.path().to_str().expect("a path in UTF-8");
        let outcome = hf.run(["download", id, file, "--revision", revision, "--local-dir", into], peer::PATIENCE);
        assert!(!outcome.is_ok() && outcome.output.contains(expected), "{id}@{revision}: {}", outcome.output);
    };
    check("acme/private", "main", "config.json", None, "make sure you are authenticated");
    check("acme/gated", "main", "config.json", None, "requires approval");
    check("acme/gated", "main", "config.json", Some("hf_other"), "requires approval");
    check("acme/missing", "main", "config.json", Some("hf_other"), "not found");
    check("acme/open", "nope", "config.json", None, "evision");
    check("acme/open", "main", "nope.json", None, "nope.json");
}

const SNAPSHOT: &str = r#"
import { listFiles, downloadFile, fileDownloadInfo, modelInfo, pathsInfo } from "@huggingface/hub";
import { mkdirSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
const [hubUrl, repo, target] = process.argv.slice(1);
const info = await modelInfo({ name: repo, hubUrl, additionalFields: ["sha", "siblings"] });
if (!/^[0-9a-f]{40}$/.test(info.sha)) throw new Error("sha: " + info.sha);
for await (const file of listFiles({ repo, hubUrl, recursive: true })) {
  if (file.type !== "file") continue;
  const about = await fileDownloadInfo({ repo, path: file.path, hubUrl });
  if (about.size !== file.size) throw new Error(`${file.path}: ${about.size} is not ${file.size}`);
  const [listed] = await pathsInfo({ repo, paths: [file.path], hubUrl });
  if (listed.oid !== file.oid) throw new Error(`${file.path}: paths-info says ${listed.oid}`);
  const blob = await downloadFile({ repo, path: file.path, hubUrl, xet: false });
  const path = join(target, file.path);
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, Buffer.from(await blob.arrayBuffer()));
}
"#;

/// Without a token: this client asks the hub for a large file, keeps the address that it was redirected to, and sends
/// its token there.
#[test]
#[ignore = "heavy: run by tests/run.sh --full"]
fn the_javascript_client_downloads_what_the_hub_holds() {
    for has_tls in [true, false] {
        let builder = TestHub::builder().repository(repo(false)).page_size(2);
        let hub = if has_tls { builder.tls().start() } else { builder.start() };
        let folder = tempfile::tempdir().expect("a temporary folder");
        let into = folder.path().to_str().expect("a path in UTF-8");
        node(&hub, has_tls.then(|| hub.ca_file()), SNAPSHOT, &[ID, into]).unwrap();
        assert_same(folder.path(), false);
    }
}

#[test]
#[ignore = "heavy: run by tests/run.sh --full"]
fn olah_mirrors_the_hub_and_hf_downloads_from_the_mirror() {
    let hub = TestHub::builder().repository(repo(false)).page_size(2).start();
    let olah = Olah::mirror_of(&hub);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let outcome = Hf::current(&olah.url()).download(ID, "main", folder.path());
    assert!(outcome.is_ok(), "{}\n{}", outcome.output, olah.log());
    assert_same(folder.path(), false);
    assert!(!hub.requests_to(Origin::Cdn).is_empty(), "the bytes came through it");
}

#[test]
#[ignore = "heavy: run by tests/run.sh --full"]
fn olah_serves_a_git_repository_offline_to_hf() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let stored = files(false).into_iter().map(|(path, (bytes, kind))| (path, (bytes, kind != Kind::Git))).collect();
    git_repository(folder.path(), ID, &stored);
    let olah = Olah::offline(folder);
    let into = tempfile::tempdir().expect("a temporary folder");
    let outcome = Hf::current(&olah.url()).download(ID, "main", into.path());
    assert!(outcome.is_ok(), "{}\n{}", outcome.output, olah.log());
    assert_same(into.path(), false);
}

#[test]
#[ignore = "heavy: run by tests/run.sh --full"]
fn hf_downloads_from_the_hub_as_a_mirror() {
    let hub = TestHub::builder().repository(repo(true)).mirror(Mirror::good()).start();
    let folder = tempfile::tempdir().expect("a temporary folder");
    Hf::current(&hub.url()).download(ID, "main", folder.path()).unwrap();
    assert_same(folder.path(), true);
    assert!(hub.requests_to(Origin::Cdn).is_empty());
}

#[test]
#[ignore = "heavy: run by tests/run.sh --full"]
fn hf_verifies_what_it_downloaded_and_finds_one_flipped_byte() {
    let hub = TestHub::builder().repository(repo(true)).start();
    let hf = Hf::current(&hub.url());
    let folder = tempfile::tempdir().expect("a temporary folder");
    hf.download(ID, "main", folder.path()).unwrap();
    hf.verify(ID, "main", folder.path()).unwrap();
    let weights = folder.path().join("tiny-Q4_K_M.gguf");
    let mut bytes = std::fs::read(&weights).expect("the weights");
    bytes[1_000_000] ^= 1;
    std::fs::write(&weights, bytes).expect("the weights");
    let outcome = hf.verify(ID, "main", folder.path());
    assert!(!outcome.is_ok() && outcome.output.contains("tiny-Q4_K_M.gguf"), "{}", outcome.output);
}
