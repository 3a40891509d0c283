//! A pull from nothing, a second one, and what a branch that moves changes.

use std::fs;

use crate::support::{Models, assert_digest, assert_right, client, files, gguf, hub, offline, reference};
use store::{Presence, PullOptions, Verified, Warning};
use test_hub::{Fault, Kind, Match};

// R6, R13
#[tokio::test]
async fn a_model_lands_where_its_reference_says() {
    let (test_hub, models) = (hub(), Models::new());
    let model = models.pull(&client(&test_hub), "acme/tiny").await.expect("pulled");
    assert_right(&model, &files(1));
    assert_digest(&model);
    assert_eq!(model.directory, models.directory("main"));
    assert_eq!(model.weights, [models.directory("main").join("tiny-Q4_K_M.gguf")]);
    assert_eq!(model.tokenizer, Some(models.directory("main").join("tokenizer.json")));
    assert_eq!(model.commit.as_ref().expect("a commit").as_str(), test_hub.commit("acme/tiny", "main"));
    let pinned = format!("acme/tiny@{}", test_hub.commit("acme/tiny", "main"));
    let expected = Warning::Unpinned { revision: model.reference.revision.clone(), pinned: reference(&pinned) };
    assert_eq!(model.warnings, [expected]);
    assert!(test_hub.leaks().is_empty());
}

// R7
#[tokio::test]
async fn what_is_complete_and_verified_costs_no_request() {
    let (test_hub, models) = (hub(), Models::new());
    let hub = client(&test_hub);
    models.pull(&hub, "acme/tiny").await.expect("pulled");
    test_hub.forget_requests();
    let again = models.pull(&hub, "acme/tiny").await.expect("pulled");
    assert_eq!(test_hub.requests().len(), 0);
    assert_right(&again, &files(1));
    models.pull(&offline(&test_hub), "acme/tiny").await.expect("no hub is needed");
    drop(test_hub);
    models.pull(&hub, "acme/tiny").await.expect("no hub is needed");
}

#[tokio::test]
async fn a_pinned_commit_is_never_resolved() {
    let (test_hub, models) = (hub(), Models::new());
    let commit = test_hub.commit("acme/tiny", "main");
    let given = format!("acme/tiny:Q8_0@{commit}");
    let hub = client(&test_hub);
    let model = models.update(&hub, &given).await.expect("pulled");
    assert_right(&model, &files(1));
    assert_eq!(model.weights.len(), 2);
    assert_eq!(model.warnings, []);
    let resolved = test_hub.requests().into_iter().filter(|seen| seen.path.contains("/revision/")).count();
    assert_eq!(resolved, 0);
    test_hub.forget_requests();
    models.update(&hub, &given).await.expect("nothing to do");
    assert_eq!(test_hub.requests().len(), 0);
}

#[tokio::test]
async fn a_second_quantisation_comes_from_the_commit_of_the_first() {
    let (test_hub, models) = (hub(), Models::new());
    let hub = client(&test_hub);
    let first = models.pull(&hub, "acme/tiny").await.expect("pulled");
    test_hub.move_branch("acme/tiny", "main", files(50).tree());
    test_hub.forget_requests();
    let second = models.pull(&hub, "acme/tiny:Q8_0").await.expect("pulled");
    assert_eq!(second.commit, first.commit);
    assert_right(&second, &files(1));
    assert!(models.is_complete("acme/tiny") && models.is_complete("acme/tiny:Q8_0"));
    // The listing is on the disk: nothing but files was asked for.
    assert_eq!(test_hub.requests().len(), test_hub.file_requests().len());
}

#[tokio::test]
async fn main_stays_what_it_was_until_an_update() {
    let (test_hub, models) = (hub(), Models::new());
    let hub = client(&test_hub);
    let before = models.pull(&hub, "acme/tiny:Q8_0").await.expect("pulled");
    let newer = files(50).with("tiny-Q8_0-00001-of-00002.gguf", Kind::Lfs, gguf(2, 200_000));
    test_hub.move_branch("acme/tiny", "main", newer.tree());
    let same = models.pull(&hub, "acme/tiny:Q8_0").await.expect("pulled");
    assert_eq!(same.commit, before.commit);
    test_hub.forget_requests();
    let after = models.update(&hub, "acme/tiny:Q8_0").await.expect("updated");
    assert_ne!(after.commit, before.commit);
    assert_right(&after, &newer);
    // The first shard did not change.
    let fetched: Vec<_> = test_hub.file_requests().into_iter().filter_map(|seen| seen.file).collect();
    assert!(fetched.iter().all(|file| !file.contains("00001-of-00002")), "{fetched:?}");
    assert!(!fetched.is_empty());
    let aside = models.directory("main").join(".cache/outrigger/rejected");
    assert!(!aside.exists(), "what came from the hub makes room");
}

