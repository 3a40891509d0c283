//! Start, drain and end.

use std::path::PathBuf;

use serde_json::{Value, json};
use tempfile::TempDir;
use tests::host::Host;
use tests::markov::Markov;

fn endless() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("tiny.gguf");
    Markov::default().context_length(8192).endless(&["tick ", "tock "]).write(&path).expect("a written model");
    (folder, path)
}

fn request(max_tokens: u32) -> Value {
    json!({"model": "tiny", "messages": [{"role": "user", "content": "go"}], "max_tokens": max_tokens})
}

#[test]
fn probes_answer_in_their_names() {
    let (_folder, path) = endless();
    let host = Host::serve(&path, &[]);
    for probe in ["/livez", "/readyz", "/health", "/v1/ready"] {
        assert_eq!(host.get(probe).status, 200, "{probe}");
    }
    let models = host.get("/v1/models").json();
    assert_eq!(models["object"], "list");
    assert_eq!(models["data"][0]["id"], "tiny");
    let listen = host.address().to_string();
    for probe in ["livez", "readyz"] {
        let status = tests::host::command().args(["probe", probe, "--listen", &listen]).status().expect("a probe");
        assert!(status.success(), "{probe}");
    }
}

#[test]
fn sigterm_lets_a_running_answer_finish() {
    let (_folder, path) = endless();
    let mut host = Host::serve(&path, &[]);
    let mut stream = host.stream(&request(3_000));
    assert_eq!(stream.status, 200);
    stream.next_data().expect("the stream begins");
    host.signal(libc::SIGTERM);
    let (content, lines) = stream.finish();
    assert_eq!(lines.last().map(String::as_str), Some("[DONE]"), "cut off after {} bytes", content.len());
    assert_eq!(host.wait().code(), Some(0));
}

#[test]
fn a_second_signal_ends_at_once() {
    let (_folder, path) = endless();
    let mut host = Host::serve(&path, &["--drain-seconds=600"]);
    let mut slow = request(8_000);
    slow["stream"] = true.into();
    let mut stream = host.stream(&slow);
    stream.next_data().expect("the stream begins");
    host.signal(libc::SIGTERM);
    host.wait_until("it drains", |host| host.log().contains("drain"));
    host.signal(libc::SIGTERM);
    assert!(!host.wait().success(), "an answer was cut off, and the exit code says so");
}

#[test]
fn an_idle_host_ends_at_once() {
    let (_folder, path) = endless();
    let mut host = Host::serve(&path, &[]);
    host.signal(libc::SIGINT);
    assert_eq!(host.wait().code(), Some(0));
}
