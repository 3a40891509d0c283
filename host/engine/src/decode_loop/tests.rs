use std::num::NonZeroUsize;
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use inference::{Generation, GenerationEvent, GenerationRequest, RequestId};

use super::*;
use crate::decoder::DecoderShape;
use crate::fake::{FakeDecoder, FakeVocabulary, Fate};

#[path = "controlled_tests.rs"]
mod controlled;

struct Loop(DecodeLoop<FakeDecoder>);

impl Loop {
    fn new(slots: usize, prefix_cache_bytes: usize) -> Self {
        let count = |number| NonZeroUsize::new(number).unwrap();
        let config = Config {
            slots: count(slots),
            prefill_tokens_per_step: count(6),
            prefill_tokens_beside_answers: count(6),
            step_time_beside_answers: Duration::MAX,
            prefix_cache_bytes,
            prefix_tokens_min: 4,
            ..Config::default()
        };
        let shape = DecoderShape { slots, context_length: 400, rows_max: slots + 6, samples_max: slots + 6 };
        let decoder = FakeDecoder::new(shape, || Fate::Compute);
        Self(DecodeLoop::new(decoder, Arc::new(FakeVocabulary), &config, Arc::default()))
    }

    /// Asks for two tokens after `prompt`.
    fn submit(&mut self, prompt: &str) -> Generation {
        self.submit_as(prompt, |request| request)
    }

    /// The same, changed.
    fn submit_as(&mut self, prompt: &str, change: impl FnOnce(GenerationRequest) -> GenerationRequest) -> Generation {
        let tokens = prompt.bytes().map(|byte| Token(u32::from(byte))).collect();
        let request = change(GenerationRequest::new(RequestId::new(prompt), tokens, 2));
        let (prompt_tokens, max_tokens) = (u32::try_from(request.prompt.len()).unwrap(), request.max_tokens);
        let (submission, generation) = Submission::new(request, prompt_tokens, max_tokens, 8, Instant::now());
        self.0.shared.queued.fetch_add(1, Relaxed);
        self.0.enqueue(submission);
        generation
    }

    /// Goes on to the end of everything.
    fn run(&mut self) {
        while self.0.step(Instant::now) != Outlook::Idle {}
    }

    fn step(&mut self) {
        self.0.step(Instant::now);
    }

    /// Who is in the slots.
    fn running(&self) -> Vec<&str> {
        self.0.running.iter().map(|sequence| sequence.as_ref().map_or("", |sequence| sequence.id.as_str())).collect()
    }

    /// Goes on to the end of everything; how many tokens of the prompt `generation` found computed.
    fn cached(&mut self, generation: &mut Generation) -> u32 {
        self.run();
        loop {
            match pin!(generation.next()).poll(&mut Context::from_waker(Waker::noop())) {
                Poll::Ready(GenerationEvent::Finished(completion)) => return completion.usage.cached_tokens,
                Poll::Ready(GenerationEvent::Piece { .. }) => {}
                other => panic!("{other:?}"),
            }
        }
    }
}

#[test]
fn a_prompt_waits_for_its_beginning_and_others_pass_it() {
    let mut engine = Loop::new(3, 0);
    let mut first = engine.submit("be brief: who?");
    let mut second = engine.submit("be brief: what?");
    let mut other = engine.submit("hello");
    let mut last = engine.submit("bye");
    engine.step();
    assert_eq!(engine.running(), ["be brief: who?", "hello", ""], "the third slot is kept for the second prompt");
    engine.step();
    engine.step();
    engine.step();
    assert_eq!(engine.running()[2], "be brief: what?");
    assert_eq!(engine.cached(&mut first), 0);
    assert_eq!(engine.cached(&mut second), 12, "`be brief: wh`");
    assert_eq!((engine.cached(&mut other), engine.cached(&mut last)), (0, 0));
}

#[test]
fn who_shares_nothing_is_served_in_order() {
    let mut engine = Loop::new(1, 0);
    let _waiting: Vec<Generation> = ["abcd", "efgh", "ijkl"].map(|prompt| engine.submit(prompt)).into();
    let mut order: Vec<String> = Vec::new();
    for _ in 0..20 {
        engine.step();
        let running = engine.running()[0].to_owned();
        if !running.is_empty() && order.last() != Some(&running) {
            order.push(running);
        }
    }
    assert_eq!(order, ["abcd", "efgh", "ijkl"]);
}

#[test]
fn a_conversation_goes_on_where_it_was() {
    let mut engine = Loop::new(1, 0);
    let mut first = engine.submit("a long question");
    assert_eq!(engine.cached(&mut first), 0);
    let mut again = engine.submit("a long question");
    assert_eq!(engine.cached(&mut again), 14, "all but the last token");
}

#[test]
fn what_one_slot_forgets_for_another_conversation_comes_back_from_host_memory() {
    for (bytes, cached) in [(1000, 14), (0, 0)] {
        let mut engine = Loop::new(1, bytes);
        let mut first = engine.submit("a long question");
        engine.cached(&mut first);
        let mut other = engine.submit("something else, and long");
        assert_eq!(engine.cached(&mut other), 0);
        let mut again = engine.submit("a long question");
        assert_eq!(engine.cached(&mut again), cached, "with {bytes} bytes");
    }
}

#[test]
fn a_client_that_left_leaves_what_was_computed() {
    let mut engine = Loop::new(1, 0);
    let gone = engine.submit("a very long question");
    engine.step();
    engine.step();
    drop(gone);
    let mut again = engine.submit("a very long question");
    assert_eq!(engine.cached(&mut again), 12, "two steps of six");
}
