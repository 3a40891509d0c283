//! Directories that somebody else filled: by hand, or with any `hf`. Right ones become ours, wrong ones are never loaded.

use std::fs;
use std::os::unix::fs::symlink;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::support::{
    Files, Models, assert_digest, assert_right, client, client_of, files, gguf, hub, hub_with, list, note,
};
use crate::support::{offline, put};
use store::{Phase, Progress, PullOptions, Verified, Warning};
use test_hub::{Fault, Kind, Match, TestHub};

const Q4: &str = "tiny-Q4_K_M.gguf";
const SHARDS: [&str; 2] = ["tiny-Q8_0-00001-of-00002.gguf", "tiny-Q8_0-00002-of-00002.gguf"];

/// A hub, a store, and the commit of `main`.
fn setup() -> (TestHub, Models, String) {
    let (test_hub, models) = (hub(), Models::new());
    let commit = test_hub.commit("acme/tiny", "main");
    (test_hub, models, commit)
}

fn flip(directory: &std::path::Path, path: &str) {
    let mut content = fs::read(directory.join(path)).expect("the file");
    let middle = content.len() / 2;
    content[middle] ^= 1;
    fs::write(directory.join(path), content).expect("written");
}

// R15
#[tokio::test]
async fn a_directory_of_the_newest_hf_is_verified_without_a_network() {
    let (test_hub, models, commit) = setup();
    let directory = models.directory("main");
    put(&directory, &files(1), &[SHARDS[0], SHARDS[1], "tokenizer.json"]);
    note(&directory, &files(1), &commit, &[SHARDS[0], SHARDS[1], "tokenizer.json"]);
    list(&directory, &files(1), &commit);
    let model = models.pull(&offline(&test_hub), "acme/tiny:Q8_0").await.expect("adopted");
    assert_digest(&model);
    assert_right(&model, &files(1));
    assert_eq!(model.commit.as_ref().expect("a commit").as_str(), commit);
    assert!(model.tokenizer.is_some());
    assert!(models.is_complete("acme/tiny:Q8_0"));
    assert_eq!(test_hub.requests().len(), 0);
}

// R15
#[tokio::test]
async fn a_directory_of_an_older_hf_is_verified_by_its_notes_alone() {
    let (test_hub, models, commit) = setup();
    let directory = models.directory("main");
    put(&directory, &files(1), &[Q4]);
    note(&directory, &files(1), &commit, &[Q4]);
    let model = models.pull(&client(&test_hub), "acme/tiny").await.expect("adopted");
    assert_digest(&model);
    assert_eq!(model.commit.as_ref().expect("a commit").as_str(), commit);
    assert_eq!(test_hub.requests().len(), 0);
    assert!(models.is_complete("acme/tiny"));
}

// R15
#[tokio::test]
async fn the_links_of_the_oldest_hf_are_read_and_never_written_through() {
    let (test_hub, models, _) = setup();
    let directory = models.directory("main");
    let blobs = models.folder.path().join("hub/models--acme--tiny/blobs");
    fs::create_dir_all(&blobs).expect("a folder");
    fs::create_dir_all(&directory).expect("a folder");
    let blob = blobs.join(files(1).etag(Q4));
    fs::write(&blob, files(1).content(Q4)).expect("written");
    symlink(&blob, directory.join(Q4)).expect("linked");

    let model = models.pull(&client(&test_hub), "acme/tiny").await.expect("adopted");
    assert_digest(&model);
    assert_right(&model, &files(1));
    assert_eq!(test_hub.requests().len(), 0);

    // The branch moves on: the link makes room, and what it led to stays what it was.
    test_hub.move_branch("acme/tiny", "main", files(50).tree());
    let model = models.update(&client(&test_hub), "acme/tiny").await.expect("updated");
    assert_right(&model, &files(50));
    assert!(fs::symlink_metadata(&model.weights[0]).expect("the file").is_file());
    assert!(fs::read(&blob).expect("the blob") == files(1).content(Q4));
}

