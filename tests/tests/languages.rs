//! Plugins in JavaScript and Python, in the running host, under `wasi = "quiet"`.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tempfile::TempDir;
use tests::host::{Host, command, demo_model};
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

/// `outrigger plugin …` in a folder: exit code, standard output and standard error.
fn plugin(folder: &Path, arguments: &[&str]) -> (i32, String, String) {
    let output = command().arg("plugin").args(arguments).current_dir(folder).output().expect("the binary runs");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
    (output.status.code().expect("it ended"), text(output.stdout), text(output.stderr))
}

#[test]
#[ignore = "heavy: run by tests/run.sh --full"]
fn the_examples_pass_their_cases() {
    for (language, cases) in [("javascript", 5), ("python", 3)] {
        let (code, printed, errors) = plugin(&example(language), &["test", ".", "--no-build", "--random", "20"]);
        assert_eq!(code, 0, "{printed}{errors}");
        assert!(printed.contains(&format!("{cases} cases passed; ")), "{printed}");
    }
}

/// The three lines of the guide, with the tools that were installed for the examples.
#[test]
#[ignore = "heavy: run by tests/run.sh --full"]
fn a_new_plugin_in_each_language_builds_and_passes() {
    let folder = tempfile::tempdir().expect("a folder");
    for (language, tools) in [("javascript", "node_modules"), ("python", ".venv")] {
        for stage in ["postprocess", "policy"] {
            let name = format!("my-{language}-{stage}");
            let arguments = ["new", &name, "--lang", language, "--stage", stage];
            let (code, printed, errors) = plugin(folder.path(), &arguments);
            assert_eq!(code, 0, "{printed}{errors}");
            let project = folder.path().join(&name);
            let (code, _, errors) = plugin(&project, &["build"]);
            assert!(code == 1 && errors.contains("install it:") && errors.contains(tools), "{errors}");

            symlink(example(language).join(tools), project.join(tools)).expect("a link");
            let (code, printed, errors) = plugin(&project, &["test", "--random", "20"]);
            assert_eq!(code, 0, "{name}: {printed}{errors}");
            assert!(errors.contains("its own tests passed") && printed.contains(" cases passed"), "{printed}{errors}");
        }
        // What is asked for, a large component among it, is granted to a plugin that is no [[plugin]] table's.
        let name = format!("my-{language}-postprocess");
        let (code, printed, errors) =
            plugin(&folder.path().join(&name), &["run", ".", "--chat", "hi", "--answer", "a fudge"]);
        assert_eq!(code, 0, "{printed}{errors}");
        assert!(printed.contains("puts \"[…]\" in place of 5 bytes") && printed.contains(&name), "{printed}");
    }
}

/// The tools that a new plugin asks for are those that the examples are built and tested with.
#[test]
fn the_templates_pin_what_the_examples_pin() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let read = |path: &str| std::fs::read_to_string(root.join(path)).expect(path);
    assert_eq!(
        read("host/kit/templates/python/common/requirements.txt"),
        read("examples/plugins/python/requirements.txt")
    );
    let tools = |path: &str| {
        let lock: Value = serde_json::from_str(&read(path)).expect("JSON");
        let mut packages = lock["packages"].as_object().expect("packages").clone();
        let own = packages.remove("").expect("its own");
        (own["devDependencies"].clone(), packages)
    };
    let template = "host/kit/templates/javascript/common";
    assert_eq!(tools(&format!("{template}/package-lock.json")), tools("examples/plugins/javascript/package-lock.json"));
    let package: Value = serde_json::from_str(&read(&format!("{template}/package.json"))).expect("JSON");
    assert_eq!(package["devDependencies"], tools(&format!("{template}/package-lock.json")).0);
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
