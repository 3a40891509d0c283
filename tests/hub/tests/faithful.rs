//! Without a fault, the hub answers as the real one does (hub.md 2.1).
#![allow(missing_docs)]

#[expect(dead_code, reason = "shared with other tests")]
mod http;

use std::time::Duration;

use http::{ask, get};
use serde_json::{Value, json};
use test_hub::{Access, Content, Kind, Mirror, MirrorEtag, Origin, Repo, TestHub, Tree};

const WEIGHTS: &[u8] = b"weights weights weights";

fn tiny() -> Repo {
    Repo::new("acme/tiny")
        .file("a-Q4_K_M.gguf", WEIGHTS, Kind::Lfs)
        .file("x/y.safetensors", "xet", Kind::Xet)
        .file("README.md", "# tiny", Kind::Git)
        .file("odd/n #[1] 100% ü.txt", "odd", Kind::Git)
        .file("empty.bin", "", Kind::Lfs)
}

fn hub() -> TestHub {
    TestHub::builder().repository(tiny()).token("hf_good").start()
}

fn api(hub: &TestHub, rest: &str) -> String {
    format!("{}/api/models/acme/tiny{rest}", hub.url())
}

fn file(hub: &TestHub, path: &str) -> String {
    format!("{}/acme/tiny/resolve/main/{path}", hub.url())
}

fn bearer(token: &str) -> String {
    format!("Bearer {token}")
}

#[test]
fn a_file_in_git_is_a_relative_307_on_the_same_origin_and_its_etag_is_gits() {
    let hub = hub();
    let first = get(&file(&hub, "README.md"));
    assert_eq!(first.status, 307);
    assert!(first.location().starts_with("/api/resolve-cache/models/acme/tiny/"), "{first:?}");
    assert_eq!(first.header("X-Repo-Commit"), Some(hub.commit("acme/tiny", "main").as_str()));
    assert_eq!(first.header("X-Linked-ETag"), None);
    assert_eq!(first.announced(), first.body.len(), "the redirect's own body, not the file's");
    let then = get(&format!("{}{}", hub.url(), first.location()));
    assert_eq!((then.status, then.body.as_slice()), (200, b"# tiny".as_slice()));
    let etag = format!("\"{}\"", Content::from("# tiny").git_sha1());
    assert_eq!(then.header("ETag"), Some(etag.as_str()));
    let again = ask("GET", &file(&hub, "README.md"), &[("If-None-Match", &etag)], b"");
    assert_eq!(again.status, 304);
}

#[test]
fn the_307_can_carry_the_linked_headers_too() {
    let hub = TestHub::builder().repository(tiny().linked_on_307()).start();
    let first = get(&file(&hub, "README.md"));
    assert_eq!((first.status, first.header("X-Linked-Size")), (307, Some("6")));
}

#[test]
fn a_large_file_is_a_302_to_another_host_signed_anew_for_each_request() {
    let hub = hub();
    let (one, two) = (get(&file(&hub, "a-Q4_K_M.gguf")), get(&file(&hub, "a-Q4_K_M.gguf")));
    assert_eq!((one.status, one.header("X-Linked-Size")), (302, Some("23")));
    let sha256 = format!("\"{}\"", Content::from(WEIGHTS).sha256());
    assert_eq!(one.header("X-Linked-ETag"), Some(sha256.as_str()));
    assert_eq!(one.header("X-Xet-Hash"), None);
    assert!(one.location().starts_with(hub.cdn_url()) && one.location() != two.location());
    let bytes = get(one.location());
    assert_eq!((bytes.status, bytes.body.as_slice()), (200, WEIGHTS));
    let etag = bytes.header("ETag").expect("a tag");
    assert!(etag.len() == sha256.len() && etag != sha256, "looks like the digest and is another: {etag}");
}

#[test]
fn a_xet_file_announces_its_hash_and_where_to_ask_about_it() {
    let hub = hub();
    let reply = get(&file(&hub, "x/y.safetensors"));
    assert_eq!((reply.status, reply.header("X-Xet-Hash").map(str::len)), (302, Some(64)));
    let link = reply.header("Link").expect("two relations");
    assert!(link.contains("rel=\"xet-auth\", <") && link.contains("rel=\"xet-reconstruction-info\""), "{link}");
}

