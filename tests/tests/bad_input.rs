//! Bad input gets a clear error, and nothing is lost by it.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;
use tests::host::{Host, PATIENCE, command, demo_model};
use tests::markov::Markov;

fn tiny() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("tiny.gguf");
    Markov::default().context_length(256).endless(&["tick ", "tock "]).write(&path).expect("a written model");
    (folder, path)
}

/// Runs `outrigger serve` to its end; its exit code and what it printed.
fn serve(arguments: &[&str]) -> (Option<i32>, String) {
    let mut child = command()
        .arg("serve")
        .args(["--listen=127.0.0.1:0", "--log=warn"])
        .args(arguments)
        .stderr(std::process::Stdio::piped())
        .spawn()
        .expect("the binary starts");
    let deadline = Instant::now() + PATIENCE;
    let status = loop {
        if let Some(status) = child.try_wait().expect("our child") {
            break status;
        }
        if Instant::now() > deadline {
            child.kill().expect("our child");
            panic!("{arguments:?} still runs");
        }
        std::thread::sleep(Duration::from_millis(10));
    };
    let mut printed = String::new();
    child.stderr.take().expect("a pipe").read_to_string(&mut printed).expect("text");
    (status.code(), printed)
}

fn check_refused(arguments: &[&str], code: i32, wanted: &[&str]) {
    let (found, printed) = serve(arguments);
    assert_eq!(found, Some(code), "{arguments:?}: {printed}");
    for part in wanted {
        assert!(printed.contains(part), "{arguments:?} does not say `{part}`:\n{printed}");
    }
    assert!(!printed.contains("panicked"), "{printed}");
}

fn file(folder: &TempDir, name: &str, bytes: &[u8]) -> String {
    let path = folder.path().join(name);
    std::fs::write(&path, bytes).expect("a written file");
    path.display().to_string()
}

#[test]
fn files_that_are_no_model() {
    let folder = tempfile::tempdir().expect("a folder");
    let zip = file(&folder, "a.gguf", b"PK\x03\x04 something else entirely");
    check_refused(&[&format!("--model=file:{zip}")], 1, &[&zip, "not a GGUF file"]);
    let empty = file(&folder, "b.gguf", b"");
    check_refused(&[&format!("--model=file:{empty}")], 1, &[&empty, "not a GGUF file"]);
    check_refused(&["--model=file:/nowhere/m.gguf"], 1, &["/nowhere/m.gguf", "No such file"]);
    check_refused(&[&format!("--model=file:{}", folder.path().display())], 1, &["directory"]);
    check_refused(&["--model=m.gguf"], 2, &["write file:m.gguf"]);
    check_refused(&[], 2, &["no model is named"]);
}

#[test]
fn a_model_cut_short_at_any_point() {
    let whole = std::fs::read(demo_model()).expect("the demo model");
    let folder = tempfile::tempdir().expect("a folder");
    for keep in [10, 1_000, 1_000_000, whole.len() / 2, whole.len() - 1] {
        let cut = file(&folder, "cut.gguf", &whole[..keep]);
        check_refused(&[&format!("--model=file:{cut}")], 1, &[&cut, "cut short", "fetch it again"]);
    }
}

/// A header that is right in form and wrong in content reaches llama.cpp, which must refuse it too.
#[test]
fn a_model_with_nonsense_inside() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut bytes = Markov::default().to_bytes();
    let place = bytes.windows(5).position(|window| window == b"llama").expect("the architecture");
    bytes[place..place + 5].copy_from_slice(b"lemma");
    let odd = file(&folder, "odd.gguf", &bytes);
    check_refused(&[&format!("--model=file:{odd}")], 1, &[&odd]);
}

#[test]
fn a_port_in_use() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("its address").to_string();
    let (_folder, path) = tiny();
    let listen = format!("--listen={address}");
    let model = format!("--model=file:{}", path.display());
    let output = command().args(["serve", &model, &listen]).output().expect("the binary runs");
    let printed = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "{printed}");
    assert!(printed.contains(&address) && printed.contains("in use"), "{printed}");
}

#[test]
fn configuration_that_means_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let (_model_folder, path) = tiny();
    let model = format!("--model=file:{}", path.display());
    let config = |text: &str| format!("--config={}", file(&folder, "outrigger.toml", text.as_bytes()));
    check_refused(
        &[&model, &config("max_concurency = 2")],
        2,
        &["outrigger.toml", "max_concurency", "max_concurrency"],
    );
    check_refused(&[&model, &config("max_concurrency = 0")], 2, &["`max_concurrency` is 0"]);
    check_refused(&[&model, "--config=/nowhere.toml"], 2, &["/nowhere.toml"]);
    check_refused(&[&model, &config("max_concurrency = \"many\"")], 2, &["max_concurrency", "invalid type"]);
    check_refused(&[&model, "--max-concurency=2"], 2, &["--max-concurrency"]);
}

