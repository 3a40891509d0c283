//! The author's path: `outrigger plugin new`, `test` and `dev`, and the cases of the bundled plugins.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use tests::host::{Host, command, demo_model};

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().expect("the repository")
}

/// `outrigger plugin …` in a folder; what new plugins are made of is compiled once, where the bundled ones are.
fn command_in(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = command();
    command.arg("plugin").args(arguments).current_dir(folder);
    command.env("CARGO_TARGET_DIR", repository().join("plugins/target"));
    command
}

/// Exit code, standard output and standard error.
fn plugin(folder: &Path, arguments: &[&str]) -> (i32, String, String) {
    let output = command_in(folder, arguments).output().expect("the binary runs");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
    (output.status.code().expect("it ended"), text(output.stdout), text(output.stderr))
}

fn edit(file: &Path, from: &str, to: &str) {
    let text = fs::read_to_string(file).expect("a file");
    assert!(text.contains(from), "{} has no {from:?}", file.display());
    fs::write(file, text.replacen(from, to, 1)).expect("written");
}

#[test]
fn the_bundled_plugins_pass_their_cases() {
    let root = repository();
    for name in ["chat-template", "json-guard", "prompt-policy", "redact", "stop-words"] {
        let cases = format!("plugins/{name}/tests");
        let (code, printed, errors) = plugin(&root, &["test", name, "--cases", &cases, "--json"]);
        assert_eq!(code, 0, "{name}: {printed}{errors}");
        let outcomes: Vec<Value> = printed.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
        assert!(outcomes.len() >= 3, "{name}: {printed}");
        for outcome in &outcomes {
            assert_eq!(outcome["case"]["warnings"], json!([]), "{name}: {outcome}");
        }
        // Figures are the same on every machine, and so from run to run.
        assert_eq!(plugin(&root, &["test", name, "--cases", &cases, "--json"]).1, printed);
    }
}

#[test]
fn a_new_plugin_passes_and_one_that_minds_the_pieces_does_not() {
    let folder = tempfile::tempdir().expect("a folder");
    let (code, printed, errors) = plugin(folder.path(), &["new", "my-filter"]);
    assert_eq!(code, 0, "{printed}{errors}");
    assert!(printed.contains("  cd my-filter\n  outrigger plugin test\n"), "{printed}");
    let (code, _, errors) = plugin(folder.path(), &["new", "my-filter"]);
    assert!(code == 1 && errors.contains("my-filter is there already, and nothing is written over"), "{errors}");

    let project = folder.path().join("my-filter");
    let (code, printed, errors) = plugin(&project, &["test"]);
    assert_eq!(code, 0, "{printed}{errors}");
    assert!(errors.contains("its own tests passed"), "{errors}");
    assert!(printed.contains("4 cases passed; their answers were cut in "), "{printed}");

    // The mistake that everybody makes first: to look for a word in a piece.
    edit(
        &project.join("src/lib.rs"),
        "Ok(self.window.replace(chunk, |_word, _which| {\n            *masked += 1;\n            \"[…]\".to_owned()\n        }))",
        "let text = chunk.window.replace(\"FUDGE\", \"[…]\").replace(\"the fudge\", \"the […]\");\n        \
         *masked = 2;\n        Ok(Output::instead_of_first(chunk.window.len(), text))",
    );
    let (code, _, errors) = plugin(&project, &["build"]);
    assert_eq!(code, 0, "{errors}");
    let (code, printed, _) = plugin(&project, &["test", "--no-build", "--case", "in any case"]);
    assert_eq!(code, 1, "{printed}");
    assert!(printed.contains("another answer when it comes as ["), "{printed}");
    assert!(printed.contains("output differs\n           "), "{printed}");
    let (_, repeat) = printed.split_once("--cuts ").expect("how to repeat it");
    let cuts = repeat.split('.').next().expect("the cuts");
    let (code, again, _) =
        plugin(&project, &["test", "--no-build", "--case", "in any case", "--cuts", cuts, "--seed", "9"]);
    assert!(code == 1 && again.contains("another answer"), "{again}");
    let (code, again, _) = plugin(&project, &["test", "--no-build", "--case", "in any case", "--cuts", "9,5,9"]);
    assert!(code == 0 || code == 1, "cuts may come in any order: {again}");
    // Cut elsewhere it is right, which is why all ways are tried.
    let (code, again, _) = plugin(&project, &["test", "--no-build", "--case", "in any case", "--cuts", "2"]);
    assert_eq!(code, 0, "{again}");

    // Nor may what is held back be lost where the answer ends.
    edit(
        &project.join("src/lib.rs"),
        "let text = chunk.window",
        "if chunk.last && chunk.window.len() == 3 { return Ok(Output::instead_of_first(3, \"\")); }\n        \
         if !chunk.last { return Ok(Output::pass_first(chunk.window.len().saturating_sub(3))); }\n        \
         let text = chunk.window",
    );
    let (code, _, errors) = plugin(&project, &["build"]);
    assert_eq!(code, 0, "{errors}");
    let (_, printed, _) = plugin(&project, &["test", "--no-build", "--case", "comes out where"]);
    assert!(printed.contains("FAILED") && printed.contains("expected \"I like fud\""), "{printed}");
    let (code, _, errors) = plugin(&project, &["test", "--no-build", "--cases", "no-such-folder"]);
    assert!(code == 1 && errors.contains("no-such-folder has no cases"), "{errors}");
}

