//! Clients that leave, clients that do not read, and a server that is told to stop: nothing keeps its slot.

mod support;

use std::time::Duration;

use inference::Finish;
use server::Drained;
use support::fakes::{Act, says};
use support::{MODEL, Reply, STREAMED, Setup, WHOLE, chat};
use tokio::io::AsyncWriteExt as _;

const STREAM: &str = r#"model="fake/model",stream="true",endpoint="chat_completions""#;

/// An answer that never comes to its end by itself.
fn endless() -> Vec<Act> {
    (0..100_000).flat_map(|_| [Act::Piece("word ".to_owned()), Act::Wait(Duration::from_millis(5))]).collect()
}

/// A prefill that takes longer than anybody waits.
fn silent() -> Vec<Act> {
    vec![Act::Hang]
}

#[tokio::test]
async fn who_leaves_mid_stream_frees_the_slot() {
    let server = Setup::plays(endless()).start().await;
    let client = server.begin_stream().await;
    server.until_running(1).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    drop(client);
    let elapsed = server.until_idle().await;
    assert!(elapsed < Duration::from_secs(1), "{elapsed:?}");
    // R21: counted, and no failure.
    assert_eq!(server.metric("llm_requests", STREAM), 1);
    assert_eq!(server.metric("llm_failures", STREAM), 0);
    assert!(server.metric("llm_completion_tokens_total", STREAM) >= 1);
}

#[tokio::test]
async fn who_leaves_during_a_long_prefill_frees_the_slot() {
    for body in [WHOLE, STREAMED] {
        let server = Setup::plays(silent()).start().await;
        let mut client = server.connect().await;
        client.write_all(chat(body).as_bytes()).await.expect("the server reads");
        server.until_running(1).await;
        drop(client);
        let elapsed = server.until_idle().await;
        assert!(elapsed < Duration::from_secs(1), "{body}: {elapsed:?}");
    }
}

// hyper stops looking for the end of a connection while bytes wait that it has no use for yet.
#[tokio::test]
async fn who_leaves_behind_unread_bytes_frees_the_slot() {
    for body in [WHOLE, STREAMED] {
        let server = Setup::plays(silent()).start().await;
        let mut client = server.connect().await;
        client.write_all(format!("{}\r\n", chat(body)).as_bytes()).await.expect("the server reads");
        server.until_running(1).await;
        client.write_all(b"GET /livez").await.expect("the server is there");
        tokio::time::sleep(Duration::from_millis(50)).await;
        drop(client);
        let elapsed = server.until_idle().await;
        assert!(elapsed < Duration::from_secs(1), "{body}: {elapsed:?}");
    }
}

