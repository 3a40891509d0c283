//! Random days in the life of an engine that encodes, each repeatable by its seed.
//!
//! The conservation law: every request that was taken ends exactly once, as encoded, failed or abandoned; its outputs are
//! those of its inputs, in their order; and when all have ended nothing is counted any more. The fake encoder checks every
//! batch on the way: caps, and that nobody starves.

use std::cell::{Cell, RefCell};
use std::collections::HashSet;
use std::num::NonZeroUsize;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use inference::{Encoded, Encoding, EngineFault, RequestId, Token};
use tokio::sync::oneshot;

use crate::decoder::DecodeError;
use crate::encode_loop::{EncodeLoop, Job};
use crate::encoder::{Encoder, EncoderShape};
use crate::encoding::EncodingConfig;
use crate::random::Random;
use crate::thread::{Outlook, Shared, Work as _};

const SEEDS: u64 = 400;
const STEPS: usize = 200;
const CONTEXT_LENGTH: usize = 20;

#[test]
fn every_request_ends_exactly_once() {
    let mut total = Tally::default();
    for seed in 0..SEEDS {
        total += std::panic::catch_unwind(|| Day::new(seed).run()).unwrap_or_else(|_| panic!("seed {seed}"));
    }
    // A simulation in which nothing of interest happens proves nothing.
    println!("{total:?}");
    let Tally { encoded, failed, nonsense, abandoned, aborted, shared, longest } = total;
    for (count, what) in [
        (encoded, "encoded"),
        (failed, "failed"),
        (nonsense, "nonsense"),
        (abandoned, "abandoned"),
        (aborted, "aborted batches"),
        (shared, "batches of several requests"),
        (longest, "inputs that are a batch by themselves"),
    ] {
        assert!(count > 100, "only {count} {what}");
    }
}

#[derive(Debug, Default, Clone, Copy)]
struct Tally {
    encoded: usize,
    failed: usize,
    nonsense: usize,
    abandoned: usize,
    aborted: usize,
    shared: usize,
    longest: usize,
}

impl std::ops::AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.encoded += other.encoded;
        self.failed += other.failed;
        self.nonsense += other.nonsense;
        self.abandoned += other.abandoned;
        self.aborted += other.aborted;
        self.shared += other.shared;
        self.longest += other.longest;
    }
}

/// What a client waits for.
type End = Pin<Box<dyn Future<Output = Result<Encoded, EngineFault>>>>;

/// A client, and its request until it leaves or has the end.
struct Client {
    inputs: Vec<Vec<Token>>,
    encoding: Option<End>,
    /// Batches of others since this one was last in one.
    waited: usize,
    is_running: bool,
    ends: usize,
}

type Clients = Rc<RefCell<Vec<Client>>>;

/// Encodes by arithmetic: an input becomes its length and a number that all its tokens determine.
struct FakeEncoder {
    shape: EncoderShape,
    rows_per_batch: usize,
    requests_max: usize,
    clients: Clients,
    random: Rc<RefCell<Random>>,
    failures_per_thousand: usize,
    tally: Rc<RefCell<Tally>>,
}

/// The first token of an input names its client; one that reads this becomes what is not a number.
const NONSENSE: Token = Token(999_999);

fn encoded(input: &[Token]) -> Vec<f32> {
    let mixed = input.iter().fold(7_u32, |mixed, token| mixed.wrapping_mul(31).wrapping_add(token.0));
    let number = if input.contains(&NONSENSE) { f32::NAN } else { (mixed % 65_521) as f32 };
    vec![input.len() as f32, number]
}

impl FakeEncoder {
    fn check(&self, inputs: &[&[Token]]) {
        let EncoderShape { context_length, rows_max, inputs_max } = self.shape;
        assert!((1..=inputs_max).contains(&inputs.len()), "{} inputs, {inputs_max} are allowed", inputs.len());
        let rows: usize = inputs.iter().map(|input| input.len()).sum();
        assert!(rows <= rows_max, "{rows} rows, {rows_max} are allowed");
        assert!(inputs.len() == 1 || rows <= self.rows_per_batch, "{rows} rows of several inputs");
        assert!(inputs.iter().all(|input| (1..=context_length as usize).contains(&input.len())));
    }

