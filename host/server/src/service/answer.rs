//! An answer under way: what the engine completes, as the plugins let it through.

use std::collections::VecDeque;

use inference::{
    Annotations, Completion, Delta, Finish, Generation, GenerationEvent, Output, PipelineRun, RequestId, Timings,
    TokenLogprobs, Usage,
};
use tokio::sync::watch;

use super::ChatError;
use super::admission::Permit;
use super::record::Record;

/// An answer under way. It owns all that the request holds: the generation, the plugins' run, the slot and the
/// account. Dropping it gives them back, at any point; that is how a client that leaves cancels its request.
pub struct Answer {
    id: RequestId,
    model: String,
    fingerprint: String,
    /// Deltas that the plugins released and nobody took yet.
    released: VecDeque<(Delta, Vec<TokenLogprobs>)>,
    /// Of tokens whose text the plugins have not released yet.
    logprobs: Vec<TokenLogprobs>,
    phase: Phase,
    run: Box<dyn PipelineRun>,
    has_tool_calls: bool,
    cancelled: watch::Receiver<bool>,
    record: Record,
    _permit: Permit,
}

enum Phase {
    Running(Generation),
    Ended(Finished),
    Over,
}

/// What happens in an answer, in order.
#[derive(Debug, Clone, PartialEq)]
pub enum AnswerEvent {
    /// More of the answer, and the log probabilities of its tokens where the request wants them.
    Delta(Delta, Vec<TokenLogprobs>),
    /// The answer is whole. Nothing follows.
    Finished(Finished),
}

/// How an answer ended.
#[derive(Debug, Clone, PartialEq)]
pub struct Finished {
    /// Why.
    pub finish: Finish,
    /// Tokens in and out.
    pub usage: Usage,
    /// Where the engine's time went; `None` where a plugin ended the answer before the engine could say.
    pub timings: Option<Timings>,
    /// What the plugins noted.
    pub annotations: Annotations,
}

pub(super) struct Parts {
    pub(super) id: RequestId,
    pub(super) model: String,
    pub(super) fingerprint: String,
    pub(super) generation: Generation,
    pub(super) run: Box<dyn PipelineRun>,
    pub(super) cancelled: watch::Receiver<bool>,
    pub(super) record: Record,
    pub(super) permit: Permit,
}

impl Answer {
    pub(super) fn new(parts: Parts) -> Self {
        Self {
            id: parts.id,
            model: parts.model,
            fingerprint: parts.fingerprint,
            released: VecDeque::new(),
            logprobs: Vec::new(),
            phase: Phase::Running(parts.generation),
            run: parts.run,
            has_tool_calls: false,
            cancelled: parts.cancelled,
            record: parts.record,
            _permit: parts.permit,
        }
    }

    /// Names the request.
    #[must_use]
    pub fn id(&self) -> &RequestId {
        &self.id
    }

    /// The model that answers.
    #[must_use]
    pub fn model(&self) -> &str {
        &self.model
    }

    /// Changes when the model or this program does: answers with the same seed are comparable while it is the same.
    #[must_use]
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// The next event; `None` after [`AnswerEvent::Finished`] or an error.
    ///
    /// Not cancel safe: a future dropped half way may take a piece of the answer with it. Keep polling it, or drop the
    /// answer too.
    pub async fn next(&mut self) -> Option<Result<AnswerEvent, ChatError>> {
        loop {
            if let Some((delta, logprobs)) = self.released.pop_front() {
                return Some(Ok(AnswerEvent::Delta(delta, logprobs)));
            }
            let event = match &mut self.phase {
                Phase::Over => return None,
                Phase::Ended(_) => return self.take_end(),
                Phase::Running(generation) => tokio::select! {
                    biased;
                    () = told_to_stop(&mut self.cancelled) => Err(ChatError::Draining),
                    event = generation.next() => Ok(event),
                },
            };
            let advanced = match event {
                Ok(event) => self.advance(event).await,
                Err(error) => Err(self.break_off(error).await),
            };
            if let Err(error) = advanced {
                // What was released but not taken yet stays unsent: after an error nothing is half right.
                self.released.clear();
                self.phase = Phase::Over;
                self.record.failed(&error);
                return Some(Err(error));
            }
        }
    }

    async fn advance(&mut self, event: GenerationEvent) -> Result<(), ChatError> {
        match event {
            GenerationEvent::Piece { text, completion_tokens, logprobs } => {
                self.record.piece(completion_tokens);
                self.logprobs.extend(logprobs);
                let output = self.run.push(text, false).await?;
                if let Some(finish) = self.release(output) {
                    // The generation goes first: the slot's work ends now, whatever the plugins still note.
                    self.phase = Phase::Over;
                    self.end(finish, None).await?;
                }
                Ok(())
            }
            GenerationEvent::Finished(Completion { finish, usage, timings }) => {
                self.phase = Phase::Over;
                self.record.usage = usage;
                let output = self.run.push(String::new(), true).await?;
                let finish = self.release(output).unwrap_or(finish);
                self.end(finish, Some(timings)).await
            }
            GenerationEvent::Failed(fault) => Err(self.break_off(fault).await),
        }
    }

    /// Keeps what a push released, and says whether a plugin ends the answer.
    fn release(&mut self, output: Output) -> Option<Finish> {
        self.has_tool_calls |= output.deltas.iter().any(|delta| matches!(delta, Delta::ToolCallStart { .. }));
        for delta in output.deltas {
            // Nobody changes the text of a request with log probabilities, so a delta is the text of these tokens.
            let logprobs =
                if matches!(delta, Delta::Content(_)) { std::mem::take(&mut self.logprobs) } else { Vec::new() };
            self.released.push_back((delta, logprobs));
        }
        output.stop
    }

    async fn end(&mut self, finish: Finish, timings: Option<Timings>) -> Result<(), ChatError> {
        // The engine cannot know that what it completed were calls.
        let finish = if finish == Finish::Stop && self.has_tool_calls { Finish::ToolCalls } else { finish };
        let usage = self.record.usage;
        let annotations = self.run.finish(finish, usage).await?;
        self.phase = Phase::Ended(Finished { finish, usage, timings, annotations });
        Ok(())
    }

    /// Tells the plugins that the answer broke off. What they reply changes nothing any more.
    async fn break_off(&mut self, error: impl Into<ChatError>) -> ChatError {
        self.phase = Phase::Over;
        let _ignored = self.run.finish(Finish::Failed, self.record.usage).await;
        error.into()
    }

    fn take_end(&mut self) -> Option<Result<AnswerEvent, ChatError>> {
        match std::mem::replace(&mut self.phase, Phase::Over) {
            Phase::Ended(finished) => {
                self.record.finished(finished.finish, finished.timings, &finished.annotations);
                Some(Ok(AnswerEvent::Finished(finished)))
            }
            Phase::Running(_) | Phase::Over => None,
        }
    }
}

impl std::fmt::Debug for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Answer").field("id", &self.id).field("model", &self.model).finish_non_exhaustive()
    }
}

pub(super) async fn told_to_stop(cancelled: &mut watch::Receiver<bool>) {
    if cancelled.wait_for(|is_cancelled| *is_cancelled).await.is_err() {
        // The service is gone, and with it everybody who could say so.
        std::future::pending::<()>().await;
    }
}