/// The names are those of things that the SDK and the language have too.
#[test]
fn a_new_plugin_of_every_other_stage_passes() {
    let folder = tempfile::tempdir().expect("a folder");
    let stages = [
        ("policy", "policy"),
        ("prompt", "prompt"),
        ("parse", "output"),
        ("audit", "string"),
        ("token-control", "config"),
    ];
    for (stage, name) in stages {
        let (code, _, errors) = plugin(folder.path(), &["new", name, "--stage", stage]);
        assert_eq!(code, 0, "{errors}");
        let (code, printed, errors) = plugin(&folder.path().join(name), &["test"]);
        assert_eq!(code, 0, "{stage}: {printed}{errors}");
        assert!(errors.contains("its own tests passed") && printed.contains(" cases passed"), "{printed}{errors}");
    }
    let (code, _, errors) = plugin(folder.path(), &["new", "a", "--stage", "preprocess"]);
    assert_eq!(code, 2);
    assert!(errors.contains("there are audit, parse, policy, postprocess, prompt, token-control"), "{errors}");

    // The last of them has a say in what a real model writes, and its steps are shown and measured.
    let project = folder.path().join("config");
    let model = format!("file:{}", demo_model().display());
    let (code, printed, errors) =
        plugin(&project, &["run", ".", "--chat", "Say hello.", "--model", &model, "--max-tokens", "12"]);
    assert_eq!(code, 0, "{printed}{errors}");
    for line in
        ["    config: force \"Well. \"\n", "    config: free from here on\n", "  model        \"Well", "  finish     "]
    {
        assert!(printed.contains(line), "no {line:?} in {printed}");
    }
    let (code, printed, errors) = plugin(&project, &["bench", ".", "--seconds", "1", "--json"]);
    assert_eq!(code, 0, "{printed}{errors}");
    let costs: Value = serde_json::from_str(&printed).expect("JSON");
    let named = |what: &str| costs["figures"].as_array().is_some_and(|all| all.iter().any(|it| it["what"] == what));
    assert!(named("open a controller") && named("a step of a controller"), "{printed}");
}

/// What the guide shows is what `plugin new` writes.
#[test]
fn the_guide_begins_with_the_template() {
    let folder = tempfile::tempdir().expect("a folder");
    let (code, _, errors) = plugin(folder.path(), &["new", "word-filter"]);
    assert_eq!(code, 0, "{errors}");
    let written = fs::read_to_string(folder.path().join("word-filter/src/lib.rs")).expect("a file");
    let guide = fs::read_to_string(repository().join("plugins/README.md")).expect("the guide");
    let (_, block) = guide.split_once("   ```rust\n").expect("a block");
    let (block, _) = block.split_once("   ```\n").expect("its end");
    let block: String = block.lines().map(|line| line.strip_prefix("   ").unwrap_or(line).to_owned() + "\n").collect();
    assert_eq!(block, written, "copy it into plugins/README.md, indented by three spaces");
}

/// `examples/plugins/rust`, whose tests ask the component.
#[test]
fn the_example_in_rust_passes_all_of_its_tests() {
    let (code, printed, errors) = plugin(&repository(), &["test", "examples/plugins/rust"]);
    assert_eq!(code, 0, "{printed}{errors}");
    assert!(errors.contains("its own tests passed") && printed.contains("3 cases passed"), "{printed}{errors}");
}

/// An `outrigger plugin dev` beside a host. Dropping it ends it.
struct Dev(std::process::Child);