    /// Nobody waits for more batches than there are requests.
    fn check_fairness(&self, inputs: &[&[Token]]) {
        let mut clients = self.clients.borrow_mut();
        let waiting = |client: &Client| client.is_running && client.encoding.is_some();
        for (number, client) in clients.iter_mut().enumerate().filter(|(_, client)| waiting(client)) {
            let is_in = inputs.iter().any(|input| input[0].0 as usize == number);
            client.waited = if is_in { 0 } else { client.waited + 1 };
            assert!(
                client.waited < self.requests_max,
                "request {number} starves: {} batches without it",
                client.waited
            );
        }
    }
}

impl Encoder for FakeEncoder {
    fn encode(&mut self, inputs: &[&[Token]], abort: &dyn Fn() -> bool) -> Result<Vec<Vec<f32>>, DecodeError> {
        self.check(inputs);
        let dice = {
            let mut random = self.random.borrow_mut();
            if random.chance(60) {
                leave(&self.clients, &mut random);
            }
            random.between(0, 999)
        };
        // Some encoders finish all the same.
        if abort() && dice >= 100 {
            self.tally.borrow_mut().aborted += 1;
            return Err(DecodeError::Aborted);
        }
        if dice < self.failures_per_thousand {
            return Err(DecodeError::Failed("as the test wants".to_owned()));
        }
        self.check_fairness(inputs);
        let mut tally = self.tally.borrow_mut();
        tally.shared += usize::from(inputs.iter().any(|input| input[0] != inputs[0][0]));
        tally.longest += usize::from(inputs[0].len() > self.rows_per_batch);
        Ok(inputs.iter().map(|input| encoded(input)).collect())
    }
}

struct Day {
    random: Rc<RefCell<Random>>,
    clients: Clients,
    shared: Arc<Shared>,
    encode_loop: EncodeLoop<FakeEncoder>,
    queue_length: usize,
    tally: Rc<RefCell<Tally>>,
    clock: Cell<Instant>,
}

