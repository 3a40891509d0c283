//! A plugin that breaks its contract ends its own request, and nobody else's.

use std::path::PathBuf;

use serde_json::{Value, json};
use tempfile::TempDir;
use tests::host::{Host, Reply};
use tests::markov::Markov;

struct Setup {
    folder: TempDir,
    model: PathBuf,
}

impl Setup {
    /// A model without an end, and the plugin that misbehaves when a header tells it to.
    fn new() -> (Self, Host) {
        let folder = tempfile::tempdir().expect("a folder");
        let model = folder.path().join("tiny.gguf");
        Markov::default().context_length(8192).endless(&["tick ", "tock "]).write(&model).expect("a written model");
        let this = Self { folder, model };
        let component = this.folder.path().join("misbehaving.wasm");
        std::fs::write(&component, bundled::MISBEHAVING).expect("a written component");
        let config = this.folder.path().join("outrigger.toml");
        let text = format!(
            "[[plugin]]\nname = \"misbehaving\"\nfrom = '{}'\nstages = {{ policy = 1, postprocess = 2 }}\n\
             grants = {{ headers = [\"x-behaviour\"], kv = [\"store\"], metrics = [{{ name = \"counted\", kind = \"counter\" }}] }}\n\
             # Time enough to grow page by page into the limit on memory.\n\
             limits = {{ policy_ms = 500, push_ms = 500, request_ms = 2000 }}\n",
            component.display()
        );
        std::fs::write(&config, text).expect("a written configuration");
        let host = Host::serve(&this.model, &["--max-concurrency=4", "--config", &config.display().to_string()]);
        (this, host)
    }
}

fn request(max_tokens: u32) -> Value {
    json!({"model": "tiny", "messages": [{"role": "user", "content": "go"}], "max_tokens": max_tokens})
}

fn misbehave(host: &Host, behaviour: &str) -> Reply {
    host.chat_with(&request(8), &[("x-behaviour", behaviour)])
}

#[test]
fn each_fault_ends_its_own_request_while_another_streams_on() {
    let (_setup, host) = Setup::new();
    let mut stream = host.stream(&request(8_000));
    assert_eq!(stream.status, 200);
    for (behaviour, kind) in [
        ("loop-in-policy", "timeout"),
        ("memory-in-policy", "memory"),
        ("memory-at-once-in-policy", "memory"),
        ("panic-in-policy", "trap"),
        ("host-calls-in-policy", "host-calls"),
        ("loop-in-push", "timeout"),
        ("memory-in-push", "memory"),
        ("panic-in-push", "trap"),
    ] {
        let reply = misbehave(&host, behaviour);
        assert_eq!(reply.status, 500, "{behaviour}: {}", reply.text);
        let error = &reply.json()["error"];
        assert_eq!(error["code"], "plugin_failed", "{behaviour}: {error}");
        let message = reply.error();
        assert!(message.contains("misbehaving") && message.contains(kind), "{behaviour}: {message}");
        assert!(!message.contains("told to"), "a guest's own words reached the client: {message}");
        assert!(
            stream
                .next_data()
                .is_some_and(|data| data.contains("tick") || data.contains("tock") || data.contains("role")),
            "the other stream stopped after {behaviour}"
        );
    }
    assert_eq!(host.chat(&request(2)).content(), "tick tock ", "whoever behaves is answered");
    assert_eq!(host.metric("outrigger_plugin_faults_total", &["plugin=\"misbehaving\""]), 8);
    assert_eq!(host.metric("outrigger_requests_running", &[]), 1, "the other stream has ended");
    drop(stream);
    host.wait_until("every instance is gone", |host| {
        host.metric("outrigger_plugin_instances", &[]) == 0 && host.metric("outrigger_requests_running", &[]) == 0
    });
}

#[test]
fn a_fault_in_mid_stream_is_an_event_and_no_whole_answer() {
    let (_setup, host) = Setup::new();
    let mut body = request(8);
    body["stream"] = true.into();
    let reply = host.chat_with(&body, &[("x-behaviour", "panic-in-push")]);
    assert!(!reply.text.contains("[DONE]"), "half an answer must not look whole: {}", reply.text);
    assert!(reply.text.contains("plugin_failed"), "{}", reply.text);
}
