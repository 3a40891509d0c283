//! An answer as server-sent events.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Bytes;
use futures::{Stream, StreamExt as _};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, Sleep};

use super::status::Failure;
use crate::service::{Answer, AnswerEvent, ChatError};
use crate::wire::Writer;

/// The events of an answer, as its form has them. In silence a ping now and then. After an error event the stream ends without
/// what ends a whole one.
pub(super) struct EventStream {
    /// `None` when nothing follows any more.
    answer: Option<Answer>,
    has_begun: bool,
    writer: Box<dyn Writer>,
    ping: Pin<Box<Sleep>>,
    ping_interval: Duration,
    /// The request's share of what bodies may take, while its text is kept for choices that have not begun.
    _share: Option<OwnedSemaphorePermit>,
}

impl EventStream {
    pub(super) fn new(
        answer: Answer,
        writer: Box<dyn Writer>,
        ping_interval: Duration,
        share: Option<OwnedSemaphorePermit>,
    ) -> Self {
        let ping = Box::pin(tokio::time::sleep(ping_interval));
        Self { answer: Some(answer), has_begun: false, writer, ping, ping_interval, _share: share }
    }

    fn text_of(&mut self, event: Result<AnswerEvent, ChatError>) -> String {
        match event {
            Ok(AnswerEvent::Delta { choice, delta, logprobs }) => self.writer.delta(choice, delta, logprobs),
            Ok(AnswerEvent::Finished(finished)) => {
                if finished.usage.is_some() {
                    // The answer's slots are free before the client has read the end.
                    self.answer = None;
                }
                self.writer.finish(&finished)
            }
            Err(error) => {
                self.answer = None;
                let failure = Failure::from(&error);
                self.writer.failed(failure.status.as_u16(), &failure.body)
            }
        }
    }
}

impl Stream for EventStream {
    type Item = Result<Bytes, Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        let Some(answer) = &mut this.answer else { return Poll::Ready(None) };
        let text = if this.has_begun {
            match answer.poll_next_unpin(cx) {
                Poll::Ready(Some(event)) => this.text_of(event),
                Poll::Ready(None) => {
                    this.answer = None;
                    return Poll::Ready(None);
                }
                Poll::Pending => {
                    std::task::ready!(this.ping.as_mut().poll(cx));
                    this.writer.ping().to_owned()
                }
            }
        } else {
            this.has_begun = true;
            this.writer.begin()
        };
        this.ping.as_mut().reset(Instant::now() + this.ping_interval);
        Poll::Ready(Some(Ok(Bytes::from(text))))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use futures::StreamExt as _;
    use inference::{Call, RequestId};
    use telemetry::{Endpoint, Metrics};

    use super::*;
    use crate::fakes::{Act, FakeEngine, FakePipeline, says};
    use crate::limits;
    use crate::service::{Defaults, Service, ServiceConfig, Serving};
    use crate::wire::{self, Head};

    const BODY: &str = r#"{"model":"fake/model","messages":[{"role":"user","content":"hi"}],"stream":true}"#;

    async fn answer(script: Vec<Act>) -> Answer {
        let service = Service::new(ServiceConfig::default(), Metrics::new(&[]));
        service.ready(Serving { engine: FakeEngine::new(1, script), pipeline: Arc::new(FakePipeline::default()) });
        let parsed = wire::parse_chat(BODY.as_bytes(), &Defaults::default()).expect("a request");
        let request_id = RequestId::new("r1");
        let call = Call { request_id, traceparent: None, model: String::new(), headers: Vec::new(), choice: 0 };
        service.generate(parsed.asked, call, Endpoint::ChatCompletions).await.expect("an answer")
    }

    #[tokio::test(start_paused = true)]
    async fn silence_carries_a_comment_every_15_seconds() {
        let script = [vec![Act::Wait(Duration::from_secs(40))], says(&["late"]), vec![]].concat();
        let started = Instant::now();
        let parsed = wire::parse_chat(BODY.as_bytes(), &Defaults::default()).expect("a request");
        let answer = answer(script).await;
        let writer = (parsed.writer)(Head::of(&answer));
        let mut events = EventStream::new(answer, writer, limits::PING_INTERVAL, None);
        let mut heard = Vec::new();
        while let Some(Ok(bytes)) = events.next().await {
            let is_ping = bytes.starts_with(b": ping");
            heard.push((started.elapsed().as_secs(), is_ping));
        }
        // The role at once, two comments, and what comes after 40 s: text and end.
        assert_eq!(heard, [(0, false), (15, true), (30, true), (40, false), (40, false)]);
    }
}