#[test]
fn contexts_that_the_model_or_the_memory_does_not_hold() {
    let model = format!("--model=file:{}", demo_model().display());
    check_refused(&[&model, "--cpus=3-1"], 2, &["`3-1` is no list of processors", "0-3,8"]);
    check_refused(&[&model, "--cpus=1000"], 1, &["processors 1000", "may run on"]);
    check_refused(&[&model, "--context-length=100000"], 1, &["100000", "trained for 8192"]);
    // A small model that claims to know contexts of four thousand million tokens: 2 TB.
    let folder = tempfile::tempdir().expect("a folder");
    let vast = file(&folder, "vast.gguf", &Markov::default().context_length(4_000_000_000).to_bytes());
    let vast = format!("--model=file:{vast}");
    check_refused(&[&vast, "--context-length=4000000000"], 1, &["KV cache", "GB", "`context_length`"]);
}

#[test]
fn components_that_are_none() {
    let folder = tempfile::tempdir().expect("a folder");
    let (_model_folder, path) = tiny();
    let model = format!("--model=file:{}", path.display());
    let plugin = |name: &str, bytes: &[u8]| format!("--plugin={}", file(&folder, name, bytes));
    check_refused(&[&model, &plugin("text.wasm", b"hello")], 1, &["`text`", "component"]);
    check_refused(&[&model, &plugin("core.wasm", b"\0asm\x01\0\0\0")], 1, &["`core`", "component"]);
    // An empty component: valid, and without any of the exports.
    check_refused(&[&model, &plugin("empty.wasm", b"\0asm\x0d\0\x01\0")], 1, &["`empty`", "lifecycle"]);
    check_refused(&[&model, "--plugin=/nowhere/x.wasm"], 1, &["/nowhere/x.wasm"]);
    check_refused(&[&model, "--plugin=redakt"], 1, &["redakt", "redact"]);
}

fn check_answer(host: &Host, body: &Value, status: u16, wanted: &[&str]) {
    let reply = host.chat(body);
    assert_eq!(reply.status, status, "{body}: {}", reply.text);
    let message = reply.error();
    for part in wanted {
        assert!(message.contains(part), "{body} does not say `{part}`: {message}");
    }
}

