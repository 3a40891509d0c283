//! The component itself, in the host's own sandbox, under its real limits. `outrigger plugin test` says which host that is; for plain
//! `cargo test` it is the one in PATH, or what `OUTRIGGER` names.

use outrigger_plugin_test::{Component, Error, json};

fn component() -> Component {
    Component::build(env!("CARGO_MANIFEST_DIR")).unwrap()
}

#[test]
fn a_long_answer_costs_its_length() {
    let plugin = component();
    let masked = |words: usize| plugin.answer("Oh damn! ".repeat(words)).run().unwrap();
    let (short, long) = (masked(10), masked(1_000));
    assert_eq!(long.output, "Oh […]! ".repeat(1_000));
    assert_eq!(long.notes, [("word-filter".to_owned(), "1000".to_owned())]);
    // The same on every machine.
    assert!(long.used.instructions < 100 * short.used.instructions, "{:?} and {:?}", short.used, long.used);
    assert!(long.used.memory_bytes < long.limits.memory_bytes / 2, "{:?}", long.used);
}

#[test]
fn every_word_is_masked_wherever_the_tokens_fall() {
    let plugin = component();
    for word in ["a", "fudge", "öl", "🙂", "new york"] {
        let trial =
            plugin.answer(format!("So {word}, {word}y {word}")).config(json!({"words": [word], "replacement": "*"}));
        let ran = trial.every_chunking().unwrap();
        assert!(!ran.output.contains(&format!("{word},")), "{ran:?}");
        assert_eq!(trial.run_in(["So ", &format!("{word}, {word}"), &format!("y {word}")]).unwrap().output, ran.output);
        // A word that a longer one may begin with, and the character behind it.
        assert!(ran.used.held_bytes <= word.len() + 4, "{word}: {:?}", ran.used);
    }
}

#[test]
fn a_wrong_configuration_is_refused() {
    let refused = component().answer("Hi").config(json!({"words": [""]})).run().expect_err("an empty word");
    assert!(matches!(&refused, Error::Refused(reason) if reason.contains("words")), "{refused}");
}
