//! The line under made-up traffic, in made-up time: what must hold after every event. Who gets how much is in `fairness`.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;

use crate::line::{Arrived, Line, Ticket};
use crate::refusal::Reason;
use crate::{Arrival, Priority, Rules, limits};

const WAIT_MAX: Duration = Duration::from_hours(1);

pub(crate) fn rules(slots: usize, waiting_max: usize, waiting_tokens_max: u64) -> Rules {
    let slots = NonZeroUsize::new(slots).expect("tests ask for at least one");
    Rules { slots, waiting_max, waiting_tokens_max, per_minute_max: None }
}

pub(crate) fn of(caller: &str) -> Arrival {
    Arrival { caller: caller.into(), priority: Priority::Interactive, tokens: 10, wait_max: WAIT_MAX }
}

pub(crate) fn batch(caller: &str) -> Arrival {
    Arrival { priority: Priority::Batch, ..of(caller) }
}

/// A line, what became of each request, and a clock.
pub(crate) struct World {
    pub(crate) line: Line,
    rules: Rules,
    pub(crate) now: Duration,
    pub(crate) waiting: Vec<(Ticket, Arrival)>,
    pub(crate) running: Vec<(Ticket, Arrival)>,
    aside: usize,
    /// After each event; costly with a long line.
    is_checked: bool,
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
    pub(crate) fn new(rules: Rules) -> Self {
        let line = Line::new(rules.clone());
        let (waiting, running) = (Vec::new(), Vec::new());
        Self {
            line,
            rules,
            now: Duration::ZERO,
            waiting,
            running,
            aside: 0,
            is_checked: true,
            counts: Counts::default(),
        }
    }

    pub(crate) fn unchecked(rules: Rules) -> Self {
        Self { is_checked: false, ..Self::new(rules) }
    }

    pub(crate) fn comes(&mut self, arrival: Arrival) -> Result<Ticket, Reason> {
        self.counts.came += 1;
        let before = self.waiting.len();
        let became = match self.line.offer(&arrival).map(|offer| self.line.arrive(&arrival, offer, self.now)) {
            Ok(Arrived::Admitted(ticket)) => {
                assert_eq!(before, 0, "a slot was given past the line");
                self.running.push((ticket, arrival));
                Ok(ticket)
            }
            Ok(Arrived::Waits { ticket, displaced }) => {
                for (gone, refusal) in displaced {
                    let place = self.waiting.iter().position(|(waiting, _)| *waiting == gone);
                    let (_, whose) = self.waiting.remove(place.expect("who leaves had waited"));
                    assert!(whose.caller != arrival.caller || whose.priority != arrival.priority, "for one of its own");
                    let for_other_kind = match whose.priority {
                        Priority::Interactive => Reason::Full,
                        Priority::Batch => Reason::Displaced,
                    };
                    let is_same_kind = whose.priority == arrival.priority;
                    assert_eq!(refusal.reason, if is_same_kind { Reason::OverShare } else { for_other_kind });
                    self.counts.displaced += 1;
                }
                self.waiting.push((ticket, arrival));
                Ok(ticket)
            }
            Err(refusal) => {
                self.counts.refused += 1;
                assert!((limits::RETRY_AFTER_MIN..=limits::RETRY_AFTER_MAX).contains(&refusal.retry_after));
                Err(refusal.reason)
            }
        };
        self.check();
        became
    }

    /// The running request at `place` has been answered.
    pub(crate) fn finishes(&mut self, place: usize) {
        let (ticket, _) = self.running.remove(place);
        self.counts.finished += 1;
        self.line.end(ticket, self.now);
        self.admit();
    }

    /// The waiting request at `place` is given up by its client.
    pub(crate) fn leaves(&mut self, place: usize) {
        let (ticket, _) = self.waiting.remove(place);
        self.counts.left += 1;
        self.line.end(ticket, self.now);
        self.admit();
    }

    /// The running request at `place` takes slots that nobody waits for.
    fn takes_more(&mut self, place: usize, count: usize) {
        let (beside, arrival) = self.running[place].clone();
        for _ in 0..count {
            let Some(ticket) = self.line.take_free(beside, self.now) else { break };
            assert!(self.waiting.is_empty(), "past the line");
            self.counts.came += 1;
            self.running.push((ticket, arrival.clone()));
        }
        self.check();
    }

    fn sets_aside(&mut self) {
        let is_full = self.waiting.len() + self.aside >= self.rules.waiting_max;
        assert_eq!(self.line.set_aside().is_err(), is_full);
        self.aside += usize::from(!is_full);
        self.check();
    }

