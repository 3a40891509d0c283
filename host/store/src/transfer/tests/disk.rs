//! Disks that are full, from the start or from the middle on.

use std::path::PathBuf;
use std::process::Command;

use super::*;

/// A file system of its own, unmounted when dropped.
struct Mounted(PathBuf);

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

/// Mounts something on the folder of parts, or says loudly that it cannot be done here.
fn mount(scene: &mut Scene, arguments: &[&str]) -> Option<Mounted> {
    let place = scene.folder.path().join("parts");
    let mounted = Command::new("mount").args(arguments).arg(&place).output();
    match mounted {
        Ok(output) if output.status.success() => {
            scene.parts = parts(scene.folder.path());
            Some(Mounted(place))
        }
        other => {
            eprintln!("SKIPPED: `mount {}` is not permitted here: {other:?}", arguments.join(" "));
            None
        }
    }
}

const MIB: u64 = 1 << 20;

// R24
#[tokio::test]
async fn a_disk_that_is_too_small_is_an_error_before_any_request() {
    let mut scene = scene(3 * MIB);
    let Some(_mounted) = mount(&mut scene, &["-t", "tmpfs", "-o", "size=2m", "tmpfs"]) else { return };
    let error = scene.download().await.expect_err("3 MiB do not fit into 2");
    let TransferError::NoSpace { landed: 0, size, .. } = &error else { panic!("{}", chain(&error)) };
    assert_eq!(*size, 3 * MIB);
    assert_eq!(scene.hub.requests().len(), 0);
    assert_eq!(scene.left(), Vec::<String>::new(), "nothing takes up the room");
}

// R24
#[tokio::test]
async fn a_disk_that_fills_up_on_the_way_is_an_error_that_keeps_what_landed() {
    let mut scene = scene(3 * MIB);
    // Neither ext2 nor its driver in ext4 reserves space, so the disk is full only when it is.
    let image = scene.folder.path().join("image");
    std::fs::File::create(&image).and_then(|image| image.set_len(3 * MIB)).expect("an image");
    let made = Command::new("mkfs.ext2").args(["-q", "-m", "0", "-F"]).arg(&image).status();
    if !made.is_ok_and(|status| status.success()) {
        eprintln!("SKIPPED: there is no mkfs.ext2 here");
        return;
    }
    let image = image.to_str().expect("a path in UTF-8").to_owned();
    let Some(mounted) = mount(&mut scene, &["-o", "loop", &image]) else { return };
    let error = scene.download().await.expect_err("3 MiB do not fit");
    let TransferError::NoSpace { landed, .. } = error else { panic!("{}", chain(&error)) };
    assert!((MIB..3 * MIB).contains(&landed), "{landed}");
    assert!(error.to_string().contains(&format!("free {} bytes", 3 * MIB - landed)), "{error}");

    // With more room it goes on. The part moves there with its record, as an operator would move the folder.
    let larger = parts(&scene.folder.path().join("larger"));
    for name in scene.left().iter().filter(|name| name.contains(".part")) {
        std::io::copy(&mut scene.parts.open(name).expect("a file"), &mut larger.create(name).expect("a larger disk"))
            .expect("a larger disk");
    }
    scene.parts = larger;
    drop(mounted);
    let before = scene.seen().bytes_received;
    let staged = scene.download().await.expect("a sound file");
    scene.publish(staged).expect("the part is where it was");
    assert_eq!(scene.seen().bytes_resumed, landed);
    assert_eq!(scene.seen().bytes_received - before, 3 * MIB - landed);
}

#[tokio::test]
async fn a_folder_that_takes_no_files_is_an_error_that_says_what_was_attempted() {
    let mut scene = scene(TEN_CHUNKS);
    let Some(_mounted) = mount(&mut scene, &["-t", "tmpfs", "-o", "ro", "tmpfs"]) else { return };
    let error = scene.download().await.expect_err("it is read-only");
    let TransferError::Disk { attempted: "create", source, .. } = &error else { panic!("{}", chain(&error)) };
    assert_eq!(source.kind(), io::ErrorKind::ReadOnlyFilesystem);
}
