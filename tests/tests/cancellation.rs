//! A client that leaves gives its slot back, whatever the server is doing for it: waiting in line, reading the prompt, writing
//! the answer, or waiting for the client to read. The real binary on real sockets; the times are printed
//! (`cargo nextest run -p tests --test cancellation --no-capture`).

use std::io::Read as _;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use socket2::{Domain, Socket, Type};
use tests::host::{Host, PATIENCE, demo_model, send_chat};
use tests::markov::Markov;

const ID: &str = "m";

fn real() -> Host {
    Host::serve(&demo_model(), &["--model-id=m", "--context-length=4096", "--max-concurrency=1", "--draft-max=0"])
}

fn chat(words: usize, max_tokens: u32) -> Value {
    json!({
        "model": ID,
        "messages": [{"role": "user", "content": "river stone ".repeat(words / 2)}],
        "max_tokens": max_tokens,
        "ignore_eos": true,
        "stream": true,
    })
}

/// Waits until so many requests hold a slot and so many wait for one; how long that took.
fn until(host: &Host, running: u64, waiting: u64) -> Duration {
    let started = Instant::now();
    while (host.metric("outrigger_requests_running", &[]), host.metric("outrigger_requests_waiting", &[]))
        != (running, waiting)
    {
        assert!(started.elapsed() < PATIENCE, "never {running} running and {waiting} waiting");
    }
    started.elapsed()
}

/// The client leaves; how long it takes until its slot is free.
fn leave(host: &Host, client: TcpStream, phase: &str) -> Duration {
    drop(client);
    let took = until(host, 0, 0);
    println!("a client that left while {phase}: its slot was free after {took:?}");
    took
}

fn read_text(client: &mut TcpStream, wanted: &str) {
    let mut text = String::new();
    let mut some = [0; 4096];
    while !text.contains(wanted) {
        let count = client.read(&mut some).expect("a stream");
        assert!(count > 0, "the stream ended: {text}");
        text.push_str(&String::from_utf8_lossy(&some[..count]));
    }
}

#[test]
fn in_every_phase_of_a_real_answer() {
    let host = real();
    // A whole prefill, for comparison.
    let started = Instant::now();
    let mut client = host.begin_chat(&chat(1200, 1));
    read_text(&mut client, "[DONE]");
    let prefill = started.elapsed();
    drop(client);
    until(&host, 0, 0);

    let client = host.begin_chat(&json!({"model": ID, "stream": true, "max_tokens": 8,
        "messages": [{"role": "user", "content": format!("Listen. {}", "garden letter ".repeat(600))}]}));
    until(&host, 1, 0);
    // Into the middle of it.
    std::thread::sleep(prefill / 8);
    let took = leave(&host, client, "its prompt was read");
    assert!(took < prefill / 4, "{took:?}, and a whole prefill takes {prefill:?}");

    let mut client = host.begin_chat(&chat(8, 4000));
    read_text(&mut client, "\"delta\":{\"content\":\"");
    let queued = host.begin_chat(&chat(4, 4));
    until(&host, 1, 1);
    drop(queued);
    println!("a client that left the line: its place was free after {:?}", until(&host, 1, 0));
    leave(&host, client, "its answer was written");

    // None of them came to its end.
    host.wait_until("three are given up", |host| host.log().matches("\"outcome\":\"cancelled\"").count() >= 3);
    let reply = host.chat(&json!({"model": ID, "max_tokens": 2, "messages": [{"role": "user", "content": "hi"}]}));
    assert_eq!(reply.status, 200, "{}", reply.text);
}

/// CPU time that a process has used, in hundredths of a second (`proc_pid_stat(5)`). A decode thread at work uses 50 in half a
/// second.
fn cpu_ticks(pid: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("a process");
    let (_, fields) = stat.rsplit_once(") ").expect("a name in brackets");
    fields.split(' ').skip(11).take(2).map(|ticks| ticks.parse::<u64>().expect("a number")).sum()
}

#[test]
fn while_it_does_not_read() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("m.gguf");
    Markov::default().context_length(65_536).endless(&["tick ", "tock "]).write(&path).expect("a written model");
    let host = Host::serve(&path, &["--context-length=65536", "--draft-max=0"]);
    // Little room on the client's side, and more to write than the server's side takes.
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    socket.set_recv_buffer_size(4096).expect("a small buffer");
    socket.connect(&host.address().into()).expect("a connection");
    let mut client = send_chat(socket.into(), &chat(2, 60_000));
    read_text(&mut client, "tick");
    // Nothing more is computed: the answer waits for its reader, and was not given up.
    host.wait_until("nothing is computed", |host| {
        let before = cpu_ticks(host.pid());
        std::thread::sleep(Duration::from_millis(500));
        cpu_ticks(host.pid()) - before <= 5
    });
    assert_eq!(host.metric("outrigger_requests_running", &[]), 1, "the answer was given up");
    leave(&host, client, "nobody read its answer");
    host.wait_until("it is given up", |host| host.log().contains("\"outcome\":\"cancelled\""));
}
