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
use crate::wire::{ChunkWriter, event as event_of};

/// The events of an answer: who speaks, its deltas, how it ended, `[DONE]`. In silence a comment now and then. After
/// an error event the stream ends without `[DONE]`.
pub(super) struct EventStream {
    /// `None` when nothing follows any more.
    answer: Option<Answer>,
    has_begun: bool,
    writer: ChunkWriter,
    ping: Pin<Box<Sleep>>,
    ping_interval: Duration,
    /// The request's share of what bodies may take, while its text is kept for choices that have not begun.
    _share: Option<OwnedSemaphorePermit>,
}

impl EventStream {
    pub(super) fn new(
        answer: Answer,
        writer: ChunkWriter,
        ping_interval: Duration,
        share: Option<OwnedSemaphorePermit>,
    ) -> Self {
        let ping = Box::pin(tokio::time::sleep(ping_interval));
        Self { answer: Some(answer), has_begun: false, writer, ping, ping_interval, _share: share }
    }

    fn text_of(&mut self, event: Result<AnswerEvent, ChatError>) -> String {
        match event {
            Ok(AnswerEvent::Delta { choice, delta, logprobs }) => self.writer.delta(choice, &delta, logprobs),
            Ok(AnswerEvent::Finished(finished)) => {
                let mut text = self.writer.finish(&finished);
                if finished.usage.is_some() {
                    // The answer's slots are free before the client has read the end.
                    self.answer = None;
                    text += &event_of("[DONE]");
                }
                text
            }
            Err(error) => {
                self.answer = None;
                event_of(&Failure::from(&error).body.json())
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
                    ": ping\n\n".to_owned()
                }
            }
        } else {
            this.has_begun = true;
            this.writer.roles()
        };
        this.ping.as_mut().reset(Instant::now() + this.ping_interval);
        Poll::Ready(Some(Ok(Bytes::from(text))))
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;
    use std::sync::Arc;

    use futures::StreamExt as _;
    use inference::{Call, ChatRequest, Message, Part, RequestId, Role, Sampling};
    use telemetry::{Endpoint, Metrics};

    use super::*;
    use crate::fakes::{Act, FakeEngine, FakePipeline, says};
    use crate::limits;
    use crate::service::{Service, ServiceConfig, Serving};

    async fn answer(script: Vec<Act>) -> Answer {
        let service = Service::new(ServiceConfig::default(), Metrics::new(&[]));
        service.ready(Serving { engine: FakeEngine::new(1, script), pipeline: Arc::new(FakePipeline::default()) });
        let message = Message { role: Role::User, name: None, parts: vec![Part::Text("hi".to_owned())] };
        let request = ChatRequest {
            model: "fake/model".to_owned(),
            messages: vec![message],
            tools: Vec::new(),
            tool_choice: inference::ToolChoice::Auto,
            parallel_tool_calls: true,
            sampling: Sampling::default(),
            max_tokens: None,
            stop: Vec::new(),
            streaming: true,
            stop_tokens: Vec::new(),
            ignore_end: false,
            logprobs: None,
            format: None,
            template_arguments: "{}".to_owned(),
        };
        let request_id = RequestId::new("r1");
        let call = Call { request_id, traceparent: None, model: String::new(), headers: Vec::new(), choice: 0 };
        service.chat(request, call, Endpoint::ChatCompletions, NonZeroU32::MIN).await.expect("an answer")
    }

    #[tokio::test(start_paused = true)]
    async fn silence_carries_a_comment_every_15_seconds() {
        let script = [vec![Act::Wait(Duration::from_secs(40))], says(&["late"]), vec![]].concat();
        let writer = ChunkWriter {
            id: String::new(),
            created: 0,
            model: String::new(),
            fingerprint: String::new(),
            include_usage: false,
            has_logprobs: false,
            is_calls: false,
            choices: 1,
        };
        let started = Instant::now();
        let mut events = EventStream::new(answer(script).await, writer, limits::PING_INTERVAL, None);
        let mut heard = Vec::new();
        while let Some(Ok(bytes)) = events.next().await {
            let is_ping = bytes.starts_with(b": ping");
            heard.push((started.elapsed().as_secs(), is_ping));
        }
        // The role at once, two comments, and what comes after 40 s: text and end.
        assert_eq!(heard, [(0, false), (15, true), (30, true), (40, false), (40, false)]);
    }
}
