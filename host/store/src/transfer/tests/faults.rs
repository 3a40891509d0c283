//! What goes wrong on the way. Once, it is repaired; for ever, it is an error; never is it a wrong file.

use hub::{HubError, RefusalKind};
use test_hub::{Fault, Match, Retry, Seen};

use super::interrupted::leave;
use super::*;

/// Requests to the CDN that ask for the file's first byte.
fn first_byte(seen: &Seen) -> bool {
    seen.range.as_deref().is_none_or(|range| range.starts_with("bytes=0-"))
}

fn cdn() -> Fault {
    Fault::new(Match::cdn_get(""))
}

/// A fault that goes away costs retries and nothing else.
async fn check_repaired(name: &str, fault: Fault) {
    let scene = scene(TEN_CHUNKS);
    scene.hub.fault(fault);
    scene.complete().await;
    let seen = scene.seen();
    assert_eq!((seen.bytes_done, seen.verify_failures), (TEN_CHUNKS, 0), "{name}");
    assert!(seen.retries >= 1, "{name}: the fault did not happen\n{}", scene.log());
    assert!(scene.hub.leaks().is_empty());
}

// R14
#[tokio::test]
async fn what_happens_once_or_twice_is_repaired() {
    check_repaired("reset before the head", cdn().reset().times(2)).await;
    check_repaired("reset in the body", cdn().reset_after(5_000).times(2)).await;
    check_repaired("end before the head", cdn().fin().times(2)).await;
    check_repaired("end in the body", cdn().fin_after(5_000).times(2)).await;
    check_repaired("stall before the head", cdn().stall().times(1)).await;
    check_repaired("stall in the body", cdn().stall_after(5_000).times(1)).await;
    check_repaired("500", cdn().status(500).times(3)).await;
    check_repaired("503", cdn().status(503).times(3)).await;
    check_repaired("429", cdn().too_many_requests(&Retry::Seconds(1)).times(2)).await;
    check_repaired("429 of the hub", Fault::new(Match::hub_get("model")).too_many_requests(&Retry::Neither).times(2))
        .await;
    check_repaired("total one off", cdn().wrong_total().times(1)).await;
    check_repaired("another range", cdn().shifted(1).times(1)).await;
    check_repaired("shorter range", cdn().shortened(100).times(1)).await;
    check_repaired("more bytes than asked for", cdn().lengthened(10).times(1)).await;
    check_repaired("packed", cdn().gzip().times(1)).await;
    check_repaired("no HTTP", cdn().raw("220 smtp.example ESMTP\r\n").times(1)).await;
}

#[tokio::test]
async fn an_address_that_has_expired_is_renewed() {
    let scene = scene(TEN_CHUNKS);
    scene.hub.fault(cdn().after(3).status(403).times(1));
    scene.complete().await;
    let asked = scene.hub.requests_to(Origin::Hub).len();
    assert!(asked >= 2, "the hub is asked for another address\n{}", scene.log());
}

#[tokio::test]
async fn bytes_that_came_before_a_fault_are_not_asked_for_again() {
    let scene = scene(CHUNK);
    scene.hub.fault(cdn().reset_after(5_000).times(1));
    scene.complete().await;
    assert_eq!(scene.ranges(), [0..CHUNK, 5_000..CHUNK]);
}

// R14
#[tokio::test]
async fn a_server_that_never_recovers_is_an_error_after_a_bounded_number_of_requests() {
    for fault in [cdn().reset(), cdn().status(500), cdn().fin_after(0), cdn().lengthened(1)] {
        let scene = scene(TEN_CHUNKS);
        scene.hub.fault(fault.clone());
        let error = scene.download().await.expect_err("nothing ever came");
        let TransferError::Hub { landed: 0, size: TEN_CHUNKS, source, .. } = &error else {
            panic!("{}", chain(&error))
        };
        assert!(source.is_transient(), "{source}");
        // Each of four workers has its chunk's retries; within an attempt, the client renews an address once.
        let most = 2 * LIMITS.requests_max * (1 + LIMITS.patience.retries_max);
        assert!(scene.ranges().len() <= most, "{fault:?}\n{}", scene.log());
    }
}

