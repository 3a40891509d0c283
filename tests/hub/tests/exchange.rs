//! One directory, two programs: what `hf` leaves we pick up, what we leave `hf` accepts, and mirrors that nobody here
//! wrote serve us both.
#![allow(missing_docs)]

#[expect(dead_code, reason = "shared with other tests")]
mod ours;
#[expect(dead_code, reason = "shared with other tests")]
mod peer;

use std::collections::BTreeMap;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use peer::{Hf, Olah, PATIENCE, files_below, git_repository};
use store::Verified;
use test_hub::{Content, Kind, Origin, Repo, TestHub};

const ID: &str = "acme/tiny";
const TOKEN: &str = "hf_exchangeSecret";
const WEIGHTS: &str = "tiny-Q4_K_M.gguf";
/// Large enough for `huggingface_hub` 0.22 to link it instead of copying it.
const WEIGHTS_BYTES: u64 = 6_000_000;
const TOKENIZER: &str = "{\"version\": \"1.0\"}";

fn weights() -> Content {
    Content::generated(5, WEIGHTS_BYTES)
}

/// Only files that our store takes too, so that a judge may ask for all of them.
fn repo() -> Repo {
    Repo::new(ID).file(WEIGHTS, weights(), Kind::Xet).file("tokenizer.json", TOKENIZER, Kind::Git)
}

fn hub() -> TestHub {
    TestHub::builder().repository(repo().private()).token(TOKEN).tls().start()
}

fn hf(name: &str, hub: &TestHub) -> Hf {
    Hf::new(name, &hub.url(), Some(hub.ca_file())).set("HF_TOKEN", TOKEN)
}

fn directory(models_dir: &Path, revision: &str) -> PathBuf {
    models_dir.join(ID).join(revision)
}

#[track_caller]
fn assert_right(model: &store::LocalModel) {
    assert_right_weights(model);
    let tokenizer = model.tokenizer.as_ref().unwrap_or_else(|| panic!("no tokenizer: {model:#?}"));
    assert_eq!(std::fs::read_to_string(tokenizer).expect("the tokenizer"), TOKENIZER);
}

#[track_caller]
fn assert_right_weights(model: &store::LocalModel) {
    assert!(matches!(model.verified, Verified::Digest { .. }), "{:?}", model.verified);
    assert_eq!(model.weights.len(), 1);
    assert!(std::fs::read(&model.weights[0]).expect("the weights") == weights().bytes(0..WEIGHTS_BYTES));
}

/// R15: `hf download` into the directory, for a branch and for a commit, then our pull: no file is asked for.
fn picks_up(peer: &str, is_right: fn(&store::LocalModel)) {
    let hub = hub();
    let hf = hf(peer, &hub);
    let commit = hub.commit(ID, "main");
    for revision in ["main", &commit] {
        let models = tempfile::tempdir().expect("a temporary folder");
        hf.download(ID, revision, &directory(models.path(), revision)).unwrap();
        hub.forget_requests();
        let client = ours::client(&hub.url(), Some(hub.ca_file()), Some(TOKEN));
        let model = ours::pull(models.path(), &client, &format!("{ID}@{revision}"), PATIENCE).unwrap();
        is_right(&model);
        let lines: Vec<_> = hub.file_requests().iter().map(test_hub::Seen::line).collect();
        assert!(lines.is_empty(), "{lines:#?}");
        // And a second time, when it is known to be right: no request at all.
        hub.forget_requests();
        ours::pull(models.path(), &client, &format!("{ID}@{revision}"), PATIENCE).unwrap();
        assert_eq!(hub.requests().len(), 0);
    }
}

#[test]
#[ignore = "heavy: run by tests/run.sh --full"]
fn what_hf_2_downloaded_is_picked_up() {
    picks_up("hf-2", assert_right); // R15
}

#[test]
#[ignore = "heavy: run by tests/run.sh --full"]
fn what_huggingface_hub_0_36_downloaded_is_picked_up() {
    picks_up("hf-0.36", assert_right); // R15
}

#[test]
#[ignore = "heavy: run by tests/run.sh --full"]
fn what_huggingface_hub_0_22_downloaded_is_picked_up() {
    // It leaves no record of small files: the link to the weights says what they are, and nothing what the tokenizer is.
    picks_up("hf-0.22", assert_right_weights); // R15
}

#[test]
#[ignore = "heavy: run by tests/run.sh --full"]
fn what_hf_2_downloaded_is_verified_without_the_hub() {
    let hub = hub();
    let models = tempfile::tempdir().expect("a temporary folder");
    hf("hf-2", &hub).download(ID, "main", &directory(models.path(), "main")).unwrap();
    let client = ours::client("http://127.0.0.1:9", None, None);
    assert_right(&ours::pull(models.path(), &client, ID, PATIENCE).unwrap());
}

