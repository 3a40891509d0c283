//! Random days in the life of the engine, each repeatable by its seed.
//!
//! The conservation law: every request that was taken ends exactly once, as finished, failed or abandoned; what it
//! answers is what it would have answered alone; and when all have ended every slot is free. The fake decoder checks
//! every batch on the way: caps, positions, fairness.

mod clients;

use std::cell::{Cell, RefCell};
use std::num::NonZeroUsize;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::Poll;
use std::time::{Duration, Instant};

use inference::{EngineFault, GenerationEvent, GenerationRequest, RequestId, Sampling, Token};

use self::clients::{Client, Clients, leave, poll_next, random_script};
use crate::decode_loop::DecodeLoop;
use crate::decoder::DecoderShape;
use crate::fake::{FakeDecoder, FakeVocabulary, Fate, Seen};
use crate::fake_control::Script;
use crate::handle::Config;
use crate::random::Random;
use crate::sequence::Submission;
use crate::thread::{Outlook, Shared, Work as _};

const SEEDS: u64 = 600;
const STEPS: usize = 250;
const CONTEXT_LENGTH: u32 = 40;

#[test]
fn every_request_ends_exactly_once() {
    let mut total = Tally::default();
    for seed in 0..SEEDS {
        total += std::panic::catch_unwind(|| Day::new(seed).run()).unwrap_or_else(|_| panic!("seed {seed}"));
    }
    // A simulation in which nothing of interest happens proves nothing.
    println!("{total:?}");
    let Tally {
        finished,
        failed,
        abandoned,
        paused_steps,
        awaiting_steps,
        aborted,
        cached_tokens,
        copies,
        guesses,
        wrong_guesses,
        parked,
        forced,
    } = total;
    for (count, what) in [
        (finished, "finished"),
        (failed, "failed"),
        (abandoned, "abandoned"),
        (paused_steps, "paused steps"),
        (awaiting_steps, "steps that only waited for a controller"),
        (parked, "times that logits were put aside"),
        (forced, "forced tokens"),
        (aborted, "aborted steps"),
        (cached_tokens, "cached tokens"),
        (copies, "copies"),
        (wrong_guesses, "wrong guesses"),
        (guesses - wrong_guesses, "right guesses"),
    ] {
        assert!(count > 100, "only {count} {what}");
    }
}

#[derive(Debug, Default, Clone, Copy)]
struct Tally {
    finished: usize,
    failed: usize,
    abandoned: usize,
    paused_steps: usize,
    awaiting_steps: usize,
    aborted: usize,
    cached_tokens: usize,
    copies: usize,
    guesses: usize,
    wrong_guesses: usize,
    parked: usize,
    forced: usize,
}

impl std::ops::AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.finished += other.finished;
        self.failed += other.failed;
        self.abandoned += other.abandoned;
        self.paused_steps += other.paused_steps;
        self.aborted += other.aborted;
        self.cached_tokens += other.cached_tokens;
        self.copies += other.copies;
        self.guesses += other.guesses;
        self.wrong_guesses += other.wrong_guesses;
        self.awaiting_steps += other.awaiting_steps;
        self.parked += other.parked;
        self.forced += other.forced;
    }
}

struct Day {
    random: Rc<RefCell<Random>>,
    clients: Clients,
    seen: Rc<RefCell<Seen>>,
    shared: Arc<Shared>,
    decode_loop: DecodeLoop<FakeDecoder>,
    events_ahead: usize,
    queue_length: usize,
    tally: Tally,
    is_even: bool,
    clock: Cell<Instant>,
}

impl Day {
    fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let slots = random.between(1, 4);
        let prefill = random.between(1, 9);
        let events_ahead = random.between(1, 4);
        let queue_length = random.between(1, 8);
        let failures_per_thousand = [0, 0, 20][random.between(0, 2)];
        let cannot_go_back = random.chance(200);
        let failing_copies = [0, 0, 5][random.between(0, 2)];
        let prefix_cache_bytes = random.between(0, 3) * size_of::<u32>() * CONTEXT_LENGTH as usize;
        let prefix_tokens_min = random.between(1, 12);
        let guesses_max = random.between(0, 2) * 4;

