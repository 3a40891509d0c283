//! The line under made-up traffic, in made-up time: what must hold after every event, and who gets how much.

use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;

use crate::line::{Arrived, Line, Ticket};
use crate::refusal::Reason;
use crate::{Arrival, Priority, Rules, limits};

const WAIT_MAX: Duration = Duration::from_hours(1);

fn rules(slots: usize, waiting_max: usize, waiting_tokens_max: u64) -> Rules {
    let slots = NonZeroUsize::new(slots).expect("tests ask for at least one");
    Rules { slots, waiting_max, waiting_tokens_max, per_minute_max: None }
}

fn of(caller: &str) -> Arrival {
    Arrival { caller: caller.into(), priority: Priority::Interactive, tokens: 10, wait_max: WAIT_MAX }
}

fn batch(caller: &str) -> Arrival {
    Arrival { priority: Priority::Batch, ..of(caller) }
}

/// A line, what became of each request, and a clock.
struct World {
    line: Line,
    rules: Rules,
    now: Duration,
    waiting: Vec<(Ticket, Arrival)>,
    running: Vec<(Ticket, Arrival)>,
    counts: Counts,
}

#[derive(Default)]
struct Counts {
    came: usize,
    refused: usize,
    displaced: usize,
    left: usize,
    finished: usize,
}

impl World {
    fn new(rules: Rules) -> Self {
        let line = Line::new(rules.clone());
        let (waiting, running) = (Vec::new(), Vec::new());
        Self { line, rules, now: Duration::ZERO, waiting, running, counts: Counts::default() }
    }

    fn comes(&mut self, arrival: Arrival) -> Result<Ticket, Reason> {
        self.counts.came += 1;
        let before = self.waiting.len();
        let became = match self.line.arrive(&arrival, self.now) {
            Arrived::Admitted(ticket) => {
                assert_eq!(before, 0, "a slot was given past the line");
                self.running.push((ticket, arrival));
                Ok(ticket)
            }
            Arrived::Waits { ticket, displaced } => {
                for (gone, refusal) in displaced {
                    let place = self.waiting.iter().position(|(waiting, _)| *waiting == gone);
                    let (_, whose) = self.waiting.remove(place.expect("who leaves had waited"));
                    assert!(whose.caller != arrival.caller || whose.priority != arrival.priority, "for one of its own");
                    assert!(matches!(refusal.reason, Reason::OverShare | Reason::Displaced));
                    self.counts.displaced += 1;
                }
                self.waiting.push((ticket, arrival));
                Ok(ticket)
            }
            Arrived::Refused(refusal) => {
                self.counts.refused += 1;
                assert!((limits::RETRY_AFTER_MIN..=limits::RETRY_AFTER_MAX).contains(&refusal.retry_after));
                Err(refusal.reason)
            }
        };
        self.check();
        became
    }

    /// The running request at `place` has been answered.
    fn finishes(&mut self, place: usize) {
        let (ticket, _) = self.running.remove(place);
        self.counts.finished += 1;
        self.line.end(ticket, self.now);
        self.admit();
    }

    /// The waiting request at `place` is given up by its client.
    fn leaves(&mut self, place: usize) {
        let (ticket, _) = self.waiting.remove(place);
        self.counts.left += 1;
        self.line.end(ticket, self.now);
        self.admit();
    }

    fn admit(&mut self) {
        while let Some(ticket) = self.line.admit_next(self.now) {
            let place = self.waiting.iter().position(|(waiting, _)| *waiting == ticket);
            let admitted = self.waiting.remove(place.expect("who is admitted had waited"));
            self.running.push(admitted);
        }
        self.check();
    }

    fn check(&self) {
        let Self { line, rules, waiting, running, counts, .. } = self;
        assert_eq!(line.running(), running.len());
        assert_eq!(line.waiting().iter().sum::<usize>(), waiting.len());
        let is_batch = |(_, arrival): &&(Ticket, Arrival)| arrival.priority == Priority::Batch;
        assert_eq!(line.waiting()[1], waiting.iter().filter(is_batch).count());
        let tokens: u64 = waiting.iter().map(|(_, arrival)| arrival.tokens).sum();
        assert_eq!(line.waiting_tokens(), tokens);
        // Conservation: each request is somewhere, once.
        let ended = counts.refused + counts.displaced + counts.left + counts.finished;
        assert_eq!(counts.came, ended + waiting.len() + running.len());
        // Bounds, and no slot free while somebody waits.
        assert!(running.len() <= rules.slots.get() && waiting.len() <= rules.waiting_max);
        let have_tokens = waiting.iter().filter(|(_, arrival)| arrival.tokens > 0).count();
        assert!(tokens <= rules.waiting_tokens_max || have_tokens == 1, "{tokens} tokens wait");
        assert!(waiting.is_empty() || running.len() == rules.slots.get(), "a slot is free and somebody waits");
        // No account is kept of who is not there.
        let mut callers: Vec<&Arc<str>> = waiting.iter().chain(running).map(|(_, arrival)| &arrival.caller).collect();
        callers.sort();
        callers.dedup();
        assert_eq!(line.callers(), callers.len());
        for (ticket, _) in waiting {
            assert!(line.ahead_of(*ticket).expect("it waits") < waiting.len());
        }
    }
}

