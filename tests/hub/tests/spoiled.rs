//! With a fault, the hub errs in exactly the way that was asked for, and as often.
#![allow(missing_docs)]

mod http;

use std::net::TcpStream;
use std::time::Duration;

use http::{Reply, ask, get, parts};
use test_hub::{Content, Fault, Kind, Match, Origin, Repo, Retry, TestHub, Tree};

const SIZE: usize = 300_000;

fn hub(fault: Fault) -> TestHub {
    let repo = Repo::new("acme/tiny").file("a-Q4.gguf", Content::generated(1, SIZE as u64), Kind::Lfs).file(
        "README.md",
        "# tiny",
        Kind::Git,
    );
    let hub = TestHub::builder().repository(repo).token("hf_good").start();
    hub.fault(fault);
    hub
}

fn truth() -> Vec<u8> {
    Content::generated(1, SIZE as u64).bytes(0..SIZE as u64)
}

/// The weights' answer, with a range or without.
fn weights(hub: &TestHub, range: Option<&str>) -> Reply {
    let signed = get(&format!("{}/acme/tiny/resolve/main/a-Q4.gguf", hub.url())).location().to_owned();
    let headers: Vec<_> = range.iter().map(|range| ("Range", *range)).collect();
    ask("GET", &signed, &headers, b"")
}

fn on_cdn() -> Fault {
    Fault::new(Match::cdn_get("a-Q4"))
}

fn readme(hub: &TestHub) -> Reply {
    get(&format!("{}/acme/tiny/resolve/main/README.md", hub.url()))
}

#[test]
fn a_fault_hits_what_it_matches_as_often_as_it_says_after_as_many_as_it_says() {
    let hub = hub(on_cdn().after(2).times(2).status(500));
    assert_eq!(readme(&hub).status, 307);
    let statuses: Vec<_> = (0..6).map(|_| weights(&hub, None).status).collect();
    assert_eq!(statuses, [200, 200, 500, 500, 200, 200]);
    assert_eq!(hub.requests_to(Origin::Cdn).iter().filter(|seen| seen.is_faulty).count(), 2);
    hub.fault(Fault::new(Match::any().and(|seen| seen.method == "HEAD")).status(504));
    assert_eq!(ask("HEAD", &format!("{}/api/models/acme/tiny", hub.url()), &[], b"").status, 504);
    hub.clear_faults();
    assert_eq!(ask("HEAD", &format!("{}/api/models/acme/tiny", hub.url()), &[], b"").status, 200);
}

#[test]
fn a_reset_is_a_reset_and_what_came_before_it_arrives() {
    let reply = weights(&hub(on_cdn().reset_after(100_000)), None);
    assert!(reply.was_reset && reply.status == 200, "{:?}", reply.headers);
    assert_eq!((reply.announced(), reply.body.len()), (SIZE, 100_000));
    let hub = hub(on_cdn().reset());
    let reply = weights(&hub, None);
    assert!(reply.was_reset && reply.status == 0);
    assert_eq!(hub.requests_to(Origin::Cdn)[0].status, 0);
}

#[test]
fn an_early_fin_is_orderly_and_short() {
    let reply = weights(&hub(on_cdn().fin_after(100_000)), None);
    assert!(!reply.was_reset);
    assert_eq!((reply.announced(), reply.body.len()), (SIZE, 100_000));
    let reply = weights(&hub(on_cdn().fin()), None);
    assert!(!reply.was_reset && reply.status == 0 && reply.body.is_empty());
}

#[test]
fn a_stall_lasts_until_the_client_leaves_and_no_longer_than_the_hub() {
    let hub = hub(on_cdn().stall_after(1000));
    let signed = get(&format!("{}/acme/tiny/resolve/main/a-Q4.gguf", hub.url())).location().to_owned();
    let (address, target) = parts(&signed);
    let mut stream = TcpStream::connect(address).expect("a listener");
    std::io::Write::write_all(&mut stream, format!("GET {target} HTTP/1.1\r\n\r\n").as_bytes()).expect("a hub");
    while hub.requests_to(Origin::Cdn).first().is_none_or(|seen| seen.bytes_sent < 1000) {
        std::thread::sleep(Duration::from_millis(1));
    }
    // Waits for the hub's threads: one that did not end would be stopped by the runner's limit for a test.
    drop(hub);
    let mut all = Vec::new();
    std::io::Read::read_to_end(&mut stream, &mut all).expect("an end, with what was sent before it");
    assert!(all.ends_with(&truth()[990..1000]));
}