#[test]
#[ignore = "heavy: run by tests/run.sh --full"]
fn a_byte_that_was_flipped_after_hf_is_noticed_and_mended() {
    for peer in ["hf-2", "hf-0.36"] {
        let hub = hub();
        let models = tempfile::tempdir().expect("a temporary folder");
        hf(peer, &hub).download(ID, "main", &directory(models.path(), "main")).unwrap();
        flip(&directory(models.path(), "main").join(WEIGHTS));
        hub.forget_requests();
        let client = ours::client(&hub.url(), Some(hub.ca_file()), Some(TOKEN));
        assert_right(&ours::pull(models.path(), &client, ID, PATIENCE).unwrap());
        assert!(!hub.weight_requests().is_empty(), "{peer}: the weights were fetched again");
    }
}

/// Changes one byte and, as a damaged disk would, neither the length nor the times.
fn flip(path: &Path) {
    let file = std::fs::File::options().read(true).write(true).open(path).expect("the weights");
    let modified = file.metadata().and_then(|metadata| metadata.modified()).expect("a time");
    let mut byte = [0];
    file.read_exact_at(&mut byte, WEIGHTS_BYTES / 2).expect("a byte");
    file.write_all_at(&[byte[0] ^ 1], WEIGHTS_BYTES / 2).expect("a byte");
    file.set_modified(modified).expect("a time");
}

#[test]
#[ignore = "heavy: run by tests/run.sh --full"]
fn hf_verifies_what_we_downloaded_and_rejects_one_flipped_byte() {
    let hub = hub();
    let models = tempfile::tempdir().expect("a temporary folder");
    let client = ours::client(&hub.url(), Some(hub.ca_file()), Some(TOKEN));
    ours::pull(models.path(), &client, ID, PATIENCE).unwrap();
    let (hf, directory) = (hf("hf-2", &hub), directory(models.path(), "main"));
    hf.verify(ID, "main", &directory).unwrap();
    flip(&directory.join(WEIGHTS));
    let outcome = hf.verify(ID, "main", &directory);
    assert!(!outcome.is_ok() && outcome.output.contains(WEIGHTS), "{}", outcome.output);
}

#[test]
#[ignore = "heavy: run by tests/run.sh --full"]
fn hf_downloads_nothing_into_a_directory_that_we_filled() {
    for peer in ["hf-2", "hf-0.36"] {
        let hub = hub();
        let models = tempfile::tempdir().expect("a temporary folder");
        let client = ours::client(&hub.url(), Some(hub.ca_file()), Some(TOKEN));
        ours::pull(models.path(), &client, ID, PATIENCE).unwrap();
        hub.forget_requests();
        let directory = directory(models.path(), "main");
        hf(peer, &hub).download(ID, "main", &directory).unwrap();
        let fetched: Vec<_> = hub.file_requests().into_iter().filter(|seen| seen.method == "GET").collect();
        assert!(fetched.is_empty(), "{peer}: {:#?}", fetched.iter().map(test_hub::Seen::line).collect::<Vec<_>>());
        hub.forget_requests();
        assert_right(&ours::pull(models.path(), &client, ID, PATIENCE).unwrap());
        assert!(hub.weight_requests().is_empty());
    }
}

#[test]
#[ignore = "heavy: run by tests/run.sh --full"]
fn we_pull_through_olah_as_a_mirror() {
    let hub = TestHub::builder().repository(repo()).start();
    let olah = Olah::mirror_of(&hub);
    let models = tempfile::tempdir().expect("a temporary folder");
    let pulled = ours::pull(models.path(), &ours::client(&olah.url(), None, None), ID, PATIENCE);
    let model = pulled.result.expect("an end").unwrap_or_else(|error| panic!("{error}\n{}", olah.log()));
    assert_right(&model);
    assert!(!hub.requests_to(Origin::Cdn).is_empty(), "the bytes came through it");
}

#[test]
#[ignore = "heavy: run by tests/run.sh --full"]
fn we_pull_from_olah_as_an_offline_server() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let files = BTreeMap::from([
        (WEIGHTS.to_owned(), (weights().bytes(0..WEIGHTS_BYTES), true)),
        ("tokenizer.json".to_owned(), (TOKENIZER.as_bytes().to_vec(), false)),
    ]);
    git_repository(folder.path(), ID, &files);
    let olah = Olah::offline(folder);
    let models = tempfile::tempdir().expect("a temporary folder");
    let pulled = ours::pull(models.path(), &ours::client(&olah.url(), None, None), ID, PATIENCE);
    let model = pulled.result.expect("an end").unwrap_or_else(|error| panic!("{error}\n{}", olah.log()));
    assert_right(&model);
    let names: Vec<_> = files_below(&directory(models.path(), "main")).into_keys().collect();
    assert_eq!(names, [WEIGHTS, "tokenizer.json"]);
}
