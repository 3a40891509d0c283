//! `/v1/completions` over real sockets: prompts as they stand.

mod support;

use inference::{Segment, Token};
use serde_json::{Value, json};
use support::fakes::{Act, FakePipeline, says};
use support::{Reply, Server, Setup};

const LABELS: &str = r#"model="fake/model",stream="false",endpoint="completions""#;

async fn complete(server: &Server, members: Value) -> Reply {
    let mut body = json!({"model": "fake/model", "prompt": "Once"});
    let Value::Object(members) = members else { panic!("{members} is no object") };
    body.as_object_mut().expect("an object").extend(members);
    server.post("/v1/completions", &body).await
}

fn bytes(text: &str) -> Vec<Token> {
    text.bytes().map(|byte| Token(byte.into())).collect()
}

#[tokio::test]
async fn an_answer_in_the_old_form() {
    let server = Setup::default().start().await;
    let reply = complete(&server, json!({"echo": true, "user": "me"})).await;
    assert_eq!(reply.status, 200, "{}", reply.body);
    insta::assert_snapshot!("whole_completion", reply.stable());
    let streamed = json!({"echo": true, "stream": true, "stream_options": {"include_usage": true}});
    insta::assert_snapshot!("streamed_completion", complete(&server, streamed).await.stable());
    // R21
    assert_eq!(server.metric("llm_requests", LABELS), 1);
    assert_eq!(server.metric("llm_prompt_tokens_total", LABELS), 4);
}

#[tokio::test]
async fn several_prompts_have_several_answers_each() {
    let server = Setup::says(&["a", "b"]).start().await;
    let reply = complete(&server, json!({"prompt": ["x", "yy"], "n": 2, "echo": true, "seed": 5})).await.json();
    let choices: Vec<(u64, &str)> = reply["choices"]
        .as_array()
        .expect("choices")
        .iter()
        .map(|it| (it["index"].as_u64().expect("an index"), it["text"].as_str().expect("a text")))
        .collect();
    assert_eq!(choices, [(0, "xab"), (1, "xab"), (2, "yyab"), (3, "yyab")]);
    // Every prompt is read, and counts, once.
    assert_eq!(reply["usage"]["prompt_tokens"], 3);
    assert_eq!(reply["usage"]["completion_tokens"], 12);
    let taken = server.engine.taken.lock().unwrap();
    let seen: Vec<_> = taken.iter().map(|request| (request.prompt.clone(), request.sampling.seed)).collect();
    let expected = [("x", 5), ("x", 6), ("yy", 7), ("yy", 8)];
    assert_eq!(seen, expected.map(|(prompt, seed)| (bytes(prompt), Some(seed))));
    // Each prompt is a request to the plugins, and each of them sees the client's seed.
    let asked = server.pipeline.asked.lock().unwrap();
    let asked: Vec<_> = asked.iter().map(|request| (request.messages.len(), request.sampling.seed)).collect();
    assert_eq!(asked, [(1, Some(5)), (1, Some(5))]);
}

#[tokio::test]
async fn tokens_are_a_prompt_too_as_long_as_they_are_text() {
    let server = Setup::default().start().await;
    for prompt in [json!([72, 105]), json!([[72, 105]])] {
        assert_eq!(complete(&server, json!({"prompt": prompt})).await.status, 200);
        assert_eq!(server.engine.taken.lock().unwrap().pop().expect("a request").prompt, bytes("Hi"));
    }
    for (prompt, param) in [(json!([[72], [300]]), "prompt[1]"), (json!([300]), "prompt"), (json!([0xC3]), "prompt")] {
        let reply = complete(&server, json!({"prompt": prompt})).await;
        assert_eq!((reply.status, reply.error().0.as_str()), (400, "invalid_value"), "{}", reply.body);
        assert_eq!(reply.json()["error"]["param"], param);
    }
}

