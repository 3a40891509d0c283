//! A thousand clients that reset or close their connections anywhere: nothing of them is left.

mod support;

use std::io;
use std::time::Duration;

use socket2::SockRef;
use support::fakes::Act;
use support::{STREAMED, Server, Setup, WHOLE, chat};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

const VISITS: usize = 1000;
/// At once: more than there are places, so that some leave before they were accepted.
const CROWD: usize = 50;
const PLACES: usize = 32;

/// What a visitor does before leaving, drawn beforehand so that a seed names a run.
#[derive(Debug, Clone)]
struct Visit {
    request: String,
    /// Bytes of the request that are sent.
    sent: usize,
    /// Bytes of the answer that are waited for.
    read: usize,
    /// How long the visitor stands there.
    stays: Duration,
    resets: bool,
}

impl Visit {
    fn draw(random: &mut fastrand::Rng) -> Self {
        let first = chat(if random.bool() { STREAMED } else { WHOLE });
        // Some keep their connection, or say more than one request.
        let request = match random.u8(..4) {
            0 => first.replace("Connection: close\r\n", ""),
            1 => format!("{}{first}", first.replace("Connection: close\r\n", "")),
            _ => first,
        };
        let sent = if random.bool() { request.len() } else { random.usize(..=request.len()) };
        let read = [0, 0, 1, random.usize(..400), 100_000][random.usize(..5)];
        Self { sent, read, stays: Duration::from_millis(random.u64(..20)), resets: random.bool(), request }
    }

    async fn make(self, server: &Server) -> io::Result<()> {
        let mut client = server.connect().await;
        if self.resets {
            SockRef::from(&client).set_linger(Some(Duration::ZERO))?;
        }
        client.write_all(&self.request.as_bytes()[..self.sent]).await?;
        // One who waits for more than comes leaves all the same.
        let mut answer = vec![0; self.read];
        let _in_time = tokio::time::timeout(Duration::from_millis(30), client.read_exact(&mut answer)).await;
        tokio::time::sleep(self.stays).await;
        Ok(())
    }
}

async fn storm(seed: u64) {
    let script = (0..20).flat_map(|_| [Act::Piece("word ".to_owned()), Act::Wait(Duration::from_millis(2))]);
    let mut setup = Setup::plays(script.chain([Act::End(inference::Finish::Stop)]).collect()).slots(4);
    setup.http.connections_max = PLACES;
    // Who sent half a request and stays is not who is looked for here.
    setup.http.head_timeout = Duration::from_millis(500);
    setup.http.body_timeout = Duration::from_millis(500);
    let server = setup.start().await;
    let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let before = tasks();

    let mut random = fastrand::Rng::with_seed(seed);
    let visits: Vec<Visit> = std::iter::repeat_with(|| Visit::draw(&mut random)).take(VISITS).collect();
    for crowd in visits.chunks(CROWD) {
        // Whether the server was quicker to close is nothing to the visitor.
        futures::future::join_all(crowd.iter().map(|visit| visit.clone().make(&server))).await;
    }

    server.until_idle().await;
    let deadline = std::time::Instant::now() + Duration::from_secs(20);
    while tasks() > before {
        assert!(std::time::Instant::now() < deadline, "seed {seed}: {} tasks are left of {before}", tasks());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    for (metric, labels) in [
        ("outrigger_requests_running", support::MODEL),
        ("outrigger_requests_waiting", r#"model="fake/model",priority="interactive""#),
        ("outrigger_prompt_tokens_waiting", support::MODEL),
        ("outrigger_callers", support::MODEL),
    ] {
        assert_eq!(server.metric(metric, labels), 0, "seed {seed}: {metric}");
    }
    // All places are free again, each of them.
    let mut clients = Vec::new();
    for _ in 0..PLACES {
        let mut client = server.begin("GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
        let mut some = [0; 12];
        client.read_exact(&mut some).await.expect("an answer");
        assert_eq!(&some, b"HTTP/1.1 200");
        clients.push(client);
    }
    drop(clients);
    assert_eq!(server.chat(WHOLE).await.status, 200, "seed {seed}");
}

#[tokio::test]
async fn a_thousand_who_leave_anywhere_leave_nothing_behind() {
    // The seed is the test's own, so that a run can be had again.
    storm(6).await;
}
