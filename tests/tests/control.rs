//! `token-control` through the whole path: a plugin that says of every token which may come, on a real model.

use std::fmt::Write as _;

use serde_json::{Value, json};
use tempfile::TempDir;
use tests::host::{ALIKE, Host, demo_model};

const SMOL: &str = "SmolLM2-135M-Instruct.Q4_1";

/// A host whose tokens are controlled by `steps` (`plugins/misbehaving/src/control.rs` has the words).
fn serve(steps: &str, more: &str) -> (TempDir, Host) {
    // Digits are looked for in the whole vocabulary.
    serve_within(5_000, steps, more)
}

/// The same with so many milliseconds of CPU for a step.
fn serve_within(step_ms: u64, steps: &str, more: &str) -> (TempDir, Host) {
    let folder = tempfile::tempdir().expect("a folder");
    let component = folder.path().join("steps.wasm");
    std::fs::write(&component, bundled::MISBEHAVING).expect("a written component");
    let config = folder.path().join("outrigger.toml");
    let mut text = format!(
        "[[plugin]]\nname = \"steps\"\nfrom = '{}'\nstages = {{ token-control = 0 }}\ngrants = {{ token-control = true }}\n\
         config.steps = \"{steps}\"\n{more}",
        component.display()
    );
    writeln!(text, "limits = {{ step_ms = {step_ms}, request_ms = 60000 }}").expect("a string takes everything");
    std::fs::write(&config, text).expect("a written configuration");
    let host = Host::serve(&demo_model(), &["--max-concurrency=4", ALIKE, "--config", &config.display().to_string()]);
    (folder, host)
}

fn request(content: &str, extra: &Value) -> Value {
    let mut body =
        json!({"model": SMOL, "messages": [{"role": "user", "content": content}], "max_tokens": 24, "seed": 1});
    let members = body.as_object_mut().expect("an object");
    members.extend(extra.as_object().expect("an object").clone());
    body
}

#[test]
fn only_digits_come_and_a_stream_is_the_same_answer() {
    let (_folder, host) = serve("digits", "");
    for temperature in [0.0, 1.5] {
        let body = request("Tell me a story.", &json!({"temperature": temperature}));
        // The first computes the prompt that the others begin with.
        let [_, reply] = [host.chat(&body), host.chat(&body)];
        let text = reply.content();
        assert!(text.len() >= 24 && text.bytes().all(|byte| byte.is_ascii_digit()), "{text}");
        assert_eq!(reply.json()["usage"]["completion_tokens"], 24);
        let (streamed, lines) = host.stream(&body).finish();
        assert_eq!(lines.last().map(String::as_str), Some("[DONE]"), "{lines:?}");
        assert_eq!(streamed, text);
    }
    let several = host.chat(&request("Tell me a story.", &json!({"n": 3, "temperature": 1.0})));
    for choice in several.json()["choices"].as_array().expect("choices") {
        let text = choice["message"]["content"].as_str().expect("a text");
        assert!(!text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()), "{text}");
    }
    assert_eq!(host.metric("outrigger_plugin_faults_total", &[]), 0);
}

#[test]
fn the_grammar_of_the_request_holds_beside_it() {
    let (_folder, host) = serve("digits", "");
    let schema = json!({"type": "integer", "minimum": 100, "maximum": 999});
    let form = json!({"response_format": {"type": "json_schema", "json_schema": {"name": "it", "strict": true, "schema": schema}}});
    // A whole number has nothing behind it: the grammar ends the answer, and no token is needed for that.
    let regex = json!({"structured_outputs": {"regex": "[0-9a-z]{3}"}});
    for extra in [&regex, &form] {
        let reply = host.chat(&request("A number, please.", extra));
        let text = if reply.status == 200 { reply.content() } else { panic!("{extra}: {}", reply.text) };
        assert!(text.len() == 3 && text.bytes().all(|byte| byte.is_ascii_digit()), "{extra}: {text}");
    }
    // A grammar without digits leaves nothing: closed, and both are named.
    let reply = host.chat(&request("A word, please.", &json!({"structured_outputs": {"regex": "[a-z]{3}"}})));
    assert_eq!((reply.status, &reply.json()["error"]["code"]), (500, &json!("plugin_failed")), "{}", reply.text);
    let message = reply.error();
    assert!(
        message.contains("steps") && message.contains("token-control") && message.contains("contract"),
        "{message}"
    );
    assert!(host.log().contains("both by the plugin and by the grammar of the request"), "{}", host.log());
    assert_eq!(host.metric("outrigger_plugin_faults_total", &["stage=\"token-control\"", "kind=\"contract\""]), 1);
}

