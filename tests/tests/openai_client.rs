//! The official `openai` Python client against the real model.

use std::process::Command;

use tests::host::{Host, demo_model, python};

#[test]
fn the_official_client_streams_and_does_not_stream() {
    run("openai_client.py", &["--plugin=redact"]);
}

#[test]
fn the_official_client_gets_several_answers_and_log_probabilities() {
    run("openai_choices.py", &["--max-concurrency=2"]);
}

/// Runs a script of `tests/python` against a host with these arguments.
fn run(script: &str, arguments: &[&str]) {
    let host = Host::serve(&demo_model(), arguments);
    let output = Command::new(python())
        .arg(format!("{}/python/{script}", env!("CARGO_MANIFEST_DIR")))
        .arg(format!("http://{}/v1", host.address()))
        .output()
        .expect("Python runs");
    assert!(
        output.status.success(),
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}
