//! Seeing what is there, checking it, and taking it away.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

use crate::support::{Models, assert_right, client, files, hub, offline, put, reference};
use store::{FileState, Outcome, Progress, RemovedWhat, StoreError, Verified};
use test_hub::{Repo, TestHub};

const Q4: &str = "tiny-Q4_K_M.gguf";

/// A hub with a second repository.
fn two() -> TestHub {
    let other = Repo::new("acme/other").branch("main", files(7).tree());
    TestHub::builder()
        .repository(Repo::new(crate::support::REPOSITORY).branch("main", files(1).tree()))
        .repository(other)
        .start()
}

/// Changes one bit, as a disk that rots: nothing tells of it.
fn rot(file: &Path) {
    let modified = fs::metadata(file).expect("facts").modified().expect("a time");
    let mut content = fs::read(file).expect("the file");
    content[60_000] ^= 4;
    fs::write(file, content).expect("written");
    fs::File::options().write(true).open(file).expect("the file").set_modified(modified).expect("set back");
}

/// No folder of an owner, and no trash in the trash.
fn assert_nothing_left(models: &Models) {
    let names = |folder: &Path| -> Vec<_> {
        fs::read_dir(folder).expect("the folder").map(|it| it.expect("an entry").file_name()).collect()
    };
    assert_eq!(names(models.store.models_dir()), [".trash"]);
    assert!(names(&models.store.models_dir().join(".trash")).is_empty());
}

#[tokio::test]
async fn a_list_says_what_is_there_and_counts_a_shared_file_once() {
    let (test_hub, models) = (two(), Models::new());
    let hub = client(&test_hub);
    let commit = test_hub.commit("acme/tiny", "main");
    drop(models.pull(&hub, "acme/tiny").await.expect("pulled"));
    let held = models.pull(&hub, &format!("acme/tiny@{commit}")).await.expect("pulled");
    put(&models.store.models_dir().join("acme/other/main"), &files(7), &[Q4]);
    // What is no model is not listed.
    fs::create_dir_all(models.store.models_dir().join("notes/of/mine")).expect("a folder");
    fs::create_dir_all(models.store.models_dir().join("..data/x")).expect("a folder");
    // `latest` means `main`, so no reference means the directory of that name.
    fs::create_dir_all(models.directory("latest")).expect("a folder");

    let listed = models.store.list().expect("a list");
    let names: Vec<_> = listed.iter().map(|it| format!("{}@{}", it.repository, it.revision)).collect();
    assert_eq!(names, ["acme/other@main".to_owned(), format!("acme/tiny@{commit}"), "acme/tiny@main".to_owned()]);
    let [other, pinned, main] = listed.as_slice() else { panic!("{listed:?}") };
    assert_eq!((other.size_bytes, other.verified_at, other.commit.as_ref()), (300_000, None, None));
    assert_eq!(other.files[0].state, FileState::Unverified);
    assert!(pinned.is_in_use && !main.is_in_use);
    assert_eq!(main.commit.as_ref().expect("a commit").as_str(), commit);
    assert!(main.verified_at.is_some() && main.last_used.is_some());
    assert!(main.size_bytes > 300_000 && main.size_bytes < 310_000, "{}", main.size_bytes);
    assert_eq!(pinned.shared_bytes, 0);
    // The weights and the tokenizer, which the first of the two was counted with.
    assert_eq!(main.shared_bytes, 300_000 + files(1).content("tokenizer.json").len() as u64);
    assert!(listed.iter().all(|it| it.damage().next().is_none()));
    drop(held);
    assert!(!models.store.list().expect("a list")[1].is_in_use);
}

#[tokio::test]
async fn a_list_shows_what_changed_and_what_is_gone() {
    let (test_hub, models) = (hub(), Models::new());
    models.pull(&client(&test_hub), "acme/tiny:Q8_0").await.expect("pulled");
    let directory = models.directory("main");
    fs::write(directory.join("tiny-Q8_0-00001-of-00002.gguf"), "mine").expect("written");
    fs::remove_file(directory.join("tiny-Q8_0-00002-of-00002.gguf")).expect("removed");
    let listed = models.store.list().expect("a list");
    let damage: Vec<_> = listed[0].damage().map(|file| file.state).collect();
    assert_eq!(damage, [FileState::Changed, FileState::Missing]);
    assert_eq!(listed[0].verified_at, None);
}