#[test]
fn the_cdn_serves_ranges_and_refuses_those_outside_tokens_and_old_signatures() {
    let hub = hub();
    let signed = get(&file(&hub, "a-Q4_K_M.gguf")).location().to_owned();
    let part = ask("GET", &signed, &[("Range", "bytes=8-14")], b"");
    assert_eq!((part.status, part.body.as_slice()), (206, b"weights".as_slice()));
    assert_eq!(part.header("Content-Range"), Some("bytes 8-14/23"));
    let outside = ask("GET", &signed, &[("Range", "bytes=23-")], b"");
    assert_eq!((outside.status, outside.header("Content-Range")), (416, Some("bytes */23")));
    let changed = ask("GET", &signed, &[("Range", "bytes=8-14"), ("If-Range", "\"another\"")], b"");
    assert_eq!((changed.status, changed.body.len()), (200, 23), "If-Range with another tag: the whole file");
    let head = ask("HEAD", &signed, &[], b"");
    assert_eq!((head.status, head.announced(), head.body.len()), (200, 23, 0));
    assert!(hub.leaks().is_empty());
    assert_eq!(ask("GET", &signed, &[("Authorization", "Bearer hf_good")], b"").status, 400);
    assert_eq!(hub.leaks().len(), 1);
    assert_eq!(get(&signed.replace("Signature=", "Signature=0")).status, 403);
    assert_eq!(get(&signed.replace("?response", "0?response")).status, 403, "the signature of another object");
    hub.expire_signatures();
    let expired = get(&signed);
    assert!(expired.status == 403 && expired.body.ends_with(b"</Error>"), "{expired:?}");
}

#[test]
fn a_signature_expires_by_itself() {
    let hub = TestHub::builder().repository(tiny()).signature_lifetime(Duration::ZERO).start();
    let signed = get(&file(&hub, "a-Q4_K_M.gguf")).location().to_owned();
    assert_eq!(get(&signed).status, 403);
}

#[test]
fn an_empty_file_has_no_range() {
    let hub = hub();
    let signed = get(&file(&hub, "empty.bin")).location().to_owned();
    assert_eq!((get(&signed).status, ask("GET", &signed, &[("Range", "bytes=0-")], b"").status), (200, 416));
}

#[test]
fn the_description_names_the_commit_and_every_file() {
    let hub = hub();
    let plain = get(&api(&hub, "")).json();
    assert_eq!(plain["sha"], hub.commit("acme/tiny", "main"));
    assert_eq!((&plain["private"], &plain["gated"]), (&json!(false), &json!(false)));
    assert_eq!(plain["siblings"].as_array().map(Vec::len), Some(5));
    assert_eq!(plain["siblings"][1], json!({"rfilename": "a-Q4_K_M.gguf"}));
    let blobs = get(&api(&hub, "/revision/main?blobs=true")).json();
    let lfs = &blobs["siblings"][1]["lfs"];
    assert_eq!(lfs["sha256"], Content::from(WEIGHTS).sha256());
    assert!(lfs["pointerSize"].as_u64() > Some(100), "{lfs}");
    let chosen = get(&api(&hub, "?expand=sha&expand=gated")).json();
    let mut keys: Vec<_> = chosen.as_object().expect("an object").keys().collect();
    keys.sort();
    assert_eq!(keys, ["_id", "gated", "id", "sha"]);
}

fn paths(entries: &Value) -> Vec<&str> {
    entries.as_array().expect("a list").iter().filter_map(|entry| entry["path"].as_str()).collect()
}

#[test]
fn the_listing_has_digests_and_directories_and_can_be_asked_level_by_level() {
    let hub = hub();
    let all = get(&api(&hub, "/tree/main?recursive=true")).json();
    let expected = ["README.md", "a-Q4_K_M.gguf", "empty.bin", "odd", "odd/n #[1] 100% ü.txt", "x", "x/y.safetensors"];
    assert_eq!(paths(&all), expected);
    assert_eq!(all[0]["oid"], Content::from("# tiny").git_sha1());
    assert_eq!(all[1]["lfs"]["oid"], Content::from(WEIGHTS).sha256());
    assert_eq!(all[1]["oid"], "b6e67b716460493cff9cc64ea48a3661bd1463b0", "git hash-object of the pointer");
    assert_eq!((&all[3]["type"], &all[6]["xetHash"].as_str().map(str::len)), (&json!("directory"), &Some(64)));
    assert_eq!(
        paths(&get(&api(&hub, "/tree/main")).json()),
        expected.map(|path| path.split('/').next().unwrap())[..4].iter().copied().chain(["x"]).collect::<Vec<_>>()
    );
    assert_eq!(paths(&get(&api(&hub, "/tree/main/x")).json()), ["x/y.safetensors"]);
    assert_eq!(paths(&get(&api(&hub, "/tree/main/?recursive=true")).json()), expected, "with a slash at the end");
    assert_eq!(get(&api(&hub, "/tree/main/nowhere")).status, 404);
}

