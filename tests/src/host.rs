//! The real binary as a child process: started on a free port, asked over real sockets, ended by its pid.
#![expect(clippy::missing_panics_doc, reason = "what cannot be had fails the test, everywhere in here")]

use std::io::{BufRead as _, BufReader, Read, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::Value;

/// How long anything may take before a test gives up on it. Generous: the machine may be busy, and no test asserts on
/// the time that a thing took.
pub const PATIENCE: Duration = Duration::from_mins(1);

/// The binary that `cargo build` put beside this test.
#[must_use]
pub fn binary() -> PathBuf {
    let mut folder = std::env::current_exe().expect("the path of this test");
    folder.pop();
    if folder.ends_with("deps") || folder.ends_with("examples") {
        folder.pop();
    }
    let binary = folder.join("outrigger");
    assert!(binary.exists(), "{} is missing; run: cargo build -p outrigger", binary.display());
    binary
}

/// SmolLM2-135M-Instruct, which `tests/setup.sh` downloads.
#[must_use]
pub fn demo_model() -> PathBuf {
    let fetched = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.cache/models/SmolLM2-135M-Instruct.Q4_1.gguf");
    assert!(fetched.exists(), "the demo model is missing; tests/run.sh downloads it");
    fetched
}

/// all-MiniLM-L6-v2, which `tests/setup.sh` downloads and converts.
#[must_use]
pub fn embedding_model() -> PathBuf {
    let made = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.cache/models/all-MiniLM-L6-v2.f16.gguf");
    assert!(made.exists(), "the embedding model is missing; tests/run.sh downloads it");
    made
}

/// The Python that has the packages of `tests/requirements.txt`.
#[must_use]
pub fn python() -> PathBuf {
    let made = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.cache/venv/bin/python");
    assert!(made.exists(), "the Python environment is missing; tests/run.sh makes it");
    made
}

/// A command that inherits nothing that would configure it: nothing of ours, and nothing of Hugging Face's tools.
#[must_use]
pub fn command() -> Command {
    let mut command = Command::new(binary());
    let configures = |name: &str| {
        ["OUTRIGGER_", "HF_", "HUGGING_FACE_", "TRANSFORMERS_"].iter().any(|prefix| name.starts_with(prefix))
            || name.to_ascii_lowercase().ends_with("_proxy")
    };
    for (name, _) in std::env::vars_os().filter(|(name, _)| configures(&name.to_string_lossy())) {
        command.env_remove(name);
    }
    command.stdin(Stdio::null());
    command
}

/// Makes answers of the real model comparable, of which each token is computed in a batch of the same shape: how many are guessed
/// at a time depends on what the machine is doing. The prompts have to be alike too, that is, known from a request before.
pub const ALIKE: &str = "--draft-max=0";

/// A running `outrigger serve`. Dropping it ends the process.
pub struct Host {
    child: Child,
    address: SocketAddr,
    log: Arc<Mutex<String>>,
    reader: Option<JoinHandle<()>>,
}

impl Host {
    /// Serves `model` with further arguments, and waits until it is ready.
    #[must_use]
    pub fn serve(model: &Path, arguments: &[&str]) -> Self {
        let host = Self::spawn(model, arguments);
        host.wait_until("it is ready", |host| host.get("/readyz").status == 200);
        host
    }

    /// Serves `model` and waits only until it listens.
    #[must_use]
    pub fn spawn(model: &Path, arguments: &[&str]) -> Self {
        let mut command = command();
        command.arg("serve").arg(format!("--model=file:{}", model.display())).args(arguments);
        Self::start(command)
    }

    /// Starts a `serve` with whatever it was given, and waits only until it listens.
    #[must_use]
    pub fn start(mut command: Command) -> Self {
        let mut child = command
            .args(["--listen=127.0.0.1:0", "--log-format=json"])
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary starts");
        let log = Arc::new(Mutex::new(String::new()));
        let (found, address) = std::sync::mpsc::channel();
        let stderr = BufReader::new(child.stderr.take().expect("a piped stderr"));
        let written = Arc::clone(&log);
        let reader = std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                if let Some(address) = line.split("\"address\":\"").nth(1).and_then(|rest| rest.split('"').next()) {
                    let _ = found.send(address.to_owned());
                }
                let mut log = written.lock().expect("no reader panicked");
                log.push_str(&line);
                log.push('\n');
            }
        });
        let address = address.recv_timeout(PATIENCE).unwrap_or_else(|_| {
            let _ = child.kill();
            panic!("it never listened; its log:\n{}", log.lock().expect("no reader panicked"))
        });
        Self { child, address: address.parse().expect("an address"), log, reader: Some(reader) }
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What it has logged so far.
    #[must_use]
    pub fn log(&self) -> String {
        self.log.lock().expect("no reader panicked").clone()
    }

    /// The process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal.
    pub fn signal(&self, signal: libc::c_int) {
        let pid = libc::pid_t::try_from(self.child.id()).expect("a pid");
        #[expect(unsafe_code, reason = "std can only kill")]
        // SAFETY: kill() takes no pointers; the child is ours and not yet waited for.
        let sent = unsafe { libc::kill(pid, signal) };
        assert_eq!(sent, 0, "the process is gone");
    }

    /// Waits for the process to end by itself.
    pub fn wait(&mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().expect("our child") {
                return status;
            }
            assert!(Instant::now() < deadline, "it did not end in {PATIENCE:?}; its log:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// `GET path`.
    #[must_use]
    pub fn get(&self, path: &str) -> Reply {
        Reply::read(agent().get(self.url(path)).call().expect("a reply"))
    }

    /// `GET path`, addressed to a host of this name.
    #[must_use]
    pub fn get_as(&self, name: &str, path: &str) -> Reply {
        Reply::read(agent().get(self.url(path)).header("host", name).call().expect("a reply"))
    }

    /// `POST /v1/chat/completions`, answered in one piece.
    #[must_use]
    pub fn chat(&self, body: &Value) -> Reply {
        self.post("/v1/chat/completions", body)
    }

    /// `POST /v1/chat/completions` with further headers.
    #[must_use]
    pub fn chat_with(&self, body: &Value, headers: &[(&str, &str)]) -> Reply {
        let request = agent().post(self.url("/v1/chat/completions"));
        let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        Reply::read(request.send_json(body).expect("a reply"))
    }

    /// `POST path` with a JSON body.
    #[must_use]
    pub fn post(&self, path: &str, body: &Value) -> Reply {
        Reply::read(agent().post(self.url(path)).send_json(body).expect("a reply"))
    }

    /// `POST path` with a text that calls itself JSON.
    #[must_use]
    pub fn post_text(&self, path: &str, text: &str) -> Reply {
        let request = agent().post(self.url(path)).content_type("application/json");
        Reply::read(request.send(text).expect("a reply"))
    }

    /// A streamed chat; the stream is read as the test asks for events.
    #[must_use]
    pub fn stream(&self, body: &Value) -> Stream {
        let mut body = body.clone();
        body["stream"] = true.into();
        let reply = agent().post(self.url("/v1/chat/completions")).send_json(body).expect("a reply");
        let status = reply.status().as_u16();
        let lines = BufReader::new(Box::new(reply.into_body().into_reader()) as Box<dyn Read>);
        Stream { status, lines }
    }

    /// A bare connection.
    #[must_use]
    pub fn connect(&self) -> TcpStream {
        let socket = TcpStream::connect(self.address).expect("a connection");
        socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        socket
    }

    /// Sends a chat over a connection of its own, which then has the reply to come.
    #[must_use]
    pub fn begin_chat(&self, body: &Value) -> TcpStream {
        send_chat(self.connect(), body)
    }

    /// The sum of a counter's or gauge's samples whose labels contain all of `parts`; 0 where there is none yet.
    #[must_use]
    pub fn metric(&self, name: &str, parts: &[&str]) -> u64 {
        self.get("/metrics")
            .text
            .lines()
            .filter(|line| line.split(['{', ' ']).next() == Some(name))
            .filter(|line| parts.iter().all(|part| line.contains(part)))
            .filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok())
            .sum()
    }

    /// Waits until `holds`.
    pub fn wait_until(&self, what: &str, holds: impl Fn(&Self) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !holds(self) {
            assert!(Instant::now() < deadline, "{what}: not in {PATIENCE:?}; its log:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }
}

/// Sends a chat over a bare connection.
#[must_use]
pub fn send_chat(mut socket: TcpStream, body: &Value) -> TcpStream {
    let text = body.to_string();
    write!(
        socket,
        "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n{text}",
        text.len()
    )
    .expect("a sent request");
    socket
}

/// Runs a script of `tests/python` against a host.
pub fn run_python(script: &str, host: &Host) {
    run_python_of(&python(), script, host);
}

/// [`run_python`] by another interpreter, which has other packages.
pub fn run_python_of(python: &Path, script: &str, host: &Host) {
    let output = Command::new(python)
        .arg(format!("{}/python/{script}", env!("CARGO_MANIFEST_DIR")))
        .arg(format!("http://{}/v1", host.address()))
        .output()
        .expect("Python runs");
    let (printed, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{printed}{errors}");
}

impl Drop for Host {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
        if std::thread::panicking() {
            eprintln!("the host's log:\n{}", self.log());
        }
    }
}

/// A whole reply.
#[derive(Debug)]
pub struct Reply {
    /// HTTP status.
    pub status: u16,
    /// Headers, lower-case names.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub text: String,
}

impl Reply {
    fn read(reply: ureq::http::Response<ureq::Body>) -> Self {
        let status = reply.status().as_u16();
        let headers = reply
            .headers()
            .iter()
            .map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned()))
            .collect();
        let text = reply.into_body().read_to_string().expect("a body of text");
        Self { status, headers, text }
    }

    /// The body as JSON.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("no JSON ({error}): {}", self.text))
    }

    /// The text of the answer's only choice.
    #[must_use]
    pub fn content(&self) -> String {
        assert_eq!(self.status, 200, "{}", self.text);
        self.json()["choices"][0]["message"]["content"].as_str().expect("a text").to_owned()
    }

    /// The error's message.
    #[must_use]
    pub fn error(&self) -> String {
        self.json()["error"]["message"].as_str().unwrap_or_else(|| panic!("no error: {}", self.text)).to_owned()
    }
}

/// A streamed reply.
pub struct Stream {
    /// HTTP status.
    pub status: u16,
    lines: BufReader<Box<dyn Read>>,
}

impl Stream {
    /// The data of the next event; `None` at the end of the body. Comments are passed over.
    pub fn next_data(&mut self) -> Option<String> {
        loop {
            let mut line = String::new();
            if self.lines.read_line(&mut line).expect("a readable stream") == 0 {
                return None;
            }
            if let Some(data) = line.strip_prefix("data: ") {
                return Some(data.trim_end().to_owned());
            }
        }
    }

    /// Everything to the end: the text of the content deltas, and the raw data lines.
    #[must_use]
    pub fn finish(mut self) -> (String, Vec<String>) {
        let mut lines = Vec::new();
        let mut content = String::new();
        while let Some(data) = self.next_data() {
            if let Ok(event) = serde_json::from_str::<Value>(&data) {
                content.push_str(event["choices"][0]["delta"]["content"].as_str().unwrap_or_default());
            }
            lines.push(data);
        }
        (content, lines)
    }
}

fn agent() -> ureq::Agent {
    ureq::Agent::config_builder().http_status_as_error(false).timeout_global(Some(PATIENCE)).build().into()
}