    fn puts_back(&mut self) {
        self.line.put_back();
        self.aside -= 1;
        self.check();
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
        if !self.is_checked {
            return;
        }
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
        assert_eq!(line.in_line(), waiting.len() + self.aside);
        assert!(running.len() <= rules.slots.get() && line.in_line() <= rules.waiting_max);
        let have_tokens = waiting.iter().filter(|(_, arrival)| arrival.tokens > 0).count();
        assert!(tokens <= rules.waiting_tokens_max || have_tokens == 1, "{tokens} tokens wait");
        assert!(waiting.is_empty() || running.len() == rules.slots.get(), "a slot is free and somebody waits");
        // Who is there; and of who is not, only so many are remembered.
        let mut callers: Vec<&Arc<str>> = waiting.iter().chain(running).map(|(_, arrival)| &arrival.caller).collect();
        callers.sort();
        callers.dedup();
        assert_eq!(line.callers(), callers.len());
        for priority in [Priority::Interactive, Priority::Batch] {
            assert!(line.class(priority).accounts() <= callers.len() + limits::ABSENT_CALLERS_MAX);
        }
        if waiting.is_empty() && running.is_empty() {
            assert_eq!(line.accounts(), 0, "an idle line owes nobody anything");
        }
        for (ticket, _) in waiting {
            assert!(line.ahead_of(*ticket).expect("it waits") < waiting.len());
        }
    }
}

#[derive(Debug, Clone)]
enum Event {
    Comes {
        caller: u8,
        is_batch: bool,
        tokens: u64,
        wait_max: u64,
    },
    /// A running request takes slots more.
    TakesMore(usize, usize),
    SetsAside,
    PutsBack,
    Finishes(usize),
    Leaves(usize),
    Passes(u64),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        4 => (0..5_u8, any::<bool>(), 0..60_u64, 0..40_u64)
            .prop_map(|(caller, is_batch, tokens, wait_max)| Event::Comes { caller, is_batch, tokens, wait_max }),
        1 => (any::<usize>(), 1..3_usize).prop_map(|(which, count)| Event::TakesMore(which, count)),
        1 => Just(Event::SetsAside),
        1 => Just(Event::PutsBack),
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
                Event::Comes { caller, is_batch, tokens, wait_max } => {
                    let priority = if is_batch { Priority::Batch } else { Priority::Interactive };
                    // Some are in a hurry, so that some are told that it would be in vain.
                    let wait_max = if wait_max < 20 { Duration::from_secs(wait_max) } else { WAIT_MAX };
                    let _ = world.comes(Arrival { priority, tokens, wait_max, ..of(&caller.to_string()) });
                }
                Event::TakesMore(which, count) if !world.running.is_empty() => {
                    world.takes_more(which % world.running.len(), count);
                }
                Event::SetsAside => world.sets_aside(),
                Event::PutsBack if world.aside > 0 => world.puts_back(),
                Event::Finishes(which) if !world.running.is_empty() => world.finishes(which % world.running.len()),
                Event::Leaves(which) if !world.waiting.is_empty() => world.leaves(which % world.waiting.len()),
                Event::Passes(milliseconds) => world.now += Duration::from_millis(milliseconds),
                Event::Finishes(_) | Event::Leaves(_) | Event::TakesMore(..) | Event::PutsBack => {}
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
    let mut world = World::new(rules(1, 3, 100_000));
    (0..4).for_each(|_| assert!(world.comes(batch("nightly")).is_ok()));
    assert!(world.comes(of("nightly")).is_ok(), "also of its own caller");
    assert!(world.comes(of("chat")).is_ok());
    assert_eq!(world.counts.displaced, 2);
    assert!(world.comes(batch("nightly")).is_err(), "and none for a batch request");
    // The last place of batch requests is theirs.
    assert!(world.comes(of("chat")).is_err());
    assert_eq!(world.line.waiting(), [2, 1]);
}

#[test]
fn the_only_place_goes_to_who_is_more_urgent() {
    let mut world = World::new(rules(1, 1, 100_000));
    (0..2).for_each(|_| assert!(world.comes(batch("nightly")).is_ok()));
    assert!(world.comes(of("chat")).is_ok());
    assert_eq!((world.counts.displaced, world.line.waiting()), (1, [1, 0]));
    assert_eq!(world.comes(batch("nightly")), Err(Reason::Full));
}

#[test]
fn batch_requests_have_an_eighth_of_a_full_line() {
    let mut world = World::new(rules(1, 16, 1_600));
    (0..17).for_each(|_| assert!(world.comes(of("chat")).is_ok()));
    let sized = |tokens| Arrival { tokens, ..batch("nightly") };
    assert_eq!(world.comes(sized(500)), Err(Reason::Full), "of its tokens too");
    (0..2).for_each(|_| assert!(world.comes(sized(50)).is_ok()));
    assert_eq!((world.counts.displaced, world.line.waiting()), (2, [14, 2]));
    assert_eq!(world.comes(sized(1)), Err(Reason::Full), "and no more");
    assert!(world.comes(of("other")).is_ok(), "at the cost of who has more");
    assert_eq!(world.line.waiting(), [14, 2]);
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
