//! An answer as server-sent events.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Bytes;
use futures::{Stream, StreamExt as _};
use tokio::time::{Instant, Sleep};

use super::status::Failure;
use crate::Position;
use crate::service::{Answer, AnswerEvent, ChatError, Share};
use crate::wire::{Head, Writer, WriterFor};

/// The events of an answer, as its form has them. In silence a ping now and then, and in the line a comment that says how long it is.
/// After an error event the stream ends without what ends a whole one.
pub(super) struct EventStream {
    state: State,
    ping: Pin<Box<Sleep>>,
    of: StreamOf,
    /// The request's share of what bodies may take, while its text is kept for choices that have not begun.
    share: Option<Share>,
}

/// What a stream is of.
#[derive(Debug, Clone, Copy)]
pub(super) struct StreamOf {
    /// The member of the request that the prompt is made of, which errors name.
    pub(super) prompt: &'static str,
    /// Silence after which it carries a comment.
    pub(super) ping_interval: Duration,
}

enum State {
    Waiting(Waiting),
    Beginning(Answer, Box<dyn Writer>),
    Answering(Answer, Box<dyn Writer>),
    /// Nothing follows any more.
    Over,
}

/// An answer that has not begun after the first silence.
pub(super) struct Waiting {
    pub(super) answer: Pin<Box<dyn Future<Output = Result<Answer, ChatError>> + Send>>,
    /// Where it stands in the line, if that is what it waits in.
    pub(super) place: Arc<OnceLock<Position>>,
    pub(super) writer: WriterFor,
    /// Who speaks if it never begins.
    pub(super) nobody: Head,
    /// The request's text is needed beyond that.
    pub(super) keeps_text: bool,
}

impl EventStream {
    pub(super) fn new(answer: Answer, writer: WriterFor, of: StreamOf, share: Option<Share>) -> Self {
        let writer = writer(Head::of(&answer));
        Self::with(State::Beginning(answer, writer), of.ping_interval, of, share)
    }

    pub(super) fn waiting(waiting: Waiting, of: StreamOf, share: Option<Share>) -> Self {
        // The first silence is over.
        Self::with(State::Waiting(waiting), Duration::ZERO, of, share)
    }

    fn with(state: State, first: Duration, of: StreamOf, share: Option<Share>) -> Self {
        Self { state, ping: Box::pin(tokio::time::sleep(first)), of, share }
    }

    /// The next text, and what follows it; `None` while there is none.
    fn advance(&mut self, state: State, cx: &mut Context<'_>) -> (State, Option<String>) {
        match state {
            State::Over => (State::Over, None),
            State::Waiting(mut waiting) => match waiting.answer.as_mut().poll(cx) {
                Poll::Ready(Ok(answer)) => {
                    self.share = self.share.take().filter(|_| waiting.keeps_text);
                    let mut writer = (waiting.writer)(Head::of(&answer));
                    let text = writer.begin();
                    (State::Answering(answer, writer), Some(text))
                }
                Poll::Ready(Err(error)) => {
                    (State::Over, Some(self.failed(&mut *(waiting.writer)(waiting.nobody), &error)))
                }
                Poll::Pending => {
                    let text = self.ping.as_mut().poll(cx).is_ready().then(|| waiting.comment());
                    (State::Waiting(waiting), text)
                }
            },
            State::Beginning(answer, mut writer) => {
                let text = writer.begin();
                (State::Answering(answer, writer), Some(text))
            }
            State::Answering(mut answer, mut writer) => match answer.poll_next_unpin(cx) {
                Poll::Ready(Some(Ok(AnswerEvent::Delta { choice, delta, logprobs }))) => {
                    let text = writer.delta(choice, delta, logprobs);
                    (State::Answering(answer, writer), Some(text))
                }
                Poll::Ready(Some(Ok(AnswerEvent::Finished(finished)))) => {
                    let text = writer.finish(&finished);
                    // The answer's slots are free before the client has read the end.
                    let is_last = finished.usage.is_some();
                    (if is_last { State::Over } else { State::Answering(answer, writer) }, Some(text))
                }
                Poll::Ready(Some(Err(error))) => (State::Over, Some(self.failed(&mut *writer, &error))),
                Poll::Ready(None) => (State::Over, None),
                Poll::Pending => {
                    let text = self.ping.as_mut().poll(cx).is_ready().then(|| writer.ping().to_owned());
                    (State::Answering(answer, writer), text)
                }
            },
        }
    }

    fn failed(&self, writer: &mut dyn Writer, error: &ChatError) -> String {
        let failure = Failure::of(error, self.of.prompt);
        writer.failed(failure.status.as_u16(), &failure.body)
    }
}