#[tokio::test]
async fn the_policies_see_the_prompt_and_have_the_last_word_on_it() {
    // This one leaves tokens out; what it makes of the prompt is what is read, whatever tokens the client sent.
    let pipeline =
        FakePipeline { renders: Some(vec![Segment::Content("Masked".to_owned())]), ..FakePipeline::default() };
    let server = Setup { pipeline, ..Setup::default() }.start().await;
    assert_eq!(complete(&server, json!({"prompt": [72, 105]})).await.status, 200);
    assert_eq!(server.engine.taken.lock().unwrap()[0].prompt, bytes("Masked"));
    let asked = server.pipeline.asked.lock().unwrap();
    assert_eq!((asked[0].operation, asked[0].raw_prompt().as_deref()), (inference::Operation::Completion, Some("Hi")));
}

#[tokio::test]
async fn log_probabilities_stand_side_by_side() {
    let script = vec![Act::Likely("Hi ".to_owned(), -0.25), Act::Likely("é\n".to_owned(), -1.5)];
    let server = Setup::plays([script, says(&[])].concat()).start().await;
    let whole = complete(&server, json!({"logprobs": 2})).await.json();
    let expected = json!({
        "text_offset": [0, 3],
        "token_logprobs": [-0.25, -1.5],
        "tokens": ["Hi ", "é\n"],
        "top_logprobs": [{"Hi ": -0.25, "other": -1.25}, {"other": -2.5, "é\n": -1.5}],
    });
    assert_eq!(whole["choices"][0]["logprobs"], expected);
    let events = complete(&server, json!({"logprobs": 2, "stream": true})).await.events();
    for name in ["text_offset", "token_logprobs", "tokens", "top_logprobs"] {
        let told = events.iter().filter_map(|it| it["choices"][0]["logprobs"][name].as_array()).flatten();
        assert_eq!(told.collect::<Vec<_>>(), expected[name].as_array().unwrap().iter().collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn a_prompt_that_does_not_fit_is_named() {
    let server = Setup::default().start().await;
    let reply = complete(&server, json!({"prompt": "x".repeat(600)})).await;
    assert_eq!((reply.status, reply.error().0.as_str()), (400, "context_length_exceeded"));
    assert_eq!(reply.json()["error"]["param"], "prompt");
}

#[tokio::test]
async fn what_is_not_supported_is_refused_by_name() {
    let server = Setup::default().start().await;
    for (members, code, param) in [
        (json!({"suffix": "end"}), "unsupported_parameter", "suffix"),
        (json!({"best_of": 2}), "unsupported_parameter", "best_of"),
        (json!({"echo": true, "logprobs": 1}), "unsupported_parameter", "echo"),
        (json!({"echo": true, "prompt": [72]}), "unsupported_parameter", "echo"),
        (json!({"prompt": ""}), "invalid_value", "prompt"),
        (json!({"prompt": []}), "invalid_value", "prompt"),
        (json!({"prompt": ["a", ""]}), "invalid_value", "prompt[1]"),
        (json!({"prompt": [[]]}), "invalid_value", "prompt[0]"),
        (json!({"prompt": {"text": "a"}}), "invalid_value", "prompt"),
        (json!({"prompt": vec!["a"; 9], "n": 16}), "invalid_value", "prompt"),
        (json!({"max_tokens": 0}), "invalid_value", "max_tokens"),
        (json!({"logprobs": true}), "invalid_value", "logprobs"),
        (json!({"messages": []}), "unknown_parameter", "messages"),
        (json!({"stream_options": {}}), "invalid_value", "stream_options"),
    ] {
        let reply = complete(&server, members.clone()).await;
        assert_eq!((reply.status, reply.error().0.as_str()), (400, code), "{members}: {}", reply.body);
        assert_eq!(reply.json()["error"]["param"], param, "{members}");
    }
    assert!(server.engine.taken.lock().unwrap().is_empty());
    // What asks for nothing is no reason to refuse.
    assert_eq!(complete(&server, json!({"suffix": "", "best_of": 1, "echo": false})).await.status, 200);
}
