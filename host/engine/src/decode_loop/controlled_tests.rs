//! A controller costs its own sequence time, and nobody else.

use std::sync::atomic::AtomicUsize;

use inference::{CONTROL_WAIT_MAX, EngineFault, FaultKind, PipelineError, Steer};

use super::*;
use crate::fake_control::{Script, letters};
use crate::limits::FORCED_TOKENS_PER_STEP;

fn letter(byte: u8) -> Token {
    Token(u32::from(byte))
}

fn free() -> Vec<Steer> {
    vec![Steer::Free(1)]
}

/// A grammar that allows these letters, for ever, and an end behind an `e`.
#[derive(Clone)]
struct Letters {
    mask: Arc<inference::TokenMask>,
    last: Option<Token>,
    /// Masks that were asked for.
    masks: Arc<AtomicUsize>,
}

impl Letters {
    fn of(text: &str) -> Self {
        Self { mask: letters(text), last: None, masks: Arc::default() }
    }
}

impl inference::CompiledGrammar for Letters {
    fn begin(&self) -> Box<dyn inference::Constraint> {
        Box::new(self.clone())
    }
}

impl inference::Constraint for Letters {
    fn allowed(&mut self) -> Result<&inference::TokenMask, String> {
        self.masks.fetch_add(1, Relaxed);
        Ok(&self.mask)
    }
    fn allows(&mut self, token: Token) -> Result<bool, String> {
        Ok(self.mask.contains(token))
    }
    fn may_end(&mut self) -> Result<bool, String> {
        Ok(self.last == Some(letter(b'e')))
    }
    fn accept(&mut self, token: Token) -> Result<(), String> {
        assert!(self.mask.contains(token), "{token:?} is not allowed");
        self.last = Some(token);
        Ok(())
    }
    fn is_complete(&self) -> bool {
        false
    }
}

impl Loop {
    fn submit_controlled(&mut self, prompt: &str, script: &Script, grammar: Option<&str>) -> Generation {
        let grammar = grammar.map(|text| inference::Grammar::new(Letters::of(text)));
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

/// Everybody waits for the decode thread, so what it does for one sequence in a step has an end, and no mask of a whole
/// vocabulary is computed to look at one bit of it.
#[test]
fn forcing_under_a_grammar_computes_no_masks_and_holds_up_nobody() {
    let mut engine = Loop::new(2, 0);
    let grammar = Letters::of("e");
    let script = Script::of([Steer::Force(vec![letter(b'e'); 3 * FORCED_TOKENS_PER_STEP]), Steer::Stop]);
    let masks = Arc::clone(&grammar.masks);
    let mut forced = engine.submit_as("forced", |request| GenerationRequest {
        control: Some(script.control()),
        grammar: Some(inference::Grammar::new(grammar)),
        max_tokens: 10_000,
        ..request
    });
    let told = || script.told.lock().unwrap().len();
    let mut most = 0;
    while told() == 0 {
        let before = engine.0.running[0].as_ref().map_or(0, Sequence::completion_tokens);
        engine.step();
        let after = engine.0.running[0].as_ref().map_or(0, Sequence::completion_tokens);
        most = most.max(after - before);
    }
    assert_eq!(most as usize, FORCED_TOKENS_PER_STEP);
    assert_eq!(told(), 3 * FORCED_TOKENS_PER_STEP, "asked again behind all of them");
    engine.run();
    assert_eq!(ended(&mut forced).map(|(text, _)| text.len()), Ok(3 * FORCED_TOKENS_PER_STEP));
    assert_eq!(masks.load(Relaxed), 0);
}

#[test]
fn a_controller_ends_no_answer_that_its_grammar_does_not() {
    for (forced, is_whole) in [(b"fe", true), (b"ef", false)] {
        let mut engine = Loop::new(1, 0);
        let script = Script::of([Steer::Force(forced.map(letter).into()), Steer::Stop]);
        let mut stopped = engine.submit_controlled("stop", &script, Some("ef"));
        engine.run();
        if is_whole {
            assert_eq!(ended(&mut stopped), Ok(("fe".to_owned(), 2)));
        } else {
            let (kind, detail) = fault(&mut stopped);
            assert_eq!(kind, FaultKind::Contract);
            assert!(detail.contains("does not let end there"), "{detail}");
        }
    }
}

/// Where the client's own wishes leave nothing, no plugin is to blame that had no part in it.
#[test]
fn who_left_everything_is_not_blamed_for_nothing() {
    let check = |answer: Steer, is_blamed: bool| {
        let mut engine = Loop::new(1, 0);
        // Nothing that the decoder could choose: it knows small letters and the end.
        let mut dead = engine.submit_controlled("dead", &Script::of([answer]), Some("ABC"));
        engine.run();
        match ended(&mut dead) {
            Err(EngineFault::Control(error)) => {
                assert!(is_blamed, "{error:?}");
                let PipelineError::Fault { kind, detail, .. } = error else { panic!("{error:?}") };
                assert_eq!(kind, FaultKind::Contract);
                assert!(detail.contains("logit_bias"), "{detail}");
            }
            other => assert_eq!((other, is_blamed), (Err(EngineFault::NoToken), false)),
        }
    };
    check(Steer::Free(1), false);
    check(Steer::Only(letters("A")), true);
    check(Steer::Bias(vec![(letter(b'a'), -100.0)]), true);
}

#[test]
fn a_bias_tilts_one_choice() {
    let mut engine = Loop::new(1, 0);
    let script = Script::of([Steer::Bias(vec![(letter(b'z'), 5.0), (letter(b'y'), 4.0)]), Steer::Free(1)]);
    let mut tilted = engine.submit_controlled("tilted", &script, Some("abcyz"));
    engine.run();
    let (text, _) = ended(&mut tilted).expect("there are letters");
    assert!(text.bytes().step_by(2).all(|byte| byte == b'z'), "{text}");
    assert!(text.bytes().skip(1).step_by(2).any(|byte| byte != b'z'), "{text}");
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
