//! What the disk can do to us, and what we never do to it: nothing outside the revision directory is written.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use crate::support::{
    Files, Models, assert_digest, assert_right, chain, client, files, gguf, hub, hub_with, offline, put,
};
use crate::support::{reference, snapshot};
use store::{Presence, Progress, PullOptions, Store, StoreError, Warning};
use test_hub::{Fault, Kind, Match, Repo, TestHub};

const Q4: &str = "tiny-Q4_K_M.gguf";

#[tokio::test]
async fn a_link_in_the_place_of_a_file_is_replaced_and_not_followed() {
    let (test_hub, models) = (hub(), Models::new());
    let directory = models.directory("main");
    fs::create_dir_all(&directory).expect("a folder");
    let outside = models.folder.path().join("outside");
    for before in [Some("precious"), None] {
        let _ = fs::remove_dir_all(&directory);
        fs::create_dir_all(&directory).expect("a folder");
        let _ = fs::remove_file(&outside);
        if let Some(before) = before {
            fs::write(&outside, before).expect("written");
        }
        symlink(&outside, directory.join(Q4)).expect("linked");
        symlink(&outside, directory.join("tokenizer.json")).expect("linked");
        let model = models.pull(&client(&test_hub), "acme/tiny").await.expect("pulled");
        assert_right(&model, &files(1));
        assert!(fs::symlink_metadata(directory.join(Q4)).expect("a file").is_file());
        assert_eq!(fs::read_to_string(&outside).ok().as_deref(), before);
    }
}

#[tokio::test]
async fn no_folder_that_is_a_link_is_written_into() {
    let nested = Files::default().with("sub/tiny-Q4_K_M.gguf", Kind::Lfs, gguf(1, 90_000));
    let test_hub = hub_with(&nested);
    for linked in ["acme", "acme/tiny", "acme/tiny/main", "acme/tiny/main/sub", "acme/tiny/main/.cache"] {
        let models = Models::new();
        let outside = models.folder.path().join("outside");
        fs::create_dir(&outside).expect("a folder");
        let link = models.store.models_dir().join(linked);
        fs::create_dir_all(link.parent().expect("a parent")).expect("folders");
        symlink(&outside, &link).expect("linked");
        let error = models.pull(&client(&test_hub), "acme/tiny").await.expect_err(linked);
        assert!(matches!(&error, StoreError::Link { path } if *path == link), "{linked}: {}", chain(&error));
        assert_eq!(fs::read_dir(&outside).expect("the folder").count(), 0, "{linked}");
    }
}

#[tokio::test]
async fn what_is_no_file_is_left_alone_and_named_before_anything_is_fetched() {
    type Make = fn(&Path);

    let test_hub = hub();
    let kinds: [(&str, Make); 2] = [
        ("a directory", |path| fs::create_dir(path).expect("a folder")),
        ("a named pipe", |path| {
            nix::unistd::mkfifo(path, nix::sys::stat::Mode::S_IRWXU).expect("a pipe");
        }),
    ];
    for (kind, make) in kinds {
        for name in [Q4, "tokenizer.json"] {
            let models = Models::new();
            let directory = models.directory("main");
            fs::create_dir_all(&directory).expect("a folder");
            make(&directory.join(name));
            test_hub.forget_requests();
            let error = models.pull(&client(&test_hub), "acme/tiny").await.expect_err(kind);
            assert!(matches!(&error, StoreError::NoFile { found, .. } if *found == kind), "{}", chain(&error));
            assert_eq!(test_hub.file_requests().len(), 0);
        }
    }
    // A file where the repository has a folder.
    let nested = Files::default().with("sub/tiny-Q4_K_M.gguf", Kind::Lfs, gguf(1, 90_000));
    let (test_hub, models) = (hub_with(&nested), Models::new());
    fs::create_dir_all(models.directory("main")).expect("a folder");
    fs::write(models.directory("main").join("sub"), "mine").expect("written");
    let error = models.pull(&client(&test_hub), "acme/tiny").await.expect_err("no folder");
    assert!(matches!(&error, StoreError::NoDirectory { found: "a file", .. }), "{}", chain(&error));
    assert_eq!(test_hub.file_requests().len(), 0);
}

