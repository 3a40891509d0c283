//! What memory there is, as Linux says it: `/proc/meminfo` and the memory cgroups around this process.
//!
//! What a cgroup has left is its limit less what it holds that cannot be given back. Page cache can: a model that was just
//! downloaded and verified is cached, counts as use, and would otherwise be refused for being there already. Of the
//! cache, what some process has mapped is in use and stays counted. (Where the kernel tells less, `inactive_file` alone, as
//! kubelet reckons.)
//!
//! Limits are nested, and each is kept: all levels up to the root are asked. In a container of its own cgroup namespace
//! the path is `/` and the limit stands at the root of what is mounted.

use std::path::{Path, PathBuf};

use super::{Budget, Memory};

/// A limit beyond this is none: the first version writes nearly `i64::MAX` for it.
const UNLIMITED_BYTES: u64 = 1 << 60;

/// The free RAM and what each limit around this process leaves; empty where the system does not say.
#[must_use]
pub fn available() -> Vec<Budget> {
    available_below(Path::new("/"))
}

/// The same, for a system whose `proc` and `sys` are below `root`.
#[must_use]
pub fn available_below(root: &Path) -> Vec<Budget> {
    let read = |path: &str| std::fs::read_to_string(root.join(path)).ok();
    let ram = read("proc/meminfo").and_then(|text| available_ram_bytes(&text));
    let mut budgets: Vec<Budget> =
        ram.map(|have_bytes| Budget { memory: Memory::Ram, have_bytes }).into_iter().collect();
    let groups = read("proc/self/cgroup").unwrap_or_default();
    for (version, mount, path) in [
        (Version::Two, "sys/fs/cgroup", path_v2(&groups)),
        (Version::Two, "sys/fs/cgroup/unified", path_v2(&groups)),
        (Version::One, "sys/fs/cgroup/memory", path_v1(&groups)),
    ] {
        let levels = path.into_iter().flat_map(|path| levels(&root.join(mount), path));
        budgets.extend(levels.filter_map(|level| budget(&version, &level)));
    }
    budgets
}

/// The two interfaces of the kernel, which differ in the names of their files.
enum Version {
    One,
    Two,
}

/// The folders from the process's own group up to the root of what is mounted. The group may be outside of it, as seen
/// from a container that shares its parent's namespace: then only the root is there.
fn levels(mount: &Path, path: &str) -> Vec<PathBuf> {
    let segments: Vec<&str> = path.split('/').filter(|segment| !segment.is_empty() && *segment != "..").collect();
    (0..=segments.len()).rev().map(|depth| mount.join(segments[..depth].join("/"))).collect()
}

fn budget(version: &Version, folder: &Path) -> Option<Budget> {
    let read = |name: &str| std::fs::read_to_string(folder.join(name)).ok();
    let (limits, used): (&[&str], &str) = match version {
        Version::Two => (&["memory.max", "memory.high"], "memory.current"),
        Version::One => (&["memory.limit_in_bytes"], "memory.usage_in_bytes"),
    };
    let limit = |name: &&str| Some((limit_bytes(&read(name)?)?, folder.join(name)));
    let (limit_bytes, limit_file) = limits.iter().filter_map(limit).min()?;
    let used: u64 = read(used)?.trim().parse().ok()?;
    let held = used.saturating_sub(reclaimable_bytes(&read("memory.stat").unwrap_or_default()));
    Some(Budget { memory: Memory::Cgroup { limit_file, limit_bytes }, have_bytes: limit_bytes.saturating_sub(held) })
}

