//! What a request says of sampling, through the engine and on real llama.cpp.
#![expect(unsafe_code, reason = "llama.cpp's own logits are what ours are held against")]

use std::ffi::CString;
use std::path::PathBuf;

use engine::{Config, EngineHandle};
use inference::{
    CompiledGrammar, Constraint, Dry, Engine, EngineFault, Finish, GenerationEvent, GenerationRequest, Grammar,
    RequestId, Sampling, SpecialTokens, Token, TokenLogprobs, TokenMask,
};
use llama::{LoadOptions, Model};
use llama_cpp_sys_2 as sys;
use tests::markov::{self, Markov};

const PROMPT: &str = "The capital of France is Paris, and the capital of Italy is";
const CONTEXT_LENGTH: u32 = 512;

struct Served {
    engine: EngineHandle,
    _folder: Option<tempfile::TempDir>,
}

/// What an answer came to.
#[derive(Debug, PartialEq)]
struct Said {
    text: String,
    logprobs: Vec<TokenLogprobs>,
    /// How it ended, and the tokens it took.
    end: Result<(Finish, u32), EngineFault>,
}

fn load(path: PathBuf, folder: Option<tempfile::TempDir>) -> Served {
    let options = LoadOptions { context_length: Some(CONTEXT_LENGTH), threads: Some(1), ..LoadOptions::new(path, "m") };
    let model = Model::load(&options).unwrap();
    let (card, vocabulary) = (model.card().clone(), model.vocabulary());
    let config = Config { prefix_cache_bytes: 0, ..Config::default() };
    let engine = engine::start(card, vocabulary, config, move |shape| model.decoder(shape)).unwrap();
    Served { engine, _folder: folder }
}

fn tiny(markov: &Markov) -> Served {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tiny.gguf");
    markov.write(&path).unwrap();
    load(path, Some(folder))
}

/// A model whose every token depends on all before it, and whose odds are close.
fn real() -> Served {
    load(tests::host::demo_model(), None)
}

impl Served {
    fn tokens(&self, text: &str) -> Vec<Token> {
        let vocabulary = self.engine.vocabulary();
        let mut tokens: Vec<Token> = vocabulary.prompt_start().into_iter().collect();
        tokens.extend(vocabulary.tokenize(text, SpecialTokens::Recognised));
        tokens
    }

    /// The token that this text is; the last one, since bytes have tokens of their own before the others.
    fn token(&self, text: &str) -> Token {
        let vocabulary = self.engine.vocabulary();
        let mut bytes = Vec::new();
        let is_it = |token: &Token| {
            bytes.clear();
            vocabulary.append_piece(*token, &mut bytes);
            bytes == text.as_bytes()
        };
        (0..vocabulary.size()).map(Token).rfind(is_it).unwrap_or_else(|| panic!("{text:?} is no token"))
    }

    fn request(&self, prompt: &str, sampling: Sampling) -> GenerationRequest {
        GenerationRequest {
            id: RequestId::new("test"),
            prompt: self.tokens(prompt),
            sampling,
            max_tokens: 24,
            stop: Vec::new(),
            stop_tokens: Vec::new(),
            marks: Vec::new(),
            grammar: None,
            control: None,
            logprobs: None,
            ignore_end: false,
        }
    }

    fn say(&self, request: GenerationRequest) -> Said {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let mut generation = self.engine.submit(request).unwrap();
        let (mut text, mut logprobs) = (String::new(), Vec::new());
        let end = loop {
            match runtime.block_on(generation.next()) {
                GenerationEvent::Piece { text: more, logprobs: of_it, .. } => {
                    text.push_str(&more);
                    logprobs.extend(of_it);
                }
                GenerationEvent::Finished(end) => break Ok((end.finish, end.usage.completion_tokens)),
                GenerationEvent::Failed(fault) => break Err(fault),
            }
        };
        Said { text, logprobs, end }
    }

    fn text(&self, prompt: &str, sampling: Sampling) -> String {
        self.say(self.request(prompt, sampling)).text
    }
}

fn greedy() -> Sampling {
    Sampling { temperature: 0.0, ..Sampling::default() }
}

/// Nothing cut off, and hot.
fn hot(seed: u64) -> Sampling {
    Sampling { temperature: 2.0, top_k: 0, top_p: 1.0, min_p: 0.0, seed: Some(seed), ..Sampling::default() }
}

