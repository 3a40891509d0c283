//! What a plugin costs: its instances, a whole request, a push, memory; beside the gates of a small Rust plugin.

use std::hint::black_box;
use std::time::{Duration, Instant};

use inference::{Call, ChatRequest, Finish, RequestId, Token, Usage};
use plugin::probe::{self, Probe};
use serde::Serialize;

use crate::limits::gates;
use crate::stand::{Loaded, Stand};
use crate::writer::Writer;

/// Pieces of one answer, as a model of 64 tokens gives them.
const PUSHES: usize = 64;

/// A figure, in its unit.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Figure {
    /// What was measured.
    pub what: &'static str,
    /// Half of them took no more.
    pub median: f64,
    /// All but one of a hundred took no more.
    pub p99: f64,
    /// `µs` or `bytes`.
    pub unit: &'static str,
    /// What the median of a small Rust plugin is held to.
    pub gate: Option<f64>,
}

impl Figure {
    /// What is left when something else's share is taken off.
    fn without(mut self, share: f64) -> Self {
        self.median = (self.median - share).max(0.0);
        self.p99 = (self.p99 - share).max(0.0);
        self
    }
}

/// What was measured of a plugin.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Costs {
    /// The figures.
    pub figures: Vec<Figure>,
    /// Whether they are of a host that was compiled without optimisation, and so too high.
    pub is_unoptimised: bool,
}

/// Measures for about `budget`. Where the default plugin renders the prompts, what it costs by itself is taken off.
pub fn measure(stand: &Stand, loaded: &Loaded, request: &ChatRequest, budget: Duration) -> Result<Costs, String> {
    let default = stand.load_default(loaded).map_err(|error| error.to_string())?;
    let is_controller = loaded.plugins().controller().is_some();
    let share = budget / (3 + 2 * u32::from(default.is_some()) + u32::from(is_controller));
    let instances = times(share, || loaded.instantiate().map(drop).ok_or("it cannot be made anew"))?;
    let requests = |of: &Loaded| times(share, || whole(of, request).map(drop));
    let pushes = |of: &Loaded| {
        let mut pushes = Vec::new();
        let until = Instant::now() + share;
        while Instant::now() < until || pushes.is_empty() {
            pushes.extend(push_times(of, request)?);
        }
        Ok::<_, String>(pushes)
    };
    let median = |times: Vec<Duration>| figure("", &times, None).median;
    let request_without = default.as_ref().map(requests).transpose()?.map_or(0.0, median);
    let push_without = default.as_ref().map(pushes).transpose()?.map_or(0.0, median);
    let (requests, pushes) = (requests(loaded)?, pushes(loaded)?);
    let memory = whole(loaded, request)?;
    let mut figures = vec![
        figure("instantiate, init and drop", &instances, Some(gates::INSTANTIATE_US)),
        figure("a whole request of 64 pushes", &requests, Some(gates::REQUEST_US)).without(request_without),
        figure("a push", &pushes, Some(gates::PUSH_US)).without(push_without),
    ];
    if is_controller {
        let Control { openings, steps } = control(share, loaded, request)?;
        figures.push(figure("open a controller", &openings, None));
        figures.push(figure("a step of a controller", &steps, None));
    }
    figures.push(Figure {
        what: "linear memory of an instance",
        median: memory,
        p99: memory,
        unit: "bytes",
        gate: None,
    });
    Ok(Costs { figures, is_unoptimised: cfg!(debug_assertions) })
}

/// What a say in every token costs.
#[derive(Default)]
struct Control {
    openings: Vec<Duration>,
    steps: Vec<Duration>,
}

