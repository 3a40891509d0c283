//! Who gets a slot, who waits and who is sent away, over real sockets. R20.

mod support;

use std::num::NonZeroU32;
use std::time::Duration;

use serde_json::json;
use support::fakes::{Act, says};
use support::{MODEL, Reply, STREAMED, Server, Setup, WHOLE, chat, post};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// A chat with headers more.
fn with(headers: &[(&str, &str)], body: &str) -> String {
    headers.iter().fold(chat(body), |request, (name, value)| {
        request.replacen("Content-Type", &format!("{name}: {value}\r\nContent-Type"), 1)
    })
}

const CALLER: &str = "X-Gateway-Inference-Fairness-Id";

/// Sends a request and reads nothing yet.
async fn begin(server: &Server, request: &str) -> TcpStream {
    let mut client = server.connect().await;
    client.write_all(request.as_bytes()).await.expect("the server reads");
    client
}

/// Reads a stream until it has said this.
async fn hears(client: &mut TcpStream, what: &str) {
    let mut heard = Vec::new();
    let hearing = async {
        while !String::from_utf8_lossy(&heard).contains(what) {
            assert_ne!(client.read_buf(&mut heard).await.expect("a stream"), 0, "it ended");
        }
    };
    let in_time = tokio::time::timeout(Duration::from_secs(10), hearing).await;
    assert!(in_time.is_ok(), "no {what:?} in {:?}", String::from_utf8_lossy(&heard));
}

