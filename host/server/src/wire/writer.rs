//! How every form of the API is answered: one stream of events goes in, and the form's own text comes out.

use std::fmt;
use std::time::{SystemTime, UNIX_EPOCH};

use inference::{Delta, RequestId, TokenLogprobs, Usage};

use super::ErrorBody;
use crate::service::{Answer, Asked, Finished};

/// A body, understood.
pub(crate) struct Parsed {
    /// What it asks for.
    pub(crate) asked: Asked,
    /// Who writes the answer, once there is one.
    pub(crate) writer: WriterFor,
}

impl fmt::Debug for Parsed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Parsed").field("asked", &self.asked).finish_non_exhaustive()
    }
}

/// Makes the writer of an answer that has begun.
pub(crate) type WriterFor = Box<dyn FnOnce(Head) -> Box<dyn Writer> + Send>;

/// What all parts of an answer have in common.
#[derive(Debug, Clone)]
pub(crate) struct Head {
    /// The request's name.
    pub(crate) id: String,
    /// Unix time in seconds.
    pub(crate) created: u64,
    pub(crate) model: String,
    pub(crate) fingerprint: String,
    /// Tokens of the first prompt.
    pub(crate) prompt_tokens: u32,
}

impl Head {
    /// What can be said of an answer that never began.
    pub(crate) fn nobody(id: &RequestId, model: &str) -> Self {
        Self {
            id: id.to_string(),
            created: now(),
            model: model.to_owned(),
            fingerprint: String::new(),
            prompt_tokens: 0,
        }
    }

    pub(crate) fn of(answer: &Answer) -> Self {
        Self {
            id: answer.id().to_string(),
            created: now(),
            model: answer.model().to_owned(),
            fingerprint: answer.fingerprint().to_owned(),
            prompt_tokens: answer.prompt_tokens(),
        }
    }
}

/// Unix time in seconds.
fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// Writes an answer in one form: either as events, by `begin`, `delta`, `finish` and `failed`, or in one piece, by `collect`
/// and `whole`.
pub(crate) trait Writer: Send {
    /// What comes before the model has said anything.
    fn begin(&mut self) -> String;

    /// More of a choice.
    fn delta(&mut self, choice: u32, delta: Delta, logprobs: Vec<TokenLogprobs>) -> String;

    /// The end of a choice; where it has the usage, of the whole stream.
    fn finish(&mut self, finished: &Finished) -> String;

    /// The answer broke off: the last event.
    fn failed(&mut self, status: u16, error: &ErrorBody) -> String;

    /// What a stream carries in silence: a comment, which every reader of events passes over.
    fn ping(&self) -> &'static str {
        ": ping\n\n"
    }

    /// More of a choice, to be kept for `whole`.
    fn collect(&mut self, choice: u32, delta: Delta, logprobs: Vec<TokenLogprobs>);

    /// The answer in one piece; how each choice ended comes by index.
    fn whole(&mut self, finished: &[Finished], usage: Usage) -> String;
}
