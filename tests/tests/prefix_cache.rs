//! What was computed once is not computed again: through the whole path, with the real model.

use serde_json::{Value, json};
use tests::host::{Host, demo_model};

const MODEL: &str = "SmolLM2-135M-Instruct.Q4_1";
const SYSTEM: &str = "You are a helpful AI assistant named SmolLM, trained by Hugging Face. You answer questions about \
                      countries, their capitals, their rivers and their mountains. You give the answer in one short \
                      sentence, and you name the place by its usual English name. The reader is a student of geography.";

fn ask(host: &Host, system: &str, turns: &[&str]) -> (String, u64, u64) {
    let mut messages = vec![json!({"role": "system", "content": system})];
    messages.extend(turns.iter().zip(["user", "assistant"].iter().cycle()).map(|(text, role)| {
        let message: Value = json!({"role": role, "content": text});
        message
    }));
    let body = json!({"model": MODEL, "messages": messages, "temperature": 0, "max_tokens": 12});
    let reply = host.chat(&body);
    assert_eq!(reply.status, 200, "{}", reply.text);
    let usage = reply.json()["usage"].clone();
    let prompt = usage["prompt_tokens"].as_u64().expect("a count");
    let cached = usage["prompt_tokens_details"]["cached_tokens"].as_u64().expect("a count");
    (reply.content(), prompt, cached)
}

#[test]
fn turns_and_system_prompts_are_computed_once() {
    let host = Host::serve(&demo_model(), &["--max-concurrency=2"]);
    let question = "What is the capital of France?";
    let (answer, prompt, cached) = ask(&host, SYSTEM, &[question]);
    assert_eq!(cached, 0);
    assert!(answer.contains("Paris"), "{answer}");

    // The conversation goes on: all of it but what is new.
    let (_, longer, cached) = ask(&host, SYSTEM, &[question, &answer, "And of Italy?"]);
    assert!((prompt..longer).contains(&cached), "{cached} of {longer} tokens, of which {prompt} were there");

    // Another conversation with the same system prompt.
    let (answer, prompt, cached) = ask(&host, SYSTEM, &["What is the capital of Germany?"]);
    assert!(cached > 60 && cached < prompt, "{cached} of {prompt}");
    assert!(answer.contains("Berlin"), "{answer}");
}

#[test]
fn a_conversation_that_lost_its_slot_comes_back_from_host_memory() {
    for (arguments, comes_back) in [(&[][..], true), (&["--prefix-cache-size=0"][..], false)] {
        let host = Host::serve(&demo_model(), arguments);
        let (first, ..) = ask(&host, SYSTEM, &["What is the capital of France?"]);
        let (_, _, cached) = ask(&host, &"Other words, over and over. ".repeat(12), &["Hello?"]);
        assert!(cached < 10, "{cached}");
        let (again, prompt, cached) = ask(&host, SYSTEM, &["What is the capital of France?"]);
        // Word for word it need not be: logits depend a little on how many tokens are computed together.
        assert!(first.contains("Paris") && again.contains("Paris"), "{first} {again}");
        assert_eq!(cached == prompt - 1, comes_back, "{cached} of {prompt} with {arguments:?}");
    }
}

#[test]
fn a_warmed_prompt_is_there_before_anybody_asks() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = folder.path().join("outrigger.toml");
    std::fs::write(&config, format!("warm_prompts = [{}]", Value::from(SYSTEM))).expect("a written file");
    let host = Host::serve(&demo_model(), &[&format!("--config={}", config.display())]);
    assert!(host.log().contains("prompt warmed"), "{}", host.log());
    let (_, prompt, cached) = ask(&host, SYSTEM, &["What is the capital of France?"]);
    assert!(cached > 60 && cached < prompt, "{cached} of {prompt}");
}

#[test]
fn what_cannot_be_kept_is_refused_before_anything_is_loaded() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = folder.path().join("outrigger.toml");
    for (text, wanted) in [
        ("warm_prompts = ['']", "prompt 1 of `warm_prompts` is empty"),
        ("prefix_cache_size = '900TB'", "`prefix_cache_size` is 900.0 TB"),
        ("prefix_cache_size = 'much'", "`prefix_cache_size`"),
    ] {
        std::fs::write(&config, text).expect("a written file");
        let output = tests::host::command()
            .args(["serve", "--listen=127.0.0.1:0", &format!("--config={}", config.display())])
            .arg(format!("--model=file:{}", demo_model().display()))
            .output()
            .expect("the binary runs");
        let printed = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && printed.contains(wanted), "{text}: {printed}");
    }
}
