//! Requests that the model answers: admission, the first pass, and what the answer then owns.

use std::num::NonZeroU32;
use std::sync::Arc;

use inference::{Call, ChatRequest};
use telemetry::Endpoint;

use super::admission::Terms;
use super::answer::{self, Answer};
use super::encode::Input;
use super::off_thread::Hold;
use super::pass::{Begun, Pass};
use super::record::Record;
use super::{ChatError, Service};

/// What is asked of the model, whatever form it was asked in.
#[derive(Debug, Clone)]
pub struct Asked {
    /// The request. Where there are `prompts`, its one message is made of them.
    pub request: ChatRequest,
    /// Prompts to complete as they stand; none where the messages are a conversation.
    pub prompts: Arc<[Input]>,
    /// Answers to each prompt, or to the conversation.
    pub choices: NonZeroU32,
    /// The arguments of calls have to be JSON objects, as the answer's form has no other.
    pub wants_objects: bool,
}

impl Asked {
    /// One answer to a conversation.
    #[must_use]
    pub fn chat(request: ChatRequest) -> Self {
        Self { request, prompts: Arc::default(), choices: NonZeroU32::MIN, wants_objects: false }
    }

    /// How many answers there will be. Those to one prompt stand together, prompt by prompt.
    #[must_use]
    pub fn answers(&self) -> u32 {
        let prompts = u32::try_from(self.prompts.len()).unwrap_or(u32::MAX).max(1);
        self.choices.get().saturating_mul(prompts)
    }
}

impl Service {
    /// Answers a chat with `choices` answers; otherwise as [`Service::generate`].
    pub async fn chat(
        &self,
        request: ChatRequest,
        call: Call,
        endpoint: Endpoint,
        choices: NonZeroU32,
    ) -> Result<Answer, ChatError> {
        self.generate(Asked { choices, ..Asked::chat(request) }, call, &Terms::default(), endpoint).await
    }

    /// Answers what is asked. The future may be dropped at any point; so may the answer.
    ///
    /// The choices run side by side in slots that nobody waits for, and one after the other where there are fewer. The
    /// model and the request's place in `call` are filled in here; the rest of it is the transport's to say.
    pub async fn generate(
        &self,
        asked: Asked,
        call: Call,
        terms: &Terms,
        endpoint: Endpoint,
    ) -> Result<Answer, ChatError> {
        let deadline = self.deadline(terms);
        let id = call.request_id.clone();
        let answers = asked.answers();
        let (pass, fingerprint, mut record) = self.within(deadline, self.pass(asked, call, endpoint)).await?;
        let model = pass.model().to_owned();
        match self.within(deadline, self.begin(pass, answers, terms, &mut record)).await {
            Ok((first, hold, others)) => {
                let cancelled = self.cancelled.subscribe();
                Ok(Answer::new(answer::Parts {
                    id,
                    model,
                    fingerprint,
                    first,
                    hold,
                    others,
                    cancelled,
                    deadline,
                    record,
                }))
            }
            Err(error) => {
                record.failed(&error);
                Err(error)
            }
        }
    }

    /// What each answer begins with, the fingerprint of what answers, and the account of the request.
    pub(super) async fn pass(
        &self,
        asked: Asked,
        call: Call,
        endpoint: Endpoint,
    ) -> Result<(Arc<Pass>, String, Record), ChatError> {
        let (loaded, fingerprint) = self.loaded(&asked.request.model).await?;
        let serving = loaded.chat()?;
        let (inference, id) = (self.metrics.inference.clone(), call.request_id.clone());
        let record = Record::new(inference, id, &serving.engine.card().id, asked.request.streaming, endpoint);
        let (grammars, max_tokens_default) = (Arc::clone(&self.grammars), self.defaults.max_tokens);
        Ok((Arc::new(Pass::new(serving, grammars, max_tokens_default, asked, call)), fingerprint, record))
    }

    /// Begins the first choice, so that what is wrong with the request is known before anything is sent.
    async fn begin(
        &self,
        pass: Arc<Pass>,
        answers: u32,
        terms: &Terms,
        record: &mut Record,
    ) -> Result<(Begun, Hold, Option<(u32, Arc<Pass>)>), ChatError> {
        // The slot comes before the plugins: what waits in line costs neither guest memory nor CPU.
        let hold = self.admit(terms, Some(&mut *record)).await?;
        let others = (answers > 1).then(|| (answers, Arc::clone(&pass)));
        let first = pass.begin(0, &hold, record.tally()).await?;
        Ok((first, hold, others))
    }
}