#[tokio::test]
async fn a_link_to_a_blob_that_is_not_what_its_name_says_is_not_taken() {
    let (test_hub, models, _) = setup();
    let directory = models.directory("main");
    let blobs = models.folder.path().join("blobs");
    fs::create_dir_all(&blobs).expect("a folder");
    fs::create_dir_all(&directory).expect("a folder");
    let blob = blobs.join(files(1).etag(Q4));
    fs::write(&blob, gguf(9, 300_000)).expect("written");
    symlink(&blob, directory.join(Q4)).expect("linked");
    let error = models.pull(&offline(&test_hub), "acme/tiny").await.expect_err("another file");
    assert!(crate::support::chain(&error).contains(Q4), "{error:?}");
    let model = models.pull(&client(&test_hub), "acme/tiny").await.expect("fetched");
    assert_right(&model, &files(1));
    assert!(fs::read(&blob).expect("the blob") == gguf(9, 300_000));
}

// R7
#[tokio::test]
async fn a_file_put_by_hand_is_verified_against_the_hub_without_a_request_for_it() {
    let (test_hub, models, commit) = setup();
    put(&models.directory("main"), &files(1), &[Q4]);
    let model = models.pull(&client(&test_hub), "acme/tiny").await.expect("adopted");
    assert_digest(&model);
    assert_eq!(model.commit.as_ref().expect("a commit").as_str(), commit);
    assert_eq!(test_hub.file_requests().len(), 0);
    test_hub.forget_requests();
    models.pull(&client(&test_hub), "acme/tiny").await.expect("known");
    assert_eq!(test_hub.requests().len(), 0);
}

// R15: a quantisation that nobody would prefer, put there for a reference that names none.
#[tokio::test]
async fn the_one_file_that_was_put_there_is_meant_when_no_name_is_given() {
    let (test_hub, models, _) = setup();
    put(&models.directory("main"), &files(1), &SHARDS);
    let model = models.pull(&client(&test_hub), "acme/tiny").await.expect("adopted");
    assert_eq!(model.quant.as_deref(), Some("Q8_0"));
    assert_eq!(test_hub.file_requests().len(), 0);
    assert!(model.warnings.iter().any(|it| matches!(it, Warning::PutHere { .. })), "{:?}", model.warnings);
    assert!(models.is_complete("acme/tiny"));

    // What we fetched by its name is not meant by no name.
    let models = Models::new();
    models.pull(&client(&test_hub), "acme/tiny:Q8_0").await.expect("pulled");
    let model = models.pull(&client(&test_hub), "acme/tiny").await.expect("pulled");
    assert_eq!(model.quant.as_deref(), Some("Q4_K_M"));
}

// R7
#[tokio::test]
async fn a_wrong_file_is_kept_aside_and_the_right_one_fetched() {
    let (test_hub, models, _) = setup();
    let directory = models.directory("main");
    put(&directory, &files(1), &[Q4]);
    flip(&directory, Q4);
    let theirs = fs::read(directory.join(Q4)).expect("the file");
    let model = models.pull(&client(&test_hub), "acme/tiny").await.expect("fetched");
    assert_right(&model, &files(1));
    let aside = directory.join(".cache/outrigger/rejected").join(Q4);
    assert!(fs::read(&aside).expect("kept") == theirs);

    // The next one takes its place: the disk is not filled with them.
    fs::write(directory.join(Q4), b"mine").expect("written");
    models.pull(&client(&test_hub), "acme/tiny").await.expect("fetched");
    assert!(fs::read(&aside).expect("kept") == b"mine");
}

