//! One answer of a request on its way: what the engine completes, as the plugins let it through.

use std::collections::VecDeque;
use std::sync::Arc;

use inference::{
    ChosenToken, Completion, Delta, EngineFault, Finish, Generation, GenerationEvent, Output, PipelineRun,
    TokenLogprobs, Usage,
};
use tokio::sync::watch;

use super::ChatError;
use super::answer::{AnswerEvent, Finished};
use super::off_thread::Hold;
use super::pass::{Begun, Pass, TokensShownTo};
use super::record::Tally;
use super::tokens_of::take_tokens_of;
use crate::limits::BREAK_OFF_WAIT_MAX;

/// An answer under way. It owns what the answer holds: the generation and the plugins' run.
pub(super) struct Choice {
    index: u32,
    /// Deltas that the plugins released and nobody took yet.
    released: VecDeque<(Delta, Vec<TokenLogprobs>)>,
    /// Of tokens whose text the plugins have not released yet.
    logprobs: Vec<TokenLogprobs>,
    phase: Phase,
    run: Box<dyn PipelineRun>,
    shown_to: TokensShownTo,
    has_tool_calls: bool,
    cuts_call: bool,
    /// The calls so far, where it matters what their arguments are.
    calls: Option<Vec<Call>>,
    usage: Usage,
    /// The stop texts of the client's.
    stop: Vec<String>,
    tally: Arc<Tally>,
    cancelled: watch::Receiver<bool>,
}

/// A call of the model's.
struct Call {
    function: String,
    arguments: String,
}

enum Phase {
    Running(Generation),
    Ended(Finished),
    Over,
}

/// What a step came to.
pub(super) enum Step {
    /// An event, and the choice again: there is more.
    On(AnswerEvent, Box<Choice>),
    /// The choice is whole.
    Ended(Finished),
}

pub(super) type Stepped = Result<Step, ChatError>;

impl Choice {
    pub(super) fn new(index: u32, begun: Begun, tally: Arc<Tally>, cancelled: watch::Receiver<bool>) -> Box<Self> {
        Box::new(Self {
            index,
            released: VecDeque::new(),
            logprobs: Vec::new(),
            phase: Phase::Running(begun.generation),
            run: begun.run,
            shown_to: begun.shown_to,
            has_tool_calls: false,
            cuts_call: false,
            calls: begun.wants_objects.then(Vec::new),
            usage: Usage { prompt_tokens: begun.prompt_tokens, ..Usage::default() },
            stop: begun.stop,
            tally,
            cancelled,
        })
    }

    /// Begins a choice and takes its first step.
    pub(super) async fn begin(
        pass: Arc<Pass>,
        index: u32,
        hold: Hold,
        tally: Arc<Tally>,
        mut cancelled: watch::Receiver<bool>,
    ) -> Stepped {
        let begun = tokio::select! {
            biased;
            () = told_to_stop(&mut cancelled) => return Err(ChatError::Draining),
            begun = pass.begin(index, &hold, &tally) => begun?,
        };
        drop((pass, hold));
        Self::new(index, begun, tally, cancelled).step().await
    }

    /// Goes on to the next event. Owns itself, as a step must not be dropped half way while the choice lives on.
    pub(super) async fn step(mut self: Box<Self>) -> Stepped {
        loop {
            if let Some((delta, logprobs)) = self.released.pop_front() {
                return Ok(Step::On(AnswerEvent::Delta { choice: self.index, delta, logprobs }, self));
            }
            let event = match &mut self.phase {
                Phase::Running(generation) => tokio::select! {
                    biased;
                    () = told_to_stop(&mut self.cancelled) => Err(ChatError::Draining),
                    event = generation.next() => Ok(event),
                },
                Phase::Ended(finished) => return Ok(Step::Ended(finished.clone())),
                Phase::Over => return Err(ChatError::Internal { attempted: "finish the answer" }),
            };
            match event {
                Ok(event) => self.advance(event).await?,
                Err(error) => return Err(self.break_off(error).await),
            }
        }
    }

