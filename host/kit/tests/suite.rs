//! What a suite finds out about a plugin, with one that does whatever it is told: every finding is one that can fail.

use std::fs;

use inference::Stage;
use kit::case::CaseFile;
use kit::suite::{self, Options, Outcome};
use kit::{Harness, Stand, stand_in};
use plugin::PluginSpec;
use serde_json::{Value, json};

/// The guest with these stages.
fn guest(stages: &[Stage]) -> PluginSpec {
    let stages = Some(stages.iter().map(|&stage| (stage, 0)).collect());
    PluginSpec { stages, token_control: true, ..PluginSpec::new("guest", "bundled", bundled::MISBEHAVING) }
}

fn stand(cache: &tempfile::TempDir) -> Stand {
    let memory = plugin::Limits::default().memory_bytes_max;
    Stand::new(stand_in::model(None), memory, true, Some(cache.path().join("components"))).expect("a stand")
}

/// How the cases of a file went, of which each is named for a part of what it fails with, or `passes…`.
fn check(stand: &Stand, spec: &PluginSpec, cases: &str) -> Vec<Outcome> {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("cases.toml");
    fs::write(&path, cases).expect("written");
    let file = CaseFile::read(&path).expect(cases);
    let mut outcomes = Vec::new();
    let options = Options { random: 5, ..Options::default() };
    suite::run(stand, spec, &file, &options, |outcome| outcomes.push(outcome));
    assert_eq!(outcomes.len(), file.cases.len());
    for Outcome { name, failures, .. } in &outcomes {
        if name.starts_with("passes") {
            assert_eq!(failures, &Vec::<String>::new(), "{name}");
        } else {
            assert!(failures.iter().any(|failure| failure.contains(name.as_str())), "{name}: {failures:?}");
        }
    }
    outcomes
}

#[test]
fn what_does_not_hold_is_found() {
    let cache = tempfile::tempdir().expect("a folder");
    let stand = stand(&cache);
    let filter = guest(&[Stage::Postprocess, Stage::Audit]);
    let outcomes = check(
        &stand,
        &filter,
        r#"
        [[case]]
        name = "passes, a fault in every push, however often"
        config = { behaviour = "panic-in-push" }
        answer = "one two three"
        expect = { fault = "trap" }
        [[case]]
        name = "passes, which a fault before does not change"
        answer = "one two three"
        expect = { output = "one two three", finish = "stop" }
        [[case]]
        name = "a fault of the kind `trap` was expected, and there was none"
        expect = { fault = "trap" }
        [[case]]
        name = "passes, a fault that only the log is told of"
        config = { behaviour = "panic-in-audit" }
        answer = "a"
        expect = { fault = "trap" }
        [[case]]
        name = "behind it the plugin failed in its audit stage (trap)"
        config = { behaviour = "panic-in-audit" }
        answer = "a"
        [[case]]
        name = "and 3 is the most that the case allows"
        config = { mask = "secret" }
        answer = "a secret secre"
        expect = { at_most = { held_bytes = 3 } }
        [[case]]
        name = "instructions is "
        answer = "a"
        expect = { at_most = { instructions = 10 } }
        [[case]]
        name = "another answer when it comes as"
        config = { behaviour = "note-tokens" }
        answer = "ab"
        [[case]]
        name = "another answer where a second one to the same request (`n`) is written beside it"
        config = { behaviour = "forgets-the-answer" }
        answer = "banana"
        [[case]]
        name = "output differs"
        config = { mask = "secret" }
        answer = "a secret"
        expect = { output = "a secret" }
        [[case]]
        name = "finish differs"
        config = { stop = "secret" }
        answer = "a secret"
        expect = { output = "a ", finish = "stop" }
        [[case]]
        name = "steps are expected, and no plugin controls the tokens"
        answer = "a"
        expect = { steps = ["free"] }
        "#,
    );
    assert!(outcomes[1].chunkings > 10, "{:?}", outcomes[1]);

    check(
        &stand,
        &guest(&[Stage::Policy]),
        r#"
        [[case]]
        name = "the request was to be rejected, and was not"
        expect = { rejected = {} }
        [[case]]
        name = "rejected.status differs"
        config = { behaviour = "reject" }
        expect = { rejected = { status = 403 } }
        [[case]]
        name = "passes, invalid"
        config = { behaviour = "invalid-in-policy" }
        expect = { invalid = "told to find policy invalid" }
        "#,
    );
}