#[tokio::test]
async fn a_record_that_is_a_pipe_holds_nobody_up() {
    let (test_hub, models) = (hub(), Models::new());
    let directory = models.directory("main");
    put(&directory, &files(1), &[Q4]);
    let notes = directory.join(".cache/huggingface/download");
    fs::create_dir_all(&notes).expect("a folder");
    let mode = nix::sys::stat::Mode::S_IRWXU;
    nix::unistd::mkfifo(&notes.join(format!("{Q4}.metadata")), mode).expect("a pipe");
    fs::create_dir_all(directory.join(".cache/outrigger")).expect("a folder");
    nix::unistd::mkfifo(&directory.join(".cache/outrigger/manifest.json"), mode).expect("a pipe");
    let client = client(&test_hub);
    let pulled = tokio::time::timeout(Duration::from_secs(30), models.pull(&client, "acme/tiny"));
    assert_digest(&pulled.await.expect("no waiting for a writer").expect("pulled"));
}

// R9
#[tokio::test]
async fn nothing_is_ever_written_outside_whatever_a_listing_says() {
    let long = format!("{}/x.gguf", "a/".repeat(2_500));
    let names =
        ["../x.gguf", "a/../../x.gguf", "/x.gguf", "..\\x.gguf", "C:\\x.gguf", ".cache/huggingface/x", ".git/x"];
    let names = names.into_iter().chain(["nul\0.gguf", "./x.gguf", "a//x.gguf", ".CACHE/x", long.as_str()]);
    for name in names {
        let files = files(1).with(name, Kind::Lfs, gguf(7, 50_000));
        assert_refused_whole(&hub_with(&files), name).await;
    }
    let twins = files(1).with("TINY-q4_k_m.gguf", Kind::Lfs, gguf(7, 50_000));
    assert_refused_whole(&hub_with(&twins), "case twins").await;
    let both = files(1).with("tokenizer.json/x.gguf", Kind::Lfs, gguf(7, 50_000));
    assert_refused_whole(&hub_with(&both), "a file and a folder").await;
    let changes = [
        serde_json::json!({"lfs": {"oid": "../../x", "size": 300_000, "pointerSize": 130}}),
        serde_json::json!({"oid": "../../x"}),
        serde_json::json!({"size": -1}),
        serde_json::json!({"size": 9_300_000_000_000_000_000_u64}),
    ];
    for change in changes {
        let repo = Repo::new(crate::support::REPOSITORY).branch("main", files(1).tree()).listed_as(Q4, change.clone());
        assert_refused_whole(&TestHub::builder().repository(repo).start(), &change.to_string()).await;
    }
}

async fn assert_refused_whole(test_hub: &TestHub, what: &str) {
    let models = Models::new();
    fs::write(models.folder.path().join("x.gguf"), "precious").expect("written");
    // A directory that is there already, so that there is somewhere to write to.
    put(&models.directory("main"), &files(1), &["README.md"]);
    models.pull(&client(test_hub), "acme/tiny").await.expect_err(what);
    let ours = models.directory("main").join(".cache");
    let all = snapshot(models.folder.path());
    let foreign: Vec<_> = all
        .keys()
        .filter(|path| !path.starts_with(&ours) && !models.directory("main").join("README.md").starts_with(path))
        .collect();
    assert_eq!(foreign, [&models.folder.path().join("x.gguf")], "{what}");
    assert_eq!(fs::read_to_string(models.folder.path().join("x.gguf")).expect("the file"), "precious");
    assert_eq!(test_hub.file_requests().len(), 0, "{what}");
}

// R24
#[tokio::test]
async fn a_disk_that_is_too_small_is_known_before_the_first_byte() {
    let repo = Repo::new(crate::support::REPOSITORY)
        .branch("main", files(1).tree())
        .listed_as(Q4, serde_json::json!({"size": 1_u64 << 43, "lfs": {"size": 1_u64 << 43}}));
    let (test_hub, models) = (TestHub::builder().repository(repo).start(), Models::new());
    let error = models.pull(&client(&test_hub), "acme/tiny").await.expect_err("8 TiB");
    let StoreError::DiskTooSmall { directory, needed_bytes, missing_bytes, available_bytes, .. } = &error else {
        panic!("{}", chain(&error))
    };
    assert_eq!(*directory, models.directory("main"));
    assert!(*missing_bytes > 1 << 43 && needed_bytes > missing_bytes && available_bytes < needed_bytes);
    for part in [needed_bytes.to_string(), available_bytes.to_string(), "prune".to_owned(), "models_dir".to_owned()] {
        assert!(error.to_string().contains(&part), "{error}");
    }
    assert_eq!(test_hub.file_requests().len(), 0);
}

