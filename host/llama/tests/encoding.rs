//! Models that encode, on real llama.cpp, beside what plain arithmetic makes of the same weights.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use engine::{EncodingConfig, EncodingHandle};
use inference::{
    Encoded, Encoding, EncodingEngine, EncodingRequest, EncodingTask, EngineFault, RequestId, SubmitError, Token,
};
use llama::{LoadError, LoadOptions, Model};
use tests::bert::{self, Bert, Pooling};
use tests::markov::Markov;

/// ggml's GELU looks 16-bit numbers up in a table.
const TOLERANCE: f64 = 5e-3;

/// A served model and the folder it lies in.
struct Served {
    engine: EncodingHandle,
    _folder: tempfile::TempDir,
}

fn file(bytes: &[u8]) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tiny.gguf");
    std::fs::write(&path, bytes).unwrap();
    (folder, path)
}

fn load_error(bytes: &[u8]) -> LoadError {
    let (_folder, path) = file(bytes);
    Model::load(&LoadOptions::new(path, "tiny")).map(|_| ()).unwrap_err()
}

fn serve(bytes: &[u8], config: EncodingConfig) -> Served {
    let (folder, path) = file(bytes);
    let model = Model::load(&LoadOptions::new(path, "tiny")).unwrap();
    let (card, facts, vocabulary) = (model.card().clone(), model.encoding().unwrap().clone(), model.vocabulary());
    let engine = engine::start_encoding(card, facts, vocabulary, config, move |shape| model.encoder(shape)).unwrap();
    Served { engine, _folder: folder }
}

impl Served {
    fn new(bytes: &[u8]) -> Self {
        serve(bytes, EncodingConfig::default())
    }

    fn submit(&self, inputs: Vec<Vec<Token>>) -> Encoding {
        self.engine.submit(EncodingRequest { id: RequestId::new("test"), inputs }).unwrap()
    }

    fn encode(&self, inputs: Vec<Vec<Token>>) -> Vec<Vec<f32>> {
        finish(self.submit(inputs)).unwrap().outputs
    }

    fn tokens(&self, text: &str) -> Vec<Token> {
        self.engine.facts().frame.text(text, None, &**self.engine.vocabulary())
    }

    fn wait_until_idle(&self) -> Duration {
        let start = Instant::now();
        while self.engine.running() + self.engine.queued() > 0 {
            assert!(start.elapsed() < Duration::from_secs(20), "the engine does not come to rest");
            std::thread::sleep(Duration::from_millis(1));
        }
        start.elapsed()
    }
}

fn finish(encoding: Encoding) -> Result<Encoded, EngineFault> {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(encoding.finish())
}

fn unit(vector: &[f32]) -> Vec<f64> {
    let length = vector.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>().sqrt();
    vector.iter().map(|&x| f64::from(x) / length).collect()
}

#[track_caller]
fn assert_near(found: &[f64], expected: &[f64], tolerance: f64) {
    assert_eq!(found.len(), expected.len());
    let off = found.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    assert!(off < tolerance, "{off} apart:\n{found:?}\n{expected:?}");
}

const TEXTS: [&str; 5] = ["hi there", "a", "zebra crossings are black and white", "", "the end"];

#[test]
fn vectors_are_those_of_plain_arithmetic_for_every_pooling() {
    for pooling in [Pooling::Mean, Pooling::Cls, Pooling::Last] {
        let bert = Bert::new(pooling);
        let served = Served::new(&bert.to_bytes());
        let dimensions = u32::try_from(bert::WIDTH).unwrap();
        assert_eq!(served.engine.facts().task, EncodingTask::Embedding { dimensions });
        let inputs: Vec<Vec<Token>> = TEXTS.iter().map(|text| served.tokens(text)).collect();
        for (text, output) in TEXTS.iter().zip(served.encode(inputs)) {
            assert_near(&unit(&output), &bert.vector(&Bert::tokens(&[text])), TOLERANCE);
        }
    }
}