/// One answer after the other under control; what is beside the steps is not in them.
fn control(budget: Duration, loaded: &Loaded, request: &ChatRequest) -> Result<Control, String> {
    let answer: String = (0..PUSHES).map(piece).collect();
    let vocabulary = loaded.model().vocabulary();
    let mut control = Control::default();
    let until = Instant::now() + budget;
    while Instant::now() < until || control.steps.is_empty() {
        let mut probe = begin(loaded, request)?;
        let prepared = probe.prepare(request.clone()).map_err(|error| error.to_string())?;
        let prompt = prepared.prompt.tokenize(vocabulary);
        let begun = Instant::now();
        probe.control(&prompt).map_err(|error| error.to_string())?;
        control.openings.push(begun.elapsed());
        let mut writer = Writer::new(vocabulary, &answer, None);
        while writer.finish.is_none() {
            let timed = |appended: &[Token]| {
                let begun = Instant::now();
                let steer = probe.step(appended);
                control.steps.push(begun.elapsed());
                steer
            };
            writer.go_on(timed).map_err(|error| error.to_string())?;
        }
        drop(probe.end(Finish::Cancelled, Usage::default()));
    }
    Ok(control)
}

/// How long `call` takes, one by one.
fn times<E: ToString>(budget: Duration, mut call: impl FnMut() -> Result<(), E>) -> Result<Vec<Duration>, String> {
    let started = Instant::now();
    let mut times = Vec::new();
    while started.elapsed() < budget || times.is_empty() {
        let begun = Instant::now();
        call().map_err(|error| error.to_string())?;
        // The first fifth warms up.
        if started.elapsed() > budget / 5 {
            times.push(begun.elapsed());
        }
    }
    Ok(times)
}

/// One request; the memory that the plugin had in it.
fn whole(loaded: &Loaded, request: &ChatRequest) -> Result<f64, String> {
    let mut probe = begin(loaded, request)?;
    let prepared = probe.prepare(request.clone()).map_err(|error| error.to_string())?;
    if loaded.plugins().controller().is_some() {
        let prompt = prepared.prompt.tokenize(loaded.model().vocabulary());
        probe.control(&prompt).map_err(|error| error.to_string())?;
    }
    let mut stop = None;
    for number in 1..=PUSHES {
        let output = probe.push(piece(number), number == PUSHES).map_err(|error| error.to_string())?;
        stop = output.stop;
        if stop.is_some() {
            break;
        }
    }
    let finish = stop.unwrap_or(Finish::Stop);
    probe.finish(finish, Usage::default()).map_err(|error| error.to_string())?;
    let used = probe.end(finish, Usage::default());
    let of_it = used.iter().find(|used| used.plugin == loaded.name());
    of_it.map(|used| used.memory_bytes as f64).ok_or_else(|| "it broke its contract".to_owned())
}

/// Single pushes of one request.
fn push_times(loaded: &Loaded, request: &ChatRequest) -> Result<Vec<Duration>, String> {
    let mut probe = begin(loaded, request)?;
    probe.prepare(request.clone()).map_err(|error| error.to_string())?;
    let mut times = Vec::with_capacity(PUSHES);
    for number in 0..PUSHES {
        let begun = Instant::now();
        let output = black_box(probe.push(piece(number), false)).map_err(|error| error.to_string())?;
        times.push(begun.elapsed());
        if output.stop.is_some() {
            break;
        }
    }
    drop(probe.end(Finish::Cancelled, Usage::default()));
    // The first of them begins the answer.
    Ok(times.split_off(1.min(times.len() - 1)))
}

fn begin(loaded: &Loaded, request: &ChatRequest) -> Result<Probe, String> {
    // What it counts of requests is not to find that there were too many.
    probe::clear_stores(loaded.plugins());
    let call = Call {
        request_id: RequestId::new("bench"),
        traceparent: None,
        model: request.model.clone(),
        headers: Vec::new(),
        choice: 0,
    };
    Probe::begin(loaded.plugins(), call).ok_or_else(|| "there is no room for its instance".to_owned())
}

fn piece(number: usize) -> String {
    ["The", " answer", " is", " long", " and", " plain", ",", " word"][number % 8].to_owned()
}

fn figure(what: &'static str, times: &[Duration], gate: Option<f64>) -> Figure {
    let mut times: Vec<f64> = times.iter().map(|time| time.as_secs_f64() * 1e6).collect();
    times.sort_unstable_by(f64::total_cmp);
    let at = |numerator: usize, denominator: usize| times.get((times.len() - 1) * numerator / denominator).copied();
    Figure { what, median: at(1, 2).unwrap_or_default(), p99: at(99, 100).unwrap_or_default(), unit: "µs", gate }
}
