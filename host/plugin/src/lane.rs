//! One request's way through the plugins, as synchronous code on a worker thread. A lane owns the request's instances
//! and travels to a worker with each job and back.

use std::sync::Arc;
use std::time::{Duration, Instant};

use inference::{
    Annotations, Call, ChatRequest, FaultKind, Finish, Operation, PipelineError, Prepared, Prompt, Stage, TokenMask,
    Usage,
};
use telemetry::BreakerState;
use tokio::sync::OwnedSemaphorePermit;

use crate::answer::Answer;
use crate::bindings::exports::outrigger::plugin::{policy, prompt};
use crate::bindings::outrigger::plugin::types;
use crate::breaker::{Admission, Phase, Standing};
use crate::budget::Cancellation;
use crate::convert;
use crate::fault::{Failure, Fault};
use crate::instance::Instance;
use crate::limits::{MESSAGE_BYTES_MAX, NOTE_BYTES_MAX, NOTES_MAX};
use crate::plugins::PluginSet;
use crate::probe::{Seen, Used};
use crate::spec::OnFailure;
use crate::text::cut;

/// The state of one request between its stages.
pub(crate) struct Lane {
    pub(crate) set: Arc<PluginSet>,
    pub(crate) call: Call,
    /// What the parser and the filters are in the middle of.
    pub(crate) answer: Answer,
    /// What `fixed` of the plugin that controls tokens names.
    pub(crate) masks: Vec<Arc<TokenMask>>,
    cancellation: Arc<Cancellation>,
    /// One per plugin of the set.
    slots: Vec<Slot>,
    notes: Annotations,
    /// How far the request has come, for the breakers.
    phase: Phase,
    /// What the stages said, where somebody wants to see it.
    pub(crate) seen: Option<Vec<Seen>>,
    /// Room for the instances. Declared last: it is given back after they are dropped.
    _room: OwnedSemaphorePermit,
}

#[derive(Default)]
struct Slot {
    instance: State,
    /// Calls in this phase of the request that went well.
    has_worked: bool,
    /// It broke its contract in this request.
    has_failed: bool,
    notes: usize,
}

/// A plugin's one instance for this request.
#[derive(Default)]
enum State {
    #[default]
    Unborn,
    Live(Box<Instance>),
    /// It faulted. No guest code runs in it again, and there is no second one.
    Dead(Fault),
    /// The plugin only fails at present, and is not asked.
    Refused(Duration),
}

impl Lane {
    pub(crate) fn new(
        set: Arc<PluginSet>,
        call: Call,
        cancellation: Arc<Cancellation>,
        room: OwnedSemaphorePermit,
    ) -> Self {
        let slots = set.plugins.iter().map(|_| Slot::default()).collect();
        let (answer, masks, notes, phase) = (Answer::default(), Vec::new(), Vec::new(), Phase::Request);
        Self { set, call, answer, masks, cancellation, slots, notes, phase, seen: None, _room: room }
    }

    /// Runs the policies, renders the prompt, and opens the parser and the filters.
    pub(crate) fn prepare(&mut self, mut request: ChatRequest) -> Result<Prepared, PipelineError> {
        let set = Arc::clone(&self.set);
        for &policy in &set.policies {
            self.inspect(policy, &mut request)?;
        }
        let prompt = match request.operation {
            Operation::Chat => self.render(set.prompt, &request)?,
            Operation::Completion => {
                self.answer.goes_on_raw();
                convert::raw_prompt(&request)
            }
        };
        // Now, as whether a filter wants tokens has to be known before the first is sampled; and a plugin that fails at this
        // costs no model time.
        self.open(&convert::tools(request.tools_offered()), &prompt.prefix)?;
        self.end_phase();
        self.phase = Phase::Answer;
        Ok(Prepared { request, prompt, wants_tokens: self.answer.wants_tokens() })
    }

