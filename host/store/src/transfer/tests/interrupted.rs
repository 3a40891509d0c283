//! Downloads that end before their time, and those that go on where they ended.

use std::os::unix::fs::FileExt;
use std::process::{Child, Command, Stdio};

use test_hub::{Fault, Match};

use super::*;

/// The CDN answers this many requests and then no more.
fn silent_after(requests: u32) -> Fault {
    Fault::new(Match::cdn_get("")).after(requests).stall()
}

// X1
#[tokio::test]
async fn a_dropped_download_goes_on_where_it_was() {
    let mut scene = scene(TEN_CHUNKS);
    scene.hub.fault(silent_after(4));
    scene.drop_at(4 * CHUNK).await;
    assert_eq!(scene.left().len(), 2, "a part and its record: {:?}", scene.left());
    let missing = scene.chunks_to_come();
    assert_eq!(missing.len(), 6);

    scene.hub.clear_faults();
    scene.hub.forget_requests();
    scene.progress = Progress::default();
    scene.complete().await;
    let seen = scene.seen();
    assert_eq!((seen.bytes_resumed, seen.bytes_received), (4 * CHUNK, TEN_CHUNKS - 4 * CHUNK));
    // A busy machine may hear of what was asked before the drop only now.
    let mut ranges = scene.ranges();
    ranges.dedup();
    assert_eq!(ranges, missing, "only what was missing");
}

// X1
#[tokio::test]
async fn an_error_keeps_what_had_landed() {
    let mut scene = scene(TEN_CHUNKS);
    scene.hub.fault(Fault::new(Match::cdn_get("")).after(6).status(500));
    let error = scene.download().await.expect_err("the CDN broke down");
    let TransferError::Hub { landed, .. } = error else { panic!("{}", chain(&error)) };
    assert!(landed > 0, "six chunks came");

    scene.hub.clear_faults();
    scene.hub.forget_requests();
    scene.progress = Progress::default();
    scene.complete().await;
    assert_eq!(scene.seen().bytes_resumed, landed);
    assert_eq!(scene.ranges().iter().map(|range| range.end - range.start).sum::<u64>(), TEN_CHUNKS - landed);
}

#[tokio::test]
async fn gaps_are_filled_and_nothing_else() {
    let scene = scene(TEN_CHUNKS);
    let mut landed = Ranges::default();
    for range in [0..10, CHUNK..2 * CHUNK, 5 * CHUNK + 1..7 * CHUNK - 1] {
        landed.insert(range);
    }
    leave(&scene, &landed, &landed, boot());
    scene.complete().await;
    let expected = [
        10..CHUNK,
        2 * CHUNK..3 * CHUNK,
        3 * CHUNK..4 * CHUNK,
        4 * CHUNK..5 * CHUNK,
        5 * CHUNK..5 * CHUNK + 1,
        7 * CHUNK - 1..7 * CHUNK,
        7 * CHUNK..8 * CHUNK,
        8 * CHUNK..9 * CHUNK,
        9 * CHUNK..TEN_CHUNKS,
    ];
    assert_eq!(scene.ranges(), expected);
}

#[tokio::test]
async fn a_complete_part_needs_no_request() {
    let scene = scene(TEN_CHUNKS);
    let staged = scene.download().await.expect("a sound file");
    drop(staged);
    scene.hub.forget_requests();
    scene.complete().await;
    assert_eq!(scene.hub.requests().len(), 0);
}

#[tokio::test]
async fn a_part_with_wrong_bytes_costs_a_second_download_and_no_wrong_file() {
    let scene = scene(TEN_CHUNKS);
    let mut landed = Ranges::default();
    landed.insert(0..3 * CHUNK);
    let part = leave(&scene, &landed, &landed, boot());
    part.write_all_at(b"not the hub's", CHUNK).expect("a part that can be written");
    drop(part);
    scene.complete().await;
    assert_eq!(scene.seen().verify_failures, 1);
}

