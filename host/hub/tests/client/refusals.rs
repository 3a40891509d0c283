//! Each refusal of the hub, as a person reads it (R25).

use std::time::Duration;

use hub::{Hub, HubConfig, HubError, RefusalKind, Timeouts};
use test_hub::{Access, Fault, Match, Repo, TestHub};

use crate::support::{
    ID, README, TOKEN, WEIGHTS, WEIGHTS_BYTES, anonymous, builder, config, file, read, repository, revision, tiny,
    with_token,
};

/// What is asked of the hub.
#[derive(Clone, Copy)]
enum Ask {
    Revision(&'static str),
    File(&'static str),
}

async fn refusal(hub: &TestHub, token: Option<&str>, ask: Ask) -> HubError {
    let client = token.map_or_else(|| anonymous(hub), |token| with_token(hub, token));
    let error = match ask {
        Ask::Revision(name) => client.resolve(&repository(ID), &revision(name)).await.expect_err("refused"),
        Ask::File(path) => {
            let read = read(&file(&client, hub, path), 0..10, WEIGHTS_BYTES).await;
            read.expect_err("refused")
        }
    };
    assert!(hub.leaks().is_empty());
    assert_eq!(hub.requests().len(), if error.is_transient() { 4 } else { 1 }, "{error}");
    error
}

async fn check(builder: test_hub::Builder, token: Option<&str>, ask: Ask, kind: RefusalKind, expected: &str) {
    let hub = builder.start();
    let error = refusal(&hub, token, ask).await;
    let commit = hub.commit(ID, "main");
    let shown = error.to_string().replace(&hub.url(), "HUB").replace(&commit, "COMMIT");
    // The hub's name for the request stands at the end; it is another one each time.
    let shown = shown.split_once("; request Root=").map_or(shown.clone(), |(shown, _)| format!("{shown}]"));
    assert_eq!(shown, expected);
    assert_eq!(error.refusal().map(hub::Refusal::kind), Some(kind));
}

fn hub_with(repo: Repo) -> test_hub::Builder {
    TestHub::builder()
        .repository(repo)
        .token(TOKEN)
        .token_with("hf_public", Access::Public)
        .token_with("hf_scoped", Access::NoScope)
}

#[tokio::test]
async fn the_anonymous_are_not_told_of_a_wrong_password() {
    let expected = "HUB refuses acme/tiny@main to the anonymous (401): it does not exist, is private, or this address has used \
                    up the anonymous quota; check the name, or set hf_token (or HF_TOKEN) to a token that may read it [it says: \
                    Invalid username or password.]";
    check(hub_with(tiny().private()), None, Ask::Revision("main"), RefusalKind::Anonymous, expected).await;
}

#[tokio::test]
async fn a_bad_token_is_named_by_its_place() {
    let expected = "HUB does not accept the token from HF_TOKEN (401) for acme/tiny@main: it is mistyped, revoked or expired; make \
                    a new one with read access, or log in again [it says: Invalid credentials in Authorization header]";
    check(hub_with(tiny()), Some("hf_wrong"), Ask::Revision("main"), RefusalKind::Token, expected).await;
}

#[tokio::test]
async fn a_gated_repository_asks_the_anonymous_for_an_account_and_the_licence() {
    let expected = "acme/tiny/model-Q4_K_M.gguf@COMMIT is gated (401): accept its licence at HUB/acme/tiny, and set hf_token (or \
                    HF_TOKEN) to a token of that account with read access [it says: Access to model acme/tiny is restricted. You \
                    must have access to it and be authenticated to access it. Please log in.]";
    check(hub_with(tiny().gated()), None, Ask::File(WEIGHTS), RefusalKind::GatedLogin, expected).await;
}

#[tokio::test]
async fn a_gated_repository_and_a_bad_token_are_told_from_no_token() {
    let expected = "acme/tiny/model-Q4_K_M.gguf@COMMIT is gated, and HUB does not accept the token from HF_TOKEN (401): it is \
                    mistyped, revoked or expired; make a new one with read access, of an account that has accepted the licence at \
                    HUB/acme/tiny [it says: Access to model acme/tiny is restricted. You must have access to it and be \
                    authenticated to access it. Please log in.]";
    check(hub_with(tiny().gated()), Some("hf_wrong"), Ask::File(WEIGHTS), RefusalKind::GatedLogin, expected).await;
}

#[tokio::test]
async fn an_account_without_access_is_sent_to_the_licence() {
    let expected = "acme/tiny/model-Q4_K_M.gguf@COMMIT is gated, and the account of the token from HF_TOKEN has no access to it \
                    (403): accept its licence or ask for access at HUB/acme/tiny [it says: Access to model acme/tiny is \
                    restricted and you are not in the authorized list. Visit https://huggingface.co/acme/tiny to ask for access.]";
    check(hub_with(tiny().gated()), Some("hf_public"), Ask::File(WEIGHTS), RefusalKind::GatedAccess, expected).await;
}

#[tokio::test]
async fn a_token_without_scope_is_told_which_it_lacks() {
    let expected = "the token from HF_TOKEN may not read acme/tiny@main (403): give it read access to this repository's contents, \
                    or use a token that has it [it says: This token does not have the scopes that this repository needs.]";
    check(hub_with(tiny().private()), Some("hf_scoped"), Ask::Revision("main"), RefusalKind::Scope, expected).await;
}

#[tokio::test]
async fn a_disabled_repository_is_nobodys_fault_here() {
    let expected = "acme/tiny@main has been disabled by the hub (403); see HUB/acme/tiny, and choose another model [it says: Access \
                    to this resource is disabled.]";
    check(hub_with(tiny().disabled()), Some(TOKEN), Ask::Revision("main"), RefusalKind::Disabled, expected).await;
}

#[tokio::test]
async fn what_is_missing_is_named() {
    let expected = "HUB has no repository for acme/tiny@main, or hides it from the account of the token from HF_TOKEN (404); check \
                    the name and whether that account can open HUB/acme/tiny [it says: Repository not found]";
    check(
        hub_with(tiny().private()),
        Some("hf_public"),
        Ask::Revision("main"),
        RefusalKind::RepositoryMissing,
        expected,
    )
    .await;
    let expected = "HUB has no such revision for acme/tiny@v9 (404); see the branches and tags at HUB/acme/tiny [it says: Invalid \
                    rev id: v9]";
    check(hub_with(tiny()), None, Ask::Revision("v9"), RefusalKind::RevisionMissing, expected).await;
    let expected =
        "HUB has no acme/tiny/no.gguf@COMMIT (404); see the files at HUB/acme/tiny [it says: Entry not found]";
    check(hub_with(tiny()), None, Ask::File("no.gguf"), RefusalKind::FileMissing, expected).await;
}

#[tokio::test]
async fn a_mirrors_refusals_without_a_code_make_sense_too() {
    let hub = builder().start();
    hub.fault(Fault::new(Match::any()).status(404));
    let error = refusal(&hub, None, Ask::File(README)).await;
    assert_eq!(error.refusal().map(hub::Refusal::kind), Some(RefusalKind::Missing));
    assert!(error.to_string().contains("check the name, the revision and the hub's address"), "{error}");
    let hub = builder().start();
    // olah: what is missing is a missing repository, with 401.
    hub.fault(Fault::new(Match::any()).status(401).header("X-Error-Code", "RepoNotFound"));
    let error = refusal(&hub, None, Ask::File(README)).await;
    assert_eq!(error.refusal().map(hub::Refusal::kind), Some(RefusalKind::RepositoryMissing));
    assert!(error.to_string().contains("has no repository for"), "{error}");
}

#[tokio::test]
async fn the_hubs_name_for_a_request_is_kept() {
    let hub = builder().start();
    hub.fault(Fault::new(Match::any()).status(418));
    let error = refusal(&hub, None, Ask::Revision("main")).await;
    let kept = error.refusal().expect("an answer");
    assert_eq!((kept.status(), kept.kind()), (418, RefusalKind::Unexpected));
    let id = kept.request_id().expect("every answer of the hub has one");
    assert!(id.starts_with("Root=") && error.to_string().ends_with(&format!("[request {id}]")), "{error}");
}

#[tokio::test]
async fn an_endless_refusal_is_read_in_part() {
    let hub = builder().start();
    let message = "x".repeat(20_000);
    hub.fault(Fault::new(Match::any()).status(400).header("X-Error-Message", &message).lengthened(1 << 30));
    let error = refusal(&hub, None, Ask::Revision("main")).await;
    assert!(error.to_string().len() < 1_000, "{error}");
    let sent = hub.requests()[0].bytes_sent;
    assert!(sent < 1 << 25, "{sent} bytes: more than the kernel's buffers hold was read");
}

#[tokio::test]
async fn a_refusal_that_stalls_is_a_refusal_all_the_same() {
    let hub = builder().start();
    hub.fault(Fault::new(Match::any()).status(404).header("X-Error-Code", "EntryNotFound").stall_after(3));
    let timeouts = Timeouts { idle: Duration::from_millis(300), ..config(&hub.url()).timeouts };
    let client = Hub::new(HubConfig { timeouts, ..config(&hub.url()) }).expect("a client");
    let error = read(&file(&client, &hub, README), 0..7, 7).await.expect_err("refused");
    assert_eq!(error.refusal().map(hub::Refusal::kind), Some(RefusalKind::FileMissing));
}

#[tokio::test]
async fn what_only_a_person_can_change_is_asked_once() {
    // `refusal` counts the requests: one each.
    for status in [400, 401, 402, 403, 404, 409, 410, 422, 451] {
        let hub = builder().start();
        hub.fault(Fault::new(Match::any()).status(status));
        let error = refusal(&hub, Some(TOKEN), Ask::Revision("main")).await;
        assert!(!error.is_transient(), "{status}");
    }
}