async fn until_waiting(server: &Server, interactive: usize, batch: usize) {
    let started = std::time::Instant::now();
    loop {
        let standing = server.service.standing();
        if (standing.interactive_waiting, standing.batch_waiting) == (interactive, batch) {
            return;
        }
        assert!(started.elapsed() < Duration::from_secs(5), "{standing:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn hangs(queue_max: usize) -> Setup {
    let mut setup = Setup::plays(vec![Act::Hang]);
    setup.service.queue_max = queue_max;
    setup
}

#[tokio::test]
async fn who_has_more_of_a_full_line_than_others_is_429() {
    let server = hangs(2).start().await;
    let running = begin(&server, &with(&[(CALLER, "flood")], WHOLE)).await;
    server.until_running(1).await;
    let _first = begin(&server, &with(&[(CALLER, "flood")], WHOLE)).await;
    until_waiting(&server, 1, 0).await;
    let mut newest = begin(&server, &with(&[(CALLER, "flood")], WHOLE)).await;
    until_waiting(&server, 2, 0).await;
    // The line is full of one caller's requests: it makes room for another's.
    let quiet = begin(&server, &with(&[(CALLER, "quiet")], WHOLE)).await;
    let reply = Reply::read(&mut newest).await;
    assert_eq!((reply.status, reply.error().0.as_str()), (429, "over_share"));
    assert_eq!(reply.json()["error"]["type"], "rate_limit_error");
    assert!(reply.header("retry-after").is_some_and(|seconds| seconds.parse::<u64>().is_ok_and(|seconds| seconds > 0)));
    assert_eq!(server.metric("outrigger_admissions_total", r#"model="fake/model",outcome="over_share""#), 1);
    assert_eq!(server.metric("outrigger_callers", MODEL), 2);
    drop((running, quiet));
}

#[tokio::test]
async fn a_batch_request_waits_behind_and_leaves_for_others() {
    let server = hangs(1).start().await;
    let running = begin(&server, &chat(WHOLE)).await;
    server.until_running(1).await;
    let mut batch = begin(&server, &with(&[("X-Request-Priority", "batch")], WHOLE)).await;
    until_waiting(&server, 0, 1).await;
    let _urgent = begin(&server, &chat(WHOLE)).await;
    let reply = Reply::read(&mut batch).await;
    assert_eq!((reply.status, reply.error().0.as_str()), (503, "displaced"));
    until_waiting(&server, 1, 0).await;
    drop(running);
    until_waiting(&server, 0, 0).await;
    assert_eq!(server.service.standing().running, 1, "the urgent one has the slot");
}

#[tokio::test]
async fn a_request_ends_at_its_deadline_and_frees_its_slot() {
    let server = hangs(1).start().await;
    let hurried = [("X-Request-Timeout", "1.5")];
    let reply = server.send(&with(&hurried, WHOLE)).await;
    assert_eq!((reply.status, reply.error().0.as_str()), (504, "deadline_exceeded"));
    assert!(reply.error().1.contains("after 1.5 s"), "{}", reply.error().1);
    let streamed = server.send(&with(&hurried, STREAMED)).await;
    assert_eq!((streamed.status, streamed.is_whole), (200, true));
    let last = streamed.events().pop().expect("an event");
    assert_eq!(last["error"]["code"], "deadline_exceeded", "{last}");
    assert!(!streamed.body.contains("[DONE]"));
    server.until_idle().await;
    assert_eq!(
        server.metric(
            "outrigger_request_errors_total",
            r#"model="fake/model",endpoint="chat_completions",blame="capacity""#
        ),
        2
    );
}

#[tokio::test]
async fn who_is_still_in_line_at_its_deadline_is_told_by_the_line() {
    let server = hangs(1).start().await;
    let _running = begin(&server, &chat(WHOLE)).await;
    server.until_running(1).await;
    let reply = server.send(&with(&[("X-Request-Timeout", "0.5")], WHOLE)).await;
    assert_eq!((reply.status, reply.error().0.as_str()), (503, "queue_timeout"));
    assert!(reply.header("retry-after").is_some());
    assert_eq!(server.metric("outrigger_admissions_total", r#"model="fake/model",outcome="queue_timeout""#), 1);
}

#[tokio::test]
async fn a_request_with_many_answers_gives_back_the_slots_that_others_wait_for() {
    let script = [vec![Act::Wait(Duration::from_millis(300))], says(&["ok"])].concat();
    let server = Setup::plays(script).slots(2).start().await;
    let many = WHOLE.replace("\"messages\"", "\"n\":8,\"messages\"");
    let mut first = begin(&server, &chat(&many)).await;
    server.until_running(2).await;
    let other = server.chat(&WHOLE.replace("Hi", "Other")).await;
    assert_eq!(other.status, 200);
    let asked = |taken: &inference::GenerationRequest| taken.prompt.first() == Some(&inference::Token(u32::from(b'O')));
    let begun = server.engine.taken.lock().expect("no test panicked").iter().position(asked);
    assert!(begun.is_some_and(|place| place < 8), "{begun:?}: behind all of the other's");
    assert_eq!(Reply::read(&mut first).await.json()["choices"].as_array().map(Vec::len), Some(8));
    server.until_idle().await;
}

#[tokio::test]
async fn the_operators_deadline_holds_for_who_says_nothing_or_more() {
    let mut setup = hangs(1);
    setup.service.request_timeout = Duration::from_millis(100);
    let server = setup.start().await;
    assert_eq!(server.chat(WHOLE).await.error().0, "deadline_exceeded");
    assert_eq!(server.send(&with(&[("X-Request-Timeout", "3600")], WHOLE)).await.error().0, "deadline_exceeded");
}

#[tokio::test]
async fn who_waits_in_line_for_a_stream_hears_how_long_the_line_is() {
    let mut setup = hangs(8);
    setup.http.ping_interval = Duration::from_millis(20);
    let server = setup.start().await;
    let running = begin(&server, &chat(WHOLE)).await;
    server.until_running(1).await;
    let mut first = begin(&server, &chat(STREAMED)).await;
    until_waiting(&server, 1, 0).await;
    let mut second = begin(&server, &chat(STREAMED)).await;
    hears(&mut second, ": waiting, about 1 before this one\n\n").await;
    drop(running);
    // The first has the slot: its answer begins behind what it heard, and the second moves up.
    hears(&mut first, ": waiting, about 0 before this one\n\n").await;
    hears(&mut first, "\"role\":\"assistant\"").await;
    hears(&mut second, ": waiting, about 0 before this one\n\n").await;
}

#[tokio::test]
async fn an_answer_that_was_waited_for_is_whole() {
    let mut setup = Setup::plays([vec![Act::Wait(Duration::from_millis(300))], says(&["ok"])].concat());
    setup.http.ping_interval = Duration::from_millis(20);
    let server = setup.start().await;
    let replies = futures::future::join_all((0..3).map(|_| server.chat(STREAMED))).await;
    for reply in &replies {
        assert_eq!((reply.status, reply.streamed_texts().0.as_str()), (200, "ok"));
        assert!(reply.body.ends_with("data: [DONE]\n\n"), "{}", reply.body);
    }
    assert!(replies.iter().any(|reply| reply.body.starts_with(": waiting")));
    server.until_idle().await;
}

#[tokio::test]
async fn who_waited_in_vain_after_the_first_comment_gets_the_error_as_an_event() {
    let mut setup = hangs(1);
    setup.http.ping_interval = Duration::from_millis(20);
    setup.service.queue_wait_max = Duration::from_secs(2);
    let server = setup.start().await;
    let running = begin(&server, &chat(WHOLE)).await;
    server.until_running(1).await;
    let reply = server.chat(STREAMED).await;
    assert_eq!((reply.status, reply.is_whole), (200, true));
    assert!(reply.body.starts_with(": waiting"), "{}", reply.body);
    assert_eq!(reply.events().pop().expect("an event")["error"]["code"], "queue_timeout");
    assert!(!reply.body.contains("[DONE]"));
    drop(running);
    server.until_idle().await;
}

/// A status of its own is too late by then; the member that is at fault is the form's own all the same.
#[tokio::test]
async fn who_waited_is_told_what_is_wrong_in_the_words_of_the_form() {
    let long = "x".repeat(600);
    let forms = [
        ("/v1/chat/completions", json!({"messages": [{"role": "user", "content": long}]}), "/error/param", "messages"),
        ("/v1/completions", json!({"prompt": long}), "/error/param", "prompt"),
        (
            "/v1/messages",
            json!({"max_tokens": 9, "messages": [{"role": "user", "content": long}]}),
            "/error/param",
            "messages",
        ),
        ("/v1/responses", json!({"input": long}), "/param", "input"),
    ];
    for (path, mut body, place, param) in forms {
        let mut setup = hangs(1);
        setup.http.ping_interval = Duration::from_millis(20);
        let server = setup.start().await;
        let running = begin(&server, &chat(WHOLE)).await;
        server.until_running(1).await;
        (body["model"], body["stream"]) = (json!("fake/model"), json!(true));
        let mut client = begin(&server, &post(path, &body.to_string())).await;
        // Its status is sent with the first comment.
        client.readable().await.expect("a comment");
        drop(running);
        let reply = Reply::read(&mut client).await;
        assert_eq!(reply.status, 200, "{path}: {}", reply.body);
        let events = reply.events();
        let error = events.iter().find(|event| event.pointer(place).is_some()).expect("an error");
        assert_eq!(error.pointer(place), Some(&json!(param)), "{path}: {}", reply.body);
    }
}

#[tokio::test]
async fn who_leaves_the_line_after_the_first_comment_frees_the_place() {
    let mut setup = hangs(1);
    setup.http.ping_interval = Duration::from_millis(20);
    let server = setup.start().await;
    let running = begin(&server, &chat(WHOLE)).await;
    server.until_running(1).await;
    let waiting = begin(&server, &chat(STREAMED)).await;
    waiting.readable().await.expect("a comment");
    until_waiting(&server, 1, 0).await;
    drop(waiting);
    until_waiting(&server, 0, 0).await;
    drop(running);
    server.until_idle().await;
}

#[tokio::test]
async fn more_than_a_minute_may_have_is_429() {
    let mut setup = Setup::default().slots(4);
    setup.service.requests_per_minute_max = NonZeroU32::new(2);
    let server = setup.start().await;
    assert_eq!((server.chat(WHOLE).await.status, server.chat(WHOLE).await.status), (200, 200));
    let reply = server.chat(WHOLE).await;
    assert_eq!((reply.status, reply.error().0.as_str()), (429, "rate_limited"));
    let seconds: u64 = reply.header("retry-after").expect("when").parse().expect("seconds");
    assert!((25..=30).contains(&seconds), "{seconds}");
}

#[tokio::test]
async fn long_prompts_fill_the_line_by_their_length() {
    let mut setup = hangs(8);
    setup.service.queue_tokens_max = 1_000;
    let server = setup.start().await;
    let _running = begin(&server, &chat(WHOLE)).await;
    server.until_running(1).await;
    let long = WHOLE.replace("Hi", &"word ".repeat(1_000));
    let _waiting = begin(&server, &chat(&long)).await;
    until_waiting(&server, 1, 0).await;
    assert!(server.metric("outrigger_prompt_tokens_waiting", MODEL) > 1_200);
    assert_eq!(server.chat(&long).await.error().0, "queue_full");
    // Somebody else's short one takes its place.
    let _short = begin(&server, &with(&[(CALLER, "other")], WHOLE)).await;
    while server.metric("outrigger_prompt_tokens_waiting", MODEL) > 1_000 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    until_waiting(&server, 1, 0).await;
}

#[tokio::test]
async fn the_line_can_be_asked_about() {
    let server = hangs(4).start().await;
    let _running = begin(&server, &with(&[(CALLER, "a")], WHOLE)).await;
    server.until_running(1).await;
    let _waiting = begin(&server, &with(&[(CALLER, "b"), ("X-Request-Priority", "batch")], WHOLE)).await;
    until_waiting(&server, 0, 1).await;
    let requests = server.get("/readyz?verbose").await.json()["requests"].clone();
    let shown = ["running", "waiting", "batch_waiting", "callers"].map(|name| requests[name].as_u64());
    assert_eq!(shown, [Some(1), Some(1), Some(1), Some(2)], "{requests}");
    assert_eq!(server.get("/readyz").await.body, r#"{"status":"ok"}"#);
}

#[tokio::test]
async fn headers_that_make_no_sense_are_refused() {
    let server = Setup::default().start().await;
    for header in [("X-Request-Timeout", "soon"), ("X-Request-Priority", "now")] {
        let reply = server.send(&with(&[header], WHOLE)).await;
        assert_eq!((reply.status, reply.error().0.as_str()), (400, "invalid_header"));
        assert!(reply.error().1.contains(&header.0.to_ascii_lowercase()), "{}", reply.error().1);
    }
}