#[tokio::test]
async fn a_record_that_cannot_be_believed_is_not() {
    let whole = format!("[[0,{TEN_CHUNKS}]]");
    let size = TEN_CHUNKS.to_string();
    for (size, object, landed) in [
        ("163764", None, whole.as_str()),
        (&size, Some("another"), &whole),
        (&size, None, "[[0,163764]]"),
        (&size, None, "[[5,1]]"),
        (&size, None, "[[-5,1]]"),
        (&size, None, "7"),
        (&size, None, "[[0,18446744073709551616]]"),
    ] {
        let scene = scene(TEN_CHUNKS);
        let id = scene.wanted.content.to_string();
        let (object, boot) = (object.unwrap_or(&id), boot().expect("a boot id"));
        scene.parts.write(format!("{id}.0.part"), vec![0; 200_000]).expect("a part");
        let record =
            format!(r#"{{"object":"{object}","size":{size},"boot":"{boot}","landed":{landed},"durable":{landed}}}"#);
        scene.parts.write(format!("{id}.0.part.json"), &record).expect("a record");
        scene.complete().await;
        assert_eq!(scene.seen().bytes_resumed, 0, "{record}");
        assert_eq!(scene.seen().verify_failures, 0, "{record}");
    }
}

// X1
#[tokio::test]
async fn a_killed_process_loses_what_landed_since_the_last_record_and_no_more() {
    let scene = scene(TEN_CHUNKS);
    scene.hub.fault(silent_after(4));
    let mut child = child(&scene, &scene.hub.url());
    // The record is written a quarter of a second after the fourth chunk at the latest.
    let recorded = || {
        scene.left().iter().any(|name| {
            name.ends_with(".part.json")
                && Record::read(&scene.parts, name).is_some_and(|record| record.landed.bytes() == 4 * CHUNK)
        })
    };
    for _ in 0..2_000 {
        if recorded() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(recorded(), "the child records what it has: {:?}\n{}", scene.left(), scene.log());
    child.kill().expect("a running child");
    child.wait().expect("a child that was killed");
    let missing = scene.chunks_to_come();
    assert_eq!(missing.len(), 6);

    scene.hub.clear_faults();
    scene.hub.forget_requests();
    scene.complete().await;
    assert_eq!(scene.seen().bytes_resumed, 4 * CHUNK);
    assert_eq!(scene.ranges(), missing, "only what was missing");
}

/// Leaves a part as an earlier download would have.
pub(super) fn leave(scene: &Scene, landed: &Ranges, durable: &Ranges, boot: Option<String>) -> std::fs::File {
    let (object, size) = (scene.wanted.content.to_string(), scene.wanted.size);
    let name = format!("{object}.00000000deadbeef.part");
    let mut options = cap_std::fs::OpenOptions::new();
    let file = scene.parts.open_with(&name, options.read(true).write(true).create_new(true)).expect("a new file");
    let file = file.into_std();
    file.set_len(size).expect("a file that grows");
    for range in landed.iter() {
        file.write_all_at(&scene.bytes.bytes(range.clone()), range.start).expect("a file that can be written");
    }
    let record = Record { object, size, boot, landed: landed.clone(), durable: durable.clone() };
    record.write(&scene.parts, &format!("{name}.json")).expect("a record");
    file
}

// ---- other processes ----

const CHILD: &str = "OUTRIGGER_TEST_TRANSFER";

/// This test binary again, as a process that runs [`a_download_in_a_process_of_its_own`].
pub(super) fn child(scene: &Scene, url: &str) -> Child {
    let Scene { wanted, folder, .. } = scene;
    let (folder, commit) = (folder.path().display(), scene.hub.commit("acme/tiny", "main"));
    let mut command = Command::new(std::env::current_exe().expect("this test"));
    let test = "transfer::tests::interrupted::a_download_in_a_process_of_its_own";
    command.args([test, "--exact", "--ignored", "--nocapture"]);
    command.env(CHILD, format!("{url} {commit} {} {} {folder}", wanted.size, wanted.content));
    command.stdout(Stdio::null()).spawn().expect("this test once more")
}

#[tokio::test]
#[ignore = "what other tests start in a process of its own"]
async fn a_download_in_a_process_of_its_own() {
    let Ok(task) = std::env::var(CHILD) else { return };
    let [url, commit, size, digest, folder] = task.split(' ').collect::<Vec<_>>().try_into().expect("five words");
    let (remote, parts) = (remote(url, commit), parts(Path::new(folder)));
    let wanted = wanted(size.parse().expect("a number"), digest);
    let staged = download(&remote, &wanted, &parts, &LIMITS, &Progress::default()).await.expect("a sound file");
    let place = Dir::open_ambient_dir(folder, ambient_authority()).expect("the folder");
    let name = format!("model.{}.gguf", std::process::id());
    staged.publish(&place, Path::new(&name)).expect("a part that is still there");
}
