//! Several writers of one object, and locks that lie.

use std::os::unix::fs::{FileExt, MetadataExt};

use super::interrupted::{child, leave};
use super::*;

#[tokio::test]
async fn two_downloads_at_once_in_one_folder_both_give_the_right_file() {
    let scene = scene(TEN_CHUNKS);
    let (one, other) = future::join(scene.download(), scene.download()).await;
    let (one, other) = (one.expect("a sound file"), other.expect("a sound file"));
    assert_ne!(one.stamp.inode, other.stamp.inode, "each wrote to a file of its own");
    scene.publish(one).expect("the part is where it was");
    scene.publish(other).expect("the part is where it was");
    assert_eq!(scene.left(), Vec::<String>::new());
}

// X1
#[tokio::test]
async fn processes_at_once_in_one_folder_all_give_the_right_file() {
    let scene = scene(TEN_CHUNKS);
    let children: Vec<_> = (0..4).map(|_| child(&scene, &scene.hub.url())).collect();
    let names: Vec<_> = children.iter().map(|child| format!("model.{}.gguf", child.id())).collect();
    for mut child in children {
        assert!(child.wait().expect("a child of ours").success());
    }
    for name in names {
        let written = std::fs::read(scene.folder.path().join(&name)).expect("what the child published");
        assert!(written == scene.bytes.bytes(0..TEN_CHUNKS), "{name}");
    }
    assert_eq!(scene.left(), Vec::<String>::new());
}

#[tokio::test]
async fn a_part_of_this_kernel_that_nobody_holds_is_gone_on_with_in_place() {
    let scene = scene(TEN_CHUNKS);
    let mut landed = Ranges::default();
    landed.insert(0..5 * CHUNK);
    let inode = leave(&scene, &landed, &Ranges::default(), boot()).metadata().expect("a file").ino();
    let staged = scene.download().await.expect("a sound file");
    assert_eq!(staged.stamp.inode, inode);
    assert_eq!(scene.ranges(), chunks(5 * CHUNK, TEN_CHUNKS));
}

#[tokio::test]
async fn a_part_of_another_machine_is_copied_so_that_its_writer_cannot_reach_ours() {
    let scene = scene(TEN_CHUNKS);
    let (mut landed, mut durable) = (Ranges::default(), Ranges::default());
    landed.insert(0..5 * CHUNK);
    durable.insert(0..3 * CHUNK);
    let theirs = leave(&scene, &landed, &durable, Some("another machine".to_owned()));
    let staged = scene.download().await.expect("a sound file");
    // The lock said that nobody writes there. It lied.
    theirs.write_all_at(&[0; 4096], 0).expect("a file that can be written");
    assert_ne!(staged.stamp.inode, theirs.metadata().expect("a file").ino());
    assert_eq!(scene.ranges(), chunks(3 * CHUNK, TEN_CHUNKS), "what was flushed is not fetched again");
    scene.publish(staged).expect("the part is where it was");
}

#[tokio::test]
async fn a_part_of_an_earlier_boot_without_flushed_bytes_is_fetched_again() {
    let scene = scene(TEN_CHUNKS);
    let mut landed = Ranges::default();
    landed.insert(0..5 * CHUNK);
    leave(&scene, &landed, &Ranges::default(), Some("before the power failed".to_owned()));
    scene.complete().await;
    assert_eq!(scene.ranges(), chunks(0, TEN_CHUNKS));
}

#[tokio::test]
async fn a_part_that_was_taken_away_is_not_published() {
    let scene = scene(TEN_CHUNKS);
    let staged = scene.download().await.expect("a sound file");
    for name in scene.left() {
        scene.parts.remove_file(&name).expect("a file");
        scene.parts.write(&name, "somebody else's").expect("a file");
    }
    let error = scene.publish(staged).expect_err("it is gone");
    assert!(matches!(error, TransferError::Lost { .. }), "{error}");
    assert!(!scene.folder.path().join("model.gguf").exists());
}

#[tokio::test]
async fn what_is_no_part_is_left_alone_and_never_written_through() {
    let scene = scene(TEN_CHUNKS);
    let id = scene.wanted.content.to_string();
    let outside = scene.folder.path().join("outside");
    std::fs::write(&outside, vec![7; 300_000]).expect("a file");
    std::os::unix::fs::symlink("../outside", scene.folder.path().join(format!("parts/{id}.1.part"))).expect("a link");
    std::os::unix::fs::symlink("inside", scene.folder.path().join(format!("parts/{id}.2.part"))).expect("a link");
    scene.parts.write("inside", vec![7; 300_000]).expect("a file");
    scene.parts.create_dir(format!("{id}.3.part")).expect("a folder");
    nix::unistd::mkfifo(&scene.folder.path().join(format!("parts/{id}.4.part")), nix::sys::stat::Mode::S_IRWXU)
        .expect("a pipe");
    for name in [1, 2, 3, 4] {
        let mut landed = Ranges::default();
        landed.insert(0..TEN_CHUNKS);
        let record =
            Record { object: id.clone(), size: TEN_CHUNKS, boot: boot(), landed: landed.clone(), durable: landed };
        record.write(&scene.parts, &format!("{id}.{name}.part.json")).expect("a record");
    }
    let staged = scene.download().await.expect("a sound file");
    scene.publish(staged).expect("the part is where it was");
    assert_eq!(scene.seen().bytes_resumed, 0);
    assert!(std::fs::read(&outside).expect("a file") == vec![7; 300_000]);
    assert!(scene.parts.read("inside").expect("a file") == vec![7; 300_000]);
}
