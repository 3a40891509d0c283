//! The API against its own document and against OpenAI's, by tools that nobody here wrote: `tests/clients`.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use tempfile::TempDir;
use tests::host::{Host, Reply};
use tests::markov::Markov;

/// What `tests/clients/setup.sh` installs for this.
fn installed(program: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.cache/clients/contract");
    let is_whole = folder.join(".requirements").exists();
    assert!(is_whole, "{} is missing; run tests/clients/setup.sh, as tests/run.sh --full does", folder.display());
    folder.join("bin").join(program)
}

fn ours(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("clients").join(name)
}

/// A tiny model with a short context, so that no answer takes long; `pooling`: one that makes vectors.
fn serve(pooling: Option<u32>) -> (TempDir, Host) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("tiny.gguf");
    let model = Markov::default().context_length(256);
    let model = match pooling {
        Some(kind) => model.pooling(kind),
        None => model.chain(&["An", " answer", "."]),
    };
    model.write(&path).expect("a written model");
    let arguments: &[&str] = if pooling.is_some() { &[] } else { &["--max-concurrency=4"] };
    let host = Host::serve(&path, arguments);
    (folder, host)
}

/// Runs schemathesis, and says what it said.
fn schemathesis(folder: &TempDir, document: &str, url: &str, arguments: &[&str]) -> String {
    let output = Command::new(installed("schemathesis"))
        .arg("--config-file")
        .arg(ours("schemathesis.toml"))
        .args(["run", document, "--url", url, "--no-color"])
        .args(arguments)
        // Where it keeps what it found.
        .current_dir(folder.path())
        .env("SCHEMATHESIS_HOOKS", "hooks")
        .env("PYTHONPATH", ours(""))
        .env("NO_PROXY", "*")
        .output()
        .expect("schemathesis runs");
    let (printed, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{printed}{errors}");
    printed.into_owned()
}

/// Has requests name the model that is served: with made-up names none would get further than 404.
fn name_the_model(document: &mut Value) {
    match document {
        Value::Object(members) => {
            if let Some(model) = members.get_mut("model").filter(|model| model["description"].is_string()) {
                *model = json!({"type": "string", "enum": ["tiny"]});
            }
            members.values_mut().for_each(name_the_model);
        }
        Value::Array(items) => items.iter_mut().for_each(name_the_model),
        _ => {}
    }
}

fn url(host: &Host) -> String {
    format!("http://{}", host.address())
}

/// A validator that nobody here wrote.
#[test]
#[ignore = "third party: run by tests/run.sh --full"]
fn the_document_is_valid() {
    let (folder, host) = serve(None);
    let reply: Reply = host.get("/openapi.json");
    let path = folder.path().join("openapi.json");
    std::fs::write(&path, &reply.text).expect("a written document");
    let output = Command::new(installed("openapi-spec-validator")).arg(&path).output().expect("it runs");
    let (printed, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{printed}{errors}");
}

/// Whatever the document allows, and what it does not, is answered as it says, and never by a fault of ours.
#[test]
#[ignore = "third party: run by tests/run.sh --full"]
fn the_server_does_what_its_document_says() {
    for pooling in [None, Some(1)] {
        let (folder, host) = serve(pooling);
        let encodes = ["--include-path-regex", "embeddings|rerank|tokenize"];
        let arguments: &[&str] = if pooling.is_some() { &encodes } else { &[] };
        let mut document = host.get("/openapi.json").json();
        name_the_model(&mut document);
        let path = folder.path().join("openapi.json");
        std::fs::write(&path, document.to_string()).expect("a written document");
        schemathesis(&folder, &path.display().to_string(), &url(&host), arguments);
        assert_eq!(host.get("/readyz").status, 200, "{}", host.log());
    }
}

/// Requests as OpenAI's own specification has them are answered or refused in OpenAI's form.
#[test]
#[ignore = "third party: run by tests/run.sh --full"]
fn the_server_understands_openais_specification() {
    let (folder, host) = serve(None);
    let output = Command::new(installed("python"))
        .arg(ours("openai_specification.py"))
        .arg("tiny")
        .output()
        .expect("Python runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let path = folder.path().join("openai.json");
    std::fs::write(&path, output.stdout).expect("a written document");
    let arguments = ["--checks", "not_a_server_error,openai_form"];
    schemathesis(&folder, &path.display().to_string(), &format!("{}/v1", url(&host)), &arguments);
    assert_eq!(host.get("/readyz").status, 200, "{}", host.log());
}
