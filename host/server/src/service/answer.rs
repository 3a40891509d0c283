//! What a request is answered with: one choice or several, side by side where slots are free.

use std::ops::Range;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use admission::Permit;
use futures::stream::{FuturesUnordered, Stream, StreamExt as _};
use inference::{Annotations, Delta, Finish, RequestId, Timings, TokenLogprobs, Usage};
use tokio::sync::watch;
use tokio::time::Sleep;

use super::ChatError;
use super::admission::Deadline;
use super::choice::{Choice, Step, Stepped};
use super::off_thread::{Hold, Share};
use super::pass::{Begun, Pass};
use super::record::Record;

/// An answer under way: a stream of events that ends after the last choice's [`AnswerEvent::Finished`], or after an error.
///
/// It owns all that the request holds: the generations, the plugins' runs, the slots and the account. Dropping it gives
/// them back, at any point; that is how a client that leaves cancels its request.
pub struct Answer {
    id: RequestId,
    model: String,
    fingerprint: String,
    /// One for each slot that the request holds and still needs.
    lanes: FuturesUnordered<Pin<Box<dyn Future<Output = Stepped> + Send>>>,
    /// As many as lanes. The first is the request's own, the others were free.
    permits: Vec<Arc<Permit>>,
    waiting: Option<Waiting>,
    cancelled: watch::Receiver<bool>,
    deadline: Deadline,
    late: Pin<Box<Sleep>>,
    record: Record,
    /// What the plugins noted on the choices that have ended.
    noted: Annotations,
}

/// Choices that no slot was free for yet.
struct Waiting {
    indexes: Range<u32>,
    pass: Arc<Pass>,
    share: Option<Share>,
}

/// What happens in an answer. The events of a choice come in order.
#[derive(Debug, Clone, PartialEq)]
pub enum AnswerEvent {
    /// More of a choice.
    Delta {
        /// Which one, from 0.
        choice: u32,
        /// What it goes on with.
        delta: Delta,
        /// The log probabilities of its tokens where the request wants them.
        logprobs: Vec<TokenLogprobs>,
    },
    /// A choice is whole. Nothing follows of it.
    Finished(Finished),
}

/// How a choice ended.
#[derive(Debug, Clone, PartialEq)]
pub struct Finished {
    /// Which one, from 0.
    pub choice: u32,
    /// Why.
    pub finish: Finish,
    /// The stop text of the request that ended it.
    pub stop_text: Option<String>,
    /// Where the engine's time went; `None` where a plugin ended the answer before the engine could say.
    pub timings: Option<Timings>,
    /// What the plugins noted.
    pub annotations: Annotations,
    /// With the last choice: what all of them cost together. The prompt, which they share, counts once.
    pub usage: Option<Usage>,
}

pub(super) struct Parts {
    pub(super) id: RequestId,
    pub(super) model: String,
    pub(super) fingerprint: String,
    pub(super) first: Begun,
    pub(super) hold: Hold,
    /// How many choices there will be, and what the others begin with.
    pub(super) others: Option<(u32, Arc<Pass>)>,
    pub(super) cancelled: watch::Receiver<bool>,
    pub(super) deadline: Deadline,
    pub(super) record: Record,
}

