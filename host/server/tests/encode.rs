//! `/v1/embeddings` and `/v1/rerank` over real sockets, with an engine that counts letters.

mod support;

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use inference::{EncodingEngine as _, EncodingTask, EngineFault, Token};
use serde_json::{Value, json};
use server::Drained;
use support::encoder::{CONTEXT_LENGTH, FakeEncoder, Fate, MARK};
use support::{Reply, Server, Setup, WHOLE, post};
use tokio::io::AsyncWriteExt as _;

const EMBEDDINGS: &str = r#"model="fake/model",stream="false",endpoint="embeddings""#;
const RERANK: &str = r#"model="fake/model",stream="false",endpoint="rerank""#;

async fn serving(encoder: &Arc<FakeEncoder>) -> Server {
    let server = Setup { is_ready: false, ..Setup::default() }.start().await;
    server.service.ready_to_encode(Arc::clone(encoder) as _);
    server
}

async fn embed(server: &Server, members: &Value) -> Reply {
    let mut body = json!({"model": "fake/model"});
    body.as_object_mut().expect("an object").extend(members.as_object().expect("an object").clone());
    server.send(&post("/v1/embeddings", &body.to_string())).await
}

async fn rerank(server: &Server, members: &Value) -> Reply {
    let mut body = json!({"model": "fake/model", "query": "aa"});
    body.as_object_mut().expect("an object").extend(members.as_object().expect("an object").clone());
    server.send(&post("/v1/rerank", &body.to_string())).await
}

fn vectors(reply: &Reply) -> Vec<Vec<f64>> {
    assert_eq!(reply.status, 200, "{}", reply.body);
    let json = reply.json();
    let data = json["data"].as_array().expect("vectors");
    for (index, vector) in data.iter().enumerate() {
        assert_eq!(vector["index"], index);
    }
    data.iter().map(|it| serde_json::from_value(it["embedding"].clone()).expect("numbers")).collect()
}

#[tokio::test]
async fn vectors_come_in_openais_form() {
    let encoder = FakeEncoder::embedder();
    let server = serving(&encoder).await;
    let reply = embed(&server, &json!({"input": ["aaabbbb", "c", "[CLS]"]})).await;
    assert_eq!(reply.status, 200, "{}", reply.body);
    insta::assert_snapshot!("embeddings", reply.body);

    let in_base64 = embed(&server, &json!({"input": "aaabbbb", "encoding_format": "base64"})).await.json();
    let bytes = BASE64.decode(in_base64["data"][0]["embedding"].as_str().expect("text")).expect("base64");
    let (numbers, rest) = bytes.as_chunks();
    let numbers: Vec<f32> = numbers.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect();
    assert_eq!((numbers, rest.len()), (vec![0.6, 0.8, 0.0], 0));
}

#[tokio::test]
async fn tokens_are_taken_as_they_are_and_texts_are_framed() {
    let encoder = FakeEncoder::embedder();
    let server = serving(&encoder).await;
    let token = |byte: u8| Token(u32::from(byte));
    for (input, expected) in [
        (json!("ab"), vec![vec![MARK, token(b'a'), token(b'b'), MARK]]),
        (json!([97, 98]), vec![vec![token(b'a'), token(b'b')]]),
        (json!([[97], [98]]), vec![vec![token(b'a')], vec![token(b'b')]]),
    ] {
        let reply = embed(&server, &json!({"input": input})).await;
        let count = expected.iter().map(Vec::len).sum::<usize>();
        assert_eq!(reply.json()["usage"], json!({"prompt_tokens": count, "total_tokens": count}));
        assert_eq!(encoder.taken.lock().expect("no panic").pop(), Some(expected));
    }
    let reply = embed(&server, &json!({"input": [[97], [256]]})).await;
    assert_eq!(reply.error(), ("invalid_value".to_owned(), reply.error().1));
    assert!(
        reply.body.contains("`input[1]` names token 256, and the tokens of this model are 0 to 255"),
        "{}",
        reply.body
    );
}

#[tokio::test]
async fn fewer_dimensions_are_cut_and_scaled_anew() {
    let server = serving(&FakeEncoder::embedder()).await;
    let input = |dimensions: u32| json!({"input": ["aaabbbbcc", "aaac"], "dimensions": dimensions});
    assert_eq!(vectors(&embed(&server, &input(2)).await), [[0.6, 0.8], [1.0, 0.0]]);
    assert_eq!(vectors(&embed(&server, &input(3)).await)[1].len(), 3);
    let reply = embed(&server, &input(4)).await;
    assert_eq!((reply.status, reply.json()["error"]["param"].as_str()), (400, Some("dimensions")));
    assert!(reply.body.contains("`dimensions` is 4, and the model's vectors have 3; ask for 1 to 3"), "{}", reply.body);
    assert_eq!(embed(&server, &input(0)).await.status, 400);
}

