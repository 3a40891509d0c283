//! Where the hub sends us, and where we do not go.

use hub::{Hub, HubConfig, HubError};
use test_hub::{Fault, Match, Origin, TestHub};

use crate::support::{
    ID, README, TOKEN, WEIGHTS, WEIGHTS_BYTES, anonymous, builder, config, file, read, read_weights, repository,
    revision, tiny, tokens, weights, with_token,
};

// R8
#[tokio::test]
async fn the_token_stays_with_the_hub() {
    let hub = builder().start();
    let client = with_token(&hub, TOKEN);
    assert_eq!(read_weights(&client, &hub).await.expect("whole"), weights().bytes(0..WEIGHTS_BYTES));
    read(&file(&client, &hub, README), 0..7, 7).await.expect("whole");
    client.resolve(&repository(ID), &revision("main")).await.expect("resolved");
    let bearer = format!("Bearer {TOKEN}");
    for seen in hub.requests_to(Origin::Hub) {
        assert_eq!(seen.header("authorization"), Some(bearer.as_str()), "{}", seen.line());
    }
    assert_eq!(hub.requests_to(Origin::Cdn).len(), 1);
    assert!(hub.requests().iter().all(|seen| seen.header("referer").is_none() && seen.header("cookie").is_none()));
    assert!(hub.leaks().is_empty());
}

// R8
#[tokio::test]
async fn another_port_of_the_hubs_host_is_another_origin() {
    let hub = builder().start();
    hub.fault(Fault::new(Match::hub("resolve")).redirect_to_stranger());
    let client = with_token(&hub, TOKEN);
    assert_eq!(read_weights(&client, &hub).await.expect("whole"), weights().bytes(0..WEIGHTS_BYTES));
    assert_eq!(hub.requests_to(Origin::Stranger).len(), 1);
    assert!(hub.leaks().is_empty());
}

// R8
#[tokio::test]
async fn whoever_sends_us_back_to_the_hub_does_not_borrow_the_token() {
    let hub = builder().start();
    let private = format!("{}/api/whoami-v2", hub.url());
    hub.fault(Fault::new(Match::cdn("")).redirect(302, &private));
    let error = read_weights(&with_token(&hub, TOKEN), &hub).await.expect_err("not the file");
    let last = hub.requests().pop().expect("a request");
    assert_eq!((last.origin, last.path.as_str(), last.header("authorization")), (Origin::Hub, "/api/whoami-v2", None));
    assert!(error.refusal().is_some(), "{error:?}");
}

async fn not_followed(hub: &TestHub, client: &Hub, why: &str) -> String {
    let error = read_weights(client, hub).await.expect_err("not followed");
    let HubError::Redirect { why: given, .. } = &error else { panic!("{error:?}") };
    assert!(given.contains(why), "{error}");
    assert!(!error.is_transient());
    assert!(hub.leaks().is_empty());
    error.to_string()
}

#[tokio::test]
async fn a_redirect_to_what_is_no_file_server_is_not_followed() {
    for (target, why) in [
        ("file:///etc/passwd", "only http and https are"),
        ("ftp://127.0.0.1/x", "only http and https are"),
        ("data:text/plain,x", "only http and https are"),
        ("http://", "it is not a URL"),
        ("http://[::1", "it is not a URL"),
        ("http://169.254.169.254/latest/meta-data/iam", "a link-local address or a metadata service"),
        ("http://[fe80::1]/", "a link-local address or a metadata service"),
        ("http://[::ffff:169.254.169.254]/", "a link-local address or a metadata service"),
        ("http://me:pw@127.0.0.1/", "it holds a user name or password"),
        ("", "the answer names no Location"),
    ] {
        let hub = builder().start();
        hub.fault(Fault::new(Match::hub("resolve")).redirect(302, target));
        not_followed(&hub, &with_token(&hub, TOKEN), why).await;
        assert_eq!(hub.requests().len(), 1, "{target}");
        // The storage may try the same.
        let hub = builder().start();
        hub.fault(Fault::new(Match::cdn("")).redirect(307, target));
        not_followed(&hub, &with_token(&hub, TOKEN), why).await;
        assert_eq!(hub.requests_to(Origin::Stranger).len(), 0, "{target}");
    }
}