#[derive(Debug, Clone)]
enum Event {
    Comes { caller: u8, is_batch: bool, tokens: u64 },
    Finishes(usize),
    Leaves(usize),
    Passes(u64),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        4 => (0..5_u8, any::<bool>(), 0..60_u64).prop_map(|(caller, is_batch, tokens)| Event::Comes { caller, is_batch, tokens }),
        2 => any::<usize>().prop_map(Event::Finishes),
        1 => any::<usize>().prop_map(Event::Leaves),
        2 => (0..5_000_u64).prop_map(Event::Passes),
    ]
}

proptest! {
    /// Whatever happens: nobody is lost or counted twice, the bounds hold, and in the end everybody has been served.
    #[test]
    fn whatever_happens_nobody_is_lost(
        slots in 1..4_usize,
        waiting_max in 0..9_usize,
        tokens_max in 0..200_u64,
        events in prop::collection::vec(event(), 0..200),
    ) {
        let mut world = World::new(rules(slots, waiting_max, tokens_max));
        for event in events {
            match event {
                Event::Comes { caller, is_batch, tokens } => {
                    let priority = if is_batch { Priority::Batch } else { Priority::Interactive };
                    let _ = world.comes(Arrival { priority, tokens, ..of(&caller.to_string()) });
                }
                Event::Finishes(which) if !world.running.is_empty() => world.finishes(which % world.running.len()),
                Event::Leaves(which) if !world.waiting.is_empty() => world.leaves(which % world.waiting.len()),
                Event::Passes(milliseconds) => world.now += Duration::from_millis(milliseconds),
                Event::Finishes(_) | Event::Leaves(_) => {}
            }
        }
        while !world.running.is_empty() {
            world.now += Duration::from_millis(100);
            world.finishes(0);
        }
        prop_assert!(world.waiting.is_empty(), "no request waits where none runs");
        prop_assert_eq!(world.line.callers(), 0);
    }
}

/// Keeps as many requests of each caller in the line as `backlog` says, each lasting its `lasts`, for `rounds` requests in one slot; the
/// slot time that each caller got.
fn slot_time(callers: &[(&str, usize, Duration, Priority)], rounds: usize) -> HashMap<String, Duration> {
    let mut world = World::new(rules(1, 1_000, 1_000_000));
    let mut got: HashMap<String, Duration> = HashMap::new();
    for _ in 0..rounds {
        for &(caller, backlog, _, priority) in callers {
            let is_of = |(_, arrival): &&(Ticket, Arrival)| &*arrival.caller == caller && arrival.priority == priority;
            let has = world.waiting.iter().chain(&world.running).filter(is_of).count();
            (has..backlog).for_each(|_| drop(world.comes(Arrival { priority, ..of(caller) })));
        }
        let running = world.running[0].1.clone();
        let is_it = |(caller, _, _, priority): &&(&str, usize, Duration, Priority)| {
            **caller == *running.caller && *priority == running.priority
        };
        let lasts = callers.iter().find(is_it).expect("one of them").2;
        world.now += lasts;
        *got.entry(running.caller.to_string()).or_default() += lasts;
        world.finishes(0);
    }
    got
}

fn ratio(got: &HashMap<String, Duration>, one: &str, other: &str) -> f64 {
    got[one].as_secs_f64() / got[other].as_secs_f64()
}

#[test]
fn who_floods_the_line_gets_no_more_than_who_sends_one_at_a_time() {
    let second = Duration::from_secs(1);
    let callers = [("flood", 100, second, Priority::Interactive), ("quiet", 1, second, Priority::Interactive)];
    let even = ratio(&slot_time(&callers, 1_000), "flood", "quiet");
    assert!((0.9..1.1).contains(&even), "{even}");
}

#[test]
fn long_requests_are_paid_for() {
    let (short, long) = (Duration::from_millis(100), Duration::from_secs(2));
    let callers = [("long", 10, long, Priority::Interactive), ("short", 10, short, Priority::Interactive)];
    let even = ratio(&slot_time(&callers, 4_000), "long", "short");
    assert!((0.8..1.25).contains(&even), "{even}");
}

