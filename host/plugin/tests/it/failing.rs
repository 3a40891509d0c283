//! Plugins that fail again and again, and requests that go on without one.

use std::time::Duration;

use inference::{Blame, Call, FaultKind, Pipeline as _, PipelineError, Stage};
use plugin::{BreakerConfig, Limits, OnFailure, PluginSpec};

use crate::house::{House, call, chat, guest, guest_for, renderer};

/// A policy that fails when a header says so, and that is given up after two faults.
fn fragile(policy_failure: OnFailure) -> House {
    let breaker = BreakerConfig { faults_max: 2, pause_min: Duration::from_millis(200), ..BreakerConfig::default() };
    let headers = vec!["x-behaviour".to_owned()];
    let policy = PluginSpec { breaker, headers, policy_failure, ..guest_for(&[Stage::Policy], "fragile", "{}") };
    House::of(vec![policy, renderer()])
}

async fn ask(house: &House, behaviour: &str) -> Result<(), PipelineError> {
    let headers = vec![("x-behaviour".to_owned(), behaviour.to_owned())];
    let mut run = house.plugins.begin(Call { headers, ..call() });
    run.prepare(chat("Hello")).await?;
    run.push("x".to_owned(), Vec::new(), true).await?;
    run.finish(inference::Finish::Stop, inference::Usage::default()).await.map(drop)
}

const BAD: &str = "panic-in-policy";
const STATE: &str = "outrigger_plugin_breaker_state{model=\"\",plugin=\"fragile\"}";

#[tokio::test]
async fn a_plugin_that_only_fails_is_asked_no_more_until_a_trial_succeeds() {
    let house = fragile(OnFailure::Closed);
    for _ in 0..2 {
        let error = ask(&house, BAD).await.expect_err("told to");
        assert!(matches!(error, PipelineError::Fault { .. }), "{error:?}");
    }
    assert_eq!(house.sample(STATE).as_deref(), Some("2"));
    let calls = house.count("outrigger_plugin_calls_total", &["fragile"]);
    let error = ask(&house, "").await.expect_err("even a request that it would take");
    let PipelineError::Unavailable { plugin, stage, retry_after } = &error else { panic!("{error:?}") };
    assert_eq!((plugin.as_str(), *stage, error.blame()), ("fragile", Stage::Policy, Blame::Plugin));
    assert!(*retry_after <= Duration::from_millis(200), "{retry_after:?}");
    assert_eq!(house.count("outrigger_plugin_calls_total", &["fragile"]), calls, "it was not called");
    assert_eq!(house.count("outrigger_plugin_breaker_refusals_total", &["fragile"]), 1);

    tokio::time::sleep(Duration::from_millis(250)).await;
    for _ in 0..2 {
        let error = ask(&house, BAD).await.expect_err("told to");
        assert!(matches!(error, PipelineError::Fault { .. }), "all may try: {error:?}");
    }
    assert!(matches!(ask(&house, "").await, Err(PipelineError::Unavailable { .. })));
    tokio::time::sleep(Duration::from_millis(450)).await;
    let mut run = house.plugins.begin(call());
    run.prepare(chat("Hello")).await.expect("it works again");
    assert_eq!(house.sample(STATE).as_deref(), Some("0"), "which is known before the answer ends");
    ask(&house, "").await.expect("it is asked as before");
}

#[tokio::test]
async fn answers_that_take_their_time_speak_for_a_plugin() {
    let house = fragile(OnFailure::Closed);
    let mut slow = house.plugins.begin(call());
    for _ in 0..5 {
        ask(&house, BAD).await.expect_err("told to");
        slow = house.plugins.begin(call());
        slow.prepare(chat("Hello")).await.expect("the others are served while none of them has ended");
    }
    drop(slow);
}

#[tokio::test]
async fn a_plugin_that_says_it_cannot_is_not_broken() {
    let house = fragile(OnFailure::Closed);
    for _ in 0..5 {
        let error = ask(&house, "internal-in-policy").await.expect_err("told to");
        assert!(matches!(error, PipelineError::Fault { .. }), "{error:?}");
    }
    assert_eq!(house.count("outrigger_plugin_breaker_refusals_total", &[]), 0);
}