// R14
#[tokio::test]
async fn a_server_that_gives_a_few_bytes_each_time_is_not_asked_for_ever() {
    let scene = scene(TEN_CHUNKS);
    scene.hub.fault(cdn().reset_after(3));
    let error = scene.download().await.expect_err("three bytes a time");
    let TransferError::Hub { landed, attempts, .. } = &error else { panic!("{}", chain(&error)) };
    assert!(*landed > 0 && *attempts <= 1 + 10 * 7, "{error}");
}

#[tokio::test]
async fn what_the_hub_refuses_for_good_is_not_retried() {
    let scene = scene(TEN_CHUNKS);
    scene.hub.fault(Fault::new(Match::hub_get("model")).status(404));
    let error = scene.download().await.expect_err("there is no such file");
    let TransferError::Hub { source: HubError::Refused(refusal), .. } = &error else { panic!("{}", chain(&error)) };
    assert!(matches!(refusal.kind(), RefusalKind::Missing | RefusalKind::FileMissing), "{:?}", refusal.kind());
    assert_eq!(scene.seen().retries, 0);
    assert_eq!(scene.left(), Vec::<String>::new(), "a part with nothing in it is of no use");
}

#[tokio::test]
async fn a_captive_portal_is_an_error_at_once() {
    let scene = scene(TEN_CHUNKS);
    scene.hub.fault(cdn().html_page());
    let error = scene.download().await.expect_err("a web page");
    assert!(matches!(&error, TransferError::Hub { source: HubError::Html { .. }, .. }), "{}", chain(&error));
}

#[tokio::test]
async fn a_hub_that_asks_for_a_pause_longer_than_we_have_patience_is_an_error_that_says_so() {
    let scene = scene(TEN_CHUNKS);
    scene.hub.fault(cdn().too_many_requests(&Retry::Seconds(3_600)));
    let error = scene.download().await.expect_err("an hour");
    let TransferError::Hub { source, .. } = &error else { panic!("{}", chain(&error)) };
    assert_eq!(source.retry_after(), Some(Duration::from_hours(1)));
}

#[tokio::test]
async fn a_wrong_byte_once_costs_a_second_download_in_one_stream() {
    for offset in [0, 5 * CHUNK + 3, TEN_CHUNKS - 1] {
        let scene = scene(TEN_CHUNKS);
        let hit = move |seen: &Seen| range_of(seen.range.as_deref(), TEN_CHUNKS).contains(&offset);
        scene.hub.fault(Fault::new(Match::cdn_get("").and(hit)).flip_byte(offset).times(1));
        scene.complete().await;
        let seen = scene.seen();
        assert_eq!((seen.verify_failures, seen.bytes_done, seen.bytes_received), (1, TEN_CHUNKS, 2 * TEN_CHUNKS));
        let mut expected = chunks(0, TEN_CHUNKS);
        expected.insert(1, 0..TEN_CHUNKS);
        assert_eq!(scene.ranges(), expected);
    }
}

#[tokio::test]
async fn a_wrong_byte_every_time_is_an_error_with_both_digests_and_nothing_is_kept() {
    for (fault, kind) in [
        (cdn().flip_byte(7), Kind::Lfs),
        (cdn().other_content(), Kind::Lfs),
        (Fault::new(Match::hub_get("model")).flip_byte(7), Kind::Git),
    ] {
        let scene = Scene::new(TEN_CHUNKS, kind, None);
        scene.hub.fault(fault);
        let error = scene.download().await.expect_err("one byte is wrong");
        let TransferError::Digest { expected, actual, .. } = &error else { panic!("{}", chain(&error)) };
        assert_eq!(expected, &scene.wanted.content);
        assert!(expected != actual && error.to_string().contains(&actual.to_string()), "{error}");
        assert_eq!(scene.seen().verify_failures, 2);
        assert_eq!(scene.seen().bytes_done, 0);
        assert_eq!(scene.left(), Vec::<String>::new());
    }
}

#[tokio::test]
async fn content_that_changes_between_chunks_is_found_out() {
    let scene = scene(TEN_CHUNKS);
    scene.hub.fault(cdn().after(4).other_content().changing_etag());
    let error = scene.download().await.expect_err("half of it is another file");
    assert!(matches!(error, TransferError::Digest { .. }), "{}", chain(&error));
    assert_eq!(scene.left(), Vec::<String>::new());
}