#[tokio::test]
async fn an_update_of_one_quantisation_makes_no_mixture_of_the_other() {
    let (test_hub, models) = (hub(), Models::new());
    let hub = client(&test_hub);
    models.pull(&hub, "acme/tiny:Q8_0").await.expect("pulled");
    models.pull(&hub, "acme/tiny").await.expect("pulled");
    let newer = files(50).with("tiny-Q8_0-00001-of-00002.gguf", Kind::Lfs, gguf(2, 200_000));
    test_hub.move_branch("acme/tiny", "main", newer.tree());
    models.update(&hub, "acme/tiny").await.expect("updated");
    assert!(!models.is_complete("acme/tiny:Q8_0"), "its second shard is of the commit before");
    let other = models.pull(&hub, "acme/tiny:Q8_0").await.expect("pulled");
    assert_right(&other, &newer);
    assert!(!models.directory("main").join(".cache/outrigger/rejected").exists());
}

#[tokio::test]
async fn a_branch_that_moves_between_the_listing_and_the_file_changes_nothing() {
    let (test_hub, models) = (hub(), Models::new());
    let commit = test_hub.commit("acme/tiny", "main");
    test_hub.fault(Fault::new(Match::hub_get("/tree/")).times(1).then_move_branch(
        "acme/tiny",
        "main",
        files(50).tree(),
    ));
    let model = models.pull(&client(&test_hub), "acme/tiny").await.expect("pulled");
    assert_ne!(test_hub.commit("acme/tiny", "main"), commit);
    assert_eq!(model.commit.as_ref().expect("a commit").as_str(), commit);
    assert_right(&model, &files(1));
}

#[tokio::test]
async fn a_name_that_the_hub_does_not_know_leaves_nothing_behind() {
    let (test_hub, models) = (hub(), Models::new());
    let hub = client(&test_hub);
    for given in ["acme/tyni", "acme/tiny@v9", "acme/tiny:Q2_K", "acme/tiny/other.gguf"] {
        models.pull(&hub, given).await.expect_err(given);
    }
    let left: Vec<_> = fs::read_dir(models.store.models_dir()).expect("the folder").flatten().collect();
    assert!(left.is_empty(), "{left:?}");
}

#[tokio::test]
async fn an_update_without_a_hub_is_an_error_and_the_model_stays() {
    let (test_hub, models) = (hub(), Models::new());
    models.pull(&client(&test_hub), "acme/tiny").await.expect("pulled");
    let error = models.update(&offline(&test_hub), "acme/tiny").await.expect_err("offline");
    assert!(matches!(error.hub(), Some(hub::HubError::Offline { .. })), "{error:?}");
    assert!(models.is_complete("acme/tiny"));
}

#[tokio::test]
async fn nothing_and_no_hub_says_how_to_get_it() {
    let (test_hub, models) = (hub(), Models::new());
    let error = models.pull(&offline(&test_hub), "acme/tiny").await.expect_err("offline");
    let text = crate::support::chain(&error);
    assert!(text.contains("hf download acme/tiny --local-dir"), "{text}");
    assert!(text.contains("the test says so"), "{text}");
    assert_eq!(test_hub.requests().len(), 0);
}

#[tokio::test]
async fn a_file_in_another_revision_is_linked_and_not_fetched() {
    let (test_hub, models) = (hub(), Models::new());
    let hub = client(&test_hub);
    let main = models.pull(&hub, "acme/tiny").await.expect("pulled");
    test_hub.forget_requests();
    let commit = test_hub.commit("acme/tiny", "main");
    let pinned = models.pull(&hub, &format!("acme/tiny@{commit}")).await.expect("pulled");
    assert_right(&pinned, &files(1));
    assert_eq!(test_hub.file_requests().len(), 0);
    let inode = |path| std::os::unix::fs::MetadataExt::ino(&fs::metadata(path).expect("a file"));
    assert_eq!(inode(&main.weights[0]), inode(&pinned.weights[0]));
}

