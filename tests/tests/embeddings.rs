//! Embedding and ranking with the real binary: `MiniLM`, and a tiny BERT whose vectors and scores are computed here as well.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tests::bert::{Bert, Pooling};
use tests::host::{Host, Reply, command, demo_model, embedding_model, run_python};

/// ggml's GELU looks 16-bit numbers up in a table.
const TOLERANCE: f64 = 5e-3;

fn tiny(pooling: Pooling) -> (tempfile::TempDir, PathBuf, Bert) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("tiny.gguf");
    let bert = Bert::new(pooling);
    bert.write(&path).expect("a model");
    (folder, path, bert)
}

fn serve(path: &Path, arguments: &[&str]) -> Host {
    Host::serve(path, &[&["--model-id=m"], arguments].concat())
}

fn embed(host: &Host, input: &Value) -> Reply {
    host.post("/v1/embeddings", &json!({"model": "m", "input": input}))
}

fn vectors(reply: &Reply) -> Vec<Vec<f64>> {
    assert_eq!(reply.status, 200, "{}", reply.text);
    let reply: Value = serde_json::from_str(&reply.text).expect("JSON");
    let data = reply["data"].as_array().expect("vectors");
    data.iter().map(|it| serde_json::from_value(it["embedding"].clone()).expect("numbers")).collect()
}

fn cosine(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

#[test]
fn the_official_client_embeds() {
    run_python("openai_embeddings.py", &Host::serve(&embedding_model(), &[]));
}

#[test]
fn many_inputs_at_once_are_each_what_they_are_alone_and_in_order() {
    let host = serve(&embedding_model(), &["--max-concurrency=4"]);
    let texts: Vec<String> =
        (1..=70).map(|number| format!("sentence {number} {}", "and so on ".repeat(number % 23))).collect();
    let together = vectors(&embed(&host, &json!(texts)));
    let alone = |number: usize| vectors(&embed(&host, &json!(texts[number]))).remove(0);
    std::thread::scope(|scope| {
        for start in 0..4 {
            let (together, alone) = (&together, &alone);
            scope.spawn(move || {
                for number in (start..together.len()).step_by(9) {
                    let same = cosine(&together[number], &alone(number));
                    assert!(same > 0.9999, "{number}: {same}");
                }
            });
        }
    });
}

#[test]
fn a_client_that_leaves_makes_room_at_once() {
    let host = serve(&embedding_model(), &[]);
    let text = "word ".repeat(500);
    // Some forty seconds of work.
    let body = json!({"model": "m", "input": vec![text; 400]}).to_string();
    let mut leaving = host.connect();
    let head = format!(
        "POST /v1/embeddings HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    leaving.write_all(head.as_bytes()).expect("it reads");
    leaving.write_all(body.as_bytes()).expect("it reads");
    host.wait_until("it works for the client", |host| {
        host.get("/metrics").text.contains("outrigger_requests_running{model=\"m\"} 1")
    });
    drop(leaving);
    let asked = Instant::now();
    assert_eq!(embed(&host, &json!("a")).status, 200);
    // Noticed within a quarter of a second; the rest is a busy machine's.
    let waited = asked.elapsed();
    assert!(waited < Duration::from_secs(5), "{waited:?}");
    let log = host.log();
    assert!(log.contains(r#""outcome":"cancelled""#) && log.contains(r#""endpoint":"embeddings""#), "{log}");
}

#[test]
fn vectors_are_those_of_plain_arithmetic() {
    let (_folder, path, bert) = tiny(Pooling::Cls);
    let host = serve(&path, &[]);
    for text in ["hi there", "zebra"] {
        let found = vectors(&embed(&host, &json!(text))).remove(0);
        let expected = bert.vector(&Bert::tokens(&[text]));
        let off = found.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
        assert!(off < TOLERANCE, "{text}: {off}");
    }
    let reply = embed(&host, &json!("a".repeat(63)));
    assert_eq!(reply.status, 400);
    assert!(reply.text.contains("`input[0]` has 65 tokens and the model takes 64"), "{}", reply.text);
    assert!(host.get("/v1/models").text.contains(r#""capability":"embedding","dimensions":32"#));
    assert!(host.get("/metrics").text.contains(r#"endpoint="embeddings""#));
}

#[test]
fn documents_are_ranked_by_the_models_scores() {
    let (_folder, path, bert) = tiny(Pooling::Rank);
    let host = serve(&path, &[]);
    let documents = ["the end", "zebra crossings", "it is me", "hi"];
    let body = json!({"model": "m", "query": "who is it", "documents": documents, "return_documents": true});
    let reply = host.post("/v1/rerank", &body);
    assert_eq!(reply.status, 200, "{}", reply.text);
    let reply: Value = serde_json::from_str(&reply.text).expect("JSON");
    let results = reply["results"].as_array().expect("results");
    let found: Vec<(usize, f64)> = results
        .iter()
        .map(|it| {
            let index = usize::try_from(it["index"].as_u64().expect("an index")).expect("small");
            assert_eq!(it["document"]["text"], documents[index]);
            (index, it["relevance_score"].as_f64().expect("a score"))
        })
        .collect();
    let mut expected: Vec<(usize, f64)> =
        documents.iter().map(|document| bert.score("who is it", document)).enumerate().collect();
    expected.sort_by(|a, b| b.1.total_cmp(&a.1));
    for (found, expected) in found.iter().zip(&expected) {
        assert_eq!(found.0, expected.0);
        assert!((found.1 - expected.1).abs() < TOLERANCE, "{found:?}, expected {expected:?}");
    }
    assert_eq!((found.len(), &reply["usage"]["total_tokens"]), (4, &json!(4 * 10 + 6 + 14 + 6 + 2)));
    assert_eq!(embed(&host, &json!("a")).status, 400);
}

#[test]
fn a_model_does_one_thing_and_says_which() {
    let host = serve(&demo_model(), &[]);
    for (path, body) in [
        ("/v1/embeddings", json!({"model": "m", "input": "a"})),
        ("/v1/rerank", json!({"model": "m", "query": "a", "documents": ["a"]})),
    ] {
        let reply = host.post(path, &body);
        assert_eq!(reply.status, 400, "{}", reply.text);
        assert!(reply.text.contains("answers chats and does not encode"), "{}", reply.text);
    }
}

#[test]
fn what_makes_no_sense_beside_an_embedding_model_is_refused_at_the_start() {
    let (_folder, path, _) = tiny(Pooling::Mean);
    let model = format!("--model=file:{}", path.display());
    let check = |arguments: &[&str], expected: &str| {
        let output = command().args(arguments).arg(&model).output().expect("it runs");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && said.contains(expected), "{arguments:?}: {said}");
    };
    let listen = "--listen=127.0.0.1:0";
    check(&["serve", listen, "--plugin=redact"], "plugins see conversations");
    check(&["serve", listen, "--context-length=65"], "the model was trained for 64 tokens");
    check(&["run", "Hi"], "encodes texts and answers none");
}