#[tokio::test]
async fn a_server_whose_ranges_are_always_wrong_is_read_in_one_stream() {
    // No range can be had, but the file can.
    for fault in [cdn().wrong_total(), cdn().shifted(1), cdn().header("Content-Range", "bytes 0-9/*")] {
        let scene = scene(TEN_CHUNKS);
        scene.hub.fault(fault);
        scene.complete().await;
        assert_eq!(scene.seen().verify_failures, 0);
    }
}

#[tokio::test]
async fn a_server_that_forgets_ranges_half_way_costs_one_stream() {
    let scene = scene(TEN_CHUNKS);
    scene.hub.fault(cdn().after(5).ignoring_range());
    scene.complete().await;
    let seen = scene.seen();
    assert_eq!((seen.bytes_done, seen.retries, seen.verify_failures), (TEN_CHUNKS, 0, 0));
    assert!(seen.bytes_received > TEN_CHUNKS, "the stream repeats what the chunks had");
}

/// One stream writes again what chunks had fetched behind a gap. What was hashed before it did so is not what the file holds.
#[tokio::test]
async fn what_one_stream_overwrites_is_hashed_as_it_was_overwritten() {
    let scene = scene(TEN_CHUNKS);
    let mut landed = Ranges::default();
    for range in [0..CHUNK, 2 * CHUNK..TEN_CHUNKS] {
        landed.insert(range);
    }
    leave(&scene, &landed, &landed, boot());
    scene.hub.fault(Fault::new(Match::cdn_get("").and(|seen| !first_byte(seen))).ignoring_range().times(1));
    let stream = || Fault::new(Match::cdn_get("").and(first_byte)).times(1);
    // It closes the gap and breaks off. When it goes on, a byte of what the chunks had is wrong.
    scene.hub.fault(stream().fin_after(3 * CHUNK));
    scene.hub.fault(stream().flip_byte(5 * CHUNK).delayed(Duration::from_millis(100)));
    scene.complete().await;
    assert_eq!((scene.seen().verify_failures, scene.seen().bytes_done), (1, TEN_CHUNKS), "{}", scene.log());
}

#[tokio::test]
async fn one_stream_that_breaks_goes_on_where_it_was() {
    let mirror = Mirror { ranges: false, ..Mirror::good() };
    let scene = Scene::new(TEN_CHUNKS, Kind::Lfs, Some(mirror));
    let long_ago = Fault::new(Match::hub_get("model").and(first_byte));
    scene.hub.fault(long_ago.reset_after(100_000).times(3));
    scene.complete().await;
    assert_eq!((scene.seen().bytes_done, scene.seen().verify_failures), (TEN_CHUNKS, 0));
}

#[tokio::test]
async fn each_failure_leaves_one_request_less_and_successes_bring_them_back() {
    let limits = TransferLimits { requests_max: 4, ..LIMITS };
    let board = Board::new(100 * CHUNK, Ranges::default(), Ranges::default(), Mode::Chunks, &limits);
    for expected in [3, 2, 1, 1] {
        let permit = board.turn().await;
        assert!(board.failed(permit), "retries are left");
        assert_eq!(board.slots(), expected);
    }
    let alone = board.turn().await;
    assert!(tokio::time::timeout(Duration::from_millis(20), board.turn()).await.is_err(), "one at a time");
    drop(alone);
    for _ in 0..8 {
        board.succeeded(limits.requests_max);
    }
    assert_eq!(board.slots(), 2);
    for _ in 0..100 {
        board.succeeded(limits.requests_max);
    }
    assert_eq!(board.slots(), 4, "never more than allowed");
}

// R14
#[tokio::test(start_paused = true)]
async fn a_pause_that_the_hub_asks_for_is_everybodys() {
    let board = Board::new(100 * CHUNK, Ranges::default(), Ranges::default(), Mode::Chunks, &LIMITS);
    let began = Instant::now();
    board.pause_for(Duration::from_secs(42));
    board.pause_for(Duration::from_secs(3));
    let _turns = future::join(board.turn(), board.turn()).await;
    assert!(began.elapsed() >= Duration::from_secs(42), "{:?}", began.elapsed());
}