#[tokio::test]
async fn verify_finds_the_bit_that_no_time_of_change_tells_of() {
    let (test_hub, models) = (hub(), Models::new());
    let hub = client(&test_hub);
    let model = models.pull(&hub, "acme/tiny:Q8_0").await.expect("pulled");
    let shard = &model.weights[1];
    rot(shard);
    assert!(models.is_complete("acme/tiny:Q8_0"));

    let progress = Progress::default();
    let verdicts = models.store.verify(None, &progress).expect("verified");
    let right = verdicts.iter().filter(|it| it.outcome == Outcome::Right).count();
    let wrong: Vec<_> = verdicts.iter().filter(|it| matches!(it.outcome, Outcome::Wrong { .. })).collect();
    assert_eq!((right, wrong.len()), (2, 1), "{verdicts:?}");
    assert_eq!(wrong[0].file, *shard);
    let Outcome::Wrong { expected, .. } = &wrong[0].outcome else { unreachable!() };
    assert_eq!(expected.to_string(), files(1).etag("tiny-Q8_0-00002-of-00002.gguf"));
    let seen = progress.snapshot();
    assert_eq!((seen.verify_failures, seen.bytes_hashed), (1, seen.bytes_to_hash));

    // From now on it is known.
    assert!(!models.is_complete("acme/tiny:Q8_0"));
    assert_eq!(models.store.list().expect("a list")[0].damage().count(), 1);
    models.pull(&offline(&test_hub), "acme/tiny:Q8_0").await.expect_err("it is damaged");
    let model = models.pull(&hub, "acme/tiny:Q8_0").await.expect("fetched again");
    assert_right(&model, &files(1));
    assert!(!model.directory.join(".cache/outrigger/rejected").exists(), "it was ours");
    let verdicts = models.store.verify(Some(&reference("acme/tiny")), &Progress::default()).expect("verified");
    assert!(verdicts.iter().all(|it| it.outcome == Outcome::Right), "{verdicts:?}");
}

/// The same file under the name of a branch and of the commit that it is.
#[tokio::test]
async fn a_damaged_file_is_not_linked_back_from_another_revision() {
    let (test_hub, models) = (hub(), Models::new());
    let hub = client(&test_hub);
    let pinned = format!("acme/tiny@{}", test_hub.commit("acme/tiny", "main"));
    drop(models.pull(&hub, &pinned).await.expect("pulled"));
    let model = models.pull(&hub, "acme/tiny").await.expect("linked");
    rot(&model.weights[0]);
    models.store.verify(Some(&reference("acme/tiny")), &Progress::default()).expect("verified");
    assert!(!models.is_complete("acme/tiny") && !models.is_complete(&pinned));
    assert_right(&models.pull(&hub, "acme/tiny").await.expect("fetched again"), &files(1));
    assert_right(&models.pull(&hub, &pinned).await.expect("linked"), &files(1));
}

#[tokio::test]
async fn verify_tells_missing_from_unknown_from_another_length() {
    let (test_hub, models) = (two(), Models::new());
    let model = models.pull(&client(&test_hub), "acme/tiny:Q8_0").await.expect("pulled");
    fs::remove_file(&model.weights[0]).expect("removed");
    fs::write(&model.weights[1], "mine").expect("written");
    put(&models.store.models_dir().join("acme/other/main"), &files(7), &[Q4]);
    let verdicts = models.store.verify(None, &Progress::default()).expect("verified");
    let outcomes: Vec<_> = verdicts.into_iter().map(|it| it.outcome).collect();
    let short = Outcome::WrongSize { expected: 100_000, found: 4 };
    assert_eq!(outcomes, [Outcome::Unknown, Outcome::Missing, short, Outcome::Right]);
    let error = models.store.verify(Some(&reference("acme/none")), &Progress::default()).expect_err("not here");
    assert!(matches!(error, StoreError::NotHere { .. }));
}

