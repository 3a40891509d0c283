//! The vocabularies of real model files, as llama.cpp gives them: SentencePiece's with byte tokens, and a byte-level BPE.

use std::path::Path;

use inference::{OutputFormat, SpecialTokens, Token};
use serde_json::{Value, json};
use tests::host::demo_model;
use tests::markov::{IM_END, Markov};

use crate::writer::{House, Random};

fn house(path: &Path) -> House {
    House::of(llama::Model::load(&llama::LoadOptions::new(path, "model")).expect("the model loads").vocabulary())
}

fn spm() -> House {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tiny.gguf");
    Markov::default().write(&path).unwrap();
    house(&path)
}

/// Random answers: each is valid, and none holds a control token or half a character.
fn check(house: &House) {
    let schema = json!({
        "type": "object",
        "properties": {"größe": {"enum": ["klein", "groß", "🙂"]}, "n": {"type": "integer", "minimum": 1, "maximum": 999},
            "free": {"type": "string", "maxLength": 12}},
        "required": ["größe", "n", "free"],
        "additionalProperties": false,
    });
    let grammar = house.compile(&OutputFormat::JsonSchema(schema.to_string()));
    let validator = jsonschema::validator_for(&schema).unwrap();
    let mut written = 0;
    for seed in 0..40 {
        if let Some(text) = house.write(&grammar, &mut Random(seed), 200) {
            let value: Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{text}: {error}"));
            assert!(validator.is_valid(&value), "{text}");
            written += 1;
        }
    }
    assert!(written > 20, "{written} of 40 came to an end");
}

#[test]
fn sentencepiece_with_bytes() {
    let house = spm();
    check(&house);
    // Two tokens end a completion of this model, and both may where the grammar may end.
    let mut constraint = house.compile(&OutputFormat::Regex("a?".to_owned())).begin();
    let mask = constraint.allowed().unwrap();
    assert!(mask.contains(Token(tests::markov::EOS)) && mask.contains(Token(IM_END)));
    assert!(!mask.contains(Token(tests::markov::BOS)));
}

#[test]
fn byte_level_bpe() {
    let house = house(&demo_model());
    check(&house);
    let grammar = house.compile(&OutputFormat::JsonObject);
    // As the model would spell it, in its own tokens.
    for text in [r#"{"city": "Paris", "ok": [true, null, -1.5e3], "ü": "日本🙂"}"#, "{\n    \"a\": {}\n}"] {
        let mut constraint = grammar.begin();
        for token in house.vocabulary.tokenize(text, SpecialTokens::Literal) {
            assert!(constraint.allowed().unwrap().contains(token), "{text}: {token:?}");
            constraint.accept(token).unwrap();
        }
        assert!(constraint.is_complete());
    }
    // `<|im_start|>` spelled is text; the token is never allowed.
    let mut constraint = house.compile(&OutputFormat::Regex("(?s:.)*".to_owned())).begin();
    let control = house.vocabulary.tokenize("<|im_start|>", SpecialTokens::Recognised);
    assert!(control.iter().all(|&token| !constraint.allowed().unwrap().contains(token)), "{control:?}");
}