#[test]
fn a_slow_body_is_whole() {
    let reply = weights(&hub(on_cdn().bytes_per_second(3_000_000)), None);
    assert_eq!(reply.body, truth());
}

#[test]
fn a_flipped_byte_is_the_same_byte_in_every_range() {
    let hub = hub(on_cdn().flip_byte(1000));
    let mut expected = truth();
    expected[1000] ^= 0xFF;
    assert_eq!(weights(&hub, None).body, expected);
    assert_eq!(weights(&hub, Some("bytes=990-1009")).body, expected[990..1010]);
    assert_eq!(weights(&hub, Some("bytes=1001-1009")).body, expected[1001..1010]);
    let other = weights(&self::hub(on_cdn().other_content()), None).body;
    assert!(other.len() == SIZE && other.iter().zip(&truth()).all(|(one, two)| one != two));
}

#[test]
fn ranges_can_be_ignored_shifted_cut_and_miscounted() {
    let check = |fault: Fault, status, range: Option<&str>, part: &[u8]| {
        let reply = weights(&hub(fault), Some("bytes=1000-1999"));
        assert_eq!((reply.status, reply.header("Content-Range")), (status, range));
        assert_eq!(reply.announced(), part.len());
        assert!(reply.body == part);
    };
    let truth = truth();
    check(on_cdn().ignoring_range(), 200, None, &truth);
    check(on_cdn().shifted(10), 206, Some("bytes 1010-1999/300000"), &truth[1010..2000]);
    check(on_cdn().shortened(10), 206, Some("bytes 1000-1989/300000"), &truth[1000..1990]);
    check(on_cdn().wrong_total(), 206, Some("bytes 1000-1999/300001"), &truth[1000..2000]);
    let long = [&truth[1000..2000], &[b'!'; 10]].concat();
    check(on_cdn().lengthened(10), 206, Some("bytes 1000-1999/300000"), &long);
}

#[test]
fn more_bytes_can_come_than_were_announced() {
    let reply = weights(&hub(on_cdn().extra_bytes(500)), None);
    assert_eq!((reply.announced(), reply.body.len()), (SIZE, SIZE + 500));
}

#[test]
fn headers_can_be_set_left_out_and_different_each_time() {
    let hub = hub(Fault::new(Match::hub("README")).header("X-Repo-Commit", "../x").without_header("Location"));
    let reply = readme(&hub);
    assert_eq!((reply.status, reply.header("X-Repo-Commit"), reply.header("Location")), (307, Some("../x"), None));
    hub.fault(on_cdn().changing_etag());
    let tags = [weights(&hub, None), weights(&hub, None)].map(|reply| reply.header("ETag").map(str::to_owned));
    assert!(tags[0].is_some() && tags[0] != tags[1]);
}

#[test]
fn packed_bodies_and_pages_of_html_say_that_they_are() {
    let packed = weights(&hub(on_cdn().gzip()), None);
    assert_eq!(packed.header("Content-Encoding"), Some("gzip"));
    assert!(packed.body.starts_with(&[0x1f, 0x8b]) && packed.announced() == packed.body.len());
    let page = weights(&hub(on_cdn().html_page()), None);
    assert_eq!((page.status, page.header("Content-Type")), (200, Some("text/html; charset=utf-8")));
}

#[test]
fn a_429_says_when_to_come_back_in_each_form() {
    let check = |retry: &Retry| {
        let reply = weights(&hub(on_cdn().too_many_requests(retry)), None);
        assert_eq!(reply.status, 429);
        let name = |name: &str| reply.header(name).map(str::to_owned);
        (name("Retry-After"), name("RateLimit"))
    };
    assert_eq!(check(&Retry::Seconds(7)), (Some("7".to_owned()), None));
    assert_eq!(check(&Retry::RateLimit(7)), (None, Some("\"resolvers\";r=0;t=7".to_owned())));
    assert_eq!(check(&Retry::Neither), (None, None));
    assert_eq!(check(&Retry::Text("soon".into())).0.as_deref(), Some("soon"));
    let date = check(&Retry::Date(100)).0.expect("a date");
    let ahead = httpdate::parse_http_date(&date).expect("as HTTP writes it").elapsed().expect_err("not yet").duration();
    assert!((Duration::from_mins(1)..Duration::from_secs(101)).contains(&ahead), "{date}");
}

