//! The instances of one request: made when a stage first needs them, called, and given up where they fail.

use std::sync::Arc;
use std::time::{Duration, Instant};

use inference::{Annotations, Call, FaultKind, Finish, PipelineError, Stage};
use telemetry::BreakerState;
use tokio::sync::OwnedSemaphorePermit;
use wasmtime::component::ResourceAny;

use crate::bindings::outrigger::plugin::types;
use crate::breaker::{Admission, Phase, Standing};
use crate::budget::Cancellation;
use crate::convert;
use crate::fault::{Failure, Fault};
use crate::instance::Instance;
use crate::limits::{NOTE_BYTES_MAX, NOTES_MAX};
use crate::plugins::PluginSet;
use crate::probe::{Seen, Used};
use crate::spec::OnFailure;
use crate::text::cut;

/// One request's instances, one of each plugin at most. All of its answers share them.
pub(crate) struct Guests {
    pub(crate) set: Arc<PluginSet>,
    pub(crate) call: Call,
    /// What the stages said, where somebody wants to see it.
    pub(crate) seen: Option<Vec<Seen>>,
    cancellation: Arc<Cancellation>,
    /// One per plugin of the set.
    slots: Vec<Slot>,
    /// How far the request has come, for the breakers.
    phase: Phase,
    /// Answers that were opened so far.
    answers: u32,
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

impl Guests {
    pub(crate) fn new(
        set: Arc<PluginSet>,
        call: Call,
        cancellation: Arc<Cancellation>,
        room: OwnedSemaphorePermit,
    ) -> Self {
        let slots = set.plugins.iter().map(|_| Slot::default()).collect();
        Self { set, call, seen: None, cancellation, slots, phase: Phase::Request, answers: 0, _room: room }
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
                instance.serves(self.answers);
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

    pub(crate) fn plugin(&self, index: usize) -> &str {
        &self.set.plugins[index].owner.name
    }

    pub(crate) fn name(&self, index: usize) -> String {
        self.plugin(index).to_owned()
    }

    pub(crate) fn postprocess_is_open(&self, index: usize) -> bool {
        self.set.plugins[index].postprocess_failure == OnFailure::Open
    }

    pub(crate) fn parse_is_open(&self, index: usize) -> bool {
        self.set.plugins[index].parse_failure == OnFailure::Open
    }

    /// Another answer is opened: what a request may use is there once for each.
    pub(crate) fn begin_another(&mut self) {
        self.answers = self.answers.saturating_add(1);
    }

    /// Has a plugin drop what it opened for an answer that is over, as others go on in the same instance. Who fails at that is
    /// not used again, and this answer is whole.
    pub(crate) fn release(&mut self, index: usize, stage: Stage, resource: ResourceAny) {
        if let State::Live(instance) = &mut self.slots[index].instance
            && let Err(fault) = instance.release(resource)
        {
            let _ = self.fail(index, stage, fault.into());
        }
    }

    /// All that comes before the answer is done: what its plugins do from now on, they do behind the model.
    pub(crate) fn begin_answer(&mut self) {
        if self.phase == Phase::Request {
            self.end_phase();
            self.phase = Phase::Answer;
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

    /// What runs from now on is about the end, and is not cancelled.
    pub(crate) fn close(&self) {
        self.cancellation.close();
    }

    /// Gives back what is whole, and drops the rest.
    pub(crate) fn wind_up(mut self, finish: Finish) {
        // What was not brought to its end proves nothing, and nobody knows in what state it left a plugin.
        if finish == Finish::Cancelled {
            return;
        }
        if finish != Finish::Failed || self.phase == Phase::Request {
            self.end_phase();
        }
        let set = Arc::clone(&self.set);
        for (index, slot) in self.slots.iter_mut().enumerate() {
            // One that failed is not used again, however orderly it did.
            if let State::Live(instance) = std::mem::take(&mut slot.instance)
                && !slot.has_failed
            {
                set.pools[index].give(*instance, &set.sandbox, Instant::now());
            }
        }
    }

    /// What the instances used so far; those that are dead, and those that were never made, are left out. `held`: plugins and
    /// the most bytes that their filters held back.
    pub(crate) fn used(&self, held: &[(usize, usize)]) -> Vec<Used> {
        let live = self.slots.iter().enumerate().filter_map(|(index, slot)| match &slot.instance {
            State::Live(instance) => Some((index, instance)),
            _ => None,
        });
        live.map(|(index, instance)| Used {
            plugin: self.name(index),
            instructions: instance.instructions(),
            memory_bytes: instance.memory_bytes(),
            host_calls: instance.host_calls(),
            held_bytes: held.iter().filter(|(plugin, _)| *plugin == index).map(|&(_, bytes)| bytes).max().unwrap_or(0),
        })
        .collect()
    }
}

/// Takes over a plugin's notes, as long as they may be, and as many as there is room for beside the `count` that it has made.
pub(crate) fn note(plugin: &str, notes: types::Annotations, count: &mut usize, kept: &mut Annotations) {
    let room = NOTES_MAX.saturating_sub(*count);
    if notes.len() > room {
        tracing::debug!(plugin, "notes beyond {NOTES_MAX} are dropped");
    }
    for (name, value) in notes.into_iter().take(room) {
        *count += 1;
        kept.push((cut(name, NOTE_BYTES_MAX), cut(value, NOTE_BYTES_MAX)));
    }
}

/// Says how a plugin stands with its breaker, when that has changed.
fn tell(set: &PluginSet, index: usize, standing: Standing) {
    let plugin = &set.plugins[index].owner.name;
    match standing {
        Standing::Closed => {
            set.show_breaker(index, BreakerState::Closed);
            tracing::info!(plugin, "the plugin works again and is asked as before");
        }
        Standing::Trial => set.show_breaker(index, BreakerState::Trial),
        Standing::Open { pause } => {
            set.show_breaker(index, BreakerState::Open);
            tracing::warn!(
                plugin,
                pause_ms = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX),
                "the plugin failed again and again and is not asked for a while; its requests fail at once, or \
                 go on without it where `on_failure` is open"
            );
        }
    }
}
