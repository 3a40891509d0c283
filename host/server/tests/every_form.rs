//! Whatever path a request comes by and whatever form it has, the plugins have their part in it. The paths are the router's own.

mod support;

use inference::{Delta, Finish, PipelineError};
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
            // A model that encodes is refused beside plugins when the host starts (`outrigger/src/encoder.rs`, `tests/embeddings.rs`).
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

/// Every form, as a client puts it together: how it is asked, and what its whole and its streamed answers consist of.
struct Form {
    path: &'static str,
    body: Value,
    whole: fn(&Value) -> Vec<Part>,
    /// Opens parts, adds to the last one, and closes it.
    read: fn(&mut Vec<Part>, &Value),
}

/// A part of an answer: what it is, and what it says.
type Part = (&'static str, String);

fn forms() -> [Form; 3] {
    [
        Form {
            path: "/v1/completions",
            body: json!({"model": "fake/model", "prompt": "Hi"}),
            whole: |reply| vec![("text", reply["choices"][0]["text"].as_str().expect("a text").to_owned())],
            read: |parts, event| {
                if parts.is_empty() {
                    parts.push(("text", String::new()));
                }
                parts[0].1 += event["choices"][0]["text"].as_str().unwrap_or_default();
            },
        },
        Form {
            path: "/v1/messages",
            body: json!({"model": "fake/model", "max_tokens": 99, "messages": [{"role": "user", "content": "Hi"}]}),
            whole: |reply| {
                let part = |block: &Value| match block["type"].as_str().expect("a type") {
                    "text" => ("text", said(&block["text"])),
                    "thinking" => ("thought", said(&block["thinking"])),
                    _ => ("call", block["input"].to_string()),
                };
                reply["content"].as_array().expect("blocks").iter().map(part).collect()
            },
            read: |parts, event| match event["type"].as_str().expect("a type") {
                "content_block_start" => {
                    assert_eq!(event["index"], parts.len(), "blocks come one after the other");
                    let kind = match event["content_block"]["type"].as_str().expect("a type") {
                        "text" => "text",
                        "thinking" => "thought",
                        _ => "call",
                    };
                    parts.push((kind, String::new()));
                }
                "content_block_delta" => {
                    assert_eq!(event["index"], parts.len() - 1, "only the last block is open");
                    let delta = &event["delta"];
                    let text = ["text", "thinking", "partial_json"].iter().find_map(|name| delta[name].as_str());
                    parts.last_mut().expect("a block").1 += text.expect("text");
                }
                _ => {}
            },
        },
        Form {
            path: "/v1/responses",
            body: json!({"model": "fake/model", "input": "Hi"}),
            whole: |reply| {
                let part = |item: &Value| match item["type"].as_str().expect("a type") {
                    "message" => ("text", said(&item["content"][0]["text"])),
                    "reasoning" => ("thought", said(&item["content"][0]["text"])),
                    _ => ("call", said(&item["arguments"])),
                };
                reply["output"].as_array().expect("items").iter().map(part).collect()
            },
            read: |parts, event| match event["type"].as_str().expect("a type") {
                "response.output_item.added" => {
                    assert_eq!(event["output_index"], parts.len(), "items come one after the other");
                    let kind = match event["item"]["type"].as_str().expect("a type") {
                        "message" => "text",
                        "reasoning" => "thought",
                        _ => "call",
                    };
                    parts.push((kind, String::new()));
                }
                kind if kind.rsplit('.').next() == Some("delta") => {
                    assert_eq!(event["output_index"], parts.len() - 1, "only the last item is open");
                    parts.last_mut().expect("an item").1 += event["delta"].as_str().expect("text");
                }
                "response.output_item.done" => {
                    let item = &event["item"];
                    let said = item["arguments"].as_str().or_else(|| item["content"][0]["text"].as_str());
                    assert_eq!(said, parts.last().map(|part| part.1.as_str()), "what is done says all that was said");
                }
                _ => {}
            },
        },
    ]
}

fn said(text: &Value) -> String {
    text.as_str().expect("a text").to_owned()
}

/// The answer's parts, whole and streamed, form by form.
async fn answers(server: &Server) -> Vec<(&'static str, Vec<Part>, Vec<Part>)> {
    let mut answers = Vec::new();
    for form in forms() {
        let whole = server.post(form.path, &form.body).await.json();
        let mut body = form.body;
        body["stream"] = json!(true);
        let streamed = server.post(form.path, &body).await;
        assert!(streamed.is_whole, "{}", streamed.body);
        let mut parts = Vec::new();
        for event in streamed.events() {
            (form.read)(&mut parts, &event);
        }
        answers.push((form.path, (form.whole)(&whole), parts));
    }
    answers
}

/// Text that a filter still holds when a call begins, and text within one: forms of parts tell one part after the other, and
/// none twice.
#[tokio::test]
async fn parts_come_whole_and_in_order() {
    let start = |index, overtakes_text| {
        let (id, name) = (format!("c{index}"), "f".to_owned());
        Delta::ToolCallStart { index, id, name, overtakes_text }
    };
    let arguments = |index, text: &str| Delta::ToolArguments { index, text: text.to_owned() };
    let (text, end) = (|text: &str| Delta::Content(text.to_owned()), |index| Delta::ToolCallEnd { index });
    let part = |kind: &'static str, text: &str| (kind, text.to_owned());
    for (at_end, expected) in [
        (
            vec![start(0, true), arguments(0, "{\"a\""), arguments(0, ":1}"), end(0), text("joe")],
            vec![part("text", "write to joe"), part("call", "{\"a\":1}")],
        ),
        (
            vec![start(0, false), arguments(0, "{\"a\""), text("done"), arguments(0, ":1}"), end(0)],
            vec![part("text", "write to "), part("call", "{\"a\":1}"), part("text", "done")],
        ),
        (
            vec![start(0, true), arguments(0, "{}"), end(0), start(1, false), arguments(1, "{}"), end(1), text("joe")],
            vec![part("text", "write to joe"), part("call", "{}"), part("call", "{}")],
        ),
    ] {
        let pipeline = FakePipeline { at_end, thinks_until: Some("|".to_owned()), ..FakePipeline::default() };
        let server = Setup { script: says(&["h", "m|write to "]), pipeline, ..Setup::default() }.start().await;
        let expected: Vec<Part> = [vec![part("thought", "hm")], expected].concat();
        for (path, whole, streamed) in answers(&server).await.into_iter().skip(1) {
            assert_eq!(whole, expected, "{path}");
            assert_eq!(streamed, expected, "{path}");
        }
    }
}

fn pieces() -> impl Strategy<Value = Vec<String>> {
    prop::collection::vec("[abé€\u{1f600}\"\\\\\n<]{1,4}", 0..12)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn streamed_equals_whole(
        pieces in pieces(),
        pattern in prop::option::of("[abé€<]{2,3}"),
        stop in prop::option::of("[abé€<]{2}"),
        thought in prop::option::of("[ab<]"),
        calls_tool: bool,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let answers = runtime.block_on(async {
            let pipeline = FakePipeline {
                replaces: pattern.map(|from| (from, "#".to_owned())),
                stops_at: stop.map(|at| (at, Finish::Stop)),
                thinks_until: thought,
                calls_tool,
                ..FakePipeline::default()
            };
            let pieces: Vec<&str> = pieces.iter().map(String::as_str).collect();
            let server = Setup { script: says(&pieces), pipeline, ..Setup::default() }.start().await;
            answers(&server).await
        });
        let text = |parts: &[Part]| parts.iter().filter(|part| part.0 == "text").map(|part| part.1.as_str()).collect::<String>();
        for (path, whole, streamed) in &answers {
            prop_assert_eq!(text(whole), text(&answers[0].1), "{} says what the first form says", path);
            let streamed: Vec<&Part> = streamed.iter().filter(|part| !part.1.is_empty()).collect();
            let whole: Vec<&Part> = whole.iter().filter(|part| !part.1.is_empty()).collect();
            prop_assert_eq!(whole, streamed, "{}", path);
        }
        prop_assert_eq!(&answers[1].1, &answers[2].1);
    }
}
