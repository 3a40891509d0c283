//! Which commit, and which files.

use std::time::Duration;

use hub::{GitSha1, Hub, HubError, RefusalKind, Sha256};
use serde_json::json;
use test_hub::{Content, Fault, Kind, Match, Mirror, Origin, Repo, Retry, TestHub};

use crate::support::{
    ID, TOKEN, WEIGHTS, anonymous, builder, commit, config, each_retry, repository, revision, tiny, weights, with_token,
};

// R13
#[tokio::test]
async fn a_revision_is_resolved_to_its_commit() {
    let hub = TestHub::builder().repository(tiny().branch("v1.0", Content::from("x").into())).start();
    let client = anonymous(&hub);
    for name in ["main", "v1.0"] {
        let resolved = client.resolve(&repository(ID), &revision(name)).await.expect("resolved");
        assert_eq!(resolved.commit.as_str(), hub.commit(ID, name));
        assert_eq!(resolved.repository, repository(ID));
    }
    let pinned = commit(&hub, ID);
    let resolved = client.resolve(&repository(ID), &revision(pinned.as_str())).await.expect("resolved");
    assert_eq!(resolved.commit, pinned);
    let first = &hub.requests()[0];
    assert_eq!(first.header("user-agent"), Some(concat!("outrigger/", env!("CARGO_PKG_VERSION"))));
    assert_eq!(first.header("accept-encoding"), Some("identity"));
    assert_eq!(first.header("authorization"), None);
}

#[tokio::test]
async fn a_renamed_repository_is_followed_and_its_name_reported() {
    let hub = TestHub::builder().repository(tiny().formerly("old/name")).token(TOKEN).start();
    let client = with_token(&hub, TOKEN);
    let resolved = client.resolve(&repository("old/name"), &revision("main")).await.expect("resolved");
    assert_eq!((resolved.repository, resolved.commit), (repository(ID), commit(&hub, ID)));
    let listing = client.listing(&repository("old/name"), &commit(&hub, ID)).await.expect("listed");
    assert_eq!(listing.files.len(), 2);
    assert!(hub.requests().iter().all(|seen| seen.header("authorization").is_some()), "the hub redirects to itself");
}

#[tokio::test]
async fn a_listing_has_every_page_with_sizes_and_digests() {
    let names = ["a b", "sub/100%#?[1].gguf", "sub/deep/é.txt", "empty"];
    let repo = names
        .iter()
        .fold(tiny(), |repo, name| repo.file(name, if *name == "empty" { "" } else { "content" }, Kind::Git));
    let hub = TestHub::builder().repository(repo.file("xet.gguf", "xet", Kind::Xet)).page_size(2).start();
    let listing = anonymous(&hub).listing(&repository(ID), &commit(&hub, ID)).await.expect("listed");
    assert_eq!(listing.commit, commit(&hub, ID));
    assert_eq!(listing.files.len(), 7);
    let entry = |name: &str| listing.files.iter().find(|(path, _)| path.as_str() == name).expect(name).1.clone();
    assert_eq!(entry("empty").size, 0);
    assert_eq!(entry("empty").blob_id, GitSha1::parse("e69de29bb2d1d6434b8b29ae775ad8c2e48c5391").expect("40 digits"));
    assert_eq!(
        (entry(WEIGHTS).size, entry(WEIGHTS).sha256),
        (weights().size_bytes(), Sha256::parse(weights().sha256()))
    );
    assert_eq!(entry("a b").sha256, None);
    assert_eq!(entry("xet.gguf").xet_hash.map(|hash| hash.len()), Some(64));
    // Nine rows with the two folders, two to a page.
    assert_eq!(hub.requests().len(), 5);
}

#[tokio::test]
async fn a_huge_listing_is_read_whole() {
    let repo = (0..2_500).fold(tiny(), |repo, number| repo.file(&format!("d/{number}"), "x", Kind::Git));
    let hub = TestHub::builder().repository(repo).start();
    let listing = anonymous(&hub).listing(&repository(ID), &commit(&hub, ID)).await.expect("listed");
    assert_eq!((listing.files.len(), hub.requests().len()), (2_502, 3));
}

