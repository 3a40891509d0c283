use serde_json::{Value, json};

use super::*;
use crate::allocation::peak_bytes;
use crate::gguf::{TokenKind, Vocabulary};

/// Seven pieces, two merges and a control token, byte-level.
fn file() -> Value {
    json!({
        "model": {
            "type": "BPE",
            "vocab": {"a": 0, "b": 1, "Ġ": 2, "ab": 3, "Ġab": 4, "<": 5, ">": 6, "e": 7},
            "merges": ["a b", "Ġ ab"],
        },
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true},
        "added_tokens": [
            {"id": 8, "content": "<e>", "special": true, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false},
        ],
    })
}

fn tokenizer(file: &Value) -> Tokenizer {
    Tokenizer::parse(file.to_string().as_bytes()).expect("a tokenizer")
}

/// What a converter makes of it.
fn vocabulary() -> Vocabulary {
    let texts = ["a", "b", "Ġ", "ab", "Ġab", "<", ">", "e", "<e>"].map(str::to_owned).to_vec();
    let mut kinds = vec![TokenKind::Normal; 8];
    kinds.push(TokenKind::Control);
    Vocabulary { model: "gpt2".to_owned(), texts, kinds, merges: Vec::new() }
}

#[test]
fn text_is_cut_and_counted() {
    let tokenizer = tokenizer(&file());
    assert_eq!(tokenizer.encode("ab ab").expect("tokens"), [3, 4]);
    assert_eq!(tokenizer.count("ab abb").expect("tokens"), 3);
    assert_eq!(tokenizer.count("").expect("tokens"), 0);
    assert_eq!((tokenizer.vocabulary_size(), tokenizer.text(4).as_deref()), (9, Some("Ġab")));
}

#[test]
fn only_a_template_can_write_control_tokens() {
    let tokenizer = tokenizer(&file());
    assert_eq!(tokenizer.encode("<e>").expect("tokens"), [5, 7, 6]);
    assert_eq!(tokenizer.encode_template("ab<e><e>ab").expect("tokens"), [3, 8, 8, 3]);
    assert_eq!(tokenizer.encode_template("<e").expect("tokens"), [5, 7]);
}

#[test]
fn what_is_for_training_changes_no_count() {
    let mut file = file();
    file["truncation"] = json!({"max_length": 2, "strategy": "LongestFirst", "stride": 0, "direction": "Right"});
    file["padding"] = json!({"strategy": {"Fixed": 64}, "direction": "Right", "pad_to_multiple_of": null, "pad_id": 0, "pad_type_id": 0, "pad_token": "a"});
    file["post_processor"] = json!({"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<e>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}], "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}], "special_tokens": {"<e>": {"id": "<e>", "ids": [8], "tokens": ["<e>"]}}});
    assert_eq!(tokenizer(&file).count("ab ab ab ab").expect("tokens"), 4);
    file["model"]["dropout"] = json!(0.5);
    let error = Tokenizer::parse(file.to_string().as_bytes()).expect_err("random");
    assert!(error.to_string().contains("it draws its merges at random"), "{error}");
}

/// Twenty-four steps that double a letter, and letters for its bytes: 48 MiB of one, of which the crate holds much more.
#[test]
fn a_file_that_makes_much_of_little_is_refused() {
    let double = json!({"type": "Replace", "pattern": {"String": "a"}, "content": "aa"});
    let mut file = file();
    file["normalizer"] = json!({"type": "Sequence", "normalizers": vec![double; 24]});
    file["added_tokens"][0]["normalized"] = json!(true);
    file["added_tokens"][0]["content"] = json!("a");
    let peak = peak_bytes(|| {
        let error = Tokenizer::parse(file.to_string().as_bytes()).expect_err("a bomb");
        assert!(error.to_string().contains("its normalizers may make 50331648 bytes of one"), "{error}");
    });
    assert!(peak < 1 << 20, "{peak} bytes were held");
}

#[test]
fn the_same_vocabulary_has_no_difference() {
    assert_eq!(tokenizer(&file()).first_difference(&vocabulary()), None);
}

