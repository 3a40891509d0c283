//! Waiting in real tasks, in paused time.

use std::num::{NonZeroU32, NonZeroUsize};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use admission::{Admission, Arrival, Permit, Priority, Reason, Rules, Standing};
use tokio::time::Instant;

const WAIT_MAX: Duration = Duration::from_secs(30);

fn rules(slots: usize, waiting_max: usize) -> Rules {
    let slots = NonZeroUsize::new(slots).expect("tests ask for at least one");
    Rules { slots, waiting_max, waiting_tokens_max: 1_000_000, per_minute_max: None }
}

fn admission(slots: usize, waiting_max: usize) -> Arc<Admission> {
    Arc::new(Admission::new(rules(slots, waiting_max), |_| {}))
}

fn of(caller: &str) -> Arrival {
    Arrival { caller: caller.into(), priority: Priority::Interactive, tokens: 10, wait_max: WAIT_MAX }
}

async fn enter(admission: &Admission) -> Result<(Permit, Duration), Reason> {
    admission.enter(of(""), drop).await.map_err(|refusal| refusal.reason)
}

#[tokio::test(start_paused = true)]
async fn the_line_is_first_come_first_served() {
    let admission = admission(1, 8);
    let (first, _) = enter(&admission).await.expect("a free slot");
    let (told, mut order) = tokio::sync::mpsc::unbounded_channel();
    for number in 0..3 {
        let (admission, told) = (Arc::clone(&admission), told.clone());
        tokio::spawn(async move {
            let (_permit, waited) = enter(&admission).await.expect("a slot in time");
            told.send((number, waited)).expect("the test listens");
        });
        tokio::task::yield_now().await;
    }
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!((admission.standing().running, admission.standing().waiting()), (1, 3));
    drop(first);
    for number in 0..3 {
        assert_eq!(order.recv().await, Some((number, Duration::from_secs(2))));
    }
}

#[tokio::test(start_paused = true)]
async fn a_full_line_refuses_at_once() {
    let admission = admission(1, 0);
    let _held = enter(&admission).await.expect("a free slot");
    assert_eq!(enter(&admission).await.err(), Some(Reason::Full));
    assert_eq!(admission.standing().waiting(), 0);
}

#[tokio::test(start_paused = true)]
async fn waiting_has_an_end() {
    let admission = admission(1, 1);
    let _held = enter(&admission).await.expect("a free slot");
    let started = Instant::now();
    assert_eq!(enter(&admission).await.err(), Some(Reason::TimedOut { waited: WAIT_MAX }));
    assert_eq!(started.elapsed(), WAIT_MAX);
    assert_eq!(admission.standing().waiting(), 0);
}

#[tokio::test(start_paused = true)]
async fn who_leaves_the_line_frees_its_place() {
    let admission = admission(1, 1);
    let (held, _) = enter(&admission).await.expect("a free slot");
    let left = tokio::time::timeout(Duration::from_secs(1), enter(&admission)).await;
    assert!(left.is_err(), "there was no slot to get");
    assert_eq!(admission.standing().waiting(), 0);
    drop(held);
    assert!(enter(&admission).await.is_ok());
}

/// A slot that is given to a future that nobody polls any more goes to the next.
#[tokio::test(start_paused = true)]
async fn a_slot_that_nobody_takes_goes_on() {
    let admission = admission(1, 8);
    let (held, _) = enter(&admission).await.expect("a free slot");
    let mut leaves = Box::pin(enter(&admission));
    let mut stays = Box::pin(enter(&admission));
    assert!(poll(&mut leaves).await.is_none() && poll(&mut stays).await.is_none());
    drop(held);
    assert_eq!((admission.standing().running, admission.standing().waiting()), (1, 1), "it is the first one's");
    drop(leaves);
    assert!(poll(&mut stays).await.is_some_and(|entered| entered.is_ok()));
}

/// Polls once.
async fn poll<F: Future + Unpin>(future: &mut F) -> Option<F::Output> {
    tokio::time::timeout(Duration::ZERO, future).await.ok()
}

#[tokio::test(start_paused = true)]
async fn who_is_displaced_is_told_at_once() {
    let admission = admission(1, 1);
    let _held = enter(&admission).await.expect("a free slot");
    let nightly = Arrival { priority: Priority::Batch, ..of("") };
    let mut waits = Box::pin(admission.enter(nightly, drop));
    assert!(poll(&mut waits).await.is_none());
    let mut urgent = Box::pin(enter(&admission));
    assert!(poll(&mut urgent).await.is_none(), "it has the place now");
    let told = poll(&mut waits).await.expect("told").expect_err("displaced");
    assert_eq!(told.reason, Reason::Displaced);
}

