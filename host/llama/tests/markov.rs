//! The engine on real llama.cpp, with a model whose completion is known.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use engine::{Config, EngineHandle};
use inference::{
    Completion, Engine, EngineFault, Finish, Generation, GenerationEvent, GenerationRequest, RequestId, Sampling,
    SpecialTokens, SubmitError, Token,
};
use llama::{LoadError, LoadOptions, Model};
use tests::markov::{self, Markov};

/// A served model and the folder it lies in.
struct Served {
    engine: EngineHandle,
    _folder: tempfile::TempDir,
}

fn file(bytes: &[u8]) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tiny.gguf");
    std::fs::write(&path, bytes).unwrap();
    (folder, path)
}

fn load(markov: &Markov) -> (tempfile::TempDir, Model) {
    let (folder, path) = file(&markov.to_bytes());
    (folder, Model::load(&LoadOptions::new(path, "tiny")).unwrap())
}

fn serve(markov: &Markov, slots: usize) -> Served {
    let (folder, model) = load(markov);
    let config = Config { slots: NonZeroUsize::new(slots).unwrap(), ..Config::default() };
    let decoder = model.clone();
    let engine =
        engine::start(model.card().clone(), model.vocabulary(), config, move |shape| decoder.decoder(shape)).unwrap();
    Served { engine, _folder: folder }
}

impl Served {
    fn request(&self, prompt: &str) -> GenerationRequest {
        let vocabulary = self.engine.vocabulary();
        let mut tokens: Vec<Token> = vocabulary.prompt_start().into_iter().collect();
        tokens.extend(vocabulary.tokenize(prompt, SpecialTokens::Recognised));
        GenerationRequest {
            id: RequestId::new("test"),
            prompt: tokens,
            sampling: Sampling { temperature: 0.0, ..Sampling::default() },
            max_tokens: 8,
            stop: Vec::new(),
            stop_tokens: Vec::new(),
            marks: Vec::new(),
            grammar: None,
            control: None,
            logprobs: None,
            ignore_end: false,
        }
    }

    fn answer(&self, request: GenerationRequest) -> (String, Completion) {
        read(&mut self.engine.submit(request).unwrap())
    }

