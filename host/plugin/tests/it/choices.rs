//! Several answers to one request: what comes before the model happens once, and what comes behind it is each answer's own.

use inference::{Call, Finish, Operation, Pipeline as _, PipelineRun, RequestId, Stage, Steer, Token, Usage};
use plugin::{Limits, PluginSpec, Reuse, Sandbox, SandboxConfig};

use crate::control::{Driven, controller, held};
use crate::house::{Answer, House, call, chat, detail, fault, guest_for, logged, renderer};

/// A policy that counts its requests, a filter that masks "secret", and an audit.
fn house() -> House {
    let counting = guest_for(&[Stage::Policy], "counting", r#"{"script": "add store requests 1"}"#);
    let masking =
        guest_for(&[Stage::Parse, Stage::Postprocess], "masking", r#"{"mask": "secret", "behaviour": "note"}"#);
    let auditing = guest_for(&[Stage::Audit], "auditing", r#"{"log-audit": true}"#);
    House::of(vec![counting, renderer(), masking, auditing])
}

/// A request called `id` with so many answers, all of which are open.
async fn begin(house: &House, id: &str, answers: usize) -> Vec<Box<dyn PipelineRun>> {
    let mut runs = vec![house.plugins.begin(Call { request_id: RequestId::new(id), ..call() })];
    for _ in 1..answers {
        let another = runs[0].another();
        runs.push(another);
    }
    runs[0].prepare(chat("Hello")).await.expect("it is let through");
    for run in &mut runs[1..] {
        assert!(!run.open().await.expect("it opens"), "nobody wants tokens");
    }
    runs
}

async fn push(run: &mut Box<dyn PipelineRun>, answer: &mut Answer, text: &str, last: bool) {
    answer.take(run.push(text.to_owned(), Vec::new(), last).await.expect("it behaves"));
}

fn used(completion_tokens: u32) -> Usage {
    Usage { prompt_tokens: 5, completion_tokens, cached_tokens: 2 }
}

fn calls(house: &House, plugin: &str, stage: &str) -> u64 {
    house.count("outrigger_plugin_calls_total", &[&format!("plugin=\"{plugin}\""), &format!("stage=\"{stage}\"")])
}

#[tokio::test]
async fn policies_the_prompt_and_the_audit_come_once_and_each_answer_is_filtered_by_itself() {
    let (log, house) = (logged(), house());
    let mut runs = begin(&house, "three", 3).await;
    assert_eq!(house.count("outrigger_plugin_instances{", &[]), 3, "one of each plugin, of those that were asked");
    let mut answers: Vec<Answer> = runs.iter().map(|_| Answer::default()).collect();
    // What one holds back is no other's: together these would be two secrets.
    for pieces in [["a sec", "b ret", "c se"], ["ret.", "sec.", "cret."]] {
        for ((run, answer), piece) in runs.iter_mut().zip(&mut answers).zip(pieces) {
            push(run, answer, piece, false).await;
        }
    }
    // The order in which they began is not that in which they end.
    for place in [1, 2, 0] {
        push(&mut runs[place], &mut answers[place], "", true).await;
        let tokens = u32::try_from(place).expect("few") + 1;
        let finish = if place == 2 { Finish::Length } else { Finish::Stop };
        answers[place].notes = runs[place].finish(finish, used(tokens)).await.expect("it ends well");
    }
    let contents: Vec<&str> = answers.iter().map(|answer| answer.content.as_str()).collect();
    assert_eq!(contents, ["a [masked].", "b retsec.", "c [masked]."]);
    // What was noted on the request is there with each answer.
    for (place, end) in [(0, "Finish::Stop"), (1, "Finish::Stop"), (2, "Finish::Length")] {
        let notes = [("add store requests 1", "Ok(1)"), ("end", end)];
        assert_eq!(answers[place].notes, notes.map(|(name, value)| (name.to_owned(), value.to_owned())), "{place}");
    }
    house.wait_for("outrigger_plugin_instances{", &[], 0).await;
    assert_eq!((calls(&house, "counting", "policy"), calls(&house, "renderer", "prompt")), (1, 1));
    assert_eq!((calls(&house, "masking", "init"), calls(&house, "auditing", "audit")), (1, 1));
    // All answers' tokens, the worst end of them, and each note once.
    let line = log.line("audit request=three ");
    assert!(line.contains("Finish::Length after 6 tokens, 4 notes"), "{line}");
    assert_eq!(log.count("audit request=three "), 1);
    assert_eq!(house.count("outrigger_plugin_faults_total", &[]), 0);
}

#[tokio::test]
async fn a_prompt_as_it_stands_has_answers_too() {
    let house = house();
    let mut first = house.begin();
    let mut second = first.another();
    first
        .prepare(inference::ChatRequest { operation: Operation::Completion, ..chat("Once") })
        .await
        .expect("it passes");
    second.open().await.expect("it opens");
    for run in [&mut first, &mut second] {
        let mut answer = Answer::default();
        push(run, &mut answer, "a secret", true).await;
        run.finish(Finish::Stop, used(1)).await.expect("it ends well");
        assert_eq!(answer.content, "a [masked]");
    }
    assert_eq!((calls(&house, "counting", "policy"), calls(&house, "masking", "parse")), (1, 0));
}

#[tokio::test]
async fn a_fault_in_one_ends_all() {
    let failing = guest_for(&[Stage::Parse], "failing", r#"{"panic-at": "boom"}"#);
    let auditing = guest_for(&[Stage::Audit], "auditing", r#"{"log-audit": true}"#);
    let (log, house) = (logged(), House::of(vec![renderer(), failing, auditing]));
    let mut runs = begin(&house, "one-fails", 2).await;
    runs[0].used(used(3));
    runs[1].used(used(4));
    let error = runs[1].push("boom".to_owned(), Vec::new(), false).await.expect_err("it is told to panic");
    assert_eq!(fault(&error).1, Stage::Parse);
    let error = runs[0].push("fine".to_owned(), Vec::new(), false).await.expect_err("the instance is gone");
    assert!(detail(&error).contains("has ended"), "{}", detail(&error));
    drop(runs);
    house.wait_for("outrigger_plugin_calls_total", &["stage=\"audit\""], 1).await;
    house.wait_for("outrigger_plugin_instances{", &[], 0).await;
    let line = log.line("audit request=one-fails ");
    assert!(line.contains("Finish::Failed after 7 tokens"), "{line}");
    assert_eq!(house.count("outrigger_plugin_faults_total", &[]), 1);
}

#[tokio::test]
async fn who_leaves_one_leaves_all_and_is_audited_once() {
    let (log, house) = (logged(), house());
    let mut runs = begin(&house, "left", 3).await;
    push(&mut runs[0], &mut Answer::default(), "whole", true).await;
    runs[0].finish(Finish::Stop, used(2)).await.expect("it ends well");
    runs[1].used(used(5));
    drop(runs);
    house.wait_for("outrigger_plugin_calls_total", &["stage=\"audit\""], 1).await;
    house.wait_for("outrigger_plugin_instances{", &[], 0).await;
    let line = log.line("audit request=left ");
    assert!(line.contains("Finish::Cancelled after 7 tokens"), "{line}");
    assert_eq!(log.count("audit request=left "), 1);
}

#[tokio::test]
async fn a_request_goes_on_when_one_of_its_answers_is_whole_and_dropped() {
    let house = house();
    let mut runs = begin(&house, "goes-on", 2).await;
    let mut whole = runs.remove(0);
    push(&mut whole, &mut Answer::default(), "whole", true).await;
    whole.finish(Finish::Stop, used(1)).await.expect("it ends well");
    drop(whole);
    let mut answer = Answer::default();
    push(&mut runs[0], &mut answer, "a secret", true).await;
    runs[0].finish(Finish::Stop, used(1)).await.expect("it ends well");
    assert_eq!(answer.content, "a [masked]");
    house.wait_for("outrigger_plugin_calls_total", &["stage=\"audit\"", "outcome=\"ok\""], 1).await;
}

#[tokio::test]
async fn each_answer_has_a_controller_of_its_own() {
    let log = logged();
    let steps = r#"{"steps": "allow 1; allow 2; expect 7 8; stop", "log-control": 1}"#;
    let house = House::of(vec![renderer(), controller(steps)]);
    let mut first = house.plugins.begin(Call { request_id: RequestId::new("both"), choice: 6, ..call() });
    let mut second = first.another();
    first.prepare(chat("Hello")).await.expect("it renders");
    second.open().await.expect("it opens");
    let mut driven = Vec::new();
    for mut run in [first, second] {
        let control = run.control(&[Token(1), Token(2)]).await.expect("it opens").expect("tokens are controlled");
        driven.push(Driven { run, steps: control.begin() });
    }
    for (appended, allowed) in [(&[][..], 1), (&[7], 2)] {
        for driven in &mut driven {
            assert_eq!(held(&driven.step(appended).await.expect("a list")), [allowed]);
        }
    }
    for driven in &mut driven {
        assert_eq!(driven.step(&[8]).await, Ok(Steer::Free(1)), "it was told of this answer's tokens");
    }
    // The one is over, and the other goes on.
    driven.remove(0).finish().await.expect("it ends well");
    assert_eq!(driven[0].step(&[9]).await, Ok(Steer::Stop));
    for choice in [6, 7] {
        assert_eq!(log.count(&format!("control choice={choice} prompt=[1, 2]")), 1);
    }
}

/// What a request may use is there once for each of its answers.
#[tokio::test]
async fn many_answers_have_what_they_need() {
    // Opening takes this guest some ten calls of the host, and each push some more.
    let limits = Limits { host_calls_max: 40, ..Limits::default() };
    let filter = guest_for(&[Stage::Postprocess], "filter", r#"{"mask": "x", "stop": "y"}"#);
    let house = House::of(vec![renderer(), PluginSpec { limits, ..filter }]);
    let mut runs = begin(&house, "many", 16).await;
    for run in &mut runs {
        push(run, &mut Answer::default(), "text", true).await;
        run.finish(Finish::Stop, used(1)).await.expect("it has calls left");
    }
}

/// What an answer opened is dropped with it, so that an instance that serves many does not grow.
#[tokio::test]
async fn an_instance_goes_back_when_the_last_answer_has_ended() {
    let spec = guest_for(&[Stage::Policy, Stage::Postprocess], "guest", r#"{"script": "remember"}"#);
    let sandbox = Sandbox::new(SandboxConfig { idle_instances: 2, ..SandboxConfig::default() }).expect("a sandbox");
    let reuse = Reuse { growth_bytes_max: 0, ..Reuse::default() };
    let house = House::within(&sandbox, vec![PluginSpec { reuse: Some(reuse), ..spec }, renderer()]);
    for request in 1..=3 {
        for mut run in begin(&house, "reusing", 8).await {
            let mut answer = Answer::default();
            push(&mut run, &mut answer, "ab", true).await;
            let notes = run.finish(Finish::Stop, used(1)).await.expect("it ends well");
            assert_eq!(notes, [("remember".to_owned(), request.to_string())], "one instance, asked once a request");
        }
        house.wait_for("outrigger_plugin_instances{", &["renderer"], 0).await;
    }
    assert_eq!(calls(&house, "guest", "init"), 1);
}