#[test]
fn redirects_lead_anywhere() {
    let weights_of = |fault: Fault| {
        let hub = hub(fault);
        let reply = get(&format!("{}/acme/tiny/resolve/main/a-Q4.gguf", hub.url()));
        (reply.location().to_owned(), reply.header("X-Linked-ETag").is_some(), hub)
    };
    let (location, is_linked, _hub) = weights_of(Fault::new(Match::hub("a-Q4")).redirect(302, "file:///etc/passwd"));
    assert_eq!((location.as_str(), is_linked), ("file:///etc/passwd", true));
    let (location, _, hub) = weights_of(Fault::new(Match::hub("a-Q4")).redirect_to_stranger());
    assert!(location.starts_with(hub.stranger_url()));
    assert_eq!(get(&location).body, truth(), "the stranger serves the file");
    assert_eq!(hub.requests_to(Origin::Stranger).len(), 1);
    let (location, _, hub) = weights_of(Fault::new(Match::hub("a-Q4")).redirect_to_itself());
    let again = get(&format!("{}{location}", hub.url())).location().to_owned();
    assert!(again.starts_with("/acme/tiny/resolve/main/a-Q4.gguf?") && again != location, "{again}");
    let hub = self::hub(on_cdn().redirect_to_itself());
    let (one, base) = (weights(&hub, None).location().to_owned(), hub.cdn_url());
    assert_eq!(get(&format!("{base}{one}")).status, 302);
}

#[test]
fn the_next_page_can_be_anywhere() {
    let hub = hub(Fault::new(Match::hub("/tree/")).next_page("http://127.0.0.1:9/x"));
    let reply = get(&format!("{}/api/models/acme/tiny/tree/main", hub.url()));
    assert_eq!(reply.header("Link"), Some("<http://127.0.0.1:9/x>; rel=\"next\""));
    assert_eq!(reply.json().as_array().map(Vec::len), Some(2));
}

#[test]
fn a_branch_moves_between_the_listing_and_the_file() {
    let moved = Tree::new().file("README.md", "# new", Kind::Git);
    let hub = hub(Fault::new(Match::hub("/tree/")).times(1).then_move_branch("acme/tiny", "main", moved));
    let before = hub.commit("acme/tiny", "main");
    let listing = get(&format!("{}/api/models/acme/tiny/tree/main", hub.url()));
    assert_eq!(listing.header("X-Repo-Commit"), Some(before.as_str()));
    assert_eq!(get(&format!("{}{}", hub.url(), readme(&hub).location())).body, b"# new");
    assert_ne!(hub.commit("acme/tiny", "main"), before);
}

#[test]
fn anything_at_all_can_be_said() {
    let raw = "HTTP/1.1 200 OK\nno colon\r\nContent-Length: -5\r\n\r\n";
    let hub = hub(on_cdn().raw(raw));
    assert_eq!(weights(&hub, None).status, 200);
    hub.fault(Fault::new(Match::hub("/tree/")).deep_json(3));
    assert_eq!(get(&format!("{}/api/models/acme/tiny/tree/main", hub.url())).body, b"[[[]]]");
    hub.fault(Fault::new(Match::hub("README")).delayed(Duration::from_millis(1)).body("text/plain", "other"));
    assert_eq!(readme(&hub).body, b"other");
}

#[test]
fn a_token_is_found_wherever_it_leaks() {
    let hub = hub(Fault::new(Match::any()).status(500));
    let ask_cdn = |path: &str, headers: &[(&str, &str)]| {
        ask("GET", &format!("{}{path}", hub.cdn_url()), headers, b"");
        let leaks = hub.leaks().len();
        hub.forget_requests();
        leaks
    };
    assert_eq!(ask_cdn("/x", &[]), 0);
    assert_eq!(ask_cdn("/x", &[("Cookie", "token=hf_good")]), 1);
    assert_eq!(ask_cdn("/x?token=hf%5Fgood", &[]), 1);
    assert_eq!(ask_cdn("/x", &[("Authorization", "Bearer another")]), 1);
    get(&format!("{}/x?hf_good", hub.stranger_url()));
    assert_eq!(hub.leaks().len(), 1);
}
