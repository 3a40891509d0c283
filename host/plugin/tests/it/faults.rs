//! Every way in which a guest can break its contract ends its own request, with the right name, and nobody else's.

use std::time::{Duration, Instant};

use inference::{FaultKind, Finish, PipelineError, Stage, Usage};
use plugin::{Limits, OnFailure, PluginSpec};

use crate::house::{House, chat, detail, fault, guest, guest_for, logged, renderer};

/// Which call of a run meets the misbehaviour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Prepare,
    Push,
    Finish,
}

/// Runs a request with a misbehaving guest beside another request of the same plugins' kind, and says how it ended.
async fn misbehave(behaviour: &str, step: Step) -> PipelineError {
    let house = House::told(&format!(r#"{{"behaviour": "{behaviour}"}}"#));
    let neighbour = House::told("{}");
    let mut streaming = neighbour.begin();
    streaming.prepare(chat("Hello")).await.expect("the neighbour behaves");

    let mut run = house.begin();
    let error = match (run.prepare(chat("Hello")).await, step) {
        (Err(error), Step::Prepare) => error,
        (Ok(_), Step::Push) => run.push("caf\u{e9} ".repeat(300), Vec::new(), false).await.expect_err(behaviour),
        (Ok(_), Step::Finish) => {
            run.push("text".to_owned(), Vec::new(), true).await.expect("it only misbehaves at the end");
            run.finish(Finish::Stop, Usage::default()).await.expect_err(behaviour)
        }
        (prepared, _) => panic!("{behaviour}: {prepared:?} before {step:?}"),
    };

    let output = streaming.push("text".to_owned(), Vec::new(), true).await.expect("the neighbour goes on");
    assert_eq!(output.deltas.len(), 1, "{behaviour}");
    let again = run.push("more".to_owned(), Vec::new(), true).await.expect_err("a request that failed stays failed");
    assert!(matches!(again, PipelineError::Fault { plugin, .. } if plugin == "host"), "{behaviour}");
    house.wait_for("outrigger_plugin_instances", &["plugin=\"guest\""], 0).await;
    let (_, stage, kind) = fault(&error);
    let labels = [format!("stage=\"{stage}\""), format!("kind=\"{kind}\"")];
    assert_eq!(house.count("outrigger_plugin_faults_total", &[&labels[0], &labels[1]]), 1, "{behaviour}");
    error
}

async fn check(behaviour: &str, step: Step, stage: Stage, kind: FaultKind, words: &str) {
    let error = misbehave(behaviour, step).await;
    assert_eq!(fault(&error), ("guest".to_owned(), stage, kind), "{behaviour}: {}", detail(&error));
    assert!(detail(&error).contains(words), "{behaviour}: {} lacks {words:?}", detail(&error));
    assert!(!error.to_string().contains(words) || words.is_empty(), "details are for the operator, not the client");
}

#[tokio::test]
async fn endless_loops_time_out() {
    for (place, step, stage) in [
        ("policy", Step::Prepare, Stage::Policy),
        ("render", Step::Prepare, Stage::Prompt),
        ("parse", Step::Push, Stage::Parse),
        ("open", Step::Prepare, Stage::Postprocess),
        ("push", Step::Push, Stage::Postprocess),
        ("finish", Step::Finish, Stage::Postprocess),
    ] {
        check(&format!("loop-in-{place}"), step, stage, FaultKind::Timeout, "of CPU time").await;
    }
}

#[tokio::test]
async fn a_loop_around_a_host_call_ends_at_one_limit_or_the_other() {
    for behaviour in ["clock-loop-in-policy", "host-calls-in-policy"] {
        let error = misbehave(behaviour, Step::Prepare).await;
        let (_, _, kind) = fault(&error);
        assert!(matches!(kind, FaultKind::HostCalls | FaultKind::Timeout), "{}", detail(&error));
    }
    let limits = Limits { host_calls_max: 100, ..Limits::default() };
    let config = r#"{"behaviour": "host-calls-in-policy"}"#;
    let error = House::of(vec![PluginSpec { limits, ..guest("guest", config) }]).prepare().await.expect_err("a flood");
    assert_eq!(fault(&error).2, FaultKind::HostCalls);
    assert_eq!(detail(&error), "called the host more than 100 times in one request");
}

/// No tick of the guest's meets it: what the host does for a guest would be for nothing.
#[tokio::test]
async fn work_of_the_host_is_on_the_guests_time() {
    for behaviour in ["tokenize-in-policy", "count-tokens-in-policy"] {
        check(behaviour, Step::Prepare, Stage::Policy, FaultKind::Timeout, "used more than 20 ms of CPU time").await;
    }
}

#[tokio::test]
async fn memory_is_bounded() {
    check("memory-in-policy", Step::Prepare, Stage::Policy, FaultKind::Memory, "it may have 33554432").await;
    check("memory-at-once-in-render", Step::Prepare, Stage::Prompt, FaultKind::Memory, "it may have 33554432").await;
    check("memory-at-once-in-push", Step::Push, Stage::Postprocess, FaultKind::Memory, "it may have 33554432").await;
}

#[tokio::test]
async fn recursion_is_bounded() {
    check("stack-in-policy", Step::Prepare, Stage::Policy, FaultKind::Stack, "").await;
    // The guest's own stack, in its memory, ends first; running over it is an access out of bounds.
    check("recursion-in-policy", Step::Prepare, Stage::Policy, FaultKind::Trap, "out of bounds").await;
}

#[tokio::test]
async fn panics_are_traps() {
    check("panic-in-policy", Step::Prepare, Stage::Policy, FaultKind::Trap, "unreachable").await;
    check("panic-in-parse", Step::Push, Stage::Parse, FaultKind::Trap, "unreachable").await;
    check("panic-in-push", Step::Push, Stage::Postprocess, FaultKind::Trap, "unreachable").await;
    check("panic-in-finish", Step::Finish, Stage::Postprocess, FaultKind::Trap, "unreachable").await;
}

#[tokio::test]
async fn output_is_bounded() {
    check("huge-result", Step::Prepare, Stage::Prompt, FaultKind::OutputSize, "").await;
    check("huge-list", Step::Prepare, Stage::Policy, FaultKind::OutputSize, "").await;
    check("huge-log-in-policy", Step::Prepare, Stage::Policy, FaultKind::OutputSize, "").await;
    check("huge-argument-in-policy", Step::Prepare, Stage::Policy, FaultKind::OutputSize, "").await;
}

#[tokio::test]
async fn an_answer_cannot_be_multiplied_without_end() {
    for (behaviour, words) in [("multiply", "emitted more than 4194304 bytes"), ("huge-instead", "")] {
        // Filling megabytes takes longer than a push may.
        let limits = Limits { push_cpu_max: Duration::from_millis(200), ..Limits::default() };
        let config = format!(r#"{{"behaviour": "{behaviour}"}}"#);
        let house = House::of(vec![PluginSpec { limits, ..guest("guest", &config) }]);
        let error = house.answer(&["a"; 8]).await.expect_err(behaviour);
        assert_eq!(fault(&error), ("guest".to_owned(), Stage::Postprocess, FaultKind::OutputSize));
        assert!(detail(&error).contains(words), "{}", detail(&error));
    }
}

/// A parser of lines, in front of a filter.
fn behind_a_parser(filter: PluginSpec) -> House {
    House::of(vec![guest_for(&[Stage::Prompt, Stage::Parse], "parser", r#"{"lines": true}"#), filter])
}

#[tokio::test]
async fn an_answer_cannot_be_torn_without_end() {
    let house = behind_a_parser(guest_for(&[Stage::Postprocess], "filter", "{}"));
    let torn = |pieces: usize| "a\n!reasoning b\n".repeat(pieces / 2);
    let answer = house.answer(&[&torn(1_024), &torn(1_024)]).await.expect("so many may be");
    assert_eq!((answer.content.len(), answer.reasoning.len()), (2_048, 1_024));
    let error = house.answer(&[&torn(1_026)]).await.expect_err("one more of each");
    assert_eq!(fault(&error), ("parser".to_owned(), Stage::Parse, FaultKind::Contract));
    assert!(detail(&error).starts_with("the parser made 1026 pieces of one piece of text"), "{}", detail(&error));
}

/// What a parser makes of one push is no more time for the filters behind it.
#[tokio::test]
async fn pieces_of_one_push_add_to_the_budget_once() {
    let limits = Limits {
        push_cpu_max: Duration::from_secs(10),
        request_cpu_max: Duration::from_millis(200),
        request_cpu_per_push: Duration::from_millis(100),
        ..Limits::default()
    };
    let filter = guest_for(&[Stage::Postprocess], "filter", r#"{"behaviour": "loop-at-end"}"#);
    let house = behind_a_parser(PluginSpec { limits, ..filter });
    let text = "a\n!reasoning b\n".repeat(20) + "END\n";
    let error = house.answer(&[&text, ""]).await.expect_err("a loop");
    assert_eq!(detail(&error), "used more than 300 ms of CPU time, its budget for one request");
}

#[tokio::test]
async fn nonsense_is_a_contract_fault() {
    for (behaviour, step, stage, words) in [
        ("consume-past-the-end", Step::Push, Stage::Postprocess, "of a window of"),
        ("consume-inside-a-character", Step::Push, Stage::Postprocess, "inside a character"),
        ("hold-for-ever", Step::Push, Stage::Postprocess, "may hold back 256"),
        ("unknown-token", Step::Prepare, Stage::Prompt, "token 4294967295, and the vocabulary 257"),
        ("empty-stop", Step::Prepare, Stage::Prompt, "stop texts"),
        ("replace-messages", Step::Prepare, Stage::Policy, "grant `modify = [\"messages\"]`"),
        ("replace-sampling", Step::Prepare, Stage::Policy, "grant `modify = [\"sampling\"]`"),
        ("replace-tools", Step::Prepare, Stage::Policy, "grant `modify = [\"tools\"]`"),
        ("replace-grammar", Step::Prepare, Stage::Policy, "grant `modify = [\"grammar\"]`"),
        ("replace-extra", Step::Prepare, Stage::Policy, "grant `modify = [\"extra\"]`"),
        ("replace-unknown-extra", Step::Prepare, Stage::Policy, "`lora`"),
        ("replace-model", Step::Prepare, Stage::Policy, "another model"),
        ("replace-with-nothing", Step::Prepare, Stage::Policy, "no messages"),
        ("replace-with-odd-sampling", Step::Prepare, Stage::Policy, "out of range"),
        ("replace-media", Step::Prepare, Stage::Policy, "media"),
    ] {
        check(behaviour, step, stage, FaultKind::Contract, words).await;
    }
}

#[tokio::test]
async fn typed_errors_keep_their_meaning() {
    check("unavailable-in-policy", Step::Prepare, Stage::Policy, FaultKind::Error, "told to be unavailable").await;
    check("internal-in-render", Step::Prepare, Stage::Prompt, FaultKind::Error, "told to fail").await;
    check("internal-in-push", Step::Push, Stage::Postprocess, FaultKind::Error, "told to fail").await;

    for (place, stage) in [("policy", Stage::Policy), ("render", Stage::Prompt)] {
        let house = House::told(&format!(r#"{{"behaviour": "invalid-in-{place}"}}"#));
        let message = format!("told to find {place} invalid");
        let expected = PipelineError::Invalid { plugin: "guest".to_owned(), stage, message };
        assert_eq!(house.prepare().await, Err(expected));
        assert_eq!(house.count("outrigger_plugin_faults_total", &[]), 0, "the client is at fault");
    }
    let house = House::told(r#"{"behaviour": "invalid-in-push"}"#);
    let error = house.answer(&["text"]).await.expect_err("told to");
    assert!(matches!(error, PipelineError::Invalid { stage: Stage::Postprocess, .. }));
    let house = House::told(r#"{"behaviour": "long-invalid-in-policy"}"#);
    let error = house.prepare().await.expect_err("told to");
    assert!(matches!(error, PipelineError::Invalid { message, .. } if message.len() == 1_024));
}

#[tokio::test]
async fn a_flood_of_logs_is_cut_and_harms_nobody() {
    let log = logged();
    House::told(r#"{"behaviour": "log-flood-in-policy"}"#).prepare().await.expect("logging too much is no fault");
    assert!(
        (450..650).contains(&log.count("of a flood")),
        "64 KiB, lines included, are {} lines",
        log.count("of a flood")
    );
    assert_eq!(log.count("logged more than 65536 bytes in one request"), 1);
    assert!(log.line("of a flood").contains(r#"plugin="guest""#));
}

#[tokio::test]
async fn an_audit_that_fails_changes_nothing() {
    for behaviour in ["loop-in-audit", "panic-in-audit"] {
        let house = House::told(&format!(r#"{{"behaviour": "{behaviour}"}}"#));
        assert_eq!(house.answer(&["text"]).await.expect("the answer is out already").content, "text");
        house.wait_for("outrigger_plugin_faults_total", &["stage=\"audit\""], 1).await;
    }
}

#[tokio::test]
async fn calls_add_up_to_the_budget_of_a_request() {
    let limits = Limits {
        policy_cpu_max: Duration::from_secs(5),
        request_cpu_max: Duration::from_millis(30),
        ..Limits::default()
    };
    let spec = PluginSpec { limits, ..guest("guest", r#"{"behaviour": "loop-in-policy"}"#) };
    let error = House::of(vec![spec]).prepare().await.expect_err("5 s is more than a request has");
    assert_eq!(detail(&error), "used more than 30 ms of CPU time, its budget for one request");
}

/// A filter that fails on its first push, after another that holds text back.
fn filters(failure: OnFailure, behaviour: &str) -> House {
    let config = format!(r#"{{"behaviour": "{behaviour}", "mask": "secret"}}"#);
    let filter = guest_for(&[Stage::Postprocess], "filter", &config);
    House::of(vec![renderer(), PluginSpec { postprocess_failure: failure, ..filter }])
}

#[tokio::test]
async fn open_filters_are_bypassed_and_closed_ones_end_the_answer() {
    for behaviour in
        ["panic-in-push", "loop-in-push", "internal-in-push", "consume-past-the-end", "hold-for-ever", "panic-in-open"]
    {
        let text = "a secret ".repeat(40);
        let answer = filters(OnFailure::Open, behaviour).answer(&[&text, "and more"]).await.expect(behaviour);
        assert_eq!(answer.content, format!("{text}and more"), "{behaviour}: nothing is lost, doubled or reordered");
        let error = filters(OnFailure::Closed, behaviour).answer(&[&text, "and more"]).await.expect_err(behaviour);
        assert_eq!(fault(&error).0, "filter");
    }
}

#[tokio::test]
async fn a_policy_that_is_open_is_passed_by() {
    for behaviour in ["panic-in-policy", "loop-in-policy", "unavailable-in-policy", "replace-model"] {
        let config = format!(r#"{{"behaviour": "{behaviour}"}}"#);
        let policy = guest_for(&[Stage::Policy], "policy", &config);
        let house = House::of(vec![PluginSpec { policy_failure: OnFailure::Open, ..policy }, renderer()]);
        let prepared = house.prepare().await.expect(behaviour);
        assert_eq!(prepared.request, chat("Hello"), "{behaviour}");
        assert_eq!(house.count("outrigger_plugin_faults_total", &["policy"]), 1, "{behaviour}: it is counted");
    }
}

#[tokio::test]
async fn an_instance_that_trapped_is_not_entered_again() {
    let both = guest_for(&[Stage::Policy, Stage::Postprocess], "both", r#"{"behaviour": "panic-in-policy"}"#);
    let house = House::of(vec![PluginSpec { policy_failure: OnFailure::Open, ..both }, renderer()]);
    let error = house.answer(&["text"]).await.expect_err("its filter is closed");
    assert_eq!(fault(&error), ("both".to_owned(), Stage::Postprocess, FaultKind::Trap));
    assert!(detail(&error).starts_with("it failed earlier in this request"), "{}", detail(&error));
}

#[tokio::test]
async fn dropping_a_run_frees_the_worker() {
    let limits =
        Limits { policy_cpu_max: Duration::from_mins(1), request_cpu_max: Duration::from_mins(1), ..Limits::default() };
    let spec = PluginSpec { limits, ..guest("guest", r#"{"behaviour": "loop-in-policy"}"#) };
    let house = House::of(vec![spec]);
    let started = Instant::now();
    // More endless calls than there are workers, all of them dropped.
    let runs = (0..6).map(|_| tokio::time::timeout(Duration::from_millis(50), house.prepare()));
    for run in runs {
        assert!(run.await.is_err(), "the loop runs on until it is dropped");
    }
    House::told("{}").prepare().await.expect("workers are free");
    house.wait_for("outrigger_plugin_instances", &["plugin=\"guest\""], 0).await;
    assert!(started.elapsed() < Duration::from_secs(20), "{:?}", started.elapsed());
    assert_eq!(house.count("outrigger_plugin_faults_total", &[]), 0, "the client left; the plugin is not at fault");
}

#[tokio::test]
async fn a_dropped_run_is_audited() {
    let house = House::told("{}");
    let mut run = house.begin();
    run.prepare(chat("Hello")).await.expect("the guest behaves");
    drop(run);
    house.wait_for("outrigger_plugin_calls_total", &["stage=\"audit\"", "outcome=\"ok\""], 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hostile_requests_do_not_hold_up_the_others() {
    let hostile = std::sync::Arc::new(House::told(r#"{"behaviour": "loop-in-push"}"#));
    let attack = tokio::spawn({
        let hostile = std::sync::Arc::clone(&hostile);
        async move {
            for _ in 0..20 {
                hostile.answer(&["text"]).await.expect_err("it never ends by itself");
            }
        }
    });
    let house = House::told("{}");
    for _ in 0..50 {
        assert_eq!(house.answer(&["a", "b", "c"]).await.expect("the guest behaves").content, "abc");
    }
    attack.await.expect("every attack was ended");
}
