//! One request's way through the plugins, as synchronous code on a worker thread: the stages before the model once, those
//! behind it for each answer. A lane owns the request's instances and travels to a worker with each job and back.

use std::sync::Arc;
use std::time::Duration;

use inference::{
    Annotations, Call, ChatRequest, ChosenToken, Finish, Operation, Output, PipelineError, Prepared, Prompt, Stage,
    Steer, Usage,
};
use tokio::sync::OwnedSemaphorePermit;

use crate::answer::{Answer, Beginning};
use crate::bindings::exports::outrigger::plugin::{policy, prompt};
use crate::budget::{Cancellation, Question};
use crate::convert;
use crate::guests::{Guests, note};
use crate::limits::{MESSAGE_BYTES_MAX, NOTE_BYTES_MAX};
use crate::plugins::PluginSet;
use crate::probe::{Seen, Used};
use crate::run::gone;
use crate::spec::OnFailure;
use crate::text::cut;

/// The state of one request between its stages.
pub(crate) struct Lane {
    /// What every answer begins with.
    beginning: Beginning,
    /// By their place among the request's.
    answers: Vec<Option<Box<Answer>>>,
    /// On the request, before its answers.
    notes: Annotations,
    /// How the answers that are over ended: what stands last in the contract's `finish`, where the worse stands later.
    end: Option<Finish>,
    pub(crate) guests: Guests,
}

impl Lane {
    pub(crate) fn new(
        set: Arc<PluginSet>,
        call: Call,
        cancellation: Arc<Cancellation>,
        room: OwnedSemaphorePermit,
    ) -> Self {
        let beginning = Beginning { notes: vec![0; set.plugins.len()], ..Beginning::default() };
        let guests = Guests::new(set, call, cancellation, room);
        Self { beginning, answers: Vec::new(), notes: Vec::new(), end: None, guests }
    }

    /// Runs the policies, renders the prompt, and opens the parser and the filters of the first answer.
    pub(crate) fn prepare(&mut self, mut request: ChatRequest) -> Result<Prepared, PipelineError> {
        let set = Arc::clone(&self.guests.set);
        for &policy in &set.policies {
            self.inspect(policy, &mut request)?;
        }
        let prompt = match request.operation {
            Operation::Chat => self.render(set.prompt, &request)?,
            Operation::Completion => {
                self.beginning.is_raw = true;
                convert::raw_prompt(&request)
            }
        };
        self.beginning.tools = convert::tools(request.tools_offered());
        self.beginning.prefix.clone_from(&prompt.prefix);
        // Now, as whether a filter wants tokens has to be known before the first is sampled; and a plugin that fails at this
        // costs no model time.
        let wants_tokens = self.open(0)?;
        if set.controller.is_none() {
            self.guests.begin_answer();
        }
        Ok(Prepared { request, prompt, wants_tokens })
    }

    fn inspect(&mut self, index: usize, request: &mut ChatRequest) -> Result<(), PipelineError> {
        let (given, call) = (convert::request(request), self.guests.call_for(index));
        let answer = self.guests.run(index, Stage::Policy, |instance| instance.inspect(&given, &call));
        let is_open = self.guests.set.plugins[index].policy_failure == OnFailure::Open;
        let (verdict, notes) = match answer {
            Err(error) if is_open && self.guests.may_go_on_after(&error) => return Ok(()),
            answer => answer?,
        };
        if let Some(seen) = &mut self.guests.seen {
            let plugin = self.guests.set.plugins[index].owner.name.clone();
            let verdict = match &verdict {
                policy::Verdict::Accept => "accept",
                policy::Verdict::Replace(_) => "replace",
                policy::Verdict::Reject(_) => "reject",
            };
            seen.push(Seen::Judged { plugin, verdict, notes: notes.clone() });
        }
        note(self.guests.plugin(index), notes, &mut self.beginning.notes[index], &mut self.notes);
        match verdict {
            policy::Verdict::Accept => Ok(()),
            policy::Verdict::Reject(rejection) => Err(rejected(self.guests.name(index), rejection)),
            policy::Verdict::Replace(new) => {
                let plugin = &self.guests.set.plugins[index];
                let vocabulary_size = plugin.owner.model.vocabulary().size();
                match convert::replacement(new, request, &plugin.modify, vocabulary_size) {
                    Ok(new) => {
                        convert::check_raw(&new, &self.guests.name(index))?;
                        *request = new;
                    }
                    Err(fault) => {
                        let error = self.guests.fail(index, Stage::Policy, fault.into());
                        if !is_open {
                            return Err(error);
                        }
                    }
                }
                Ok(())
            }
        }
    }

    fn render(&mut self, index: usize, request: &ChatRequest) -> Result<Prompt, PipelineError> {
        let (messages, call) = (convert::messages(&request.messages), self.guests.call_for(index));
        let options = prompt::Options {
            tools: convert::tools(request.tools_offered()),
            tool_choice: convert::tool_choice(&request.tool_choice),
            parallel_tool_calls: request.parallel_tool_calls,
            add_generation_prompt: true,
            kwargs_json: request.template_arguments.clone(),
        };
        let rendered = self.guests.run(index, Stage::Prompt, |instance| instance.render(&messages, &options, &call))?;
        let vocabulary_size = self.guests.set.plugins[index].owner.model.vocabulary().size();
        convert::prompt(rendered, vocabulary_size).map_err(|fault| self.guests.fail(index, Stage::Prompt, fault.into()))
    }