#[tokio::test]
async fn what_is_in_use_is_removed_by_force_only() {
    let (test_hub, models) = (hub(), Models::new());
    let model = models.pull(&client(&test_hub), "acme/tiny").await.expect("pulled");
    let wanted = reference("acme/tiny");
    assert!(matches!(models.store.remove(&wanted, false), Err(StoreError::InUse { .. })));
    assert!(model.weights[0].exists());
    let removed = models.store.remove(&wanted, true).expect("removed");
    assert_eq!(removed.what, RemovedWhat::Directory);
    assert!(removed.freed_bytes >= 300_000);
    assert_nothing_left(&models);
    assert!(matches!(models.store.remove(&wanted, true), Err(StoreError::NotHere { .. })));
    drop(model);
    models.pull(&client(&test_hub), "acme/tiny").await.expect("pulled anew");
}

#[tokio::test]
async fn one_quantisation_goes_and_the_other_stays() {
    let (test_hub, models) = (hub(), Models::new());
    let hub = client(&test_hub);
    drop(models.pull(&hub, "acme/tiny:Q8_0").await.expect("pulled"));
    drop(models.pull(&hub, "acme/tiny").await.expect("pulled"));
    let removed = models.store.remove(&reference("acme/tiny:Q8_0"), false).expect("removed");
    assert!(matches!(&removed.what, RemovedWhat::Files(files) if files.len() == 2), "{removed:?}");
    assert_eq!(removed.freed_bytes, 300_000);
    assert!(models.is_complete("acme/tiny") && !models.is_complete("acme/tiny:Q8_0"));
    let notes = models.directory("main").join(".cache/huggingface/download");
    assert!(!notes.join("tiny-Q8_0-00001-of-00002.gguf.metadata").exists());
    assert_eq!(models.store.list().expect("a list")[0].damage().count(), 0);
    // The last one takes the directory with it.
    models.store.remove(&reference("acme/tiny:Q4_K_M"), false).expect("removed");
    assert!(!models.directory("main").exists());
}

#[tokio::test]
async fn prune_takes_what_was_not_used_for_longest_and_never_what_is_in_use() {
    let (test_hub, models) = (two(), Models::new());
    let hub = client(&test_hub);
    let commit = test_hub.commit("acme/tiny", "main");
    let pinned = format!("acme/tiny:Q8_0@{commit}");
    for given in ["acme/tiny", "acme/other", &pinned] {
        drop(models.pull(&hub, given).await.expect("pulled"));
    }
    let used = |directory: &str, ago: Duration| {
        let stamp = models.store.models_dir().join(directory).join(".cache/outrigger/in-use");
        let file = fs::File::options().write(true).open(stamp).expect("the stamp");
        file.set_modified(SystemTime::now() - ago).expect("set");
    };
    let hours = |hours: u64| Duration::from_hours(hours);
    used("acme/tiny/main", hours(2));
    used("acme/other/main", hours(9));
    used(&format!("acme/tiny/{commit}"), hours(5));
    assert_eq!(models.store.prune(u64::MAX).expect("pruned").removed, []);

    let removed = models.store.prune(700_000).expect("pruned").removed;
    let directories: Vec<_> = removed.iter().map(|it| it.directory.clone()).collect();
    assert_eq!(directories, [models.store.models_dir().join("acme/other/main")]);
    assert!(!models.store.models_dir().join("acme/other").exists());

    // Used again, it is no longer the one that goes.
    drop(models.pull(&hub, &pinned).await.expect("it is here"));
    let held = models.find(&pinned);
    let removed = models.store.prune(0).expect("pruned").removed;
    assert_eq!(removed.len(), 1);
    assert_eq!(removed[0].directory, models.directory("main"));
    drop(held);
    assert_eq!(models.store.prune(0).expect("pruned").removed.len(), 1);
    assert_nothing_left(&models);
}