/// A file system of its own; nothing where this user may not mount one.
struct Volume(tempfile::TempDir);

impl Volume {
    fn new(size_bytes: u64) -> Option<Self> {
        let folder = tempfile::tempdir().expect("a folder");
        let options = format!("size={size_bytes},mode=755");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(folder.path()).output();
        if mounted.is_ok_and(|output| output.status.success()) {
            return Some(Self(folder));
        }
        eprintln!("SKIPPED: a tmpfs of its own needs the right to mount one; run the tests as root");
        None
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("models")
    }

    /// The same volume where nothing can be written to it, as another Pod may see it.
    fn read_only_view(&self) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let mount =
            |arguments: &[&str]| Command::new("mount").args(arguments).arg(folder.path()).status().expect("mount");
        assert!(mount(&["--bind", self.0.path().to_str().expect("UTF-8")]).success());
        assert!(mount(&["-o", "remount,bind,ro"]).success());
        Self(folder)
    }

    fn make_read_only(&self) {
        let done = Command::new("mount").args(["-o", "remount,ro"]).arg(self.0.path()).status().expect("mount");
        assert!(done.success());
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).status();
    }
}

async fn pull(store: &Store, hub: &hub::Hub, given: &str) -> Result<store::LocalModel, StoreError> {
    store.pull(hub, &reference(given), PullOptions::default(), &Arc::new(Progress::default())).await
}

#[tokio::test]
async fn a_disk_that_fills_up_on_the_way_keeps_what_has_arrived() {
    let Some(volume) = Volume::new(68 << 20) else { return };
    let store = Store::open(&volume.path()).expect("a store");
    let shards = Files::default().with("big-00001-of-00002.gguf", Kind::Lfs, gguf(1, 1 << 20)).with(
        "big-00002-of-00002.gguf",
        Kind::Lfs,
        gguf(2, 1 << 20),
    );
    let test_hub = hub_with(&shards);
    let client = client(&test_hub);
    // The second shard takes its time, and meanwhile somebody fills the disk.
    test_hub.fault(Fault::new(Match::hub_get("00002-of-00002")).delayed(Duration::from_millis(800)));
    let greedy = volume.0.path().join("greedy");
    let progress = Arc::new(Progress::default());
    let filling = async {
        tokio::time::timeout(Duration::from_secs(20), async {
            while progress.snapshot().files_done == 0 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        })
        .await
        .expect("the first shard arrives");
        let mut file = fs::File::create(&greedy).expect("a file");
        while std::io::Write::write_all(&mut file, &[1; 4096]).is_ok() {}
        // Not to the last byte: what has arrived must be written down somewhere.
        file.set_len(file.metadata().expect("facts").len() - (64 << 10)).expect("cut");
    };
    let wanted = reference("acme/tiny");
    let pulling = store.pull(&client, &wanted, PullOptions::default(), &progress);
    let (pulled, ()) = tokio::join!(pulling, filling);
    let error = pulled.expect_err("the disk is full");
    assert!(matches!(error, StoreError::DiskFull { remaining_bytes, .. } if remaining_bytes > 0), "{}", chain(&error));
    assert!(matches!(store.find(&reference("acme/tiny")).expect("an answer"), Presence::Missing { .. }));

    fs::remove_file(&greedy).expect("removed");
    test_hub.clear_faults();
    test_hub.forget_requests();
    let model = pull(&store, &client, "acme/tiny").await.expect("room again");
    assert_right(&model, &shards);
    let again: Vec<_> = test_hub.weight_requests().into_iter().filter_map(|seen| seen.file).collect();
    assert!(again.iter().all(|file| !file.contains("00001")), "the first shard was there: {again:?}");
}

