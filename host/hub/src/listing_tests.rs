use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

const OID: &str = "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391";
const SHA: &str = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53";

fn commit() -> Commit {
    Commit::parse(OID).expect("40 digits")
}

fn file(path: &str) -> Value {
    json!({"type": "file", "oid": OID, "size": 3, "path": path})
}

/// A file with some of its fields changed; `null` takes one out.
fn odd(changes: &Value) -> Value {
    let mut entry = file("x");
    for (key, value) in changes.as_object().expect("an object") {
        entry[key] = value.clone();
        if value.is_null() {
            entry.as_object_mut().expect("an object").remove(key);
        }
    }
    entry
}

fn listed(pages: &[Value]) -> Result<Listing, Hostile> {
    let mut draft = Draft::default();
    for page in pages {
        if let Err(error) = draft.page(page.to_string().as_bytes()) {
            return Err(draft.hostile.unwrap_or_else(|| panic!("{error}")));
        }
    }
    draft.finish(commit())
}

fn check(entries: &[Value], expected_entry: &str, expected_why: &str) {
    let all: Value = [&[file("sound")], entries].concat().into();
    let hostile = listed(&[all]).expect_err("a hostile listing");
    assert!(hostile.why.contains(expected_why), "{entries:?}: {hostile:?}");
    assert!(hostile.entry.starts_with(expected_entry), "{entries:?}: {hostile:?}");
    if let [first, second] = entries {
        // Neither the order nor a page's end in between saves it.
        assert!(listed(&[json!([second]), json!([first])]).is_err(), "{entries:?}");
    }
}

#[test]
fn a_listing_keeps_what_the_store_needs() {
    let lfs = json!({"type": "file", "oid": OID, "size": 98, "path": "sub/a b#%[1].gguf", "xetHash": SHA,
        "lfs": {"oid": SHA, "size": 98, "pointerSize": 134}, "lastCommit": null, "securityFileStatus": {"status": "safe"}});
    let folder = json!({"type": "directory", "oid": OID, "size": 0, "path": "sub"});
    let listing = listed(&[json!([folder, lfs]), json!([file("empty")])]).expect("an honest listing");
    assert_eq!(listing.commit, commit());
    let shown: Vec<_> = listing.files.iter().map(|(path, entry)| (path.as_str(), entry.clone())).collect();
    let (blob_id, sha256) = (GitSha1::parse(OID).expect("40 digits"), Sha256::parse(SHA));
    let large = Entry { size: 98, blob_id, sha256, xet_hash: Some(SHA.to_owned()) };
    let small = Entry { size: 3, blob_id, sha256: None, xet_hash: None };
    assert_eq!(shown, [("empty", small), ("sub/a b#%[1].gguf", large)]);
}

// R9
#[test]
fn a_name_that_leads_elsewhere_condemns_the_listing() {
    for name in [
        "../x",
        "a/../../x",
        "/abs",
        ".",
        "..",
        "a//b",
        "a/",
        "",
        "C:\\x",
        "..\\x",
        ".cache/huggingface/x",
        "a/.CACHE/x",
        ".git/config",
        "a\0b",
        "a\nb",
    ] {
        check(&[file(name)], &name.escape_debug().to_string(), "");
        check(&[json!({"type": "directory", "oid": OID, "path": name})], &name.escape_debug().to_string(), "");
    }
    check(&[file(&"x".repeat(5000))], "xxx", "longer than 2,048 bytes");
    check(&[file(&"x".repeat(300))], "xxx", "longer than 255 bytes");
}

#[test]
fn names_that_no_disk_holds_side_by_side_condemn_the_listing() {
    check(&[file("a"), file("a")], "a", "listed twice");
    check(&[file("A.gguf"), file("a.gguf")], "a.gguf", "differs from it in case only");
    check(&[file("É"), file("é")], "é", "differs from it in case only");
    check(&[file("a"), file("a/b")], "a/b", "`a` is a file");
    check(&[file("A"), file("a/b/c")], "a/b/c", "`A` is a file");
    // What sorts between them in plain byte order must not hide them.
    let all = json!([file("a"), file("a b"), file("a!"), file("a-b"), file("a.b"), file("a/b")]);
    assert!(listed(&[all]).expect_err("a clash").why.contains("`a` is a file"));
    let folder = json!({"type": "directory", "oid": OID, "path": "a"});
    check(&[folder, file("a")], "a", "a file and as a folder");
    let apart = json!([file("a"), file("a b"), file("a.b/c"), file("ab/c"), file("ab/d")]);
    assert_eq!(listed(&[apart]).expect("no clash").files.len(), 5);
}