#[tokio::test]
async fn who_leaves_the_line_frees_its_place() {
    let server = Setup::plays(silent()).start().await;
    let running = server.begin_stream().await;
    server.until_running(1).await;
    let mut waiting = server.connect().await;
    waiting.write_all(chat(WHOLE).as_bytes()).await.expect("the server reads");
    while server.service.active() < 2 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    drop(waiting);
    while server.service.active() > 1 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(server.metric("outrigger_admissions_total", r#"model="fake/model",outcome="left""#), 1);
    drop(running);
    server.until_idle().await;
}

#[tokio::test]
async fn many_clients_leave_at_any_point() {
    let server = Setup::plays(endless()).slots(4).start().await;
    let visits = (0..200_u64).map(|visit| {
        let server = &server;
        async move {
            let mut client = server.connect().await;
            let body = if visit % 2 == 0 { STREAMED } else { WHOLE };
            let request = chat(body);
            // Some leave within the request, most within the answer or the line.
            let sent = if visit % 10 == 0 { &request[..request.len() - 5] } else { &request };
            client.write_all(sent.as_bytes()).await.expect("the server reads");
            tokio::time::sleep(Duration::from_millis(visit * 7 % 40)).await;
        }
    });
    futures::future::join_all(visits).await;
    server.until_idle().await;
    assert_eq!(server.metric("outrigger_requests_running", MODEL), 0);
    assert_eq!(server.metric("outrigger_requests_waiting", r#"model="fake/model",priority="interactive""#), 0);
    // Whoever asked for a slot was told or left, and is accounted for, once.
    let sum = |name: &str| {
        let metrics = server.metrics();
        let values = metrics.lines().filter(|line| line.starts_with(name)).filter_map(|line| line.rsplit(' ').next());
        values.map(|value| value.parse::<u64>().expect("a count")).sum::<u64>()
    };
    while sum("llm_requests{") < sum("outrigger_admissions_total{") {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(sum("llm_requests{"), sum("outrigger_admissions_total{"));
    assert_eq!(sum("llm_failures{"), sum("outrigger_request_errors_total{"));
}

#[tokio::test]
async fn who_does_not_read_loses_the_connection() {
    // More than any socket buffer takes.
    let script = (0..100_000).map(|_| Act::Piece("x".repeat(4096))).collect();
    let mut setup = Setup::plays(script);
    setup.http.write_stall_max = Duration::from_millis(500);
    let server = setup.start().await;
    let client = server.begin_stream().await;
    server.until_running(1).await;
    let elapsed = server.until_idle().await;
    assert!(elapsed >= Duration::from_millis(400), "{elapsed:?}");
    drop(client);
}

#[tokio::test]
async fn silence_is_filled_with_comments() {
    let script = [vec![Act::Wait(Duration::from_millis(350))], says(&["late"])].concat();
    let mut setup = Setup::plays(script);
    setup.http.ping_interval = Duration::from_millis(100);
    let server = setup.start().await;
    let reply = server.chat(STREAMED).await;
    let pings = reply.body.matches(": ping\n\n").count();
    assert!((2..=4).contains(&pings), "{}", reply.body);
    assert!(reply.body.ends_with("data: [DONE]\n\n") && reply.body.contains("late"), "{}", reply.body);
}

#[tokio::test]
async fn a_drain_lets_requests_finish() {
    let script = [vec![Act::Wait(Duration::from_millis(400))], says(&["done"])].concat();
    let mut server = Setup::plays(script).start().await;
    let mut running = server.connect().await;
    running.write_all(chat(STREAMED).as_bytes()).await.expect("the server reads");
    server.until_running(1).await;
    let mut waiting = server.connect().await;
    waiting.write_all(chat(WHOLE).as_bytes()).await.expect("the server reads");
    while server.service.active() < 2 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }

    server.begin_drain();
    tokio::time::sleep(Duration::from_millis(50)).await;
    // An orchestrator's probes are answered meanwhile: alive, but not ready. New work is not taken.
    assert_eq!(server.get("/livez").await.status, 200);
    let ready = server.get("/readyz").await;
    assert_eq!((ready.status, ready.body.as_str()), (503, r#"{"status":"draining"}"#));
    let refused = server.chat(WHOLE).await;
    assert_eq!((refused.status, refused.error().0.as_str()), (503, "shutting_down"));

    let reply = Reply::read(&mut running).await;
    assert!(reply.body.contains("done") && reply.body.ends_with("data: [DONE]\n\n"), "{}", reply.body);
    assert_eq!(Reply::read(&mut waiting).await.status, 200);
    assert_eq!(server.drained().await, Drained::Complete);
}

#[tokio::test]
async fn a_drain_has_an_end() {
    let mut setup = Setup::plays(endless());
    setup.http.drain_grace = Duration::from_millis(300);
    let mut server = setup.start().await;
    let mut running = server.connect().await;
    running.write_all(chat(STREAMED).as_bytes()).await.expect("the server reads");
    server.until_running(1).await;
    let mut waiting = server.connect().await;
    waiting.write_all(chat(WHOLE).as_bytes()).await.expect("the server reads");
    while server.service.active() < 2 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    server.begin_drain();
    let (running, waiting) = tokio::join!(Reply::read(&mut running), Reply::read(&mut waiting));
    // What breaks off says so; it does not look like an end.
    assert!(running.body.contains("shutting_down") && !running.body.contains("[DONE]"), "{}", running.body);
    assert_eq!((waiting.status, waiting.error().0.as_str()), (503, "shutting_down"));
    let ends = std::sync::Arc::clone(&server.pipeline.ends);
    assert_eq!(server.drained().await, Drained::Cancelled { requests: 2 });
    assert!(matches!(ends.lock().unwrap().as_slice(), [(Finish::Failed, _)]));
}

/// Nobody loads the model any more: who waits for it is told at once, and holds up nobody.
#[tokio::test]
async fn a_drain_does_not_wait_for_who_waits_for_the_model() {
    let mut server = Setup { is_ready: false, ..Setup::default() }.start().await;
    server.service.on_first_use();
    let mut waiting = server.connect().await;
    waiting.write_all(chat(WHOLE).as_bytes()).await.expect("the server reads");
    while server.service.active() < 1 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    server.begin_drain();
    let told = Reply::read(&mut waiting).await;
    assert_eq!((told.status, told.error().0.as_str()), (503, "shutting_down"));
    // In the grace of 25 s, not after it.
    assert_eq!(server.drained().await, Drained::Complete);
}

#[tokio::test]
async fn an_idle_server_stops_at_once() {
    let mut server = Setup::default().start().await;
    // A connection that has been used and is kept open does not hold it up.
    let mut idle = server.connect().await;
    idle.write_all(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n").await.expect("the server reads");
    idle.readable().await.expect("an answer");
    let started = std::time::Instant::now();
    server.begin_drain();
    assert_eq!(server.drained().await, Drained::Complete);
    assert!(started.elapsed() < Duration::from_secs(1), "{:?}", started.elapsed());
}
