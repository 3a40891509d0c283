//! The bundled guards as components: what they do natively they do in the sandbox, with what is granted and no more.

use std::time::Duration;

use inference::{FaultKind, Finish, OutputFormat, Part, PipelineError, Prepared, Role, Stage, Usage};
use plugin::{KvGrant, Modify, PluginSpec};

use crate::house::{Answer, House, chat, detail, fault, load, renderer};

const SCHEMA: &str = r#"{"type":"object","properties":{"city":{"type":"string"}},"required":["city"]}"#;

fn stop_words(config: &str) -> PluginSpec {
    PluginSpec { config_json: config.to_owned(), ..PluginSpec::new("stop-words", "bundled", bundled::STOP_WORDS) }
}

fn json_guard(config: &str) -> PluginSpec {
    let spec = PluginSpec::new("json-guard", "bundled", bundled::JSON_GUARD);
    PluginSpec { config_json: config.to_owned(), modify: vec![Modify::Grammar], ..spec }
}

fn prompt_policy(config: &str) -> PluginSpec {
    let spec = PluginSpec::new("prompt-policy", "bundled", bundled::PROMPT_POLICY);
    PluginSpec { config_json: config.to_owned(), headers: vec!["x-tenant".to_owned()], ..spec }
}

fn house(spec: PluginSpec) -> House {
    House::of(vec![renderer(), spec])
}

async fn answer(house: &House, pieces: &[&str]) -> Answer {
    house.answer(pieces).await.expect("nothing fails")
}

#[tokio::test]
async fn all_of_them_work_together_without_any_configuration() {
    let specs = vec![renderer(), prompt_policy("{}"), json_guard("{}"), stop_words("{}")];
    let house = House::of(specs.into_iter().map(|spec| PluginSpec { modify: Vec::new(), ..spec }).collect());
    let answer = answer(&house, &["Par", "is.", "<|im_", "end|>\n<|im_start|>"]).await;
    assert_eq!((answer.content.as_str(), answer.stop), ("Paris.", Some(Finish::Stop)));
    assert_eq!(answer.notes, [("stop-words".to_owned(), "<|im_end|>".to_owned())]);
}