#[test]
fn scores_are_those_of_plain_arithmetic() {
    let bert = Bert::new(Pooling::Rank);
    let served = Served::new(&bert.to_bytes());
    assert_eq!(served.engine.facts().task, EncodingTask::Ranking);
    let pair = |document: &str| {
        let (frame, vocabulary) = (&served.engine.facts().frame, served.engine.vocabulary());
        frame.query("who is it", &**vocabulary).with(document, None)
    };
    let outputs = served.encode(TEXTS.iter().map(|text| pair(text)).collect());
    let mut scores: Vec<f64> = Vec::new();
    for (text, output) in TEXTS.iter().zip(outputs) {
        assert_near(&[f64::from(output[0])], &[bert.score("who is it", text)], TOLERANCE);
        scores.push(bert.score("who is it", text));
    }
    scores.sort_by(f64::total_cmp);
    assert!(scores[4] - scores[0] > 0.1, "a test that cannot tell the documents apart: {scores:?}");
}

#[test]
fn a_model_that_could_complete_encodes_by_its_last_token_or_their_mean() {
    // 400 tokens are more than one call takes of a model that encodes in parts.
    let long = "abcdefgh".repeat(50);
    for pooling in [1, 3] {
        let served = Served::new(&Markov::default().pooling(pooling).to_bytes());
        let texts = ["cab", &long, "b", &long[1..], "xyzab"];
        let inputs: Vec<Vec<Token>> = texts.iter().map(|text| served.tokens(text)).collect();
        let together = served.encode(inputs.clone());
        for (input, output) in inputs.iter().zip(&together) {
            let alone = served.encode(vec![input.clone()]);
            assert_near(&unit(output), &unit(&alone[0]), 1e-3);
        }
        // Its vectors depend on the token alone: whatever ends in the same letter is the same.
        let same = |a: usize, b: usize| {
            let (a, b) = (unit(&together[a]), unit(&together[b]));
            a.iter().zip(&b).map(|(a, b)| a * b).sum::<f64>() > 0.999
        };
        assert_eq!(same(0, 2), pooling == 3, "`cab` and `b`");
        assert_eq!(same(0, 4), pooling == 3, "`cab` and `xyzab`");
        assert!(!same(0, 1), "`cab` and `…h`");
    }
}

#[test]
fn together_or_alone_is_the_same() {
    let served = serve(
        &Bert::new(Pooling::Mean).to_bytes(),
        EncodingConfig { rows_per_batch: NonZeroUsize::new(40).unwrap(), ..EncodingConfig::default() },
    );
    let texts: Vec<String> = (0..60).map(|number| "abcdefghij klmnopq"[..=number % 17].to_owned()).collect();
    let inputs: Vec<Vec<Token>> = texts.iter().map(|text| served.tokens(text)).collect();
    let together = served.encode(inputs.clone());
    for (input, output) in inputs.into_iter().zip(together) {
        assert_near(&unit(&output), &unit(&served.encode(vec![input])[0]), 1e-3);
    }
}

#[test]
fn what_a_client_wrote_stays_text() {
    let served = Served::new(&Bert::new(Pooling::Mean).to_bytes());
    let tokens = served.tokens("[SEP] a");
    let control = [bert::CLS, bert::SEP].map(Token);
    assert_eq!((tokens[0], tokens[tokens.len() - 1]), (control[0], control[1]));
    assert!(!tokens[1..tokens.len() - 1].iter().any(|token| control.contains(token)), "{tokens:?}");
}

#[test]
fn what_does_not_fit_is_refused_and_what_just_fits_is_not() {
    let served = Served::new(&Bert::new(Pooling::Mean).context_length(20).to_bytes());
    let submit = |inputs| served.engine.submit(EncodingRequest { id: RequestId::new("test"), inputs });
    let letter = Token(10);
    assert_eq!(served.encode(vec![vec![letter; 20]; 3]).len(), 3);
    let too_long = submit(vec![vec![letter], vec![letter; 21]]).map(|_| ()).unwrap_err();
    assert_eq!(too_long, SubmitError::InputTooLong { tokens: 21, context_length: 20 });
    assert_eq!(submit(vec![vec![letter], vec![]]).map(|_| ()), Err(SubmitError::PromptEmpty));
    assert_eq!(submit(vec![]).map(|_| ()), Err(SubmitError::PromptEmpty));
}