#[test]
fn forced_tokens_are_text_and_are_counted() {
    let (_folder, host) = serve("force-text Dear reader, this is forced.; stop", "");
    let body = request("Write a letter.", &json!({}));
    let reply = host.chat(&body);
    assert_eq!(reply.content(), "Dear reader, this is forced.");
    let json = reply.json();
    assert_eq!(json["choices"][0]["finish_reason"], "stop");
    let tokens = json["usage"]["completion_tokens"].as_u64().expect("a number");
    assert!((5..12).contains(&tokens), "{json}");
    assert_eq!(host.stream(&body).finish().0, "Dear reader, this is forced.");
    let cut = host.chat(&request("Write a letter.", &json!({"max_tokens": 2})));
    assert_eq!(cut.json()["choices"][0]["finish_reason"], "length", "{}", cut.text);
    let stopped = host.chat(&request("Write a letter.", &json!({"stop": [" reader"]})));
    assert_eq!(stopped.content(), "Dear");
}

/// Free tokens, then what the model makes of forced ones: the model goes on from what it was made to say.
#[test]
fn the_model_goes_on_from_what_was_forced() {
    let (_folder, host) = serve("force-text The capital of France is; free-for 1000", "");
    let text = host.chat(&request("What is the capital of France?", &json!({"temperature": 0.0}))).content();
    assert!(text.starts_with("The capital of France is Paris"), "{text}");
}

/// One answer's step never ends, and answers beside it get all their tokens meanwhile: were they its hostages they would wait for the
/// step's deadline, which is a minute of CPU. Who leaves takes the step along.
#[test]
fn a_slow_controller_holds_up_nobody_else() {
    let (_folder, host) =
        serve_within(60_000, "free-for 1000", "config.long = 200\nconfig.long-steps = \"free-for 4; loop\"\n");
    let story = "Once upon a time there was a counter. ".repeat(40);
    let mut slow = host.stream(&request(&story, &json!({"max_tokens": 100})));
    assert_eq!(slow.status, 200);
    // Its first token is there, so its first step is over and the next is the last.
    while !slow.next_data().expect("an event").contains("\"content\":\"") {}
    let steps =
        |host: &Host| host.metric("outrigger_plugin_calls_total", &["stage=\"token-control\"", "outcome=\"pass\""]);
    let before = steps(&host);
    let others: Vec<_> =
        ["one", "two", "three"].map(|word| host.stream(&request(word, &json!({"ignore_eos": true})))).into();
    for other in others {
        let (text, lines) = other.finish();
        assert_eq!(lines.last().map(String::as_str), Some("[DONE]"), "{lines:?}");
        assert!(!text.is_empty());
    }
    assert_eq!(steps(&host) - before, 3, "each of the three asked once, and the slow answer is in its step");
    assert_eq!(host.metric("outrigger_requests_running", &[]), 1, "the slow answer has ended");
    drop(slow);
    host.wait_until("its instance is gone", |host| {
        host.metric("outrigger_plugin_instances", &["plugin=\"steps\""]) == 0
    });
    assert_eq!(host.metric("outrigger_plugin_faults_total", &[]), 0);
}