#[tokio::test]
async fn what_is_too_long_is_refused_by_its_place_or_cut_where_the_client_says_so() {
    let encoder = FakeEncoder::embedder();
    let server = serving(&encoder).await;
    let input = json!(["ab", "a".repeat(11)]);
    let reply = embed(&server, &json!({"input": input})).await;
    assert_eq!((reply.status, reply.error().0.as_str()), (400, "context_length_exceeded"));
    assert_eq!(reply.json()["error"]["param"], "input[1]");
    assert!(
        reply.body.contains("`input[1]` has 13 tokens and the model takes 12; shorten or split it"),
        "{}",
        reply.body
    );

    for (input, last) in [(input, MARK), (json!([[98, 98], vec![98; 13]]), Token(98))] {
        assert_eq!(embed(&server, &json!({"input": input, "truncate": true})).await.status, 200);
        let taken = encoder.taken.lock().expect("no panic").pop().expect("a request");
        assert_eq!((taken[1].len(), taken[1].last()), (CONTEXT_LENGTH as usize, Some(&last)));
    }
}

#[tokio::test]
async fn documents_come_best_first() {
    let server = serving(&FakeEncoder::ranker()).await;
    let documents = json!(["bbb", "aaa", {"text": "ab"}, "bbb"]);
    let reply = rerank(&server, &json!({"documents": documents, "top_n": 3, "return_documents": true})).await;
    let masked = reply.body.replace(reply.header("x-request-id").expect("a name"), "ID");
    insta::assert_snapshot!("rerank", masked);
    let reply = rerank(&server, &json!({"documents": documents})).await.json();
    let order: Vec<&Value> = reply["results"].as_array().expect("results").iter().map(|it| &it["index"]).collect();
    assert_eq!(order, [1, 2, 0, 3]);
    assert!(reply["results"][0].get("document").is_none());

    let reply = rerank(&server, &json!({"documents": ["a", "b".repeat(20)]})).await;
    assert!(reply.body.contains("`documents[1]` has 25 tokens and the model takes 12"), "{}", reply.body);
    let reply = rerank(&server, &json!({"documents": ["b".repeat(20)], "truncate": true})).await;
    assert_eq!(reply.status, 200, "{}", reply.body);
}

#[tokio::test]
async fn a_model_is_asked_for_what_it_does() {
    let chat = Setup::default().start().await;
    let (embedder, ranker) = (serving(&FakeEncoder::embedder()).await, serving(&FakeEncoder::ranker()).await);
    let documents = json!({"documents": ["a"]});
    for (reply, expected) in [
        (
            embed(&chat, &json!({"input": "a"})).await,
            "answers chats and does not encode; ask it with POST /v1/chat/completions",
        ),
        (rerank(&chat, &documents).await, "answers chats and does not encode; ask it with POST /v1/chat/completions"),
        (embedder.chat(WHOLE).await, "makes vectors of texts and nothing else; ask it with POST /v1/embeddings"),
        (
            rerank(&embedder, &documents).await,
            "makes vectors of texts and nothing else; ask it with POST /v1/embeddings",
        ),
        (ranker.chat(WHOLE).await, "ranks documents and does nothing else; ask it with POST /v1/rerank"),
        (
            embed(&ranker, &json!({"input": "a"})).await,
            "ranks documents and does nothing else; ask it with POST /v1/rerank",
        ),
    ] {
        let (code, message) = reply.error();
        assert_eq!((reply.status, code.as_str()), (400, "model_cannot"));
        assert_eq!(message, format!("the model `fake/model` {expected}"));
    }
    let reply = embed(&embedder, &json!({"input": "a", "model": "other"})).await;
    assert_eq!((reply.status, reply.error().0.as_str()), (404, "model_not_found"));
}

#[tokio::test]
async fn the_list_of_models_says_what_each_does() {
    insta::assert_snapshot!("embedding_models", serving(&FakeEncoder::embedder()).await.get("/v1/models").await.body);
    let ranker = serving(&FakeEncoder::ranker()).await.get("/v1/models/fake/model").await.json();
    assert_eq!(ranker["outrigger"]["capability"], "rerank");
}

