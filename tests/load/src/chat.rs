//! One streamed chat as its client sees it: when each piece of text came.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use bytes::Bytes;
use futures::StreamExt as _;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use serde_json::{Value, json};
use sse_stream::SseStream;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::limits;
use crate::process;

/// Where and how to ask.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Endpoint {
    pub(crate) address: SocketAddr,
    /// Whose CPU time is read along.
    pub(crate) pid: u32,
    /// Whether it takes `ignore_eos`.
    pub(crate) ignores_end: bool,
}

/// What to ask.
#[derive(Debug, Clone)]
pub(crate) struct Question {
    /// Empty: none, and a template may put its own there.
    pub(crate) system: String,
    pub(crate) user: String,
    pub(crate) tokens_max: u32,
    pub(crate) sampling: Sampling,
    /// Further members of the request.
    pub(crate) extra: Value,
}

/// How tokens are chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sampling {
    /// The likeliest token.
    Greedy,
    /// The whole chain, with llama.cpp's defaults written out: what the bare loop does.
    Chain,
}

/// What came.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) sent_at: Instant,
    /// When each piece of text came.
    pub(crate) pieces_at: Vec<Instant>,
    pub(crate) ended_at: Instant,
    /// What the server counted; none where the client left.
    pub(crate) usage: Option<Usage>,
    /// CPU time of the server from the request to the first text, and from there to the last.
    pub(crate) cpu_first: Duration,
    pub(crate) cpu_rest: Duration,
}

#[derive(Debug, Default, Clone, Copy, Deserialize)]
pub(crate) struct Usage {
    pub(crate) prompt_tokens: u32,
    pub(crate) completion_tokens: u32,
    #[serde(default)]
    pub(crate) prompt_tokens_details: PromptDetails,
}

#[derive(Debug, Default, Clone, Copy, Deserialize)]
pub(crate) struct PromptDetails {
    #[serde(default)]
    pub(crate) cached_tokens: u32,
}

impl Question {
    fn body(&self, ignores_end: bool) -> Value {
        let system = (!self.system.is_empty()).then(|| json!({"role": "system", "content": self.system}));
        let messages: Vec<Value> = system.into_iter().chain([json!({"role": "user", "content": self.user})]).collect();
        let mut body = json!({
            // What our server calls the model by its file; llama-server takes any name.
            "model": "model",
            "messages": messages,
            "max_tokens": self.tokens_max,
            "stream": true,
            "stream_options": {"include_usage": true},
            "seed": 1,
        });
        match self.sampling {
            Sampling::Greedy => body["temperature"] = json!(0),
            Sampling::Chain => {
                body["temperature"] = json!(0.8);
                body["top_k"] = json!(40);
                body["top_p"] = json!(0.95);
                body["min_p"] = json!(0.05);
            }
        }
        if ignores_end {
            body["ignore_eos"] = json!(true);
        }
        if let (Some(body), Some(extra)) = (body.as_object_mut(), self.extra.as_object()) {
            body.extend(extra.clone());
        }
        body
    }
}

impl Answer {
    /// From the request to the first text.
    pub(crate) fn ttft(&self) -> Duration {
        self.pieces_at.first().map_or(Duration::MAX, |first| first.duration_since(self.sent_at))
    }

    /// Tokens per second after the first text. By the server's own count of tokens where the answer was read to its
    /// end, by the pieces that came where it was not.
    pub(crate) fn decode_rate(&self) -> anyhow::Result<f64> {
        let (Some(first), Some(last)) = (self.pieces_at.first(), self.pieces_at.last()) else { bail!("no text came") };
        let seconds = last.duration_since(*first).as_secs_f64();
        if seconds == 0.0 {
            bail!("all text came at once");
        }
        Ok(f64::from(self.tokens() - 1) / seconds)
    }

    /// Tokens per second from the request to the answer's end: what filters hold back on the way does not change it.
    pub(crate) fn whole_rate(&self) -> f64 {
        f64::from(self.tokens()) / self.ended_at.duration_since(self.sent_at).as_secs_f64()
    }

    /// CPU milliseconds per token after the first text.
    pub(crate) fn cpu_ms_per_token(&self) -> f64 {
        self.cpu_rest.as_secs_f64() * 1e3 / f64::from((self.tokens() - 1).max(1))
    }

    /// Tokens of the answer.
    pub(crate) fn tokens(&self) -> u32 {
        let pieces = u32::try_from(self.pieces_at.len()).unwrap_or(u32::MAX);
        self.usage.map_or(pieces, |usage| usage.completion_tokens).max(1)
    }

    /// Tokens that came together, on average. More than one where the server speculates: several in one step.
    pub(crate) fn tokens_per_piece(&self) -> f64 {
        f64::from(self.tokens()) / (self.pieces_at.len() as f64)
    }

