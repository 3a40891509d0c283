//! What the sandbox costs, beside what `host/ARCHITECTURE.md` promises of it: `cargo bench -p plugin`. With folders of plugins, what
//! each of them costs: `cargo bench -p plugin -- FOLDER…`.
//!
//! Times are wall-clock medians of many runs, with the 99th percentile beside them; on a busy machine the median holds
//! and the percentile shows the neighbours. How many instructions they take says `instructions`, the other bench.

mod fixture;
mod folder;
mod memory;
mod streams;
mod table;

use std::hint::black_box;
use std::time::{Duration, Instant};

use inference::{ChatRequest, Stage, Token};
use plugin::{LoadedPlugin, PluginSpec, Plugins, Sandbox, SandboxConfig};

use crate::fixture::{PUSHES, VOCABULARY, chat, load, piece, plain, probe, together, whole};
use crate::table::{Gate, Table};

/// Calls of the host in one request.
const ADDS: usize = 1_000;
/// Steps of one answer.
const STEPS: usize = 64;

fn main() {
    // Cargo adds `--bench`.
    let folders: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    if !folders.is_empty() {
        return folders.iter().for_each(|folder| folder::measure(folder));
    }
    let (table, sandbox) = (Table::default(), Sandbox::new(SandboxConfig::default()).expect("a sandbox"));
    Table::head("");
    // First: what others leave mapped in the pool would not be counted.
    memory::per_instance(&table);
    requests(&table, &sandbox);
    pushes(&table, &sandbox);
    steps(&table, &sandbox);
    stores(&table, &sandbox);
    let plugins = both(&sandbox);
    streams::hops(&table, plugins);
    table.foot();
}

/// Instances, and whole requests.
fn requests(table: &Table, sandbox: &Sandbox) {
    let request = chat(10, 1_024);
    let policy = together(sandbox, vec![load(sandbox, plain("plain", &[Stage::Policy, Stage::Prompt]))]);
    let small = load(sandbox, plain("small", &[Stage::Policy]));
    let start = |plugin: &LoadedPlugin| measure(2_000, || assert!(plugin::probe::instantiate(plugin).is_some()));
    table.gate("instantiate, init and drop a small plugin", 1, &start(&small), Gate::Median(25.0));
    for (name, component) in [("redact", bundled::REDACT), ("chat-template", bundled::CHAT_TEMPLATE)] {
        let plugin = load(sandbox, PluginSpec::new(name, "bundled", component));
        table.show(&format!("the same of `{name}`"), 1, &start(&plugin));
    }
    let prepare = prepares(1_000, &policy, &request);
    let what = "a policy and a plain prompt over 10 messages of 1 KiB, fresh instance";
    table.gate(what, 1, &prepare, Gate::Median(100.0));

    let stages = [Stage::Policy, Stage::Prompt, Stage::Postprocess];
    let (bare, both) = (together(sandbox, vec![load(sandbox, plain("plain", &stages))]), both(sandbox));
    let short = chat(2, 40);
    let whole = |plugins| measure(500, || whole(plugins, &short));
    table.gate("a whole request through policy, prompt and filter, 64 pushes", 1, &whole(&bare), Gate::Median(200.0));
    table.show("the same through `chat-template` and `redact`", 1, &whole(&both));
    let what = "prepare with `chat-template`, two short messages, fresh instance";
    table.show(what, 1, &prepares(1_000, &both, &short));
}

fn pushes(table: &Table, sandbox: &Sandbox) {
    let prompt = || load(sandbox, plain("plain", &[Stage::Prompt]));
    let bare = together(sandbox, vec![prompt(), load(sandbox, plain("filter", &[Stage::Postprocess]))]);
    let what = "push through one filter that does nothing";
    table.gate(what, PUSHES, &pushed(&bare), Gate::Median(1.0));
    let redact = load(sandbox, PluginSpec::new("redact", "bundled", bundled::REDACT));
    let redacted = together(sandbox, vec![prompt(), redact]);
    table.gate("push through `redact`", PUSHES, &pushed(&redacted), Gate::Median(1.0));
    table.show("push through `chat-template` and `redact`", PUSHES, &pushed(&both(sandbox)));
}

