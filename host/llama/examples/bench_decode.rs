//! Decoded tokens per second of a bare loop over the decoder, or of one request through the engine.
//!
//! One of the two per process: each has its own team of OpenMP threads, and where a process has more of them than
//! processors, libgomp gives up spinning almost at once and both get slower by a third. `tests/examples/bench_path.rs`
//! runs them in turns.
//!
//! ```text
//! GOMP_SPINCOUNT=1000 cargo run --release -p llama --example bench_decode -- bare|engine MODEL.gguf [TOKENS [ROUNDS]]
//! ```

use std::process::ExitCode;
use std::time::Instant;

use engine::{Choice, Config, Decoder, DecoderShape, EngineHandle, Logits, Row, Slot};
use inference::{Engine, GenerationEvent, GenerationRequest, RequestId, Sampling, SpecialTokens, Token};
use llama::{LlamaDecoder, LoadOptions, Model};

const PROMPT: &str =
    "The history of computing began long before the computer, with people who counted on their fingers,";
const CONTEXT_LENGTH: u32 = 2048;

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let (Some(what), Some(path)) = (arguments.next(), arguments.next()) else {
        eprintln!("usage: bench_decode bare|engine MODEL.gguf [TOKENS [ROUNDS]]");
        return ExitCode::FAILURE;
    };
    let tokens = arguments.next().and_then(|text| text.parse().ok()).unwrap_or(128).max(2);
    let rounds = arguments.next().and_then(|text| text.parse().ok()).unwrap_or(7).max(1);
    match run(&what, path, tokens, rounds) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run(what: &str, path: String, tokens: u32, rounds: usize) -> Result<(), Box<dyn std::error::Error>> {
    if std::env::var_os("GOMP_SPINCOUNT").is_none() {
        eprintln!("note: without GOMP_SPINCOUNT=1000 a busy neighbour decides these figures");
    }
    let model = Model::load(&LoadOptions { context_length: Some(CONTEXT_LENGTH), ..LoadOptions::new(path, "bench") })?;
    let prompt = model.vocabulary().tokenize(PROMPT, SpecialTokens::Literal);
    let mut rates = Vec::new();
    match what {
        "bare" => {
            let shape = DecoderShape { slots: 1, context_length: CONTEXT_LENGTH, rows_max: 257, samples_max: 1 };
            let mut decoder = model.decoder(shape)?;
            for _ in 0..rounds {
                rates.push(bare_loop(&mut decoder, &prompt, tokens)?);
            }
        }
        "engine" => {
            let (card, vocabulary) = (model.card().clone(), model.vocabulary());
            let engine = engine::start(card, vocabulary, Config::default(), move |shape| model.decoder(shape))?;
            for _ in 0..rounds {
                rates.push(through_engine(&engine, &prompt, tokens)?);
            }
        }
        other => return Err(format!("`{other}` is neither `bare` nor `engine`").into()),
    }
    println!("{:.1} tokens/s, median of {rounds} rounds of {tokens} tokens", median(rates));
    Ok(())
}

/// llama.cpp's defaults, and the same choice in every round.
fn sampling() -> Sampling {
    Sampling { seed: Some(1), ..Sampling::default() }
}

/// Tokens per second after the first one.
fn bare_loop(decoder: &mut LlamaDecoder, prompt: &[Token], tokens: u32) -> Result<f64, Box<dyn std::error::Error>> {
    let slot = Slot(0);
    decoder.begin(slot, 0, &sampling());
    let rows: Vec<Row> = (0..)
        .zip(prompt)
        .map(|(position, &token)| Row { slot, token, position, wants_logits: position as usize + 1 == prompt.len() })
        .collect();
    decoder.decode(&rows, &|| false)?;
    let mut token = decoder.sample(slot, Logits::Row(rows.len() - 1), &Choice::default())?.token;
    let start = Instant::now();
    for position in (u32::try_from(prompt.len())?..).take(tokens as usize - 1) {
        decoder.decode(&[Row { slot, token, position, wants_logits: true }], &|| false)?;
        token = decoder.sample(slot, Logits::Row(0), &Choice::default())?.token;
    }
    let seconds = start.elapsed().as_secs_f64();
    decoder.end(slot);
    Ok(f64::from(tokens - 1) / seconds)
}

/// The same, as the reader of the events sees it.
fn through_engine(engine: &EngineHandle, prompt: &[Token], tokens: u32) -> Result<f64, Box<dyn std::error::Error>> {
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    let mut generation = engine.submit(GenerationRequest {
        id: RequestId::new("bench"),
        prompt: prompt.to_vec(),
        sampling: sampling(),
        max_tokens: tokens,
        stop: vec!["a text that the model will not write".to_owned()],
        stop_tokens: Vec::new(),
        marks: Vec::new(),
        grammar: None,
        control: None,
        logprobs: None,
        ignore_end: true,
    })?;
    runtime.block_on(async {
        let mut first = None;
        loop {
            match generation.next().await {
                GenerationEvent::Piece { completion_tokens, .. } => {
                    first.get_or_insert((Instant::now(), completion_tokens));
                }
                GenerationEvent::Finished(completion) => {
                    let (start, told) = first.ok_or("the model wrote no text")?;
                    let sampled = completion.usage.completion_tokens - told;
                    break Ok(f64::from(sampled) / start.elapsed().as_secs_f64());
                }
                GenerationEvent::Failed(fault) => break Err(fault.into()),
            }
        }
    })
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