    /// Opens the parser and the filters of an answer. Whether any of them wants to see tokens.
    pub(crate) fn open(&mut self, place: usize) -> Result<bool, PipelineError> {
        if self.answers.len() <= place {
            self.answers.resize_with(place + 1, || None);
        }
        self.guests.begin_another();
        let choice = self.guests.call.choice.saturating_add(u32::try_from(place).unwrap_or(u32::MAX));
        let answer = Answer::open(choice, &self.beginning, &mut self.guests)?;
        let wants_tokens = answer.wants_tokens();
        self.answers[place] = Some(Box::new(answer));
        Ok(wants_tokens)
    }

    /// Opens the controller of an answer to this prompt.
    pub(crate) fn open_control(&mut self, place: usize, index: usize, prompt: &[u32]) -> Result<(), PipelineError> {
        let (answer, guests) = self.answer(place, Stage::TokenControl)?;
        answer.open_control(guests, index, prompt)?;
        guests.begin_answer();
        Ok(())
    }

    /// How an answer goes on, unless nobody wants to know any more.
    pub(crate) fn step(
        &mut self,
        place: usize,
        appended: &[u32],
        question: &Arc<Question>,
    ) -> Result<Steer, PipelineError> {
        let (answer, guests) = self.answer(place, Stage::TokenControl)?;
        answer.step(guests, appended, question)
    }

    /// Takes more of the model's text through the stages after the model.
    pub(crate) fn push(
        &mut self,
        place: usize,
        text: String,
        tokens: &[ChosenToken],
        last: bool,
    ) -> Result<Output, PipelineError> {
        let (answer, guests) = self.answer(place, Stage::Postprocess)?;
        guests.begin_answer();
        answer.push(guests, text, tokens, last)
    }

    /// Tells an answer's filters how it ended, and returns the notes on it and on the request. `goes_on`: there are other answers.
    pub(crate) fn finish(
        &mut self,
        place: usize,
        finish: Finish,
        usage: Usage,
        goes_on: bool,
    ) -> Result<Annotations, PipelineError> {
        self.end = Some(self.worst(finish));
        let (answer, guests) = self.answer(place, Stage::Postprocess)?;
        answer.finish(guests, finish, usage)?;
        if goes_on {
            answer.release(guests);
        }
        let of_answer = answer.notes.clone();
        Ok([self.notes.clone(), of_answer].concat())
    }

    fn answer(&mut self, place: usize, stage: Stage) -> Result<(&mut Answer, &mut Guests), PipelineError> {
        match self.answers.get_mut(place) {
            Some(Some(answer)) => Ok((answer, &mut self.guests)),
            _ => Err(gone(stage, "the answer was not opened before this step")),
        }
    }

    /// Ends the request: the plugins that audit are told, and everything is dropped.
    pub(crate) fn close(mut self, finish: Finish, usage: Usage) {
        self.audit(finish, usage);
        self.guests.wind_up(finish);
    }

    /// Ends a request that not all answers of have finished: whoever audits is told, and no instance serves another one.
    pub(crate) fn give_up(mut self, finish: Finish, usage: Usage) {
        let finish = self.worst(finish);
        self.audit(finish, usage);
    }

    /// Tells the plugins that audit.
    pub(crate) fn audit(&mut self, finish: Finish, usage: Usage) {
        self.guests.close();
        let (finish, usage) = (convert::finish(finish), convert::usage(usage));
        let notes = self.notes();
        let set = Arc::clone(&self.guests.set);
        for &index in &set.audits {
            let call = self.guests.call_for(index);
            // A fault here is in the log and the metrics already; the reply is not affected any more.
            drop(self.guests.run(index, Stage::Audit, |instance| instance.audit(&call, finish, usage, &notes)));
        }
    }

    fn worst(&self, finish: Finish) -> Finish {
        self.end.into_iter().chain([finish]).max_by_key(|&finish| finish as u8).unwrap_or(finish)
    }

    /// How the request ends where all of its answers did.
    pub(crate) fn end(&self) -> Option<Finish> {
        self.end
    }

    /// What was noted so far, on the request and on its answers.
    pub(crate) fn notes(&self) -> Annotations {
        let of_answers = self.answers.iter().flatten().flat_map(|answer| &answer.notes);
        self.notes.iter().chain(of_answers).cloned().collect()
    }

    /// What the request's instances used so far.
    pub(crate) fn used(&self) -> Vec<Used> {
        let held: Vec<_> = self.answers.iter().flatten().flat_map(|answer| answer.open_filters()).collect();
        self.guests.used(&held)
    }
}

/// A rejection with a status that a policy may use.
fn rejected(plugin: String, rejection: policy::Rejection) -> PipelineError {
    const FORBIDDEN: u16 = 403;
    PipelineError::Rejected {
        plugin,
        status: if (400..=499).contains(&rejection.status) { rejection.status } else { FORBIDDEN },
        code: cut(rejection.code, NOTE_BYTES_MAX),
        message: cut(rejection.message, MESSAGE_BYTES_MAX),
        retry_after: rejection.retry_after_ms.map(|milliseconds| Duration::from_millis(milliseconds.into())),
    }
}