impl Drop for Dev {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_running_host_is_told_of_every_version_that_works() {
    let folder = tempfile::tempdir().expect("a folder");
    let project = folder.path().join("mask");
    fs::create_dir(&project).expect("a folder");
    let manifest = "[plugin]\nname = \"mask\"\nversion = \"1\"\ndescription = \"Masks.\"\n[stages]\npostprocess = 1\n\
                    [build]\ncommand = \"cp source plugin.wasm\"\ncomponent = \"plugin.wasm\"\n";
    fs::write(project.join("plugin.toml"), manifest).expect("written");
    for file in ["source", "plugin.wasm"] {
        fs::write(project.join(file), bundled::MISBEHAVING).expect("written");
    }
    let config = folder.path().join("outrigger.toml");
    let table =
        format!("[[plugin]]\nname = \"mask\"\nfrom = '{}'\nconfig = {{ mask = \"tick\" }}\n", project.display());
    fs::write(&config, table).expect("written");
    let model = folder.path().join("tiny.gguf");
    tests::markov::Markov::default().endless(&["tick ", "tock "]).write(&model).expect("a written model");
    let host = Host::serve(&model, &["--config", &config.display().to_string()]);
    let digest = || host.get("/admin/plugins").json()["plugins"][1]["sha256"].as_str().map(str::to_owned);
    let before = digest().expect("a digest");

    let said = folder.path().join("said");
    let log = fs::File::create(&said).expect("a file");
    let told = |what: &str| fs::read_to_string(&said).expect("text").contains(what);
    let address = format!("http://{}", host.address());
    let dev = command_in(&project, &["dev", ".", "--host", &address]).stderr(log).spawn().expect("it starts");
    let _dev = Dev(dev);
    host.wait_until("it was told", |_| told("runs it: generation "));
    assert_eq!(digest(), Some(before.clone()), "the same bytes");

