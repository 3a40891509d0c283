//! Several processes on one directory, and processes that are killed: nothing but time is lost.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, Command};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::support::{Files, Models, assert_right, chain, client, files, gguf, hub, hub_with, offline, reference};
use store::{Phase, Presence, Progress, PullOptions, StoreError, Verified};
use test_hub::{Fault, Kind, Match, Origin, TestHub};

const SHARDS: [&str; 2] = ["tiny-Q8_0-00001-of-00002.gguf", "tiny-Q8_0-00002-of-00002.gguf"];

/// A model large enough to be killed on the way: four shards of a megabyte.
fn large(seed: u64) -> Files {
    let shard = |files: Files, n: u64| {
        files.with(&format!("big-Q8_0-0000{n}-of-00004.gguf"), Kind::Lfs, gguf(seed * 10 + n, 1 << 20))
    };
    (1..=4).fold(Files::default(), shard).with("tokenizer.json", Kind::Git, format!("{{\"seed\": {seed}}}"))
}

fn sent_by_cdn(test_hub: &TestHub) -> u64 {
    test_hub.requests_to(Origin::Cdn).iter().map(|seen| seen.bytes_sent).sum()
}

fn wait_for(child: Child) -> String {
    let output = child.wait_with_output().expect("a child");
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert!(said.contains("PULLED"), "{said}");
    said
}

// R31
#[test]
fn five_processes_fetch_a_model_once() {
    let (test_hub, models) = (hub(), Models::new());
    let child = || {
        crate::support::child(&test_hub.url(), models.store.models_dir(), "acme/tiny:Q8_0").spawn().expect("a child")
    };
    let children: Vec<_> = (0..5).map(|_| child()).collect();
    for child in children {
        wait_for(child);
    }
    assert_eq!(sent_by_cdn(&test_hub), 300_000);
    let Presence::Complete(model) = models.find("acme/tiny:Q8_0") else { panic!("it is here") };
    assert_right(&model, &files(1));
    let parts = models.directory("main").join(".cache/outrigger/parts");
    assert_eq!(fs::read_dir(parts).expect("the folder").count(), 0);
}

#[test]
fn five_processes_without_a_lock_all_end_with_the_right_model() {
    let (test_hub, models) = (hub(), Models::new());
    // As on a file system without locks: the lock cannot be opened.
    for name in ["lock", "in-use"] {
        fs::create_dir_all(models.directory("main").join(".cache/outrigger").join(name)).expect("a folder");
    }
    let child = || {
        crate::support::child(&test_hub.url(), models.store.models_dir(), "acme/tiny:Q8_0").spawn().expect("a child")
    };
    let children: Vec<_> = (0..5).map(|_| child()).collect();
    for child in children {
        wait_for(child);
    }
    let Presence::Complete(model) = models.find("acme/tiny:Q8_0") else { panic!("it is here") };
    assert_right(&model, &files(1));
}

