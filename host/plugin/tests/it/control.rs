//! A plugin's say in every token: what it says arrives, what is nonsense ends its request, and nobody waits for it.

use std::task::Poll;
use std::time::Duration;

use inference::{
    ControlFailure, ControlRun, FaultKind, Finish, PipelineError, PipelineRun, Stage, Steer, Token, TokenControl, Usage,
};
use plugin::{Limits, LoadError, PluginSpec, Plugins, SetError};
use telemetry::Metrics;

use crate::house::{House, chat, detail, fault, guest, guest_for, load, logged, renderer, sandbox};

pub(crate) fn controller(config: &str) -> PluginSpec {
    PluginSpec { token_control: true, ..guest_for(&[Stage::TokenControl], "guest", config) }
}

/// A request whose tokens are controlled, up to where the model would begin.
pub(crate) struct Driven {
    pub(crate) run: Box<dyn PipelineRun>,
    pub(crate) steps: Box<dyn ControlRun>,
}

impl House {
    pub(crate) async fn open(&self) -> Result<(Box<dyn PipelineRun>, Option<TokenControl>), PipelineError> {
        let mut run = self.begin();
        run.prepare(chat("Hello")).await?;
        let control = run.control(&[Token(1), Token(2)]).await?;
        Ok((run, control))
    }

    pub(crate) async fn drive(&self) -> Driven {
        let (run, control) = self.open().await.expect("it opens");
        Driven { run, steps: control.expect("tokens are controlled").begin() }
    }
}

