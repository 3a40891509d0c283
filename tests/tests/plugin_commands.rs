//! `outrigger plugin check` and `plugin list`: the loader's report for people and for programs.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use tests::host::command;

/// Exit code, standard output and standard error of `outrigger plugin …` in a folder.
fn plugin(folder: &Path, arguments: &[&str]) -> (i32, String, String) {
    let mut command = command();
    command.arg("plugin").args(arguments).current_dir(folder).env("XDG_CACHE_HOME", folder);
    let output = command.output().expect("the binary runs");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("text");
    (output.status.code().expect("it ended"), text(output.stdout), text(output.stderr))
}

const MANIFEST: &str = r#"
[plugin]
name = "misbehaving"
version = "0.1.0"
description = "Misbehaves when it is told to."
component = "mask.wasm"

[stages]
policy = 20
postprocess = 80

[[asks.headers]]
name = "x-behaviour"
reason = "to be told how to misbehave"

[[asks.modify]]
name = "messages"
required = false
reason = "to mask what users write"

[[asks.kv]]
store = "store"

[[asks.metrics]]
name = "counted"
kind = "counter"
"#;

#[test]
fn check_says_what_is_missing_and_what_to_write_and_then_it_loads() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path();
    fs::create_dir(path.join("mask")).expect("a folder");
    fs::write(path.join("mask/mask.wasm"), bundled::MISBEHAVING).expect("a component");
    fs::write(path.join("mask/plugin.toml"), MANIFEST).expect("a manifest");

    let (code, printed, errors) = plugin(path, &["check", "mask"]);
    assert_eq!(code, 1, "{printed}{errors}");
    assert!(printed.contains("MISSING    to see the header `x-behaviour`: to be told how to misbehave"), "{printed}");
    assert!(printed.contains("not granted to change a request's `messages`: to mask what users write"), "{printed}");
    assert!(errors.starts_with("error: plugin `mask` needs what it is not granted:\n"), "{errors}");

    // What it says is what is to be written, word for word.
    let (_, toml) = errors.split_once("these lines:\n\n").expect("lines to write");
    let toml = toml.replace("name = \"mask\"\n", "name = \"mask\"\nfrom = \"mask\"\n");
    fs::write(path.join("outrigger.toml"), toml).expect("a configuration");
    let (code, printed, errors) = plugin(path, &["check", "mask", "--config", "outrigger.toml"]);
    assert_eq!(code, 0, "{printed}{errors}");
    for line in
        ["  granted    to see the header `x-behaviour`", "  stages     policy at 20, postprocess at 80", "It loads."]
    {
        assert!(printed.contains(line), "no {line:?} in {printed}");
    }
    assert!(printed.contains("\n[plugin.grants]\nmodify = [\"messages\"]\n"), "what would grant the rest: {printed}");

    // By its path too, and for programs.
    let (code, printed, _) = plugin(path, &["check", "./mask", "--config", "outrigger.toml", "--json"]);
    let checked: Value = serde_json::from_str(&printed).expect("one JSON object");
    assert_eq!((code, &checked["loads"], &checked["error"]), (0, &json!(true), &Value::Null));
    let report = &checked["report"];
    assert_eq!(
        (&report["name"], &report["api"], &report["is_pinned"]),
        (&json!("mask"), &json!("0.1.0"), &json!(false))
    );
    assert_eq!(report["grants"][1]["state"], "granted", "{report}");
    assert!(report["trial"]["memory_bytes"].as_u64() > Some(0) && report["seconds"].as_f64() > Some(0.0), "{report}");
}

#[test]
fn check_tells_every_plugin_that_is_bundled_and_none_that_is_not_there() {
    let folder = tempfile::tempdir().expect("a folder");
    for name in ["chat-template", "redact"] {
        let (code, printed, errors) = plugin(folder.path(), &["check", name]);
        assert_eq!(code, 0, "{name}: {printed}{errors}");
        assert!(printed.contains("  manifest ") && printed.ends_with("It loads.\n"), "{printed}");
    }
    let (code, printed, errors) = plugin(folder.path(), &["check", "nothing.wasm"]);
    assert_eq!((code, printed.as_str()), (1, ""));
    assert!(errors.starts_with("error: cannot read the plugin `nothing.wasm`"), "{errors}");
    let (code, printed, _) = plugin(folder.path(), &["check", "nothing.wasm", "--json"]);
    let checked: Value = serde_json::from_str(&printed).expect("one JSON object");
    assert_eq!((code, &checked["loads"], &checked["report"]), (1, &json!(false), &Value::Null));
    let (code, ..) = plugin(folder.path(), &["check", "redact", "--config", "missing.toml"]);
    assert_eq!(code, 2);
}

#[test]
fn check_names_the_line_that_a_schema_objects_to() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = "[[plugin]]\nname = \"redact\"\n[plugin.config]\nrequest = true\nreplacement = 7\n";
    fs::write(folder.path().join("o.toml"), config).expect("a configuration");
    let (code, _, errors) = plugin(folder.path(), &["check", "redact", "--config", "o.toml"]);
    assert_eq!(
        (code, errors.as_str()),
        (
            1,
            "error: line 5: the configuration of plugin `redact` is not what the plugin takes: `config.replacement`: value is \
             not of type \"string\"\n"
        )
    );
}

#[test]
fn list_shows_what_would_be_loaded_and_what_there_is() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = "[[plugin]]\nname = \"redact\"\nstages = { postprocess = 5 }\n[[plugin]]\nname = \"gone\"\nfrom = \"gone.wasm\"\n";
    fs::write(folder.path().join("o.toml"), config).expect("a configuration");
    let (code, printed, errors) = plugin(folder.path(), &["list", "--config", "o.toml"]);
    assert_eq!(code, 0, "{errors}");
    assert!(printed.starts_with("redact 0.1.0  bundled\n  sha256 "), "{printed}");
    assert!(printed.contains("\n  stages postprocess at 5\n"), "{printed}");
    assert!(printed.contains("\ngone\n  would be refused: cannot read the plugin `gone.wasm`"), "{printed}");
    assert!(printed.contains("\nchat-template 0.1.0  bundled  (not configured)\n"), "{printed}");
    let (_, printed, _) = plugin(folder.path(), &["list", "--config", "o.toml", "--json"]);
    let rows: Vec<Value> = printed.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert_eq!(rows.len(), bundled_plugins() + 1);
    assert_eq!((&rows[0]["is_configured"], &rows[1]["report"]), (&json!(true), &Value::Null));
}

fn bundled_plugins() -> usize {
    let folder = tempfile::tempdir().expect("a folder");
    plugin(folder.path(), &["list", "--json"]).1.lines().count()
}