async fn listing(repo: Repo) -> HubError {
    let hub = TestHub::builder().repository(repo).start();
    let error = anonymous(&hub).listing(&repository(ID), &commit(&hub, ID)).await.expect_err("a hostile listing");
    assert!(!error.is_transient());
    assert_eq!(hub.requests().len(), 1, "what is final is asked once");
    error
}

// R9
#[tokio::test]
async fn a_hostile_entry_condemns_the_listing_and_is_named() {
    for (entry, named) in [
        (json!({"type": "file", "path": "../x", "oid": "0", "size": 1}), "`../x`: it has a segment `.` or `..`"),
        (json!({"type": "file", "path": "a\u{0}b", "oid": "0", "size": 1}), "`a\\0b`: it holds a control character"),
        (json!({"type": "symlink", "path": "x"}), "`x`: it is of the type `symlink`"),
        (json!({"type": "file", "path": "x\u{1b}[31m", "size": 1}), "`x\\u{1b}[31m`: it holds a control"),
    ] {
        let text = listing(tiny().entry(entry)).await.to_string();
        let start = format!("the list of files of {ID}@");
        assert!(text.starts_with(&start) && text.contains(named), "{text}");
    }
    let text = listing(tiny().listed_as(WEIGHTS, json!({"size": 1_u64 << 50}))).await.to_string();
    assert!(text.contains("1125899906842624 bytes"), "{text}");
}

// R14
#[tokio::test]
async fn a_passing_fault_is_waited_out() {
    for fault in [
        Fault::new(Match::any()).status(500),
        Fault::new(Match::any()).status(503),
        Fault::new(Match::any()).status(408),
        Fault::new(Match::any()).reset(),
        Fault::new(Match::any()).fin(),
        Fault::new(Match::any()).fin_after(10),
        Fault::new(Match::any()).reset_after(10),
        Fault::new(Match::any()).gzip(),
        Fault::new(Match::any()).too_many_requests(&Retry::Neither),
        Fault::new(Match::any()).too_many_requests(&Retry::Text("soon".to_owned())),
    ] {
        let hub = builder().start();
        hub.fault(fault.clone().times(3));
        let client = anonymous(&hub);
        client.resolve(&repository(ID), &revision("main")).await.unwrap_or_else(|error| panic!("{fault:?}: {error}"));
        assert_eq!(hub.requests().len(), 4, "{fault:?}");
        hub.clear_faults();
        hub.forget_requests();
        hub.fault(fault.clone().times(3));
        client.listing(&repository(ID), &commit(&hub, ID)).await.unwrap_or_else(|error| panic!("{fault:?}: {error}"));
        assert_eq!(hub.requests().len(), 4, "{fault:?}");
    }
}

// R14
#[tokio::test]
async fn a_fault_that_does_not_pass_ends_in_an_error() {
    let hub = builder().start();
    hub.fault(Fault::new(Match::any()).status(500));
    let error = anonymous(&hub).resolve(&repository(ID), &revision("main")).await.expect_err("always 500");
    assert_eq!(error.refusal().map(hub::Refusal::kind), Some(RefusalKind::Server));
    assert_eq!(hub.requests().len(), 4, "one attempt and three retries");
}

// R14
#[tokio::test]
async fn a_hub_that_asks_for_time_gets_it() {
    // A second in each form; of a date's second, a part may be over already.
    let check = async |retry: Retry, least: Duration| {
        let hub = builder().start();
        hub.fault(Fault::new(Match::any()).too_many_requests(&retry).times(1));
        let before = tokio::time::Instant::now();
        anonymous(&hub).resolve(&repository(ID), &revision("main")).await.expect("resolved");
        assert!(before.elapsed() >= least, "{retry:?}");
        assert_eq!(hub.requests().len(), 2, "{retry:?}");
    };
    let second = Duration::from_secs(1);
    tokio::join!(check(Retry::RateLimit(0), second), check(Retry::Seconds(1), second), check(Retry::Date(2), second));
}

