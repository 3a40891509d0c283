//! The bytes of files.

use std::time::Duration;

use hub::{Hub, HubConfig, HubError, RefusalKind, Timeouts};
use model::RepositoryPath;
use test_hub::{Fault, Kind, Match, Mirror, MirrorEtag, Origin, Retry, TestHub};

use crate::support::{
    ID, README, TOKEN, WEIGHTS, WEIGHTS_BYTES, anonymous, builder, commit, config, drain, file, read, read_weights,
    repository, tiny, weights, with_token,
};

#[tokio::test]
async fn a_file_comes_whole_and_in_parts_from_both_kinds_of_storage() {
    let hub = builder().start();
    let client = anonymous(&hub);
    let large = file(&client, &hub, WEIGHTS);
    assert_eq!(
        read(&large, 0..WEIGHTS_BYTES, WEIGHTS_BYTES).await.expect("whole").1,
        weights().bytes(0..WEIGHTS_BYTES)
    );
    for part in [0..1, 1000..2000, WEIGHTS_BYTES - 1..WEIGHTS_BYTES] {
        let (range, bytes) = read(&large, part.clone(), WEIGHTS_BYTES).await.expect("a part");
        assert_eq!((range, bytes), (part.clone(), weights().bytes(part)));
    }
    let (range, bytes) = read(&file(&client, &hub, README), 2..6, 7).await.expect("a part");
    assert_eq!((range, bytes.as_slice()), (2..6, b"tiny".as_slice()));
}

#[tokio::test]
async fn a_name_with_every_odd_character_is_found() {
    let names = ["a b/100%25#?&+[1].gguf", "é/日本.gguf", "x%2Fy;z=1,'~!@$()*\"<>|{}^`"];
    let repo = names
        .iter()
        .fold(tiny(), |repo, name| repo.file(name, *name, Kind::Lfs).file(&format!("git {name}"), *name, Kind::Git));
    let hub = TestHub::builder().repository(repo).prefix("/a/b").start();
    let client = anonymous(&hub);
    for name in names.iter().flat_map(|name| [(*name).to_owned(), format!("git {name}")]) {
        let content = name.strip_prefix("git ").unwrap_or(&name).as_bytes().to_vec();
        let whole = content.len() as u64;
        let (_, bytes) =
            read(&file(&client, &hub, &name), 0..whole, whole).await.unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(bytes, content, "{name}");
    }
}

#[tokio::test]
async fn an_empty_file_is_an_empty_body() {
    for mirror in [None, Some(Mirror::good()), Some(Mirror::bare())] {
        let repo = tiny().file("empty", "", Kind::Git).file("empty.bin", "", Kind::Lfs);
        let builder = TestHub::builder().repository(repo);
        let hub = mirror.into_iter().fold(builder, test_hub::Builder::mirror).start();
        for name in ["empty", "empty.bin"] {
            assert_eq!(read(&file(&anonymous(&hub), &hub, name), 0..0, 0).await.expect("empty"), (0..0, Vec::new()));
        }
    }
}

#[tokio::test]
async fn the_hub_is_asked_once_for_all_parts_of_a_file() {
    let hub = builder().start();
    let file = file(&anonymous(&hub), &hub, WEIGHTS);
    let parts: Vec<_> = (0..8)
        .map(|part| {
            let file = file.clone();
            tokio::spawn(async move {
                let range = part * 10_000..(part + 1) * 10_000;
                (range.clone(), read(&file, range, WEIGHTS_BYTES).await.expect("a part").1)
            })
        })
        .collect();
    for part in parts {
        let (range, bytes) = part.await.expect("no panic");
        assert_eq!(bytes, weights().bytes(range));
    }
    assert_eq!(hub.requests_to(Origin::Hub).len(), 1);
    assert_eq!(hub.requests_to(Origin::Cdn).len(), 8);
}

#[tokio::test]
async fn an_expired_address_is_renewed_once_for_all_parts() {
    let hub = builder().start();
    let file = file(&anonymous(&hub), &hub, WEIGHTS);
    read(&file, 0..10, WEIGHTS_BYTES).await.expect("a part");
    hub.expire_signatures();
    hub.forget_requests();
    let (one, two, three) = tokio::join!(
        read(&file, 10..20, WEIGHTS_BYTES),
        read(&file, 20..30, WEIGHTS_BYTES),
        read(&file, 30..40, WEIGHTS_BYTES)
    );
    for (part, start) in [one, two, three].into_iter().zip([10, 20, 30]) {
        assert_eq!(part.expect("a part").1, weights().bytes(start..start + 10));
    }
    assert_eq!(hub.requests_to(Origin::Hub).len(), 1, "{:#?}", hub.requests());
}