#[tokio::test]
async fn a_phrase_ends_the_answer_wherever_its_pieces_end() {
    let house = house(stop_words(r#"{"phrases": ["the end"], "ignore_case": true, "reason": "filtered"}"#));
    for pieces in [["so: THE END", " or not"], ["so: T", "he end"], ["so: the", " END"]] {
        let answer = answer(&house, &pieces).await;
        assert_eq!((answer.content.as_str(), answer.stop), ("so: ", Some(Finish::Filtered)), "{pieces:?}");
    }
}

#[tokio::test]
async fn what_may_be_a_phrase_is_no_more_than_is_allowed_to_be_held() {
    let phrase = "x".repeat(1024);
    let house = house(stop_words(&format!(r#"{{"phrases": ["{phrase}"]}}"#)));
    let half = "x".repeat(1023);
    let answer = answer(&house, &[&half, "y"]).await;
    assert_eq!(answer.content.len(), 1024);
}

async fn prepare(house: &House) -> Result<Prepared, PipelineError> {
    house.begin().prepare(chat("Where?")).await
}

#[tokio::test]
async fn a_schema_becomes_the_request_s_form() {
    let guarded = house(json_guard(&format!(r#"{{"schema": {SCHEMA}}}"#)));
    let prepared = prepare(&guarded).await.expect("it is granted");
    assert_eq!(prepared.request.format, Some(OutputFormat::JsonSchema(SCHEMA.to_owned())));

    let config = format!(r#"{{"schema": {SCHEMA}}}"#);
    let error = prepare(&house(PluginSpec { modify: Vec::new(), ..json_guard(&config) })).await.expect_err("it is not");
    assert_eq!(fault(&error), ("json-guard".to_owned(), Stage::Policy, FaultKind::Contract));
    assert!(detail(&error).contains(r#"modify = ["grammar"]"#), "{}", detail(&error));
}

#[tokio::test]
async fn an_answer_is_judged_by_the_schema() {
    let judged = async |on_invalid: &str, pieces: &[&str]| {
        house(json_guard(&format!(r#"{{"schema": {SCHEMA}, "on_invalid": "{on_invalid}"}}"#))).answer(pieces).await
    };
    let good = ["{\"city\": \"Z", "ü", "rich\"}"];
    for on_invalid in ["annotate", "stop", "fail"] {
        let answer = judged(on_invalid, &good).await.expect("it is valid");
        assert_eq!((answer.content.as_str(), answer.stop), ("{\"city\": \"Zürich\"}", None));
        assert_eq!(answer.notes, [("json-guard".to_owned(), "valid".to_owned())]);
    }
    let bad = ["{\"city\": 7", "} indeed"];
    let answer = judged("annotate", &bad).await.expect("it is only noted");
    assert_eq!(
        (answer.content.as_str(), answer.notes[0].1.as_str()),
        ("{\"city\": 7} indeed", "it stops being JSON at byte 12")
    );
    let answer = judged("stop", &bad).await.expect("it is stopped");
    assert_eq!((answer.content.as_str(), answer.stop), ("{\"city\": 7} ", Some(Finish::Filtered)));
    let error = judged("fail", &["{\"city\": 7}"]).await.expect_err("it fails");
    assert_eq!(fault(&error), ("json-guard".to_owned(), Stage::Postprocess, FaultKind::Error));
    assert!(detail(&error).contains("/city"), "{}", detail(&error));
}

fn rejected(error: PipelineError) -> (u16, String, Option<Duration>) {
    match error {
        PipelineError::Rejected { status, code, retry_after, .. } => (status, code, retry_after),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn what_may_not_be_asked_is_rejected() {
    for (config, status, code) in [
        (r#"{"deny": ["(?i)where\\?"]}"#, 403, "content_denied"),
        (r#"{"allow": ["^When"]}"#, 403, "content_not_allowed"),
        (r#"{"max_tokens": 5}"#, 400, "request_too_large"),
        (r#"{"roles": ["system"]}"#, 400, "role_not_allowed"),
        (r#"{"tenant_header": "x-tenant", "tenants": {"acme": {"max_bytes": 1}}}"#, 400, "request_too_large"),
    ] {
        let error = prepare(&house(prompt_policy(config))).await.expect_err(config);
        assert_eq!(rejected(error), (status, code.to_owned(), None), "{config}");
    }
    prepare(&house(prompt_policy(r#"{"max_tokens": 6, "deny": ["when"]}"#))).await.expect("all is well");
}

#[tokio::test]
async fn the_operator_s_system_prompt_comes_first() {
    let policy = prompt_policy(r#"{"system_prompt": {"text": "Be brief."}}"#);
    let house = house(PluginSpec { modify: vec![Modify::Messages], ..policy });
    let messages = prepare(&house).await.expect("it is granted").request.messages;
    assert_eq!((messages.len(), messages[0].role), (2, Role::System));
    assert_eq!(messages[0].parts, [Part::Text("Be brief.".to_owned())]);
}

#[tokio::test]
async fn requests_are_counted_in_the_store_that_is_granted() {
    let config = r#"{"rate": {"requests": 2, "seconds": 86400}}"#;
    let granted = house(PluginSpec { kv: vec![KvGrant::new("prompt-policy")], ..prompt_policy(config) });
    for _ in 0..2 {
        prepare(&granted).await.expect("two are allowed");
    }
    let (status, code, retry_after) = rejected(prepare(&granted).await.expect_err("the third is too many"));
    assert_eq!((status, code.as_str()), (429, "rate_limit_exceeded"));
    assert!(retry_after.is_some_and(|pause| pause <= Duration::from_hours(24)), "{retry_after:?}");

    let error = load(prompt_policy(config)).map(|_| ()).expect_err("nothing is granted").to_string();
    assert!(error.contains("store `prompt-policy`, which is not granted"), "{error}");
}

#[tokio::test]
async fn tokens_are_counted_when_the_request_has_ended() {
    let config = r#"{"quota": {"tokens": 7, "seconds": 86400}}"#;
    let spec = PluginSpec { kv: vec![KvGrant::new("prompt-policy")], ..prompt_policy(config) };
    let house = house(PluginSpec { name: "quota".to_owned(), ..spec });
    answer(&house, &["seven tokens, by the house's count"]).await;
    house.wait_for("outrigger_plugin_calls_total", &["plugin=\"quota\"", "stage=\"audit\"", "outcome=\"ok\""], 1).await;
    assert_eq!(rejected(prepare(&house).await.expect_err("all are used")).1, "quota_exceeded");
}

#[tokio::test]
async fn who_leaves_before_the_end_has_used_tokens_too() {
    let config = r#"{"quota": {"tokens": 7, "seconds": 86400}}"#;
    let spec = PluginSpec { kv: vec![KvGrant::new("prompt-policy")], ..prompt_policy(config) };
    let house = house(PluginSpec { name: "quota".to_owned(), ..spec });
    let mut run = house.begin();
    run.prepare(chat("Hello")).await.expect("there is room");
    run.used(Usage { prompt_tokens: 5, completion_tokens: 3, ..Usage::default() });
    run.push("so far".to_owned(), Vec::new(), false).await.expect("nothing is filtered");
    drop(run);
    house.wait_for("outrigger_plugin_calls_total", &["plugin=\"quota\"", "stage=\"audit\"", "outcome=\"ok\""], 1).await;
    assert_eq!(rejected(prepare(&house).await.expect_err("all are used")).1, "quota_exceeded");
}

#[tokio::test]
async fn many_patterns_fit_the_budget_of_every_request() {
    let pattern = |number: usize| format!(r#""(?i)(?-u:\\b)word{number}\\s+(is|was)\\s+\\w+!""#);
    let patterns: Vec<String> = (0..32).map(pattern).collect();
    let house = house(prompt_policy(&format!(r#"{{"deny": [{}]}}"#, patterns.join(","))));
    let long = "word7 aims at nothing in particular. ".repeat(700);
    house.begin().prepare(chat(&long)).await.expect("nothing is denied, in time");
    let error = house.begin().prepare(chat(&format!("{long} Word31 was naïve!"))).await.expect_err("this is");
    assert_eq!(rejected(error).1, "content_denied");
}
