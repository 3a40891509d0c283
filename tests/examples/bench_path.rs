//! What the whole path costs: decoded tokens per second of a streamed chat through the server and both bundled plugins,
//! against the bare decode loop of `bench_decode`, in turns on one model. Also: time to ready with a warm cache, and
//! memory over the model's size. Run by `examples/bench.sh`.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tests::host::{Host, demo_model};

const TOKENS: u32 = 192;
const ROUNDS: usize = 15;

fn main() {
    let bench_decode = std::env::args().nth(1).expect("usage: bench_path PATH_OF_BENCH_DECODE");
    let model = demo_model();
    // The first start compiles the plugins and reads the model from disk; the others are what a restart costs.
    drop(Host::serve(&model, &["--plugin=redact"]));
    let ready: Vec<f64> = (0..ROUNDS).map(|_| seconds_to_ready(&model)).collect();

    let host = Host::serve(&model, &["--plugin=redact"]);
    let resident_idle = resident_bytes(host.pid());
    let mut rates = Vec::new();
    for round in 0..ROUNDS {
        let loop_rate = decode_rate(&bench_decode, "bare", &model);
        let engine_rate = decode_rate(&bench_decode, "engine", &model);
        let path_rate = streamed_rate(&host);
        println!(
            "round {round}: bare loop {loop_rate:6.1}  engine {engine_rate:6.1}  whole path {path_rate:6.1} tokens/s"
        );
        rates.push((loop_rate, engine_rate, path_rate));
    }
    let resident_after = resident_bytes(host.pid());
    let model_bytes = std::fs::metadata(&model).expect("the model").len();

    let of = |pick: fn(&(f64, f64, f64)) -> f64| median(rates.iter().map(pick).collect());
    println!("decode, median of {ROUNDS} rounds of {TOKENS} tokens:");
    println!("  bare loop  {:6.1} tokens/s", of(|rate| rate.0));
    println!("  engine     {:6.1} tokens/s, {:.3} of the bare loop", of(|rate| rate.1), of(|rate| rate.1 / rate.0));
    println!("  whole path {:6.1} tokens/s, {:.3} of the bare loop", of(|rate| rate.2), of(|rate| rate.2 / rate.0));
    println!("start to ready, warm cache: {:.0} ms (median of {ROUNDS})", median(ready) * 1e3);
    let megabytes = |bytes: u64| bytes as f64 / 1e6;
    println!(
        "resident: {:.0} MB idle, {:.0} MB after {ROUNDS} answers; the model's file is {:.0} MB ({:.2} times)",
        megabytes(resident_idle),
        megabytes(resident_after),
        megabytes(model_bytes),
        resident_after as f64 / model_bytes as f64
    );
}

fn seconds_to_ready(model: &Path) -> f64 {
    let started = Instant::now();
    let host = Host::serve(model, &["--plugin=redact"]);
    let elapsed = started.elapsed();
    drop(host);
    elapsed.as_secs_f64()
}

/// Tokens per second of the bare loop or of the engine, as `bench_decode` prints them.
fn decode_rate(bench_decode: &str, what: &str, model: &Path) -> f64 {
    let output = Command::new(bench_decode)
        .arg(what)
        .arg(model)
        .args([TOKENS.to_string(), "1".to_owned()])
        .output()
        .expect("bench_decode runs");
    let printed = String::from_utf8_lossy(&output.stdout);
    let rate = printed.split_whitespace().next().and_then(|word| word.parse().ok());
    rate.unwrap_or_else(|| panic!("no rate in: {printed}{}", String::from_utf8_lossy(&output.stderr)))
}

/// Tokens per second between the first and the last piece of a streamed answer.
fn streamed_rate(host: &Host) -> f64 {
    let body = json!({
        "model": "SmolLM2-135M-Instruct.Q4_1",
        "messages": [{"role": "user", "content": "Tell a very long story about the history of computing."}],
        "max_tokens": TOKENS,
        "seed": 1,
        "stream_options": {"include_usage": true},
    });
    let mut stream = host.stream(&body);
    assert_eq!(stream.status, 200);
    let mut first = None;
    let mut last = Duration::ZERO;
    let mut tokens = 0;
    while let Some(data) = stream.next_data() {
        let Ok(event) = serde_json::from_str::<Value>(&data) else { continue };
        if event["choices"][0]["delta"]["content"].as_str().is_some_and(|text| !text.is_empty()) {
            last = first.get_or_insert_with(Instant::now).elapsed();
        }
        tokens = event["usage"]["completion_tokens"].as_u64().unwrap_or(tokens);
    }
    assert_eq!(tokens, u64::from(TOKENS), "the answer ended early");
    (tokens - 1) as f64 / last.as_secs_f64()
}

fn resident_bytes(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("the process");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("VmRSS");
    line.split_whitespace().next().and_then(|kib| kib.parse::<u64>().ok()).expect("a number") * 1024
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