impl Driven {
    pub(crate) async fn step(&mut self, appended: &[u32]) -> Result<Steer, PipelineError> {
        self.steps.ask(appended.iter().copied().map(Token).collect());
        for _ in 0..10_000 {
            if let Poll::Ready(answer) = self.steps.poll() {
                return answer;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        panic!("no answer in 10 s");
    }

    pub(crate) async fn finish(mut self) -> Result<(), PipelineError> {
        self.run.push("text".to_owned(), Vec::new(), true).await?;
        self.run.finish(Finish::Stop, Usage::default()).await.map(drop)
    }
}

pub(crate) fn held(steer: &Steer) -> Vec<u32> {
    let Steer::Only(mask) = steer else { panic!("{steer:?}") };
    (0..400).filter(|&token| mask.contains(Token(token))).collect()
}

fn tokens(numbers: &[u32]) -> Vec<Token> {
    numbers.iter().copied().map(Token).collect()
}

#[tokio::test]
async fn what_it_says_is_what_the_engine_hears() {
    let steps = "free; free-for 3; fixed 1; allow 7 256; mask 3 64; bias 5 -2.5; force 8 9; expect 10 11 12; stop";
    let house = House::of(vec![renderer(), controller(&format!(r#"{{"steps": "{steps}", "masks": "1 2;3"}}"#))]);
    let mut driven = house.drive().await;
    assert_eq!(driven.step(&[]).await, Ok(Steer::Free(1)));
    assert_eq!(driven.step(&[10]).await, Ok(Steer::Free(3)));
    assert_eq!(held(&driven.step(&[11, 12]).await.expect("a mask")), [3]);
    assert_eq!(held(&driven.step(&[]).await.expect("a list")), [7, 256]);
    assert_eq!(held(&driven.step(&[]).await.expect("a mask")), [3, 64]);
    assert_eq!(driven.step(&[]).await, Ok(Steer::Bias(vec![(Token(5), -2.5)])));
    assert_eq!(driven.step(&[]).await, Ok(Steer::Force(tokens(&[8, 9]))));
    assert_eq!(driven.step(&[]).await, Ok(Steer::Free(1)), "it was told of 10, 11 and 12");
    assert_eq!(driven.step(&[]).await, Ok(Steer::Stop));
    driven.finish().await.expect("the request goes on");
    assert_eq!(house.count("outrigger_plugin_faults_total", &[]), 0);
    let calls = |outcome: &str| house.count("outrigger_plugin_calls_total", &["stage=\"token-control\"", outcome]);
    assert_eq!((calls("\"open\""), calls("\"pass\""), calls("\"stop\"")), (1, 3, 1));
}

#[tokio::test]
async fn deny_is_everything_else() {
    let house = House::of(vec![renderer(), controller(r#"{"steps": "deny 0 255"}"#)]);
    let denied = house.drive().await.step(&[]).await.expect("a mask");
    assert_eq!(held(&denied), (1..255).chain([256]).collect::<Vec<_>>(), "there are 257 tokens");
}

#[tokio::test]
async fn it_is_told_of_the_prompt() {
    let log = logged();
    let house = House::of(vec![renderer(), controller(r#"{"log-control": 1}"#)]);
    house.drive().await.finish().await.expect("it behaves");
    assert!(log.line("control choice=0").contains("prompt=[1, 2] plugin=\"guest\""));
}

#[tokio::test]
async fn without_a_controller_nothing_is_asked() {
    let house = House::of(vec![renderer(), guest_for(&[Stage::Postprocess], "filter", "{}")]);
    let (_run, control) = house.open().await.expect("it opens");
    assert_eq!(control, None);
}

/// One request of a misbehaving controller, beside another of a good one.
async fn check(behaviour: &str, kind: FaultKind, words: &str) {
    // Filling megabytes takes longer than a step may.
    let step_cpu_max = Duration::from_millis(if behaviour.starts_with("loop") { 2 } else { 500 });
    let limits = Limits { step_cpu_max, request_cpu_max: Duration::from_secs(2), ..Limits::default() };
    let spec = controller(&format!(r#"{{"behaviour": "{behaviour}"}}"#));
    let house = House::of(vec![renderer(), PluginSpec { limits, ..spec }]);
    let neighbour = House::of(vec![renderer(), controller(r#"{"steps": "allow 1"}"#)]);
    let mut beside = neighbour.drive().await;
    let (mut run, control) = match house.open().await {
        Ok((run, control)) => (run, control),
        Err(error) => {
            assert_eq!(fault(&error), ("guest".to_owned(), Stage::TokenControl, kind), "{behaviour}");
            assert!(detail(&error).contains(words), "{behaviour}: {} lacks {words:?}", detail(&error));
            return;
        }
    };
    let mut driven = Driven { steps: control.expect("tokens are controlled").begin(), run: house.begin() };
    let error = driven.step(&[]).await.expect_err(behaviour);
    assert_eq!(fault(&error), ("guest".to_owned(), Stage::TokenControl, kind), "{behaviour}: {}", detail(&error));
    assert!(detail(&error).contains(words), "{behaviour}: {} lacks {words:?}", detail(&error));
    let again = driven.step(&[1]).await.expect_err("it stays closed");
    assert!(detail(&again).contains("failed earlier"), "{behaviour}: {}", detail(&again));
    // The server tells the plugins of the end; the next request gets an instance of its own.
    run.finish(Finish::Failed, Usage::default()).await.expect("nobody filters");
    assert_eq!(house.count("outrigger_plugin_faults_total", &["stage=\"token-control\""]), 1, "{behaviour}");
    house.wait_for("outrigger_plugin_instances", &["plugin=\"guest\""], 0).await;
    assert_eq!(held(&beside.step(&[]).await.expect("the neighbour goes on")), [1]);
}

#[tokio::test]
async fn nonsense_is_a_contract_fault() {
    for (behaviour, words) in [
        ("fixed-99", "names mask 99, and it gave 0"),
        ("mask-empty", "dead end: allows no token"),
        ("mask-of-nothing", "a mask of 0 words; the vocabulary's 257 tokens take 9"),
        ("mask-short", "a mask of 8 words"),
        ("mask-long", "a mask of 10 words"),
        ("many-masks", "gave 65 masks; it may give 64"),
        ("short-masks", "a mask of 1 words"),
        ("allow-unknown", "allows token 257, and the vocabulary has 257"),
        ("allow-nothing", "dead end: allows no token"),
        ("deny-unknown", "denies token 4294967295"),
        ("deny-all", "dead end: allows no token"),
        ("bias-nan", "adds NaN to the logit of token 1"),
        ("bias-inf", "adds inf to the logit of token 1"),
        ("bias-unknown", "biases token 257"),
        ("force-a-million", "forces 1000000 tokens by number; it may name 1024"),
        ("force-unknown", "forces token 257"),
        ("force-nothing", "forces no token at all"),
    ] {
        check(behaviour, FaultKind::Contract, words).await;
    }
}

#[tokio::test]
async fn a_step_is_bounded_like_any_call() {
    check("loop-in-step", FaultKind::Timeout, "used more than 2 ms of CPU time").await;
    check("loop-in-control", FaultKind::Timeout, "used more than 20 ms of CPU time").await;
    check("panic-in-step", FaultKind::Trap, "unreachable").await;
    check("panic-in-control", FaultKind::Trap, "unreachable").await;
    check("memory-at-once-in-step", FaultKind::Memory, "it may have 33554432").await;
    check("mask-huge", FaultKind::OutputSize, "").await;
}

#[tokio::test]
async fn an_orderly_failure_is_a_fault_of_that_step() {
    let house = House::of(vec![renderer(), controller(r#"{"behaviour": "internal-in-step"}"#)]);
    let error = house.drive().await.step(&[]).await.expect_err("it says so");
    assert_eq!(fault(&error), ("guest".to_owned(), Stage::TokenControl, FaultKind::Error));
    assert_eq!(detail(&error), "internal: told to fail");
}

#[tokio::test]
async fn what_is_invalid_is_the_clients_to_read() {
    let house = House::of(vec![renderer(), controller(r#"{"behaviour": "invalid-in-step"}"#)]);
    let error = house.drive().await.step(&[]).await.expect_err("it says so");
    assert!(
        matches!(&error, PipelineError::Invalid { stage: Stage::TokenControl, message, .. }
        if message == "told to find step invalid"),
        "{error:?}"
    );
}

/// Its steps and the pushes of its answer come from two sides, and meet in one instance.
#[tokio::test]
async fn steps_and_pushes_take_turns_in_one_instance() {
    let stages = [Stage::TokenControl, Stage::Postprocess];
    let both = guest_for(&stages, "guest", r#"{"steps": "spin 1", "mask": "secret"}"#);
    let limits =
        Limits { step_cpu_max: Duration::from_secs(1), request_cpu_max: Duration::from_secs(20), ..Limits::default() };
    let house = House::of(vec![renderer(), PluginSpec { token_control: true, limits, ..both }]);
    let Driven { mut run, mut steps } = house.drive().await;
    let mut answers = 0;
    let mut text = String::new();
    steps.ask(Vec::new());
    for _ in 0..200 {
        let output = run.push("a secret ".to_owned(), Vec::new(), false).await.expect("it passes");
        for delta in output.deltas {
            let inference::Delta::Content(more) = delta else { panic!("{delta:?}") };
            text.push_str(&more);
        }
        if let Poll::Ready(answer) = steps.poll() {
            assert_eq!(answer, Ok(Steer::Free(1)));
            answers += 1;
            steps.ask(tokens(&[1]));
        }
    }
    assert_eq!(text, "a [masked] ".repeat(200));
    assert!(answers > 10, "only {answers} steps in 200 pushes");
    house.wait_for("outrigger_plugin_instances", &["plugin=\"guest\""], 1).await;
    drop((run, steps));
    house.wait_for("outrigger_plugin_instances", &["plugin=\"guest\""], 0).await;
    assert_eq!(house.count("outrigger_plugin_faults_total", &[]), 0);
}

#[tokio::test]
async fn who_leaves_during_a_step_frees_the_worker_and_blames_nobody() {
    let limits =
        Limits { step_cpu_max: Duration::from_mins(1), request_cpu_max: Duration::from_mins(1), ..Limits::default() };
    let endless = PluginSpec { limits, ..controller(r#"{"behaviour": "loop-in-step"}"#) };
    let house = House::of(vec![renderer(), endless, guest_for(&[Stage::Audit], "audit", "{}")]);
    for _ in 0..6 {
        let Driven { run, mut steps } = house.drive().await;
        steps.ask(Vec::new());
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert!(steps.poll().is_pending(), "it never ends by itself");
        drop((steps, run));
    }
    house.wait_for("outrigger_plugin_instances", &["plugin=\"guest\""], 0).await;
    house.wait_for("outrigger_plugin_calls_total", &["plugin=\"audit\"", "stage=\"audit\""], 6).await;
    assert_eq!(house.count("outrigger_plugin_faults_total", &[]), 0);
}

/// Nobody is given up for what a client's grammar rules out.
#[tokio::test]
async fn dead_ends_are_counted_and_open_no_breaker() {
    let dead = ControlFailure::DeadEnd { beside: "the grammar of the request" };
    for failure in [dead, ControlFailure::CutShort] {
        let house = House::of(vec![renderer(), controller(r#"{"steps": "allow 1"}"#)]);
        for request in 1..=6 {
            let mut driven = house.drive().await;
            driven.step(&[]).await.expect("a list");
            let error = driven.steps.fail(failure.clone());
            assert_eq!(fault(&error), ("guest".to_owned(), Stage::TokenControl, FaultKind::Contract));
            assert_eq!(detail(&error), failure.to_string());
            driven.run.finish(Finish::Failed, Usage::default()).await.expect("nobody filters");
            assert_eq!(house.count("outrigger_plugin_faults_total", &["stage=\"token-control\""]), request);
        }
    }
}

#[test]
fn it_has_no_say_unless_granted() {
    let all = load(guest("guest", "{}")).expect("it loads");
    let report = all.report();
    assert_eq!(report.stages_unused, [Stage::TokenControl]);
    assert!(report.to_string().contains("could have a say in every token of an answer"), "{report}");
    let named = PluginSpec { token_control: false, ..controller("{}") };
    let Err(LoadError::Ungranted { missing, toml, .. }) = load(named).map(drop) else { panic!("it was loaded") };
    assert!(missing.contains("a say in every token of an answer"), "{missing}");
    assert!(toml.contains("[plugin.grants]\ntoken-control = true"), "{toml}");
}

#[test]
fn two_that_have_a_say_are_one_too_many() {
    let named = |name: &str| {
        load(PluginSpec { token_control: true, ..guest_for(&[Stage::TokenControl], name, "{}") }).expect("it loads")
    };
    let loaded = vec![load(renderer()).expect("it loads"), named("one"), named("other")];
    let refused = Plugins::new(sandbox(), loaded, Metrics::new(&[]).plugins).map(drop).expect_err("there are two");
    let expected = SetError::Several { stage: Stage::TokenControl, plugins: "`one`, `other`".to_owned() };
    assert_eq!(refused, expected);
}
