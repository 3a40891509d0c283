//! Chats through the whole path: real binary, real sockets, both bundled plugins.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tempfile::TempDir;
use tests::host::{Host, demo_model};
use tests::markov::Markov;

/// A model that says the pieces, one token each.
fn model_saying(pieces: &[&str]) -> (TempDir, PathBuf) {
    written(&Markov::default().chain(pieces))
}

fn written(model: &Markov) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("tiny.gguf");
    model.write(&path).expect("a written model");
    (folder, path)
}

fn request(model: &str) -> Value {
    json!({"model": model, "messages": [{"role": "user", "content": "say it"}], "temperature": 0})
}

#[test]
fn a_stream_is_role_deltas_finish_usage_done() {
    let (_folder, path) = model_saying(&["Hel", "lo", " there"]);
    let host = Host::serve(&path, &[]);
    let mut body = request("tiny");
    body["stream_options"] = json!({"include_usage": true});
    let (content, lines) = host.stream(&body).finish();
    assert_eq!(content, "Hello there");

    let events: Vec<Value> = lines.iter().filter_map(|line| serde_json::from_str(line).ok()).collect();
    assert_eq!(lines.last().map(String::as_str), Some("[DONE]"));
    assert_eq!(events.len() + 1, lines.len(), "every other line is JSON");
    assert!(events.iter().all(|event| event["object"] == "chat.completion.chunk" && event["id"] == events[0]["id"]));
    assert_eq!(events[0]["choices"][0]["delta"]["role"], "assistant");
    let finish = &events[events.len() - 2];
    assert_eq!(finish["choices"][0]["finish_reason"], "stop");
    let usage = &events[events.len() - 1];
    assert_eq!(usage["choices"], json!([]));
    // Three pieces and the token that ended it.
    assert_eq!(usage["usage"]["completion_tokens"], 4);
    assert_eq!(
        usage["usage"]["total_tokens"].as_u64(),
        usage["usage"]["prompt_tokens"].as_u64().map(|prompt| prompt + 4)
    );
}

#[test]
fn buffered_and_streamed_answers_are_equal() {
    // A character cut into bytes, and pieces that a filter has to hold back.
    let (_folder, path) =
        model_saying(&["<0xF0>", "<0x9F>", "<0x9A>", "<0xA3>", " mail", " jo", "e@ex", "ample", ".org", " or", " +1"]);
    let host = Host::serve(&path, &["--plugin=redact"]);
    let buffered = host.chat(&request("tiny"));
    let (streamed, _) = host.stream(&request("tiny")).finish();
    assert_eq!(buffered.content(), streamed);
    assert!(streamed.starts_with('\u{1F6A3}'), "{streamed:?}");
    assert!(!streamed.contains("joe") && !streamed.contains("example.org"), "{streamed:?}");
    assert!(streamed.contains("mail") && streamed.contains("or +1"), "the rest stays: {streamed:?}");
}

#[test]
fn an_address_is_masked_wherever_the_tokens_break() {
    for pieces in [
        &["joe@example.org"][..],
        &["j", "oe@", "example", ".", "org"],
        &["joe@example.or", "g"],
        &["joe", "@", "example.org", " bye"],
    ] {
        let (_folder, path) = model_saying(pieces);
        let host = Host::serve(&path, &["--plugin=redact"]);
        let (streamed, _) = host.stream(&request("tiny")).finish();
        assert!(!streamed.contains("joe") && !streamed.contains("example"), "{pieces:?} gave {streamed:?}");
        assert_eq!(host.chat(&request("tiny")).content(), streamed);
    }
}

// R21
#[test]
fn the_five_metrics_have_their_exact_names_and_count() {
    let (_folder, path) = model_saying(&["Hel", "lo"]);
    let host = Host::serve(&path, &[]);
    assert_eq!(host.chat(&request("tiny")).status, 200);
    let _ = host.stream(&request("tiny")).finish();
    assert_eq!(host.chat(&json!({"model": "tiny", "messages": []})).status, 400);

    host.wait_until("both requests are counted", |host| {
        host.metric("llm_requests", &["model=\"tiny\"", "stream=\"true\""]) == 1
            && host.metric("llm_requests", &["model=\"tiny\"", "stream=\"false\""]) >= 1
    });
    assert_eq!(host.metric("llm_completion_tokens_total", &["model=\"tiny\""]), 6, "twice two pieces and an end");
    assert!(host.metric("llm_prompt_tokens_total", &[]) > 0);
    assert!(host.metric("llm_internal_request_duration_ms_count", &[]) >= 2);
    let text = host.get("/metrics").text;
    for name in ["llm_requests", "llm_internal_request_duration_ms", "llm_prompt_tokens_total"] {
        assert!(text.contains(&format!("# TYPE {name} ")), "{name} is missing:\n{text}");
    }
    assert!(!text.contains("llm_requests_total") && !text.contains("_total_total"), "{text}");
}

#[test]
fn stop_texts_and_lengths_end_the_answer() {
    let (_folder, path) = model_saying(&["one", " two", " three", " four"]);
    let host = Host::serve(&path, &[]);
    let mut body = request("tiny");
    body["stop"] = json!([" th"]);
    let reply = host.chat(&body).json();
    assert_eq!(reply["choices"][0]["message"]["content"], "one two");
    assert_eq!(reply["choices"][0]["finish_reason"], "stop");

    let mut body = request("tiny");
    body["max_tokens"] = json!(2);
    let reply = host.chat(&body).json();
    assert_eq!(reply["choices"][0]["message"]["content"], "one two");
    assert_eq!(reply["choices"][0]["finish_reason"], "length");
    assert_eq!(reply["usage"]["completion_tokens"], 2);
}

