//! Several answers to one request (`n`): for plugins it is one request.

use serde_json::{Value, json};
use tempfile::TempDir;
use tests::host::Host;
use tests::markov::Markov;

/// A model that says three words, behind a policy that lets two requests pass in forty days, a filter that masks one of the words, and
/// another that notes what it has masked.
fn serve(slots: u32) -> (TempDir, Host) {
    let folder = tempfile::tempdir().expect("a folder");
    let model = folder.path().join("tiny.gguf");
    Markov::default().chain(&["mail ", "a@b.example ", "now"]).write(&model).expect("a written model");
    let config = folder.path().join("outrigger.toml");
    let text = "[[plugin]]\nname = \"prompt-policy\"\ngrants = { kv = [\"prompt-policy\"] }\n\
                config = { rate = { requests = 2, seconds = 3456000 } }\n\n\
                [[plugin]]\nname = \"redact\"\n";
    std::fs::write(&config, text).expect("a written configuration");
    let slots = format!("--max-concurrency={slots}");
    let host = Host::serve(&model, &[&slots, "--config", &config.display().to_string()]);
    (folder, host)
}

fn chat(members: &Value) -> Value {
    let mut body = json!({"model": "tiny", "messages": [{"role": "user", "content": "go"}]});
    body.as_object_mut().expect("an object").extend(members.as_object().expect("members").clone());
    body
}

/// Calls of a plugin in a stage.
fn calls(host: &Host, plugin: &str, stage: &str) -> u64 {
    host.metric("outrigger_plugin_calls_total", &[&format!("plugin=\"{plugin}\""), &format!("stage=\"{stage}\"")])
}

fn is_idle(host: &Host) -> bool {
    host.metric("outrigger_plugin_instances", &[]) == 0 && host.metric("outrigger_requests_running", &[]) == 0
}

#[test]
fn a_policy_counts_a_request_once_however_many_answers_it_has() {
    for slots in [1, 3] {
        let (_folder, host) = serve(slots);
        for round in 1..=2 {
            let reply = host.chat(&chat(&json!({"n": 3})));
            assert_eq!(reply.status, 200, "request {round} in {slots} slots: {}", reply.text);
            let reply = reply.json();
            for choice in reply["choices"].as_array().expect("choices") {
                assert_eq!(choice["message"]["content"], "mail [email] now", "{reply}");
            }
            // The filter works on each of them.
            let noted: Vec<_> = reply["outrigger"]["annotations"].as_array().expect("notes").iter().collect();
            assert_eq!(noted.len(), 3, "{reply}");
            assert!(noted.iter().all(|note| note["name"] == "redact.email" && note["value"] == "1"), "{reply}");
        }
        assert_eq!((calls(&host, "prompt-policy", "policy"), calls(&host, "chat-template", "prompt")), (2, 2));
        let reply = host.chat(&chat(&json!({"n": 3})));
        assert_eq!((reply.status, &reply.json()["error"]["code"]), (429, &json!("rate_limit_exceeded")));
        host.wait_until("every instance is gone", is_idle);
    }
}

#[test]
fn each_prompt_of_a_completion_is_a_request_to_policies() {
    let (_folder, host) = serve(2);
    let body = json!({"model": "tiny", "prompt": ["go", "stay"], "n": 4, "max_tokens": 8});
    let reply = host.post("/v1/completions", &body);
    assert_eq!(reply.status, 200, "{}", reply.text);
    assert_eq!(reply.json()["choices"].as_array().map(Vec::len), Some(8), "{}", reply.text);
    assert_eq!(calls(&host, "prompt-policy", "policy"), 2);
    let reply = host.post("/v1/completions", &body);
    assert_eq!((reply.status, &reply.json()["error"]["code"]), (429, &json!("rate_limit_exceeded")), "{}", reply.text);
}

#[test]
fn who_leaves_takes_all_answers_along() {
    let (_folder, host) = serve(2);
    let stream = host.stream(&chat(&json!({"n": 8, "stream": true, "ignore_eos": true, "max_tokens": 4000})));
    assert_eq!(stream.status, 200);
    host.wait_until("two of them run", |host| host.metric("outrigger_plugin_instances", &[]) > 0);
    drop(stream);
    host.wait_until("everything is given back", is_idle);
}
