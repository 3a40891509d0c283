//! API keys: who has none is refused in the form of the API that was asked, and who has one is a caller.

mod support;

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use serde_json::Value;
use server::{Access, Keys, routes};
use support::{Reply, STREAMED, Server, Setup, WHOLE, chat, post};

const ONE: &str = "0123456789abcdef0123456789abcdef";
const TWO: &str = "fedcba9876543210fedcba9876543210";

fn keys(text: &str) -> Keys {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("keys");
    std::fs::write(&path, text).expect("written");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).expect("ours");
    Keys::read(Path::new(&path)).expect("keys")
}

fn with(keys: Keys) -> Access {
    Access { keys: Some(keys), ..Access::default() }
}

async fn guarded(setup: Setup) -> Server {
    setup.http.access.replace(with(keys(&format!("app-1 {ONE}"))));
    setup.start().await
}

fn bearing(request: &str, key: &str) -> String {
    request.replacen("\r\n", &format!("\r\nAuthorization: Bearer {key}\r\n"), 1)
}

fn check_refused(reply: &Reply, code: &str) {
    assert_eq!((reply.status, reply.error().0.as_str()), (401, code), "{}", reply.body);
    assert_eq!(reply.header("www-authenticate"), Some("bearer realm=\"outrigger\""));
}

#[tokio::test]
async fn who_has_no_key_gets_no_answer() {
    let server = guarded(Setup::default()).await;
    for body in [WHOLE, STREAMED] {
        check_refused(&server.chat(body).await, "missing_api_key");
        check_refused(&server.send(&bearing(&chat(body), TWO)).await, "invalid_api_key");
        assert_eq!(server.send(&bearing(&chat(body), ONE)).await.status, 200);
    }
    let request = chat(WHOLE).replacen("\r\n", &format!("\r\nX-Api-Key: {ONE}\r\n"), 1);
    assert_eq!(server.send(&request).await.status, 200);
    // Nothing of a request without a key came to the model.
    assert_eq!(server.engine.taken.lock().expect("no test panicked").len(), 3);
}

#[tokio::test]
async fn anthropic_s_clients_are_refused_in_their_form() {
    let server = guarded(Setup::default()).await;
    let body = r#"{"model":"fake/model","max_tokens":5,"messages":[{"role":"user","content":"Hi"}]}"#;
    let reply = server.send(&post("/v1/messages", body)).await;
    let error: Value = serde_json::from_str(&reply.body).expect("JSON");
    assert_eq!(
        (reply.status, &error["type"], &error["error"]["type"]),
        (401, &"error".into(), &"authentication_error".into())
    );
    assert!(reply.header("www-authenticate").is_some());
    let request = post("/v1/messages", body).replacen("\r\n", &format!("\r\nx-api-key: {ONE}\r\n"), 1);
    assert_eq!(server.send(&request).await.status, 200);
}

/// Walks the router, so that no path is forgotten: neither one that is to be guarded nor one that is not.
#[tokio::test]
async fn every_path_but_the_probes_wants_a_key() {
    let server = guarded(Setup::default()).await;
    let probes = ["/livez", "/startupz", "/readyz", "/health", "/v1/ready"];
    let paths = routes().map(|(path, _)| path.replace("{*id}", "fake/model"));
    for path in paths.chain(["/nowhere".to_owned(), "/v1/files".to_owned()]) {
        for request in
            [post(&path, "{}"), format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")]
        {
            let status = server.send(&request).await.status;
            assert_eq!(status != 401, probes.contains(&&*path), "{status}: {request}");
            assert_ne!(server.send(&bearing(&request, ONE)).await.status, 401, "{request}");
        }
    }
}

#[tokio::test]
async fn keys_are_replaced_while_the_server_runs() {
    let setup = Setup::default();
    let access = setup.http.access.clone();
    let server = guarded(setup).await;
    access.replace(with(keys(&format!("app-1 {TWO}\napp-1 {ONE}"))));
    assert_eq!(server.send(&bearing(&chat(WHOLE), ONE)).await.status, 200);
    assert_eq!(server.send(&bearing(&chat(WHOLE), TWO)).await.status, 200);
    access.replace(with(keys(&format!("app-1 {TWO}"))));
    check_refused(&server.send(&bearing(&chat(WHOLE), ONE)).await, "invalid_api_key");
    access.replace(Access::default());
    assert_eq!(server.chat(WHOLE).await.status, 200);
}

/// A made-up name is worth nothing where keys say who asks.
#[tokio::test]
async fn a_key_s_name_is_the_caller() {
    let setup = Setup::plays(vec![support::fakes::Act::Hang]);
    setup.http.access.replace(with(keys(&format!("app-1 {ONE}\napp-2 {TWO}"))));
    let server = setup.start().await;
    let mut clients = Vec::new();
    for (key, header) in [(ONE, "a"), (ONE, "b"), (TWO, "a")] {
        let request = bearing(&chat(WHOLE), key).replacen(
            "\r\n",
            &format!("\r\n{}: {header}\r\n", server::limits::CALLER_HEADER_DEFAULT),
            1,
        );
        clients.push(server.begin(&request).await);
    }
    while server.service.active() < 3 {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    assert_eq!(server.service.standing().callers, 2);
}

#[tokio::test]
async fn no_key_comes_back_in_an_answer_or_a_metric() {
    let server = guarded(Setup::default()).await;
    let wrong = "wrong-key-0123456789";
    let refused = server.send(&bearing(&chat(WHOLE), wrong)).await;
    assert!(!refused.head.contains(wrong) && !refused.body.contains(wrong), "{refused:?}");
    server.send(&bearing(&chat(WHOLE), ONE)).await;
    let metrics = server.metrics();
    assert!(metrics.contains(r#"{route="chat_completions",status="401"} 1"#), "{metrics}");
    assert!(![ONE, wrong, "app-1"].iter().any(|secret| metrics.contains(secret)), "{metrics}");
}