#[tokio::test]
async fn calls_without_end_end_the_answer() {
    let parser = guest_for(&[Stage::Prompt, Stage::Parse], "parser", r#"{"lines": true}"#);
    let calls = |count: usize| "!call f\n!end \n".repeat(count);
    let answer = House::of(vec![parser.clone()]).answer(&[&calls(128)]).await.expect("as many as there may be");
    assert_eq!(answer.calls.len(), 128);
    let error = House::of(vec![parser.clone()]).answer(&[&calls(129)]).await.expect_err("one too many");
    assert!(matches!(error, PipelineError::Fault { kind: FaultKind::Contract, .. }), "{error:?}");

    let limits = Limits { output_bytes_max: 1_000, ..Limits::default() };
    let named = calls(64).replace("call f", &format!("call {}", "f".repeat(64)));
    let error = House::of(vec![PluginSpec { limits, ..parser }]).answer(&[&named]).await.expect_err("too much");
    assert!(matches!(error, PipelineError::Fault { kind: FaultKind::OutputSize, .. }), "names count: {error:?}");
}

#[tokio::test]
async fn events_in_pieces_are_one_text_for_the_filters() {
    let parser = guest_for(&[Stage::Prompt, Stage::Parse], "parser", r#"{"lines": true}"#);
    let house = House::of(vec![parser, guest_for(&[Stage::Postprocess], "filter", "{}")]);
    let answer = house.answer(&["one\ntwo\nthree\n"]).await.expect("the guests behave");
    assert_eq!(answer.content, "one\ntwo\nthree\n");
    // All of it, and the end.
    assert_eq!(
        house.count("outrigger_plugin_calls_total", &["filter", "stage=\"postprocess\"", "outcome=\"pass\""]),
        2
    );
}

#[tokio::test]
async fn one_that_fails_for_some_is_there_for_the_others() {
    let house = fragile(OnFailure::Closed);
    for _ in 0..4 {
        ask(&house, BAD).await.expect_err("told to");
        ask(&house, "").await.expect("the others are served");
        // The end of a request, which is what counts, comes after its answer.
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(house.count("outrigger_plugin_breaker_refusals_total", &[]), 0);
}

#[tokio::test]
async fn where_it_is_open_requests_go_on_without_it() {
    let house = fragile(OnFailure::Open);
    for _ in 0..3 {
        ask(&house, BAD).await.expect("it is open");
    }
    assert_eq!(house.count("outrigger_plugin_faults_total", &["fragile"]), 2);
    assert_eq!(house.count("outrigger_plugin_breaker_refusals_total", &["fragile"]), 1);
}

#[tokio::test]
async fn a_parser_that_fails_may_leave_the_raw_text() {
    let parser = |parse_failure| {
        let config = r#"{"lines": true, "panic-at": "BOOM"}"#;
        House::of(vec![PluginSpec { parse_failure, ..guest_for(&[Stage::Prompt, Stage::Parse], "parser", config) }])
    };
    let pieces = ["!reasoning why\n", "held ", "BOOM", " and the rest"];
    let answer = parser(OnFailure::Open).answer(&pieces).await.expect("it is open");
    assert_eq!((&*answer.reasoning, &*answer.content), ("why", "held BOOM and the rest"));
    let error = parser(OnFailure::Closed).answer(&pieces).await.expect_err("it is closed");
    assert!(matches!(error, PipelineError::Fault { stage: Stage::Parse, .. }), "{error:?}");
    let all = PluginSpec { parse_failure: OnFailure::Open, ..guest("guest", r#"{"behaviour": "panic-in-render"}"#) };
    let error = House::of(vec![all]).prepare().await.expect_err("a prompt cannot be gone without");
    assert!(matches!(error, PipelineError::Fault { stage: Stage::Prompt, .. }), "{error:?}");
}
