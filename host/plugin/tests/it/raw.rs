//! Prompts that are completed as they stand: judged like what a user says, rendered and parsed by nobody.

use inference::{
    ChatRequest, Finish, Operation, Pipeline as _, PipelineError, Prepared, Prompt, Segment, Stage, Usage,
};
use plugin::{Modify, PluginSpec};

use crate::house::{Answer, House, call, chat, guest_for, renderer};

fn completion(text: &str) -> ChatRequest {
    ChatRequest { operation: Operation::Completion, ..chat(text) }
}

#[tokio::test]
async fn a_prompt_stands_as_it_is_and_so_does_its_answer() {
    // This guest would render messages, and read these lines as thoughts and calls.
    let house = House::told(r#"{"lines": true, "behaviour": "note"}"#);
    let mut run = house.plugins.begin(call());
    let prepared = run.prepare(completion("Once <|end|>")).await.expect("the guest behaves");
    let segments = vec![Segment::Content("Once <|end|>".to_owned())];
    assert_eq!(prepared.prompt, Prompt { segments, ..Prompt::default() });

    let mut answer = Answer::default();
    for (piece, last) in [("!reasoning hm\n!call", false), (" add\nyes", false), ("", true)] {
        answer.take(run.push(piece.to_owned(), Vec::new(), last).await.expect("the guest behaves"));
    }
    let notes = run.finish(Finish::Stop, Usage::default()).await.expect("the guest behaves");
    assert_eq!((&*answer.content, &*answer.reasoning), ("!reasoning hm\n!call add\nyes", ""));
    assert!(answer.calls.is_empty());
    // The other stages had their part.
    let seen = |name: &str| notes.iter().any(|(noted, _)| noted == name);
    assert!(seen("seen") && seen("end"), "{notes:?}");
    let asked = |stage: &str| house.count("outrigger_plugin_calls_total", &[&format!("stage=\"{stage}\"")]);
    assert_eq!((asked("prompt"), asked("parse"), asked("policy")), (0, 0, 1));
    assert!(asked("postprocess") > 0);
}

/// Prepares a completion with one policy, which may change messages.
async fn judge(house: &House) -> Result<Prepared, PipelineError> {
    house.begin().prepare(completion("Once")).await
}

fn policy(behaviour: &str) -> House {
    let config = format!(r#"{{"behaviour": "{behaviour}"}}"#);
    let policy = guest_for(&[Stage::Policy], "policy", &config);
    House::of(vec![PluginSpec { modify: vec![Modify::Messages], ..policy }, renderer()])
}

#[tokio::test]
async fn a_policy_that_gives_a_prompt_back_is_no_matter() {
    let prepared = judge(&policy("replace-with-the-same")).await.expect("nothing changed");
    assert_eq!((prepared.request.operation, prepared.prompt.text().as_str()), (Operation::Completion, "Once"));
}

#[tokio::test]
async fn a_policy_that_puts_messages_around_a_prompt_is_told_of_and_not_blamed() {
    let house = policy("replace-messages");
    // More often than its breaker would bear, were it a fault.
    for _ in 0..8 {
        let Err(PipelineError::Invalid { plugin, stage, message }) = judge(&house).await else {
            panic!("a system message has no place in a prompt")
        };
        assert_eq!((plugin.as_str(), stage), ("policy", Stage::Policy));
        assert!(message.contains("/v1/chat/completions"), "{message}");
    }
    house.prepare().await.expect("chats go on");
}