// R14
#[tokio::test]
async fn a_hub_that_asks_for_too_much_time_is_an_error_that_says_so() {
    for retry in each_retry(3_600) {
        let hub = builder().start();
        hub.fault(Fault::new(Match::any()).too_many_requests(&retry));
        let error = anonymous(&hub).resolve(&repository(ID), &revision("main")).await.expect_err("an hour");
        let asked = error.retry_after().expect("asked").as_secs();
        assert!((3_598..=3_601).contains(&asked), "{retry:?}: {asked}");
        assert!(error.to_string().contains(&format!("it asks to wait {asked} s")), "{error}");
        assert!(error.to_string().contains("with hf_token set, the quota is larger"), "{error}");
        assert_eq!(hub.requests().len(), 1);
    }
}

#[tokio::test]
async fn a_description_without_a_commit_is_no_answer() {
    for body in ["{}", "[]", "{\"sha\":null}", "{\"sha\":7}", "{\"sha\":\"../x\"}", "{\"sha\":\"ABC\"}", "not json", ""]
    {
        let hub = builder().start();
        hub.fault(Fault::new(Match::any()).body("application/json", body));
        let error = anonymous(&hub).resolve(&repository(ID), &revision("main")).await.expect_err(body);
        assert!(matches!(error, HubError::Answer { .. }), "{body}: {error:?}");
        assert_eq!(hub.requests().len(), 1, "{body}");
    }
    let hub = builder().start();
    let other = "{\"sha\":\"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\"}";
    hub.fault(Fault::new(Match::any()).body("application/json", other));
    let error =
        anonymous(&hub).resolve(&repository(ID), &revision(&hub.commit(ID, "main"))).await.expect_err("another");
    assert!(error.to_string().contains("it names the commit aaaa"), "{error}");
}

#[tokio::test]
async fn json_nested_without_end_is_no_answer() {
    let hub = builder().start();
    hub.fault(Fault::new(Match::any()).deep_json(2_000_000));
    let client = anonymous(&hub);
    let error = client.resolve(&repository(ID), &revision("main")).await.expect_err("too deep");
    assert!(matches!(error, HubError::Answer { .. }), "{error:?}");
    let error = client.listing(&repository(ID), &commit(&hub, ID)).await.expect_err("too deep");
    assert!(matches!(error, HubError::Answer { .. }), "{error:?}");
}

#[tokio::test]
async fn an_answer_without_end_is_cut_off() {
    let hub = builder().start();
    hub.fault(Fault::new(Match::any()).lengthened(40 << 20));
    let error = anonymous(&hub).resolve(&repository(ID), &revision("main")).await.expect_err("40 MiB");
    assert!(error.to_string().contains("it is longer than 33554432 bytes"), "{error}");
    assert_eq!(hub.requests().len(), 1);
}

#[tokio::test]
async fn the_next_page_belongs_to_the_same_listing() {
    let hub = builder().page_size(1).start();
    let path = format!("/api/models/{ID}/tree/{}", hub.commit(ID, "main"));
    for elsewhere in [
        format!("{}/api/models/other/model/tree/main", hub.url()),
        format!("{}{path}/sub?cursor=x", hub.url()),
        format!("{}/api/models/{ID}/tree/main?cursor=x", hub.cdn_url()),
        format!("{}/collect?cursor=x", hub.stranger_url()),
        "/api/whoami-v2".to_owned(),
        "https://cdn.example".to_owned(),
        "file:///etc/passwd".to_owned(),
        "data:text/plain,x".to_owned(),
    ] {
        hub.forget_requests();
        hub.clear_faults();
        hub.fault(Fault::new(Match::any()).next_page(&elsewhere));
        let error = with_token(&hub, TOKEN).listing(&repository(ID), &commit(&hub, ID)).await.expect_err("elsewhere");
        assert!(matches!(error, HubError::Redirect { .. }), "{elsewhere}: {error:?}");
        assert_eq!(hub.requests().len(), 1, "{elsewhere}");
        assert!(hub.leaks().is_empty());
    }
}

