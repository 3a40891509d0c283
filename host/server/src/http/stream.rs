//! An answer as server-sent events.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Bytes;
use futures::Stream;
use tokio::time::{Instant, Sleep};

use super::status::Failure;
use crate::service::{Answer, AnswerEvent, ChatError};
use crate::wire::{ChunkWriter, event};

/// The events of an answer: who speaks, its deltas, how it ended, `[DONE]`. In silence a comment now and then. After
/// an error event the stream ends without `[DONE]`.
pub(super) struct EventStream {
    state: State,
    writer: ChunkWriter,
    ping: Pin<Box<Sleep>>,
    ping_interval: Duration,
}

enum State {
    Begun(Box<Answer>),
    Waiting(Step),
    Over,
}

/// The answer's next event, and the answer again. It owns the answer, since `Answer::next` must not be dropped half
/// way, and a borrowed future could not outlive one poll.
type Step = Pin<Box<dyn Future<Output = (Box<Answer>, Option<Result<AnswerEvent, ChatError>>)> + Send>>;

impl EventStream {
    pub(super) fn new(answer: Answer, writer: ChunkWriter, ping_interval: Duration) -> Self {
        let ping = Box::pin(tokio::time::sleep(ping_interval));
        Self { state: State::Begun(Box::new(answer)), writer, ping, ping_interval }
    }

    fn text_of(&mut self, answer: Box<Answer>, next: Option<Result<AnswerEvent, ChatError>>) -> Option<String> {
        match next? {
            Ok(AnswerEvent::Delta(delta, logprobs)) => {
                self.state = State::Waiting(step(answer));
                Some(self.writer.delta(&delta, logprobs))
            }
            // From here on the answer is dropped, and its slot is free before the client has read the end.
            Ok(AnswerEvent::Finished(finished)) => Some(self.writer.finish(&finished) + &event("[DONE]")),
            Err(error) => Some(event(&Failure::from(&error).body.json())),
        }
    }
}

impl Stream for EventStream {
    type Item = Result<Bytes, Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let text = match std::mem::replace(&mut self.state, State::Over) {
            State::Over => None,
            State::Begun(answer) => {
                self.state = State::Waiting(step(answer));
                Some(self.writer.role())
            }
            State::Waiting(mut step) => match step.as_mut().poll(cx) {
                Poll::Ready((answer, next)) => self.text_of(answer, next),
                Poll::Pending => {
                    self.state = State::Waiting(step);
                    std::task::ready!(self.ping.as_mut().poll(cx));
                    Some(": ping\n\n".to_owned())
                }
            },
        };
        let next_ping = Instant::now() + self.ping_interval;
        self.ping.as_mut().reset(next_ping);
        Poll::Ready(text.map(|text| Ok(Bytes::from(text))))
    }
}

fn step(mut answer: Box<Answer>) -> Step {
    Box::pin(async move {
        let next = answer.next().await;
        (answer, next)
    })
}

#[cfg(test)]
mod tests {
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
        let call = Call { request_id, traceparent: None, model: String::new(), headers: Vec::new() };
        service.chat(request, call, Endpoint::ChatCompletions).await.expect("an answer")
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
        };
        let started = Instant::now();
        let mut events = EventStream::new(answer(script).await, writer, limits::PING_INTERVAL);
        let mut heard = Vec::new();
        while let Some(Ok(bytes)) = events.next().await {
            let is_ping = bytes.starts_with(b": ping");
            heard.push((started.elapsed().as_secs(), is_ping));
        }
        // The role at once, two comments, and what comes after 40 s: text and end.
        assert_eq!(heard, [(0, false), (15, true), (30, true), (40, false), (40, false)]);
    }
}
