//! What llama-server's own suite checks of its answers and ours did not, in our words.

use serde_json::{Map, Value, json};
use tempfile::TempDir;
use tests::host::{ALIKE, Host, demo_model};
use tests::markov::Markov;

const MODEL: &str = "SmolLM2-135M-Instruct.Q4_1";

/// A tiny model, of which every answer is known.
fn tiny() -> (TempDir, Host) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("tiny.gguf");
    Markov::default().chain(&["One", " two", " three"]).write(&path).expect("a written model");
    let host = Host::serve(&path, &["--max-concurrency=2"]);
    (folder, host)
}

fn with(mut body: Value, members: Value) -> Value {
    let Value::Object(members) = members else { panic!("{members} is no object") };
    body.as_object_mut().expect("an object").extend(members);
    body
}

/// The data of a stream's events.
fn events(host: &Host, path: &str, body: Value) -> Vec<Value> {
    let reply = host.post(path, &with(body, json!({"stream": true})));
    assert_eq!(reply.status, 200, "{}", reply.text);
    let data = reply.text.lines().filter_map(|line| line.strip_prefix("data: ")).filter(|data| *data != "[DONE]");
    data.map(|data| serde_json::from_str(data).expect("JSON")).collect()
}

#[test]
fn a_prompt_is_the_same_as_text_as_tokens_and_beside_itself() {
    let (_folder, host) = tiny();
    let text = "xyz ab";
    let tokens = host.post("/tokenize", &json!({"prompt": text})).json()["tokens"].clone();
    assert!(tokens.as_array().is_some_and(|tokens| tokens.len() > 3), "{tokens}");
    let complete = |prompt: Value| {
        let body = json!({"model": "tiny", "prompt": prompt, "max_tokens": 8, "temperature": 0});
        let reply = host.post("/v1/completions", &body);
        assert_eq!(reply.status, 200, "{}", reply.text);
        let choices = reply.json()["choices"].as_array().expect("choices").clone();
        choices.into_iter().map(|choice| choice["text"].as_str().expect("a text").to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(complete(json!(text)), ["cdefghij"]);
    assert_eq!(complete(tokens.clone()), ["cdefghij"]);
    assert_eq!(complete(json!([text, tokens])), ["cdefghij", "cdefghij"]);
    // Within one prompt they are not mixed.
    let mixed = json!({"model": "tiny", "prompt": [1, 2, text], "max_tokens": 8});
    assert_eq!(host.post("/v1/completions", &mixed).status, 400);
}

#[test]
fn every_event_of_a_stream_is_of_one_answer() {
    let (_folder, host) = tiny();
    let messages = json!([{"role": "user", "content": "say it"}]);
    let chat = json!({"model": "tiny", "messages": messages, "temperature": 0});
    for (path, body) in [
        ("/v1/chat/completions", chat),
        ("/v1/completions", json!({"model": "tiny", "prompt": "ab", "max_tokens": 5, "temperature": 0})),
    ] {
        let events = events(&host, path, body);
        assert!(events.len() > 3, "{events:?}");
        for name in ["id", "object", "created", "model", "system_fingerprint"] {
            assert!(
                events.iter().all(|event| !event[name].is_null() && event[name] == events[0][name]),
                "{name}: {events:?}"
            );
        }
        let (last, others) = events.split_last().expect("events");
        assert!(others.iter().all(|event| event["choices"][0]["finish_reason"].is_null()), "{events:?}");
        assert!(last["choices"][0]["finish_reason"].is_string(), "{last}");
        assert!(last["choices"][0]["delta"].as_object().is_none_or(Map::is_empty), "{last}");
        assert!(events[1..].iter().all(|event| event["choices"][0]["delta"]["role"].is_null()), "{events:?}");
    }
}

#[test]
fn every_event_of_a_response_names_the_item_that_it_is_of() {
    let (_folder, host) = tiny();
    let events = events(&host, "/v1/responses", json!({"model": "tiny", "input": "say it", "temperature": 0}));
    let of = |kind: &str| {
        events.iter().find(|event| event["type"] == kind).unwrap_or_else(|| panic!("no {kind}: {events:?}"))
    };
    let (created, ended) = (&of("response.created")["response"], &of("response.completed")["response"]);
    assert!(
        created["id"].as_str().is_some_and(|id| id.starts_with("resp_")) && created["id"] == ended["id"],
        "{created}"
    );
    let item = &of("response.output_item.added")["item"]["id"];
    assert!(item.as_str().is_some_and(|id| id.starts_with("msg_")), "{item}");
    assert_eq!(item, &of("response.output_item.done")["item"]["id"]);
    assert_eq!(item, &ended["output"][0]["id"]);
    let named: Vec<&Value> = events.iter().filter_map(|event| event.get("item_id")).collect();
    assert!(named.len() > 4 && named.iter().all(|name| *name == item), "{named:?}");
    let said: String = events.iter().filter_map(|event| event["delta"].as_str()).collect();
    assert_eq!(said, "One two three");
    assert_eq!(ended["output"][0]["content"][0]["text"], said);
}

/// Scripts, marks that combine, an emoji of several characters, line ends, what looks like a control token.
#[test]
fn texts_come_back_from_their_tokens() {
    let real = Host::serve(&demo_model(), &[]);
    let (_folder, tiny) = tiny();
    for host in [real, tiny] {
        for text in
            ["What is the capital of France ?", " two  spaces ", "媽 שלום ñ", "🤗👩‍👩‍👧", "a\r\n\tb\n\n", "<|im_end|> <s>"]
        {
            let ask = json!({"prompt": text, "add_special_tokens": false, "return_token_strs": true});
            let reply = host.post("/tokenize", &ask).json();
            let tokens = reply["tokens"].as_array().expect("tokens").clone();
            assert_eq!(reply["token_strs"].as_array().map(Vec::len), Some(tokens.len()), "{reply}");
            let back = host.post("/detokenize", &json!({"tokens": tokens})).json();
            // SentencePiece puts a space before what begins a text.
            let back = back["prompt"].as_str().expect("a text");
            assert!(back == text || back.strip_prefix(' ') == Some(text), "{text:?} became {back:?}: {reply}");
        }
    }
}

#[test]
fn what_a_bias_forbids_is_never_said() {
    let host = Host::serve(&demo_model(), &[ALIKE]);
    let body = json!({
        "model": MODEL, "temperature": 0, "max_tokens": 32,
        "messages": [
            {"role": "system", "content": "Answer in one sentence."},
            {"role": "user", "content": "What is the capital of France?"},
        ],
    });
    let free = host.chat(&body).content();
    assert!(free.contains("Paris") && free.contains("France"), "{free}");
    // Each way in which the words may begin: the tokens, and what they spell.
    let words = ["Paris", " Paris", "paris", " paris", "PAR", " France", "France", " is", " of", "The", " the"];
    let first = |word: &&str| {
        let ask = json!({"prompt": word, "add_special_tokens": false, "return_token_strs": true});
        let reply = host.post("/tokenize", &ask).json();
        (reply["tokens"][0].to_string(), reply["token_strs"][0].clone())
    };
    let forbidden: Vec<(String, Value)> = words.iter().map(first).collect();
    let biases: Map<String, Value> = forbidden.iter().map(|(token, _)| (token.clone(), json!(-100))).collect();
    let reply = host.chat(&with(body, json!({"logit_bias": biases, "logprobs": true})));
    assert!(!reply.content().is_empty() && reply.content() != free, "{}", reply.text);
    let reply = reply.json();
    let said = reply["choices"][0]["logprobs"]["content"].as_array().expect("tokens");
    let is_said = |text: &Value| said.iter().any(|token| token["token"] == *text);
    assert!(said.len() > 4 && !forbidden.iter().any(|(_, text)| is_said(text)), "{reply}");
}

#[test]
fn a_seed_decides_and_seeds_differ() {
    let host = Host::serve(&demo_model(), &[ALIKE]);
    let ask = |seed: u64| {
        let body = json!({
            "model": MODEL, "temperature": 1.5, "max_tokens": 24, "seed": seed,
            "messages": [{"role": "user", "content": "Tell me a story."}],
        });
        host.chat(&body).content()
    };
    // From here on the prompt is known.
    ask(0);
    let answers: Vec<String> = (1..5).map(ask).collect();
    assert_eq!((1..5).map(ask).collect::<Vec<_>>(), answers);
    let different: std::collections::HashSet<&String> = answers.iter().collect();
    assert_eq!(different.len(), answers.len(), "{answers:?}");
}

/// One client's text is in nobody's log as a line of its own.
#[test]
fn what_clients_send_forges_no_line_of_the_log() {
    let (_folder, host) = tiny();
    let forged = "x\n{\"level\":\"INFO\",\"message\":\"forged\"}\r\nforged\u{1b}[2J";
    let body =
        json!({"model": forged, "messages": [{"role": "user", "content": forged, "name": forged}], "user": forged});
    assert_eq!(host.chat(&body).status, 404);
    assert_eq!(host.chat(&with(body, json!({"model": "tiny"}))).status, 200);
    assert_eq!(host.get("/v1/models/x%0A%7B%22message%22%3A%22forged%22%7D").status, 404);
    for line in host.log().lines() {
        let line: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error} in {line}"));
        assert_ne!(line["message"], "forged");
    }
}
