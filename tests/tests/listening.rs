//! Keys, TLS, Unix sockets and addresses for probes, with clients that nobody here wrote.

#[path = "../../host/server/tests/support/authority.rs"]
mod authority;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use authority::Authority;
use serde_json::{Value, json};
use tempfile::TempDir;
use tests::host::{Host, command, python};
use tests::markov::Markov;

const ONE: &str = "canary-0123456789abcdef";
const TWO: &str = "canary-fedcba9876543210";

fn tiny() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("tiny.gguf");
    Markov::default().context_length(256).endless(&["tick ", "tock "]).write(&path).expect("a written model");
    (folder, path)
}

fn request() -> Value {
    json!({"model": "tiny", "messages": [{"role": "user", "content": "go"}], "max_tokens": 2})
}

/// Replaces a file by another one that only its owner reads, as deployments do.
fn put(path: &Path, text: &str) {
    let new = path.with_extension("new");
    fs::write(&new, text).expect("written");
    fs::set_permissions(&new, fs::Permissions::from_mode(0o600)).expect("ours");
    fs::rename(&new, path).expect("replaced");
}

/// What stands behind `name` in the host's log.
fn logged(host: &Host, name: &str) -> String {
    let start = format!("\"{name}\":\"");
    host.wait_until(name, |host| host.log().contains(&start));
    let log = host.log();
    log.split(&start).nth(1).and_then(|rest| rest.split('"').next()).expect("a value").to_owned()
}

fn curl(arguments: &[&str]) -> Output {
    Command::new("curl")
        .args(["--silent", "--show-error", "--max-time", "60"])
        .args(arguments)
        .output()
        .expect("curl runs")
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&[output.stdout.as_slice(), output.stderr.as_slice()].concat()).into_owned()
}

#[test]
fn keys_are_read_again_when_their_file_changes() {
    let (folder, model) = tiny();
    let keys = folder.path().join("keys");
    put(&keys, &format!("app-1 {ONE}\n"));
    let host = Host::serve(&model, &[&format!("--api-keys-file={}", keys.display()), "--log=trace"]);
    let status = |key: &str| host.chat_with(&request(), &[("authorization", &format!("Bearer {key}"))]).status;
    assert_eq!((host.chat(&request()).status, status(ONE), status(TWO)), (401, 200, 401));
    assert_eq!(host.get("/metrics").status, 401);

    // By itself.
    put(&keys, &format!("app-1 {ONE}\napp-1 {TWO}\n"));
    host.wait_until("the new key is taken", |_| status(TWO) == 200);
    assert_eq!(status(ONE), 200);
    // What is no file of keys locks nobody out, and lets nobody in.
    put(&keys, "# nobody\n");
    host.wait_until("the empty file is seen", |host| host.log().contains("there is no key in it"));
    assert_eq!((status(ONE), status(TWO), host.chat(&request()).status), (200, 200, 401));
    // On demand.
    put(&keys, &format!("app-1 {TWO}\n"));
    host.signal(libc::SIGHUP);
    host.wait_until("the old key is out", |_| status(ONE) == 401);
    assert_eq!(status(TWO), 200);
    fs::set_permissions(&keys, fs::Permissions::from_mode(0o644)).expect("ours");
    host.signal(libc::SIGHUP);
    host.wait_until("others may read it", |host| host.log().contains("mode 0644"));
    // At the lowest level nothing of a key is in the log.
    let log = host.log();
    assert!(!log.contains("canary-") && !log.contains(&ONE[8..]) && !log.contains(&TWO[8..]), "{log}");
}

