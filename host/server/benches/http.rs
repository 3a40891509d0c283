//! What the way through HTTP and admission costs: `cargo bench -p server`. The engine is a script that answers at once, so what a client
//! waits for is ours.
//!
//! The server has one thread, as it has for HTTP on up to seven cores; its clients have another.

#[path = "../tests/support/mod.rs"]
mod support;

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use futures::future::join_all;
use support::{STREAMED, Setup, WHOLE, fakes};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::oneshot;

/// Requests a second, and how many of them are measured.
const RATE: u32 = 200;
const REQUESTS: u32 = 4_000;
/// Slots, and connections that take turns.
const SLOTS: usize = 16;
/// Of the answers that are measured for latency.
const PIECES: usize = 16;
/// Of the streams that are measured for throughput.
const PIECES_LONG: usize = 200_000;

fn main() {
    println!("{:<66} {:>11} {:>11}", "", "p50", "p99");
    for (what, body, end) in [("whole", WHOLE, "\"usage\""), ("streamed", STREAMED, "data: [DONE]")] {
        let server = Served::start(vec!["word "; PIECES]);
        let mut times = runtime().block_on(latencies(server.address, body, end));
        times.sort_unstable();
        let at = |part: usize| times[(times.len() - 1) * part / 100].as_secs_f64() * 1e3;
        let (p50, p99) = (at(50), at(99));
        let gate = met(p50 <= 0.3 && p99 <= 2.0);
        println!(
            "{:<66} {p50:>8.3} ms {p99:>8.3} ms  ≤ 0.3 ms, p99 ≤ 2 ms {gate}",
            format!("a {what} answer of {PIECES} pieces, {RATE} a second")
        );
    }
    for streams in [1, SLOTS] {
        let server = Served::start(vec!["word "; PIECES_LONG / streams]);
        let (bytes, took) = runtime().block_on(throughput(server.address, streams));
        let chunks = (PIECES_LONG / streams * streams) as f64 / took.as_secs_f64();
        println!(
            "{:<66} {chunks:>8.0} /s  {:>8.1} MB/s  ≥ 20000 /s {}",
            format!("chunks of {streams} streams at once"),
            bytes as f64 / took.as_secs_f64() / 1e6,
            met(chunks >= 20_000.0)
        );
    }
}

fn met(is_met: bool) -> &'static str {
    if is_met { "met" } else { "MISSED" }
}

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().expect("a runtime")
}

/// A server on a thread of its own.
struct Served {
    address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Served {
    fn start(pieces: Vec<&'static str>) -> Self {
        let (tell, told) = mpsc::channel();
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::spawn(move || {
            runtime().block_on(async {
                let mut setup = Setup { script: fakes::says(&pieces), ..Setup::default() };
                setup.service.max_concurrency = NonZeroUsize::new(SLOTS).expect("slots");
                let server = setup.start().await;
                tell.send(server.address).expect("somebody asks");
                let _told = stopped.await;
            });
        });
        let address = told.recv().expect("the server starts");
        Self { address, stop: Some(stop), thread: Some(thread) }
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            thread.join().expect("the server did not panic");
        }
    }
}

/// Sends requests at their times, whatever became of those before, and says how long each took from its time to its end.
async fn latencies(address: SocketAddr, body: &str, end: &str) -> Vec<Duration> {
    let pause = Duration::from_secs(1) / RATE;
    let started = Instant::now() + pause;
    let client = |number: usize| async move {
        let mut connection = connect(address).await;
        let mut times = Vec::new();
        let mut heard = Vec::new();
        for request in (number..REQUESTS as usize).step_by(SLOTS) {
            let due = started + pause * u32::try_from(request).expect("some thousands");
            tokio::time::sleep_until(due.into()).await;
            // The timer wakes on whole milliseconds: what it is late by is not the server's.
            let asked = Instant::now();
            connection.write_all(kept(body).as_bytes()).await.expect("the server reads");
            heard.clear();
            read_until(&mut connection, &mut heard, end).await;
            times.push(asked.elapsed());
        }
        times
    };
    join_all((0..SLOTS).map(client)).await.concat()
}

/// Reads so many streams at once to their ends: their bytes, and the time from the first request to the last byte.
async fn throughput(address: SocketAddr, streams: usize) -> (usize, Duration) {
    let started = Instant::now();
    let stream = |_| async {
        let mut connection = connect(address).await;
        connection.write_all(kept(STREAMED).as_bytes()).await.expect("the server reads");
        let (mut bytes, mut buffer, mut tail) = (0, vec![0; 64 * 1024], Vec::new());
        loop {
            let read = connection.read(&mut buffer).await.expect("the server answers");
            assert_ne!(read, 0, "the stream ends with [DONE]");
            bytes += read;
            tail.extend_from_slice(&buffer[..read]);
            tail.drain(..tail.len().saturating_sub(64));
            if String::from_utf8_lossy(&tail).contains("[DONE]") {
                return bytes;
            }
        }
    };
    let bytes = join_all((0..streams).map(stream)).await.into_iter().sum();
    (bytes, started.elapsed())
}

async fn connect(address: SocketAddr) -> TcpStream {
    let connection = TcpStream::connect(address).await.expect("the server listens");
    connection.set_nodelay(true).expect("a socket");
    connection
}

/// A request whose connection stays open.
fn kept(body: &str) -> String {
    support::chat(body).replace("Connection: close\r\n", "")
}

/// Reads until the end of an answer has come, and nothing behind it: chunks end with one that is empty.
async fn read_until(connection: &mut TcpStream, heard: &mut Vec<u8>, end: &str) {
    loop {
        let read = connection.read_buf(heard).await.expect("the server answers");
        assert_ne!(read, 0, "the connection stays open: {}", String::from_utf8_lossy(heard));
        let text = String::from_utf8_lossy(heard);
        let is_chunked = text.contains("chunked");
        let whole = if is_chunked { text.ends_with("\r\n0\r\n\r\n") } else { text.trim_end().ends_with('}') };
        if whole {
            assert!(text.contains(end) && text.starts_with("HTTP/1.1 200"), "{text}");
            return;
        }
    }
}
