//! Where something has to happen for a path to name another file: the folder that the file is in, and every folder with a link on
//! the way to it. A deployment swaps a link to a whole release, and Kubernetes one in the folder that it mounts.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::path::{Component, Path, PathBuf};

/// Links that are followed on one way, as many as Linux follows.
const LINKS_MAX: usize = 40;

/// A step of a way, as the file system takes it.
enum Part {
    Root,
    Parent,
    Name(OsString),
}

/// The folders. Where the way ends before the file, the last one is where it would go on.
pub(super) fn folders_on_the_way(file: &Path) -> BTreeSet<PathBuf> {
    let mut folders = BTreeSet::new();
    let mut place = PathBuf::from(".");
    let mut left = parts(file);
    let mut links = 0;
    while let Some(part) = left.pop() {
        let name = match part {
            Part::Root => {
                place = PathBuf::from("/");
                continue;
            }
            Part::Parent => {
                place.push("..");
                continue;
            }
            Part::Name(name) => name,
        };
        let next = place.join(name);
        match fs::read_link(&next) {
            Ok(target) if links < LINKS_MAX => {
                links += 1;
                folders.insert(place.clone());
                left.extend(parts(&target));
            }
            _ if left.is_empty() || !next.is_dir() => {
                folders.insert(place);
                break;
            }
            _ => place = next,
        }
    }
    folders
}

/// The steps, the last one first.
fn parts(path: &Path) -> Vec<Part> {
    let part = |component| match component {
        Component::RootDir => Some(Part::Root),
        Component::ParentDir => Some(Part::Parent),
        Component::Normal(name) => Some(Part::Name(name.to_owned())),
        Component::CurDir | Component::Prefix(_) => None,
    };
    path.components().rev().filter_map(part).collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn every_folder_with_a_link_counts() {
        let folder = tempfile::tempdir().expect("a folder");
        let root = folder.path().canonicalize().expect("it is there");
        let at = |path: &str| root.join(path);
        let check = |path: &str, expected: &[&str]| {
            let expected: BTreeSet<PathBuf> = expected.iter().map(|path| at(path)).collect();
            let found = folders_on_the_way(&at(path));
            let found: BTreeSet<PathBuf> = found.iter().map(|it| it.components().collect()).collect();
            assert_eq!(found, expected, "{path}");
        };
        // As Kubernetes mounts a ConfigMap.
        fs::create_dir_all(at("mount/..2026")).expect("made");
        fs::write(at("mount/..2026/a.wasm"), "").expect("written");
        symlink("..2026", at("mount/..data")).expect("linked");
        symlink("..data/a.wasm", at("mount/a.wasm")).expect("linked");
        check("mount/a.wasm", &["mount", "mount/..2026"]);
        // A link to a release, and a file in it.
        fs::create_dir(at("etc")).expect("made");
        symlink(at("mount"), at("etc/current")).expect("linked");
        check("etc/current/..2026/a.wasm", &["etc", "mount/..2026"]);
        check("etc/current/a.wasm", &["etc", "mount", "mount/..2026"]);
        symlink("../mount/a.wasm", at("etc/b.wasm")).expect("linked");
        check("etc/b.wasm", &["etc", "etc/../mount", "etc/../mount/..2026"]);
        // What is not there yet, and what never ends.
        check("etc/none.wasm", &["etc"]);
        check("etc/none/of/it.wasm", &["etc"]);
        symlink("loop", at("etc/loop")).expect("linked");
        check("etc/loop", &["etc"]);
        assert_eq!(folders_on_the_way(Path::new("Cargo.toml")), BTreeSet::from([PathBuf::from(".")]));
    }
}
