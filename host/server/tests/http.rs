//! Paths, methods, headers, sizes and deadlines, spoken to in raw bytes.

mod support;

use std::time::{Duration, Instant};

use server::Access;
use support::{Reply, Setup, WHOLE, chat};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

async fn check(request: &str, status: u16, code: &str) -> Reply {
    let server = Setup::default().start().await;
    let reply = server.send(request).await;
    assert_eq!((reply.status, reply.error().0.as_str()), (status, code), "{request}\n{}", reply.body);
    reply
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
}

#[tokio::test]
async fn probes_and_models() {
    let server = Setup::default().start().await;
    for path in ["/startupz", "/readyz", "/health", "/v1/ready"] {
        let reply = server.get(path).await;
        assert_eq!((reply.status, reply.body.as_str()), (200, r#"{"status":"ok"}"#), "{path}");
    }
    assert_eq!(server.get("/livez").await.body, r#"{"status":"ok","engine":"idle"}"#);
    insta::assert_snapshot!("models", server.get("/v1/models").await.body);
    // A model's name has a slash; both ways of writing it are in use.
    for path in ["/v1/models/fake/model", "/v1/models/fake%2Fmodel"] {
        insta::assert_snapshot!("model", server.get(path).await.body);
    }
    let reply = server.get("/v1/models/other").await;
    assert_eq!((reply.status, reply.error().0.as_str()), (404, "model_not_found"));
    // No text at all is no name either.
    let reply = server.get("/v1/models/%ff").await;
    assert_eq!((reply.status, reply.error().0.as_str()), (404, "model_not_found"));
}

#[tokio::test]
async fn metrics_in_two_formats() {
    let server = Setup::default().start().await;
    server.get("/livez").await;
    server.get("/etc/passwd").await;
    let reply = server.get("/metrics").await;
    assert_eq!(reply.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    assert!(
        reply.body.contains("outrigger_http_responses_total{route=\"livez\",status=\"200\"} 1\n"),
        "{}",
        reply.body
    );
    // A path from the wire is no label.
    assert!(reply.body.contains("{route=\"other\",status=\"404\"} 1\n") && !reply.body.contains("passwd"));
    let request = get("/metrics").replace("\r\n\r\n", "\r\nAccept: application/openmetrics-text\r\n\r\n");
    let reply = server.send(&request).await;
    assert!(reply.body.ends_with("# EOF\n"), "{}", reply.body);
}

// R34
#[tokio::test]
async fn paths_that_are_not_served() {
    for path in ["/v1/embeddings/x", "/v1/responses/resp_1", "/v1/audio/speech", "/v1/chat/completions/x"] {
        let request = chat(WHOLE).replace("/v1/chat/completions", path);
        let reply = check(&request, 501, "unsupported_endpoint").await;
        assert!(reply.error().1.starts_with(path));
    }
    for path in ["/", "/v1", "/v1/chat_completions", "/livez/", "/v1/chat/../models"] {
        let expected = if path.starts_with("/v1/chat/") { (501, "unsupported_endpoint") } else { (404, "not_found") };
        check(&get(path), expected.0, expected.1).await;
    }
}

#[tokio::test]
async fn a_wrong_method_says_which_is_right() {
    let reply = check(&get("/v1/chat/completions"), 405, "method_not_allowed").await;
    assert_eq!(reply.header("allow"), Some("post"));
    let reply = check(&chat(WHOLE).replace("/v1/chat/completions", "/livez"), 405, "method_not_allowed").await;
    assert_eq!(reply.header("allow"), Some("get,head"));
    check(&get("/v1/chat/completions").replace("GET", "OPTIONS"), 405, "method_not_allowed").await;
}

#[tokio::test]
async fn what_a_web_page_could_send_is_refused() {
    check(&chat(WHOLE).replace("application/json", "text/plain"), 415, "unsupported_media_type").await;
    check(&chat(WHOLE).replace("Content-Type: application/json\r\n", ""), 415, "unsupported_media_type").await;
    check(&chat(WHOLE).replace("localhost", "evil.example"), 403, "host_not_allowed").await;
    check(&chat(WHOLE).replace("\r\n\r\n", "\r\nOrigin: null\r\n\r\n"), 403, "origin_not_allowed").await;
    check(&get("/metrics").replace("localhost", "evil.example"), 403, "host_not_allowed").await;
    check(&get("/livez").replace("Host: localhost\r\n", ""), 400, "invalid_host").await;
    check(&get("/livez").replace("Host: localhost", "Host: localhost\r\nHost: localhost"), 400, "invalid_host").await;
    check(&get("http://evil.example/livez"), 400, "invalid_host").await;
}

#[tokio::test]
async fn a_name_that_the_operator_allows_is_answered() {
    let setup = Setup::default();
    setup.http.access.replace(Access { hosts: vec!["models.internal".to_owned()], ..Access::default() });
    let server = setup.start().await;
    assert_eq!(server.send(&get("/livez").replace("localhost", "models.internal:80")).await.status, 200);
}

#[tokio::test]
async fn a_body_that_is_too_large_is_refused_before_it_is_sent() {
    let server = Setup::default().start().await;
    let mut client = server.connect().await;
    let head = chat("").replace("Content-Length: 0", "Content-Length: 4194305");
    client.write_all(head.as_bytes()).await.expect("the server reads");
    let reply = Reply::read(&mut client).await;
    assert_eq!((reply.status, reply.error().0.as_str()), (413, "body_too_large"));
}

#[tokio::test]
async fn a_body_that_grows_too_large_is_refused_on_the_way() {
    let mut setup = Setup::default();
    setup.http.body_bytes_max = 1000;
    let server = setup.start().await;
    // Chunked, so nobody knows in advance; and more is sent than fits any buffer, so somebody must take it.
    let chunk = format!("200\r\n{}\r\n", "x".repeat(512));
    let body = format!("{}0\r\n\r\n", chunk.repeat(32_000));
    let request = chat("").replace("Content-Length: 0", "Transfer-Encoding: chunked") + &body;
    let reply = server.send(&request).await;
    assert_eq!((reply.status, reply.error().0.as_str()), (413, "body_too_large"));
}

#[tokio::test]
async fn bodies_together_have_a_limit() {
    let mut setup = Setup::default();
    setup.http.body_bytes_max = server::limits::BODIES_BYTES_MAX;
    let server = setup.start().await;
    let almost_all = server::limits::BODIES_BYTES_MAX - 1024;
    let head = chat("").replace("Content-Length: 0", &format!("Content-Length: {}", almost_all + 1));
    let body = format!("{WHOLE}{}", " ".repeat(server::limits::SMALL_BODY_BYTES_MAX));
    // One client sends almost all that may be held and waits; the next one finds too little left. Where that one came before all of the
    // first was read, it is the first that found too little.
    let mut patience = Duration::from_millis(20);
    let (first, refused) = loop {
        let mut first = server.connect().await;
        first.write_all(head.as_bytes()).await.expect("the server reads");
        first.write_all(&vec![b' '; almost_all]).await.expect("the server reads");
        tokio::time::sleep(patience).await;
        let reply = server.chat(&body).await;
        if reply.status != 200 {
            break (first, reply);
        }
        patience *= 2;
        assert!(patience < Duration::from_secs(10), "never refused");
    };
    assert_eq!((refused.status, refused.error().0.as_str()), (503, "overloaded"));
    assert_eq!(server.chat(WHOLE).await.status, 200, "there is always room for small ones");
    // A client that leaves takes its share along.
    drop(first);
    let deadline = Instant::now() + Duration::from_secs(5);
    while server.chat(&body).await.status != 200 {
        assert!(Instant::now() < deadline, "the share is never given back");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Sends `bytes` one by one, as slowly as it takes, until the connection ends; returns what came back and when.
async fn drip(setup: Setup, start: &str, drips: &str) -> (String, Duration) {
    let server = setup.start().await;
    let mut client = server.connect().await;
    let started = Instant::now();
    client.write_all(start.as_bytes()).await.expect("the server reads");
    let (mut reader, mut writer) = client.split();
    let mut received = Vec::new();
    let dripping = async {
        for byte in drips.bytes().cycle() {
            tokio::time::sleep(Duration::from_millis(20)).await;
            if writer.write_all(&[byte]).await.is_err() {
                break;
            }
        }
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = dripping => {}
        _ended = reader.read_to_end(&mut received) => {}
    }
    (String::from_utf8(received).expect("UTF-8"), started.elapsed())
}

fn short_deadlines() -> Setup {
    let mut setup = Setup::default();
    setup.http.head_timeout = Duration::from_millis(300);
    setup.http.body_timeout = Duration::from_millis(300);
    setup
}

#[tokio::test]
async fn a_head_that_drips_is_cut_off() {
    let (received, elapsed) = drip(short_deadlines(), "GET /livez HTTP/1.1\r\nX-Slow: ", "x").await;
    assert_eq!(received, "");
    assert!(elapsed >= Duration::from_millis(290) && elapsed < Duration::from_secs(2), "{elapsed:?}");
    // So is one that never begins, and a second one on a connection that was fine before.
    let (received, elapsed) = drip(short_deadlines(), "", "").await;
    assert_eq!(received, "");
    assert!(elapsed < Duration::from_secs(2), "{elapsed:?}");
    let first = "GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let (received, elapsed) = drip(short_deadlines(), first, "G").await;
    assert!(received.starts_with("HTTP/1.1 200"), "{received}");
    assert!(elapsed < Duration::from_secs(2), "{elapsed:?}");
}

#[tokio::test]
async fn a_body_that_drips_is_cut_off() {
    let head = chat("").replace("Content-Length: 0", "Content-Length: 1000");
    let (received, elapsed) = drip(short_deadlines(), &head, " ").await;
    let reply = Reply::parse(&received);
    assert_eq!((reply.status, reply.error().0.as_str()), (408, "request_timeout"));
    assert!(elapsed >= Duration::from_millis(290) && elapsed < Duration::from_secs(3), "{elapsed:?}");
}

#[tokio::test]
async fn an_idle_connection_outlives_the_head_timeout_but_not_its_own() {
    let mut setup = short_deadlines();
    setup.http.idle_timeout = Duration::from_secs(1);
    let server = setup.start().await;
    let mut client = server.connect().await;
    let request = b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n";
    for _ in 0..2 {
        client.write_all(request).await.expect("the connection is open");
        let mut reply = [0_u8; 1024];
        let count = client.read(&mut reply).await.expect("an answer");
        assert!(reply[..count].starts_with(b"HTTP/1.1 200"));
        tokio::time::sleep(Duration::from_millis(600)).await;
    }
    let started = Instant::now();
    let mut rest = Vec::new();
    client.read_to_end(&mut rest).await.expect("a proper end");
    assert!(rest.is_empty() && started.elapsed() < Duration::from_secs(2), "{rest:?} {:?}", started.elapsed());
}

#[tokio::test]
async fn heads_have_a_size() {
    let server = Setup::default().start().await;
    let many = "X-A: b\r\n".repeat(70);
    let long = format!("X-A: {}\r\n", "b".repeat(20_000));
    for headers in [many, long] {
        let mut client = server.connect().await;
        let request = format!("GET /livez HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n");
        client.write_all(request.as_bytes()).await.expect("the server reads");
        let reply = Reply::read(&mut client).await;
        assert_eq!(reply.status, 431, "{}", reply.head);
    }
}

#[tokio::test]
async fn connections_have_a_number() {
    let mut setup = Setup::default();
    setup.http.connections_max = 1;
    let server = setup.start().await;
    let first = server.connect().await;
    // The kernel takes the second one; the server does not, until the first is gone.
    let request = get("/livez");
    let second = server.send(&request);
    tokio::pin!(second);
    assert!(tokio::time::timeout(Duration::from_millis(200), &mut second).await.is_err());
    drop(first);
    assert_eq!(second.await.status, 200);
}

#[tokio::test]
async fn requests_in_one_packet_are_answered_in_order() {
    let server = Setup::default().start().await;
    let first = "GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let mut client = server.connect().await;
    client.write_all(format!("{first}{}", get("/nowhere")).as_bytes()).await.expect("the server reads");
    let mut text = String::new();
    client.read_to_string(&mut text).await.expect("a proper end");
    assert!(text.starts_with("HTTP/1.1 200") && text.contains("HTTP/1.1 404"), "{text}");
}

#[tokio::test]
async fn a_client_may_wait_for_leave_to_send() {
    let server = Setup::default().start().await;
    let mut client = server.connect().await;
    let request = chat(WHOLE).replace("\r\n\r\n", "\r\nExpect: 100-continue\r\n\r\n");
    let (head, body) = request.split_once("\r\n\r\n").expect("a head");
    client.write_all(format!("{head}\r\n\r\n").as_bytes()).await.expect("the server reads");
    let mut leave = [0_u8; 25];
    client.read_exact(&mut leave).await.expect("leave to send");
    assert_eq!(&leave, b"HTTP/1.1 100 Continue\r\n\r\n");
    client.write_all(body.as_bytes()).await.expect("the server reads");
    assert_eq!(Reply::read(&mut client).await.status, 200);
}