    // A section that means nothing makes it another component.
    let other = [bundled::MISBEHAVING, &[0, 3, 1, b'a', 0]].concat();
    fs::write(project.join("source"), b"no component").expect("written");
    host.wait_until("it is refused", |_| told("not taken over: "));
    assert_eq!(digest(), Some(before.clone()));
    fs::write(project.join("source"), other).expect("written");
    host.wait_until("the host has the other one", |_| digest().is_some_and(|digest| digest != before));
    let message = json!([{"role": "user", "content": "go"}]);
    let answer = host.chat(&json!({"model": "tiny", "messages": message, "max_tokens": 4})).content();
    assert!(answer.contains("[masked]"), "{answer}");
}

/// The component's size is what a manifest asks for first.
#[test]
fn a_component_that_is_larger_than_usual_is_run_if_its_manifest_asks_for_it() {
    let parent = tempfile::tempdir().expect("a folder");
    let folder = parent.path().join("large");
    fs::create_dir(&folder).expect("a folder");
    let (bytes, size) = (17 << 20, 4);
    // A custom section: its length in LEB128, then a name of one letter.
    let length = bytes - 1 - size - bundled::MISBEHAVING.len();
    let length_of = |place: usize| {
        u8::try_from(length >> (7 * place) & 0x7f).expect("seven bits") | if place < 3 { 0x80 } else { 0 }
    };
    let section: Vec<u8> = [0].into_iter().chain((0..4).map(length_of)).chain([1, b'a']).collect();
    let mut component = [bundled::MISBEHAVING, &section].concat();
    component.resize(bytes, 0);
    fs::write(folder.join("large.wasm"), component).expect("written");
    let manifest = "[plugin]\nname = \"large\"\nversion = \"1\"\ndescription = \"Is large.\"\ncomponent = \"large.wasm\"\n\
                    [stages]\npostprocess = 1\n";
    fs::write(folder.join("plugin.toml"), manifest).expect("written");
    let run = || {
        plugin(
            &folder,
            &["run", ".", "--chat", "hi", "--answer", "a secret", "--plugin-config", r#"{"mask": "secret"}"#],
        )
    };
    let (code, _, errors) = run();
    assert!(code == 1 && errors.contains("has 17825792 bytes and its limit is 16777216"), "{errors}");
    let asks = "[asks.limits]\ncomponent_bytes = { least = 18000000, reason = \"to be large\" }\n";
    fs::write(folder.join("plugin.toml"), format!("{manifest}{asks}")).expect("written");
    let (code, printed, errors) = run();
    assert!(code == 0 && printed.contains("[masked]") && printed.contains("large: "), "{printed}{errors}");
    let (code, _, errors) = plugin(&folder, &["check", "."]);
    assert!(
        code == 1 && errors.contains("raise its limit `component_bytes` (its manifest asks for 18000000)"),
        "{errors}"
    );
}

#[test]
fn every_stage_of_one_request_is_shown() {
    let folder = tempfile::tempdir().expect("a folder");
    let arguments = ["run", "redact", "--chat", "hi", "--answer", "Ask joe@example.org now", "--plugin-config"];
    let (code, printed, errors) = plugin(folder.path(), &[&arguments[..], &[r#"{"request": true}"#]].concat());
    assert_eq!(code, 0, "{errors}");
    for line in [
        "policy redact\n  accept\n",
        "  template \"<|im_start|>user\\nhi<|im_end|>",
        "  model        \"joe@example.org \"\n",
        "holds back",
        "\"[email]",
        "  note       redact.email = \"1\"\n",
        "  finish     stop\n",
    ] {
        assert!(printed.contains(line), "no {line:?} in {printed}");
    }
    let rejected = r#"{"deny": [{"pattern": "hi", "message": "Not \u001b[2J that."}]}"#;
    let (code, printed, errors) =
        plugin(folder.path(), &["run", "prompt-policy", "--chat", "hi", "--plugin-config", rejected]);
    assert_eq!(code, 1, "{printed}{errors}");
    assert!(printed.contains("policy prompt-policy\n  reject"), "{printed}");
    assert!(!printed.contains('\u{1b}') && !errors.contains('\u{1b}'), "what guests say does not steer a terminal");
}

#[test]
fn a_bench_has_a_figure_for_every_gate() {
    let (code, printed, errors) = plugin(&repository(), &["bench", "stop-words", "--seconds", "1", "--json"]);
    assert_eq!(code, 0, "{errors}");
    let costs: Value = serde_json::from_str(&printed).expect("JSON");
    let figures = costs["figures"].as_array().expect("figures");
    let gates: Vec<_> = figures.iter().map(|figure| figure["gate"].as_f64()).collect();
    assert_eq!(gates, [Some(25.0), Some(200.0), Some(1.0), None]);
    assert!(figures.iter().all(|figure| figure["median"].as_f64() <= figure["p99"].as_f64()), "{printed}");
}

/// "With the change seen in a running chat without a restart."
#[test]
fn a_change_in_the_sources_is_seen_in_a_running_chat() {
    let folder = tempfile::tempdir().expect("a folder");
    let (code, _, errors) = plugin(folder.path(), &["new", "my-filter"]);
    assert_eq!(code, 0, "{errors}");
    let project = folder.path().join("my-filter");
    let (code, _, errors) = plugin(&project, &["build"]);
    assert_eq!(code, 0, "{errors}");

    let model = format!("--model=file:{}", demo_model().display());
    let host = Host::start(command_in(&project, &["dev", ".", &model]));
    host.wait_until("it is ready", |host| host.get("/readyz").status == 200);
    let pid = host.pid();
    let ask = || {
        let message = json!([{"role": "user", "content": "Say hello."}]);
        host.chat(&json!({"model": "dev", "messages": message, "temperature": 0, "max_tokens": 8})).content()
    };
    let before = ask();
    assert!(!before.is_empty() && !before.contains('#'), "{before}");

    // What does not compile changes nothing, and says why.
    let source = project.join("src/lib.rs");
    edit(&source, "*masked += 1;", "*masked += one;");
    host.wait_until("the error is told", |host| host.log().contains("not taken over: `cargo build` failed"));
    assert!(host.log().contains("cannot find value `one`"), "{}", host.log());
    assert_eq!(ask(), before);
    // Nor does what fails its cases.
    edit(&source, "*masked += one;", "*masked += 1;");
    edit(&source, "\"[…]\".to_owned()", "\"[...]\".to_owned()");
    host.wait_until("the failure is told", |host| host.log().contains("not taken over: 2 of the cases failed"));
    assert_eq!(ask(), before);

    fs::remove_file(project.join("tests/words.toml")).expect("removed");
    edit(
        &source,
        "Ok(self.window.replace(chunk,",
        "let hashes = \"#\".repeat(chunk.window.chars().count());\n        \
         if !hashes.is_empty() { return Ok(Output::instead_of_first(chunk.window.len(), hashes)); }\n        \
         Ok(self.window.replace(chunk,",
    );
    host.wait_until("the change is seen", |_| ask() == "#".repeat(before.chars().count()));
    assert_eq!(host.get("/admin/plugins").json()["plugins"][1]["name"], "my-filter");
    assert_eq!(host.pid(), pid);
}