// R20: the limiter guards every inference path.
#[tokio::test]
async fn one_at_a_time_and_the_line_is_bounded() {
    let encoder = FakeEncoder::new(EncodingTask::Embedding { dimensions: 3 }, 1, Fate::Hang);
    let mut setup = Setup { is_ready: false, ..Setup::default() };
    setup.service.queue_max = 1;
    let server = setup.start().await;
    server.service.ready_to_encode(Arc::clone(&encoder) as _);
    let body = r#"{"model":"fake/model","input":"a"}"#;
    let mut clients = Vec::new();
    for active in 1..=2 {
        let mut client = server.connect().await;
        client.write_all(post("/v1/embeddings", body).as_bytes()).await.expect("the server reads");
        until(|| server.service.active() == active).await;
        clients.push(client);
    }
    let reply = server.send(&post("/v1/embeddings", body)).await;
    assert_eq!((reply.status, reply.error().0.as_str()), (503, "queue_full"));
    assert!(reply.header("retry-after").is_some());
    assert_eq!(encoder.live(), 1, "the other waits for its slot");

    // Who leaves frees the slot, and is counted as no failure.
    drop(clients);
    until(|| server.service.active() == 0 && encoder.live() == 0).await;
    assert_eq!((server.metric("llm_requests", EMBEDDINGS), server.metric("llm_failures", EMBEDDINGS)), (3, 1));
}

#[tokio::test]
async fn what_runs_is_broken_off_when_the_grace_is_over() {
    let encoder = FakeEncoder::new(EncodingTask::Ranking, 1, Fate::Hang);
    let mut setup = Setup { is_ready: false, ..Setup::default() };
    setup.http.drain_grace = Duration::from_millis(100);
    let mut server = setup.start().await;
    server.service.ready_to_encode(Arc::clone(&encoder) as _);
    let mut client = server.connect().await;
    let body = r#"{"model":"fake/model","query":"a","documents":["a"]}"#;
    client.write_all(post("/v1/rerank", body).as_bytes()).await.expect("the server reads");
    until(|| encoder.live() == 1).await;
    server.begin_drain();
    let reply = Reply::read(&mut client).await;
    assert_eq!((reply.status, reply.error().0.as_str()), (503, "shutting_down"));
    assert_eq!(server.drained().await, Drained::Cancelled { requests: 1 });
}

// R21
#[tokio::test]
async fn requests_and_tokens_are_counted_by_endpoint() {
    let server = serving(&FakeEncoder::embedder()).await;
    assert_eq!(server.metric("llm_requests", EMBEDDINGS), 0, "a ready model shows its zeros");
    embed(&server, &json!({"input": ["a", "b"]})).await;
    embed(&server, &json!({"input": "a", "dimensions": 9})).await;
    assert_eq!(server.metric("llm_requests", EMBEDDINGS), 2);
    assert_eq!(server.metric("llm_failures", EMBEDDINGS), 1);
    assert_eq!(server.metric("llm_prompt_tokens_total", EMBEDDINGS), 6);
    assert_eq!(server.metric("llm_completion_tokens_total", EMBEDDINGS), 0);
    assert_eq!(server.metric("outrigger_http_responses_total", r#"route="embeddings",status="400""#), 1);

    let fault = EngineFault::Decode("it is broken".to_owned());
    let server = serving(&FakeEncoder::new(EncodingTask::Ranking, 1, Fate::Fail(fault))).await;
    let reply = rerank(&server, &json!({"documents": ["a"]})).await;
    assert_eq!((reply.status, reply.error().0.as_str()), (500, "engine_failed"));
    assert_eq!((server.metric("llm_requests", RERANK), server.metric("llm_failures", RERANK)), (1, 1));
}

#[tokio::test]
async fn what_a_web_page_could_send_is_refused() {
    let server = serving(&FakeEncoder::embedder()).await;
    for path in ["/v1/embeddings", "/v1/rerank"] {
        let request = post(path, r#"{"model":"fake/model"}"#);
        for (changed, status) in [
            (request.replace("localhost", "evil.example"), 403),
            (request.replace("\r\n\r\n", "\r\nOrigin: https://evil.example\r\n\r\n"), 403),
            (request.replace("application/json", "text/plain"), 415),
            (request.replace("POST", "GET"), 405),
            (post(path, &"[".repeat(1000)), 400),
            (request.clone(), 400),
        ] {
            assert_eq!(server.send(&changed).await.status, status, "{changed}");
        }
    }
    assert_eq!(server.service.active(), 0);
}

#[tokio::test]
async fn before_the_model_is_there_clients_are_told() {
    let server = Setup { is_ready: false, ..Setup::default() }.start().await;
    let reply = embed(&server, &json!({"input": "a"})).await;
    assert_eq!((reply.status, reply.error().0.as_str()), (503, "model_loading"));
    let encoder = FakeEncoder::embedder();
    server.service.ready_to_encode(Arc::clone(&encoder) as _);
    assert_eq!(encoder.card().id, "fake/model");
    assert_eq!(embed(&server, &json!({"input": "a"})).await.status, 200);
}

async fn until(holds: impl Fn() -> bool) {
    let started = std::time::Instant::now();
    while !holds() {
        assert!(started.elapsed() < Duration::from_secs(5), "it never came to that");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
