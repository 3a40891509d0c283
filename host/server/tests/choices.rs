//! Several answers to one request (`n`).

mod support;

use std::time::Duration;

use inference::{EngineFault, FaultKind, PipelineError, Stage};
use serde_json::Value;
use support::fakes::{Act, FakePipeline, says};
use support::{Reply, STREAMED, Setup, WHOLE};

const CHAT: &str = r#"model="fake/model",stream="false",endpoint="chat_completions""#;

fn asking(body: &str, members: &str) -> String {
    body.replace("}]", &format!("}}],{members}"))
}

/// What a client puts together of a stream: the text of each choice, and how it ended.
fn choices_of(stream: &Reply, count: usize) -> Vec<(String, Option<String>)> {
    let mut choices = vec![(String::new(), None); count];
    for data in stream.body.lines().filter_map(|line| line.strip_prefix("data: ")).filter(|data| *data != "[DONE]") {
        let chunk: Value = serde_json::from_str(data).expect("events carry JSON");
        for choice in chunk["choices"].as_array().expect("choices") {
            let index = usize::try_from(choice["index"].as_u64().expect("an index")).expect("a small one");
            let (text, end) = &mut choices[index];
            assert!(end.is_none(), "choice {index} goes on behind its end: {chunk}");
            text.push_str(choice["delta"]["content"].as_str().unwrap_or_default());
            *end = choice["finish_reason"].as_str().map(str::to_owned);
        }
    }
    choices
}

#[tokio::test]
async fn choices_take_turns_in_one_slot() {
    let server = Setup::says(&["Hel", "lo"]).slots(1).start().await;
    insta::assert_snapshot!("whole_choices", server.chat(&asking(WHOLE, r#""n":2"#)).await.stable());
    let members = r#""n":2,"stream_options":{"include_usage":true}"#;
    insta::assert_snapshot!("streamed_choices", server.chat(&asking(STREAMED, members)).await.stable());
    // R21: one request, whose prompt was read once, and all that was written.
    assert_eq!(server.metric("llm_requests", CHAT), 1);
    assert_eq!(server.metric("llm_prompt_tokens_total", CHAT), 2);
    assert_eq!(server.metric("llm_completion_tokens_total", CHAT), 6);
}

#[tokio::test]
async fn choices_run_side_by_side_in_free_slots_and_the_rest_take_turns() {
    let script = [vec![Act::Wait(Duration::from_millis(20))], says(&["a", "b", "c"])].concat();
    let server = Setup::plays(script).slots(3).start().await;
    for (body, count) in [(STREAMED, 3), (STREAMED, 7)] {
        let reply = server.chat(&asking(body, &format!(r#""n":{count}"#))).await;
        assert!(reply.body.ends_with("data: [DONE]\n\n"), "{}", reply.body);
        let expected = vec![("abc".to_owned(), Some("stop".to_owned())); count];
        assert_eq!(choices_of(&reply, count), expected);
    }
    let whole = server.chat(&asking(WHOLE, r#""n":7"#)).await.json();
    let indexes: Vec<u64> =
        whole["choices"].as_array().unwrap().iter().map(|it| it["index"].as_u64().unwrap()).collect();
    assert_eq!(indexes, [0, 1, 2, 3, 4, 5, 6]);
    assert_eq!(whole["usage"]["completion_tokens"], 28);
    assert_eq!(whole["usage"]["prompt_tokens"], 2);
    server.until_idle().await;
}

#[tokio::test]
async fn who_leaves_takes_all_choices_along_and_no_other_answer() {
    let server = Setup::plays(vec![Act::Hang]).slots(3).start().await;
    let other = server.begin_stream().await;
    server.until_running(1).await;
    let mut client = server.connect().await;
    let request = support::chat(&asking(STREAMED, r#""n":2"#));
    tokio::io::AsyncWriteExt::write_all(&mut client, request.as_bytes()).await.expect("the server reads");
    server.until_running(3).await;
    // The client leaves, and with it both of its choices.
    drop(client);
    while server.engine.live() > 1 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    drop(other);
    server.until_idle().await;
}

#[tokio::test]
async fn each_choice_has_a_seed_of_its_own() {
    let server = Setup::says(&["x"]).start().await;
    assert_eq!(server.chat(&asking(WHOLE, r#""n":3,"seed":18446744073709551615"#)).await.status, 200);
    assert_eq!(server.chat(&asking(WHOLE, r#""n":2"#)).await.status, 200);
    let seeds: Vec<_> = server.engine.taken.lock().unwrap().iter().map(|request| request.sampling.seed).collect();
    assert_eq!(seeds, [Some(u64::MAX), Some(0), Some(1), None, None]);
}

#[tokio::test]
async fn a_choice_that_fails_ends_the_request() {
    let script = vec![Act::Piece("a".to_owned()), Act::Fail(EngineFault::Decode("no".to_owned()))];
    let server = Setup::plays(script).slots(2).start().await;
    let reply = server.chat(&asking(STREAMED, r#""n":4"#)).await;
    assert!(!reply.body.contains("[DONE]"), "{}", reply.body);
    assert_eq!(reply.body.matches(r#""error""#).count(), 1, "{}", reply.body);
    assert_eq!(server.chat(&asking(WHOLE, r#""n":4"#)).await.status, 500);
    server.until_idle().await;
}

#[tokio::test]
async fn a_plugin_refuses_all_choices_at_once() {
    let refusal = PipelineError::Fault {
        plugin: "p".to_owned(),
        stage: Stage::Policy,
        kind: FaultKind::Trap,
        detail: String::new(),
    };
    let pipeline = FakePipeline { refuses: Some(refusal), ..FakePipeline::default() };
    let server = Setup { pipeline, ..Setup::default() }.start().await;
    assert_eq!(server.chat(&asking(WHOLE, r#""n":3"#)).await.status, 500);
    assert!(server.engine.taken.lock().unwrap().is_empty());
    server.until_idle().await;
}

#[tokio::test]
async fn annotations_say_which_choice_they_are_on() {
    let annotations = vec![("masked".to_owned(), "1".to_owned())];
    let server = Setup { pipeline: FakePipeline { annotations, ..FakePipeline::default() }, ..Setup::default() };
    let server = server.start().await;
    let whole = server.chat(&asking(WHOLE, r#""n":2"#)).await.json();
    let notes = &whole["outrigger"]["annotations"];
    assert_eq!((&notes[0]["choice"], &notes[1]["choice"]), (&0.into(), &1.into()), "{whole}");
    let whole = server.chat(WHOLE).await.json();
    assert!(whole["outrigger"]["annotations"][0].get("choice").is_none(), "{whole}");
}

/// Policies, the prompt and what they count are the request's; how it ended is told of each answer.
#[tokio::test]
async fn plugins_are_asked_once_about_a_request_and_about_each_answer() {
    for slots in [1, 3] {
        let server = Setup::says(&["x"]).slots(slots).start().await;
        assert_eq!(server.chat(&asking(WHOLE, r#""n":3"#)).await.status, 200);
        assert_eq!(server.pipeline.asked.lock().unwrap().len(), 1, "with {slots} slots");
        assert_eq!(server.pipeline.ends.lock().unwrap().len(), 3, "with {slots} slots");
        assert_eq!(server.engine.taken.lock().unwrap().len(), 3, "with {slots} slots");
        server.until_idle().await;
    }
}