#[tokio::test(start_paused = true)]
async fn slots_that_nobody_waits_for_are_had_and_no_others() {
    let admission = admission(3, 8);
    let (first, _) = enter(&admission).await.expect("a free slot");
    let more = first.more(8);
    assert_eq!((more.len(), admission.standing().running), (2, 3));
    let mut waits = Box::pin(enter(&admission));
    assert!(poll(&mut waits).await.is_none());
    drop(more);
    let _second = poll(&mut waits).await.expect("told").expect("a slot");
    assert_eq!(first.more(8).len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_position_goes_down_to_nothing() {
    let admission = admission(1, 8);
    let (held, _) = enter(&admission).await.expect("a free slot");
    let mut first = Box::pin(enter(&admission));
    assert!(poll(&mut first).await.is_none());
    let position = Arc::new(Mutex::new(None));
    let mut second = Box::pin(admission.enter(of(""), |it| *position.lock().expect("unpoisoned") = Some(it)));
    assert!(poll(&mut second).await.is_none());
    let position = position.lock().expect("unpoisoned").take().expect("it waits");
    assert_eq!(position.ahead(), Some(1));
    drop(held);
    assert_eq!(position.ahead(), Some(0));
    drop(first);
    assert_eq!(position.ahead(), None, "it has a slot");
}

#[tokio::test(start_paused = true)]
async fn a_closed_line_sends_everybody_away() {
    let admission = admission(1, 8);
    let (held, _) = enter(&admission).await.expect("a free slot");
    let mut waits = Box::pin(enter(&admission));
    assert!(poll(&mut waits).await.is_none());
    admission.close();
    assert_eq!(poll(&mut waits).await.expect("told").err(), Some(Reason::Closed));
    assert_eq!(enter(&admission).await.err(), Some(Reason::Closed));
    assert!(held.more(1).is_empty());
    drop(held);
    assert_eq!(admission.standing(), Standing::default());
}

#[tokio::test(start_paused = true)]
async fn a_place_for_something_else_is_a_place() {
    let admission = admission(1, 1);
    let aside = admission.set_aside().expect("a place");
    assert_eq!(admission.set_aside().err().map(|refusal| refusal.reason), Some(Reason::Full));
    let _held = enter(&admission).await.expect("a free slot: who waits for something else waits for none");
    assert_eq!(enter(&admission).await.err(), Some(Reason::Full));
    drop(aside);
    assert_eq!(admission.standing().waiting(), 0);
}

#[tokio::test(start_paused = true)]
async fn more_than_a_minute_may_have_is_refused() {
    let rules = Rules { per_minute_max: NonZeroU32::new(2), ..rules(8, 8) };
    let admission = Admission::new(rules, |_| {});
    let _two = [enter(&admission).await.expect("one"), enter(&admission).await.expect("two")];
    let refusal = admission.enter(of(""), drop).await.expect_err("three");
    assert_eq!(refusal.reason, Reason::RateLimited { per_minute: 2 });
    assert!((29..=30).contains(&refusal.retry_after.as_secs()), "{refusal:?}");
}

#[tokio::test(start_paused = true)]
async fn who_is_not_let_in_does_not_count_towards_the_minute() {
    let rules = Rules { per_minute_max: NonZeroU32::new(2), ..rules(1, 0) };
    let admission = Admission::new(rules, |_| {});
    let held = enter(&admission).await.expect("a free slot");
    for _ in 0..5 {
        assert_eq!(enter(&admission).await.err(), Some(Reason::Full));
    }
    drop(held);
    drop(enter(&admission).await.expect("the second of the minute"));
    assert_eq!(enter(&admission).await.err(), Some(Reason::RateLimited { per_minute: 2 }));
    let other = admission.enter(of("other"), drop).await.expect_err("the minute is full");
    assert_eq!((&other.reason, other.reason.is_callers()), (&Reason::MinuteFull { per_minute: 2 }, false));
}

#[tokio::test(start_paused = true)]
async fn a_slot_is_wanted_while_somebody_waits() {
    let admission = admission(1, 8);
    let (held, _) = enter(&admission).await.expect("a free slot");
    assert!(!held.is_wanted());
    let mut waits = Box::pin(enter(&admission));
    assert!(poll(&mut waits).await.is_none() && held.is_wanted());
    drop(waits);
    assert!(!held.is_wanted());
}

#[tokio::test(start_paused = true)]
async fn the_observer_sees_every_change() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let told = Arc::clone(&seen);
    let observer =
        move |standing: &Standing| told.lock().expect("unpoisoned").push((standing.running, standing.waiting()));
    let admission = Admission::new(rules(1, 8), observer);
    let (held, _) = enter(&admission).await.expect("a free slot");
    let mut waits = Box::pin(enter(&admission));
    assert!(poll(&mut waits).await.is_none());
    drop(held);
    drop(waits);
    assert_eq!(*seen.lock().expect("unpoisoned"), [(1, 0), (1, 1), (1, 0), (0, 0)]);
}

#[tokio::test(start_paused = true)]
async fn rules_change_while_requests_wait() {
    let admission = admission(1, 1);
    let (held, _) = enter(&admission).await.expect("a free slot");
    let waiting = tokio::spawn({
        let admission = Arc::clone(&admission);
        async move { enter(&admission).await.map(drop) }
    });
    tokio::task::yield_now().await;
    assert_eq!(enter(&admission).await.err(), Some(Reason::Full));
    // A shorter line sends nobody away who is in it; the number of slots is not for now.
    admission.set_rules(&rules(8, 0));
    assert_eq!((admission.standing().running, admission.standing().waiting()), (1, 1));
    assert_eq!(enter(&admission).await.err(), Some(Reason::Full));
    drop(held);
    assert_eq!(waiting.await.expect("no panic"), Ok(()));
    // A rate counts from when it is said, and a change of something else does not begin it anew.
    let two = Rules { per_minute_max: NonZeroU32::new(2), ..rules(1, 1) };
    admission.set_rules(&two);
    for _ in 0..2 {
        enter(&admission).await.expect("one of two");
    }
    admission.set_rules(&Rules { waiting_max: 5, ..two });
    assert_eq!(enter(&admission).await.err(), Some(Reason::RateLimited { per_minute: 2 }));
    admission.set_rules(&rules(1, 1));
    enter(&admission).await.expect("as many as come");
}
