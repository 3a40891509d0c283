//! A server on a real loopback socket with a scripted engine, and a client that speaks raw bytes.
#![expect(dead_code, reason = "each test binary uses its part")]

mod documented;
pub(crate) mod encoder;
pub(crate) mod fakes;

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use fakes::{Act, FakeEngine, FakePipeline};
use server::{Drained, HttpConfig, Listener, Service, ServiceConfig, Serving, serve};
use telemetry::{Format, Metrics};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    pub(crate) service: Arc<Service>,
    pub(crate) engine: Arc<FakeEngine>,
    pub(crate) pipeline: FakePipeline,
    shutdown: Option<oneshot::Sender<()>>,
    served: JoinHandle<Drained>,
}

/// What a test may want different.
pub(crate) struct Setup {
    pub(crate) script: Vec<Act>,
    pub(crate) pipeline: FakePipeline,
    pub(crate) service: ServiceConfig,
    pub(crate) http: HttpConfig,
    pub(crate) is_ready: bool,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            script: fakes::says(&["Hello", " world", "."]),
            pipeline: FakePipeline::default(),
            service: ServiceConfig::new("fake/model"),
            http: HttpConfig::default(),
            is_ready: true,
        }
    }
}

impl Setup {
    pub(crate) fn says(pieces: &[&str]) -> Self {
        Self { script: fakes::says(pieces), ..Self::default() }
    }

    /// An answer with all that one may have: reasoning, text of several lines, a call, a note.
    pub(crate) fn everything() -> Self {
        let pipeline = FakePipeline {
            thinks_until: Some("</think>".to_owned()),
            calls_tool: true,
            annotations: vec![("redact.masked".to_owned(), "2".to_owned())],
            ..FakePipeline::default()
        };
        Self { pipeline, ..Self::says(&["hm", "</thi", "nk>line\none", " \"two\""]) }
    }

    pub(crate) fn plays(script: Vec<Act>) -> Self {
        Self { script, ..Self::default() }
    }

    pub(crate) fn slots(mut self, slots: usize) -> Self {
        self.service.max_concurrency = NonZeroUsize::new(slots).expect("at least one slot");
        self
    }

    pub(crate) async fn start(self) -> Server {
        self.start_on(Listener::from).await
    }

    /// Starts it on what `make` makes of a port.
    pub(crate) async fn start_on(self, make: impl FnOnce(TcpListener) -> Listener) -> Server {
        self.start_all(make, Vec::new()).await
    }

    /// Starts it on a port and on these.
    pub(crate) async fn start_beside(self, others: Vec<Listener>) -> Server {
        self.start_all(Listener::from, others).await
    }

    async fn start_all(self, make: impl FnOnce(TcpListener) -> Listener, mut listeners: Vec<Listener>) -> Server {
        let engine = FakeEngine::new(self.service.max_concurrency.get(), self.script);
        let service = Arc::new(Service::new(self.service, Metrics::new(&[("version", "test")])));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a loopback port");
        let address = listener.local_addr().expect("a bound address");
        let (shutdown, told) = oneshot::channel::<()>();
        listeners.insert(0, make(listener));
        let serving = tokio::spawn(serve(listeners, Arc::clone(&service), self.http, async move {
            let _told = told.await;
        }));
        let server =
            Server { address, service, engine, pipeline: self.pipeline, shutdown: Some(shutdown), served: serving };
        if self.is_ready {
            server.make_ready();
        }
        server
    }
}

impl Server {
    pub(crate) fn make_ready(&self) {
        let pipeline = Arc::new(self.pipeline.clone());
        self.service.ready(Serving { engine: Arc::clone(&self.engine) as _, pipeline });
    }

    /// Sends a request whole and reads the response whole.
    pub(crate) async fn send(&self, request: &str) -> Reply {
        let mut client = self.connect().await;
        client.write_all(request.as_bytes()).await.expect("the server reads");
        let reply = Reply::read(&mut client).await;
        documented::check(request, &reply);
        reply
    }

