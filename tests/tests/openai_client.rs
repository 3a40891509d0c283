//! The official `openai` Python client against the real model.

use std::process::Command;

use tests::host::{Host, demo_model, python};

#[test]
fn the_official_client_streams_and_does_not_stream() {
    let host = Host::serve(&demo_model(), &["--plugin=redact"]);
    let output = Command::new(python())
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/python/openai_client.py"))
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