#[tokio::test]
async fn whoever_waits_for_a_lock_says_so_and_fetches_nothing() {
    let (test_hub, models) = (hub(), Models::new());
    let hub = client(&test_hub);
    test_hub.fault(Fault::new(Match::cdn_get("Q4_K_M")).times(1).delayed(Duration::from_millis(500)));
    let (first, second) = (Arc::new(Progress::default()), Arc::new(Progress::default()));
    let wanted = reference("acme/tiny");
    let pull = |progress| models.store.pull(&hub, &wanted, PullOptions::default(), progress);
    let watching = async {
        while first.snapshot().phase != Phase::Downloading {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let waiting = async {
            while second.snapshot().phase != Phase::WaitingForLock {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::join!(pull(&second), waiting)
    };
    let (one, (other, ())) = tokio::join!(pull(&first), watching);
    assert_right(&one.expect("pulled"), &files(1));
    assert_right(&other.expect("found"), &files(1));
    assert_eq!(second.snapshot().bytes_received, 0);
    assert_eq!(sent_by_cdn(&test_hub), 300_000);
}

#[tokio::test]
async fn a_pull_that_is_dropped_lets_the_next_one_go_on() {
    let (test_hub, models) = (hub_with(&large(1)), Models::new());
    let hub = client(&test_hub);
    test_hub.fault(Fault::new(Match::cdn_get("00003-of-00004")).stall_after(500_000));
    let wanted = reference("acme/tiny");
    let progress = Arc::new(Progress::default());
    let pulling = models.store.pull(&hub, &wanted, PullOptions::default(), &progress);
    let far_enough = async {
        // One of them may be the small one.
        while progress.snapshot().files_done < 3 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::select! {
        pulled = pulling => panic!("it stalls: {pulled:?}"),
        () = far_enough => {}
    }
    test_hub.clear_faults();
    test_hub.forget_requests();
    let model = models.pull(&hub, "acme/tiny").await.expect("pulled");
    assert_right(&model, &large(1));
    assert!(sent_by_cdn(&test_hub) <= 2 << 20, "{} bytes again", sent_by_cdn(&test_hub));
}

/// Whatever is found at any moment is whole, verified and of one commit.
fn assert_whole_or_nothing(models: &Models, known: &[&Files]) {
    if let Presence::Complete(model) = models.find("acme/tiny") {
        let is = |files: &&&Files| {
            model.weights.iter().all(|path| {
                let name = path.file_name().and_then(|name| name.to_str()).expect("a name");
                fs::read(path).expect("a shard") == files.content(name)
            })
        };
        assert_eq!(model.weights.len(), 4);
        assert!(known.iter().any(|files| is(&files)), "a mixture of commits");
    }
}

#[tokio::test]
async fn a_pull_killed_at_any_moment_is_gone_on_with() {
    let (test_hub, models) = (hub_with(&large(1)), Models::new());
    let mut fetched = 0;
    for delay_ms in [5, 20, 40, 60, 80, 100, 130, 160, 200, 250] {
        let mut child =
            crate::support::child(&test_hub.url(), models.store.models_dir(), "acme/tiny").spawn().expect("a child");
        std::thread::sleep(Duration::from_millis(delay_ms));
        child.kill().expect("killed");
        child.wait().expect("gone");
        assert_whole_or_nothing(&models, &[&large(1)]);
        fetched = sent_by_cdn(&test_hub);
    }
    let model = models.pull(&client(&test_hub), "acme/tiny").await.expect("pulled");
    assert_right(&model, &large(1));
    eprintln!("{fetched} bytes before the last pull");
}

#[tokio::test]
async fn an_update_killed_at_any_moment_leaves_no_mixture() {
    let (test_hub, models) = (hub_with(&large(1)), Models::new());
    let hub = client(&test_hub);
    models.pull(&hub, "acme/tiny").await.expect("pulled");
    for (seed, delay_ms) in (2..).zip([10, 30, 60, 90, 120, 150, 190, 230]) {
        test_hub.move_branch("acme/tiny", "main", large(seed).tree());
        let mut command = crate::support::child(&test_hub.url(), models.store.models_dir(), "acme/tiny");
        let mut child = command.env("STORE_CHILD_UPDATES", "1").spawn().expect("a child");
        std::thread::sleep(Duration::from_millis(delay_ms));
        child.kill().expect("killed");
        child.wait().expect("gone");
        let all: Vec<_> = (1..=seed).map(large).collect();
        assert_whole_or_nothing(&models, &all.iter().collect::<Vec<_>>());
        // Whichever commit the record names, the directory can be brought to it.
        let model = models.pull(&hub, "acme/tiny").await.expect("pulled");
        let commit = model.commit.as_ref().expect("a commit").to_string();
        let right = if commit == test_hub.commit("acme/tiny", "main") { seed } else { seed - 1 };
        assert_right(&model, &large(right));
        models.update(&hub, "acme/tiny").await.expect("updated");
    }
    assert!(!models.directory("main").join(".cache/outrigger/rejected").exists());
}

/// The crash between two renames, made by a folder in the way of the second.
#[tokio::test]
async fn an_update_that_ends_between_two_renames_is_finished_without_a_network() {
    let (test_hub, models) = (hub(), Models::new());
    let hub = client(&test_hub);
    models.pull(&hub, "acme/tiny:Q8_0").await.expect("pulled");
    let directory = models.directory("main");
    test_hub.move_branch("acme/tiny", "main", files(50).tree());
    test_hub.fault(Fault::new(Match::cdn_get(SHARDS[1])).times(1).delayed(Duration::from_millis(300)));
    let progress = Arc::new(Progress::default());
    let wanted = reference("acme/tiny:Q8_0");
    let options = PullOptions { update: true, ..PullOptions::default() };
    let pulling = models.store.pull(&hub, &wanted, options, &progress);
    let aside = models.folder.path().join("aside");
    let getting_in_the_way = async {
        while progress.snapshot().files_done == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        fs::rename(directory.join(SHARDS[1]), &aside).expect("moved");
        fs::create_dir(directory.join(SHARDS[1])).expect("a folder");
    };
    let (pulled, ()) = tokio::join!(pulling, getting_in_the_way);
    let error = pulled.expect_err("a folder is in the way");
    assert!(matches!(error, StoreError::NoFile { .. }), "{}", chain(&error));
    fs::remove_dir(directory.join(SHARDS[1])).expect("removed");
    fs::rename(&aside, directory.join(SHARDS[1])).expect("moved back");
    assert!(fs::read(directory.join(SHARDS[0])).expect("a shard") == files(50).content(SHARDS[0]));
    assert!(fs::read(directory.join(SHARDS[1])).expect("a shard") == files(1).content(SHARDS[1]));

    // Both shards are whole and came from the hub, and together they are no model.
    assert!(!models.is_complete("acme/tiny:Q8_0"));
    test_hub.forget_requests();
    let model = models.pull(&offline(&test_hub), "acme/tiny:Q8_0").await.expect("all of it is here");
    assert_right(&model, &files(50));
    assert_eq!(test_hub.requests().len(), 0);
    assert!(!directory.join(".cache/outrigger/rejected").exists(), "the old shard came from the hub");
}

#[test]
fn a_model_in_use_by_another_process_is_not_removed_until_that_ends() {
    let (test_hub, models) = (hub(), Models::new());
    let mut child = holder(&test_hub, models.store.models_dir());
    let wanted = reference("acme/tiny");
    let error = models.store.remove(&wanted, false).expect_err("it is in use");
    assert!(matches!(error, StoreError::InUse { .. }), "{}", chain(&error));
    assert!(models.store.list().expect("a list")[0].is_in_use);
    assert_eq!(models.store.prune(0).expect("pruned").removed, []);
    assert!(models.is_complete("acme/tiny"));

    child.kill().expect("killed");
    child.wait().expect("gone");
    assert!(!models.store.list().expect("a list")[0].is_in_use);
    models.store.remove(&wanted, false).expect("nobody uses it");
    assert!(!models.directory("main").exists());
}

/// A process that has pulled the model and keeps it.
fn holder(test_hub: &TestHub, models_dir: &Path) -> Child {
    let mut command: Command = crate::support::child(&test_hub.url(), models_dir, "acme/tiny");
    let mut child = command.env("STORE_CHILD_HOLDS", "1").spawn().expect("a child");
    let mut lines = BufReader::new(child.stdout.as_mut().expect("its output")).lines();
    let has_it = lines.any(|line| line.expect("a line").starts_with("PULLED"));
    if !has_it {
        let mut said = String::new();
        child.stderr.as_mut().expect("its errors").read_to_string(&mut said).expect("text");
        panic!("{said}");
    }
    child
}

/// A lock that nobody gives back is waited for, and the wait can be given up.
#[tokio::test]
async fn a_wait_for_a_lock_can_be_given_up() {
    let (test_hub, models) = (hub(), Models::new());
    let hub = client(&test_hub);
    test_hub.fault(Fault::new(Match::cdn_get("Q4_K_M")).stall());
    let mut child =
        crate::support::child(&test_hub.url(), models.store.models_dir(), "acme/tiny").spawn().expect("a child");
    let since = Instant::now();
    while !models.directory("main").join(".cache/outrigger/lock").exists() {
        assert!(since.elapsed() < Duration::from_secs(30), "the child takes the lock");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    while test_hub.requests_to(Origin::Hub).iter().all(|seen| seen.file.is_none()) {
        assert!(since.elapsed() < Duration::from_secs(30), "the child downloads");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let given_up = tokio::time::timeout(Duration::from_millis(300), models.pull(&hub, "acme/tiny")).await;
    assert!(given_up.is_err(), "{given_up:?}");
    child.kill().expect("killed");
    child.wait().expect("gone");
    test_hub.clear_faults();
    // The kernel gave the lock back.
    assert_right(&models.pull(&hub, "acme/tiny").await.expect("pulled"), &files(1));
}

/// `hf` removes the file before it writes the new one, and knows nothing of our lock.
#[tokio::test]
async fn a_file_that_comes_and_goes_meanwhile_is_never_taken_half_written() {
    let (test_hub, models) = (hub(), Models::new());
    let hub = client(&test_hub);
    let file = models.directory("main").join("tiny-Q4_K_M.gguf");
    models.pull(&hub, "acme/tiny").await.expect("pulled");
    let is_over = Arc::new(AtomicBool::new(false));
    let (over, path) = (Arc::clone(&is_over), file.clone());
    let other = std::thread::spawn(move || {
        let right = files(1);
        let content = right.content("tiny-Q4_K_M.gguf");
        while !over.load(Ordering::Relaxed) {
            let _ = fs::remove_file(&path);
            let Ok(mut file) = fs::File::create(&path) else { continue };
            for piece in content.chunks(100_000) {
                let _ = file.write_all(piece);
                std::thread::sleep(Duration::from_millis(1));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    });
    for _ in 0..20 {
        match models.pull(&hub, "acme/tiny").await {
            Ok(model) => assert!(matches!(model.verified, Verified::Digest { .. }), "{model:?}"),
            Err(error) => assert!(matches!(error, StoreError::Unsteady { .. }), "{}", chain(&error)),
        }
    }
    is_over.store(true, Ordering::Relaxed);
    other.join().expect("the other writer");
    assert_right(&models.pull(&hub, "acme/tiny").await.expect("pulled"), &files(1));
}
