//! Tokens per second of the encoder alone, by the size of its batches: the best of several rounds taken in
//! turns.
//!
//! ```sh
//! GOMP_SPINCOUNT=1000 cargo run --release -p llama --example bench_encoding -- .cache/models/all-MiniLM-L6-v2.f16.gguf
//! ```

use std::time::{Duration, Instant};

use engine::{Encoder as _, EncoderShape};
use inference::Token;
use llama::{LoadOptions, Model};

const ROUNDS: usize = 3;
/// Tokens of all inputs of a measurement.
const TOKENS: usize = 2048;
const BATCHES: [usize; 6] = [64, 128, 256, 512, 1024, 2048];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = std::env::args().nth(1).ok_or("name a model that encodes")?;
    let model = Model::load(&LoadOptions::new(path, "bench"))?;
    let context_length = model.card().context_length;
    let mut encoders = Vec::new();
    for rows in BATCHES {
        let rows_max = rows.max(context_length as usize);
        encoders.push((rows, model.encoder(EncoderShape { context_length, rows_max, inputs_max: 256 })?));
    }
    println!("tokens/s by tokens of a batch; inputs of so many tokens:");
    for length in [8, 16, 64, 256].into_iter().filter(|&length| length <= context_length as usize) {
        let input: Vec<Token> = (0..length).map(|number| Token(1000 + u32::try_from(number).unwrap_or(0))).collect();
        let mut best = [Duration::MAX; BATCHES.len()];
        for _ in 0..ROUNDS {
            for (place, (rows, encoder)) in encoders.iter_mut().enumerate() {
                let batch = vec![input.as_slice(); (*rows / length).clamp(1, 256)];
                let batches = TOKENS.div_ceil(batch.len() * length);
                let started = Instant::now();
                for _ in 0..batches {
                    encoder.encode(&batch, &|| false)?;
                }
                let tokens = u32::try_from(batches * batch.len() * length)?;
                best[place] = best[place].min(started.elapsed() / tokens);
            }
        }
        let shown = BATCHES.iter().zip(best).map(|(rows, each)| format!("{rows}: {:.0}", 1.0 / each.as_secs_f64()));
        println!("{length:4} | {}", shown.collect::<Vec<_>>().join("  "));
    }
    Ok(())
}
