//! Whatever path a request comes by and whatever form it has, the plugins have their part in it. The paths are the router's own.

mod support;

use inference::{Finish, PipelineError};
use proptest::prelude::*;
use serde_json::{Value, json};
use server::Reach;
use support::fakes::{FakePipeline, says};
use support::{Server, Setup};

/// A body for each form that has the model answer, or its prompt rendered.
fn bodies() -> Vec<Value> {
    let messages = json!([{"role": "user", "content": "Hi"}]);
    let bodies = [
        json!({"messages": messages}),
        json!({"messages": messages, "max_tokens": 9}),
        json!({"prompt": "Hi"}),
        json!({"prompt": [72, 105]}),
        json!({"prompt": ["Hi", "Ho"]}),
        json!({"input": "Hi"}),
        json!({"input": [{"role": "user", "content": "Hi"}]}),
    ];
    let with = |stream: bool| {
        bodies.clone().map(|mut body| {
            body["model"] = json!("fake/model");
            if stream {
                body["stream"] = json!(true);
            }
            body
        })
    };
    [with(false), with(true)].concat()
}

async fn serving(pipeline: FakePipeline) -> Server {
    Setup { script: says(&["se", "cret", " and ", "secret"]), pipeline, ..Setup::default() }.start().await
}

/// A policy that rejects everything: nobody gets a word of the model, or of a prompt.
#[tokio::test]
async fn no_path_leads_past_a_policy() {
    let rejected = PipelineError::Rejected {
        plugin: "no".to_owned(),
        status: 418,
        code: "never".to_owned(),
        message: "nobody".to_owned(),
        retry_after: None,
    };
    let server = serving(FakePipeline { refuses: Some(rejected), ..FakePipeline::default() }).await;
    for (path, reach) in server::routes() {
        let mut was_rejected = false;
        for body in bodies() {
            let reply = server.post(&path.replace("{*id}", "fake/model"), &body).await;
            was_rejected |= reply.status == 418 && reply.json()["error"]["code"] == "never";
            let may_be_fine = matches!(reach, Reach::Facts);
            assert!(may_be_fine || reply.status >= 400, "{path} answers {body}: {}", reply.body);
        }
        let is_judged = matches!(reach, Reach::Answer | Reach::Prompt);
        assert_eq!(was_rejected, is_judged, "{path} leads to {reach:?}");
    }
    assert!(server.engine.taken.lock().unwrap().is_empty(), "the model was never asked");
}

/// A filter that marks whatever the model says: nobody reads it otherwise.
#[tokio::test]
async fn no_path_leads_past_a_filter() {
    let replaces = Some(("secret".to_owned(), "****".to_owned()));
    let server = serving(FakePipeline { replaces, ..FakePipeline::default() }).await;
    let mut filtered = 0;
    for (path, reach) in server::routes() {
        for body in bodies() {
            let reply = server.post(&path.replace("{*id}", "fake/model"), &body).await;
            assert!(!reply.body.contains("secret") && !reply.body.contains("cret"), "{path}: {}", reply.body);
            if reach == Reach::Answer && reply.status == 200 {
                assert!(reply.body.contains("****"), "{path} answers {body}: {}", reply.body);
                filtered += 1;
            }
        }
    }
    let answered = server.engine.taken.lock().unwrap().len();
    assert!(filtered > 0 && answered >= filtered, "{answered} answers, {filtered} of them seen");
    // Each run was told of its end: none was left half way.
    assert_eq!(server.pipeline.asked.lock().unwrap().len(), server.pipeline.ends.lock().unwrap().len());
}

/// What is not asked of the model answers only what it is for.
#[tokio::test]
async fn what_leads_to_facts_never_asks_the_model() {
    let server = serving(FakePipeline::default()).await;
    for (path, reach) in server::routes() {
        let before = server.engine.taken.lock().unwrap().len();
        for body in bodies() {
            server.post(&path.replace("{*id}", "fake/model"), &body).await;
        }
        let asked = server.engine.taken.lock().unwrap().len() > before;
        assert_eq!(asked, reach == Reach::Answer, "{path}");
    }
}

/// Every form, as a client puts it together: how it is asked, and what the texts of its whole and its streamed answers are.
struct Form {
    path: &'static str,
    body: Value,
    whole: fn(&Value) -> String,
    part: fn(&Value) -> Option<&str>,
}

fn forms() -> [Form; 2] {
    [
        Form {
            path: "/v1/completions",
            body: json!({"model": "fake/model", "prompt": "Hi"}),
            whole: |reply| reply["choices"][0]["text"].as_str().expect("a text").to_owned(),
            part: |event| event["choices"][0]["text"].as_str(),
        },
        Form {
            path: "/v1/messages",
            body: json!({"model": "fake/model", "max_tokens": 99, "messages": [{"role": "user", "content": "Hi"}]}),
            whole: |reply| {
                let blocks = reply["content"].as_array().expect("blocks");
                blocks.iter().filter_map(|block| block["text"].as_str()).collect()
            },
            part: |event| event["delta"]["text"].as_str(),
        },
    ]
}

fn pieces() -> impl Strategy<Value = Vec<String>> {
    prop::collection::vec("[abé€\u{1f600}\"\\\\\n<]{1,4}", 0..12)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn streamed_equals_whole(pieces in pieces(), pattern in prop::option::of("[abé€<]{2,3}"), stop in prop::option::of("[abé€<]{2}")) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let answers = runtime.block_on(async {
            let pipeline = FakePipeline {
                replaces: pattern.map(|from| (from, "#".to_owned())),
                stops_at: stop.map(|at| (at, Finish::Stop)),
                ..FakePipeline::default()
            };
            let pieces: Vec<&str> = pieces.iter().map(String::as_str).collect();
            let server = Setup { script: says(&pieces), pipeline, ..Setup::default() }.start().await;
            let mut answers = Vec::new();
            for form in forms() {
                let whole = server.post(form.path, &form.body).await.json();
                let mut body = form.body;
                body["stream"] = json!(true);
                let streamed = server.post(form.path, &body).await;
                assert!(streamed.is_whole, "{}", streamed.body);
                let events = streamed.events();
                let streamed: String = events.iter().filter_map(form.part).collect();
                answers.push((form.path, (form.whole)(&whole), streamed));
            }
            answers
        });
        for (path, whole, streamed) in &answers {
            prop_assert_eq!(whole, streamed, "{}", path);
            prop_assert_eq!(whole, &answers[0].1, "{} says what the first form says", path);
        }
    }
}