    fn wait_until_free(&self) {
        let start = Instant::now();
        while self.engine.running() + self.engine.queued() > 0 {
            assert!(start.elapsed() < Duration::from_secs(5), "the slot is not freed");
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

fn next(generation: &mut Generation) -> GenerationEvent {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime
        .block_on(async { tokio::time::timeout(Duration::from_mins(1), generation.next()).await })
        .expect("an event within a minute")
}

fn read(generation: &mut Generation) -> (String, Completion) {
    let mut answer = String::new();
    loop {
        match next(generation) {
            GenerationEvent::Piece { text, .. } => answer.push_str(&text),
            GenerationEvent::Finished(completion) => return (answer, completion),
            GenerationEvent::Failed(fault) => panic!("{fault}"),
        }
    }
}

#[test]
fn the_alphabet_goes_on_until_max_tokens() {
    let served = serve(&Markov::default(), 1);
    let (text, completion) = served.answer(served.request("ab"));
    assert_eq!((text.as_str(), completion.finish), ("cdefghij", Finish::Length));
    assert_eq!((completion.usage.prompt_tokens, completion.usage.completion_tokens), (3, 8));
}

#[test]
fn the_end_token_counts_and_is_not_text() {
    let served = serve(&Markov::default().chain(&["Mail", " jo", "e@ex", "ample.org"]), 1);
    let (text, completion) = served.answer(served.request("hi\n"));
    assert_eq!((text.as_str(), completion.finish), ("Mail joe@example.org", Finish::Stop));
    assert_eq!(completion.usage.completion_tokens, 5);
}

#[test]
fn the_end_token_can_be_ignored() {
    let served = serve(&Markov::default().chain(&["x"]), 1);
    let (text, completion) = served.answer(GenerationRequest { ignore_end: true, ..served.request("\n") });
    assert_eq!((text.as_str(), completion.finish), ("x", Finish::Length));
    assert_eq!(completion.usage.completion_tokens, 8);
}

#[test]
fn a_stop_text_ends_the_answer_before_itself() {
    let served = serve(&Markov::default(), 1);
    let stop = vec!["zz".to_owned(), "fgh".to_owned()];
    let (text, completion) = served.answer(GenerationRequest { stop, max_tokens: 100, ..served.request("ab") });
    assert_eq!((text.as_str(), completion.finish), ("cde", Finish::Stop));
    assert_eq!(completion.usage.completion_tokens, 6);
}

#[test]
fn a_character_in_four_tokens_comes_whole() {
    let served = serve(&Markov::default().chain(&["a", "<0xF0>", "<0x9F>", "<0x98>", "<0x80>", "b"]), 1);
    let mut generation = served.engine.submit(served.request("\n")).unwrap();
    let pieces: Vec<String> = std::iter::from_fn(|| match next(&mut generation) {
        GenerationEvent::Piece { text, .. } => Some(text),
        _ => None,
    })
    .collect();
    assert_eq!(pieces, ["a", "😀", "b"]);
}

#[test]
fn answers_side_by_side_do_not_mix() {
    let served = serve(&Markov::default(), 3);
    let prompts = ["ab", "AB", "12", "xy", "9", "c"];
    let mut generations: Vec<Generation> =
        prompts.iter().map(|prompt| served.engine.submit(served.request(prompt)).unwrap()).collect();
    let answers: Vec<String> = generations.iter_mut().map(|generation| read(generation).0).collect();
    assert_eq!(answers, ["cdefghij", "CDEFGHIJ", "34567890", "zabcdefg", "01234567", "defghijk"]);
}

#[test]
fn a_prompt_in_many_chunks_is_one_prompt() {
    let served = serve(&Markov::default(), 2);
    let prompt = "q".repeat(1500) + "ab";
    let mut short = served.engine.submit(served.request("AB")).unwrap();
    let (text, completion) = served.answer(served.request(&prompt));
    assert_eq!((text.as_str(), completion.usage.prompt_tokens), ("cdefghij", 1503));
    assert_eq!(read(&mut short).0, "CDEFGHIJ");
}

#[test]
fn a_full_context_ends_the_answer() {
    let served = serve(&Markov::default().context_length(256).endless(&["ha", "ho"]), 1);
    let prompt = "q".repeat(250) + "\n";
    let (text, completion) = served.answer(GenerationRequest { max_tokens: 1000, ..served.request(&prompt) });
    assert_eq!((text.as_str(), completion.finish), ("hahohaho", Finish::Length));
    assert_eq!(completion.usage.prompt_tokens + completion.usage.completion_tokens, 256);
}

#[test]
fn a_prompt_that_leaves_no_room_is_refused_with_both_numbers() {
    let served = serve(&Markov::default().context_length(256), 1);
    let error = served.engine.submit(served.request(&"q".repeat(255))).unwrap_err();
    assert_eq!(error, SubmitError::PromptTooLong { prompt_tokens: 256, context_length: 256 });
    let (text, _) = served.answer(served.request(&("q".repeat(253) + "a")));
    assert_eq!(text, "b");
}

#[test]
fn a_client_that_leaves_while_tokens_come_frees_the_slot() {
    let served = serve(&Markov::default().endless(&["ha"]), 1);
    let mut generation = served.engine.submit(GenerationRequest { max_tokens: 2000, ..served.request("\n") }).unwrap();
    assert!(matches!(next(&mut generation), GenerationEvent::Piece { .. }));
    drop(generation);
    served.wait_until_free();
    assert_eq!(served.answer(served.request("ab")).0, "cdefghij");
}

#[test]
fn a_client_that_leaves_during_the_prompt_frees_the_slot_and_leaves_nothing_behind() {
    let served = serve(&Markov::default().context_length(8000), 2);
    let long = served.request(&"q".repeat(7900));
    let mut other = served.engine.submit(GenerationRequest { max_tokens: 300, ..served.request("AB") }).unwrap();
    for _ in 0..4 {
        let generation = served.engine.submit(long.clone()).unwrap();
        std::thread::sleep(Duration::from_millis(10));
        drop(generation);
    }
    let expected: String = ('A'..='Z').cycle().skip(2).take(300).collect();
    assert_eq!(read(&mut other).0, expected);
    served.wait_until_free();
    assert_eq!(served.answer(served.request("ab")).0, "cdefghij");
}

#[test]
fn a_seed_repeats_an_answer_and_another_gives_another() {
    let markov =
        Markov::default().fork("a", &["b", "A"]).fork("b", &["a", "B"]).fork("A", &["a", "b"]).fork("B", &["a"]);
    let served = serve(&markov, 1);
    let answer = |seed| {
        let sampling = Sampling { temperature: 1.0, seed: Some(seed), ..Sampling::default() };
        served.answer(GenerationRequest { sampling, max_tokens: 64, ..served.request("a") }).0
    };
    assert_eq!(answer(1), answer(1));
    assert_ne!(answer(1), answer(2));
}

#[test]
fn penalties_turn_the_model_from_its_loop() {
    let served = serve(&Markov::default().endless(&["ha"]), 1);
    let sampling = Sampling { temperature: 0.0, presence_penalty: 2.0, frequency_penalty: 2.0, ..Sampling::default() };
    let request = GenerationRequest { max_tokens: 30, ..served.request("\n") };
    assert_eq!(served.answer(request).0, "ha".repeat(30));
    let request = GenerationRequest { sampling, max_tokens: 30, ..served.request("\n") };
    assert_ne!(served.answer(request).0, "ha".repeat(30));
}

#[test]
fn dropping_the_engine_ends_what_runs() {
    let served = serve(&Markov::default().endless(&["ha"]), 1);
    let request = GenerationRequest { max_tokens: 2000, ..served.request("\n") };
    let mut running = served.engine.submit(request.clone()).unwrap();
    let mut queued = served.engine.submit(request).unwrap();
    assert!(matches!(next(&mut running), GenerationEvent::Piece { .. }));
    drop(served);
    let last = |generation: &mut Generation| loop {
        match next(generation) {
            GenerationEvent::Piece { .. } => {}
            last => break last,
        }
    };
    assert_eq!(last(&mut running), GenerationEvent::Failed(EngineFault::Stopped));
    assert_eq!(last(&mut queued), GenerationEvent::Failed(EngineFault::Stopped));
}

#[test]
fn the_card_says_what_the_file_says() {
    let (_folder, model) = load(&Markov::default().context_length(20_000));
    let card = model.card();
    assert_eq!((card.id.as_str(), card.architecture.as_str()), ("tiny", "llama"));
    assert_eq!((card.context_length, card.context_length_trained), (llama::CONTEXT_LENGTH_DEFAULT, 20_000));
    assert_eq!((card.bos_text.as_str(), card.eos_text.as_str()), ("<s>", "</s>"));
    assert_eq!(card.chat_template.as_deref(), Some(markov::CHATML));
    assert!(card.size_bytes > 100_000 && card.created > 1_600_000_000);

    let (_folder, model) = load(&Markov::default().without_chat_template());
    assert_eq!(model.card().chat_template, None);
    let long = "{{ x }}".repeat(2000);
    let (_folder, model) = load(&Markov::default().chat_template(long.clone()));
    assert_eq!(model.card().chat_template, Some(long));
}

#[test]
fn the_vocabulary_tells_control_from_text() {
    let (_folder, model) = load(&Markov::default());
    let vocabulary = model.vocabulary();
    let piece = |token| {
        let mut bytes = Vec::new();
        vocabulary.append_piece(token, &mut bytes);
        String::from_utf8(bytes).unwrap()
    };
    let im_end = Token(markov::IM_END);
    assert_eq!(vocabulary.tokenize("<|im_end|>", SpecialTokens::Recognised), [im_end]);
    let literal = vocabulary.tokenize("<|im_end|>", SpecialTokens::Literal);
    assert_eq!(literal.iter().map(|&token| piece(token)).collect::<String>(), "<|im_end|>");
    assert_eq!(literal.len(), 10);
    assert_eq!(vocabulary.find_control_token("a<|im_end|>b"), Some((1..11, im_end)));
    assert_eq!(vocabulary.find_control_token("a<|im_end"), None);
    assert_eq!(piece(im_end), "");

    // A user-defined token is text that is one token, wherever it comes from.
    let thinks = vocabulary.tokenize(markov::USER_DEFINED, SpecialTokens::Literal);
    assert_eq!((thinks.len(), piece(thinks[0]).as_str()), (1, markov::USER_DEFINED));
    assert_eq!(vocabulary.find_control_token(markov::USER_DEFINED), None);

    assert!(vocabulary.ends_generation(im_end) && vocabulary.ends_generation(Token(markov::EOS)));
    assert!(!vocabulary.ends_generation(Token(vocabulary.size())));
    assert_eq!(vocabulary.prompt_start(), Some(Token(markov::BOS)));
    let text = "Grüße, 世界 😀\n\t x";
    let back: Vec<u8> =
        vocabulary.tokenize(text, SpecialTokens::Literal).into_iter().fold(Vec::new(), |mut all, token| {
            vocabulary.append_piece(token, &mut all);
            all
        });
    assert_eq!(String::from_utf8(back).unwrap(), text);
    assert!(vocabulary.tokenize("", SpecialTokens::Literal).is_empty());
}

fn refusal(bytes: &[u8]) -> LoadError {
    let (_folder, path) = file(bytes);
    Model::load(&LoadOptions::new(path, "tiny")).err().expect("this does not load")
}

#[test]
fn what_is_no_model_is_an_error_with_a_reason() {
    assert!(matches!(refusal(b"not a model"), LoadError::NotGguf { found, .. } if found == "\"not \""));
    assert!(matches!(refusal(b""), LoadError::NotGguf { .. }));
    let missing = Model::load(&LoadOptions::new("/nowhere/tiny.gguf", "tiny"));
    assert!(matches!(missing, Err(LoadError::Open { .. })));

    let whole = Markov::default().to_bytes();
    for part in 1..32 {
        let refused = refusal(&whole[..whole.len() * part / 32]);
        assert!(matches!(&refused, LoadError::Rejected { reason, .. } if reason != "no reason was given"), "{refused}");
    }
}

/// llama.cpp ends the process over each of these.
#[test]
fn what_llama_would_abort_over_is_an_error() {
    let whole = Markov::default().to_bytes();
    let with = |key: &str, offset: usize, value: &[u8]| {
        let mut bytes = whole.clone();
        let place = bytes.windows(key.len()).position(|window| window == key.as_bytes()).unwrap() + key.len() + offset;
        bytes[place..place + value.len()].copy_from_slice(value);
        match refusal(&bytes) {
            LoadError::Broken { reason, .. } => reason,
            other => panic!("{other}"),
        }
    };
    assert!(with("llama.block_count", 4, &0u32.to_le_bytes()).contains("is 0"));
    assert!(with("llama.block_count", 4, &513u32.to_le_bytes()).contains("1 to 512"));
    assert!(with("layer_norm_rms_epsilon", 4, &(-1.0f32).to_le_bytes()).contains("is -1"));
    assert!(with("layer_norm_rms_epsilon", 4, &f32::NAN.to_le_bytes()).contains("NaN"));
    assert!(with("head_count_kv", 4, &8u32.to_le_bytes()).contains("cannot share 8"));
    assert!(with("rope.dimension_count", 4, &128u32.to_le_bytes()).contains("rotate 128"));
    assert!(with("<0x41>", 12, b"1").contains("\"<0x41>\""));
}

#[test]
fn a_vocabulary_that_cannot_spell_every_byte_is_an_error() {
    let mut bytes = Markov::default().to_bytes();
    let place = bytes.windows(6).position(|window| window == b"<0xE9>").unwrap();
    bytes[place..place + 6].copy_from_slice(b"<none>");
    assert!(matches!(refusal(&bytes), LoadError::Broken { reason, .. } if reason.contains("0xE9")));
}

#[test]
fn more_slots_than_llama_has_are_refused() {
    let (_folder, model) = load(&Markov::default());
    let config = Config { slots: NonZeroUsize::new(llama::SLOTS_MAX + 1).unwrap(), ..Config::default() };
    let decoder = model.clone();
    let refused = engine::start(model.card().clone(), model.vocabulary(), config, move |shape| decoder.decoder(shape));
    assert!(matches!(refused, Err(engine::StartError::Decoder(LoadError::TooManySlots { slots: 257 }))));
}