/// What a controller's word on the next token costs. A tenth of a percent of a token of 10 ms is what it may.
fn steps(table: &Table, sandbox: &Sandbox) {
    let allowed: Vec<String> = (0..64).map(|token| (token * 31).to_string()).collect();
    let words = [
        ("free".to_owned(), "`free`", Gate::Median(1.0)),
        (format!("allow {}", allowed.join(" ")), "64 tokens by number", Gate::Median(10.0)),
        ("mask 1 2 3".to_owned(), "a mask of the vocabulary", Gate::Median(10.0)),
    ];
    for (steps, what, gate) in words {
        let spec = plain("steps", &[Stage::Prompt, Stage::TokenControl]);
        let config_json = serde_json::json!({ "steps": steps }).to_string();
        let plugins = together(sandbox, vec![load(sandbox, PluginSpec { config_json, ..spec })]);
        let timed = |_| {
            let mut run = probe(&plugins);
            run.prepare(chat(1, 16)).expect("it renders");
            run.control(&[Token(1)]).expect("it opens");
            run.step(&[]).expect("it behaves");
            let started = Instant::now();
            for _ in 0..STEPS {
                black_box(run.step(&[Token(1)]).expect("it behaves"));
            }
            started.elapsed()
        };
        let figures: Vec<Duration> = (0..300).map(timed).skip(30).collect();
        table.gate(&format!("step of a controller of {VOCABULARY} tokens: {what}"), STEPS, &figures, gate);
    }
}

/// What plugins keep and count.
fn stores(table: &Table, sandbox: &Sandbox) {
    let spec = plain("adding", &[Stage::Policy, Stage::Prompt]);
    let config_json = format!(r#"{{"script": "add-many store n {ADDS}"}}"#);
    let adding = together(sandbox, vec![load(sandbox, PluginSpec { config_json, ..spec })]);
    let add = || prepares(200, &adding, &chat(2, 40));
    table.show("`kv.add` from a guest", ADDS, &add());
    let both_threads = std::thread::scope(|scope| {
        [(); 2].map(|()| scope.spawn(add)).map(|thread| thread.join().expect("it accepts")).concat()
    });
    table.show("the same, from two threads into one number", ADDS, &both_threads);
}

/// What renders the prompts of most models, and a filter.
fn both(sandbox: &Sandbox) -> Plugins {
    let template = PluginSpec::new("chat-template", "bundled", bundled::CHAT_TEMPLATE);
    let redact = PluginSpec::new("redact", "bundled", bundled::REDACT);
    together(sandbox, [template, redact].map(|spec| load(sandbox, spec)).into())
}

/// Times of one call each.
fn measure(runs: usize, mut call: impl FnMut()) -> Vec<Duration> {
    for _ in 0..runs / 10 {
        call();
    }
    let timed = |_| {
        let started = Instant::now();
        call();
        started.elapsed()
    };
    (0..runs).map(timed).collect()
}

/// Times of the stages before the model.
fn prepares(runs: usize, plugins: &Plugins, request: &ChatRequest) -> Vec<Duration> {
    measure(runs, || drop(black_box(probe(plugins).prepare(request.clone()).expect("it accepts"))))
}

/// Times of [`PUSHES`] pushes each; instances and opening are not in them.
fn pushed(plugins: &Plugins) -> Vec<Duration> {
    let timed = |_| {
        let mut run = probe(plugins);
        run.prepare(chat(1, 16)).expect("it renders");
        run.push(piece(0), false).expect("it behaves");
        let started = Instant::now();
        for number in 1..=PUSHES {
            black_box(run.push(piece(number), false).expect("it behaves"));
        }
        started.elapsed()
    };
    (0..300).map(timed).skip(30).collect()
}
