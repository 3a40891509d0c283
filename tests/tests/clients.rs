//! Clients that nobody here wrote, unchanged, against the real model: `tests/clients`.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use tests::host::{ALIKE, Host, command, demo_model, embedding_model, run_python_of};

/// A part of what `tests/clients/setup.sh` installs.
fn installed(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.cache/clients").join(name);
    let is_whole = folder.join(".requirements").exists();
    assert!(is_whole, "{} is missing; run tests/clients/setup.sh, as tests/run.sh --full does", folder.display());
    folder.canonicalize().expect("a folder")
}

fn script(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("clients").join(path)
}

/// A host with a chat model that is told of tools, and one with a model that embeds.
fn hosts() -> [Host; 2] {
    let template = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/templates/qwen25.jinja");
    let folder = tempfile::tempdir().expect("a folder");
    let config = folder.path().join("outrigger.toml");
    let template = Value::from(std::fs::read_to_string(template).expect("a template"));
    let text = format!("[[plugin]]\nname = \"chat-template\"\nconfig = {{ template = {template} }}\n");
    std::fs::write(&config, text).expect("a configuration");
    let chat = Host::serve(&demo_model(), &["--config", &config.display().to_string(), ALIKE]);
    [chat, Host::serve(&embedding_model(), &[])]
}

/// Runs a script with the addresses of both hosts and the name of the chat model.
fn run(mut program: Command, script: &Path) {
    let [chat, embeddings] = hosts();
    let base = |host: &Host| format!("http://{}/v1", host.address());
    let model = chat.get("/v1/models").json()["data"][0]["id"].as_str().expect("a name").to_owned();
    let output = program
        .arg(script)
        .args([base(&chat), base(&embeddings), model])
        .env_remove("OPENAI_API_KEY")
        .env("NO_PROXY", "*")
        .output()
        .expect("the script runs");
    let (printed, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{}: {printed}{errors}\n{}", script.display(), chat.log());
}

/// A script by the Python that has the packages of `tests/clients/ENVIRONMENT.txt`.
fn python(environment: &str, name: &str) {
    run(Command::new(installed(environment).join("bin/python")), &script("python").join(name));
}

/// Node looks for modules from where a script lies.
fn node(name: &str) {
    let folder = tempfile::tempdir().expect("a folder");
    let copied = folder.path().join(name);
    std::fs::copy(script("node").join(name), &copied).expect("a copy");
    symlink(installed("node").join("node_modules"), folder.path().join("node_modules")).expect("a link");
    run(Command::new("node"), &copied);
}

#[test]
#[ignore = "third party: run by tests/run.sh --full"]
fn litellm() {
    python("openai-2", "litellm_client.py");
}

#[test]
#[ignore = "third party: run by tests/run.sh --full"]
fn langchain_openai() {
    python("langchain", "langchain_client.py");
}

#[test]
#[ignore = "third party: run by tests/run.sh --full"]
fn instructor() {
    python("openai-2", "instructor_client.py");
}

#[test]
#[ignore = "third party: run by tests/run.sh --full"]
fn pydantic_ai() {
    python("pydantic-ai", "pydantic_ai_client.py");
}

#[test]
#[ignore = "third party: run by tests/run.sh --full"]
fn the_official_client_for_javascript() {
    node("openai.mjs");
}

#[test]
#[ignore = "third party: run by tests/run.sh --full"]
fn vercel_ai() {
    node("ai.mjs");
}

#[test]
#[ignore = "third party: run by tests/run.sh --full"]
fn parsers_of_server_sent_events() {
    python("openai-2", "sse.py");
    node("sse.mjs");
}

/// What `openai_client.rs` has of the newest version.
#[test]
#[ignore = "third party: run by tests/run.sh --full"]
fn the_official_client_of_another_major_version() {
    let python = installed("openai-2").join("bin/python");
    let plain = Host::serve(&demo_model(), &["--plugin=redact", ALIKE]);
    run_python_of(&python, "openai_client.py", &plain);
    run_python_of(&python, "openai_responses.py", &plain);
    let [chat, embeddings] = hosts();
    run_python_of(&python, "openai_tools.py", &chat);
    run_python_of(&python, "openai_responses_tools.py", &chat);
    run_python_of(&python, "openai_embeddings.py", &embeddings);
    let version =
        Command::new(&python).args(["-c", "import openai; print(openai.VERSION)"]).output().expect("Python runs");
    let newest = Command::new(tests::host::python()).args(["-c", "import openai; print(openai.VERSION)"]).output();
    let major = |printed: &[u8]| String::from_utf8_lossy(printed).split('.').next().map(str::to_owned);
    assert_ne!(major(&version.stdout), major(&newest.expect("Python runs").stdout), "two majors");
}

#[test]
fn the_document_is_printed() {
    let output = command().arg("openapi").output().expect("the binary runs");
    assert!(output.status.success());
    let document: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(document["openapi"], "3.1.0");
    assert!(document["paths"]["/v1/chat/completions"]["post"].is_object());
}
