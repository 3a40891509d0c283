//! When a controller's steps come: too late, not at all, beside everybody else's, and while plugins are replaced.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use inference::{Call, ControlFailure, FaultKind, Finish, Pipeline as _, PipelineError, Stage, Token, Usage};
use plugin::{Limits, PluginSpec, Plugins, Sandbox, SandboxConfig};
use telemetry::{Format, Metrics};

use crate::control::{Driven, controller, held};
use crate::house::{House, call, chat, detail, fault, guest_for, model, renderer};

const LATE: ControlFailure = ControlFailure::Late { waited: Duration::from_secs(11) };

/// A guest that may take a minute for a step, and does.
fn endless() -> PluginSpec {
    let limits =
        Limits { step_cpu_max: Duration::from_mins(1), request_cpu_max: Duration::from_mins(1), ..Limits::default() };
    PluginSpec { limits, ..controller(r#"{"behaviour": "loop-in-step"}"#) }
}

/// The engine has waited long enough: the guest is stopped, so that nobody waits for it behind that, and is counted once.
#[tokio::test]
async fn a_step_that_is_late_is_stopped_and_counted_once() {
    let house = House::of(vec![renderer(), endless()]);
    for request in 1..=5 {
        let mut driven = house.drive().await;
        driven.steps.ask(Vec::new());
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert!(driven.steps.poll().is_pending(), "it never ends by itself");
        let error = driven.steps.fail(LATE);
        assert_eq!(fault(&error), ("guest".to_owned(), Stage::TokenControl, FaultKind::Timeout));
        assert_eq!(detail(&error), LATE.to_string());
        let told = driven.run.finish(Finish::Failed, Usage::default());
        tokio::time::timeout(Duration::from_secs(20), told).await.expect("no minute").expect("nobody filters");
        assert_eq!(house.count("outrigger_plugin_faults_total", &["stage=\"token-control\""]), request);
    }
    assert!(matches!(house.open().await.map(drop), Err(PipelineError::Unavailable { .. })), "five in a row");
}

/// A step that no thread had time for says nothing of the plugin.
#[tokio::test]
async fn a_step_that_was_not_begun_is_blamed_on_nobody() {
    let sandbox = Sandbox::new(SandboxConfig { workers: Some(1), ..SandboxConfig::default() }).expect("a sandbox");
    let house = House::within(&sandbox, vec![renderer(), endless()]);
    let (mut busy, mut waiting) = (house.drive().await, house.drive().await);
    busy.steps.ask(Vec::new());
    tokio::time::sleep(Duration::from_millis(20)).await;
    waiting.steps.ask(Vec::new());
    assert_eq!(waiting.steps.fail(LATE), PipelineError::Overloaded);
    drop(busy);
    waiting.run.finish(Finish::Failed, Usage::default()).await.expect("nobody filters");
    assert_eq!(house.count("outrigger_plugin_faults_total", &[]), 0);
    assert_eq!(house.count("outrigger_plugin_overloads_total", &[]), 1);
}

/// What a client's prompt does to a controller's opening costs others nothing, since for them it opens.
#[tokio::test]
async fn openings_that_fail_and_openings_that_do_not_are_one_row() {
    let headers = vec!["x-behaviour".to_owned()];
    let stages = [Stage::Policy, Stage::TokenControl];
    let told = PluginSpec { token_control: true, headers, ..guest_for(&stages, "guest", "{}") };
    let house = House::of(vec![renderer(), told]);
    let open = async |behaviour: &str| {
        let headers = vec![("x-behaviour".to_owned(), behaviour.to_owned())];
        let mut run = house.plugins.begin(Call { headers, ..call() });
        run.prepare(chat("Hello")).await?;
        let control = run.control(&[Token(1)]).await?;
        Ok::<_, PipelineError>((run, control))
    };
    let mut answers = Vec::new();
    for _ in 0..8 {
        let error = open("panic-in-control").await.map(drop).expect_err("told to");
        assert!(matches!(error, PipelineError::Fault { .. }), "{error:?}");
        // Their answers go on for long after.
        answers.push(open("").await.expect("others are served"));
    }
    assert_eq!(house.count("outrigger_plugin_breaker_refusals_total", &[]), 0);
}

/// Two streams whose steps never end have both threads, by turns, and a third is served beside them.
#[tokio::test]
async fn requests_that_always_have_something_to_do_take_turns() {
    let sandbox = Sandbox::new(SandboxConfig { workers: Some(1), ..SandboxConfig::default() }).expect("a sandbox");
    let limits = Limits {
        step_cpu_max: Duration::from_secs(1),
        push_cpu_max: Duration::from_secs(1),
        request_cpu_max: Duration::from_mins(1),
        ..Limits::default()
    };
    let both = guest_for(&[Stage::TokenControl, Stage::Postprocess], "guest", r#"{"steps": "free"}"#);
    let house = House::within(&sandbox, vec![renderer(), PluginSpec { token_control: true, limits, ..both }]);
    let Driven { mut run, steps } = house.drive().await;
    let is_over = Arc::new(AtomicBool::new(false));
    // A decode thread that asks on as soon as it is answered, while the text is pushed as fast.
    let decode = std::thread::spawn({
        let (is_over, mut steps) = (Arc::clone(&is_over), steps);
        move || {
            steps.ask(Vec::new());
            while !is_over.load(Ordering::Relaxed) {
                if steps.poll().is_ready() {
                    steps.ask(vec![Token(1)]);
                }
            }
        }
    });
    let text = tokio::spawn(async move {
        loop {
            run.push("text ".repeat(100), Vec::new(), false).await.expect("it passes");
        }
    });
    for _ in 0..20 {
        let served = tokio::time::timeout(Duration::from_secs(10), house.drive());
        drop(served.await.expect("another request is served beside it"));
    }
    text.abort();
    is_over.store(true, Ordering::Relaxed);
    decode.join().expect("no panic");
}

/// The set that a controlled answer runs with lives as long as the answer, and no longer; and the decode thread, which holds its
/// controller, is not the one that takes it down.
#[tokio::test]
async fn a_reload_leaves_a_controlled_answer_as_it_is() {
    let metrics = Metrics::new(&[]);
    let sandbox = Sandbox::new(SandboxConfig { workers: Some(1), ..SandboxConfig::default() }).expect("a sandbox");
    let set = |steps: &str| {
        let specs = [renderer(), controller(&format!(r#"{{"steps": "{steps}"}}"#))];
        let loaded = specs.map(|spec| sandbox.load(spec, &model()).expect("it loads"));
        Plugins::new(&sandbox, loaded.into(), metrics.plugins.clone()).expect("they work together")
    };
    let generations = || {
        let text = metrics.encode(Format::Text);
        text.lines()
            .find_map(|line| line.strip_prefix("outrigger_plugin_generations{model=\"\"} ")?.parse::<u32>().ok())
    };
    let old = set("allow 1");
    let mut run = old.begin(call());
    run.prepare(chat("Hello")).await.expect("it prepares");
    let control = run.control(&[Token(1)]).await.expect("it opens").expect("tokens are controlled");
    let mut driven = Driven { steps: control.begin(), run };
    drop(control);
    let new = set("allow 2");
    drop(old);
    assert_eq!(held(&driven.step(&[]).await.expect("the old one's list")), [1]);
    assert_eq!(held(&driven.step(&[1]).await.expect("again")), [1]);
    driven.run.finish(Finish::Stop, Usage::default()).await.expect("it ends well");
    assert_eq!(generations(), Some(2), "the engine holds the controller still");
    // Nothing else is held by anybody, so this is where the set goes: on a thread of the plugins.
    let Driven { run, steps } = driven;
    drop(run);
    drop(new);
    drop(sandbox);
    drop(steps);
    for _ in 0..2_000 {
        if generations() == Some(0) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("{:?} sets are alive", generations());
}