#[test]
fn a_listing_comes_in_pages_that_hold_everything_once() {
    let hub = TestHub::builder().repository(tiny()).page_size(2).start();
    let (mut next, mut seen) = (Some(api(&hub, "/tree/main?recursive=true&expand=false")), Vec::new());
    while let Some(url) = next {
        let page = get(&url);
        assert!(page.json().as_array().is_some_and(|entries| entries.len() <= 2));
        assert!(page.header("Link").is_none_or(|link| link.matches("cursor=").count() == 1));
        seen.extend(paths(&page.json()).into_iter().map(str::to_owned));
        let link = page.header("Link").map(|link| link.split(['<', '>']).nth(1).expect("<url>").to_owned());
        next = link.inspect(|link| assert!(link.contains("recursive=true") && link.contains("expand=false")));
    }
    assert_eq!(seen.len(), 7);
    assert_eq!(hub.requests().len(), 4);
    assert_eq!(get(&api(&hub, "/tree/main?cursor=forged")).status, 400);
}

#[test]
fn paths_info_reads_forms_and_json() {
    let hub = hub();
    let json = ask(
        "POST",
        &api(&hub, "/paths-info/main"),
        &[("Content-Type", "application/json")],
        br#"{"paths":["README.md","nowhere"],"expand":true}"#,
    );
    assert_eq!(paths(&json.json()), ["README.md"]);
    let form = ask(
        "POST",
        &api(&hub, "/paths-info/main"),
        &[("Content-Type", "application/x-www-form-urlencoded")],
        b"paths=x%2Fy.safetensors&paths=odd&expand=True",
    );
    assert_eq!(paths(&form.json()), ["odd", "x/y.safetensors"]);
}

#[test]
fn revisions_are_branches_pull_requests_and_commits_that_stay() {
    let hub = TestHub::builder().repository(tiny().branch("refs/pr/1", Tree::new().file("p", "1", Kind::Git))).start();
    let before = hub.commit("acme/tiny", "main");
    let pull_request = get(&api(&hub, "/revision/refs%2Fpr%2F1")).json();
    assert_eq!(pull_request["siblings"], json!([{"rfilename": "p"}]));
    let after = hub.move_branch("acme/tiny", "main", Tree::new().file("README.md", "# moved", Kind::Git));
    assert_ne!(before, after);
    assert_eq!(get(&api(&hub, "/revision/main")).json()["sha"], after);
    assert_eq!(get(&api(&hub, "/revision/HEAD")).json()["sha"], after, "what the JavaScript client asks for");
    assert_eq!(paths(&get(&api(&hub, &format!("/tree/{before}"))).json()).len(), 5, "the old commit is still there");
    let refs = get(&api(&hub, "/refs")).json();
    assert_eq!(refs["branches"][0], json!({"name": "main", "ref": "refs/heads/main", "targetCommit": after}));
    assert_eq!(refs["pullRequests"][0]["ref"], "refs/pr/1");
}

#[test]
fn a_former_id_is_a_relative_307_to_the_present_one() {
    let hub = TestHub::builder().repository(tiny().formerly("old/name").formerly("tiny")).start();
    for (asked, location) in [
        ("/api/models/old/name", "/api/models/acme/tiny"),
        ("/api/models/tiny/tree/main?recursive=true", "/api/models/acme/tiny/tree/main?recursive=true"),
        ("/old/name/resolve/main/odd/n%20x", "/acme/tiny/resolve/main/odd/n%20x"),
    ] {
        let reply = get(&format!("{}{asked}", hub.url()));
        assert_eq!((reply.status, reply.location()), (307, location));
        assert_eq!(reply.header("X-Repo-Commit"), None);
    }
}

#[test]
fn odd_names_are_found_by_their_encoded_form() {
    let hub = hub();
    let first = get(&file(&hub, "odd/n%20%23%5B1%5D%20100%25%20%C3%BC.txt"));
    assert_eq!(get(&format!("{}{}", hub.url(), first.location())).body, b"odd");
}

