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
            Ok(AnswerEvent::Delta(delta)) => {
                self.state = State::Waiting(step(answer));
                Some(self.writer.delta(&delta))
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
