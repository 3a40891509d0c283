//! The bundled plugins, real, beside every form of the API: what a policy denies is denied, and what a filter masks is masked,
//! whichever way it is asked for.

use serde_json::{Value, json};
use tempfile::TempDir;
use tests::host::{Host, demo_model};

const SMOL: &str = "SmolLM2-135M-Instruct.Q4_1";

fn serve(config: &str) -> (TempDir, Host) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("outrigger.toml");
    std::fs::write(&path, config).expect("a configuration");
    let host = Host::serve(&demo_model(), &["--config", &path.display().to_string()]);
    (folder, host)
}

/// Every way to have the model read a text.
fn forms(host: &Host, text: &str) -> Vec<(&'static str, Value)> {
    let tokens = host.post("/tokenize", &json!({"prompt": text})).json()["tokens"].take();
    let messages = json!([{"role": "user", "content": text}]);
    let forms = [
        ("/v1/chat/completions", json!({"messages": messages})),
        ("/v1/completions", json!({"prompt": text})),
        ("/v1/completions", json!({"prompt": tokens})),
        ("/v1/messages", json!({"messages": messages})),
        ("/v1/responses", json!({"input": text})),
    ];
    let with = |(path, mut body): (&'static str, Value), stream: bool| {
        let tokens_max = if path == "/v1/responses" { "max_output_tokens" } else { "max_tokens" };
        body["model"] = json!(SMOL);
        body[tokens_max] = json!(24);
        body["temperature"] = json!(0);
        body["stream"] = json!(stream);
        (path, body)
    };
    let both = forms.into_iter().flat_map(|form| [with(form.clone(), false), with(form, true)]);
    both.collect()
}

#[test]
fn what_a_policy_denies_is_denied_in_every_form() {
    let (_folder, host) = serve(
        "[[plugin]]\nname = \"prompt-policy\"\nconfig = { deny = [\"(?i)project heron\"], rejections.denied.code = \"secret\" }\n",
    );
    for (path, body) in forms(&host, "Tell me of Project Heron.") {
        let reply = host.post(path, &body);
        assert!((400..500).contains(&reply.status), "{path} {body}: {}", reply.text);
        assert_eq!(reply.json()["error"]["code"], "secret", "{path}: {}", reply.text);
    }
    let rendered = host.post("/render", &json!({"model": SMOL, "prompt": "Project Heron"}));
    assert_eq!(rendered.json()["error"]["code"], "secret", "{}", rendered.text);
    assert_eq!(host.metric("llm_completion_tokens_total", &[]), 0, "the model was never asked");
    for (path, body) in forms(&host, "Tell me of herons.") {
        assert_eq!(host.post(path, &body).status, 200, "{path} {body}");
    }
}

#[test]
fn what_a_filter_masks_is_masked_in_every_form() {
    // What the model will say is not known, so every word of two letters and more counts as secret.
    let shapes = (2..=30).map(|letters| format!("{{ kind = \"word\", shape = \"{}\" }}", "@".repeat(letters)));
    let shapes: Vec<String> = shapes.collect();
    let (_folder, host) = serve(&format!(
        "[[plugin]]\nname = \"redact\"\n[plugin.config]\nreplacement = \"*\"\nshapes = [{}]\n",
        shapes.join(",")
    ));
    let has_word = |text: &str| text.split(|letter: char| !letter.is_ascii_alphabetic()).any(|word| word.len() > 1);
    for (path, body) in forms(&host, "Say hello.") {
        let reply = host.post(path, &body);
        assert_eq!(reply.status, 200, "{path}: {}", reply.text);
        let events: Vec<Value> = if body["stream"] == true {
            let data = reply.text.lines().filter_map(|line| line.strip_prefix("data: ")).filter(|it| *it != "[DONE]");
            data.map(|data| serde_json::from_str(data).expect("JSON")).collect()
        } else {
            vec![reply.json()]
        };
        let texts = events.iter().flat_map(|event| {
            [
                &event["choices"][0]["message"]["content"],
                &event["choices"][0]["delta"]["content"],
                &event["choices"][0]["text"],
                &event["content"][0]["text"],
                &event["delta"]["text"],
                &event["output"][0]["content"][0]["text"],
                &event["part"]["text"],
                &event["item"]["content"][0]["text"],
            ]
        });
        let deltas = events.iter().filter(|event| event["type"] == "response.output_text.delta").map(|it| &it["delta"]);
        let said: Vec<&str> = texts.chain(deltas).filter_map(Value::as_str).collect();
        assert!(said.iter().any(|text| text.contains('*')), "{path}: {}", reply.text);
        assert!(!said.iter().any(|text| has_word(text)), "{path}: {said:?}");
    }
}

#[test]
fn a_prompt_without_messages_has_no_place_for_a_system_prompt() {
    let (_folder, host) = serve(
        "[[plugin]]\nname = \"prompt-policy\"\ngrants = { modify = [\"messages\"] }\n\
         config = { system_prompt = { text = \"You are a heron.\" } }\n",
    );
    for (path, body) in forms(&host, "Who are you?") {
        let reply = host.post(path, &body);
        if path == "/v1/completions" {
            assert_eq!(
                (reply.status, &reply.json()["error"]["code"]),
                (400, &json!("invalid_prompt")),
                "{}",
                reply.text
            );
            assert!(reply.error().contains("prompt-policy"), "{}", reply.text);
        } else {
            assert_eq!(reply.status, 200, "{path}: {}", reply.text);
        }
    }
    // What the policy added is there to be seen.
    let body = json!({"model": SMOL, "messages": [{"role": "user", "content": "Who are you?"}]});
    let rendered = host.post("/render", &body).json();
    assert!(rendered["prompt"].as_str().is_some_and(|prompt| prompt.contains("You are a heron.")), "{rendered}");
    let counted = host.post("/v1/messages/count_tokens", &body).json();
    assert_eq!(counted["input_tokens"], rendered["count"]);
}