impl Waiting {
    /// Every reader of events passes over a comment; a person who looks at the stream learns what it waits for.
    fn comment(&self) -> String {
        match self.place.get().and_then(Position::ahead) {
            Some(ahead) => format!(": waiting, about {ahead} before this one\n\n"),
            None => ": waiting\n\n".to_owned(),
        }
    }
}

impl Stream for EventStream {
    type Item = Result<Bytes, Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        loop {
            let state = std::mem::replace(&mut this.state, State::Over);
            let (state, text) = this.advance(state, cx);
            let is_over = matches!(state, State::Over);
            this.state = state;
            if is_over {
                this.share = None;
            }
            match text {
                // What waits for its turn is not heard: the silence goes on.
                Some(text) if text.is_empty() && !is_over => {}
                Some(text) => {
                    this.ping.as_mut().reset(Instant::now() + this.of.ping_interval);
                    return Poll::Ready(Some(Ok(Bytes::from(text))));
                }
                None if is_over => return Poll::Ready(None),
                None => return Poll::Pending,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::StreamExt as _;
    use inference::{Call, Delta, RequestId, TokenLogprobs, Usage};
    use telemetry::{Endpoint, Metrics};

    use super::*;
    use crate::fakes::{Act, FakeEngine, FakePipeline, says};
    use crate::limits;
    use crate::service::{Defaults, Finished, Service, ServiceConfig, Serving, Terms};
    use crate::wire::{self, ErrorBody};

    const BODY: &str = r#"{"model":"fake/model","messages":[{"role":"user","content":"hi"}],"stream":true}"#;

    async fn answer(script: Vec<Act>) -> Answer {
        let service = Service::new(ServiceConfig::new("fake/model"), Metrics::new(&[]));
        service.ready(Serving { engine: FakeEngine::new(1, script), pipeline: Arc::new(FakePipeline::default()) });
        let parsed = wire::parse_chat(BODY.as_bytes(), &Defaults::default()).expect("a request");
        let request_id = RequestId::new("r1");
        let call = Call { request_id, traceparent: None, model: String::new(), headers: Vec::new(), choice: 0 };
        service.generate(parsed.asked, call, &Terms::default(), Endpoint::ChatCompletions).await.expect("an answer")
    }

    #[tokio::test(start_paused = true)]
    async fn silence_carries_a_comment_every_15_seconds() {
        let script = [vec![Act::Wait(Duration::from_secs(40))], says(&["late"]), vec![]].concat();
        let started = Instant::now();
        let parsed = wire::parse_chat(BODY.as_bytes(), &Defaults::default()).expect("a request");
        let answer = answer(script).await;
        let mut events = {
            let of = StreamOf { prompt: "messages", ping_interval: limits::PING_INTERVAL };
            EventStream::new(answer, parsed.writer, of, None)
        };
        let mut heard = Vec::new();
        while let Some(Ok(bytes)) = events.next().await {
            let is_ping = bytes.starts_with(b": ping");
            heard.push((started.elapsed().as_secs(), is_ping));
        }
        // The role at once, two comments, and what comes after 40 s: text and end.
        assert_eq!(heard, [(0, false), (15, true), (30, true), (40, false), (40, false)]);
    }

    /// A form in which everything waits for the end.
    struct Silent;

    impl Writer for Silent {
        fn begin(&mut self) -> String {
            "begin".to_owned()
        }
        fn delta(&mut self, _choice: u32, _delta: Delta, _logprobs: Vec<TokenLogprobs>) -> String {
            String::new()
        }
        fn finish(&mut self, _finished: &Finished) -> String {
            "end".to_owned()
        }
        fn failed(&mut self, _status: u16, _error: &ErrorBody) -> String {
            "failed".to_owned()
        }
        fn collect(&mut self, _choice: u32, _delta: Delta, _logprobs: Vec<TokenLogprobs>) {}
        fn whole(&mut self, _finished: &[Finished], _usage: Usage) -> String {
            String::new()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_waits_for_its_turn_is_silence() {
        let wait = Act::Wait(Duration::from_secs(10));
        let said = || vec![Act::Piece("a".to_owned()), wait.clone()];
        let answer = answer([said(), said(), said(), said(), says(&[])].concat()).await;
        let of = StreamOf { prompt: "messages", ping_interval: limits::PING_INTERVAL };
        let mut events = EventStream::new(answer, Box::new(|_| Box::new(Silent)), of, None);
        let mut heard = Vec::new();
        while let Some(Ok(bytes)) = events.next().await {
            heard.push(String::from_utf8_lossy(&bytes).into_owned());
        }
        assert_eq!(heard, ["begin", ": ping\n\n", ": ping\n\n", "end"]);
    }
}