#[test]
fn batch_requests_get_an_eighth_and_never_nothing() {
    let second = Duration::from_secs(1);
    let callers = [("chat", 20, second, Priority::Interactive), ("nightly", 20, second, Priority::Batch)];
    let times = ratio(&slot_time(&callers, 800), "chat", "nightly");
    let expected = f64::from(limits::BATCH_EVERY - 1);
    assert!((expected - 0.2..expected + 0.2).contains(&times), "{times}");
}

#[test]
fn who_comes_back_has_saved_nothing_up() {
    let mut world = World::new(rules(1, 100, 100_000));
    (0..50).for_each(|_| drop(world.comes(of("steady"))));
    for _ in 0..40 {
        world.now += Duration::from_secs(1);
        world.finishes(0);
    }
    // It did nothing for 40 s and does not get the next 40 s for that.
    (0..5).for_each(|_| drop(world.comes(of("late"))));
    let mut began = Vec::new();
    for _ in 0..6 {
        world.now += Duration::from_secs(1);
        world.finishes(0);
        began.push(world.running[0].1.caller.to_string());
    }
    assert_eq!(began.iter().filter(|caller| *caller == "late").count(), 3, "{began:?}");
}

#[test]
fn a_full_line_makes_room_for_who_has_less_of_it() {
    let mut world = World::new(rules(1, 4, 100_000));
    (0..5).for_each(|_| assert!(world.comes(of("flood")).is_ok()));
    assert_eq!(world.comes(of("flood")), Err(Reason::Full), "nobody else is here");
    // Two of four places are a half; with a third it would have more than the flood.
    for _ in 0..2 {
        assert!(world.comes(of("quiet")).is_ok());
        assert_eq!(world.comes(of("flood")), Err(Reason::OverShare));
    }
    assert_eq!(world.counts.displaced, 2);
    assert_eq!(world.comes(of("quiet")), Err(Reason::OverShare));
    assert_eq!(world.waiting.iter().filter(|(_, arrival)| &*arrival.caller == "flood").count(), 2);
    // Who has had nothing yet is next; and of the flood the newest have left, not the oldest.
    let mut began = Vec::new();
    for _ in 0..2 {
        world.now += Duration::from_secs(1);
        world.finishes(0);
        began.push(world.running[0].clone());
    }
    assert_eq!(&*began[0].1.caller, "quiet");
    assert_eq!(began[1].0, 1, "{began:?}");
}

#[test]
fn long_prompts_count_for_what_they_are() {
    let mut world = World::new(rules(1, 100, 1_000));
    let long = |caller: &str, tokens| Arrival { tokens, ..of(caller) };
    assert!(world.comes(of("other")).is_ok());
    assert!(world.comes(long("novel", 5_000)).is_ok(), "alone it may have any length");
    assert_eq!(world.comes(long("novel", 10)), Err(Reason::Full));
    // A short one of somebody else takes its place.
    assert!(world.comes(of("quiet")).is_ok());
    assert_eq!(world.counts.displaced, 1);
    assert!(world.comes(long("novel", 900)).is_ok());
    assert!(matches!(world.comes(long("novel", 200)), Err(Reason::OverShare)));
}

#[test]
fn a_batch_request_leaves_for_an_interactive_one() {
    let mut world = World::new(rules(1, 2, 100_000));
    (0..3).for_each(|_| assert!(world.comes(batch("nightly")).is_ok()));
    assert!(world.comes(of("nightly")).is_ok(), "also of its own caller");
    assert!(world.comes(of("chat")).is_ok());
    assert_eq!(world.counts.displaced, 2);
    assert!(world.comes(batch("other")).is_err(), "and none for a batch request");
}

#[test]
fn who_would_wait_in_vain_is_told_at_once() {
    let mut world = World::new(rules(1, 100, 100_000));
    let hurried = || Arrival { wait_max: Duration::from_secs(30), ..of("") };
    for _ in 0..limits::MEASURED_MIN {
        assert!(world.comes(hurried()).is_ok());
        world.now += Duration::from_secs(10);
        world.finishes(0);
    }
    // One runs; the third in line would begin in 30 s, the fourth in 40 s.
    (0..4).for_each(|_| assert!(world.comes(hurried()).is_ok()));
    let refused = world.comes(hurried());
    assert_eq!(refused, Err(Reason::TooLong { expected: Duration::from_secs(40), most: Duration::from_secs(30) }));
    // Who has all the time in the world may wait.
    assert!(world.comes(of("")).is_ok());
}
