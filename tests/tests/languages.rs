//! Plugins in JavaScript and Python, in the running host, under `wasi = "quiet"`.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tempfile::TempDir;
use tests::host::{Host, demo_model};
use tests::markov::Markov;

const HEAVY: &str = "run tests/languages/setup.sh, as tests/run.sh --full does";

/// The folder of a built example.
fn example(language: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.cache/plugins").join(language);
    assert!(folder.join(".stamp").exists(), "{} is not built: {HEAVY}", folder.display());
    folder.canonicalize().expect("a folder")
}

/// A configuration with both plugins, in a folder that has to stay: `terms` are the one's, and the other lets links lead to
/// example.org.
fn configuration(terms: &str) -> (TempDir, String) {
    let folder = tempfile::tempdir().expect("a folder");
    let (javascript, python) = (example("javascript"), example("python"));
    let text = format!(
        "[[plugin]]\nname = \"house-style\"\nfrom = '{}'\nwasi = \"quiet\"\nconfig = {{ terms = {{ {terms} }} }}\n\
         grants = {{ modify = [\"messages\"] }}\n\
         [[plugin]]\nname = \"link-guard\"\nfrom = '{}'\nwasi = \"quiet\"\nconfig = {{ hosts = [\"example.org\"] }}\n\
         grants = {{ modify = [\"messages\"] }}\nlimits = {{ component_bytes = 20000000 }}\ninstance = {{ reuse = true }}\n",
        javascript.display(),
        python.display()
    );
    let path = folder.path().join("outrigger.toml");
    std::fs::write(&path, text).expect("a configuration");
    (folder, path.display().to_string())
}

fn streamed(host: &Host, body: &Value) -> String {
    let mut body = body.clone();
    body["stream"] = json!(true);
    host.stream(&body).finish().0
}

#[test]
#[ignore = "heavy: run by tests/run.sh --full"]
fn they_filter_what_tokens_cut_in_two() {
    let folder = tempfile::tempdir().expect("a folder");
    let model = folder.path().join("tiny.gguf");
    let pieces =
        ["We util", "ize 🙂 ", "htt", "ps://evil", ".test/?q=1 and ", "https://docs.exam", "ple.org", ", util"];
    Markov::default().context_length(4096).chain(&pieces).write(&model).expect("a written model");
    let (_folder, config) = configuration("utilize = \"use\"");
    let host = Host::serve(&model, &["--config", &config]);
    let body = json!({"model": "tiny", "messages": [{"role": "user", "content": "go"}], "temperature": 0});
    let expected = "We use 🙂 [link removed] and https://docs.example.org, util";
    // More often than there are instances to reuse.
    for _ in 0..4 {
        let reply = host.chat(&body);
        assert_eq!((reply.status, reply.content().as_str()), (200, expected), "{}\n{}", reply.text, host.log());
        assert_eq!(streamed(&host, &body), expected);
    }
    assert_eq!(host.metric("outrigger_plugin_faults_total", &[]), 0, "{}", host.log());
}

#[test]
#[ignore = "heavy: run by tests/run.sh --full"]
fn they_tell_a_real_model_what_they_want_and_change_its_answer() {
    let question = json!([{"role": "user", "content": "What is the capital of France?"}]);
    let body = json!({"messages": question, "temperature": 0, "max_tokens": 24, "model": "SmolLM2-135M-Instruct.Q4_1"});
    let plain = Host::serve(&demo_model(), &[]).chat(&body).json();
    let (_folder, config) = configuration("paris = \"Lutetia\"");
    let host = Host::serve(&demo_model(), &["--config", &config]);
    let reply = host.chat(&body);
    assert_eq!(reply.status, 200, "{}\n{}", reply.text, host.log());
    let tokens = |reply: &Value| reply["usage"]["prompt_tokens"].as_u64().expect("a count");
    assert!(tokens(&reply.json()) > tokens(&plain), "both tell the model what they want: {}", reply.text);
    let answer = reply.content();
    assert!(answer.contains("Lutetia") && !answer.contains("Paris"), "{answer}");
    assert_eq!(streamed(&host, &body), answer);
}

/// The contract in the examples is the repository's: copies, because they are to be copied themselves.
#[test]
fn the_contract_of_the_examples_is_the_repository_s() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let contract = std::fs::read(root.join("wit/plugin.wit")).expect("the contract");
    for language in ["javascript", "python"] {
        let copy = format!("examples/plugins/{language}/wit/deps/outrigger-plugin/plugin.wit");
        let is_same = std::fs::read(root.join(&copy)).expect("a copy") == contract;
        assert!(is_same, "{copy} differs; copy it: cp wit/plugin.wit {copy}");
    }
}
