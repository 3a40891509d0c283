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
    // Cut elsewhere it is right, which is why all ways are tried.
    let (code, again, _) = plugin(&project, &["test", "--no-build", "--case", "in any case", "--cuts", "2"]);
    assert_eq!(code, 0, "{again}");
}

#[test]
fn a_new_plugin_of_every_other_stage_passes() {
    let folder = tempfile::tempdir().expect("a folder");
    for stage in ["policy", "prompt", "parse", "audit"] {
        let name = format!("my-{stage}");
        let (code, _, errors) = plugin(folder.path(), &["new", &name, "--stage", stage]);
        assert_eq!(code, 0, "{errors}");
        let (code, printed, errors) = plugin(&folder.path().join(&name), &["test"]);
        assert_eq!(code, 0, "{stage}: {printed}{errors}");
        assert!(errors.contains("its own tests passed") && printed.contains(" cases passed"), "{printed}{errors}");
    }
    let (code, _, errors) = plugin(folder.path(), &["new", "a", "--stage", "preprocess"]);
    assert_eq!(code, 2);
    assert!(errors.contains("there are audit, parse, policy, postprocess, prompt"), "{errors}");
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
