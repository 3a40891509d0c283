//! Guessed tokens change how an answer is computed, and not the answer.

use std::num::NonZeroUsize;
use std::path::Path;

use engine::Config;
use inference::{Engine as _, GenerationEvent, GenerationRequest, RequestId, Sampling, SpecialTokens};
use llama::{LoadOptions, Model};
use tests::markov::Markov;

/// The answers to several prompts at once, and tokens.
fn answers(model: &Path, prompts: &[String], guesses_max: usize, sampling: &Sampling) -> Vec<(String, u32)> {
    let model = Model::load(&LoadOptions { context_length: Some(1024), ..LoadOptions::new(model, "test") }).unwrap();
    let config = Config { guesses_max, slots: NonZeroUsize::new(prompts.len()).unwrap(), ..Config::default() };
    let (card, vocabulary) = (model.card().clone(), model.vocabulary());
    let requests = prompts.iter().map(|prompt| {
        let mut tokens: Vec<_> = vocabulary.prompt_start().into_iter().collect();
        tokens.extend(vocabulary.tokenize(prompt, SpecialTokens::Recognised));
        let sampling = sampling.clone();
        GenerationRequest { sampling, ..GenerationRequest::new(RequestId::new("test"), tokens, 120) }
    });
    let requests: Vec<_> = requests.collect();
    let engine = engine::start(card, vocabulary, config, move |shape| model.decoder(shape)).unwrap();
    let mut generations: Vec<_> = requests.into_iter().map(|request| engine.submit(request).unwrap()).collect();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let finish = |generation: &mut inference::Generation| {
        runtime.block_on(async {
            let mut text = String::new();
            loop {
                match generation.next().await {
                    GenerationEvent::Piece { text: piece, .. } => text.push_str(&piece),
                    GenerationEvent::Finished(completion) => break (text, completion.usage.completion_tokens),
                    GenerationEvent::Failed(fault) => panic!("{fault}"),
                }
            }
        })
    };
    generations.iter_mut().map(finish).collect()
}

#[test]
fn answers_of_a_model_that_walks_in_circles_are_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let circles: [&[&str]; 2] = [&["ha"], &["one ", "two ", "three ", "four ", "five "]];
    for circle in circles {
        let path = folder.path().join("tiny.gguf");
        Markov::default().endless(circle).write(&path).unwrap();
        let prompts = ["\n".to_owned(), circle.concat(), circle.concat().repeat(3)];
        for temperature in [0.0, 1.0] {
            let sampling = Sampling { temperature, seed: Some(3), ..Sampling::default() };
            let plain = answers(&path, &prompts, 0, &sampling);
            assert_eq!(answers(&path, &prompts, 16, &sampling), plain, "{circle:?} at {temperature}");
            assert!(plain.iter().all(|(_, tokens)| *tokens == 120), "{plain:?}");
        }
    }
}

#[test]
fn a_text_that_is_copied_is_the_same() {
    let text = "The parcel left the warehouse in Linz on 15 March at 16:40 and was handed to the carrier with the number \
                RX 7730 4418 2 AT. The customer asks that it be left with the neighbour if nobody is at home.";
    let prompt = format!(
        "<|im_start|>user\nRepeat this text word for word:\n{text}<|im_end|>\n<|im_start|>assistant\nThe parcel left the"
    );
    let sampling = Sampling { temperature: 0.0, ..Sampling::default() };
    let prompts = [prompt];
    let plain = answers(&tests::host::demo_model(), &prompts, 0, &sampling);
    assert!(plain[0].0.contains("RX 7730 4418 2 AT"), "{plain:?}");
    assert_eq!(answers(&tests::host::demo_model(), &prompts, 16, &sampling), plain);
}