#[test]
fn requests_that_cannot_be_meant() {
    let (_folder, path) = tiny();
    let host = Host::serve(&path, &[]);
    let user = json!([{"role": "user", "content": "hi"}]);
    check_answer(&host, &json!({"model": "tiny", "messages": []}), 400, &["messages"]);
    check_answer(&host, &json!({"model": "tiny", "messages": "hi"}), 400, &["messages"]);
    check_answer(
        &host,
        &json!({"model": "tiny", "messages": [{"role": "king", "content": "hi"}]}),
        400,
        &["king", "user"],
    );
    check_answer(&host, &json!({"model": "tiny", "messages": user, "temperature": "hot"}), 400, &["temperature"]);
    check_answer(&host, &json!({"model": "tiny", "messages": user, "temperature": 9}), 400, &["temperature", "2"]);
    check_answer(&host, &json!({"model": "tiny", "messages": user, "max_tokens": 0}), 400, &["max_tokens"]);
    check_answer(
        &host,
        &json!({"model": "tiny", "messages": user, "logit_bias": {"70000": 1}}),
        400,
        &["logit_bias", "70000"],
    );
    check_answer(&host, &json!({"model": "tiny", "messages": user, "tmeperature": 1}), 400, &["tmeperature"]);
    check_answer(&host, &json!({"model": "other", "messages": user}), 404, &["other", "tiny"]);

    // What makes no sense in any number.
    let asking = |members: &str| {
        let text = format!(r#"{{"model":"tiny","messages":[{{"role":"user","content":"hi"}}],{members}}}"#);
        let reply = host.post_text("/v1/chat/completions", &text);
        assert_eq!(reply.status, 400, "{members:.60}: {}", reply.text);
        reply.error()
    };
    for (members, wanted) in [
        (r#""n":1000000"#.to_owned(), "`n` must be an integer from 1 to 16"),
        (r#""n":-1"#.to_owned(), "`n`"),
        (r#""temperature":-0.5"#.to_owned(), "`temperature`"),
        (r#""temperature":1e999"#.to_owned(), "`temperature`"),
        (r#""temperature":NaN"#.to_owned(), "JSON"),
        (r#""top_p":1.0001"#.to_owned(), "`top_p`"),
        (r#""max_tokens":1e30"#.to_owned(), "`max_tokens`"),
        (r#""seed":1.5"#.to_owned(), "`seed`"),
        (r#""logit_bias":{"1":1e6}"#.to_owned(), "`logit_bias.1`"),
        (r#""logit_bias":{"-1":1}"#.to_owned(), "`logit_bias"),
        (format!(r#""stop":[{}"x"]"#, r#""x","#.repeat(100_000)), "`stop`"),
        (format!(r#""stop":"{}""#, "x".repeat(100_000)), "`stop`"),
        (format!(r#""stop_token_ids":[{}1]"#, "1,".repeat(100_000)), "`stop_token_ids`"),
        (format!(r#""chat_template_kwargs":{}1{}"#, r#"{"a":"#.repeat(60_000), "}".repeat(60_000)), "deep"),
    ] {
        let error = asking(&members);
        assert!(error.contains(wanted), "{members:.60}: {error:.300}");
    }

    // Longer than the context: both numbers, and a way out.
    let long = json!({"model": "tiny", "messages": [{"role": "user", "content": "0123456789".repeat(100)}]});
    check_answer(&host, &long, 400, &["1020 tokens", "256"]);

    let mut socket = host.connect();
    let body = "{\"model\": \"tiny\", ";
    write!(
        socket,
        "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
    .expect("a sent request");
    let mut reply = String::new();
    socket.read_to_string(&mut reply).expect("a reply");
    assert!(reply.starts_with("HTTP/1.1 400 ") && reply.contains("JSON"), "{reply}");

    assert_eq!(host.chat(&json!({"model": "tiny", "messages": user, "max_tokens": 2})).content(), "tick tock ");
}

#[test]
fn a_client_that_leaves_frees_its_place() {
    let (_folder, path) = tiny_with_room();
    let host = Host::serve(&path, &[]);
    let body = json!({"model": "tiny", "messages": [{"role": "user", "content": "go"}], "stream": true});
    let mut socket = host.begin_chat(&body);
    let mut some = [0; 512];
    assert!(socket.read(&mut some).expect("the stream begins") > 0);
    assert_eq!(host.metric("outrigger_requests_running", &[]), 1);
    drop(socket);
    let short = json!({"model": "tiny", "messages": [{"role": "user", "content": "go"}], "max_tokens": 2});
    assert_eq!(host.chat(&short).content(), "tick tock ");
    // Not `length`: the answer was broken off, and did not run to the end of the context for nobody.
    host.wait_until("the answer is given up", |host| host.log().contains("\"outcome\":\"cancelled\""));
    host.wait_until("the one who left is counted", |host| host.metric("llm_requests", &["stream=\"true\""]) == 1);
}

fn tiny_with_room() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("tiny.gguf");
    Markov::default().context_length(8192).endless(&["tick ", "tock "]).write(&path).expect("a written model");
    (folder, path)
}

/// A model's file is mapped: what is not in it any more cannot be computed with. The process says so and ends, rather than
/// dying of a signal.
#[test]
fn a_model_that_is_cut_short_while_it_is_served() {
    let (_folder, path) = tiny_with_room();
    let mut host = Host::serve(&path, &[]);
    let body = json!({"model": "tiny", "messages": [{"role": "user", "content": "go"}], "max_tokens": 2});
    assert_eq!(host.chat(&body).content(), "tick tock ");
    std::fs::OpenOptions::new().write(true).open(&path).expect("the file").set_len(4096).expect("a shorter file");
    let _asked = host.begin_chat(&body);
    let status = host.wait();
    assert_eq!(status.code(), Some(1), "{}", host.log());
    let log = host.log();
    assert!(log.contains("was cut short while it was served") && log.contains("by renaming"), "{log}");
}

/// Whatever a flipped byte does to a model, the process ends with an error or serves; it never dies by a signal.
#[test]
fn damaged_headers_never_kill_the_process_by_surprise() {
    let folder = tempfile::tempdir().expect("a folder");
    let bytes = Markov::default().to_bytes();
    for place in (24..2_000).step_by(211) {
        let mut damaged = bytes.clone();
        damaged[place] ^= 0xff;
        let name = file(&folder, "damaged.gguf", &damaged);
        let prompt = ["run", "--max-tokens=1", "--log=off", "--model"];
        let output = command().args(prompt).arg(format!("file:{name}")).arg("hi").output().expect("the binary runs");
        let printed = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code().is_some(), "byte {place}: {:?}: {printed}", output.status);
        assert!(!printed.contains("panicked"), "byte {place}: {printed}");
        assert!(Path::new(&name).exists());
    }
}

/// A server outlives whoever reads its log, and the disk that it goes to.
#[test]
fn a_log_that_nobody_takes() {
    let (_folder, path) = tiny();
    let free = TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("its address").to_string();
    let mut child = command()
        .args(["serve", "--log=trace", "--listen", &free])
        .arg(format!("--model=file:{}", path.display()))
        .stderr(std::fs::File::options().write(true).open("/dev/full").expect("a device"))
        .spawn()
        .expect("the binary starts");
    let deadline = Instant::now() + PATIENCE;
    let is_ready =
        || command().args(["probe", "readyz", "--listen", &free]).output().expect("a probe").status.success();
    while !is_ready() {
        let ended = child.try_wait().expect("our child");
        assert!(ended.is_none() && Instant::now() < deadline, "it ended: {ended:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
    child.kill().expect("our child");
    child.wait().expect("our child");
}