        let random = Rc::new(RefCell::new(random));
        let clients = Clients::default();
        let samples_max = slots + guesses_max.min(prefill);
        let shape = DecoderShape { slots, context_length: CONTEXT_LENGTH, rows_max: slots + prefill, samples_max };
        let decoder = {
            let (random, clients) = (Rc::clone(&random), Rc::clone(&clients));
            FakeDecoder::new(shape, move || {
                let mut random = random.borrow_mut();
                if random.chance(30) {
                    leave(&clients, &mut random);
                }
                match random.between(0, 999) {
                    dice if dice < failures_per_thousand => Fate::Fail,
                    dice if dice < 100 => Fate::IgnoreAbort,
                    _ => Fate::Compute,
                }
            })
        };
        let watched = Rc::clone(&decoder.seen);
        watched.borrow_mut().cannot_go_back = cannot_go_back;
        watched.borrow_mut().failing_copies = failing_copies;
        let shared = Arc::new(Shared::default());
        let count = |number| NonZeroUsize::new(number).unwrap();
        let config = Config {
            slots: count(slots),
            prefill_tokens_per_step: count(prefill),
            prefill_tokens_beside_answers: count(prefill.div_ceil(2)),
            step_time_beside_answers: Duration::from_millis(5),
            prefix_cache_bytes,
            prefix_tokens_min,
            guesses_max,
            ..Config::default()
        };
        let mut decode_loop = DecodeLoop::new(decoder, Arc::new(FakeVocabulary), &config, Arc::clone(&shared));
        // On some days every step takes as long, and guesses cost nothing; on others they soon seem dear.
        let is_even = random.borrow_mut().chance(700);
        if is_even {
            decode_loop.assume_free_rows();
        }
        Self {
            random,
            clients,
            seen: watched,
            shared,
            decode_loop,
            events_ahead,
            queue_length,
            tally: Tally::default(),
            is_even,
            clock: Cell::new(Instant::now()),
        }
    }

    fn run(mut self) -> Tally {
        for _ in 0..STEPS {
            let dice = self.random.borrow_mut().between(0, 99);
            match dice {
                0..30 => self.submit(),
                30..35 => leave(&self.clients, &mut self.random.borrow_mut()),
                35..60 => self.read_some(),
                _ => drop(self.step()),
            }
        }
        self.go_home()
    }

    /// Nobody comes any more, and everybody reads.
    fn go_home(mut self) -> Tally {
        self.read_all();
        self.seen.borrow_mut().everybody_reads = true;
        // A controller is looked at three times at most before it answers.
        let steps_max = 4 * 4 * (self.queue_length + 4) * CONTEXT_LENGTH as usize;
        let mut steps = 0;
        while self.step() != Outlook::Idle {
            self.read_all();
            steps += 1;
            assert!(steps < steps_max, "the engine does not come to an end");
        }
        self.read_all();
        assert_eq!(self.seen.borrow().occupied(), 0, "a slot leaked");
        assert_eq!((self.shared.running.load(Relaxed), self.shared.queued.load(Relaxed)), (0, 0));
        for client in self.clients.borrow().iter() {
            assert_eq!(client.ends, 1, "{:?} ended {} times", client.request.id, client.ends);
        }
        self.tally.copies = self.seen.borrow().copies;
        self.tally.guesses = self.seen.borrow().guesses;
        self.tally.wrong_guesses = self.seen.borrow().wrong_guesses;
        self.tally.parked = self.seen.borrow().parked;
        self.tally.forced = self.seen.borrow().forced;
        self.tally.abandoned = self.clients.borrow().len() - self.tally.finished - self.tally.failed;
        self.tally
    }

    fn step(&mut self) -> Outlook {
        let batches = self.seen.borrow().batches;
        // Some steps take longer than the engine aims at, so that prompts are computed in chunks of all lengths.
        let pause = if self.is_even { 1 } else { self.random.borrow_mut().between(1, 12) };
        let outlook = self.decode_loop.step(|| {
            self.clock.set(self.clock.get() + Duration::from_millis(pause as u64));
            self.clock.get()
        });
        self.tally.paused_steps += usize::from(outlook == Outlook::Paused);
        self.tally.awaiting_steps += usize::from(outlook == Outlook::Awaiting);
        self.tally.aborted += usize::from(outlook == Outlook::Busy && self.seen.borrow().batches == batches);
        let running = self.shared.running.load(Relaxed);
        assert_eq!(running, self.seen.borrow().occupied(), "the engine and its decoder disagree");
        assert_eq!(self.decode_loop.remembered(), self.seen.borrow().remembered(), "what is computed where");
        outlook
    }

    fn submit(&mut self) {
        if self.shared.queued.load(Relaxed) >= self.queue_length {
            return;
        }
        let mut request = self.random_request();
        let script = random_script(&mut self.random.borrow_mut());
        request.control = script.as_ref().map(Script::control);
        let prompt_tokens = u32::try_from(request.prompt.len()).unwrap();
        self.shared.queued.fetch_add(1, Relaxed);
        let (submission, generation) =
            Submission::new(request.clone(), prompt_tokens, request.max_tokens, self.events_ahead, self.clock.get());
        self.decode_loop.enqueue(submission);
        let client =
            Client { request, script, text: String::new(), tokens_told: 0, generation: Some(generation), ends: 0 };
        self.clients.borrow_mut().push(client);
    }

    fn random_request(&self) -> GenerationRequest {
        let mut random = self.random.borrow_mut();
        let length = random.between(1, CONTEXT_LENGTH as usize - 1);
        let mut prompt = vec![Token(u32::try_from(random.between(0, 12)).unwrap())];
        // Half of the prompts begin like others do.
        let alike = if random.chance(500) { random.between(1, length) } else { 1 };
        prompt.extend((1..alike).map(|place| Token(97 + u32::try_from(place % 26).unwrap())));
        prompt.extend((alike..length).map(|_| Token(u32::try_from(random.between(97, 122)).unwrap())));
        let left = CONTEXT_LENGTH as usize - length;
        let stop = if random.chance(200) { vec!["q".to_owned(), "ab".to_owned()] } else { Vec::new() };
        let number = self.clients.borrow().len();
        GenerationRequest {
            id: RequestId::new(number.to_string()),
            prompt,
            sampling: Sampling { seed: Some(number as u64), ..Sampling::default() },
            max_tokens: u32::try_from(random.between(1, left)).unwrap(),
            stop,
            stop_tokens: Vec::new(),
            marks: Vec::new(),
            grammar: None,
            control: None,
            logprobs: None,
            ignore_end: random.chance(100),
        }
    }

    fn read_some(&mut self) {
        let count = self.clients.borrow().len();
        for _ in 0..count.min(3) {
            let client = self.random.borrow_mut().between(0, count - 1);
            self.read(client, 2);
        }
    }

    fn read_all(&mut self) {
        let count = self.clients.borrow().len();
        (0..count).for_each(|client| self.read(client, usize::MAX));
    }

    fn read(&mut self, client: usize, events_max: usize) {
        let client = &mut self.clients.borrow_mut()[client];
        for _ in 0..events_max {
            let Some(mut generation) = client.generation.take() else { return };
            match poll_next(&mut generation) {
                Poll::Pending => {
                    client.generation = Some(generation);
                    return;
                }
                Poll::Ready(GenerationEvent::Piece { text, completion_tokens, .. }) => {
                    assert!(!text.is_empty() && completion_tokens > client.tokens_told);
                    client.text.push_str(&text);
                    client.tokens_told = completion_tokens;
                    client.generation = Some(generation);
                    continue;
                }
                Poll::Ready(GenerationEvent::Finished(completion)) => {
                    self.tally.finished += 1;
                    self.tally.cached_tokens += completion.usage.cached_tokens as usize;
                    client.check(&completion);
                }
                Poll::Ready(GenerationEvent::Failed(fault)) => {
                    assert!(matches!(fault, EngineFault::Decode(_)), "{fault}");
                    self.tally.failed += 1;
                }
            }
            client.ends += 1;
            let closed = Poll::Ready(GenerationEvent::Failed(EngineFault::Stopped));
            assert_eq!(poll_next(&mut generation), closed, "something follows the end");
        }
    }
}