    fn inspect(&mut self, index: usize, request: &mut ChatRequest) -> Result<(), PipelineError> {
        let (given, call) = (convert::request(request), self.call_for(index));
        let answer = self.run(index, Stage::Policy, |instance| instance.inspect(&given, &call));
        let is_open = self.set.plugins[index].policy_failure == OnFailure::Open;
        let (verdict, notes) = match answer {
            Err(error) if is_open && self.may_go_on_after(&error) => return Ok(()),
            answer => answer?,
        };
        if let Some(seen) = &mut self.seen {
            let plugin = self.set.plugins[index].owner.name.clone();
            let verdict = match &verdict {
                policy::Verdict::Accept => "accept",
                policy::Verdict::Replace(_) => "replace",
                policy::Verdict::Reject(_) => "reject",
            };
            seen.push(Seen::Judged { plugin, verdict, notes: notes.clone() });
        }
        self.note(index, notes);
        match verdict {
            policy::Verdict::Accept => Ok(()),
            policy::Verdict::Reject(rejection) => Err(rejected(self.name(index), rejection)),
            policy::Verdict::Replace(new) => {
                let plugin = &self.set.plugins[index];
                let vocabulary_size = plugin.owner.model.vocabulary().size();
                match convert::replacement(new, request, &plugin.modify, vocabulary_size) {
                    Ok(new) => {
                        convert::check_raw(&new, &self.name(index))?;
                        *request = new;
                    }
                    Err(fault) => {
                        let error = self.fail(index, Stage::Policy, fault.into());
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
        let (messages, call) = (convert::messages(&request.messages), self.call_for(index));
        let options = prompt::Options {
            tools: convert::tools(request.tools_offered()),
            tool_choice: convert::tool_choice(&request.tool_choice),
            parallel_tool_calls: request.parallel_tool_calls,
            add_generation_prompt: true,
            kwargs_json: request.template_arguments.clone(),
        };
        let rendered = self.run(index, Stage::Prompt, |instance| instance.render(&messages, &options, &call))?;
        let vocabulary_size = self.set.plugins[index].owner.model.vocabulary().size();
        convert::prompt(rendered, vocabulary_size).map_err(|fault| self.fail(index, Stage::Prompt, fault.into()))
    }

    /// Tells the filters how it ended, and returns all notes.
    pub(crate) fn finish(&mut self, finish: Finish, usage: Usage) -> Result<Annotations, PipelineError> {
        let (finish, usage) = (convert::finish(finish), convert::usage(usage));
        for (index, held_bytes) in self.answer.open_filters() {
            if held_bytes > 0 {
                self.set.meters[index].held_bytes(held_bytes);
            }
            let answer = self.run(index, Stage::Postprocess, |instance| instance.finish_filter(finish, usage));
            match answer {
                Ok(notes) => self.note(index, notes),
                Err(error) if self.postprocess_is_open(index) && self.may_go_on_after(&error) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(self.notes.clone())
    }

    /// Ends the request: the plugins that audit are told, and everything is dropped.
    pub(crate) fn close(mut self, finish: Finish, usage: Usage) {
        self.audit(finish, usage);
        self.wind_up();
    }

    /// Tells the plugins that audit.
    pub(crate) fn audit(&mut self, finish: Finish, usage: Usage) {
        self.cancellation.close();
        let (finish, usage) = (convert::finish(finish), convert::usage(usage));
        let notes = self.notes.clone();
        let set = Arc::clone(&self.set);
        for &index in &set.audits {
            let call = self.call_for(index);
            // A fault here is in the log and the metrics already; the reply is not affected any more.
            drop(self.run(index, Stage::Audit, |instance| instance.audit(&call, finish, usage, &notes)));
        }
    }

    /// Gives back what is whole, and drops the rest.
    pub(crate) fn wind_up(mut self) {
        self.end_phase();
        let set = Arc::clone(&self.set);
        for (index, slot) in self.slots.iter_mut().enumerate() {
            // One that failed is not used again, however orderly it did.
            if let State::Live(instance) = std::mem::take(&mut slot.instance)
                && !slot.has_failed
            {
                set.pools[index].give(*instance, &set.sandbox.idle, Instant::now());
            }
        }
    }

    /// Tells the breakers which plugins did what they were asked in the phase that ends.
    fn end_phase(&mut self) {
        for (index, slot) in self.slots.iter_mut().enumerate() {
            if std::mem::take(&mut slot.has_worked)
                && !slot.has_failed
                && let Some(standing) = self.set.plugins[index].breaker.succeeded(self.phase)
            {
                tell(&self.set, index, standing);
            }
        }
    }

    /// What the request's instances used so far; those that are dead, and those that were never made, are left out.
    pub(crate) fn used(&self) -> Vec<Used> {
        let held = self.answer.open_filters();
        let live = self.slots.iter().enumerate().filter_map(|(index, slot)| match &slot.instance {
            State::Live(instance) => Some((index, instance)),
            _ => None,
        });
        live.map(|(index, instance)| Used {
            plugin: self.name(index),
            instructions: instance.instructions(),
            memory_bytes: instance.memory_bytes(),
            host_calls: instance.host_calls(),
            held_bytes: held.iter().find(|(plugin, _)| *plugin == index).map_or(0, |&(_, bytes)| bytes),
        })
        .collect()
    }

    /// The notes so far.
    pub(crate) fn notes(&self) -> &[(String, String)] {
        &self.notes
    }

    /// Calls a plugin's instance, making it first if need be.
    pub(crate) fn run<R>(
        &mut self,
        index: usize,
        stage: Stage,
        guest: impl FnOnce(&mut Instance) -> Result<R, Failure>,
    ) -> Result<R, PipelineError> {
        if let State::Unborn = self.slots[index].instance {
            self.start(index)?;
        }
        match &mut self.slots[index].instance {
            State::Live(instance) => {
                self.set.plugins[index].tally.called();
                let result = guest(instance);
                self.slots[index].has_worked |= result.is_ok();
                result.map_err(|failure| self.fail(index, stage, failure))
            }
            State::Dead(fault) => {
                let detail = format!("it failed earlier in this request: {}", fault.detail);
                let kind = fault.kind;
                Err(PipelineError::Fault { plugin: self.name(index), stage, kind, detail })
            }
            &mut State::Refused(retry_after) => {
                Err(PipelineError::Unavailable { plugin: self.name(index), stage, retry_after })
            }
            State::Unborn => unreachable!("an instance was made, or its failure returned, above"),
        }
    }

    /// Makes a plugin's instance for this request, or takes one that waits, if the breaker lets it.
    fn start(&mut self, index: usize) -> Result<(), PipelineError> {
        let set = Arc::clone(&self.set);
        let (plugin, meter, now) = (&set.plugins[index], &set.meters[index], Instant::now());
        match plugin.breaker.admit(now) {
            Admission::Allowed => {}
            Admission::First => tell(&set, index, Standing::Trial),
            Admission::Refused { retry_after } => {
                meter.refused();
                self.slots[index].instance = State::Refused(retry_after);
                return Ok(());
            }
        }
        let instance = match set.pools[index].take(&self.cancellation, now) {
            Some(instance) => instance,
            None => match Instance::start(plugin, Arc::clone(&self.cancellation), Some(Arc::clone(meter))) {
                Ok((instance, _)) => instance,
                Err(failure) => return Err(self.fail(index, Stage::Init, failure)),
            },
        };
        self.slots[index].instance = State::Live(Box::new(instance));
        Ok(())
    }

    /// What a failure means for the request. A fault is counted and logged here, once, and ends the instance.
    pub(crate) fn fail(&mut self, index: usize, stage: Stage, failure: Failure) -> PipelineError {
        let plugin = self.name(index);
        let fault = match failure {
            Failure::Invalid(message) => return PipelineError::Invalid { plugin, stage, message },
            Failure::Fault(fault) => fault,
        };
        self.count(index, stage, &fault);
        let is_first = !std::mem::replace(&mut self.slots[index].has_failed, true);
        // Where a guest says in an orderly way that it cannot, little was spent, and it may well be able for the next.
        if is_first
            && fault.kind != FaultKind::Error
            && !self.is_cancelled()
            && let Some(standing) = self.set.plugins[index].breaker.failed(self.phase, Instant::now())
        {
            tell(&self.set, index, standing);
        }
        // A failed `init` leaves nothing to call, however orderly it failed.
        if stage == Stage::Init || !fault.leaves_instance_usable() {
            self.slots[index].instance = State::Dead(fault.clone());
        }
        PipelineError::Fault { plugin, stage, kind: fault.kind, detail: fault.detail }
    }

    /// Counts a fault and logs it, unless nobody waits for the request any more.
    pub(crate) fn count(&self, index: usize, stage: Stage, fault: &Fault) {
        if self.is_cancelled() {
            return;
        }
        self.set.plugins[index].tally.failed(stage, &self.call.request_id, fault);
        self.set.meters[index].fault(stage, fault.kind);
        let plugin = &self.set.plugins[index].owner.name;
        tracing::warn!(plugin, request_id = %self.call.request_id, %stage, kind = %fault.kind, "a plugin failed: {}", fault.detail);
    }

    /// Whether a request whose plugin is "open" goes on after this.
    pub(crate) fn may_go_on_after(&self, error: &PipelineError) -> bool {
        error.is_of_a_plugin() && !self.is_cancelled()
    }

    pub(crate) fn is_cancelled(&self) -> bool {
        self.cancellation.is_cancelled()
    }

    pub(crate) fn call_for(&self, index: usize) -> types::Call {
        convert::call(&self.call, &self.set.plugins[index].headers)
    }

    pub(crate) fn name(&self, index: usize) -> String {
        self.set.plugins[index].owner.name.clone()
    }

    pub(crate) fn postprocess_is_open(&self, index: usize) -> bool {
        self.set.plugins[index].postprocess_failure == OnFailure::Open
    }

    pub(crate) fn parse_is_open(&self, index: usize) -> bool {
        self.set.plugins[index].parse_failure == OnFailure::Open
    }

    /// Keeps a plugin's notes, as many and as long as they may be.
    pub(crate) fn note(&mut self, index: usize, notes: types::Annotations) {
        let slot = &mut self.slots[index];
        let room = NOTES_MAX - slot.notes;
        if notes.len() > room {
            tracing::debug!(plugin = self.set.plugins[index].owner.name, "notes beyond {NOTES_MAX} are dropped");
        }
        for (name, value) in notes.into_iter().take(room) {
            slot.notes += 1;
            self.notes.push((cut(name, NOTE_BYTES_MAX), cut(value, NOTE_BYTES_MAX)));
        }
    }
}

/// Says how a plugin stands with its breaker, when that has changed.
fn tell(set: &PluginSet, index: usize, standing: Standing) {
    let (plugin, meter) = (&set.plugins[index].owner.name, &set.meters[index]);
    match standing {
        Standing::Closed => {
            meter.breaker(BreakerState::Closed);
            tracing::info!(plugin, "the plugin works again and is asked as before");
        }
        Standing::Trial => meter.breaker(BreakerState::Trial),
        Standing::Open { pause } => {
            meter.breaker(BreakerState::Open);
            tracing::warn!(
                plugin,
                pause_ms = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX),
                "the plugin failed again and again and is not asked for a while; its requests fail at once, or \
                 go on without it where `on_failure` is open"
            );
        }
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