    /// The longest silence between two pieces of text that reaches beyond `from`.
    pub(crate) fn gap_max(&self, from: Instant) -> Duration {
        let beyond = self.pieces_at.windows(2).filter(|pair| pair[1] > from);
        beyond.map(|pair| pair[1].duration_since(pair[0])).max().unwrap_or_default()
    }
}

/// Asks, and reads the answer to its end.
pub(crate) async fn ask(endpoint: Endpoint, question: &Question) -> anyhow::Result<Answer> {
    ask_until(endpoint, question, |_| false).await
}

/// The same with a header, by its name and value.
pub(crate) async fn ask_with(
    endpoint: Endpoint,
    question: &Question,
    header: Option<(&str, &str)>,
) -> anyhow::Result<Answer> {
    let body = question.body(endpoint.ignores_end);
    patiently(stream(endpoint, &body, header, |_| false)).await
}

/// Asks, and reads until `is_enough` says so of the times at which pieces came. The connection is closed by then.
pub(crate) async fn ask_until(
    endpoint: Endpoint,
    question: &Question,
    is_enough: impl FnMut(&[Instant]) -> bool,
) -> anyhow::Result<Answer> {
    let body = question.body(endpoint.ignores_end);
    patiently(stream(endpoint, &body, None, is_enough)).await
}

async fn patiently(answer: impl Future<Output = anyhow::Result<Answer>>) -> anyhow::Result<Answer> {
    let answer = timeout(limits::REQUEST, answer).await;
    answer.with_context(|| format!("no whole answer within {:?}", limits::REQUEST))?
}

/// Asks, and leaves after `patience`, whatever came by then.
pub(crate) async fn ask_and_leave(endpoint: Endpoint, question: &Question, patience: Duration) -> anyhow::Result<()> {
    let body = question.body(endpoint.ignores_end);
    match timeout(patience, stream(endpoint, &body, None, |_| false)).await {
        Err(_) => Ok(()),
        Ok(Ok(_)) => bail!("the answer was whole before the client left; the prompt is too short for this machine"),
        Ok(Err(error)) => Err(error),
    }
}

/// Whether the server takes `ignore_eos`.
pub(crate) async fn ignores_end(address: SocketAddr, pid: u32) -> anyhow::Result<bool> {
    let question = Question {
        system: "Short.".to_owned(),
        user: "Hi".to_owned(),
        tokens_max: 2,
        sampling: Sampling::Greedy,
        extra: Value::Null,
    };
    for ignores_end in [true, false] {
        match ask(Endpoint { address, pid, ignores_end }, &question).await {
            Ok(_) => return Ok(ignores_end),
            Err(error) if ignores_end && error.is::<Refused>() => {}
            Err(error) => return Err(error),
        }
    }
    Ok(false)
}

/// Whether `GET /health` answers 200.
pub(crate) async fn is_ready(address: SocketAddr) -> bool {
    get(address, "/health").await.is_ok()
}

/// The body of `GET path`, where its status is 200.
pub(crate) async fn get(address: SocketAddr, path: &str) -> anyhow::Result<String> {
    let mut connection = JoinSet::new();
    let (_, body) = connect_and_get(address, path, &mut connection).await?;
    connection.shutdown().await;
    Ok(body)
}

/// The same, and the connection, which stays open as long as what is returned and what `connections` holds.
pub(crate) async fn connect_and_get(
    address: SocketAddr,
    path: &str,
    connections: &mut JoinSet<hyper::Result<()>>,
) -> anyhow::Result<(SendRequest<Full<Bytes>>, String)> {
    let request = http::Request::get(path).header("host", address.to_string()).body(Full::new(Bytes::new()))?;
    let mut sender = connect(address, connections).await?;
    let reply = sender.send_request(request).await?;
    anyhow::ensure!(reply.status() == 200, "GET {path}: status {}", reply.status());
    let body = reply.into_body().collect().await?.to_bytes();
    Ok((sender, String::from_utf8_lossy(&body).into_owned()))
}

/// The sum of a metric's samples in what `/metrics` says.
pub(crate) fn metric(text: &str, name: &str) -> u64 {
    let samples = text.lines().filter(|line| line.split(['{', ' ']).next() == Some(name));
    samples.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum()
}

/// How a request ended whose answer comes in one piece.
pub(crate) struct Whole {
    pub(crate) status: u16,
    /// From sent to read.
    pub(crate) took: Duration,
}

