//! Decoded tokens per second with and without guessed tokens: where an answer copies its prompt, and where it does not.
//!
//! One setting per process, for the reason given in `bench_decode.rs`; a shell runs them in turns:
//!
//! ```text
//! export GOMP_SPINCOUNT=1000
//! for round in 1 2 3; do for guesses in 0 16; do for text in copy prose; do
//!     cargo run --release --quiet -p llama --example bench_guesses -- MODEL.gguf $text $guesses
//! done; done; done
//! ```

use std::process::ExitCode;
use std::time::Instant;

use engine::Config;
use inference::{Engine as _, GenerationEvent, GenerationRequest, RequestId, Sampling, SpecialTokens};
use llama::{LoadOptions, Model};

const TOKENS: u32 = 160;
const TEXT: &str = "Order 48213 was placed on 14 March by Mrs. Adelheid Brunner of Graz. It contains three boxes of drawing \
                    paper in the format A3, two sets of watercolours with 24 pans each, and a folding easel of beech wood. \
                    The parcel left the warehouse in Linz on 15 March at 16:40 and was handed to the carrier with the \
                    number RX 7730 4418 2 AT. The customer asks that it be left with the neighbour, Mr. Okonkwo, if nobody \
                    is at home, and that the invoice be sent by post to her office at Herrengasse 9.";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [path, text, guesses] = arguments.as_slice() else {
        eprintln!("usage: bench_guesses MODEL.gguf copy|prose GUESSES");
        return ExitCode::FAILURE;
    };
    match run(path, text, guesses) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run(path: &str, text: &str, guesses: &str) -> Result<(), Box<dyn std::error::Error>> {
    let beginning = TEXT.split_at(40).0;
    let prompt = match text {
        "copy" => format!(
            "<|im_start|>user\nRepeat this text word for word:\n{TEXT}<|im_end|>\n<|im_start|>assistant\n{beginning}"
        ),
        "prose" => {
            "<|im_start|>user\nTell me a long story about a lighthouse.<|im_end|>\n<|im_start|>assistant\n".into()
        }
        other => return Err(format!("`{other}` is neither `copy` nor `prose`").into()),
    };
    let model = Model::load(&LoadOptions { context_length: Some(2048), ..LoadOptions::new(path, "bench") })?;
    let config = Config { guesses_max: guesses.parse()?, ..Config::default() };
    let (card, vocabulary) = (model.card().clone(), model.vocabulary());
    let prompt = vocabulary.tokenize(&prompt, SpecialTokens::Recognised);
    let engine = engine::start(card, vocabulary, config, move |shape| model.decoder(shape))?;
    let mut request = GenerationRequest::new(RequestId::new("bench"), prompt, TOKENS);
    request.sampling = Sampling { temperature: 0.0, ..Sampling::default() };
    request.ignore_end = true;
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    let mut rates = Vec::new();
    let mut answer = String::new();
    for _ in 0..5 {
        let mut generation = engine.submit(request.clone())?;
        answer.clear();
        rates.push(runtime.block_on(async {
            let mut first = None;
            loop {
                match generation.next().await {
                    GenerationEvent::Piece { text, completion_tokens, .. } => {
                        answer.push_str(&text);
                        first.get_or_insert((Instant::now(), completion_tokens));
                    }
                    GenerationEvent::Finished(completion) => {
                        let (start, told) = first.ok_or("the model wrote no text")?;
                        let sampled = completion.usage.completion_tokens - told;
                        break Ok::<_, Box<dyn std::error::Error>>(f64::from(sampled) / start.elapsed().as_secs_f64());
                    }
                    GenerationEvent::Failed(fault) => break Err(fault.into()),
                }
            }
        })?);
    }
    rates.sort_by(f64::total_cmp);
    let shown: String = answer.chars().take(60).collect();
    println!("{text} guesses {guesses}: {:.1} tokens/s, median of {}  {shown:?}", rates[rates.len() / 2], rates.len());
    Ok(())
}
