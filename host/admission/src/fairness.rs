//! Who gets how much of the slots: clients who keep sending, in made-up time.

use std::collections::HashMap;
use std::time::Duration;

use proptest::prelude::*;

use crate::line::Ticket;
use crate::simulation::{World, batch, of, rules};
use crate::{Arrival, Priority, limits};

/// Somebody who keeps so many requests here, each lasting as long, from some time on.
#[derive(Debug, Clone)]
struct Client {
    name: String,
    priority: Priority,
    backlog: usize,
    lasts: Duration,
    from: Duration,
}

fn client(name: &str, backlog: usize, lasts: f64) -> Client {
    let lasts = Duration::from_secs_f64(lasts);
    Client { name: name.to_owned(), priority: Priority::Interactive, backlog, lasts, from: Duration::ZERO }
}

impl Client {
    fn batch(self) -> Self {
        Self { priority: Priority::Batch, ..self }
    }

    fn from(self, seconds: u64) -> Self {
        Self { from: Duration::from_secs(seconds), ..self }
    }

    fn is_of(&self, arrival: &Arrival) -> bool {
        *arrival.caller == *self.name && arrival.priority == self.priority
    }
}

/// What became of the clients' requests.
#[derive(Default)]
struct Traffic {
    /// By the client's place: when each of its requests was over.
    over: Vec<Vec<Duration>>,
    /// By the client's place: requests that waited for longer than they may.
    in_vain: Vec<usize>,
}

impl Traffic {
    /// Lets the clients send in so many slots, for so many seconds, giving up what waits for longer than `wait_max`.
    fn of(slots: usize, clients: &[Client], seconds: u64, wait_max: Option<Duration>) -> Self {
        let mut world = World::unchecked(rules(slots, 1_000, 1_000_000));
        let mut this = Self { over: vec![Vec::new(); clients.len()], in_vain: vec![0; clients.len()] };
        let whose = |arrival: &Arrival| clients.iter().position(|client| client.is_of(arrival)).expect("a client's");
        let mut came: HashMap<Ticket, Duration> = HashMap::new();
        let mut ends: HashMap<Ticket, Duration> = HashMap::new();
        while world.now < Duration::from_secs(seconds) {
            let now = world.now;
            for client in clients.iter().filter(|client| client.from <= now) {
                let all = world.waiting.iter().chain(&world.running);
                let has = all.filter(|(_, arrival)| client.is_of(arrival)).count();
                for _ in has..client.backlog {
                    let arrival = Arrival { priority: client.priority, ..of(&client.name) };
                    came.insert(world.comes(arrival).expect("there is room"), world.now);
                }
            }
            for (ticket, arrival) in &world.running {
                ends.entry(*ticket).or_insert(world.now + clients[whose(arrival)].lasts);
            }
            // What happens next: a request is over, one gives up, or a client comes.
            let over = world.running.iter().map(|(ticket, _)| ends[ticket]);
            let gives_up =
                wait_max.into_iter().flat_map(|most| world.waiting.iter().map(move |(ticket, _)| (ticket, most)));
            let gives_up = gives_up.map(|(ticket, most)| came[ticket] + most);
            let comes = clients.iter().map(|client| client.from).filter(|from| *from > world.now);
            world.now = over.chain(gives_up).chain(comes).min().expect("somebody sends");
            let is_late =
                |(ticket, _): &(Ticket, Arrival)| wait_max.is_some_and(|most| came[ticket] + most <= world.now);
            if let Some(place) = world.running.iter().position(|(ticket, _)| ends[ticket] <= world.now) {
                this.over[whose(&world.running[place].1)].push(world.now);
                world.finishes(place);
            } else if let Some(place) = world.waiting.iter().position(is_late) {
                this.in_vain[whose(&world.waiting[place].1)] += 1;
                world.leaves(place);
            }
        }
        this
    }

    /// Seconds of slots that a client has had since then.
    fn had(&self, clients: &[Client], place: usize, since: Duration) -> f64 {
        let count = self.over[place].iter().filter(|over| **over > since).count();
        f64::from(u32::try_from(count).expect("not so many")) * clients[place].lasts.as_secs_f64()
    }
}

/// What each has had of one slot in so many seconds.
fn had(clients: &[Client], seconds: u64) -> Vec<f64> {
    let traffic = Traffic::of(1, clients, seconds, None);
    (0..clients.len()).map(|place| traffic.had(clients, place, Duration::ZERO)).collect()
}

fn assert_even(one: f64, other: f64) {
    assert!((0.85..1.18).contains(&(one / other)), "{one} s and {other} s");
}