impl Answer {
    pub(super) fn new(parts: Parts) -> Self {
        let Parts { id, model, fingerprint, first, hold, others, cancelled, deadline, record } = parts;
        let first = Choice::new(0, first, Arc::clone(record.tally()), cancelled.clone());
        let waiting = others.map(|(count, pass)| Waiting { indexes: 1..count, pass, share: hold.share });
        let mut this = Self {
            id,
            model,
            fingerprint,
            lanes: FuturesUnordered::new(),
            permits: Vec::from_iter(hold.permit),
            waiting,
            cancelled,
            deadline,
            late: Box::pin(tokio::time::sleep_until(deadline.at)),
            record,
            noted: Vec::new(),
        };
        this.lanes.push(Box::pin(first.step()));
        this.begin_in_free_slots();
        this
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

    /// Tokens of the prompts that have been read so far; of the first one from the start.
    #[must_use]
    pub fn prompt_tokens(&self) -> u32 {
        self.record.tally().prompt_tokens()
    }

    /// The next event; `None` after the last.
    pub async fn next(&mut self) -> Option<Result<AnswerEvent, ChatError>> {
        futures::StreamExt::next(self).await
    }

    /// A choice is over: the next one has its slot. Where there is none, and where others wait for a slot that is not the request's
    /// only one, it goes back.
    fn go_on(&mut self) {
        let is_wanted = || self.permits.len() > 1 && self.permits.first().is_some_and(|permit| permit.is_wanted());
        if self.waiting.is_none() || is_wanted() {
            self.permits.pop();
        } else {
            self.begin_another();
            self.begin_in_free_slots();
        }
    }

    /// Begins further choices in slots that nobody waits for.
    fn begin_in_free_slots(&mut self) {
        let Some(waiting) = &self.waiting else { return };
        let free = self.permits.first().map(|permit| permit.more(waiting.indexes.len()));
        for permit in free.into_iter().flatten() {
            self.permits.push(Arc::new(permit));
            self.begin_another();
        }
    }

    /// Lets the next choice have a slot that the request holds.
    fn begin_another(&mut self) {
        let Some(mut waiting) = self.waiting.take() else { return };
        let index = waiting.indexes.next();
        let (pass, share) = (Arc::clone(&waiting.pass), waiting.share.clone());
        // The last one takes it along, so that the request goes when its answers have begun.
        if waiting.indexes.is_empty() {
            drop(waiting);
        } else {
            self.waiting = Some(waiting);
        }
        if let Some(index) = index {
            let (tally, cancelled) = (Arc::clone(self.record.tally()), self.cancelled.clone());
            // Which of them does not matter: choices that begin together take different ones.
            let permit = self.permits.get(index as usize % self.permits.len().max(1)).cloned();
            self.lanes.push(Box::pin(Choice::begin(pass, index, Hold { permit, share }, tally, cancelled)));
        }
    }

    fn account(&mut self, stepped: Stepped) -> Result<AnswerEvent, ChatError> {
        match stepped {
            Ok(Step::On(event, choice)) => {
                self.lanes.push(Box::pin(choice.step()));
                Ok(event)
            }
            Ok(Step::Ended(mut finished)) => {
                self.go_on();
                // What was noted on the request comes with each of its choices, and is noted once.
                for note in &finished.annotations {
                    if !self.noted.contains(note) {
                        self.noted.push(note.clone());
                    }
                }
                if self.lanes.is_empty() {
                    finished.usage = Some(self.record.tally().usage());
                    self.record.finished(finished.finish, finished.timings, std::mem::take(&mut self.noted));
                }
                Ok(AnswerEvent::Finished(finished))
            }
            Err(error) => Err(self.break_off(error)),
        }
    }

    fn break_off(&mut self, error: ChatError) -> ChatError {
        // What the others have is not sent: after an error nothing is half right.
        self.lanes.clear();
        self.waiting = None;
        self.permits.clear();
        self.record.failed(&error);
        error
    }
}

impl Stream for Answer {
    type Item = Result<AnswerEvent, ChatError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        // First: an answer that always has more to say is late all the same.
        if !self.lanes.is_empty() && self.late.as_mut().poll(cx).is_ready() {
            let error = self.deadline.passed();
            return Poll::Ready(Some(Err(self.break_off(error))));
        }
        let stepped = ready!(self.lanes.poll_next_unpin(cx));
        Poll::Ready(stepped.map(|stepped| self.account(stepped)))
    }
}

impl std::fmt::Debug for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Answer").field("id", &self.id).field("model", &self.model).finish_non_exhaustive()
    }
}
