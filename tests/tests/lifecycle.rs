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
    for probe in ["/livez", "/startupz", "/readyz", "/health", "/v1/ready"] {
        assert_eq!(host.get(probe).status, 200, "{probe}");
    }
    let models = host.get("/v1/models").json();
    assert_eq!(models["object"], "list");
    assert_eq!(models["data"][0]["id"], "tiny");
    let listen = host.address().to_string();
    for probe in ["livez", "startupz", "readyz"] {
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
    assert_eq!(host.wait().code(), Some(5), "an answer was cut off, and the exit code says so");
}

#[test]
fn what_does_not_finish_in_time_is_broken_off() {
    let (_folder, path) = endless();
    let mut host = Host::serve(&path, &["--drain-seconds=0"]);
    let mut slow = request(8_000);
    slow["stream"] = true.into();
    let mut stream = host.stream(&slow);
    stream.next_data().expect("the stream begins");
    host.signal(libc::SIGTERM);
    let (_, lines) = stream.finish();
    assert!(lines.last().is_some_and(|line| line.contains("shutting_down")), "it looks like an end: {lines:?}");
    assert_eq!(host.wait().code(), Some(4));
}

/// SIGHUP reads the configuration again: all of it counts, or nothing.
#[test]
fn a_configuration_changes_while_it_runs() {
    let (folder, path) = endless();
    let config = folder.path().join("outrigger.toml");
    let write = |text: &str| std::fs::write(&config, text).expect("written");
    write("queue_max = 0\nallowed_hosts = [\"one.example\"]\n");
    let host = Host::serve(&path, &[&format!("--config={}", config.display())]);
    let status = |name: &str| host.get_as(name, "/v1/models").status;
    assert_eq!((status("one.example"), status("two.example")), (200, 403));
    let reload = |says: &str, times: usize| {
        host.signal(libc::SIGHUP);
        host.wait_until(says, |host| host.log().matches(says).count() == times);
    };
    let (done, refused) = ("the configuration was read again", "the configuration stays as it was");

    // One answer is under way, more than fits between it and a client that does not read; and the line is of no length.
    let mut long = request(8_000);
    (long["logprobs"], long["top_logprobs"]) = (true.into(), 20.into());
    let mut slow = host.stream(&long);
    slow.next_data().expect("the stream begins");
    assert_eq!(host.chat(&request(1)).json()["error"]["code"], "queue_full");
    write("queue_max = 8\nqueue_wait_seconds = 0\nallowed_hosts = [\"two.example\"]\n");
    reload(done, 1);
    assert_eq!((status("one.example"), status("two.example")), (403, 200));
    assert_eq!(host.chat(&request(1)).json()["error"]["code"], "queue_timeout", "it waits now, and not for long");
    drop(slow);
    // What takes a restart is named, and with it everything is refused.
    write("queue_max = 8\nmax_concurrency = 2\nallowed_hosts = [\"one.example\"]\n");
    reload(refused, 1);
    assert!(host.log().contains("`max_concurrency` cannot change while the server runs"), "{}", host.log());
    write("queue_max = \"many\"\nallowed_hosts = [\"one.example\"]\n");
    reload(refused, 2);
    write("allowed_hosts = [\"one.example\"]\n[[plugin]]\nname = \"nowhere\"\nfrom = \"/nowhere.wasm\"\n");
    reload(refused, 3);
    write("allowed_hosts = [\"one.example\"]\nlisten_insecure = true\nlisten = \"0.0.0.0:1\"\n");
    reload(done, 2);
    assert_eq!(status("one.example"), 200, "where a flag says it, the file's `listen` never counted");
}

/// What a service manager is told, in order.
#[test]
fn a_service_manager_is_told_how_it_goes() {
    let (folder, path) = endless();
    let socket = folder.path().join("notify.sock");
    let manager = std::os::unix::net::UnixDatagram::bind(&socket).expect("a socket");
    manager.set_read_timeout(Some(tests::host::PATIENCE)).expect("a timeout");
    let hear = |wanted: &str| loop {
        let mut buffer = [0; 4096];
        let count = manager.recv(&mut buffer).unwrap_or_else(|error| panic!("{wanted}: {error}"));
        let said = String::from_utf8_lossy(&buffer[..count]).into_owned();
        if said.lines().any(|line| line == wanted) {
            return said;
        }
        // Only signs of life come in between.
        assert_eq!(said.trim_end(), "WATCHDOG=1", "instead of {wanted}");
    };
    let mut command = tests::host::command();
    command.arg("serve").arg(format!("--model=file:{}", path.display()));
    command.env("NOTIFY_SOCKET", &socket).env("WATCHDOG_USEC", "200000");
    let mut host = Host::start(command);
    hear("READY=1");
    hear("WATCHDOG=1");
    hear("WATCHDOG=1");
    host.signal(libc::SIGHUP);
    assert!(hear("RELOADING=1").contains("MONOTONIC_USEC="));
    hear("READY=1");
    host.signal(libc::SIGTERM);
    hear("STOPPING=1");
    assert_eq!(host.wait().code(), Some(0));
}

#[test]
fn an_idle_host_ends_at_once() {
    let (_folder, path) = endless();
    let mut host = Host::serve(&path, &[]);
    host.signal(libc::SIGINT);
    assert_eq!(host.wait().code(), Some(0));
}
