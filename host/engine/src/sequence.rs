//! One request in the engine, from its first token to its last event.

use std::time::Instant;

use inference::{
    Completion, Constraint, EngineFault, Finish, Generation, GenerationEvent, GenerationRequest, Grammar, Mark,
    RequestId, Sampling, Timings, Token, TokenControl, TokenLogprob, TokenLogprobs, Usage, Vocabulary,
};
use tokio::sync::mpsc::{self, OwnedPermit};

use crate::attribution::Attribution;
use crate::control::{BANS, Control, GRAMMAR, Turn};
use crate::decoder::{Choice, RawLogprobs, Sampled};
use crate::detokenizer::Detokenizer;
use crate::limits::EVENTS_RESERVED;
use crate::stop::{Found, StopMatcher};

/// A request that waits for a slot.
pub(crate) struct Submission {
    pub(crate) prompt: Vec<Token>,
    pub(crate) sampling: Sampling,
    pub(crate) sequence: Sequence,
}

/// What becomes of a request's tokens: text, events, usage.
pub(crate) struct Sequence {
    pub(crate) id: RequestId,
    prompt_tokens: u32,
    cached_tokens: u32,
    completion_tokens: u32,
    tokens_max: u32,
    ignore_end: bool,
    stop_tokens: Vec<Token>,
    marks: Vec<Mark>,
    /// Begun where the sequence is admitted: on this thread, and not for those who leave the queue.
    grammar: Option<Grammar>,
    constraint: Option<Box<dyn Constraint>>,
    /// Begun there too.
    controller: Option<TokenControl>,
    control: Option<Box<Control>>,
    detokenizer: Detokenizer,
    stop: StopMatcher,
    /// How many likeliest tokens are told of beside each sampled one; `None`: no log probabilities at all.
    logprobs: Option<u32>,
    attribution: Attribution,
    /// Text that no event has carried yet.
    text: String,
    events: mpsc::Sender<GenerationEvent>,
    /// Room in the channel for the last text and for the end, so that neither ever waits for the reader.
    reserved: [OwnedPermit<GenerationEvent>; EVENTS_RESERVED],
    submitted: Instant,
    admitted: Instant,
    first_sampled: Option<Instant>,
}

impl Submission {
    /// `request` is checked; `tokens_max` is what the context leaves of its wish.
    pub(crate) fn new(
        request: GenerationRequest,
        prompt_tokens: u32,
        tokens_max: u32,
        events_ahead: usize,
        now: Instant,
    ) -> (Self, Generation) {
        let (events, receiver) = mpsc::channel(events_ahead + EVENTS_RESERVED);
        let reserved = std::array::from_fn(|_| {
            events.clone().try_reserve_owned().expect("a new channel has room and its receiver is alive")
        });
        let sequence = Sequence {
            id: request.id,
            prompt_tokens,
            cached_tokens: 0,
            completion_tokens: 0,
            tokens_max,
            ignore_end: request.ignore_end,
            stop_tokens: request.stop_tokens,
            marks: request.marks,
            grammar: request.grammar,
            constraint: None,
            controller: request.control,
            control: None,
            detokenizer: Detokenizer::default(),
            stop: StopMatcher::new(&request.stop),
            logprobs: request.logprobs,
            attribution: Attribution::default(),
            text: String::new(),
            events,
            reserved,
            submitted: now,
            admitted: now,
            first_sampled: None,
        };
        let submission = Self { prompt: request.prompt, sampling: request.sampling, sequence };
        (submission, Generation::new(receiver))
    }
}

impl Sequence {
    /// Whether the client has left.
    pub(crate) fn is_abandoned(&self) -> bool {
        self.events.is_closed()
    }

    /// Whether the client is so far behind that the next token would have to wait.
    pub(crate) fn is_behind(&self) -> bool {
        self.events.capacity() == 0
    }

    /// Tokens sampled so far.
    pub(crate) fn completion_tokens(&self) -> u32 {
        self.completion_tokens
    }