#[test]
fn several_requests_are_answered_at_once() {
    let (_folder, path) = written(&Markov::default().context_length(8192).endless(&["tick ", "tock "]));
    let host = Host::serve(&path, &["--max-concurrency=2"]);
    let mut endless = request("tiny");
    endless["max_tokens"] = json!(8000);
    let mut first = host.stream(&endless);
    let mut short = request("tiny");
    short["max_tokens"] = json!(4);
    assert_eq!(host.chat(&short).content(), "tick tock tick tock ");
    assert_eq!(host.metric("outrigger_requests_running", &[]), 1, "the short one waited for the first");
    assert!(first.next_data().is_some(), "the first goes on");
}

/// What a user types stays text: only the template may write control tokens.
#[test]
fn a_user_cannot_end_the_turn() {
    let (_folder, path) = model_saying(&["fine"]);
    let host = Host::serve(&path, &[]);
    let tokens = |content: &str| {
        let body = json!({"model": "tiny", "messages": [{"role": "user", "content": content}], "max_tokens": 1});
        host.chat(&body).json()["usage"]["prompt_tokens"].as_u64().expect("a count")
    };
    // Ten characters that no merge joins in this vocabulary, whatever they spell.
    assert_eq!(tokens("<|im_end|>"), tokens("0123456789"));
}

#[test]
fn a_model_without_a_template_falls_back_and_says_so() {
    let (_folder, path) = written(&Markov::default().without_chat_template().chain(&["ok"]));
    let host = Host::serve(&path, &[]);
    assert_eq!(host.chat(&request("tiny")).content(), "ok");
    let log = host.log();
    assert!(log.contains("\"WARN\"") && log.contains("template"), "no warning:\n{log}");
}

#[test]
fn the_real_model_knows_the_capital_of_germany() {
    let host = Host::serve(&demo_model(), &["--plugin=redact"]);
    let body = json!({
        "model": model_id(&demo_model()),
        "messages": [{"role": "user", "content": "What is the capital of Germany?"}],
        "temperature": 0,
        "max_tokens": 32,
    });
    let buffered = host.chat(&body);
    assert!(buffered.content().contains("Berlin"), "{}", buffered.text);
    let (streamed, _) = host.stream(&body).finish();
    assert_eq!(streamed, buffered.content());
}

/// Greedy answers in which each token is far ahead of the next likely one (0.8 and more in the logarithm): whatever the processor,
/// the batches and what was computed before, they are these.
#[test]
fn the_real_model_says_what_it_always_said() {
    let host = Host::serve(&demo_model(), &["--max-concurrency=4", "--context-length=1024"]);
    let ask = |question: &str, members: &Value| {
        let mut body = json!({
            "model": model_id(&demo_model()),
            "messages": [{"role": "user", "content": question}],
            "temperature": 0,
            "max_tokens": 24,
        });
        body.as_object_mut().expect("an object").extend(members.as_object().expect("an object").clone());
        body
    };
    let golden = [
        ("What is the capital of France? Answer with one word.", "The capital of France is Paris."),
        ("What is the capital of Germany?", "The capital of Germany is Berlin."),
        ("Count from one to ten, in digits, separated by commas.", "123456789"),
    ];
    for round in 0..2 {
        for (question, answer) in golden {
            let reply = host.chat(&ask(question, &json!({})));
            assert!(reply.content().starts_with(answer), "round {round}, {question}: {}", reply.content());
        }
    }
    // Side by side, and each of several answers to one request.
    let replies: Vec<_> = std::thread::scope(|scope| {
        let asked: Vec<_> =
            golden.iter().map(|(question, _)| scope.spawn(|| host.chat(&ask(question, &json!({}))))).collect();
        asked.into_iter().map(|asked| asked.join().expect("an answer")).collect()
    });
    for (reply, (question, answer)) in replies.iter().zip(golden) {
        assert!(reply.content().starts_with(answer), "side by side, {question}: {}", reply.content());
    }
    let (question, answer) = golden[0];
    let reply = host.chat(&ask(question, &json!({"n": 6})));
    let choices = reply.json()["choices"].as_array().expect("choices").clone();
    assert_eq!(choices.len(), 6);
    for choice in &choices {
        let content = choice["message"]["content"].as_str().expect("content");
        assert!(content.starts_with(answer), "{choice}");
    }
    // The prompt was there, and counts once.
    let usage = &reply.json()["usage"];
    assert!(usage["prompt_tokens"].as_u64() < Some(60), "{usage}");
    assert!(usage["prompt_tokens_details"]["cached_tokens"].as_u64() > Some(20), "{usage}");

    // Each answer to one request has a seed of its own.
    let drawn = json!({"temperature": 1.5, "seed": 7, "n": 3});
    let reply = host.chat(&ask("Tell me something.", &drawn)).json();
    let choices = reply["choices"].as_array().expect("choices");
    let texts: std::collections::BTreeSet<_> =
        choices.iter().map(|choice| choice["message"]["content"].as_str().expect("a text")).collect();
    assert_eq!(texts.len(), 3, "{texts:?}");
}

fn model_id(path: &Path) -> String {
    path.file_stem().expect("a name").to_string_lossy().into_owned()
}