#[test]
fn every_answer_of_the_hub_has_a_quota_and_a_number() {
    let hub = hub();
    let limits = [api(&hub, ""), file(&hub, "README.md"), api(&hub, "/nowhere")].map(|url| {
        let reply = get(&url);
        assert!(reply.header("X-Request-Id").is_some());
        reply.header("RateLimit").expect("a quota").to_owned()
    });
    assert_eq!(limits, ["\"api\";r=499;t=172", "\"resolvers\";r=2998;t=172", "\"api\";r=497;t=172"]);
}

#[test]
fn refusals_are_those_of_the_real_hub() {
    let hub = TestHub::builder()
        .repository(tiny())
        .repository(tiny_as("acme/private").private())
        .repository(tiny_as("acme/gated").gated())
        .repository(tiny_as("acme/disabled").disabled())
        .token("hf_good")
        .token_with("hf_other", Access::Public)
        .token_with("hf_narrow", Access::NoScope)
        .start();
    let check = |path: &str, token: Option<&str>, status: u16, code: Option<&str>, message: &str| {
        let header = token.map(bearer);
        let headers: Vec<_> = header.iter().map(|value| ("Authorization", value.as_str())).collect();
        let reply = ask("GET", &format!("{}{path}", hub.url()), &headers, b"");
        let (found, said) = (reply.header("X-Error-Code"), reply.header("X-Error-Message").unwrap_or_default());
        assert_eq!((reply.status, found), (status, code), "{path} with {token:?}: {said}");
        assert!(said.contains(message), "{path} with {token:?}: {said}");
        if status >= 400 {
            assert!(reply.json()["error"].as_str().is_some_and(|error| error.contains(message)));
        }
    };
    let (info, file) = ("/api/models/acme/private", "/acme/private/resolve/main/README.md");
    for path in ["/api/models/acme/missing", "/acme/missing/resolve/main/x", info, file] {
        check(path, None, 401, None, "Invalid username or password.");
        check(path, Some("hf_wrong"), 401, None, "Invalid credentials in Authorization header");
        check(path, Some("hf_other"), 404, Some("RepoNotFound"), "Repository not found");
    }
    check(info, Some("hf_narrow"), 403, None, "scopes");
    check(info, Some("hf_good"), 200, None, "");
    check(file, Some("hf_good"), 307, None, "");
    let (info, file) = ("/api/models/acme/gated", "/acme/gated/resolve/main/a-Q4_K_M.gguf");
    check(info, None, 200, None, "");
    check(file, None, 401, Some("GatedRepo"), "Please log in.");
    check(file, Some("hf_wrong"), 401, Some("GatedRepo"), "Please log in.");
    check(file, Some("hf_other"), 403, Some("GatedRepo"), "to ask for access.");
    check(file, Some("hf_narrow"), 403, None, "fine-grained");
    check(file, Some("hf_good"), 302, None, "");
    check("/api/models/acme/disabled", Some("hf_good"), 403, None, "Access to this resource is disabled.");
    check("/api/models/acme/tiny/revision/nope", None, 404, Some("RevisionNotFound"), "Invalid rev id: nope");
    check("/acme/tiny/resolve/nope/README.md", None, 404, Some("RevisionNotFound"), "Invalid rev id: nope");
    check("/acme/tiny/resolve/main/nope", None, 404, Some("EntryNotFound"), "Entry not found");
    check("/api/models/acme/tiny", Some("hf_wrong"), 401, None, "Invalid credentials");
    hub.revoke_token("hf_good");
    check(info, Some("hf_good"), 401, None, "Invalid credentials");
    hub.accept_token("hf_late", Access::All);
    check(file, Some("hf_late"), 302, None, "");
}

fn tiny_as(id: &str) -> Repo {
    Repo::new(id).file("README.md", "# x", Kind::Git).file("a-Q4_K_M.gguf", WEIGHTS, Kind::Lfs)
}