/// `MemAvailable`: what can be used without swapping.
fn available_ram_bytes(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// A limit, unless it is none.
fn limit_bytes(text: &str) -> Option<u64> {
    text.trim().parse().ok().filter(|&limit| limit < UNLIMITED_BYTES)
}

/// What of a group's memory the kernel would give back.
fn reclaimable_bytes(stat: &str) -> u64 {
    // The first version has sums over the groups below as `total_…`.
    let value = |name: &str| {
        let of =
            |name: &str| stat.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok());
        of(&format!("total_{name}")).or_else(|| of(name))
    };
    let inactive: u64 = value("inactive_file").unwrap_or(0);
    let mapped = value("file_mapped").or_else(|| value("mapped_file"));
    match (value("active_file"), mapped) {
        (Some(active), Some(mapped)) => inactive.saturating_add(active).saturating_sub(mapped).max(inactive),
        _ => inactive,
    }
}

/// The path of the process's group in the second version: the line `0::PATH`.
fn path_v2(groups: &str) -> Option<&str> {
    groups.lines().find_map(|line| line.strip_prefix("0::"))
}

/// In the first version: the line of the controller `memory`, `4:memory:PATH`, maybe among others.
fn path_v1(groups: &str) -> Option<&str> {
    groups.lines().find_map(|line| {
        let mut parts = line.splitn(3, ':').skip(1);
        parts.next()?.split(',').any(|controller| controller == "memory").then(|| parts.next())?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    /// A system that says this and nothing else.
    fn system(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().expect("a folder");
        for (path, text) in files {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
            std::fs::write(path, text).expect("a file");
        }
        root
    }

    fn check(files: &[(&str, &str)], expected: &[(&str, u64)]) {
        let root = system(files);
        let found: Vec<(String, u64)> = available_below(root.path())
            .into_iter()
            .map(|budget| {
                let name = match &budget.memory {
                    Memory::Ram => "RAM".to_owned(),
                    Memory::Cgroup { limit_file, .. } => {
                        limit_file.strip_prefix(root.path()).expect("below").display().to_string()
                    }
                    Memory::Device { name } => name.clone(),
                };
                (name, budget.have_bytes / MIB)
            })
            .collect();
        let expected: Vec<_> = expected.iter().map(|&(name, have)| (name.to_owned(), have)).collect();
        assert_eq!(found, expected);
    }

    const MEMINFO: (&str, &str) =
        ("proc/meminfo", "MemTotal:       16384 kB\nMemFree:  1 kB\nMemAvailable:    8192 kB\nBuffers: 9 kB\n");
    const FOUR_MIB: &str = "4194304\n";
    const SIX_MIB: &str = "6291456\n";
    const ONE_MIB: &str = "1048576\n";

    // R19
    #[test]
    fn free_ram_is_what_can_be_used_without_swapping() {
        check(&[MEMINFO], &[("RAM", 8)]);
        check(&[("proc/meminfo", "MemAvailable: lots\n")], &[]);
        check(&[], &[]);
    }

    #[test]
    fn a_container_of_its_own_namespace_has_its_limit_at_the_root() {
        check(
            &[
                MEMINFO,
                ("proc/self/cgroup", "0::/\n"),
                ("sys/fs/cgroup/memory.max", FOUR_MIB),
                ("sys/fs/cgroup/memory.current", ONE_MIB),
            ],
            &[("RAM", 8), ("sys/fs/cgroup/memory.max", 3)],
        );
    }

    #[test]
    fn every_level_of_a_nest_has_its_limit() {
        check(
            &[
                ("proc/self/cgroup", "0::/kubepods/pod1/app\n"),
                ("sys/fs/cgroup/kubepods/pod1/app/memory.max", "max\n"),
                ("sys/fs/cgroup/kubepods/pod1/app/memory.high", SIX_MIB),
                ("sys/fs/cgroup/kubepods/pod1/app/memory.current", ONE_MIB),
                ("sys/fs/cgroup/kubepods/pod1/memory.max", FOUR_MIB),
                ("sys/fs/cgroup/kubepods/pod1/memory.current", ONE_MIB),
                ("sys/fs/cgroup/kubepods/memory.max", "max\n"),
                ("sys/fs/cgroup/kubepods/memory.current", ONE_MIB),
            ],
            &[("sys/fs/cgroup/kubepods/pod1/app/memory.high", 5), ("sys/fs/cgroup/kubepods/pod1/memory.max", 3)],
        );
    }

    #[test]
    fn page_cache_is_room_unless_it_is_mapped() {
        let with = |stat: &'static str| {
            [
                ("proc/self/cgroup", "0::/\n"),
                ("sys/fs/cgroup/memory.max", SIX_MIB),
                ("sys/fs/cgroup/memory.current", FOUR_MIB),
                ("sys/fs/cgroup/memory.stat", stat),
            ]
        };
        check(&with("anon 1\ninactive_file 1048576\n"), &[("sys/fs/cgroup/memory.max", 3)]);
        check(&with("inactive_file 1048576\nactive_file 2097152\nfile_mapped 0\n"), &[("sys/fs/cgroup/memory.max", 5)]);
        check(
            &with("inactive_file 1048576\nactive_file 2097152\nfile_mapped 1048576\n"),
            &[("sys/fs/cgroup/memory.max", 4)],
        );
        check(&with("inactive_file 1048576\nactive_file 0\nfile_mapped 4194304\n"), &[("sys/fs/cgroup/memory.max", 3)]);
        check(&with("inactive_file_extra 1048576\n"), &[("sys/fs/cgroup/memory.max", 2)]);
        // More cache than use, as can be between two reads.
        check(&with("inactive_file 99999999\n"), &[("sys/fs/cgroup/memory.max", 6)]);
    }

    #[test]
    fn the_first_version_of_cgroups_is_read_too() {
        let groups = "9:name=systemd:/\n4:cpu,memory:/docker/abc\n0::/docker/abc\n";
        check(
            &[
                ("proc/self/cgroup", groups),
                ("sys/fs/cgroup/memory/docker/abc/memory.limit_in_bytes", SIX_MIB),
                ("sys/fs/cgroup/memory/docker/abc/memory.usage_in_bytes", FOUR_MIB),
                ("sys/fs/cgroup/memory/docker/abc/memory.stat", "inactive_file 9\ntotal_inactive_file 1048576\n"),
                ("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n"),
                ("sys/fs/cgroup/memory/memory.usage_in_bytes", "1\n"),
            ],
            &[("sys/fs/cgroup/memory/docker/abc/memory.limit_in_bytes", 3)],
        );
        // Seen from inside a container, the path of the group is its parent's.
        check(
            &[
                ("proc/self/cgroup", groups),
                ("sys/fs/cgroup/memory/memory.limit_in_bytes", SIX_MIB),
                ("sys/fs/cgroup/memory/memory.usage_in_bytes", ONE_MIB),
            ],
            &[("sys/fs/cgroup/memory/memory.limit_in_bytes", 5)],
        );
    }

    #[test]
    fn nonsense_is_no_limit() {
        for (limit, used) in [("", "1"), ("max", "1"), ("-1", "1"), ("12 apples", "1"), ("4096", "many")] {
            check(
                &[
                    ("proc/self/cgroup", "0::/\nnonsense\n:\n"),
                    ("sys/fs/cgroup/memory.max", limit),
                    ("sys/fs/cgroup/memory.current", used),
                ],
                &[],
            );
        }
        // A group beyond its limit has nothing left.
        check(
            &[
                ("proc/self/cgroup", "0::/../../x\n"),
                ("sys/fs/cgroup/memory.max", ONE_MIB),
                ("sys/fs/cgroup/memory.current", FOUR_MIB),
            ],
            &[("sys/fs/cgroup/memory.max", 0)],
        );
    }

    #[test]
    fn this_machine_says_what_it_has() {
        let budgets = available();
        assert!(budgets.iter().any(|budget| budget.memory == Memory::Ram && budget.have_bytes > MIB), "{budgets:?}");
    }
}
