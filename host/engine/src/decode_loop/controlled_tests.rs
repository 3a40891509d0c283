//! A controller costs its own sequence time, and nobody else.

use inference::{EngineFault, FaultKind, PipelineError, Steer};

use super::*;
use crate::fake_control::{Script, letters};
use crate::limits::CONTROL_WAIT_MAX;

fn free() -> Vec<Steer> {
    vec![Steer::Free(1)]
}

/// A grammar that allows these letters, for ever.
struct Letters(Arc<inference::TokenMask>);

impl inference::CompiledGrammar for Letters {
    fn begin(&self) -> Box<dyn inference::Constraint> {
        Box::new(Self(Arc::clone(&self.0)))
    }
}

impl inference::Constraint for Letters {
    fn allowed(&mut self) -> Result<&inference::TokenMask, String> {
        Ok(&self.0)
    }
    fn accept(&mut self, token: Token) -> Result<(), String> {
        assert!(self.0.contains(token), "{token:?} is not allowed");
        Ok(())
    }
    fn is_complete(&self) -> bool {
        false
    }
}

impl Loop {
    fn submit_controlled(&mut self, prompt: &str, script: &Script, grammar: Option<&str>) -> Generation {
        let grammar = grammar.map(|text| inference::Grammar::new(Letters(letters(text))));
        self.submit_as(prompt, |request| GenerationRequest {
            control: Some(script.control()),
            grammar,
            max_tokens: 8,
            ..request
        })
    }
}

/// The rest of an answer, once it has ended.
fn ended(generation: &mut Generation) -> Result<(String, u32), EngineFault> {
    let mut text = String::new();
    loop {
        match pin!(generation.next()).poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(GenerationEvent::Piece { text: piece, .. }) => text.push_str(&piece),
            Poll::Ready(GenerationEvent::Finished(completion)) => {
                return Ok((text, completion.usage.completion_tokens));
            }
            Poll::Ready(GenerationEvent::Failed(fault)) => return Err(fault),
            Poll::Pending => panic!("it has not ended: {text}"),
        }
    }
}

fn fault(generation: &mut Generation) -> (FaultKind, String) {
    match ended(generation) {
        Err(EngineFault::Control(PipelineError::Fault { kind, detail, .. })) => (kind, detail),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_slow_controller_is_nobody_elses_hostage_taker() {
    let mut engine = Loop::new(4, 0);
    let script = Script { looks: vec![50], ..Script::of(free()) };
    let mut slow = engine.submit_controlled("slow", &script, None);
    let mut others = ["abc", "def", "ghi"].map(|prompt| engine.submit(prompt));
    // Two tokens each: their prompts in two steps, and a step.
    for _ in 0..4 {
        engine.step();
    }
    for other in &mut others {
        assert_eq!(ended(other).map(|(_, tokens)| tokens), Ok(2));
    }
    assert_eq!(engine.running(), ["slow", "", "", ""]);
    assert_eq!(engine.0.step(Instant::now), Outlook::Awaiting, "there is nothing else to compute");
    engine.run();
    assert_eq!(ended(&mut slow).map(|(_, tokens)| tokens), Ok(8));
    assert_eq!(script.told.lock().unwrap().len(), 7, "nobody asks behind the last");
}

#[test]
fn an_answer_that_never_comes_is_a_fault() {
    let mut engine = Loop::new(1, 0);
    let script = Script { looks: vec![usize::MAX], ..Script::of(free()) };
    let mut late = engine.submit_controlled("late", &script, None);
    engine.step();
    assert_eq!(engine.0.step(Instant::now), Outlook::Awaiting);
    let later = Instant::now() + CONTROL_WAIT_MAX + CONTROL_WAIT_MAX / 10;
    assert_eq!(engine.0.step(|| later), Outlook::Idle);
    let (kind, detail) = fault(&mut late);
    assert_eq!(kind, FaultKind::Timeout);
    assert!(detail.contains("did not say within 1"), "{detail}");
}

#[test]
fn who_leaves_while_his_controller_thinks_frees_the_slot() {
    let mut engine = Loop::new(1, 0);
    let script = Script { looks: vec![usize::MAX], ..Script::of(free()) };
    let left = engine.submit_controlled("left", &script, None);
    engine.step();
    engine.step();
    drop(left);
    assert_eq!(engine.0.step(Instant::now), Outlook::Idle);
    let mut next = engine.submit("next");
    engine.run();
    assert_eq!(ended(&mut next).map(|(_, tokens)| tokens), Ok(2));
}

#[test]
fn what_the_plugin_and_the_grammar_both_allow_is_what_comes() {
    let mut engine = Loop::new(1, 0);
    let script =
        Script::of([Steer::Only(letters("xyz")), Steer::Free(1), Steer::Force(vec![Token(u32::from(b'y')); 2])]);
    let mut both = engine.submit_controlled("both", &script, Some("wy"));
    engine.run();
    let (text, _) = ended(&mut both).expect("there is a letter for all");
    assert!(text.starts_with('y') && text[2..].starts_with("yyy"), "{text}");
    assert!(text.bytes().all(|byte| b"wy".contains(&byte)), "{text}");
}

#[test]
fn nothing_in_common_is_a_dead_end_that_names_both() {
    for answer in [Steer::Only(letters("xyz")), Steer::Force(vec![Token(u32::from(b'x'))])] {
        let mut engine = Loop::new(1, 0);
        let mut dead = engine.submit_controlled("dead", &Script::of([answer]), Some("abc"));
        engine.run();
        let (kind, detail) = fault(&mut dead);
        assert_eq!(kind, FaultKind::Contract);
        assert_eq!(detail, "dead end: no token is allowed both by the plugin and by the grammar of the request");
    }
}

#[test]
fn what_is_forced_is_text_and_counts_like_any_other() {
    let forced: Vec<Token> = "hello".bytes().map(|byte| Token(u32::from(byte))).collect();
    let check = |stop: &[&str], max_tokens, expected: &str, tokens| {
        let mut engine = Loop::new(1, 0);
        let mut said = engine.submit_as("x", |request| GenerationRequest {
            control: Some(Script::of([Steer::Force(forced.clone()), Steer::Stop]).control()),
            stop: stop.iter().map(|&text| text.to_owned()).collect(),
            max_tokens,
            ..request
        });
        engine.run();
        assert_eq!(ended(&mut said), Ok((expected.to_owned(), tokens)));
    };
    check(&[], 50, "hello", 5);
    check(&[], 3, "hel", 3);
    check(&["ll"], 50, "he", 4);
    check(&["lo!"], 50, "hello", 5);
}