#[test]
fn a_mirror_answers_files_itself_and_leaves_out_what_it_was_told_to() {
    let start = |mirror| TestHub::builder().repository(tiny()).mirror(mirror).prefix("/hf/").start();
    let hub = start(Mirror::good());
    let whole = get(&file(&hub, "a-Q4_K_M.gguf"));
    assert_eq!((whole.status, whole.body.as_slice()), (200, WEIGHTS));
    assert!(whole.header("X-Repo-Commit").is_some() && whole.header("ETag").is_some());
    assert_eq!(ask("GET", &file(&hub, "a-Q4_K_M.gguf"), &[("Range", "bytes=0-6")], b"").body, b"weights");
    assert_eq!(get(&file(&hub, "a-Q4_K_M.gguf").replace("/hf/", "/")).status, 404, "only below its prefix");

    let hub = start(Mirror::bare());
    let whole = ask("GET", &file(&hub, "a-Q4_K_M.gguf"), &[("Range", "bytes=0-6")], b"");
    assert_eq!(whole.status, 200);
    for absent in ["Content-Length", "ETag", "X-Repo-Commit", "Accept-Ranges"] {
        assert_eq!(whole.header(absent), None);
    }
    assert_eq!(whole.body, [b"17\r\n", WEIGHTS, b"\r\n0\r\n\r\n"].concat());
    let moved = get(&api(&hub, "/tree/main?recursive=true"));
    assert_eq!((moved.status, moved.location()), (307, api(&hub, "/tree/main/?recursive=true").as_str()));
    assert_eq!(get(moved.location()).status, 200);

    let hub = start(Mirror { etag: MirrorEtag::Unquoted, ..Mirror::artifactory() });
    let whole = get(&file(&hub, "a-Q4_K_M.gguf"));
    assert_eq!(whole.header("ETag"), Some(Content::from(WEIGHTS).sha256()));
    assert_eq!(whole.header("X-Repo-Commit"), None);
}

#[test]
fn listings_can_lie_in_every_way() {
    let repo = tiny()
        .entry(json!({"type": "symlink", "path": "s", "oid": "x", "size": 1}))
        .file("../../etc/x", "evil", Kind::Git)
        .listed_as("README.md", json!({"size": -1}))
        .listed_as("a-Q4_K_M.gguf", json!({"lfs": {"oid": "../x"}}));
    let hub = TestHub::builder().repository(repo).start();
    let all = get(&api(&hub, "/tree/main?recursive=true")).json();
    let entry = |path: &str| all.as_array().and_then(|all| all.iter().find(|entry| entry["path"] == path)).cloned();
    assert_eq!(entry("s").expect("a symlink")["type"], "symlink");
    assert_eq!(entry("README.md").expect("a file")["size"], -1);
    let weights = entry("a-Q4_K_M.gguf").expect("a file");
    assert_eq!((&weights["lfs"]["oid"], &weights["lfs"]["size"]), (&json!("../x"), &json!(23)));
    let evil = get(&file(&hub, "../../etc/x"));
    assert_eq!(evil.status, 307, "it serves what it lists, so that a client that falls for it does");
}

#[test]
fn a_listing_of_a_hundred_thousand_entries_is_served() {
    let tree = (0..100_000).fold(Tree::new(), |tree, number| tree.file(&format!("f{number}"), "x", Kind::Git));
    let hub = TestHub::builder().repository(Repo::new("acme/tiny").branch("main", tree)).start();
    let page = get(&api(&hub, "/tree/main?recursive=true&limit=1000000"));
    assert_eq!(page.json().as_array().map(Vec::len), Some(1000), "a page is no longer than the hub's limit");
    assert!(page.header("Link").is_some());
}

#[test]
fn requests_are_recorded_with_what_became_of_them() {
    let hub = hub();
    let signed = get(&file(&hub, "a-Q4_K_M.gguf")).location().to_owned();
    let _ = ask("GET", &signed, &[("Range", "bytes=0-6")], b"");
    let _ = get(&file(&hub, "README.md"));
    let seen = hub.requests();
    assert_eq!(seen.iter().map(|seen| seen.status).collect::<Vec<_>>(), [302, 206, 307]);
    assert_eq!(seen.iter().map(|seen| seen.origin).collect::<Vec<_>>(), [Origin::Hub, Origin::Cdn, Origin::Hub]);
    assert_eq!((seen[1].range.as_deref(), seen[1].bytes_sent), (Some("bytes=0-6"), 7));
    assert_eq!(seen[1].file.as_deref(), Some("a-Q4_K_M.gguf"));
    assert_eq!((hub.weight_requests().len(), hub.file_requests().len()), (2, 3));
    hub.forget_requests();
    assert!(hub.requests().is_empty());
}
