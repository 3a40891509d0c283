//! A `tokenizer.json` beside the GGUF that it belongs to: the same tokens by the same numbers, and the same cuts as
//! llama.cpp makes.

use inference::SpecialTokens;
use model::Tokenizer;
use model::gguf::{Header, TokenKind, Vocabulary};
use serde_json::{Value, json};
use tests::host::demo_model;

fn vocabulary() -> Vocabulary {
    let path = demo_model();
    let header = Header::read(&path).expect("a sound header");
    Vocabulary::read(&path, &header).expect("readable tokens").expect("a vocabulary")
}

/// The `tokenizer.json` that SmolLM2 is published with, made of what the GGUF kept of it: byte-level BPE behind a
/// splitter of digits.
fn published(vocabulary: &Vocabulary) -> Value {
    let is_control = |token: usize| vocabulary.kinds[token] == TokenKind::Control;
    let pieces = vocabulary.texts.iter().zip(0..).map(|(text, token)| (text.clone(), Value::from(token)));
    let added: Vec<Value> = (0..vocabulary.texts.len())
        .filter(|&token| is_control(token))
        .map(|token| {
            let content = &vocabulary.texts[token];
            json!({"id": token, "content": content, "special": true, "single_word": false, "lstrip": false, "rstrip": false,
                   "normalized": false})
        })
        .collect();
    assert!(added.len() > 2, "the model has control tokens");
    json!({
        "version": "1.0",
        "added_tokens": added,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
            {"type": "Digits", "individual_digits": true},
            {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true},
        ]},
        "decoder": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true},
        "model": {"type": "BPE", "vocab": Value::Object(pieces.collect()), "merges": vocabulary.merges},
    })
}

fn tokenizer(file: &Value) -> Tokenizer {
    Tokenizer::parse(file.to_string().as_bytes()).expect("a tokenizer")
}

const TEXTS: &[&str] = &[
    "",
    " ",
    "Hello, world!",
    " Hello there",
    "I'll say it's 12345.67 €",
    "多言語のテキスト, مرحبا, नमस्ते, 👩‍👩‍👧",
    "fn main() {\n    println!(\"hi\");\n\t}\r\n\n\n",
    "    indented        and spaced    ",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "<|im_start|>user is only text here<|im_end|>",
    "\u{0}\u{1}\u{7f}\u{feff}",
];

#[test]
fn text_is_cut_as_llama_cpp_cuts_it() {
    let vocabulary = vocabulary();
    let tokenizer = tokenizer(&published(&vocabulary));
    let model = llama::Model::load(&llama::LoadOptions::new(demo_model(), "demo")).expect("the demo model");
    let llama = model.vocabulary();
    let numbers =
        |text: &str, special| -> Vec<u32> { llama.tokenize(text, special).into_iter().map(|token| token.0).collect() };
    for text in TEXTS {
        assert_eq!(tokenizer.encode(text).expect("tokens"), numbers(text, SpecialTokens::Literal), "{text:?}");
        assert_eq!(tokenizer.count(text).expect("tokens"), numbers(text, SpecialTokens::Literal).len(), "{text:?}");
    }
    let template =
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n Hello<|im_end|>\n<|im_start|>assistant\n";
    assert_eq!(tokenizer.encode_template(template).expect("tokens"), numbers(template, SpecialTokens::Recognised));
}

#[test]
fn a_changed_token_is_named_as_the_first_difference() {
    let vocabulary = vocabulary();
    let mut file = published(&vocabulary);
    assert_eq!(tokenizer(&file).first_difference(&vocabulary), None);

    // A fine-tune that gave two tokens other texts.
    let pieces = file["model"]["vocab"].as_object_mut().expect("pieces");
    for (token, text) in [(20_000, "Ġchanged_first"), (30_000, "Ġchanged_later")] {
        pieces.remove(&vocabulary.texts[token]);
        pieces.insert(text.to_owned(), token.into());
    }
    file["model"]["merges"] = json!([]);
    let difference = tokenizer(&file).first_difference(&vocabulary).expect("a difference").to_string();
    let expected =
        format!("token 20000 is \"Ġchanged_first\" in tokenizer.json and {:?} in the GGUF", vocabulary.texts[20_000]);
    assert_eq!(difference, expected);
}

/// Mistral's newer vocabularies, and OpenAI's, are split by a regular expression that recurses once per letter: 10,000 of
/// them ended the process. The demo model says for this test that it is split like those.
#[test]
fn words_without_end_are_survived() {
    let mut file = std::fs::read(demo_model()).expect("the demo model");
    let [key, usual, other] = ["tokenizer.ggml.pre", "smollm", "tekken"].map(str::as_bytes);
    let key_at = file.windows(key.len()).position(|window| window == key).expect("it says how it is split");
    // Behind the key: the type of the value, and its length.
    let place = key_at + key.len() + 4 + 8;
    assert_eq!(&file[place..place + usual.len()], usual);
    file[place..place + other.len()].copy_from_slice(other);
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("tekken.gguf");
    std::fs::write(&path, file).expect("room for a copy");
    let model = llama::Model::load(&llama::LoadOptions::new(path, "tekken")).expect("a model");
    let vocabulary = model.vocabulary();
    let text_of = |tokens: &[inference::Token]| {
        let mut bytes = Vec::new();
        for &token in tokens {
            vocabulary.append_piece(token, &mut bytes);
        }
        String::from_utf8(bytes).expect("the text again")
    };
    for piece in ["a", "A", "é", "!", "語", "1", "\n", "a\u{301}"] {
        let text = piece.repeat(100_000);
        // On a thread like those that serve, whose stack is 2 MiB.
        let tokens = std::thread::scope(|scope| {
            let tokenize = || vocabulary.tokenize(&text, SpecialTokens::Literal);
            std::thread::Builder::new().stack_size(2 << 20).spawn_scoped(scope, tokenize).expect("a thread").join()
        });
        assert_eq!(text_of(&tokens.expect("no panic")), text);
    }
}