    pub(crate) async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.expect("the server listens")
    }

    pub(crate) async fn get(&self, path: &str) -> Reply {
        self.send(&format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")).await
    }

    pub(crate) async fn chat(&self, body: &str) -> Reply {
        self.send(&chat(body)).await
    }

    pub(crate) async fn post(&self, path: &str, body: &serde_json::Value) -> Reply {
        self.send(&post(path, &body.to_string())).await
    }

    /// The same with further members, or with others.
    pub(crate) async fn ask(&self, path: &str, mut body: serde_json::Value, members: serde_json::Value) -> Reply {
        let serde_json::Value::Object(members) = members else { panic!("{members} is no object") };
        body.as_object_mut().expect("an object").extend(members);
        self.post(path, &body).await
    }

    /// Sends a request and leaves its response to come.
    pub(crate) async fn begin(&self, request: &str) -> TcpStream {
        let mut client = self.connect().await;
        client.write_all(request.as_bytes()).await.expect("the server reads");
        client
    }

    /// Begins a streamed chat and waits for its first bytes.
    pub(crate) async fn begin_stream(&self) -> TcpStream {
        let mut client = self.connect().await;
        client.write_all(chat(STREAMED).as_bytes()).await.expect("the server reads");
        client.readable().await.expect("the server answers");
        client
    }

    pub(crate) fn metrics(&self) -> String {
        self.service.metrics().encode(Format::Text)
    }

    /// The value of a metric that counts; `labels` as they are printed, without braces.
    pub(crate) fn metric(&self, name: &str, labels: &str) -> i64 {
        let start = if labels.is_empty() { format!("{name} ") } else { format!("{name}{{{labels}}} ") };
        let text = self.metrics();
        let value = text.lines().find_map(|line| line.strip_prefix(&start));
        value.unwrap_or_else(|| panic!("no {start}in:\n{text}")).parse().expect("a whole number")
    }

    pub(crate) fn begin_drain(&mut self) {
        let shutdown = self.shutdown.take().expect("told once");
        shutdown.send(()).expect("the server runs");
    }

    pub(crate) async fn drained(self) -> Drained {
        self.served.await.expect("the server did not panic")
    }

    /// Waits until no request holds a slot, and says how long that took.
    pub(crate) async fn until_idle(&self) -> Duration {
        let started = std::time::Instant::now();
        while self.service.active() > 0 || self.engine.live() > 0 {
            assert!(started.elapsed() < Duration::from_secs(5), "a slot is still taken: {:?}", self.service);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        started.elapsed()
    }

    pub(crate) async fn until_running(&self, requests: usize) {
        let started = std::time::Instant::now();
        while self.engine.live() < requests {
            assert!(started.elapsed() < Duration::from_secs(5), "the engine was never asked");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

pub(crate) const WHOLE: &str = r#"{"model":"fake/model","messages":[{"role":"user","content":"Hi"}]}"#;
pub(crate) const STREAMED: &str = r#"{"model":"fake/model","messages":[{"role":"user","content":"Hi"}],"stream":true}"#;

/// The label of metrics that are the model's.
pub(crate) const MODEL: &str = r#"model="fake/model""#;

/// A chat request on its own connection.
pub(crate) fn chat(body: &str) -> String {
    post("/v1/chat/completions", body)
}

/// A request on its own connection.
pub(crate) fn post(path: &str, body: &str) -> String {
    format!(
        "POST {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// A response, taken apart.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
    /// The body came to its proper end.
    pub(crate) is_whole: bool,
}

impl Reply {
    pub(crate) async fn read(client: &mut (impl AsyncRead + Unpin)) -> Self {
        let mut bytes = Vec::new();
        // A reset counts as an end: what came before it is what a client has.
        let _ended = client.read_to_end(&mut bytes).await;
        Self::parse(&String::from_utf8(bytes).expect("the server speaks UTF-8"))
    }

    pub(crate) fn parse(text: &str) -> Self {
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no response head in {text:?}"));
        let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a status line");
        let head = head.to_ascii_lowercase();
        let (body, is_whole) =
            if head.contains("transfer-encoding: chunked") { unchunk(body) } else { (body.to_owned(), true) };
        Self { status, head, body, is_whole }
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let start = format!("{name}: ");
        self.head.lines().find_map(|line| line.strip_prefix(start.as_str()))
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error} in {}", self.body))
    }

    /// The error's code and message.
    pub(crate) fn error(&self) -> (String, String) {
        let error = &self.json()["error"];
        let text = |name: &str| error[name].as_str().unwrap_or_else(|| panic!("no {name} in {error}")).to_owned();
        (text("code"), text("message"))
    }

    /// The body with what differs from run to run replaced.
    pub(crate) fn stable(&self) -> String {
        let mut text = self.body.clone();
        let varying = [
            ("\"chatcmpl-", "\"", "\"chatcmpl-ID\""),
            ("\"cmpl-", "\"", "\"cmpl-ID\""),
            ("\"msg_", "\"", "\"msg_ID\""),
            ("\"resp_", "\"", "\"resp_ID\""),
            ("\"rs_", "\"", "\"rs_ID\""),
            ("\"fc_", "\"", "\"fc_ID\""),
            ("\"created_at\":", ",", "\"created_at\":0,"),
            ("\"request_id\":\"", "\"", "\"request_id\":\"ID\""),
            ("\"created\":", ",", "\"created\":0,"),
            // Names the version of this crate too.
            ("\"fp_", "\"", "\"fp_X\""),
        ];
        for (start, end, shown) in varying {
            text = replace_each(&text, start, end, shown);
        }
        text
    }

    /// The JSON of a stream's events, in order; `[DONE]` is none.
    pub(crate) fn events(&self) -> Vec<serde_json::Value> {
        let data = self.body.lines().filter_map(|line| line.strip_prefix("data: ")).filter(|data| *data != "[DONE]");
        data.map(|data| serde_json::from_str(data).expect("events carry JSON")).collect()
    }

    /// The texts of a stream's deltas, put together: content and reasoning.
    pub(crate) fn streamed_texts(&self) -> (String, String) {
        let (mut content, mut reasoning) = (String::new(), String::new());
        for data in self.body.lines().filter_map(|line| line.strip_prefix("data: ")).filter(|data| *data != "[DONE]") {
            let chunk: serde_json::Value = serde_json::from_str(data).expect("events carry JSON");
            let delta = &chunk["choices"][0]["delta"];
            content.push_str(delta["content"].as_str().unwrap_or_default());
            reasoning.push_str(delta["reasoning_content"].as_str().unwrap_or_default());
        }
        (content, reasoning)
    }
}

fn replace_each(text: &str, start: &str, end: &str, shown: &str) -> String {
    let mut pieces = text.split(start);
    let mut out = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        let (_, rest) = piece.split_once(end).expect("what starts ends");
        out.push_str(shown);
        out.push_str(rest);
    }
    out
}

fn unchunk(mut text: &str) -> (String, bool) {
    let mut body = String::new();
    while let Some((size, rest)) = text.split_once("\r\n") {
        let size = usize::from_str_radix(size, 16).expect("a chunk's size");
        if size == 0 {
            return (body, true);
        }
        let Some(chunk) = rest.get(..size) else { break };
        body.push_str(chunk);
        text = rest.get(size + 2..).unwrap_or_default();
    }
    (body, false)
}