/// Whatever a plugin changes, what it holds back comes out where an answer ends.
#[test]
fn what_is_lost_at_an_early_end_is_found() {
    let cache = tempfile::tempdir().expect("a folder");
    let stand = stand(&cache);
    let outcomes = check(
        &stand,
        &guest(&[Stage::Parse, Stage::Postprocess]),
        r#"
        [[case]]
        name = "text is lost where the answer ends early"
        config = { mask = "secret", behaviour = "lose-what-is-held" }
        answer = "Oh secret!"
        [[case]]
        name = "lost where the answer ends early"
        config = { mask = "secret", behaviour = "lose-what-is-held" }
        answer = "Oh security!"
        [[case]]
        name = "text is lost where the answer ends early (max_tokens): reasoning differs"
        config = { mask = "zebra", behaviour = "lose-what-is-held", lines = true }
        answer = "!reasoning a zebra\nOh."
        [[case]]
        name = "text is lost where the answer ends early (max_tokens): tool_calls differs"
        config = { mask = "zebra", behaviour = "lose-what-is-held", lines = true }
        answer = "!call f\n!arguments a zebra\n!end \n"
        [[case]]
        name = "passes, as that is what it is for"
        config = { mask = "secret", behaviour = "lose-what-is-held" }
        answer = "Oh secret!"
        expect = { drops_end = true }
        [[case]]
        name = "passes, all comes out"
        config = { mask = "zebra", lines = true }
        answer = "!reasoning a zebra\n!call f\n!arguments a zebra\n!end \nOh zebra!"
        "#,
    );
    let told = &outcomes[0].failures[0];
    assert!(told.contains(r#"it ends behind "Oh s", and it is sent where " " follows"#), "{told}");
}

#[test]
fn a_controller_is_played_and_its_steps_are_judged() {
    let cache = tempfile::tempdir().expect("a folder");
    let stand = stand(&cache);
    let outcomes = check(
        &stand,
        &guest(&[Stage::TokenControl, Stage::Postprocess]),
        r#"
        [[case]]
        name = "passes, a beginning and an end"
        config = { steps = "force-text Oh; free; free; stop" }
        answer = "abcdef"
        [case.expect]
        steps = [{ force = "Oh" }, "free", "stop"]
        output = "Ohab"
        finish = "stop"
        [[case]]
        name = "passes, masks and biases"
        config = { steps = "allow 120 121; deny 98; bias 99 -100; free-for 9" }
        answer = "abcd"
        [case.expect]
        steps = [{ only = "xy" }, { not = "b" }, { bias = { c = -100.0 } }, { free-for = 9 }]
        output = "x  d"
        [[case]]
        name = "passes, what is written goes through the filters"
        config = { steps = "force-text se; free-for 99", mask = "secret" }
        answer = "cret!"
        expect = { output = "[masked]!" }
        [[case]]
        name = "passes, what never ends is cut"
        config = { steps = "allow 97" }
        request = { messages = [{ role = "user", content = "Hi" }], max_tokens = 5 }
        answer = "ab"
        expect = { output = "aaaaa", finish = "length" }
        [[case]]
        name = "passes, nonsense"
        config = { behaviour = "allow-nothing" }
        answer = "ab"
        expect = { fault = "contract" }
        [[case]]
        name = "steps differs (- expected, + got)"
        config = { steps = "free; stop" }
        answer = "ab"
        expect = { steps = ["free", { force = "x" }] }
        "#,
    );
    assert!(outcomes[0].failures.is_empty() && outcomes[0].chunkings > 5, "{:?}", outcomes[0]);
}

#[test]
fn a_harness_answers_what_it_is_asked() {
    let cache = tempfile::tempdir().expect("a folder");
    let mut harness = Harness::new(stand(&cache), guest(&[Stage::Postprocess, Stage::TokenControl]));
    let greeting: Value = serde_json::from_str(&harness.greeting()).expect("JSON");
    assert_eq!((&greeting["protocol"], &greeting["plugin"]), (&json!(1), &json!("guest")));
    let mut ask =
        |question: Value| serde_json::from_str::<Value>(&harness.answer(&question.to_string())).expect("JSON");
    let case = |answer: &str| json!({"name": "a", "config": {"mask": "secret"}, "answer": answer});

    let ran = ask(json!({"case": case("a secret")}));
    assert_eq!(ran["ran"]["output"], "a [masked]", "{ran}");
    assert!(ran["ran"]["used"]["instructions"].as_u64() > Some(0), "{ran}");
    assert_eq!(ran["ran"]["prompt"], "<|im_start|>user\nHello!<|im_end|>\n<|im_start|>assistant\n");
    let ran = ask(json!({"case": case("a secret"), "pieces": ["b sec", "ret"]}));
    assert_eq!(ran["ran"]["output"], "b [masked]", "the pieces are the answer: {ran}");
    let ran = ask(json!({"case": case("a secret"), "random": 3}));
    assert!(ran["ran"]["chunkings"].as_u64() > Some(8) && ran["ran"]["used"]["held_bytes"] == 5, "{ran}");

    let noting = json!({"name": "a", "config": {"behaviour": "note-tokens"}, "answer": "ab"});
    let failed = ask(json!({"case": noting, "random": 3}));
    assert!(failed["failed"].as_str().is_some_and(|it| it.contains("another answer when it comes as")), "{failed}");
    let failing = json!({"name": "a", "config": {"behaviour": "panic-in-push"}, "answer": "ab"});
    assert_eq!(ask(json!({"case": failing}))["ran"]["error"]["kind"], "trap");
    let written = json!({"name": "a", "config": {"steps": "force-text Oh; free"}, "answer": "ab"});
    assert_eq!(ask(json!({"case": written}))["ran"]["steps"][0], "force \"Oh\"");
    for (question, expected) in [
        (json!({"case": {"name": "a", "ansver": "b"}}), "ansver"),
        (json!({"kase": {}}), "the question is not one"),
        (json!({"case": {"name": "a", "config": {"behaviour": "panic-in-init"}}}), "the plugin does not load"),
        (json!({"case": written, "pieces": ["a", "b"]}), "cannot come in these pieces"),
    ] {
        let answer = ask(question);
        assert!(answer["error"].as_str().is_some_and(|error| error.contains(expected)), "{expected}: {answer}");
    }
}