impl Day {
    fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let count = |number| NonZeroUsize::new(number).unwrap();
        let config = EncodingConfig {
            requests: count(random.between(1, 5)),
            queue_length: count(random.between(1, 8)),
            rows_per_batch: count(random.between(1, CONTEXT_LENGTH + 10)),
            inputs_per_batch: count(random.between(1, 6)),
        };
        let failures_per_thousand = [0, 0, 30][random.between(0, 2)];
        let shape = EncoderShape {
            context_length: u32::try_from(CONTEXT_LENGTH).unwrap(),
            rows_max: config.rows_per_batch.get().max(CONTEXT_LENGTH),
            inputs_max: config.inputs_per_batch.get(),
        };
        let (random, clients) = (Rc::new(RefCell::new(random)), Clients::default());
        let tally = Rc::new(RefCell::new(Tally::default()));
        let encoder = FakeEncoder {
            shape,
            rows_per_batch: config.rows_per_batch.get(),
            requests_max: config.requests.get(),
            clients: Rc::clone(&clients),
            random: Rc::clone(&random),
            failures_per_thousand,
            tally: Rc::clone(&tally),
        };
        let shared = Arc::new(Shared::default());
        let encode_loop = EncodeLoop::new(encoder, shape, &config, Arc::clone(&shared));
        let clock = Cell::new(Instant::now());
        Self { random, clients, shared, encode_loop, queue_length: config.queue_length.get(), tally, clock }
    }

    fn run(mut self) -> Tally {
        for _ in 0..STEPS {
            let dice = self.random.borrow_mut().between(0, 99);
            match dice {
                0..30 => self.submit(),
                30..34 => leave(&self.clients, &mut self.random.borrow_mut()),
                _ => drop(self.step()),
            }
        }
        let mut steps = 0;
        while self.step() {
            steps += 1;
            assert!(steps < 10_000, "the engine does not come to an end");
        }
        assert_eq!((self.shared.running.load(Relaxed), self.shared.queued.load(Relaxed)), (0, 0));
        let clients = self.clients.borrow();
        for (number, client) in clients.iter().enumerate() {
            assert_eq!(client.ends, 1, "request {number} ended {} times", client.ends);
        }
        let mut tally = *self.tally.borrow();
        tally.abandoned = clients.len() - tally.encoded - tally.failed - tally.nonsense;
        tally
    }

    fn step(&mut self) -> bool {
        let outlook = self.encode_loop.step(|| {
            self.clock.set(self.clock.get() + Duration::from_millis(1));
            self.clock.get()
        });
        let running: HashSet<usize> = self.encode_loop.running_inputs().map(|inputs| inputs[0][0].0 as usize).collect();
        assert_eq!(running.len(), self.shared.running.load(Relaxed));
        for (number, client) in self.clients.borrow_mut().iter_mut().enumerate() {
            client.is_running = running.contains(&number);
        }
        self.read_all();
        outlook == Outlook::Busy
    }

    fn submit(&mut self) {
        if self.shared.queued.load(Relaxed) >= self.queue_length {
            return;
        }
        let inputs = self.random_inputs();
        let (end, receiver) = oneshot::channel();
        self.shared.queued.fetch_add(1, Relaxed);
        self.encode_loop.enqueue(Job::new(RequestId::new("day"), inputs.clone(), end, self.clock.get()));
        let encoding: End = Box::pin(Encoding::new(receiver).finish());
        let encoding = Some(encoding);
        self.clients.borrow_mut().push(Client { inputs, encoding, waited: 0, is_running: false, ends: 0 });
    }

    fn random_inputs(&self) -> Vec<Vec<Token>> {
        let number = Token(u32::try_from(self.clients.borrow().len()).unwrap());
        let random = &mut *self.random.borrow_mut();
        let count = if random.chance(100) { random.between(20, 60) } else { random.between(1, 5) };
        let is_nonsense = random.chance(40);
        let mut inputs: Vec<Vec<Token>> = (0..count)
            .map(|_| {
                let length = random.between(1, CONTEXT_LENGTH);
                let rest = (1..length).map(|_| Token(u32::try_from(random.between(0, 1000)).unwrap()));
                std::iter::once(number).chain(rest).collect()
            })
            .collect();
        if is_nonsense {
            let place = random.between(0, count - 1);
            inputs[place] = vec![number, NONSENSE];
        }
        inputs
    }

    fn read_all(&self) {
        for client in self.clients.borrow_mut().iter_mut() {
            let Some(encoding) = &mut client.encoding else { continue };
            if let Poll::Ready(end) = encoding.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
                client.encoding = None;
                client.check(end, &mut self.tally.borrow_mut());
            }
        }
    }
}

impl Client {
    fn check(&mut self, end: Result<Encoded, EngineFault>, tally: &mut Tally) {
        self.ends += 1;
        match end {
            Ok(Encoded { outputs, .. }) => {
                let expected: Vec<Vec<f32>> = self.inputs.iter().map(|input| encoded(input)).collect();
                assert_eq!(outputs, expected, "outputs are those of the inputs, in order");
                tally.encoded += 1;
            }
            Err(EngineFault::Decode(reason)) if reason.contains("not a number") => {
                assert!(self.inputs.iter().flatten().any(|token| *token == NONSENSE));
                tally.nonsense += 1;
            }
            Err(fault) => {
                assert_eq!(fault, EngineFault::Decode("as the test wants".to_owned()));
                tally.failed += 1;
            }
        }
    }
}

/// A random client leaves.
fn leave(clients: &Clients, random: &mut Random) {
    let mut clients = clients.borrow_mut();
    if !clients.is_empty() {
        let place = random.between(0, clients.len() - 1);
        let client = &mut clients[place];
        client.ends += usize::from(client.encoding.take().is_some());
    }
}