/// Allows the same tokens at every place, and never ends.
struct Only(TokenMask);

impl CompiledGrammar for Only {
    fn begin(&self) -> Box<dyn Constraint> {
        Box::new(Only(self.0.clone()))
    }
}

impl Constraint for Only {
    fn allowed(&mut self) -> Result<&TokenMask, String> {
        Ok(&self.0)
    }
    fn allows(&mut self, token: Token) -> Result<bool, String> {
        Ok(self.0.contains(token))
    }
    fn may_end(&mut self) -> Result<bool, String> {
        Ok(false)
    }
    fn accept(&mut self, token: Token) -> Result<(), String> {
        if self.0.contains(token) { Ok(()) } else { Err(format!("token {} is not allowed", token.0)) }
    }
    fn is_complete(&self) -> bool {
        false
    }
}

fn only(tokens: &[Token]) -> Grammar {
    let mut words = vec![0; 1 << 12];
    for Token(token) in tokens {
        words[(token / u32::BITS) as usize] |= 1 << (token % u32::BITS);
    }
    Grammar::new(Only(TokenMask::from_words(words)))
}

#[test]
fn the_likeliest_answer_is_always_the_same_and_a_seed_repeats_another() {
    let served = real();
    let best = served.text(PROMPT, greedy());
    assert!(best.starts_with(" Rome"), "{best}");
    assert_eq!(served.text(PROMPT, greedy()), best);
    let warm = |seed| served.text(PROMPT, Sampling { temperature: 1.0, seed: Some(seed), ..Sampling::default() });
    let first = warm(1);
    assert_eq!(warm(1), first);
    assert!((2..6).any(|seed| warm(seed) != first));
    assert_eq!(real().text(PROMPT, Sampling { temperature: 1.0, seed: Some(1), ..Sampling::default() }), first);
}

#[test]
fn every_part_of_the_sampling_changes_a_real_answer() {
    let served = real();
    let free = served.text(PROMPT, hot(1));
    for (name, changed) in [
        ("top_k", Sampling { top_k: 3, ..hot(1) }),
        ("typical_p", Sampling { typical_p: 0.2, ..hot(1) }),
        ("top_p", Sampling { top_p: 0.3, ..hot(1) }),
        ("min_p", Sampling { min_p: 0.5, ..hot(1) }),
        ("temperature", Sampling { temperature: 0.5, ..hot(1) }),
        ("seed", hot(2)),
    ] {
        assert_ne!(served.text(PROMPT, changed), free, "{name}");
    }
    let best = served.text(PROMPT, greedy());
    assert_ne!(served.text(PROMPT, Sampling { repeat_penalty: 2.0, ..greedy() }), best, "the list repeats its words");
    // What acts on repetitions needs some.
    let served = tiny(&Markov::default().endless(&["ha", "ho"]));
    let best = served.text("\n", greedy());
    assert_eq!(best, "haho".repeat(12));
    let dry = Some(Dry { multiplier: 40.0, sequence_breakers: Vec::new(), ..Dry::default() });
    for (name, changed) in [
        ("presence_penalty", Sampling { presence_penalty: 2.0, frequency_penalty: 1.5, ..greedy() }),
        ("frequency_penalty", Sampling { frequency_penalty: 2.0, ..greedy() }),
        ("dry", Sampling { dry, ..greedy() }),
        ("logit_bias", Sampling { logit_bias: vec![(served.token("ho"), -100.0)], ..greedy() }),
    ] {
        assert_ne!(served.text("\n", changed), best, "{name}");
    }
}

#[test]
fn a_breaker_lets_lines_begin_alike() {
    let served = tiny(&Markov::default().endless(&["ha", "ho", "hi", ":"]));
    let run = |sequence_breakers: Vec<String>| {
        let dry = Some(Dry { multiplier: 40.0, base: 1.5, allowed_length: 2, sequence_breakers });
        served.say(GenerationRequest { max_tokens: 12, ..served.request("\n", Sampling { dry, ..greedy() }) }).text
    };
    assert_eq!(served.text("\n", greedy()), "hahohi:".repeat(6));
    assert!(run(vec!["never".to_owned()]).starts_with("hahohi:haho"));
    assert_ne!(run(vec!["never".to_owned()]), "hahohi:".repeat(3), "the third token of a repetition is too dear");
    // With every other token a breaker no repetition is longer than allowed.
    assert_eq!(run(vec!["ho".to_owned(), ":".to_owned()]), "hahohi:".repeat(3));
}