fn clients() -> impl Strategy<Value = Vec<Client>> {
    let one = (any::<bool>(), 1..9_usize, 200..20_000_u64, 0..300_u64);
    prop::collection::vec(one, 2..6).prop_map(|all| {
        let client = |(place, (is_batch, backlog, lasts, from)): (usize, (bool, usize, u64, u64))| Client {
            name: format!("client {place}"),
            priority: if is_batch { Priority::Batch } else { Priority::Interactive },
            backlog,
            lasts: Duration::from_millis(lasts),
            from: Duration::from_secs(from),
        };
        all.into_iter().enumerate().map(client).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// Whoever always has something waiting has had, at any time since it came, as much as any other of its kind, but for what may
    /// be under way: however long anybody's requests are, whoever else came before, and whatever the other kind does.
    #[test]
    fn who_always_waits_has_had_as_much_as_any_other(slots in 1..4_usize, clients in clients()) {
        let traffic = Traffic::of(slots, &clients, 1_000, None);
        let longest = clients.iter().map(|client| client.lasts).max().expect("two").max(limits::UNMEASURED);
        let under_way = longest.as_secs_f64() * (2 * slots + 3) as f64;
        for (place, client) in clients.iter().enumerate().filter(|(_, client)| client.backlog > slots) {
            let own = traffic.had(&clients, place, client.from);
            for other in (0..clients.len()).filter(|other| clients[*other].priority == client.priority) {
                let others = traffic.had(&clients, other, client.from);
                prop_assert!(others <= own + under_way, "{client:?} had {own} s and {:?} {others} s", clients[other]);
            }
        }
    }
}

#[test]
fn who_floods_the_line_gets_no_more_than_who_sends_one_at_a_time() {
    let [flood, quiet] = had(&[client("flood", 100, 1.0), client("quiet", 1, 1.0)], 1_000)[..] else { panic!() };
    assert_even(flood, quiet);
}

#[test]
fn long_requests_are_paid_for() {
    let [long, short] = had(&[client("long", 10, 2.0), client("short", 10, 0.1)], 1_000)[..] else { panic!() };
    assert_even(long, short);
}

/// What a caller has had is not forgotten because it waits for each answer before it sends the next request.
#[test]
fn long_requests_one_at_a_time_are_paid_for() {
    let [long, short] = had(&[client("long", 1, 2.0), client("short", 10, 0.1)], 1_000)[..] else { panic!() };
    assert_even(long, short);
    let all = had(&[client("long", 1, 20.0), client("one", 1, 1.0), client("other", 1, 1.0)], 4_000);
    assert_even(all[0], all[1]);
    assert_even(all[0], all[2]);
}

#[test]
fn batch_requests_get_an_eighth_and_never_nothing() {
    let [chat, nightly] = had(&[client("chat", 20, 1.0), client("nightly", 20, 1.0).batch()], 800)[..] else {
        panic!()
    };
    let (times, expected) = (chat / nightly, f64::from(limits::BATCH_EVERY - 1));
    assert!((expected - 0.2..expected + 0.2).contains(&times), "{times}");
}

/// How far one kind is says nothing about where a newcomer of the other begins.
#[test]
fn a_batch_newcomer_is_not_behind_what_interactive_requests_had() {
    let clients = [client("flood", 10, 1.0), client("A", 10, 1.0).batch(), client("B", 10, 1.0).batch().from(2_000)];
    let traffic = Traffic::of(1, &clients, 8_000, None);
    let since = clients[2].from;
    assert_even(traffic.had(&clients, 1, since), traffic.had(&clients, 2, since));
}

#[test]
fn an_interactive_newcomer_is_not_behind_what_batch_requests_had() {
    let clients = [client("flood", 10, 1.0), client("nightly", 5, 20.0).batch(), client("new", 1, 1.0).from(3_000)];
    let traffic = Traffic::of(1, &clients, 6_000, Some(Duration::from_secs(30)));
    assert_eq!(traffic.in_vain[2], 0);
    let since = clients[2].from;
    assert_even(traffic.had(&clients, 0, since), traffic.had(&clients, 2, since));
}

#[test]
fn a_newcomer_gets_its_part_however_long_the_others_have_been_here() {
    let mut clients: Vec<_> = (0..12).map(|place| client(&place.to_string(), 3, 1.0)).collect();
    clients.extend([client("nightly", 5, 1.0).batch(), client("new", 1, 1.0).from(7_200)]);
    let traffic = Traffic::of(1, &clients, 9_000, None);
    let since = clients[13].from;
    assert_even(traffic.had(&clients, 0, since), traffic.had(&clients, 13, since));
}

/// Time that nobody else asked for costs nothing.
#[test]
fn who_kept_nobody_waiting_owes_nothing() {
    let mut world = World::new(rules(2, 100, 100_000));
    for _ in 0..20 {
        world.comes(of("busy")).expect("a slot");
        world.now += Duration::from_secs(1);
        world.finishes(0);
    }
    (0..2).for_each(|place| drop(world.comes(of(["alone", "busy"][place]))));
    world.now += Duration::from_mins(10);
    (0..9).for_each(|_| drop(world.comes(of("busy"))));
    world.now += Duration::from_secs(1);
    world.finishes(0);
    // Of its 601 s somebody waited for one.
    let again = world.comes(of("alone")).expect("a place");
    assert!(world.line.ahead_of(again).is_some_and(|ahead| ahead <= 2), "{:?}", world.line.ahead_of(again));
    let begins = |world: &mut World| {
        world.now += Duration::from_secs(1);
        world.finishes(0);
        world.running.iter().any(|(ticket, _)| *ticket == again)
    };
    assert!((0..3).any(|_| begins(&mut world)), "it waits behind all that came while it was alone");
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

/// A line of 64, requests of 1 s: interactive ones come ever faster than they can be answered, a batch one every 5 s.
#[test]
fn batch_requests_go_on_however_many_others_come() {
    for every_ms in [800, 500, 250, 50] {
        let mut world = World::unchecked(rules(1, 64, 1_000_000));
        let mut answered = [0, 0];
        for tick in 0..40_000_u64 {
            world.now += Duration::from_millis(50);
            if tick % 20 == 0 && !world.running.is_empty() {
                answered[world.running[0].1.priority as usize] += 1;
                world.finishes(0);
            }
            if (tick * 50) % every_ms == 0 {
                let _ = world.comes(of("flood"));
            }
            if tick % 100 == 0 {
                let _ = world.comes(batch("nightly"));
            }
        }
        assert!(answered[1] > 200, "{answered:?}: an eighth of 2,000");
        assert!(answered[0] > 1_700, "{answered:?}");
    }
}
