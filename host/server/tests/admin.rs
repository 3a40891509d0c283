//! The admin routes: who may ask, and what they answer. What the plugins do is another room's business.

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::{Value, json};
use server::{AdminFuture, HttpConfig, PluginAdmin, ReloadRefused};
use support::{Reply, Server, Setup};

#[derive(Debug)]
struct FakeAdmin {
    answer: Result<Value, ReloadRefused>,
    reloads: AtomicUsize,
}

impl PluginAdmin for FakeAdmin {
    fn plugins(&self) -> Option<Value> {
        self.answer.as_ref().ok().cloned()
    }

    fn reload(&self) -> AdminFuture<'_> {
        self.reloads.fetch_add(1, Ordering::Relaxed);
        Box::pin(async { self.answer.clone() })
    }
}

async fn server(answer: Result<Value, ReloadRefused>) -> (Server, Arc<FakeAdmin>) {
    let admin = Arc::new(FakeAdmin { answer, reloads: AtomicUsize::new(0) });
    let http = HttpConfig { admin: Some(Arc::clone(&admin) as _), ..HttpConfig::default() };
    (Setup { http, ..Setup::default() }.start().await, admin)
}

const JSON: &str = "Content-Type: application/json\r\n";

fn post(headers: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "POST /admin/plugins/reload HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {length}\r\n{headers}\r\n{body}"
    )
}

fn check(reply: &Reply, status: u16, code: &str) {
    assert_eq!((reply.status, reply.error().0.as_str()), (status, code), "{}", reply.body);
}

#[tokio::test]
async fn a_program_on_this_machine_sees_and_reloads() {
    let (server, admin) = server(Ok(json!({ "generation": 3 }))).await;
    let reply = server.get("/admin/plugins").await;
    assert_eq!((reply.status, reply.body.as_str()), (200, r#"{"generation":3}"#));
    for body in ["", "{}", " {} "] {
        let reply = server.send(&post(JSON, body)).await;
        assert_eq!((reply.status, reply.body.as_str()), (200, r#"{"generation":3}"#), "{body:?}");
    }
    assert_eq!(admin.reloads.load(Ordering::Relaxed), 3);
    assert!(server.metrics().contains("route=\"admin\",status=\"200\"} 4"), "{}", server.metrics());
}

/// What a form, a script or a rebound name in a browser can send.
#[tokio::test]
async fn a_page_reloads_nothing() {
    let (server, admin) = server(Ok(json!({}))).await;
    check(&server.send(&post("", "{}")).await, 415, "unsupported_media_type");
    check(&server.send(&post("Content-Type: text/plain\r\n", "{}")).await, 415, "unsupported_media_type");
    check(
        &server.send(&post(&format!("{JSON}Origin: http://localhost:8484\r\n"), "{}")).await,
        403,
        "origin_not_allowed",
    );
    check(&server.send(&post(&format!("{JSON}Sec-Fetch-Site: same-site\r\n"), "{}")).await, 403, "origin_not_allowed");
    let rebound = post(JSON, "{}").replace("Host: localhost", "Host: evil.example");
    check(&server.send(&rebound).await, 403, "host_not_allowed");
    check(&server.get("/admin/plugins/reload").await, 405, "method_not_allowed");
    check(&server.send(&post(JSON, r#"{"force": true}"#)).await, 400, "invalid_body");
    check(&server.send(&post(JSON, "[]")).await, 400, "invalid_body");
    assert_eq!(admin.reloads.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn what_was_refused_is_told_with_what_was_found_out() {
    let report = json!({ "generation": 1, "plugins": [{ "name": "mask" }] });
    let refused = ReloadRefused::Plugins { message: "it does not load".to_owned(), report };
    let (server, _) = server(Err(refused)).await;
    let reply = server.send(&post(JSON, "")).await;
    check(&reply, 422, "plugins_refused");
    let body: Value = serde_json::from_str(&reply.body).expect("JSON");
    assert_eq!(body["plugins"][0]["name"], "mask");
    assert_eq!(body["error"]["message"], "it does not load");
}

#[tokio::test]
async fn before_there_is_anything_a_reload_is_a_conflict() {
    let (server, _) = server(Err(ReloadRefused::NotLoaded)).await;
    check(&server.send(&post(JSON, "")).await, 409, "not_loaded");
    check(&server.get("/admin/plugins").await, 409, "not_loaded");
}

#[tokio::test]
async fn turned_off_they_are_not_there() {
    let server = Setup::default().start().await;
    check(&server.get("/admin/plugins").await, 404, "not_found");
    check(&server.send(&post(JSON, "")).await, 404, "not_found");
}