    /// The sequence got a slot, where so many tokens of its prompt were computed already.
    pub(crate) fn admit(&mut self, now: Instant, cached_tokens: u32) {
        self.admitted = now;
        self.cached_tokens = cached_tokens;
        self.constraint = self.grammar.take().map(|grammar| grammar.begin());
        self.control = self.controller.take().map(|controller| Box::new(Control::begin(controller.begin(), now)));
    }

    /// What bounds the next token, and what is asked about it.
    pub(crate) fn choice(&mut self) -> Result<Choice<'_>, EngineFault> {
        let allowed = match &mut self.constraint {
            Some(constraint) => Some(constraint.allowed().map_err(EngineFault::Grammar)?),
            None => None,
        };
        match &mut self.control {
            None => Ok(Choice { allowed, biases: &[], logprobs: self.logprobs }),
            Some(control) => Ok(Choice { logprobs: self.logprobs, ..control.choice(allowed)? }),
        }
    }

    /// Whether somebody has a say in its tokens.
    pub(crate) fn is_controlled(&self) -> bool {
        self.control.is_some()
    }

    /// How it goes on, now that the logits are there.
    pub(crate) fn turn(&mut self, now: Instant) -> Result<Turn, EngineFault> {
        self.control.as_mut().map_or(Ok(Turn::Choose), |control| control.turn(now))
    }

    /// What it means that nothing was left to choose.
    pub(crate) fn no_token(&mut self, fault: EngineFault) -> EngineFault {
        match &mut self.control {
            Some(control) if fault == EngineFault::NoToken => control.dead_end(BANS),
            _ => fault,
        }
    }

    /// Takes a token that nobody chose, as [`Sequence::take`] does one that was.
    pub(crate) fn take_forced(
        &mut self,
        token: Token,
        vocabulary: &dyn Vocabulary,
        bytes: &mut Vec<u8>,
        now: Instant,
    ) -> Result<Option<Finish>, EngineFault> {
        if let (Some(constraint), Some(control)) = (&mut self.constraint, &mut self.control)
            && !constraint.allowed().map_err(EngineFault::Grammar)?.contains(token)
        {
            return Err(control.dead_end(GRAMMAR));
        }
        // It was certain, and nobody looked what else there was.
        let logprobs = self.logprobs.map(|_| RawLogprobs { sampled: 0.0, top: Vec::new() });
        self.take(Sampled { token, logprobs }, vocabulary, bytes, now)
    }

    /// The tokens that came last, for whoever has a say in the next.
    pub(crate) fn appended(&mut self, tokens: &[Token], now: Instant) {
        if let Some(control) = &mut self.control {
            control.appended(tokens, now);
        }
    }

    /// Ends it where it is.
    pub(crate) fn end(&mut self) -> Finish {
        self.release_rest().unwrap_or(Finish::Stop)
    }

    /// Takes a sampled token. When it ends the completion, [`Sequence::finish`] has to follow.
    pub(crate) fn take(
        &mut self,
        sampled: Sampled,
        vocabulary: &dyn Vocabulary,
        bytes: &mut Vec<u8>,
        now: Instant,
    ) -> Result<Option<Finish>, EngineFault> {
        let Sampled { token, logprobs } = sampled;
        self.completion_tokens += 1;
        self.first_sampled.get_or_insert(now);
        let is_end = !self.ignore_end && vocabulary.ends_generation(token);
        if is_end || self.stop_tokens.contains(&token) {
            return Ok(self.release_rest().or(Some(Finish::Stop)));
        }
        let is_complete = match &mut self.constraint {
            Some(constraint) => {
                constraint.accept(token).map_err(EngineFault::Grammar)?;
                constraint.is_complete()
            }
            None => false,
        };
        if self.push(token, logprobs.as_ref(), vocabulary, bytes) == Found::Stop {
            return Ok(Some(Finish::Stop));
        }
        if is_complete {
            return Ok(self.release_rest().or(Some(Finish::Stop)));
        }
        if self.completion_tokens >= self.tokens_max {
            return Ok(self.release_rest().or(Some(Finish::Length)));
        }
        Ok(None)
    }

    /// Sends what was taken in this step. Never waits: a sequence is only stepped while its channel has room, and nobody
    /// else sends into it. Where the client has left meanwhile, the text is nobody's.
    pub(crate) fn flush(&mut self) {
        if let Some(piece) = self.piece() {
            let _ = self.events.try_send(piece);
        }
    }

    /// Tokens that may still be sampled.
    pub(crate) fn tokens_left(&self) -> u32 {
        self.tokens_max.saturating_sub(self.completion_tokens)
    }

    /// The last event, for which there is always room.
    pub(crate) fn finish(mut self, finish: Finish, now: Instant) {
        let last_piece = self.piece();
        let [last_text, end] = self.reserved;
        if let Some(piece) = last_piece {
            last_text.send(piece);
        }
        let first_sampled = self.first_sampled.unwrap_or(now);
        end.send(GenerationEvent::Finished(Completion {
            finish,
            stop_text: self.stop.found(),
            usage: Usage {
                prompt_tokens: self.prompt_tokens,
                completion_tokens: self.completion_tokens,
                cached_tokens: self.cached_tokens,
            },
            timings: Timings {
                queued: self.admitted.saturating_duration_since(self.submitted),
                prefill: first_sampled.saturating_duration_since(self.admitted),
                decode: now.saturating_duration_since(first_sampled),
            },
        }));
    }

    /// The last event of a completion that broke off.
    pub(crate) fn fail(self, fault: EngineFault) {
        let [_, end] = self.reserved;
        end.send(GenerationEvent::Failed(fault));
    }

    /// Makes text of a token; `bytes` is room to work in.
    fn push(
        &mut self,
        token: Token,
        logprobs: Option<&RawLogprobs>,
        vocabulary: &dyn Vocabulary,
        bytes: &mut Vec<u8>,
    ) -> Found {
        bytes.clear();
        append_piece(token, &self.marks, vocabulary, bytes);
        let mut text = String::new();
        self.detokenizer.push(bytes, &mut text);
        // A token that is no text is part of none.
        if let Some(raw) = logprobs.filter(|_| !bytes.is_empty()) {
            let spelled = spelled(token, raw, &self.marks, vocabulary);
            self.attribution.push(spelled, &text, self.detokenizer.is_midway());
        }
        self.stop.push(&text, &mut self.text)
    }

    /// Nothing more is sampled: what was held back is text after all, unless the broken tail of a character completes
    /// a stop text.
    fn release_rest(&mut self) -> Option<Finish> {
        let mut tail = String::new();
        self.detokenizer.finish(&mut tail);
        self.attribution.made(&tail);
        if self.stop.push(&tail, &mut self.text) == Found::Stop {
            return Some(Finish::Stop);
        }
        self.stop.finish(&mut self.text);
        None
    }

    /// The text that no event has carried yet.
    fn piece(&mut self) -> Option<GenerationEvent> {
        if self.text.is_empty() {
            return None;
        }
        let text = std::mem::take(&mut self.text);
        let logprobs = self.attribution.release(text.len());
        Some(GenerationEvent::Piece { text, completion_tokens: self.completion_tokens, logprobs })
    }
}

/// What a token stands for: a mark's text, or what the vocabulary says.
fn append_piece(token: Token, marks: &[Mark], vocabulary: &dyn Vocabulary, bytes: &mut Vec<u8>) {
    match marks.iter().find(|mark| mark.token == token) {
        Some(mark) => bytes.extend_from_slice(mark.text.as_bytes()),
        None => vocabulary.append_piece(token, bytes),
    }
}

/// Log probabilities with the bytes of their tokens.
fn spelled(token: Token, raw: &RawLogprobs, marks: &[Mark], vocabulary: &dyn Vocabulary) -> TokenLogprobs {
    let spell = |token, logprob| {
        let mut bytes = Vec::new();
        append_piece(token, marks, vocabulary, &mut bytes);
        TokenLogprob { bytes, logprob }
    };
    TokenLogprobs {
        token,
        sampled: spell(token, raw.sampled),
        top: raw.top.iter().map(|&(token, logprob)| spell(token, logprob)).collect(),
    }
}

#[cfg(test)]
mod tests;
