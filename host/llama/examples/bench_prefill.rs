//! Tokens of a prompt per second with the CPU variant that was picked when the process started, and, where
//! `LLAMA_BATCHED_BENCH` names llama.cpp's own bench, in turns with that: `tests/load/setup.sh` builds it for the machine's
//! very processor.
//!
//! ```text
//! export GOMP_SPINCOUNT=1000 LLAMA_BATCHED_BENCH=.cache/llama-server/build/bin/llama-batched-bench
//! cargo run --release -p llama --example bench_prefill -- MODEL.gguf [ROUNDS [BACKENDS_DIR]]
//! ```

use std::error::Error;
use std::path::PathBuf;
use std::process::{Command, ExitCode};
use std::time::Instant;

use engine::{Choice, Decoder, DecoderShape, Logits, Row, Slot};
use inference::{Sampling, Token};
use llama::{BackendOptions, DeviceChoice, LlamaDecoder, LoadOptions, Model};

const TOKENS: u32 = 512;
/// What the engine gives a prompt in a step.
const CHUNK: usize = 256;

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let Some(path) = arguments.next() else {
        eprintln!("usage: bench_prefill MODEL.gguf [ROUNDS [BACKENDS_DIR]]");
        return ExitCode::FAILURE;
    };
    let rounds = arguments.next().and_then(|text| text.parse().ok()).unwrap_or(7).max(1);
    match run(&path, rounds, arguments.next().map(PathBuf::from)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run(path: &str, rounds: usize, directory: Option<PathBuf>) -> Result<(), Box<dyn Error>> {
    let backends = BackendOptions { directory, device: DeviceChoice::Auto };
    let variant = &llama::backends(&backends)?.cpu_variant;
    let options =
        LoadOptions { context_length: Some(TOKENS), backends: backends.clone(), ..LoadOptions::new(path, "bench") };
    let model = Model::load(&options)?;
    let mut decoder =
        model.decoder(DecoderShape { slots: 1, context_length: TOKENS, rows_max: CHUNK, samples_max: 1 })?;
    // The values do not matter to the time, only that they are tokens.
    let prompt: Vec<Token> = (0..TOKENS).map(|at| Token(100 + at * 7 % 1000)).collect();
    let peer = std::env::var_os("LLAMA_BATCHED_BENCH").map(PathBuf::from);
    let (mut ours, mut theirs, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..rounds {
        ours.push(prefill(&mut decoder, &prompt)?);
        if let Some(peer) = &peer {
            theirs.push(native(peer, path, model.threads())?);
            ratios.push(ours[ours.len() - 1] / theirs[theirs.len() - 1]);
        }
    }
    println!("{variant}: {:.1} tokens/s, median of {rounds} rounds of {TOKENS} tokens", median(ours));
    if !theirs.is_empty() {
        println!("native: {:.1} tokens/s; ratio {:.3}, median of the rounds' ratios", median(theirs), median(ratios));
    }
    Ok(())
}

fn prefill(decoder: &mut LlamaDecoder, prompt: &[Token]) -> Result<f64, Box<dyn Error>> {
    let slot = Slot(0);
    decoder.begin(slot, 0, &Sampling::default());
    let rows: Vec<Row> = (0..)
        .zip(prompt)
        .map(|(position, &token)| Row { slot, token, position, wants_logits: position as usize + 1 == prompt.len() })
        .collect();
    let start = Instant::now();
    let mut rows_in_last = 0;
    for rows in rows.chunks(CHUNK) {
        decoder.decode(rows, &|| false)?;
        rows_in_last = rows.len();
    }
    decoder.sample(slot, Logits::Row(rows_in_last - 1), &Choice::default())?;
    let seconds = start.elapsed().as_secs_f64();
    decoder.end(slot);
    Ok(f64::from(TOKENS) / seconds)
}

/// llama.cpp's own figure for the same prompt in the same pieces.
fn native(bench: &PathBuf, model: &str, threads: u32) -> Result<f64, Box<dyn Error>> {
    let (chunk, tokens, threads) = (CHUNK.to_string(), TOKENS.to_string(), threads.to_string());
    let output = Command::new(bench)
        .args(["-m", model, "-c", "1024", "-b", &chunk, "-ub", &chunk, "-npp", &tokens, "-ntg", "1", "-npl", "1"])
        .args(["-t", &threads, "-tb", &threads, "--output-format", "jsonl"])
        .output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let speed =
        text.lines().find_map(|line| line.split("\"speed_pp\":").nth(1)?.split([',', '}']).next()?.trim().parse().ok());
    speed.ok_or_else(|| format!("llama-batched-bench printed no figure: {text}").into())
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