#[test]
fn converters_are_understood() {
    let tokenizer = tokenizer(&file());
    // As it reads instead of as it is spelled.
    let mut read = vocabulary();
    read.texts[4] = " ab".to_owned();
    assert_eq!(tokenizer.first_difference(&read), None);
    // Filled up.
    let mut filled = vocabulary();
    filled.texts.push("[PAD9]".to_owned());
    filled.kinds.push(TokenKind::Unused);
    assert_eq!(tokenizer.first_difference(&filled), None);
    // A special token behind the end.
    let mut without = vocabulary();
    without.texts.pop();
    without.kinds.pop();
    assert_eq!(tokenizer.first_difference(&without), None);
    // No types.
    let bare = Vocabulary { kinds: Vec::new(), ..vocabulary() };
    assert_eq!(tokenizer.first_difference(&bare), None);
}

#[test]
fn the_first_difference_is_named() {
    let tokenizer = tokenizer(&file());
    let check = |change: fn(&mut Vocabulary), expected: &str| {
        let mut vocabulary = vocabulary();
        change(&mut vocabulary);
        let found = tokenizer.first_difference(&vocabulary).map(|difference| difference.to_string());
        assert_eq!(found.as_deref(), Some(expected));
    };
    check(
        |vocabulary| {
            vocabulary.texts[3] = "ba".to_owned();
            vocabulary.texts[7] = "x".to_owned();
        },
        r#"token 3 is "ab" in tokenizer.json and "ba" in the GGUF"#,
    );
    check(
        |vocabulary| vocabulary.kinds[8] = TokenKind::Normal,
        r#"token 8, "<e>", is a control token in tokenizer.json and text in the GGUF"#,
    );
    check(
        |vocabulary| {
            vocabulary.texts.push("<tool>".to_owned());
            vocabulary.kinds.push(TokenKind::Control);
        },
        r#"token 9, "<tool>", is in the GGUF and not in tokenizer.json"#,
    );
    check(
        |vocabulary| vocabulary.texts.truncate(6),
        r#"token 6, ">", is in tokenizer.json and not in the GGUF, which has 6 tokens"#,
    );
}

#[test]
fn a_blank_of_sentencepiece_may_be_one() {
    let mut file = file();
    file["model"]["vocab"] = json!({"▁": 0, "▁▁": 1});
    file["model"]["merges"] = json!(["▁ ▁"]);
    file["added_tokens"] = json!([]);
    let texts = vec!["▁".to_owned(), "  ".to_owned()];
    let vocabulary = Vocabulary { model: "llama".to_owned(), texts, kinds: Vec::new(), merges: Vec::new() };
    assert_eq!(tokenizer(&file).first_difference(&vocabulary), None);
}

#[test]
fn a_file_that_is_no_tokenizer_is_an_error() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("tokenizer.json");
    assert!(matches!(Tokenizer::open(&path), Err(TokenizerError::Io { .. })));
    assert!(matches!(Tokenizer::open(folder.path()), Err(TokenizerError::Io { .. })));
    let nested = "[".repeat(100_000);
    let lonely_merge = json!({"model": {"type": "BPE", "vocab": {"a": 0}, "merges": ["a b"]}}).to_string();
    let bad_regex = json!({"model": {"type": "BPE", "vocab": {}, "merges": []}, "pre_tokenizer": {"type": "Split", "pattern": {"Regex": "(?<"}, "behavior": "Isolated", "invert": false}}).to_string();
    for text in ["", "{}", "<!DOCTYPE html>", "\0", nested.as_str(), lonely_merge.as_str(), bad_regex.as_str()] {
        std::fs::write(&path, text).expect("a file");
        assert!(matches!(Tokenizer::open(&path), Err(TokenizerError::Unusable(_))), "{text:.40}");
    }
    let huge = std::fs::File::create(&path).expect("a file");
    huge.set_len(TOKENIZER_BYTES_MAX + 1).expect("a hole");
    let error = Tokenizer::open(&path).expect_err("too large").to_string();
    assert!(error.ends_with("has 100663297 bytes, and 100663296 is the most that is accepted"), "{error}");
}

#[test]
fn a_panic_inside_is_an_error_outside() {
    assert_eq!(guarded(|| panic!("by {}", "design")).map(|()| 0), Err("it broke down (by design)".to_owned()));
    assert_eq!(guarded(|| 1), Ok(1));
}
