//! The client against a server of one answer, written out byte by byte.

use std::net::Ipv4Addr;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::sync::oneshot;

use super::*;

const HEAD: &str = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n";
const ROLE: &str = "data: {\"choices\":[{\"delta\":{\"role\":\"assistant\",\"content\":\"\"}}]}\n\n";
const ONE: &str = "data: {\"choices\":[{\"delta\":{\"content\":\"one\"}}]}\n\n";
const TWO: &str = ": a comment\n\ndata: {\"choices\":[{\"delta\":{\"reasoning_content\":\"two\"}}]}\n\n";
const USAGE: &str = "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":7,\"completion_tokens\":5,\"prompt_tokens_details\":{\"cached_tokens\":3}}}\n\ndata: [DONE]\n\n";

fn question() -> Question {
    Question {
        system: "s".to_owned(),
        user: "u".to_owned(),
        tokens_max: 4,
        sampling: Sampling::Greedy,
        extra: json!({"more": 1}),
    }
}

/// A server that answers its one client with `parts`, `pause` before each but the first. Sends what it was asked, and
/// whether the client was gone before the end.
async fn server(
    parts: Vec<&'static str>,
    pause: Duration,
) -> (Endpoint, oneshot::Receiver<Value>, oneshot::Receiver<bool>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let endpoint = Endpoint { address: listener.local_addr().unwrap(), pid: std::process::id(), ignores_end: true };
    let (asked, was_asked) = oneshot::channel();
    let (left, has_left) = oneshot::channel();
    tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        let mut request = Vec::new();
        let body = loop {
            socket.read_buf(&mut request).await.unwrap();
            let text = String::from_utf8_lossy(&request);
            let body = text.split_once("\r\n\r\n").and_then(|(_, body)| serde_json::from_str(body).ok());
            if let Some(body) = body {
                break body;
            }
        };
        let _ = asked.send(body);
        let mut is_gone = false;
        for (index, part) in parts.into_iter().enumerate() {
            if index > 0 {
                let mut nothing = [0; 1];
                is_gone = matches!(timeout(pause, socket.read(&mut nothing)).await, Ok(Ok(0) | Err(_)));
            }
            if is_gone || socket.write_all(part.as_bytes()).await.is_err() {
                break;
            }
        }
        let _ = left.send(is_gone);
    });
    (endpoint, was_asked, has_left)
}

#[tokio::test]
async fn only_text_counts_and_each_piece_has_its_time() {
    let pause = Duration::from_millis(30);
    let (endpoint, asked, _) = server(vec![HEAD, ROLE, ONE, TWO, USAGE], pause).await;
    let answer = ask(endpoint, &question()).await.unwrap();
    assert_eq!(answer.pieces_at.len(), 2);
    assert!(answer.pieces_at.is_sorted() && answer.sent_at < answer.pieces_at[0]);
    let usage = answer.usage.unwrap();
    assert_eq!((usage.prompt_tokens, usage.completion_tokens, usage.prompt_tokens_details.cached_tokens), (7, 5, 3));
    // Five tokens by the server's count, so four after the first text.
    let between = (answer.pieces_at[1] - answer.pieces_at[0]).as_secs_f64();
    assert!((answer.decode_rate().unwrap() - 4.0 / between).abs() < 1e-9);
    let asked = asked.await.unwrap();
    assert_eq!((&asked["ignore_eos"], &asked["more"], &asked["temperature"]), (&json!(true), &json!(1), &json!(0)));
}

#[tokio::test]
async fn who_has_enough_leaves_at_once() {
    let (endpoint, _, has_left) = server(vec![HEAD, ONE, TWO, USAGE], Duration::from_millis(200)).await;
    let answer = ask_until(endpoint, &question(), |pieces| pieces.len() == 1).await.unwrap();
    assert_eq!((answer.pieces_at.len(), answer.tokens()), (1, 1), "by pieces, where nobody counted");
    assert!(has_left.await.unwrap(), "the server saw its client leave");
}

#[tokio::test]
async fn who_loses_patience_leaves_at_once() {
    let (endpoint, _, has_left) = server(vec![HEAD, ONE], Duration::from_secs(5)).await;
    ask_and_leave(endpoint, &question(), Duration::from_millis(50)).await.unwrap();
    assert!(has_left.await.unwrap(), "the server saw its client leave");
}

#[tokio::test]
async fn an_answer_that_came_too_early_is_an_error() {
    let (endpoint, ..) = server(vec![HEAD, ONE], Duration::from_millis(1)).await;
    let error = ask_and_leave(endpoint, &question(), Duration::from_secs(20)).await.unwrap_err();
    assert!(error.to_string().contains("too short"), "{error}");
}

#[tokio::test]
async fn a_refusal_says_why() {
    let refusal = "HTTP/1.1 400 Bad Request\r\ncontent-length: 9\r\n\r\nunknown!!";
    let (endpoint, ..) = server(vec![refusal], Duration::ZERO).await;
    let error = ask(endpoint, &question()).await.unwrap_err();
    assert!(error.is::<Refused>());
    assert_eq!(error.to_string(), "status 400: unknown!!");
}

#[tokio::test]
async fn a_stream_that_ends_in_an_error_is_one() {
    let (endpoint, ..) = server(vec![HEAD, ONE, "data: {\"error\":{\"message\":\"no\"}}\n\n"], Duration::ZERO).await;
    let error = ask(endpoint, &question()).await.unwrap_err();
    assert!(error.to_string().contains("no"), "{error}");
}

#[test]
fn a_gap_counts_from_when_it_reaches_beyond() {
    let start = Instant::now();
    let at = |millis| start + Duration::from_millis(millis);
    let answer = Answer {
        sent_at: start,
        pieces_at: vec![at(0), at(500), at(510), at(600), at(620)],
        ended_at: at(620),
        usage: None,
        cpu_first: Duration::ZERO,
        cpu_rest: Duration::ZERO,
    };
    assert_eq!(answer.gap_max(at(0)), Duration::from_millis(500));
    assert_eq!(answer.gap_max(at(505)), Duration::from_millis(90), "the long one was over by then");
    assert_eq!(answer.gap_max(at(499)), Duration::from_millis(500), "it was not over by then");
    assert_eq!(answer.gap_max(at(700)), Duration::ZERO);
}
