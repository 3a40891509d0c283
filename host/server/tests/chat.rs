//! What a client of the chat endpoint reads, byte for byte.

mod support;

use std::sync::Arc;
use std::time::Duration;

use inference::{EngineFault, FaultKind, Finish, PipelineError, Stage, Token};
use support::fakes::{Act, CONTEXT_LENGTH, FakePipeline, says};
use support::{MODEL, STREAMED, Setup, WHOLE};

const CHAT: &str = r#"model="fake/model",stream="false",endpoint="chat_completions""#;
const STREAM: &str = r#"model="fake/model",stream="true",endpoint="chat_completions""#;

#[tokio::test]
async fn a_whole_answer() {
    let server = Setup::default().start().await;
    let reply = server.chat(WHOLE).await;
    assert_eq!(reply.status, 200);
    assert_eq!(reply.header("content-type"), Some("application/json"));
    assert!(reply.header("x-request-id").is_some_and(|id| id.len() == 32), "{}", reply.head);
    insta::assert_snapshot!(reply.stable());
    // R21
    assert_eq!(server.metric("llm_requests", CHAT), 1);
    assert_eq!(server.metric("llm_failures", CHAT), 0);
    assert_eq!(server.metric("llm_prompt_tokens_total", CHAT), 2);
    assert_eq!(server.metric("llm_completion_tokens_total", CHAT), 4);
    assert_eq!(server.metric("llm_internal_request_duration_ms_count", CHAT), 1);
}

#[tokio::test]
async fn a_streamed_answer() {
    let server = Setup::default().start().await;
    let reply = server.chat(STREAMED).await;
    assert_eq!(reply.header("content-type"), Some("text/event-stream; charset=utf-8"));
    assert_eq!(reply.header("cache-control"), Some("no-cache"));
    assert_eq!(reply.header("x-accel-buffering"), Some("no"));
    assert!(reply.is_whole);
    insta::assert_snapshot!(reply.stable());
    assert_eq!(server.metric("llm_requests", STREAM), 1);
    assert_eq!(server.metric("outrigger_time_to_first_token_seconds_count", STREAM), 1);
}

