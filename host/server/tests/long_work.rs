//! Work that goes on when nobody waits for it any more: it keeps its slot until it ends, and ends as soon as it can.

mod support;

use std::ops::Range;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use inference::{EncodingTask, SpecialTokens, Token, Vocabulary};
use server::{Drained, Serving};
use support::encoder::{FakeEncoder, Fate};
use support::fakes::{Bytes, FakeEngine, says};
use support::{Reply, STREAMED, Server, Setup, WHOLE, chat, post};
use tokio::io::AsyncWriteExt as _;

/// A tokenizer that takes as long as the test likes for a long text.
#[derive(Default)]
struct Slow {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    is_open: bool,
    /// Texts that it was asked for.
    begun: usize,
}

impl Slow {
    fn open(&self) {
        self.state.lock().expect("no test panicked").is_open = true;
        self.changed.notify_all();
    }

    fn begun(&self) -> usize {
        self.state.lock().expect("no test panicked").begun
    }

    async fn until_begun(&self, texts: usize) {
        while self.begun() < texts {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

impl Vocabulary for Slow {
    fn size(&self) -> u32 {
        Bytes.size()
    }
    fn tokenize(&self, text: &str, special: SpecialTokens) -> Vec<Token> {
        if text.len() > 1024 {
            let mut state = self.state.lock().expect("no test panicked");
            state.begun += 1;
            drop(self.changed.wait_while(state, |state| !state.is_open).expect("no test panicked"));
        }
        Bytes.tokenize(text, special)
    }
    fn append_piece(&self, token: Token, bytes: &mut Vec<u8>) {
        Bytes.append_piece(token, bytes);
    }
    fn find_control_token(&self, text: &str) -> Option<(Range<usize>, Token)> {
        Bytes.find_control_token(text)
    }
    fn prompt_start(&self) -> Option<Token> {
        None
    }
    fn beginning_of_sequence(&self) -> Option<Token> {
        None
    }
    fn ends_generation(&self, token: Token) -> bool {
        Bytes.ends_generation(token)
    }
}

/// A server of one slot and no line, with this tokenizer.
async fn server(setup: Setup) -> (Server, Arc<Slow>) {
    let mut setup = Setup { is_ready: false, ..setup };
    setup.service.queue_max = 0;
    let server = setup.start().await;
    let slow = Arc::new(Slow::default());
    let mut engine = FakeEngine::new(1, says(&["ok"]));
    Arc::get_mut(&mut engine).expect("new").vocabulary = Arc::clone(&slow) as _;
    server.service.ready(Serving { engine, pipeline: Arc::new(server.pipeline.clone()) });
    (server, slow)
}

fn long(body: &str) -> String {
    body.replace("Hi", &"word ".repeat(10_000))
}

#[tokio::test]
async fn a_slot_is_taken_until_the_work_ends_whoever_waits_for_it() {
    let (server, slow) = server(Setup::default()).await;
    let hurried = chat(&long(WHOLE)).replacen("Content-Type", "X-Request-Timeout: 2\r\nContent-Type", 1);
    let reply = server.send(&hurried).await;
    assert_eq!((reply.status, reply.error().0.as_str()), (504, "deadline_exceeded"));
    slow.until_begun(1).await;
    assert_eq!(server.service.standing().running, 1);
    assert_eq!(server.chat(WHOLE).await.error().0, "queue_full");
    slow.open();
    server.until_idle().await;
    assert_eq!(server.chat(WHOLE).await.status, 200);
}

#[tokio::test]
async fn who_leaves_keeps_the_slot_until_its_work_ends() {
    let (server, slow) = server(Setup::default()).await;
    let tokenize = serde_json::json!({"model": "fake/model", "prompt": "word ".repeat(10_000)}).to_string();
    for (number, request) in
        [chat(&long(WHOLE)), chat(&long(STREAMED)), post("/tokenize", &tokenize)].iter().enumerate()
    {
        slow.state.lock().expect("no test panicked").is_open = false;
        let mut client = server.connect().await;
        client.write_all(request.as_bytes()).await.expect("the server reads");
        slow.until_begun(number + 1).await;
        drop(client);
        // The client's end is noticed within a watch interval; the work is not over by that.
        tokio::time::sleep(2 * server::limits::WATCH_INTERVAL).await;
        assert_eq!(server.service.standing().running, 1, "{number}");
        slow.open();
        server.until_idle().await;
    }
}

#[tokio::test]
async fn work_that_nobody_waits_for_ends_between_inputs() {
    let mut setup = Setup { is_ready: false, ..Setup::default() };
    setup.service.queue_max = 0;
    let server = setup.start().await;
    let slow = Arc::new(Slow::default());
    let mut encoder = FakeEncoder::new(EncodingTask::Embedding { dimensions: 3 }, 1, Fate::Encode);
    Arc::get_mut(&mut encoder).expect("new").vocabulary = Arc::clone(&slow) as _;
    server.service.ready_to_encode(encoder);
    let input = vec!["word ".repeat(1_000); 20];
    let body = serde_json::json!({"model": "fake/model", "input": input, "truncate": true}).to_string();
    let hurried = post("/v1/embeddings", &body).replacen("Content-Type", "X-Request-Timeout: 2\r\nContent-Type", 1);
    assert_eq!(server.send(&hurried).await.status, 504);
    slow.until_begun(1).await;
    assert_eq!(server.service.standing().running, 1);
    slow.open();
    server.until_idle().await;
    assert_eq!(slow.begun(), 1, "the other nineteen are nobody's");
}

/// What is broken off says so, also where it had not begun to answer.
#[tokio::test]
async fn a_drain_breaks_off_what_is_beginning() {
    let mut setup = Setup::default();
    setup.http.drain_grace = Duration::from_millis(100);
    let (mut server, slow) = server(setup).await;
    let mut client = server.connect().await;
    client.write_all(chat(&long(WHOLE)).as_bytes()).await.expect("the server reads");
    slow.until_begun(1).await;
    server.begin_drain();
    let reply = Reply::read(&mut client).await;
    assert_eq!((reply.status, reply.error().0.as_str()), (503, "shutting_down"));
    assert_eq!(server.drained().await, Drained::Cancelled { requests: 1 });
    slow.open();
}