#[tokio::test]
async fn a_fresh_address_that_is_refused_as_well_holds_up_no_part() {
    let hub = builder().start();
    let file = file(&anonymous(&hub), &hub, WEIGHTS);
    read(&file, 0..10, WEIGHTS_BYTES).await.expect("a part");
    hub.fault(Fault::new(Match::cdn("")).status(403));
    let parts = (0..6).map(|part| {
        let file = file.clone();
        tokio::spawn(async move { read(&file, part * 10..part * 10 + 10, WEIGHTS_BYTES).await })
    });
    for part in parts.collect::<Vec<_>>() {
        let error = part.await.expect("no panic").expect_err("refused");
        assert_eq!(error.refusal().map(hub::Refusal::kind), Some(RefusalKind::Storage));
    }
    hub.clear_faults();
    read(&file, 0..10, WEIGHTS_BYTES).await.expect("a part");
}

#[tokio::test]
async fn a_storage_that_refuses_a_fresh_address_is_an_error_worth_a_retry() {
    for status in [400, 401, 403, 404, 410] {
        let hub = builder().start();
        hub.fault(Fault::new(Match::cdn("")).status(status).times(2));
        let client = with_token(&hub, TOKEN);
        let file = file(&client, &hub, WEIGHTS);
        let error = read(&file, 0..10, WEIGHTS_BYTES).await.expect_err("refused");
        assert_eq!(error.refusal().map(hub::Refusal::kind), Some(RefusalKind::Storage), "{status}");
        assert!(error.is_transient(), "{status}");
        assert!(error.to_string().contains("refuses its own signed address"), "{error}");
        assert_eq!(hub.requests().len(), 2, "one attempt");
        // The next attempts ask the hub for a fresh address, since the first one was forgotten.
        read(&file, 0..10, WEIGHTS_BYTES).await.expect_err("refused again");
        read(&file, 0..10, WEIGHTS_BYTES).await.expect("the fault is over");
        assert_eq!(hub.requests_to(Origin::Hub).len(), 3);
    }
}

#[tokio::test]
async fn a_busy_storage_keeps_its_address() {
    let hub = builder().start();
    let file = file(&anonymous(&hub), &hub, WEIGHTS);
    read(&file, 0..10, WEIGHTS_BYTES).await.expect("a part");
    hub.fault(Fault::new(Match::cdn("")).too_many_requests(&Retry::Seconds(7)).times(1));
    let error = read(&file, 0..10, WEIGHTS_BYTES).await.expect_err("busy");
    assert_eq!(error.retry_after(), Some(Duration::from_secs(7)));
    assert!(error.is_transient());
    assert!(!error.to_string().contains("hf_token"), "a storage knows no accounts: {error}");
    read(&file, 0..10, WEIGHTS_BYTES).await.expect("a part");
    assert_eq!(hub.requests_to(Origin::Hub).len(), 1);
}

async fn part(fault: Fault) -> HubError {
    let hub = builder().start();
    hub.fault(fault);
    failed_part(&anonymous(&hub), &hub).await
}

/// As `part`, of a client that waits for next to nothing.
async fn stalled_part(fault: Fault) -> HubError {
    let hub = builder().start();
    hub.fault(fault);
    let timeouts = Timeouts { idle: Duration::from_millis(300), ..config(&hub.url()).timeouts };
    failed_part(&Hub::new(HubConfig { timeouts, ..config(&hub.url()) }).expect("a client"), &hub).await
}

async fn failed_part(client: &Hub, hub: &TestHub) -> HubError {
    let error = read(&file(client, hub, WEIGHTS), 1000..201_000, WEIGHTS_BYTES).await.expect_err("a fault");
    assert!(error.is_transient(), "{error:?}");
    error
}

fn cdn() -> Fault {
    Fault::new(Match::cdn(""))
}