#[test]
fn a_size_that_no_file_has_condemns_the_listing() {
    check(&[odd(&json!({"size": 1_u64 << 50}))], "x", "1125899906842624 bytes, and no file is larger");
    check(&[odd(&json!({"size": u64::MAX}))], "x", "no file is larger");
    for (size, shown) in [(json!(-1), "-1"), (json!(1.5), "1.5"), (json!("3"), "a text"), (json!([1]), "a list")] {
        check(&[odd(&json!({"size": size}))], "x", &format!("its size is {shown}, which is no number of bytes"));
    }
    check(&[odd(&json!({"size": {"a": [[]]}}))], "x", "an object");
    check(&[odd(&json!({"size": true}))], "x", "true");
    check(&[odd(&json!({"size": null}))], "x", "it has no size");
    let huge = format!("[{{\"type\":\"file\",\"path\":\"x\",\"oid\":\"{OID}\",\"size\":99999999999999999999999}}]");
    let mut draft = Draft::default();
    assert!(draft.page(huge.as_bytes()).is_err());
    assert!(draft.hostile.expect("hostile").why.contains("no number of bytes"));
    let lfs = json!({"lfs": {"oid": SHA, "size": 4}});
    check(&[odd(&lfs)], "x", "its size is 3 bytes, and 4 in LFS");
    check(&[odd(&json!({"lfs": {"oid": SHA, "size": -4}}))], "x", "its size is -4");
}

#[test]
fn a_digest_that_is_none_condemns_the_listing() {
    for oid in [json!(null), json!(""), json!("../../x"), json!(OID.to_uppercase()), json!(SHA)] {
        check(&[odd(&json!({"oid": oid}))], "x", "its oid is not 40 hexadecimal digits");
    }
    for oid in ["", OID, "../x"] {
        check(&[odd(&json!({"lfs": {"oid": oid, "size": 3}}))], "x", "its oid in LFS is not 64");
    }
    check(&[odd(&json!({"xetHash": "../x"}))], "x", "its xetHash is not 64");
}

#[test]
fn what_is_neither_file_nor_folder_condemns_the_listing() {
    check(&[odd(&json!({"type": "symlink"}))], "x", "of the type `symlink`");
    check(&[odd(&json!({"type": null}))], "x", "of the type ``");
}

#[test]
fn a_listing_has_no_more_entries_than_the_limit() {
    let mut draft = Draft { entries: ENTRIES_MAX - 1, ..Draft::default() };
    draft.page(json!([file("last")]).to_string().as_bytes()).expect("the last one");
    draft.page(json!([file("more")]).to_string().as_bytes()).expect_err("one too many");
    assert!(draft.hostile.expect("hostile").why.contains("more than 200000 entries"));
}

#[test]
fn json_nested_to_any_depth_costs_no_stack() {
    let deep = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    let within = |field: &str| format!("[{{\"type\":\"file\",\"path\":\"x\",{field}:{}}}]", deep(1_000_000));
    let objects = format!("[{{\"new\":{}", "{\"a\":".repeat(1_000_000));
    for page in [deep(1_000_000), within("\"new\""), within("\"size\""), within("\"lfs\""), within("\"path\""), objects]
    {
        assert!(Draft::default().page(page.as_bytes()).is_err(), "{page:.60}");
    }
}

#[test]
fn what_is_no_listing_is_an_error_and_not_a_hostile_entry() {
    for page in ["", "{}", "null", "[", "[1]", "[{\"path\":7}]", "[]x", "\"[]\"", "\u{0}"] {
        let mut draft = Draft::default();
        assert!(draft.page(page.as_bytes()).is_err(), "{page}");
        assert_eq!(draft.hostile, None, "{page}");
    }
}

proptest! {
    /// Whatever the names are: a listing that is accepted has no two that a disk could confuse, and none that leaves.
    #[test]
    fn an_accepted_listing_can_be_written_side_by_side(
        names in prop::collection::vec("[aAb.\\-]{1,2}(/[aAb. ]{1,2}){0,2}", 1..8),
    ) {
        let page: Value = names.iter().map(|name| file(name)).collect();
        if let Ok(listing) = listed(&[page]) {
            prop_assert_eq!(listing.files.len(), names.len());
            let folded: Vec<_> = listing.files.keys().map(|path| path.as_str().to_lowercase()).collect();
            for (at, one) in folded.iter().enumerate() {
                for other in &folded[at + 1..] {
                    prop_assert_ne!(one, other);
                    prop_assert!(!other.starts_with(&format!("{one}/")), "{} {}", one, other);
                    prop_assert!(!one.starts_with(&format!("{other}/")), "{} {}", one, other);
                }
            }
        }
    }

    #[test]
    fn no_bytes_make_the_parser_panic(page in prop::collection::vec(any::<u8>(), 0..256)) {
        let _ = Draft::default().page(&page);
    }
}
