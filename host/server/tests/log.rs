//! The one line per request: how it ended, and never what was said.

mod support;

use std::fmt::Write as _;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use inference::{FaultKind, PipelineError, Stage};
use support::fakes::{Act, FakePipeline, says};
use support::{STREAMED, Setup, WHOLE, chat, post};
use tokio::io::AsyncWriteExt as _;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

/// Every event of this thread, at every level, as `LEVEL target: name=value …`.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<String>>>);

impl Subscriber for Log {
    fn enabled(&self, _metadata: &Metadata<'_>) -> bool {
        true
    }
    fn new_span(&self, _span: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }
    fn record(&self, _span: &Id, _values: &Record<'_>) {}
    fn record_follows_from(&self, _span: &Id, _follows: &Id) {}
    fn event(&self, event: &Event<'_>) {
        struct Line(String);
        impl Visit for Line {
            fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
                write!(self.0, " {}={value:?}", field.name()).expect("writing to a String cannot fail");
            }
        }
        let mut line = Line(format!("{} {}:", event.metadata().level(), event.metadata().target()));
        event.record(&mut line);
        self.0.lock().expect("no test panicked").push(line.0);
    }
    fn enter(&self, _span: &Id) {}
    fn exit(&self, _span: &Id) {}
}

impl Log {
    /// The lines about requests, which the service writes.
    fn requests(&self) -> Vec<String> {
        let lines = self.0.lock().expect("no test panicked");
        lines.iter().filter(|line| line.contains("server::service")).cloned().collect()
    }

    fn check_last(&self, level: Level, contains: &[&str]) {
        let line = self.requests().pop().expect("a line");
        assert!(line.starts_with(level.as_str()), "{line}");
        for text in contains {
            assert!(line.contains(text), "{text} is missing in {line}");
        }
    }
}

const CANARY: &str = "canary-7f3a";

#[tokio::test]
async fn each_request_leaves_one_line_without_content() {
    let log = Log::default();
    let _guard = tracing::subscriber::set_default(log.clone());
    let request = WHOLE.replace("Hi", CANARY);

    let pipeline = FakePipeline {
        annotations: vec![("redact.masked".to_owned(), "2".to_owned())],
        thinks_until: Some("|".to_owned()),
        ..FakePipeline::default()
    };
    let server = Setup { script: says(&[CANARY, "|", CANARY]), pipeline, ..Setup::default() }.start().await;
    assert!(server.chat(&request).await.body.contains(CANARY));
    let expected = ["outcome=\"stop\"", "prompt_tokens=11", "completion_tokens=4", "redact.masked", "prefill_ms=2.0"];
    log.check_last(Level::INFO, &expected);

    let refused = server.chat(&request.replace("fake/model", "other")).await;
    assert_eq!(refused.status, 404);
    assert_eq!(log.requests().len(), 1, "what never reached the model is the transport's to count");

    let fault = PipelineError::Fault {
        plugin: "redact".to_owned(),
        stage: Stage::Policy,
        kind: FaultKind::Memory,
        detail: "grew to 40 MiB of 32".to_owned(),
    };
    let pipeline = FakePipeline { refuses: Some(fault), ..FakePipeline::default() };
    let server = Setup { pipeline, ..Setup::default() }.start().await;
    let reply = server.chat(&request).await;
    // The detail is for the operator, who finds the request by its name.
    assert!(!reply.body.contains("40 MiB"));
    let id = reply.header("x-request-id").expect("every reply has one");
    log.check_last(Level::WARN, &["outcome=\"failed\"", "grew to 40 MiB of 32", "plugin `redact`", id]);

    let server = Setup::plays(vec![Act::Piece(CANARY.to_owned()), Act::Hang]).start().await;
    let mut client = server.connect().await;
    client.write_all(chat(&STREAMED.replace("Hi", CANARY)).as_bytes()).await.expect("the server reads");
    server.until_running(1).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    drop(client);
    server.until_idle().await;
    log.check_last(Level::INFO, &["outcome=\"cancelled\"", "completion_tokens=1", "stream=true"]);

    // A prompt that was only looked at is no answer.
    let server = Setup::default().start().await;
    let counted = server.send(&post("/v1/messages/count_tokens", &request)).await;
    assert_eq!(counted.status, 200, "{}", counted.body);
    log.check_last(Level::INFO, &["outcome=\"rendered\"", "endpoint=\"count_tokens\"", "prompt_tokens=11"]);

    assert_eq!(log.requests().len(), 4);
    let lines = log.0.lock().expect("no test panicked");
    assert!(!lines.iter().any(|line| line.contains(CANARY)), "{lines:#?}");
}