#[tokio::test]
async fn a_streamed_answer_with_everything() {
    let server = Setup::everything().start().await;
    let body = STREAMED.replace("true}", r#"true,"stream_options":{"include_usage":true}}"#);
    insta::assert_snapshot!("streamed_everything", server.chat(&body).await.stable());
    insta::assert_snapshot!("whole_everything", server.chat(WHOLE).await.stable());
}

#[tokio::test]
async fn a_plugin_ends_an_answer() {
    let pipeline = FakePipeline { stops_at: Some(("stop".to_owned(), Finish::Filtered)), ..FakePipeline::default() };
    let script = [says(&["one ", "two ", "st", "op", "never"])[..5].to_vec(), vec![Act::Hang]].concat();
    let server = Setup { script, pipeline, ..Setup::default() }.start().await;
    for body in [WHOLE, STREAMED] {
        let reply = server.chat(body).await;
        assert!(reply.body.contains(r#""finish_reason":"content_filter""#), "{}", reply.body);
        assert!(reply.body.contains("one ") && !reply.body.contains("stop\""), "{}", reply.body);
    }
    // Four pieces had been sampled when it stopped: known, not guessed. The engine was let go.
    let usage = inference::Usage { prompt_tokens: 2, completion_tokens: 4, cached_tokens: 0 };
    assert_eq!(*server.pipeline.ends.lock().unwrap(), [(Finish::Filtered, usage); 2]);
    assert_eq!(server.metric("llm_completion_tokens_total", CHAT), 4);
    server.until_idle().await;
}

#[tokio::test]
async fn stop_texts_and_bounds_reach_the_engine() {
    let server = Setup::default().start().await;
    let body = WHOLE.replace("}]}", r#"}],"stop":["a","b"],"max_tokens":7,"seed":5,"temperature":0,"top_k":3}"#);
    assert_eq!(server.chat(&body).await.status, 200);
    assert_eq!(server.chat(&WHOLE.replace("}]}", r#"}],"max_tokens":100000}"#)).await.status, 200);
    let taken = server.engine.taken.lock().unwrap();
    assert_eq!(taken[0].stop, ["a", "b", "<template stop>"]);
    assert_eq!(taken[0].max_tokens, 7);
    assert_eq!((taken[0].sampling.seed, taken[0].sampling.top_k), (Some(5), 3));
    assert!(taken[0].sampling.temperature.abs() < f32::EPSILON);
    // As much as fits beside a prompt of two tokens.
    assert_eq!(taken[1].max_tokens, CONTEXT_LENGTH - 2);
}

fn likely() -> Setup {
    let script = vec![Act::Likely("Hi ".to_owned(), -0.25), Act::Likely("é\n".to_owned(), -1.5)];
    Setup::plays([script, says(&[])].concat())
}

#[tokio::test]
async fn log_probabilities_come_with_their_text() {
    let server = likely().start().await;
    let asking = |body: &str| body.replace("}]", r#"}],"logprobs":true,"top_logprobs":2"#);
    insta::assert_snapshot!("whole_logprobs", server.chat(&asking(WHOLE)).await.stable());
    insta::assert_snapshot!("streamed_logprobs", server.chat(&asking(STREAMED)).await.stable());
    assert_eq!(server.engine.taken.lock().unwrap()[0].logprobs, Some(2));
    // Nobody who did not ask is told.
    assert!(server.chat(WHOLE).await.body.contains(r#""logprobs":null"#));
    assert!(!server.chat(STREAMED).await.body.contains("top_logprobs"));
    // An answer without text has none, and says so in the same form.
    let server = Setup::says(&[]).start().await;
    let reply = server.chat(&asking(WHOLE)).await;
    assert!(reply.body.contains(r#""logprobs":{"content":[],"refusal":null}"#), "{}", reply.body);
}

/// What frames a thought is no text of the answer, and its tokens are none of the answer's.
#[tokio::test]
async fn log_probabilities_are_of_the_text_they_stand_with() {
    let script = ["h", "m", "</think>", "Hi"].map(|text| Act::Likely(text.to_owned(), -0.5)).to_vec();
    let pipeline = FakePipeline { thinks_until: Some("</think>".to_owned()), ..FakePipeline::default() };
    let server = Setup { pipeline, ..Setup::plays([script, says(&[])].concat()) }.start().await;
    let asking = |body: &str| body.replace("}]", r#"}],"logprobs":true"#);
    let whole = server.chat(&asking(WHOLE)).await.json();
    let tokens = |choice: &serde_json::Value| {
        let tokens = choice["logprobs"]["content"].as_array().into_iter().flatten();
        tokens.map(|token| token["token"].as_str().expect("a text").to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(tokens(&whole["choices"][0]), ["Hi"], "{whole}");
    let streamed = server.chat(&asking(STREAMED)).await.events();
    assert_eq!(streamed.iter().flat_map(|event| tokens(&event["choices"][0])).collect::<Vec<_>>(), ["Hi"]);
}

#[tokio::test]
async fn log_probabilities_do_not_pass_a_plugin_by() {
    let pipeline = FakePipeline { changes_text: Some("redact"), ..FakePipeline::default() };
    let server = Setup { pipeline, ..likely() }.start().await;
    assert_eq!(server.chat(WHOLE).await.status, 200);
    for body in [WHOLE, STREAMED] {
        let reply = server.chat(&body.replace("}]", r#"}],"logprobs":true"#)).await;
        assert_eq!(reply.status, 400, "{}", reply.body);
        insta::assert_snapshot!("logprobs_withheld", reply.body);
    }
    assert_eq!(server.engine.taken.lock().unwrap().len(), 1, "the engine never sees such a request");
}

#[tokio::test]
async fn tokens_go_to_the_filters_that_want_them_and_to_no_client_that_did_not_ask() {
    let pipeline = FakePipeline { wants_tokens: true, ..FakePipeline::default() };
    let shown = Arc::clone(&pipeline.tokens);
    let server = Setup { pipeline, ..likely() }.start().await;
    let reply = server.chat(WHOLE).await;
    assert!(reply.body.contains(r#""logprobs":null"#), "{}", reply.body);
    assert_eq!(server.engine.taken.lock().unwrap()[0].logprobs, Some(0));
    let shown = std::mem::take(&mut *shown.lock().unwrap());
    assert!(!shown.is_empty() && shown.iter().all(|shown| shown.token.0 == 7 && shown.logprob < 0.0), "{shown:?}");
}

#[tokio::test]
async fn tokens_that_the_model_does_not_have_are_refused_by_name() {
    let server = Setup::default().start().await;
    let refused = async |members: &str| {
        let reply = server.chat(&WHOLE.replace("}]", &format!("}}],{members}"))).await;
        assert_eq!((reply.status, reply.error().0.as_str()), (400, "invalid_value"), "{}", reply.body);
        (reply.json()["error"]["param"].as_str().unwrap().to_owned(), reply.error().1)
    };
    let (param, message) = refused(r#""logit_bias":{"255":1,"256":1}"#).await;
    assert_eq!(param, "logit_bias.256");
    assert_eq!(
        message,
        "`logit_bias.256` names token 256, and the tokens of this model are 0 to 255; use the numbers of its own tokenizer"
    );
    assert_eq!(refused(r#""stop_token_ids":[3,4294967295]"#).await.0, "stop_token_ids[1]");

    let members = r#"}],"logit_bias":{"255":-100},"stop_token_ids":[0,255],"ignore_eos":true,"typical_p":0.5"#;
    assert_eq!(server.chat(&WHOLE.replace("}]", members)).await.status, 200);
    let taken = server.engine.taken.lock().unwrap();
    let sampling = &taken[0].sampling;
    assert_eq!(
        (sampling.logit_bias.as_slice(), sampling.typical_p.to_bits()),
        (&[(Token(255), -100.0)][..], 0.5_f32.to_bits())
    );
    assert_eq!((taken[0].stop_tokens.as_slice(), taken[0].ignore_end), (&[Token(0), Token(255)][..], true));
}

#[tokio::test]
async fn a_request_that_excludes_every_token_is_told_so() {
    let server = Setup::plays(vec![Act::Fail(EngineFault::NoToken)]).start().await;
    let reply = server.chat(WHOLE).await;
    assert_eq!((reply.status, reply.error().0.as_str()), (400, "no_token_left"));
    assert!(server.chat(STREAMED).await.body.contains("no_token_left"));
}

#[tokio::test]
async fn a_prompt_that_does_not_fit_names_both_numbers() {
    let server = Setup::default().start().await;
    // Long enough to be tokenized off the async thread too.
    for length in [512, 40_000] {
        let reply = server.chat(&WHOLE.replace("Hi", &"x".repeat(length))).await;
        assert_eq!(reply.status, 400);
        let (code, message) = reply.error();
        assert_eq!(code, "context_length_exceeded");
        assert!(message.contains(&format!("{length} tokens")) && message.contains("512"), "{message}");
    }
    assert_eq!(server.metric("llm_failures", CHAT), 2);
}

async fn check_refused(refuses: PipelineError, status: u16, snapshot: &str) {
    let pipeline = FakePipeline { refuses: Some(refuses), ..FakePipeline::default() };
    let server = Setup { pipeline, ..Setup::default() }.start().await;
    let reply = server.chat(STREAMED).await;
    assert_eq!(reply.status, status, "{}", reply.body);
    insta::assert_snapshot!(snapshot, reply.body);
    assert_eq!(server.metric("llm_failures", STREAM), 1);
    server.until_idle().await;
}

fn fault() -> PipelineError {
    PipelineError::Fault {
        plugin: "redact".to_owned(),
        stage: Stage::Policy,
        kind: FaultKind::Trap,
        detail: "guest text: secret".to_owned(),
    }
}

#[tokio::test]
async fn what_plugins_refuse() {
    check_refused(fault(), 500, "plugin_fault").await;
    let (plugin, message) = ("policy".to_owned(), "no poems on Mondays".to_owned());
    let (code, retry_after) = ("no_poems".to_owned(), Some(Duration::from_millis(1500)));
    let rejected = |status| PipelineError::Rejected {
        plugin: plugin.clone(),
        status,
        code: code.clone(),
        message: message.clone(),
        retry_after,
    };
    check_refused(rejected(429), 429, "plugin_rejection").await;
    check_refused(rejected(200), 403, "plugin_rejection").await;
    let invalid = PipelineError::Invalid { plugin, stage: Stage::Prompt, message: "roles must alternate".to_owned() };
    check_refused(invalid, 400, "plugin_invalid").await;
    let unavailable = PipelineError::Unavailable {
        plugin: "redact".to_owned(),
        stage: Stage::Policy,
        retry_after: Duration::from_millis(1_500),
    };
    check_refused(unavailable, 503, "plugin_unavailable").await;
    check_refused(PipelineError::Overloaded, 503, "plugins_overloaded").await;
}

#[tokio::test]
async fn a_failure_in_the_middle_ends_a_stream_with_an_error() {
    let script = vec![Act::Piece("half".to_owned()), Act::Fail(EngineFault::Decode("bad batch".to_owned()))];
    let server = Setup::plays(script).start().await;
    let reply = server.chat(STREAMED).await;
    assert!(reply.is_whole && !reply.body.contains("[DONE]"), "{}", reply.body);
    insta::assert_snapshot!(reply.stable());
    // The same failure before anything was sent is a status.
    let reply = server.chat(WHOLE).await;
    assert_eq!((reply.status, reply.error().0.as_str()), (500, "engine_failed"));
    // The plugins learn of it.
    assert!(server.pipeline.ends.lock().unwrap().iter().all(|(finish, _)| *finish == Finish::Failed));
    assert_eq!(server.metric("llm_failures", STREAM), 1);
}

#[tokio::test]
async fn a_plugin_that_breaks_in_the_middle_withholds_the_rest() {
    let breaks_at = Some(("boom".to_owned(), fault()));
    let pipeline = FakePipeline { breaks_at, ..FakePipeline::default() };
    let used = Arc::clone(&pipeline.used);
    let server = Setup { script: says(&["fine ", "boom", "never"]), pipeline, ..Setup::default() }.start().await;
    let reply = server.chat(STREAMED).await;
    let used = *used.lock().expect("no test panicked");
    assert!(used.prompt_tokens > 0 && used.completion_tokens == 2, "those who count are told: {used:?}");
    assert!(!reply.body.contains("never") && !reply.body.contains("secret"), "{}", reply.body);
    assert!(!reply.body.contains("[DONE]") && reply.body.contains(r#""code":"plugin_failed""#), "{}", reply.body);
    assert_eq!(server.chat(WHOLE).await.status, 500);
    server.until_idle().await;
}

#[tokio::test]
async fn an_engine_that_dies_is_an_error_not_an_end() {
    let server = Setup::plays(vec![Act::Piece("half".to_owned()), Act::Vanish]).start().await;
    let reply = server.chat(STREAMED).await;
    assert!(reply.body.contains("engine_failed") && !reply.body.contains("[DONE]"), "{}", reply.body);
    assert_eq!(server.chat(WHOLE).await.status, 500);
}

#[tokio::test]
async fn an_unknown_model_is_told_what_there_is() {
    let server = Setup::default().start().await;
    let reply = server.chat(&WHOLE.replace("fake/model", "gpt-4")).await;
    assert_eq!(reply.status, 404);
    insta::assert_snapshot!(reply.body);
    assert!(!server.metrics().contains("gpt-4"), "a client's text is no label");
}

#[tokio::test]
async fn before_the_model_is_there_clients_are_told_to_wait() {
    let server = Setup { is_ready: false, ..Setup::default() }.start().await;
    server.service.loading("loading the weights (40 %)");
    let reply = server.chat(WHOLE).await;
    assert_eq!((reply.status, reply.header("retry-after")), (503, Some("5")));
    assert_eq!(reply.error().1, "the model is not ready: loading the weights (40 %)");
    let ready = server.get("/readyz").await;
    assert_eq!(
        (ready.status, ready.body.as_str()),
        (503, r#"{"status":"loading","reason":"loading the weights (40 %)"}"#)
    );
    assert_eq!(server.get("/livez").await.status, 200);
    let listed = server.get("/v1/models").await.json();
    assert_eq!(listed["data"][0]["outrigger"]["state"], "loading");
    assert_eq!(listed["data"][0]["outrigger"]["reason"], "loading the weights (40 %)");
    assert_eq!(server.metric("outrigger_ready", MODEL), 0);

    server.service.failed("not a GGUF file");
    assert_eq!(server.chat(WHOLE).await.error().0, "model_failed");
    assert_eq!(server.get("/readyz").await.status, 503);
}

// R29
#[tokio::test]
async fn a_model_that_is_loaded_on_use_is_waited_for_by_whoever_asks_first() {
    let mut setup = Setup { is_ready: false, ..Setup::says(&["ok"]) };
    setup.service.queue_max = 2;
    let server = setup.start().await;
    server.service.on_first_use();
    let ready = server.get("/readyz").await;
    assert_eq!(
        (ready.status, ready.body.as_str()),
        (200, r#"{"status":"ok","reason":"the model is loaded at its first use"}"#)
    );
    assert!(server.get("/v1/models").await.body.contains(r#""id":"fake/model""#));
    assert_eq!(server.get("/v1/models/fake/model").await.status, 200);
    assert_eq!(server.chat(&WHOLE.replace("fake/model", "other")).await.status, 404, "and nothing is loaded for it");
    assert!(tokio::time::timeout(Duration::ZERO, server.service.wanted()).await.is_err());

    let load = async {
        server.service.wanted().await;
        server.service.loading("downloading (40 %)");
        while server.metric("outrigger_requests_waiting", r#"model="fake/model",priority="interactive""#) < 2 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert_eq!(server.get("/readyz").await.status, 503);
        assert_eq!(server.chat(WHOLE).await.error().0, "queue_full");
        server.make_ready();
    };
    let (first, second, ()) = tokio::join!(server.chat(WHOLE), server.chat(WHOLE), load);
    assert_eq!((first.status, second.status), (200, 200));
    assert_eq!(server.metric("outrigger_requests_waiting", r#"model="fake/model",priority="interactive""#), 0);
}

// R29
#[tokio::test]
async fn who_waits_in_vain_for_a_model_learns_how_far_it_is() {
    let mut setup = Setup { is_ready: false, ..Setup::default() };
    setup.service.queue_wait_max = Duration::from_millis(50);
    let server = setup.start().await;
    server.service.on_first_use();
    server.service.loading("downloading (40 %)");
    let reply = server.chat(WHOLE).await;
    assert_eq!((reply.status, reply.header("retry-after")), (503, Some("5")));
    assert_eq!(reply.error().1, "the model is not ready: downloading (40 %)");

    server.service.failed("the hub does not know acme/tiny");
    tokio::time::timeout(Duration::from_secs(5), server.service.wanted()).await.expect("asked for above");
    assert_eq!(server.chat(WHOLE).await.error().1, "the model could not be loaded: the hub does not know acme/tiny");
    tokio::time::timeout(Duration::from_secs(5), server.service.wanted()).await.expect("each request asks anew");
}

#[tokio::test]
async fn a_full_line_and_waiting_in_vain_are_503() {
    let mut setup = Setup::plays(vec![Act::Hang]);
    setup.service.queue_max = 1;
    setup.service.queue_wait_max = Duration::from_millis(300);
    let server = setup.start().await;
    let running = server.begin_stream().await;
    server.until_running(1).await;
    let (waiting, refused) = tokio::join!(server.chat(WHOLE), async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert_eq!(server.metric("outrigger_requests_waiting", r#"model="fake/model",priority="interactive""#), 1);
        server.chat(WHOLE).await
    });
    // One waits and the next would come behind it: two times what a request is taken to last before one was measured.
    assert_eq!(
        (refused.status, refused.error().0.as_str(), refused.header("retry-after")),
        (503, "queue_full", Some("4"))
    );
    assert_eq!((waiting.status, waiting.error().0.as_str()), (503, "queue_timeout"));
    drop(running);
    server.until_idle().await;
}

#[tokio::test]
async fn requests_beyond_the_slots_wait_their_turn() {
    let script = [vec![Act::Wait(Duration::from_millis(20))], says(&["ok"])].concat();
    let server = Setup::plays(script).slots(2).start().await;
    let replies = futures::future::join_all((0..8).map(|_| server.chat(WHOLE))).await;
    assert!(replies.iter().all(|reply| reply.status == 200));
    assert_eq!(server.metric("llm_requests", CHAT), 8);
    assert_eq!(server.metric("outrigger_requests_running", MODEL), 0);
}