#[test]
fn a_client_that_leaves_takes_its_other_inputs_along() {
    let served = Served::new(&Bert::new(Pooling::Mean).context_length(512).to_bytes());
    let long: Vec<Vec<Token>> = (0..2048).map(|_| vec![Token(10); 512]).collect();
    let gone = served.submit(long.clone());
    while served.engine.running() == 0 {
        std::thread::yield_now();
    }
    drop(gone);
    let alone = Instant::now();
    served.encode(vec![vec![Token(9); 3]]);
    let waited = alone.elapsed();
    assert!(waited < Duration::from_secs(2), "the next client waited {waited:?}");
    served.wait_until_idle();
}

#[test]
fn leaving_reaches_into_an_input() {
    let served = Served::new(&Bert::new(Pooling::Mean).context_length(4096).to_bytes());
    // Unless configured, the context of a model that encodes is shorter than what it was trained for.
    let input = vec![Token(10); served.engine.card().context_length as usize];
    assert_eq!(input.len(), 2048);
    let start = Instant::now();
    served.encode(vec![input.clone()]);
    let whole = start.elapsed();
    // The best of some: a busy machine makes each look slow. llama.cpp asks between two operations, of which this model has few.
    let waited = (0..5).map(|_| {
        let gone = served.submit(vec![input.clone()]);
        std::thread::sleep(whole / 5);
        drop(gone);
        served.wait_until_idle()
    });
    let waited = waited.min().unwrap();
    println!("{waited:?} of {whole:?}");
    assert!(waited < whole / 2, "it was idle after {waited:?}; the whole input takes {whole:?}");
}

#[test]
fn a_request_with_many_inputs_holds_up_nobody() {
    let config = EncodingConfig { requests: NonZeroUsize::new(2).unwrap(), ..EncodingConfig::default() };
    let served = serve(&Bert::new(Pooling::Mean).context_length(128).to_bytes(), config);
    let many = served.submit(vec![vec![Token(10); 128]; 2048]);
    assert_eq!(served.encode(vec![vec![Token(9); 3]]).len(), 1);
    assert_eq!(served.engine.running(), 1, "the long request was done first");
    assert_eq!(finish(many).unwrap().outputs.len(), 2048);
}

#[test]
fn an_engine_that_ends_says_so() {
    let served = Served::new(&Bert::new(Pooling::Mean).context_length(512).to_bytes());
    let encoding = served.submit(vec![vec![Token(10); 512]; 2048]);
    drop(served);
    assert_eq!(finish(encoding).unwrap_err(), EngineFault::Stopped);
}

#[test]
fn a_file_that_would_end_the_process_is_refused() {
    let error = load_error(&Markov::default().pooling(9).to_bytes()).to_string();
    assert!(error.contains("`llama.pooling_type` is 9, and 0 to 4 are known"), "{error}");
    let error = load_error(&Markov::default().pooling(4).to_bytes()).to_string();
    assert!(error.contains("it is said to rank texts, and has no classifier"), "{error}");
    // The type of the last tensor, from 32 bits to 16: behind its name, the number of its dimensions, and the only one.
    let mut bytes = Bert::new(Pooling::Rank).to_bytes();
    let name = b"cls.output.bias";
    let at = bytes.windows(name.len()).position(|window| window == name).unwrap() + name.len() + 4 + 8;
    bytes[at] = 1;
    let error = load_error(&bytes).to_string();
    assert!(error.contains("`cls.output.bias` does not hold numbers of 32 bits"), "{error}");
    let error = load_error(&Bert::new(Pooling::None).to_bytes()).to_string();
    assert!(error.contains("its file does not say how (`pooling_type`)"), "{error}");
}
