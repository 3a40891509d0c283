//! Misbehaviour that works in any stage.

use std::cell::RefCell;
use std::hint::black_box;

use crate::bindings::outrigger::plugin::types::Error;
use crate::bindings::outrigger::plugin::{clock, config, log, model};
use crate::script;

/// Where in the contract the guest is.
#[derive(Clone, Copy)]
pub(crate) enum Where {
    Init,
    Policy,
    Render,
    Control,
    Step,
    Parse,
    Open,
    Push,
    Finish,
    Audit,
}

impl Where {
    fn as_str(self) -> &'static str {
        match self {
            Self::Init => "init",
            Self::Policy => "policy",
            Self::Render => "render",
            Self::Control => "control",
            Self::Step => "step",
            Self::Parse => "parse",
            Self::Open => "open",
            Self::Push => "push",
            Self::Finish => "finish",
            Self::Audit => "audit",
        }
    }
}

/// A configured text, without its quotes, or number.
pub(crate) fn config(key: &str) -> Option<String> {
    Some(config::get(key)?.trim_matches('"').to_owned())
}

thread_local! {
    // Asked once: the bench measures this guest too, where it behaves.
    static TOLD: RefCell<String> = RefCell::new(config("behaviour").unwrap_or_default());
}

/// The behaviour that the configuration asks for, or the request in a header that was granted.
pub(crate) fn told() -> String {
    TOLD.with(|told| told.borrow().clone())
}

/// Whether exactly this is asked for.
pub(crate) fn is_told(behaviour: &str) -> bool {
    TOLD.with(|told| *told.borrow() == behaviour)
}

/// Misbehaves like this from now on, in this request.
pub(crate) fn tell(behaviour: &str) {
    TOLD.with(|told| behaviour.clone_into(&mut told.borrow_mut()));
}

/// Does what the configuration asks of this place: `panic-in-policy`.
pub(crate) fn act(place: Where) -> Result<(), Error> {
    let told = told();
    let Some(what) = told.strip_suffix(place.as_str()).and_then(|told| told.strip_suffix("-in-")) else {
        return Ok(());
    };
    match what {
        "loop" => spin(),
        "script" => drop(script::run()),
        "clock-loop" => loop {
            black_box(clock::now());
        },
        "memory" => grow_by_pages(),
        "memory-at-once" => drop(black_box(vec![1_u8; 1 << 30])),
        "recursion" => drop(black_box(recurse(u64::MAX))),
        "stack" => drop(black_box(recurse_in_registers(black_box(u64::MAX)))),
        "panic" => panic!("told to panic"),
        "host-calls" => loop {
            black_box(clock::unix_seconds());
        },
        "log-flood" => (0..5_000).for_each(|line| {
            log::log(log::Level::Info, &format!("line {line} of a flood of lines that nobody wants to read"), &[]);
        }),
        "huge-log" => log::log(log::Level::Info, &"x".repeat(6 << 20), &[]),
        "tokenize" => drop(black_box(model::tokenize("spin", false))),
        "count-tokens" => drop(black_box(model::count_tokens("spin"))),
        "huge-argument" => drop(black_box(model::tokenize(&"x".repeat(6 << 20), false))),
        "invalid" => return Err(Error::Invalid(format!("told to find {} invalid", place.as_str()))),
        "long-invalid" => return Err(Error::Invalid("é".repeat(4_000))),
        "unavailable" => return Err(Error::Unavailable("told to be unavailable".to_owned())),
        "internal" => return Err(Error::Internal("told to fail".to_owned())),
        _ => {}
    }
    Ok(())
}

#[expect(clippy::infinite_loop, reason = "that is the point")]
pub(crate) fn spin() {
    let mut count = 0_u64;
    loop {
        count = black_box(count.wrapping_add(1));
    }
}

/// Without touching what it takes, so that it meets the limit on memory long before the one on time.
fn grow_by_pages() {
    let mut hoard: Vec<Vec<u8>> = Vec::new();
    loop {
        hoard.push(black_box(Vec::with_capacity(1 << 16)));
    }
}

/// Deep, with locals in linear memory.
fn recurse(depth: u64) -> u64 {
    let locals = black_box([depth; 64]);
    if depth == 0 { locals[0] } else { recurse(depth - 1).wrapping_add(locals[63]) }
}

/// Deep, with nothing in linear memory: only the native stack can end it. A division cannot be regrouped, so the
/// compiler makes no loop of it.
#[inline(never)]
fn recurse_in_registers(depth: u64) -> u64 {
    if depth == 0 { 1 } else { recurse_in_registers(depth - 1) / (depth | 1) }
}