/// olah and others hand on what the hub behind them said.
#[tokio::test]
async fn a_mirror_that_hands_on_the_hubs_links_is_asked_itself_for_the_next_page() {
    for elsewhere in ["https://huggingface.co", "http://me:pw@127.0.0.1:9", "//cdn.example"] {
        for prefix in ["", "/mirror/hf"] {
            let hub = builder().page_size(1).prefix(prefix).start();
            let path = format!("/api/models/{ID}/tree/{}", hub.commit(ID, "main"));
            let next = format!("{elsewhere}{path}/?recursive=true&cursor=c2tpcA-1");
            hub.fault(Fault::new(Match::any()).next_page(&next).times(1));
            let listing = with_token(&hub, TOKEN).listing(&repository(ID), &commit(&hub, ID)).await.expect("listed");
            assert_eq!(listing.files.len(), 2);
            let asked: Vec<_> = hub.requests().iter().map(|seen| (seen.origin, seen.path.clone())).collect();
            let here = (Origin::Hub, format!("{prefix}{path}"));
            assert_eq!(asked, [here.clone(), here]);
        }
    }
}

#[tokio::test]
async fn pages_that_lead_round_in_a_circle_end() {
    let hub = builder().page_size(1).start();
    let here = format!("{}/api/models/{ID}/tree/{}?recursive=true", hub.url(), hub.commit(ID, "main"));
    hub.fault(Fault::new(Match::any()).next_page(&here));
    let error = anonymous(&hub).listing(&repository(ID), &commit(&hub, ID)).await.expect_err("a circle");
    assert!(error.to_string().contains("its pages lead round in a circle"), "{error}");
    assert_eq!(hub.requests().len(), 1);
}

#[tokio::test]
async fn mirrors_are_hubs() {
    for mirror in [Mirror::good(), Mirror::artifactory(), Mirror::bare()] {
        let hub = builder().mirror(mirror.clone()).prefix("/api/huggingface").start();
        assert!(hub.url().ends_with("/api/huggingface"));
        let client = with_token(&hub, TOKEN);
        let resolved = client.resolve(&repository(ID), &revision("main")).await.expect("resolved");
        let listing = client.listing(&repository(ID), &resolved.commit).await.expect("listed");
        assert_eq!(listing.files.len(), 2, "{mirror:?}");
        assert!(hub.requests().iter().all(|seen| seen.origin == Origin::Hub && seen.header("authorization").is_some()));
    }
}

#[tokio::test]
async fn a_branch_that_moves_does_not_change_a_listing() {
    let hub = builder().start();
    let client = anonymous(&hub);
    let resolved = client.resolve(&repository(ID), &revision("main")).await.expect("resolved");
    hub.move_branch(ID, "main", Content::from("other").into());
    let listing = client.listing(&repository(ID), &resolved.commit).await.expect("listed");
    assert_eq!(listing.files.len(), 2);
    let again = client.resolve(&repository(ID), &revision("main")).await.expect("resolved");
    assert_ne!(again.commit, resolved.commit);
}

#[tokio::test]
async fn nothing_is_asked_of_a_network_while_offline() {
    let hub = builder().start();
    let offline = Some("HF_HUB_OFFLINE is set".to_owned());
    let client = Hub::new(hub::HubConfig { offline, ..config(&hub.url()) }).expect("a client");
    assert_eq!(client.offline(), Some("HF_HUB_OFFLINE is set"));
    let file = crate::support::file(&client, &hub, WEIGHTS);
    for error in [
        client.resolve(&repository(ID), &revision("main")).await.expect_err("offline"),
        client.listing(&repository(ID), &commit(&hub, ID)).await.expect_err("offline"),
        file.read(0..1, 1).await.expect_err("offline"),
    ] {
        assert!(matches!(error, HubError::Offline { .. }), "{error:?}");
        assert!(error.to_string().ends_with("while offline (HF_HUB_OFFLINE is set)"), "{error}");
        assert!(!error.is_transient());
    }
    assert!(hub.requests().is_empty());
}