#[test]
fn a_bias_bans_and_forces() {
    let served = real();
    let rome = served.token(" Rome");
    let banned = Sampling { logit_bias: vec![(rome, -100.0)], ..hot(0) };
    for seed in 0..10 {
        let sampling = Sampling { temperature: 0.7, seed: Some(seed), ..banned.clone() };
        let said = served.say(GenerationRequest { max_tokens: 4, ..served.request(PROMPT, sampling) });
        assert!(!said.text.contains(" Rome"), "{}", said.text);
    }
    let forced = Sampling { logit_bias: vec![(served.token(" cheese"), 100.0)], ..hot(3) };
    let said = served.say(GenerationRequest { max_tokens: 5, ..served.request(PROMPT, forced) });
    assert_eq!(said.text, " cheese".repeat(5));
}

#[test]
fn nothing_but_what_a_grammar_allows_is_said() {
    let served = real();
    let tokens: Vec<Token> = [" yes", " no", " maybe"].map(|text| served.token(text)).to_vec();
    for seed in 0..12 {
        let grammar = Some(only(&tokens));
        let request = GenerationRequest { grammar, max_tokens: 6, ..served.request(PROMPT, hot(seed)) };
        let Said { text, end, .. } = served.say(request);
        assert_eq!(end, Ok((Finish::Length, 6)));
        assert!(text.split_whitespace().all(|word| ["yes", "no", "maybe"].contains(&word)), "{text}");
    }
    let grammar = Some(only(&tokens));
    let said = |grammar| served.say(GenerationRequest { grammar, ..served.request(PROMPT, hot(7)) });
    assert_eq!(said(grammar.clone()), said(grammar), "a seed repeats a masked answer");
}

#[test]
fn where_nothing_may_be_said_the_answer_fails() {
    let served = real();
    let yes = served.token(" yes");
    let sampling = Sampling { logit_bias: vec![(yes, -100.0)], ..greedy() };
    for grammar in [only(&[yes]), only(&[])] {
        let request = GenerationRequest { grammar: Some(grammar), ..served.request(PROMPT, sampling.clone()) };
        let said = served.say(request);
        assert_eq!((said.text.as_str(), said.end), ("", Err(EngineFault::NoToken)));
    }
    assert!(served.text(PROMPT, greedy()).starts_with(" Rome"), "the engine goes on");
}

#[test]
fn stop_tokens_end_the_answer_even_where_the_end_is_ignored() {
    let served = tiny(&Markov::default());
    let stop_tokens = vec![served.token("f"), Token(markov::EOS)];
    for ignore_end in [false, true] {
        let request =
            GenerationRequest { stop_tokens: stop_tokens.clone(), ignore_end, ..served.request("ab", greedy()) };
        let said = served.say(request);
        assert_eq!((said.text.as_str(), said.end), ("cde", Ok((Finish::Stop, 4))));
    }
    let ends = tiny(&Markov::default().chain(&["x"]));
    let request = GenerationRequest { stop_tokens, ignore_end: true, ..ends.request("\n", greedy()) };
    assert_eq!(ends.say(request).end, Ok((Finish::Stop, 2)), "the model's end is one of them");
}

#[test]
fn log_probabilities_belong_to_the_text() {
    let served = tiny(&Markov::default().chain(&["a", "<0xF0>", "<0x9F>", "<0x98>", "<0x80>", "bc", "d"]));
    let request = GenerationRequest { logprobs: Some(3), ..served.request("\n", greedy()) };
    let said = served.say(request.clone());
    let bytes: Vec<u8> = said.logprobs.iter().flat_map(|token| token.sampled.bytes.clone()).collect();
    assert_eq!((said.text.as_str(), said.text.as_bytes()), ("a😀bcd", bytes.as_slice()));
    assert_eq!(said.logprobs.len(), 7, "the end is no text");
    for token in &said.logprobs {
        assert_eq!((token.top.len(), &token.top[0]), (3, &token.sampled));
        assert!(token.sampled.logprob > -0.1, "the model is sure: {token:?}");
    }
    let stopped = served.say(GenerationRequest { stop: vec!["cd".to_owned()], ..request });
    let bytes: Vec<u8> = stopped.logprobs.iter().flat_map(|token| token.sampled.bytes.clone()).collect();
    assert_eq!((stopped.text.as_str(), bytes.as_slice()), ("a😀b", "a😀".as_bytes()), "`bc` is cut in half");
}