#[tokio::test]
async fn a_read_only_disk_serves_what_is_on_it_and_names_what_is_not() {
    let Some(volume) = Volume::new(100 << 20) else { return };
    let store = Store::open(&volume.path()).expect("a store");
    let (test_hub, commit) = {
        let test_hub = hub();
        let commit = test_hub.commit("acme/tiny", "main");
        (test_hub, commit)
    };
    pull(&store, &client(&test_hub), "acme/tiny").await.expect("pulled");
    let baked = store.models_dir().join("acme/tiny/baked");
    put(&baked, &files(1), &[Q4]);
    crate::support::note(&baked, &files(1), &commit, &[Q4]);
    let by_hand = store.models_dir().join("acme/tiny").join(&commit);
    put(&by_hand, &files(1), &[Q4]);
    volume.make_read_only();
    let store = Store::open(&volume.path()).expect("a store");
    test_hub.forget_requests();

    let model = pull(&store, &offline(&test_hub), "acme/tiny").await.expect("complete");
    assert_digest(&model);
    assert!(model.lease.is_visible(), "the file that is locked was there");
    for given in ["acme/tiny@baked".to_owned(), format!("acme/tiny@{commit}")] {
        let model = pull(&store, &client(&test_hub), &given).await.expect("verified");
        assert_digest(&model);
        assert!(model.warnings.iter().any(|it| matches!(it, Warning::Unrecorded { .. })), "{:?}", model.warnings);
        assert!(!model.lease.is_visible());
    }
    assert_eq!(test_hub.file_requests().len(), 0);
    for given in ["acme/tiny:Q8_0", "acme/tiny@v1"] {
        let repo = Repo::new(crate::support::REPOSITORY).branch("main", files(1).tree()).branch("v1", files(1).tree());
        let test_hub = TestHub::builder().repository(repo).start();
        let error = pull(&store, &client(&test_hub), given).await.expect_err("nowhere to write to");
        assert!(matches!(error, StoreError::ReadOnly { .. }), "{given}: {}", chain(&error));
    }
}

/// One Pod downloads, and others serve what it put there and cannot write.
#[tokio::test]
async fn what_is_in_use_on_a_read_only_mount_is_not_removed_from_elsewhere() {
    let Some(volume) = Volume::new(100 << 20) else { return };
    let store = Store::open(&volume.path()).expect("a store");
    let test_hub = hub();
    drop(pull(&store, &client(&test_hub), "acme/tiny").await.expect("pulled"));
    let view = volume.read_only_view();
    let model = pull(&Store::open(&view.path()).expect("a store"), &offline(&test_hub), "acme/tiny").await;
    let model = model.expect("complete");
    assert_eq!(store.prune(0).expect("pruned").removed, []);
    let error = store.remove(&reference("acme/tiny"), false).expect_err("it is in use");
    assert!(matches!(error, StoreError::InUse { .. }), "{}", chain(&error));
    drop(model);
    store.remove(&reference("acme/tiny"), false).expect("nobody uses it");
}

#[test]
fn a_directory_of_somebody_else_is_named_with_who_we_are() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("SKIPPED: becoming another user needs root");
        return;
    }
    let (test_hub, models) = (hub(), Models::new());
    fs::set_permissions(models.folder.path(), fs::Permissions::from_mode(0o755)).expect("readable");
    let mut child = crate::support::child(&test_hub.url(), models.store.models_dir(), "acme/tiny");
    std::os::unix::process::CommandExt::uid(&mut child, 65_534);
    let output = child.output().expect("a child");
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success(), "{said}");
    assert!(said.contains("permission denied to user 65534"), "{said}");
}

#[test]
fn a_models_directory_that_cannot_be_one_is_named_with_its_key() {
    let folder = tempfile::tempdir().expect("a folder");
    let (file, link) = (folder.path().join("file"), folder.path().join("link"));
    fs::write(&file, "no folder").expect("written");
    symlink("nowhere", &link).expect("linked");
    for wrong in [&file, &link, &file.join("models"), Path::new("/proc/models")] {
        let told = chain(&Store::open(wrong).expect_err("no folder"));
        let expected = format!("cannot create the models directory {}; set models_dir to a directory", wrong.display());
        assert!(told.starts_with(&expected), "{told}");
    }
    let told = chain(&Store::open_existing(&file).expect_err("no folder"));
    assert!(told.contains("set models_dir to a directory"), "{told}");
    assert!(Store::open_existing(&link).expect("an answer").is_none());
}