#[test]
fn curl_openssl_and_python_speak_tls_with_it() {
    let (folder, model) = tiny();
    let authority = Authority::new();
    let ca = authority.write(folder.path(), "ca.pem").display().to_string();
    let (certificate, key) = authority.issue(&["localhost"]).write(folder.path(), "server");
    let (client, client_key) = authority.issue(&["app-1"]).write(folder.path(), "client");
    let (certificate, key) = (certificate.display().to_string(), key.display().to_string());
    let (client, client_key) = (client.display().to_string(), client_key.display().to_string());
    let host = Host::spawn(
        &model,
        &[
            &format!("--tls-cert-file={certificate}"),
            &format!("--tls-key-file={key}"),
            &format!("--tls-client-ca-file={ca}"),
            "--probe-listen=127.0.0.1:0",
        ],
    );
    let probes = logged(&host, "probe_address");
    let is_ready =
        || command().args(["probe", "readyz", "--probe-listen", &probes]).status().expect("a probe").success();
    host.wait_until("it is ready", |_| is_ready());
    let address = host.address();
    let url = format!("https://localhost:{}", address.port());
    let body = request().to_string();
    let json = "content-type: application/json";
    let chat = format!("{url}/v1/chat/completions");
    let trusting = ["--cacert", &ca, "--header", json, "--data", &body, &chat];

    let answered = curl(&[&["--cert", &client, "--key", &client_key], trusting.as_slice()].concat());
    assert!(text(&answered).contains("tick tock"), "{}", text(&answered));
    for only in [["--tls-max", "1.2"].as_slice(), &["--tlsv1.3"]] {
        let answered = curl(&[only, &["--cert", &client, "--key", &client_key], trusting.as_slice()].concat());
        assert!(text(&answered).contains("tick tock"), "{}", text(&answered));
    }
    // Without a certificate, without our authority, and without TLS.
    assert!(!curl(&trusting).status.success());
    let unknown = curl(&["--cert", &client, "--key", &client_key, "--header", json, "--data", &body, &chat]);
    assert!(!unknown.status.success(), "{}", text(&unknown));
    assert!(!curl(&["--header", json, "--data", &body, &chat.replace("https", "http")]).status.success());
    // The probe says what to do.
    let probe = command().args(["probe", "livez", "--listen", &address.to_string()]).output().expect("a probe");
    assert!(text(&probe).contains("--probe-listen"), "{}", text(&probe));

    let openssl = Command::new("openssl")
        .args(["s_client", "-connect", &address.to_string(), "-servername", "localhost", "-verify_return_error"])
        .args(["-CAfile", &ca, "-cert", &client, "-key", &client_key, "-alpn", "h2,http/1.1"])
        .stdin(Stdio::null())
        .output()
        .expect("openssl runs");
    let said = text(&openssl);
    assert!(said.contains("Verify return code: 0 (ok)") && said.contains("ALPN protocol: http/1.1"), "{said}");
    for old in ["-tls1_1", "-tls1"] {
        let refused = Command::new("openssl")
            .args(["s_client", "-connect", &address.to_string(), "-CAfile", &ca, old])
            .stdin(Stdio::null())
            .output()
            .expect("openssl runs");
        assert!(!refused.status.success(), "{old}: {}", text(&refused));
    }

    let script = "import http.client, ssl, sys\n\
        context = ssl.create_default_context(cafile=sys.argv[2])\n\
        context.load_cert_chain(sys.argv[3], sys.argv[4])\n\
        connection = http.client.HTTPSConnection('localhost', int(sys.argv[1]), context=context)\n\
        for _ in range(2):\n    connection.request('GET', '/v1/models')\n    reply = connection.getresponse()\n    \
        print(reply.status, reply.read().decode())\n";
    let port = address.port().to_string();
    let output =
        Command::new(python()).args(["-c", script, &port, &ca, &client, &client_key]).output().expect("Python runs");
    assert_eq!(text(&output).matches("200 {").count(), 2, "{}", text(&output));

    // Another certificate, by itself: who trusts the old authority finds a stranger.
    let other = Authority::new();
    let other_ca = other.write(folder.path(), "other-ca.pem").display().to_string();
    other.issue(&["localhost"]).write(folder.path(), "server");
    let greets = |ca: &str| curl(&["--cacert", ca, "--cert", &client, "--key", &client_key, &format!("{url}/livez")]);
    host.wait_until("the new certificate is used", |_| greets(&other_ca).status.success());
    assert!(!greets(&ca).status.success());
}