/// Asks for an answer in one piece, and takes whatever comes.
pub(crate) async fn ask_whole(endpoint: Endpoint, question: &Question, header: (&str, &str)) -> anyhow::Result<Whole> {
    let mut body = question.body(endpoint.ignores_end);
    if let Some(body) = body.as_object_mut() {
        body.retain(|name, _| !name.starts_with("stream"));
    }
    let request = http::Request::post("/v1/chat/completions")
        .header("host", endpoint.address.to_string())
        .header("content-type", "application/json")
        .header(header.0, header.1)
        .body(Full::new(Bytes::from(body.to_string())))?;
    let started = Instant::now();
    let mut connection = JoinSet::new();
    let asked = async {
        let reply = send(endpoint.address, request, &mut connection).await?;
        let status = reply.status().as_u16();
        reply.into_body().collect().await?;
        anyhow::Ok(Whole { status, took: started.elapsed() })
    };
    let whole = timeout(limits::REQUEST, asked).await;
    whole.with_context(|| format!("no whole answer within {:?}", limits::REQUEST))?
}

/// The server's answer was an error.
#[derive(Debug)]
pub(crate) struct Refused {
    status: u16,
    body: String,
}

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "status {}: {}", self.status, self.body)
    }
}

impl std::error::Error for Refused {}

async fn stream(
    endpoint: Endpoint,
    body: &Value,
    header: Option<(&str, &str)>,
    mut is_enough: impl FnMut(&[Instant]) -> bool,
) -> anyhow::Result<Answer> {
    let request = http::Request::post("/v1/chat/completions")
        .header("host", endpoint.address.to_string())
        .header("content-type", "application/json");
    let request = header.into_iter().fold(request, |request, (name, value)| request.header(name, value));
    let request = request.body(Full::new(Bytes::from(body.to_string())))?;
    let cpu_before = process::cpu_time(endpoint.pid)?;
    let sent_at = Instant::now();
    // Dropped with this future: then the connection is closed, and the server sees that its client left.
    let mut connection = JoinSet::new();
    let reply = send(endpoint.address, request, &mut connection).await?;
    let status = reply.status().as_u16();
    if status != 200 {
        let body = reply.into_body().collect().await?.to_bytes();
        let shown = &body[..body.len().min(limits::REFUSAL_BYTES_MAX)];
        return Err(Refused { status, body: String::from_utf8_lossy(shown).into_owned() }.into());
    }
    let mut events = SseStream::new(reply.into_body());
    let mut pieces_at: Vec<Instant> = Vec::new();
    let mut usage = None;
    let mut cpu_at_first = cpu_before;
    while let Some(event) = events.next().await {
        let now = Instant::now();
        let data = event.context("the stream broke")?.data.unwrap_or_default();
        if data == "[DONE]" || data.is_empty() {
            continue;
        }
        let chunk: Chunk = serde_json::from_str(&data).with_context(|| format!("not a chunk: {data}"))?;
        if let Some(error) = chunk.error {
            bail!("the stream ended in an error: {error}");
        }
        usage = chunk.usage.or(usage);
        if chunk.choices.iter().any(|choice| choice.delta.has_text()) {
            if pieces_at.is_empty() {
                cpu_at_first = process::cpu_time(endpoint.pid)?;
            }
            pieces_at.push(now);
            if is_enough(&pieces_at) {
                break;
            }
        }
    }
    let ended_at = Instant::now();
    let cpu_after = process::cpu_time(endpoint.pid)?;
    connection.shutdown().await;
    if pieces_at.is_empty() {
        bail!("the answer has no text");
    }
    Ok(Answer {
        sent_at,
        pieces_at,
        ended_at,
        usage,
        cpu_first: cpu_at_first.saturating_sub(cpu_before),
        cpu_rest: cpu_after.saturating_sub(cpu_at_first),
    })
}

async fn send(
    address: SocketAddr,
    request: http::Request<Full<Bytes>>,
    connections: &mut JoinSet<hyper::Result<()>>,
) -> anyhow::Result<http::Response<Incoming>> {
    Ok(connect(address, connections).await?.send_request(request).await?)
}

async fn connect(
    address: SocketAddr,
    connections: &mut JoinSet<hyper::Result<()>>,
) -> anyhow::Result<SendRequest<Full<Bytes>>> {
    let socket = TcpStream::connect(address).await?;
    socket.set_nodelay(true)?;
    let (sender, connection) = http1::handshake(TokioIo::new(socket)).await?;
    connections.spawn(connection);
    Ok(sender)
}

#[derive(Deserialize)]
struct Chunk {
    #[serde(default)]
    choices: Vec<Choice>,
    usage: Option<Usage>,
    error: Option<Value>,
}

#[derive(Deserialize)]
struct Choice {
    #[serde(default)]
    delta: Delta,
}

#[derive(Default, Deserialize)]
struct Delta {
    content: Option<String>,
    reasoning_content: Option<String>,
}

impl Delta {
    fn has_text(&self) -> bool {
        [&self.content, &self.reasoning_content].into_iter().flatten().any(|text| !text.is_empty())
    }
}

#[cfg(test)]
mod tests;