#[tokio::test]
async fn the_cache_of_hf_is_copied_from_if_it_holds_what_its_names_say() {
    let (test_hub, models) = (hub(), Models::new());
    let hub = client(&test_hub);
    let cache = models.folder.path().join("hub");
    let blobs = cache.join("models--acme--tiny/blobs");
    fs::create_dir_all(&blobs).expect("a folder");
    let files = files(1);
    let blob = |path: &str| blobs.join(files.etag(path));
    fs::write(blob("tiny-Q4_K_M.gguf"), files.content("tiny-Q4_K_M.gguf")).expect("written");
    // One with a flipped bit.
    let mut damaged = files.content("tiny-Q8_0-00002-of-00002.gguf").to_vec();
    damaged[70_000] ^= 1;
    fs::write(blob("tiny-Q8_0-00002-of-00002.gguf"), damaged).expect("written");
    let options = PullOptions { hf_cache: Some(cache), ..PullOptions::default() };

    let model = models.pull_with(&hub, "acme/tiny", options.clone()).await.expect("pulled");
    assert_right(&model, &files);
    assert_eq!(test_hub.weight_requests().len(), 0);
    fs::remove_file(blob("tiny-Q4_K_M.gguf")).expect("removed");
    assert_right(&model, &files);

    let model = models.pull_with(&hub, "acme/tiny:Q8_0", options).await.expect("pulled");
    assert_right(&model, &files);
    let staged = models.directory("main").join(".cache/outrigger/staged");
    assert_eq!(fs::read_dir(staged).expect("the folder").count(), 0);
}

#[tokio::test]
async fn a_model_that_changes_after_it_was_found_is_noticed() {
    let (test_hub, models) = (hub(), Models::new());
    let hub = client(&test_hub);
    let model = models.pull(&hub, "acme/tiny").await.expect("pulled");
    model.check_unchanged().expect("unchanged");
    test_hub.move_branch("acme/tiny", "main", files(50).tree());
    models.update(&hub, "acme/tiny").await.expect("updated");
    model.check_unchanged().expect_err("replaced");
}

#[tokio::test]
async fn find_tells_complete_from_unverified_from_missing() {
    let (test_hub, models) = (hub(), Models::new());
    assert!(matches!(models.find("acme/tiny"), Presence::Missing { .. }));
    let model = models.pull(&client(&test_hub), "acme/tiny").await.expect("pulled");
    let Presence::Complete(found) = models.find("acme/tiny") else { panic!("it is here") };
    assert_eq!(found.weights, model.weights);
    assert!(matches!(found.verified, Verified::Digest { at } if at > 0));
    let content = fs::read(&model.weights[0]).expect("read");
    fs::write(&model.weights[0], content).expect("rewritten");
    let Presence::Unverified { files } = models.find("acme/tiny") else { panic!("its time is another") };
    assert_eq!(files.len(), 1);
    fs::remove_file(&model.weights[0]).expect("removed");
    assert!(matches!(models.find("acme/tiny"), Presence::Missing { .. }));
}

#[tokio::test]
async fn an_update_of_what_is_the_newest_asks_one_question() {
    let (test_hub, models) = (hub(), Models::new());
    let hub = client(&test_hub);
    models.pull(&hub, "acme/tiny").await.expect("pulled");
    test_hub.forget_requests();
    let model = models.update(&hub, "acme/tiny").await.expect("updated");
    assert_right(&model, &files(1));
    let lines: Vec<_> = test_hub.requests().iter().map(test_hub::Seen::line).collect();
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0].contains("/revision/main"), "{lines:?}");
}

#[tokio::test]
async fn a_commit_that_the_hub_no_longer_has_is_told_from_other_refusals() {
    let (test_hub, models) = (hub(), Models::new());
    let hub = client(&test_hub);
    let model = models.pull(&hub, "acme/tiny").await.expect("pulled");
    // The history was squashed: the hub knows other commits only, and the listing here is lost.
    test_hub.put(test_hub::Repo::new("acme/tiny").branch("main", files(50).tree()));
    fs::remove_dir_all(model.directory.join(".cache/huggingface/trees")).expect("removed");
    let error = models.pull(&hub, "acme/tiny:Q8_0").await.expect_err("gone");
    assert!(matches!(error, store::StoreError::CommitGone { .. }), "{}", crate::support::chain(&error));
    assert!(error.to_string().contains("--update"), "{error}");
    // What is here stays usable.
    models.pull(&hub, "acme/tiny").await.expect("it is here");
    let updated = models.update(&hub, "acme/tiny:Q8_0").await.expect("updated");
    assert_right(&updated, &files(50));
}