    async fn advance(&mut self, event: GenerationEvent) -> Result<(), ChatError> {
        match event {
            GenerationEvent::Piece { text, completion_tokens, logprobs } => {
                self.tally.piece(completion_tokens - self.usage.completion_tokens);
                self.usage.completion_tokens = completion_tokens;
                self.run.used(self.usage);
                let tokens = if self.shown_to.filters { chosen(&logprobs) } else { Vec::new() };
                if self.shown_to.client {
                    self.logprobs.extend(logprobs);
                }
                let output = self.run.push(text, tokens, false).await?;
                if let Some(finish) = self.release(output) {
                    // The generation goes first: the slot's work ends now, whatever the plugins still note.
                    self.phase = Phase::Over;
                    self.end(finish, None, None).await?;
                }
                Ok(())
            }
            GenerationEvent::Finished(Completion { finish, stop_text, usage, timings }) => {
                self.phase = Phase::Over;
                self.tally.finished(usage.completion_tokens - self.usage.completion_tokens, usage.cached_tokens);
                self.usage = usage;
                self.run.used(usage);
                let output = self.run.push(String::new(), Vec::new(), true).await?;
                // A plugin that has the last word has it instead of a stop text.
                let (finish, stop_text) = match self.release(output) {
                    Some(finish) => (finish, None),
                    None => (finish, stop_text.and_then(|place| self.stop.get(place).cloned())),
                };
                self.end(finish, stop_text, Some(timings)).await
            }
            // What a plugin did while the model computed is told as what it did at any other time.
            GenerationEvent::Failed(EngineFault::Control(error)) => Err(self.break_off(error).await),
            GenerationEvent::Failed(fault) => Err(self.break_off(fault).await),
        }
    }

    /// Keeps what a push released, and says whether a plugin ends the answer.
    fn release(&mut self, output: Output) -> Option<Finish> {
        self.has_tool_calls |= output.deltas.iter().any(|delta| matches!(delta, Delta::ToolCallStart { .. }));
        self.cuts_call |= output.cuts_call;
        for delta in &output.deltas {
            self.keep_call(delta);
        }
        for delta in output.deltas {
            let logprobs = match &delta {
                Delta::Content(text) => take_tokens_of(text, &mut self.logprobs),
                // There is no place in a reply for those of thoughts and calls.
                Delta::Reasoning(text) | Delta::ToolArguments { text, .. } => {
                    take_tokens_of(text, &mut self.logprobs);
                    Vec::new()
                }
                Delta::ToolCallStart { .. } | Delta::ToolCallEnd { .. } => Vec::new(),
            };
            self.released.push_back((delta, logprobs));
        }
        output.stop
    }

    fn keep_call(&mut self, delta: &Delta) {
        let Some(calls) = &mut self.calls else { return };
        match delta {
            Delta::ToolCallStart { name, .. } => {
                calls.push(Call { function: name.clone(), arguments: String::new() });
            }
            Delta::ToolArguments { index, text } => {
                if let Some(call) = usize::try_from(*index).ok().and_then(|index| calls.get_mut(index)) {
                    call.arguments.push_str(text);
                }
            }
            Delta::Content(_) | Delta::Reasoning(_) | Delta::ToolCallEnd { .. } => {}
        }
    }

    async fn end(
        &mut self,
        finish: Finish,
        stop_text: Option<String>,
        timings: Option<inference::Timings>,
    ) -> Result<(), ChatError> {
        // The engine cannot know that what it completed were calls. A stop text inside one leaves no call that could be made.
        let is_call = self.has_tool_calls && !self.cuts_call;
        let (finish, stop_text) = match finish {
            Finish::Stop if is_call => (Finish::ToolCalls, None),
            finish => (finish, stop_text),
        };
        // An answer that asks for a call asks for this one: to leave it out, or to make its arguments up, would be another answer.
        let unreadable = self.calls.iter().flatten().find(|call| !is_object(&call.arguments));
        if let Some(call) = unreadable.filter(|_| finish == Finish::ToolCalls) {
            let function = call.function.clone();
            return Err(self.break_off(ChatError::CallUnreadable { function }).await);
        }
        let annotations = self.run.finish(finish, self.usage).await?;
        self.phase =
            Phase::Ended(Finished { choice: self.index, finish, stop_text, timings, annotations, usage: None });
        Ok(())
    }

    /// Tells the plugins that the answer broke off. What they reply changes nothing any more.
    async fn break_off(&mut self, error: impl Into<ChatError>) -> ChatError {
        self.phase = Phase::Over;
        let told = self.run.finish(Finish::Failed, self.usage);
        let _ignored = tokio::time::timeout(BREAK_OFF_WAIT_MAX, told).await;
        error.into()
    }
}

/// Whether a text is a JSON object.
fn is_object(text: &str) -> bool {
    text.trim_start().starts_with('{') && serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok()
}

fn chosen(logprobs: &[TokenLogprobs]) -> Vec<ChosenToken> {
    logprobs.iter().map(|said| ChosenToken { token: said.token, logprob: said.sampled.logprob }).collect()
}

pub(super) async fn told_to_stop(cancelled: &mut watch::Receiver<bool>) {
    if cancelled.wait_for(|is_cancelled| *is_cancelled).await.is_err() {
        // The service is gone, and with it everybody who could say so.
        std::future::pending::<()>().await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_an_object_or_not() {
        for (text, expected) in
            [("{}", true), (" {\"a\":1}\n", true), ("", false), ("[]", false), ("{a: 1}", false), ("{}}", false)]
        {
            assert_eq!(is_object(text), expected, "{text:?}");
        }
    }
}