#[test]
fn of_two_that_are_equally_likely_each_has_half() {
    let served = tiny(&Markov::default().fork("a", &["b", "c"]).fork("b", &["a"]).fork("c", &["a"]));
    let sampling = Sampling { temperature: 1.0, top_k: 2, ..hot(1) };
    let request = GenerationRequest { logprobs: Some(2), max_tokens: 40, ..served.request("a", sampling) };
    let said = served.say(request);
    let forks: Vec<_> = said.logprobs.iter().step_by(2).take(4).collect();
    for token in forks {
        for (place, top) in token.top.iter().enumerate() {
            assert!((top.logprob.exp() - 0.5).abs() < 0.05, "{place}: {top:?}");
        }
    }
}

/// The logits of the token after a prompt, as llama.cpp computes them in a context of its own.
fn logits(prompt: &[Token]) -> Vec<f32> {
    let path = CString::new(tests::host::demo_model().to_str().unwrap()).unwrap();
    let mut tokens: Vec<sys::llama_token> = prompt.iter().map(|token| token.0.cast_signed()).collect();
    // SAFETY: everything is made here, used on this thread only and freed in order; the last token of
    // `llama_batch_get_one` has logits, as many as the vocabulary has tokens.
    unsafe {
        let model = sys::llama_model_load_from_file(path.as_ptr(), sys::llama_model_default_params());
        let mut parameters = sys::llama_context_default_params();
        (parameters.n_ctx, parameters.n_threads, parameters.n_threads_batch) = (CONTEXT_LENGTH, 1, 1);
        let context = sys::llama_init_from_model(model, parameters);
        let count = i32::try_from(tokens.len()).unwrap();
        assert_eq!(sys::llama_decode(context, sys::llama_batch_get_one(tokens.as_mut_ptr(), count)), 0);
        let size = sys::llama_vocab_n_tokens(sys::llama_model_get_vocab(model)).unsigned_abs() as usize;
        let logits = std::slice::from_raw_parts(sys::llama_get_logits_ith(context, -1), size).to_vec();
        sys::llama_free(context);
        sys::llama_model_free(model);
        logits
    }
}

#[test]
fn they_are_llamas_own_before_anything_changes_them() {
    let served = real();
    let prompt = served.tokens(PROMPT);
    let logits = logits(&prompt);
    let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits.iter().map(|&logit| f64::from(logit - max).exp()).sum();
    let logprob = |token: usize| f64::from(logits[token] - max) - sum.ln();
    let mut likeliest: Vec<usize> = (0..logits.len()).collect();
    likeliest.sort_by(|&a, &b| logits[b].total_cmp(&logits[a]));

    // Biases, penalties, temperature and cuts change the choice and not what is told of it.
    let logit_bias = vec![(served.token(" cheese"), 100.0), (served.token(" Rome"), -100.0)];
    for sampling in [greedy(), Sampling { logit_bias, repeat_penalty: 1.5, temperature: 0.1, ..hot(1) }] {
        let request = GenerationRequest { logprobs: Some(20), max_tokens: 1, ..served.request(PROMPT, sampling) };
        let said = served.say(request);
        let [TokenLogprobs { sampled, top, .. }] = &said.logprobs[..] else { panic!("{said:?}") };
        assert_eq!((top.len(), said.text.as_bytes()), (20, sampled.bytes.as_slice()));
        let chosen = logprob(served.token(&said.text).0 as usize);
        assert!((f64::from(sampled.logprob) - chosen).abs() < 1e-3, "{sampled:?}, not {chosen}");
        for (top, &token) in top.iter().zip(&likeliest) {
            let expected = logprob(token);
            assert!((f64::from(top.logprob) - expected).abs() < 1e-3, "{top:?}, not {expected}");
        }
        assert!(top.is_sorted_by(|a, b| a.logprob >= b.logprob));
        let mass: f32 = top.iter().map(|top| top.logprob.exp()).sum();
        assert!(mass > 0.5 && mass <= 1.0, "{mass}");
    }
}