/// A download takes hours, and people do other things meanwhile.
#[tokio::test]
async fn a_file_that_somebody_puts_there_during_the_download_is_kept_aside() {
    let (test_hub, models, _) = setup();
    let (directory, hub) = (models.directory("main"), client(&test_hub));
    for before in [None, Some(1)] {
        if let Some(seed) = before {
            models.pull(&hub, "acme/tiny").await.expect("pulled");
            assert!(fs::read(directory.join(Q4)).expect("the file") == files(seed).content(Q4));
            test_hub.move_branch("acme/tiny", "main", files(50).tree());
        }
        test_hub.fault(Fault::new(Match::cdn_get(Q4)).times(1).delayed(Duration::from_millis(300)));
        let progress = Arc::new(Progress::default());
        let wanted = crate::support::reference("acme/tiny");
        let options = PullOptions { update: before.is_some(), ..PullOptions::default() };
        let pulling = models.store.pull(&hub, &wanted, options, &progress);
        let putting = async {
            while progress.snapshot().phase != Phase::Downloading {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            let _ = fs::remove_file(directory.join(Q4));
            fs::write(directory.join(Q4), b"mine").expect("written");
        };
        let (pulled, ()) = tokio::join!(pulling, putting);
        assert_right(&pulled.expect("pulled"), &files(before.map_or(1, |_| 50)));
        let aside = directory.join(".cache/outrigger/rejected").join(Q4);
        assert_eq!(fs::read(&aside).expect("kept"), b"mine");
        fs::remove_file(aside).expect("removed");
    }
}

#[tokio::test]
async fn a_wrong_file_is_not_loaded_offline_whatever_its_header_says() {
    let (test_hub, models, commit) = setup();
    let directory = models.directory("main");
    put(&directory, &files(1), &[Q4]);
    note(&directory, &files(1), &commit, &[Q4]);
    flip(&directory, Q4);
    let error = models.pull(&offline(&test_hub), "acme/tiny").await.expect_err("it has no right file");
    assert!(
        crate::support::chain(&error).contains("not what the record beside it says"),
        "{}",
        crate::support::chain(&error)
    );
    list(&directory, &files(1), &commit);
    models.pull(&offline(&test_hub), "acme/tiny").await.expect_err("it has no right file");
    assert!(fs::metadata(directory.join(Q4)).is_ok(), "nothing is moved that cannot be replaced");
}

#[tokio::test]
async fn of_several_shards_no_right_one_is_blamed() {
    let (test_hub, models, commit) = setup();
    let directory = models.directory("main");
    put(&directory, &files(1), &SHARDS);
    note(&directory, &files(1), &commit, &SHARDS);
    flip(&directory, SHARDS[1]);
    let error = models.pull(&offline(&test_hub), "acme/tiny:Q8_0").await.expect_err("the second is wrong");
    let text = crate::support::chain(&error);
    assert!(text.contains("a shard is not what") && !text.contains(SHARDS[0]), "{text}");
}

// R7
#[tokio::test]
async fn without_record_and_hub_the_headers_decide_and_it_says_so() {
    let (test_hub, models, _) = setup();
    let directory = models.directory("main");
    put(&directory, &files(1), &SHARDS);
    let model = models.pull(&offline(&test_hub), "acme/tiny").await.expect("adopted");
    assert_eq!(model.verified, Verified::HeaderOnly);
    assert!(model.warnings.iter().any(|it| matches!(it, Warning::HeaderOnly { .. })), "{:?}", model.warnings);
    // A hub that is down is as good as none.
    let down = client_of("http://127.0.0.1:9", None);
    assert_eq!(models.pull(&down, "acme/tiny").await.expect("adopted").verified, Verified::HeaderOnly);
    // It is not taken for verified later.
    assert!(!models.is_complete("acme/tiny"));
    assert_digest(&models.pull(&client(&test_hub), "acme/tiny").await.expect("verified"));
    assert_eq!(test_hub.file_requests().len(), 0);
}

// R7
#[tokio::test]
async fn offline_a_truncated_file_and_a_missing_shard_are_refused() {
    let (test_hub, models, _) = setup();
    let directory = models.directory("main");
    put(&directory, &files(1), &SHARDS[..1]);
    let error = models.pull(&offline(&test_hub), "acme/tiny").await.expect_err("a shard is missing");
    assert!(crate::support::chain(&error).contains("00002-of-00002"), "{}", crate::support::chain(&error));
    put(&directory, &files(1), &SHARDS[1..]);
    let file = fs::OpenOptions::new().write(true).open(directory.join(SHARDS[1])).expect("the file");
    file.set_len(50_000).expect("cut");
    let error = models.pull(&offline(&test_hub), "acme/tiny").await.expect_err("a shard is cut");
    assert!(crate::support::chain(&error).contains("cut short"), "{}", crate::support::chain(&error));
}

#[tokio::test]
async fn shards_of_two_commits_are_not_a_model() {
    let (test_hub, models, before) = setup();
    let directory = models.directory("main");
    let after = test_hub.move_branch("acme/tiny", "main", files(50).tree());
    // As an `hf` leaves it that was killed during its update.
    put(&directory, &files(1), &SHARDS[..1]);
    note(&directory, &files(1), &before, &SHARDS[..1]);
    put(&directory, &files(50), &SHARDS[1..]);
    note(&directory, &files(50), &after, &SHARDS[1..]);
    let error = models.pull(&offline(&test_hub), "acme/tiny:Q8_0").await.expect_err("two halves");
    let text = crate::support::chain(&error);
    assert!(text.contains(&format!("a record of {}, and none of {}", SHARDS[1], SHARDS[0])), "{text}");
    let model = models.pull(&client(&test_hub), "acme/tiny:Q8_0").await.expect("completed");
    assert_eq!(model.commit.as_ref().expect("a commit").as_str(), after);
    assert_right(&model, &files(50));
    // What `hf` had got from the hub makes room; there is nothing of anybody's to keep.
    assert!(!directory.join(".cache/outrigger/rejected").exists());
}

#[tokio::test]
async fn what_hf_updated_after_us_is_what_the_directory_holds() {
    let (test_hub, models, before) = setup();
    models.pull(&client(&test_hub), "acme/tiny").await.expect("pulled");
    let directory = models.directory("main");
    let after = test_hub.move_branch("acme/tiny", "main", files(50).tree());
    assert_ne!(before, after);
    for path in [Q4, "tokenizer.json"] {
        fs::remove_file(directory.join(path)).expect("hf removes it first");
        put(&directory, &files(50), &[path]);
        note(&directory, &files(50), &after, &[path]);
    }
    list(&directory, &files(50), &after);
    let model = models.pull(&offline(&test_hub), "acme/tiny").await.expect("adopted");
    assert_eq!(model.commit.as_ref().expect("a commit").as_str(), after);
    assert_right(&model, &files(50));
}

#[tokio::test]
async fn a_clock_that_is_wrong_changes_nothing() {
    let (test_hub, models, commit) = setup();
    let directory = models.directory("main");
    put(&directory, &files(1), &[Q4]);
    let file = fs::File::options().write(true).open(directory.join(Q4)).expect("the file");
    file.set_modified(SystemTime::now() + Duration::from_secs(1_000_000)).expect("a time to come");
    // `hf` ignores a note that is older than the file.
    note(&directory, &files(1), &commit, &[Q4]);
    list(&directory, &files(1), &commit);
    let model = models.pull(&offline(&test_hub), "acme/tiny").await.expect("adopted");
    assert_digest(&model);
    // Ours is believed: it is not older than the file.
    let note =
        fs::read_to_string(directory.join(format!(".cache/huggingface/download/{Q4}.metadata"))).expect("a note");
    let written: f64 = note.lines().nth(2).expect("a third line").parse().expect("a time");
    let modified = file.metadata().expect("facts").modified().expect("a time");
    assert!(modified.duration_since(SystemTime::UNIX_EPOCH).expect("after 1970").as_secs_f64() - 1.0 <= written);
    assert!(models.is_complete("acme/tiny"));
}

#[tokio::test]
async fn a_damaged_record_costs_a_hash_and_no_bytes() {
    let (test_hub, models, _) = setup();
    let model = models.pull(&client(&test_hub), "acme/tiny").await.expect("pulled");
    let manifest = model.directory.join(".cache/outrigger/manifest.json");
    let good = fs::read_to_string(&manifest).expect("the record");
    let another = good.replace("acme/tiny", "acme/other");
    let hostile = good.replace("tiny-Q4_K_M", "../../x");
    let huge = "x".repeat(17 << 20);
    for bad in
        ["", "{", "[]", "{\"format_version\": 9, \"files\": {}}", &good[..good.len() / 2], &another, &hostile, &huge]
    {
        fs::write(&manifest, bad).expect("written");
        assert!(!models.is_complete("acme/tiny"), "{bad:.40}");
        test_hub.forget_requests();
        let model = models.pull(&offline(&test_hub), "acme/tiny").await.expect("verified again");
        assert_digest(&model);
        assert!(models.is_complete("acme/tiny"));
    }
    // Something else in its place.
    fs::remove_file(&manifest).expect("removed");
    fs::create_dir(&manifest).expect("a folder");
    models.pull(&offline(&test_hub), "acme/tiny").await.expect_err("the record cannot be written");
    assert_eq!(test_hub.requests().len(), 0);
}

#[tokio::test]
async fn a_hostile_listing_on_the_disk_is_no_listing() {
    let (test_hub, models, commit) = setup();
    let directory = models.directory("main");
    put(&directory, &files(1), &[Q4]);
    note(&directory, &files(1), &commit, &[Q4]);
    for name in ["../../evil.gguf", "/evil.gguf", "a\\b", ".cache/outrigger/manifest.json"] {
        list(&directory, &files(1).with(name, Kind::Lfs, "evil"), &commit);
        // The notes verify it all the same.
        let model = models.pull(&offline(&test_hub), "acme/tiny").await.expect("adopted");
        assert_digest(&model);
        fs::remove_file(directory.join(".cache/outrigger/manifest.json")).expect("forgotten");
    }
}

#[tokio::test]
async fn what_we_write_reads_as_what_hf_writes() {
    let (test_hub, models, commit) = setup();
    let model = models.pull(&client(&test_hub), "acme/tiny:Q8_0").await.expect("pulled");
    let theirs = model.directory.join(".cache/huggingface");
    assert_eq!(fs::read_to_string(theirs.join(".gitignore")).expect("a mark"), "*");
    let tag = fs::read_to_string(theirs.join("CACHEDIR.TAG")).expect("a mark");
    assert!(tag.starts_with("Signature: 8a477f597d28d172789f06886806bc55\n#") && tag.lines().count() == 4, "{tag}");
    let tree = fs::read_to_string(theirs.join(format!("trees/{commit}.json"))).expect("a listing");
    let tree: serde_json::Value = serde_json::from_str(&tree).expect("JSON");
    assert_eq!(tree["format_version"], 1);
    assert_eq!(tree["files"].as_object().expect("files").len(), files(1).0.len());
    let entry = &tree["files"][SHARDS[0]];
    assert_eq!(entry["size"], 200_000);
    assert_eq!(entry["lfs_size"], 200_000);
    assert_eq!(entry["lfs_sha256"], files(1).etag(SHARDS[0]));
    assert!(entry["xet_hash"].is_string(), "{entry}");
    assert_eq!(tree["files"]["tokenizer.json"]["blob_id"], files(1).etag("tokenizer.json"));
    for path in [SHARDS[0], SHARDS[1], "tokenizer.json"] {
        let note = fs::read_to_string(theirs.join(format!("download/{path}.metadata"))).expect("a note");
        let lines: Vec<_> = note.lines().collect();
        assert_eq!(lines[..2], [commit.as_str(), files(1).etag(path).as_str()]);
        lines[2].parse::<f64>().expect("a time");
    }
}

#[tokio::test]
async fn a_file_in_a_folder_of_the_repository_is_found_and_put_there() {
    let nested = Files::default()
        .with("Q4_K_M/tiny-Q4_K_M.gguf", Kind::Lfs, gguf(1, 90_000))
        .with("Q4_K_M/tokenizer.json", Kind::Git, "{}")
        .with("tokenizer.json", Kind::Git, "{\"other\": 1}");
    let (test_hub, models) = (hub_with(&nested), Models::new());
    let model = models.pull(&client(&test_hub), "acme/tiny").await.expect("pulled");
    assert_right(&model, &nested);
    assert_eq!(model.tokenizer, Some(model.directory.join("Q4_K_M/tokenizer.json")));
    let again = models.pull(&offline(&test_hub), "acme/tiny/Q4_K_M/tiny-Q4_K_M.gguf").await.expect("it is here");
    assert_eq!(again.weights, model.weights);
}