#[tokio::test]
async fn a_redirect_from_https_to_http_is_not_followed() {
    let hub = TestHub::builder().repository(tiny()).token(TOKEN).tls().start();
    let trusting = HubConfig { ca_files: vec![hub.ca_file().to_owned()], tokens: tokens(TOKEN), ..config(&hub.url()) };
    let client = Hub::new(trusting).expect("a client");
    assert_eq!(read_weights(&client, &hub).await.expect("whole"), weights().bytes(0..WEIGHTS_BYTES));
    hub.fault(Fault::new(Match::hub("resolve")).redirect_to_stranger());
    not_followed(&hub, &client, "it leads from https to http").await;
    assert!(hub.requests_to(Origin::Stranger).is_empty());
}

#[tokio::test]
async fn a_redirect_loop_ends() {
    let hub = builder().start();
    hub.fault(Fault::new(Match::hub("resolve")).redirect_to_itself());
    not_followed(&hub, &anonymous(&hub), "there were 8 redirects before it").await;
    assert_eq!(hub.requests().len(), 9);

    let hub = builder().start();
    hub.fault(Fault::new(Match::cdn("")).redirect_to_itself());
    not_followed(&hub, &anonymous(&hub), "there were 8 redirects before it").await;
    assert_eq!(hub.requests_to(Origin::Cdn).len(), 9);

    let hub = builder().start();
    let one = format!("/{ID}/resolve/main/{WEIGHTS}");
    hub.fault(Fault::new(Match::hub("resolve/main")).redirect(302, &format!("{one}?again")));
    hub.fault(Fault::new(Match::hub("resolve")).redirect(302, &one));
    not_followed(&hub, &anonymous(&hub), "it leads round in a circle").await;
    assert_eq!(hub.requests().len(), 3);
}

#[tokio::test]
async fn a_signature_is_shown_by_nothing() {
    let hub = builder().start();
    let client = anonymous(&hub);
    let known = file(&client, &hub, WEIGHTS);
    let body = known.read(0..10, WEIGHTS_BYTES).await.expect("a body");
    let shown = format!("{known:?} {body:?} {client:?}");
    assert!(shown.contains(WEIGHTS) && !shown.contains("Signature"), "{shown}");
    let target = format!("{}/object/x?Signature=sesame&Expires=1", hub.stranger_url());
    hub.fault(Fault::new(Match::hub("resolve")).redirect(302, &target));
    let error = read_weights(&anonymous(&hub), &hub).await.expect_err("no such object");
    assert!(!crate::support::everything(&error).contains("sesame"), "{error:?}");
    hub.clear_faults();
    hub.fault(Fault::new(Match::hub("resolve")).redirect(302, "http://127.0.0.1:9/x?Signature=sesame"));
    let error = read_weights(&anonymous(&hub), &hub).await.expect_err("nobody listens");
    assert!(matches!(error, HubError::Unreachable { .. }), "{error:?}");
    assert!(!crate::support::everything(&error).contains("sesame"), "{error:?}");
    hub.clear_faults();
    hub.fault(Fault::new(Match::cdn("")).reset());
    let error = read_weights(&anonymous(&hub), &hub).await.expect_err("reset");
    assert!(!crate::support::everything(&error).contains("Signature"), "{error:?}");
}

#[tokio::test]
async fn every_kind_of_redirect_is_followed_and_nothing_else_is_one() {
    for status in [301, 302, 303, 307, 308] {
        let hub = builder().start();
        hub.fault(Fault::new(Match::hub("revision/v1")).redirect(status, "main?x=1#fragment"));
        anonymous(&hub)
            .resolve(&repository(ID), &revision("v1"))
            .await
            .unwrap_or_else(|error| panic!("{status}: {error}"));
    }
    for status in [300, 304, 305] {
        let hub = builder().start();
        hub.fault(Fault::new(Match::any()).redirect(status, "main"));
        let error = anonymous(&hub).resolve(&repository(ID), &revision("v1")).await.expect_err("no redirect");
        assert!(error.refusal().is_some_and(|it| it.status() == status), "{error:?}");
    }
}