#[tokio::test]
async fn a_short_body_is_an_error_that_counts() {
    match part(cdn().fin_after(70_000)).await {
        HubError::Truncated { received: 70_000, expected: 200_000, .. } => {}
        other => panic!("{other:?}"),
    }
    match part(cdn().shortened(500)).await {
        HubError::WrongRange { answered, .. } => assert_eq!(answered, "206, bytes 1000-200499/300000"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_connection_that_breaks_is_an_error() {
    assert!(matches!(part(cdn().reset_after(70_000)).await, HubError::Broken { .. }));
    assert!(matches!(part(cdn().reset()).await, HubError::Broken { received: 0, .. }));
    assert!(matches!(part(cdn().fin()).await, HubError::Broken { received: 0, .. }));
    assert!(matches!(part(cdn().raw("SSH-2.0-OpenSSH_9.2\r\n")).await, HubError::Broken { received: 0, .. }));
}

#[tokio::test]
async fn a_stalled_body_is_an_error() {
    match stalled_part(cdn().stall_after(70_000)).await {
        HubError::Stalled { received: 70_000, after, .. } => assert_eq!(after, Duration::from_millis(300)),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_few_bytes_now_and_then_are_a_stall() {
    // 2 kB/s keeps the connection alive; 4 KiB within 0.3 s are wanted.
    assert!(matches!(stalled_part(cdn().bytes_per_second(2_000)).await, HubError::Stalled { received: 1.., .. }));
}

#[tokio::test]
async fn a_slow_body_that_moves_on_is_no_stall() {
    let hub = builder().start();
    hub.fault(cdn().bytes_per_second(200_000));
    let timeouts = Timeouts { idle: Duration::from_millis(800), ..config(&hub.url()).timeouts };
    let client = Hub::new(HubConfig { timeouts, ..config(&hub.url()) }).expect("a client");
    assert_eq!(read_weights(&client, &hub).await.expect("slow, not stalled"), weights().bytes(0..WEIGHTS_BYTES));
}

#[tokio::test]
async fn silence_instead_of_an_answer_is_an_error() {
    let hub = builder().start();
    hub.fault(cdn().stall());
    let timeouts = Timeouts { connect: Duration::from_millis(200), idle: Duration::from_millis(300) };
    let client = Hub::new(HubConfig { timeouts, ..config(&hub.url()) }).expect("a client");
    let error = read_weights(&client, &hub).await.expect_err("silence");
    assert!(matches!(error, HubError::Silent { .. }) && error.is_transient(), "{error:?}");
    assert!(error.to_string().starts_with(hub.cdn_url()), "{error}");
}

#[tokio::test]
async fn more_bytes_than_due_are_an_error() {
    match part(cdn().lengthened(5)).await {
        HubError::WrongLength { announced, expected: 200_000, .. } => assert_eq!(announced, "200005 bytes"),
        other => panic!("{other:?}"),
    }
    // Without a length, they are counted as they come.
    let hub = builder().start();
    let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    hub.fault(Fault::new(Match::any()).raw(format!("{head}7\r\n# tiny\n\r\n5\r\n more\r\n0\r\n\r\n")));
    let error = read(&file(&anonymous(&hub), &hub, README), 0..7, 7).await.expect_err("too long");
    match &error {
        HubError::WrongLength { announced, expected: 7, .. } => assert_eq!(announced, "12 bytes and perhaps more"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn bytes_behind_the_announced_ones_never_arrive() {
    let hub = builder().start();
    hub.fault(cdn().extra_bytes(5));
    assert_eq!(read_weights(&anonymous(&hub), &hub).await.expect("whole"), weights().bytes(0..WEIGHTS_BYTES));
}

#[tokio::test]
async fn a_range_other_than_the_one_asked_for_is_an_error() {
    for (fault, expected) in [
        (cdn().wrong_total(), "206, bytes 1000-200999/300001"),
        (cdn().shifted(3), "206, bytes 1003-"),
        (cdn().header("Content-Range", "bytes 0-199999/300000"), "206, bytes 0-199999/300000"),
        (cdn().header("Content-Range", "bytes 1000-200999/*"), "206, bytes 1000-200999/*"),
        (cdn().header("Content-Range", "nonsense"), "206, nonsense"),
        (cdn().without_header("Content-Range"), "206 without a Content-Range"),
    ] {
        match part(fault).await {
            HubError::WrongRange { answered, asked, whole, .. } => {
                assert!(answered.starts_with(expected), "{answered}");
                assert_eq!((asked, whole), (1000..201_000, WEIGHTS_BYTES));
            }
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn a_file_shorter_than_listed_is_an_error() {
    let hub = builder().start();
    let file = file(&anonymous(&hub), &hub, WEIGHTS);
    let error = read(&file, WEIGHTS_BYTES..WEIGHTS_BYTES + 10, WEIGHTS_BYTES + 10).await.expect_err("past the end");
    match &error {
        HubError::WrongRange { answered, .. } => assert_eq!(answered, "416, bytes */300000"),
        other => panic!("{other:?}"),
    }
    let error = read(&file, 0..10, WEIGHTS_BYTES + 10).await.expect_err("another total");
    assert!(matches!(error, HubError::WrongRange { .. }), "{error:?}");
}

#[tokio::test]
async fn a_server_without_ranges_sends_the_whole_file_and_says_so() {
    for etag in [MirrorEtag::None, MirrorEtag::Unquoted, MirrorEtag::Quoted] {
        for length in [true, false] {
            let hub = builder().mirror(Mirror { etag, length, ..Mirror::bare() }).start();
            let file = file(&anonymous(&hub), &hub, WEIGHTS);
            let (range, bytes) = read(&file, 1000..2000, WEIGHTS_BYTES).await.expect("the whole file");
            assert_eq!((range, bytes), (0..WEIGHTS_BYTES, weights().bytes(0..WEIGHTS_BYTES)));
            let error = read(&file, 1000..2000, WEIGHTS_BYTES - 1).await.expect_err("another length");
            assert!(matches!(error, HubError::WrongLength { .. }), "{error:?}");
            let error = read(&file, 1000..2000, WEIGHTS_BYTES + 1).await.expect_err("another length");
            assert!(matches!(error, HubError::WrongLength { .. } | HubError::Truncated { .. }), "{error:?}");
        }
    }
    let hub = builder().start();
    hub.fault(cdn().ignoring_range());
    let mut body = file(&anonymous(&hub), &hub, WEIGHTS).read(1000..2000, WEIGHTS_BYTES).await.expect("the whole file");
    assert_eq!(body.range(), 0..WEIGHTS_BYTES);
    assert_eq!(drain(&mut body).await.expect("whole"), weights().bytes(0..WEIGHTS_BYTES));
}

#[tokio::test]
async fn a_web_page_is_not_a_file() {
    for origin in [Match::cdn(""), Match::hub("")] {
        let hub = builder().start();
        hub.fault(Fault::new(origin).html_page());
        let error = read_weights(&anonymous(&hub), &hub).await.expect_err("a page");
        assert!(matches!(error, HubError::Html { .. }) && !error.is_transient(), "{error:?}");
        assert!(error.to_string().contains("a captive portal or proxy"), "{error}");
    }
    let hub = builder().start();
    hub.fault(Fault::new(Match::any()).html_page());
    let error = anonymous(&hub).listing(&repository(ID), &commit(&hub, ID)).await.expect_err("a page");
    assert!(matches!(error, HubError::Html { .. }), "{error:?}");
}

#[tokio::test]
async fn a_file_that_is_a_web_page_may_be_one() {
    let page = "<!DOCTYPE html><title>card</title>";
    let hub = TestHub::builder().repository(tiny().file("Card.HTML", page, Kind::Git)).start();
    hub.fault(Fault::new(Match::hub("resolve-cache")).header("Content-Type", "text/html"));
    let whole = page.len() as u64;
    let (_, bytes) = read(&file(&anonymous(&hub), &hub, "Card.HTML"), 0..whole, whole).await.expect("the page");
    assert_eq!(bytes, page.as_bytes());
}

#[tokio::test]
async fn a_packed_body_is_an_error() {
    match part(cdn().gzip()).await {
        HubError::Encoded { encoding, .. } => assert_eq!(encoding, "gzip"),
        other => panic!("{other:?}"),
    }
    let hub = builder().start();
    hub.fault(cdn().header("Content-Encoding", "identity"));
    read_weights(&anonymous(&hub), &hub).await.expect("identity is none");
}

#[tokio::test]
async fn the_storages_tag_means_nothing() {
    let hub = builder().start();
    hub.fault(cdn().changing_etag());
    let file = file(&anonymous(&hub), &hub, WEIGHTS);
    for start in [0, 1000] {
        read(&file, start..start + 1000, WEIGHTS_BYTES).await.expect("a part");
    }
    assert!(hub.requests().iter().all(|seen| seen.header("if-range").is_none() && seen.header("if-match").is_none()));
}

#[tokio::test]
async fn a_renamed_repositorys_files_are_found() {
    let hub = TestHub::builder().repository(tiny().formerly("old/name")).start();
    let path = RepositoryPath::parse(WEIGHTS).expect("a path");
    let file = anonymous(&hub).file(&repository("old/name"), &commit(&hub, ID), &path);
    read(&file, 0..10, WEIGHTS_BYTES).await.expect("a part");
    read(&file, 10..20, WEIGHTS_BYTES).await.expect("a part");
    assert_eq!(hub.requests_to(Origin::Hub).len(), 2, "renamed, then signed");
}