/// One directory that belongs to somebody else, and something in the trash that did not go either.
#[tokio::test]
async fn prune_goes_on_behind_what_it_may_not_remove() {
    let (test_hub, models) = (two(), Models::new());
    for given in ["acme/other", "acme/tiny"] {
        drop(models.pull(&client(&test_hub), given).await.expect("pulled"));
    }
    let trash = models.store.models_dir().join(".trash");
    for doomed in ["0", "1", "2"] {
        fs::create_dir_all(trash.join(doomed)).expect("a folder");
        fs::write(trash.join(doomed).join("model.gguf"), "old").expect("written");
    }
    let theirs = [trash.join("1"), models.store.models_dir().join("acme/other")];
    let mode = |folder: &Path, mode| fs::set_permissions(folder, fs::Permissions::from_mode(mode)).expect("set");
    mode(models.folder.path(), 0o755);
    let chmod = std::process::Command::new("chmod").args(["-R", "a+rwX"]).arg(models.store.models_dir()).status();
    assert!(chmod.expect("chmod runs").success());
    for folder in &theirs {
        mode(folder, 0o555);
    }

    // No rights bind root: somebody else, as far as files and this thread are concerned.
    let ourselves = nix::unistd::geteuid();
    nix::unistd::setfsuid(if ourselves.is_root() { nix::unistd::Uid::from_raw(65_534) } else { ourselves });
    let pruned = models.store.prune(0);
    nix::unistd::setfsuid(ourselves);

    for folder in &theirs {
        mode(folder, 0o755);
    }
    let pruned = pruned.expect("pruned");
    let removed: Vec<_> = pruned.removed.iter().map(|it| it.directory.clone()).collect();
    assert_eq!(removed, [models.directory("main")]);
    let told: Vec<_> = pruned.failures.iter().map(ToString::to_string).collect();
    assert_eq!(told.len(), 2, "{told:?}");
    for (told, path) in told.iter().zip([&theirs[0], &theirs[1].join("main")]) {
        assert!(told.contains(&format!(" {}: permission denied", path.display())), "{told}");
    }
    assert!(models.is_complete("acme/other") && !trash.join("0").exists() && !trash.join("2").exists());
}

// R15: what was put there for a first use that is yet to come.
#[tokio::test]
async fn prune_does_not_begin_with_what_was_put_there_just_now() {
    let (test_hub, models) = (two(), Models::new());
    drop(models.pull(&client(&test_hub), "acme/tiny").await.expect("pulled"));
    let stamp = fs::File::options().write(true).open(models.directory("main").join(".cache/outrigger/in-use"));
    stamp.expect("the stamp").set_modified(SystemTime::now() - Duration::from_hours(1)).expect("set");
    put(&models.store.models_dir().join("acme/other/main"), &files(7), &[Q4]);
    let removed = models.store.prune(400_000).expect("pruned").removed;
    assert_eq!(removed.iter().map(|it| &it.directory).collect::<Vec<_>>(), [&models.directory("main")]);
}

#[tokio::test]
async fn a_record_of_a_time_that_no_clock_shows_is_no_panic() {
    let (test_hub, models) = (two(), Models::new());
    drop(models.pull(&client(&test_hub), "acme/other").await.expect("pulled"));
    let model = models.pull(&client(&test_hub), "acme/tiny").await.expect("pulled");
    let (directory, Verified::Digest { at }) = (model.directory.clone(), model.verified) else { panic!("{model:?}") };
    drop(model);
    let manifest = directory.join(".cache/outrigger/manifest.json");
    let text = fs::read_to_string(&manifest).expect("the record");
    fs::write(&manifest, text.replace(&format!("\"verified_at\": {at}"), &format!("\"verified_at\": {}", u64::MAX)))
        .expect("written");
    fs::remove_file(directory.join(".cache/outrigger/in-use")).expect("removed");
    assert_eq!(models.store.prune(0).expect("pruned").removed.len(), 2);
}

#[tokio::test]
async fn what_a_killed_removal_left_in_the_trash_is_swept() {
    let (test_hub, models) = (hub(), Models::new());
    drop(models.pull(&client(&test_hub), "acme/tiny").await.expect("pulled"));
    let trash = models.store.models_dir().join(".trash");
    fs::create_dir_all(trash.join("0123/sub")).expect("a folder");
    fs::write(trash.join("0123/sub/model.gguf"), "old").expect("written");
    assert_eq!(models.store.list().expect("a list").len(), 1);
    assert_eq!(models.store.prune(u64::MAX).expect("pruned").removed, []);
    assert_eq!(fs::read_dir(trash).expect("the trash").count(), 0);
    assert!(models.is_complete("acme/tiny"));
}