#[test]
fn a_unix_socket_is_made_used_and_removed() {
    let (folder, model) = tiny();
    let path = folder.path().join("api.sock");
    let listen = format!("--listen=unix:{}", path.display());
    let arguments = [listen.as_str(), "--socket-mode=0660"];
    let mut host = Host::serve(&model, &arguments);
    assert_eq!(fs::metadata(&path).expect("a socket").permissions().mode() & 0o777, 0o660);
    let socket = path.display().to_string();
    let body = request().to_string();
    let ask = || {
        let chat = "http://outrigger/v1/chat/completions";
        text(&curl(&["--unix-socket", &socket, "--header", "content-type: application/json", "--data", &body, chat]))
    };
    assert!(ask().contains("tick tock"), "{}", ask());
    assert!(host.chat(&request()).status == 200, "beside it, the address is there too");
    let probe = command().args(["probe", "livez", "--listen", &format!("unix:{socket}")]).output().expect("a probe");
    assert!(probe.status.success(), "{}", text(&probe));
    // A second one does not take its place.
    let second =
        command().args(["serve", &listen, &format!("--model=file:{}", model.display())]).output().expect("it runs");
    assert_eq!(second.status.code(), Some(3), "{}", text(&second));
    assert!(text(&second).contains("another process listens"), "{}", text(&second));

    // Killed, it leaves its socket, which the next one replaces.
    host.signal(libc::SIGKILL);
    host.wait();
    assert!(path.exists());
    let mut host = Host::serve(&model, &arguments);
    assert!(ask().contains("tick tock"));
    host.signal(libc::SIGTERM);
    assert_eq!(host.wait().code(), Some(0));
    assert!(!path.exists());
}

#[test]
fn nobody_listens_for_other_machines_by_accident() {
    let (folder, model) = tiny();
    let refused = |arguments: &[&str]| {
        let output = command()
            .args(["serve", &format!("--model=file:{}", model.display()), "--log=warn"])
            .args(arguments)
            .output()
            .expect("the binary runs");
        (output.status.code(), text(&output))
    };
    let (code, said) = refused(&["--listen=0.0.0.0:0"]);
    assert_eq!(code, Some(2), "{said}");
    for part in ["0.0.0.0:0", "neither a key nor TLS", "api_keys_file", "tls_cert_file", "--listen-insecure"] {
        assert!(said.contains(part), "{part} is missing: {said}");
    }
    let keys = folder.path().join("keys");
    put(&keys, &format!("app-1 {ONE}\n"));
    let flag = format!("--api-keys-file={}", keys.display());
    let (code, said) = refused(&["--listen=0.0.0.0:0", &flag]);
    assert!(code == Some(2) && said.contains("no TLS"), "{said}");
    // Keys that are none, and none at all, open nothing.
    put(&keys, "# none\n");
    let (code, said) = refused(&["--listen=127.0.0.1:0", &flag]);
    assert!(code == Some(2) && said.contains("there is no key in it"), "{said}");
    put(&keys, &ONE[..10]);
    let (code, said) = refused(&["--listen=127.0.0.1:0", &flag]);
    assert!(code == Some(2) && said.contains("line 1") && !said.contains(&ONE[..10]), "{said}");
    fs::remove_file(&keys).expect("ours");
    let (code, said) = refused(&["--listen=127.0.0.1:0", &flag]);
    assert!(code == Some(2) && said.contains("No such file"), "{said}");
    let (code, said) =
        refused(&["--listen=127.0.0.1:0", "--tls-cert-file=/nowhere.pem", "--tls-key-file=/nowhere.key"]);
    assert!(code == Some(2) && said.contains("/nowhere.pem"), "{said}");
}
