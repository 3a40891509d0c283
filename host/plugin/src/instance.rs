//! One live instance of a plugin: the typed calls into it, each under its budget and its limits.

use std::sync::Arc;
use std::time::Duration;

use inference::Stage;
use serde::Serialize;
use telemetry::{Outcome, PluginMeter};
use wasmtime::component::{InstancePre, ResourceAny};
use wasmtime::{Store, UpdateDeadline};

use crate::bindings::exports::outrigger::plugin::{
    audit, lifecycle, parse, policy, postprocess, prompt, token_control,
};
use crate::bindings::outrigger::plugin::types;
use crate::budget::Cancellation;
use crate::fault::{Failure, Fault};
use crate::limits::NOTE_BYTES_MAX;
use crate::load::Plugin;
use crate::state::GuestState;
use crate::text::cut;

/// What a plugin calls itself.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Identity {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
}

/// Where in a component the contract's interfaces are; those that are not used are `None`.
pub(crate) struct StageIndices {
    lifecycle: lifecycle::GuestIndices,
    policy: Option<policy::GuestIndices>,
    prompt: Option<prompt::GuestIndices>,
    token_control: Option<token_control::GuestIndices>,
    parse: Option<parse::GuestIndices>,
    postprocess: Option<postprocess::GuestIndices>,
    audit: Option<audit::GuestIndices>,
}

impl StageIndices {
    /// Looks up the stages in use, and `lifecycle`.
    pub(crate) fn of(pre: &InstancePre<GuestState>, stages: &[(Stage, i32)]) -> wasmtime::Result<Self> {
        let uses = |stage| stages.iter().any(|&(used, _)| used == stage);
        Ok(Self {
            lifecycle: lifecycle::GuestIndices::new(pre)?,
            policy: uses(Stage::Policy).then(|| policy::GuestIndices::new(pre)).transpose()?,
            prompt: uses(Stage::Prompt).then(|| prompt::GuestIndices::new(pre)).transpose()?,
            token_control: uses(Stage::TokenControl).then(|| token_control::GuestIndices::new(pre)).transpose()?,
            parse: uses(Stage::Parse).then(|| parse::GuestIndices::new(pre)).transpose()?,
            postprocess: uses(Stage::Postprocess).then(|| postprocess::GuestIndices::new(pre)).transpose()?,
            audit: uses(Stage::Audit).then(|| audit::GuestIndices::new(pre)).transpose()?,
        })
    }
}

/// A live instance. Dropping it drops its store, and no guest code runs for that: resources are not dropped one by one.
pub(crate) struct Instance {
    plugin: Arc<Plugin>,
    store: Store<GuestState>,
    exports: Exports,
    controller: Option<ResourceAny>,
    parser: Option<ResourceAny>,
    filter: Option<ResourceAny>,
    /// Pushes and steps.
    pushes: u32,
    served: u32,
    initial_memory_bytes: usize,
}

struct Exports {
    policy: Option<policy::Guest>,
    prompt: Option<prompt::Guest>,
    token_control: Option<token_control::Guest>,
    parse: Option<parse::Guest>,
    postprocess: Option<postprocess::Guest>,
    audit: Option<audit::Guest>,
}

impl Instance {
    /// Makes an instance and calls its `init`.
    pub(crate) fn start(
        plugin: &Arc<Plugin>,
        cancellation: Arc<Cancellation>,
        meter: Option<Arc<PluginMeter>>,
    ) -> Result<(Self, Identity), Failure> {
        let limits = &plugin.owner.limits;
        let mut store = Store::new(&plugin.sandbox.engine, GuestState::new(&plugin.owner, cancellation, meter));
        store.limiter(|state| &mut state.memory);
        store.set_hostcall_fuel(limits.call_bytes_max);
        if plugin.sandbox.counts_instructions() {
            store.set_fuel(u64::MAX).map_err(Fault::from)?;
        }
        store.epoch_deadline_callback(|mut store| {
            store.data_mut().budget.check()?;
            Ok(UpdateDeadline::Continue(1))
        });
        if let Some(meter) = &store.data().meter {
            meter.instance_started();
        }
        let exports =
            Exports { policy: None, prompt: None, token_control: None, parse: None, postprocess: None, audit: None };
        let mut this = Self {
            plugin: Arc::clone(plugin),
            store,
            exports,
            controller: None,
            parser: None,
            filter: None,
            pushes: 0,
            served: 1,
            initial_memory_bytes: 0,
        };
        let cpu_max = limits.init_cpu_max;
        // Instantiation runs start functions, so it is a call like any other.
        let identity = this.call(
            Stage::Init,
            cpu_max,
            |_| Outcome::Ok,
            |this| {
                let instance = this.plugin.pre.instantiate(&mut this.store)?;
                let (indices, store) = (&this.plugin.indices, &mut this.store);
                macro_rules! load {
                    ($stage:ident) => {
                        indices.$stage.as_ref().map(|indices| indices.load(&mut *store, &instance)).transpose()?
                    };
                }
                this.exports = Exports {
                    policy: load!(policy),
                    prompt: load!(prompt),
                    token_control: load!(token_control),
                    parse: load!(parse),
                    postprocess: load!(postprocess),
                    audit: load!(audit),
                };
                indices.lifecycle.load(&mut *store, &instance)?.call_init(store)
            },
        )?;
        this.initial_memory_bytes = this.store.data().memory.memory_bytes;
        let identity =
            Identity { name: cut(identity.name, NOTE_BYTES_MAX), version: cut(identity.version, NOTE_BYTES_MAX) };
        Ok((this, identity))
    }

    /// Linear memory that it has now.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.store.data().memory.memory_bytes()
    }

    /// Instructions that it has executed, where they are counted.
    pub(crate) fn instructions(&self) -> Option<u64> {
        self.plugin.sandbox.counts_instructions().then(|| u64::MAX - self.store.get_fuel().unwrap_or(u64::MAX))
    }

    /// Calls of the host in this request.
    pub(crate) fn host_calls(&self) -> u32 {
        self.store.data().host_calls
    }

    pub(crate) fn inspect(
        &mut self,
        request: &types::Request,
        call: &types::Call,
    ) -> Result<(policy::Verdict, types::Annotations), Failure> {
        let outcome = |(verdict, _): &(policy::Verdict, _)| match verdict {
            policy::Verdict::Accept => Outcome::Accept,
            policy::Verdict::Replace(_) => Outcome::Replace,
            policy::Verdict::Reject(_) => Outcome::Reject,
        };
        let cpu_max = self.plugin.owner.limits.policy_cpu_max;
        self.call(Stage::Policy, cpu_max, outcome, |this| {
            let policy = this.exports.policy.as_ref().ok_or_else(missing)?;
            policy.call_inspect(&mut this.store, request, call)
        })
    }

    pub(crate) fn render(
        &mut self,
        messages: &[types::Message],
        options: &prompt::Options,
        call: &types::Call,
    ) -> Result<prompt::Rendered, Failure> {
        let cpu_max = self.plugin.owner.limits.prompt_cpu_max;
        self.call(
            Stage::Prompt,
            cpu_max,
            |_| Outcome::Ok,
            |this| {
                let prompt = this.exports.prompt.as_ref().ok_or_else(missing)?;
                prompt.call_render(&mut this.store, messages, options, call)
            },
        )
    }

    /// Opens a controller; its masks.
    pub(crate) fn open_controller(
        &mut self,
        call: &types::Call,
        choice: u32,
        prompt: &[u32],
        vocabulary_size: u32,
    ) -> Result<Vec<Vec<u32>>, Failure> {
        let cpu_max = self.plugin.owner.limits.prompt_cpu_max;
        let controller = self.call(
            Stage::TokenControl,
            cpu_max,
            |_| Outcome::Open,
            |this| {
                let control = this.exports.token_control.as_ref().ok_or_else(missing)?;
                control.controller().call_open(&mut this.store, call, choice, prompt, vocabulary_size)
            },
        )?;
        self.controller = Some(controller);
        self.call(
            Stage::TokenControl,
            cpu_max,
            |_| Outcome::Ok,
            |this| {
                let control = this.exports.token_control.as_ref().ok_or_else(missing)?;
                control.controller().call_masks(&mut this.store, controller).map(Ok)
            },
        )
    }

    pub(crate) fn step(&mut self, appended: &[u32]) -> Result<token_control::Constraint, Failure> {
        self.pushes = self.pushes.saturating_add(1);
        let outcome = |constraint: &token_control::Constraint| match constraint {
            token_control::Constraint::Free | token_control::Constraint::FreeFor(_) => Outcome::Pass,
            token_control::Constraint::Stop => Outcome::Stop,
            _ => Outcome::Rewrite,
        };
        let cpu_max = self.plugin.owner.limits.step_cpu_max;
        self.call(Stage::TokenControl, cpu_max, outcome, |this| {
            let control = this.exports.token_control.as_ref().ok_or_else(missing)?;
            let controller = this.controller.ok_or_else(missing)?;
            control.controller().call_step(&mut this.store, controller, appended)
        })
    }

    pub(crate) fn open_parser(
        &mut self,
        call: &types::Call,
        choice: u32,
        tools: &[types::Tool],
        prefix: &str,
    ) -> Result<(), Failure> {
        let cpu_max = self.plugin.owner.limits.push_cpu_max;
        let parser = self.call(
            Stage::Parse,
            cpu_max,
            |_| Outcome::Open,
            |this| {
                let parse = this.exports.parse.as_ref().ok_or_else(missing)?;
                parse.parser().call_open(&mut this.store, call, choice, tools, prefix)
            },
        )?;
        self.parser = Some(parser);
        Ok(())
    }

    pub(crate) fn parse(&mut self, text: &str, last: bool) -> Result<Vec<parse::Event>, Failure> {
        self.pushes = self.pushes.saturating_add(1);
        let cpu_max = self.plugin.owner.limits.push_cpu_max;
        self.call(
            Stage::Parse,
            cpu_max,
            |_| Outcome::Ok,
            |this| {
                let parse = this.exports.parse.as_ref().ok_or_else(missing)?;
                let parser = this.parser.ok_or_else(missing)?;
                parse.parser().call_push(&mut this.store, parser, text, last)
            },
        )
    }

    pub(crate) fn open_filter(&mut self, call: &types::Call, choice: u32) -> Result<postprocess::Profile, Failure> {
        let cpu_max = self.plugin.owner.limits.push_cpu_max;
        let (filter, profile) = self.call(
            Stage::Postprocess,
            cpu_max,
            |_| Outcome::Open,
            |this| {
                let postprocess = this.exports.postprocess.as_ref().ok_or_else(missing)?;
                postprocess.filter().call_open(&mut this.store, call, choice)
            },
        )?;
        self.filter = Some(filter);
        Ok(profile)
    }

    pub(crate) fn filter(&mut self, chunk: &postprocess::Chunk) -> Result<postprocess::Output, Failure> {
        self.pushes = self.pushes.saturating_add(1);
        let outcome = |output: &postprocess::Output| match output {
            postprocess::Output { stop: Some(_), .. } => Outcome::Stop,
            postprocess::Output { instead: Some(_), .. } => Outcome::Rewrite,
            postprocess::Output { consume, .. } if (*consume as usize) < chunk.window.len() => Outcome::Hold,
            _ => Outcome::Pass,
        };
        let cpu_max = self.plugin.owner.limits.push_cpu_max;
        self.call(Stage::Postprocess, cpu_max, outcome, |this| {
            let postprocess = this.exports.postprocess.as_ref().ok_or_else(missing)?;
            let filter = this.filter.ok_or_else(missing)?;
            postprocess.filter().call_push(&mut this.store, filter, chunk)
        })
    }

    pub(crate) fn finish_filter(
        &mut self,
        finish: types::Finish,
        usage: types::Usage,
    ) -> Result<types::Annotations, Failure> {
        let cpu_max = self.plugin.owner.limits.finish_cpu_max;
        self.call(
            Stage::Postprocess,
            cpu_max,
            |_| Outcome::Finish,
            |this| {
                let postprocess = this.exports.postprocess.as_ref().ok_or_else(missing)?;
                let filter = this.filter.ok_or_else(missing)?;
                postprocess.filter().call_finish(&mut this.store, filter, finish, usage)
            },
        )
    }

    pub(crate) fn audit(
        &mut self,
        call: &types::Call,
        finish: types::Finish,
        usage: types::Usage,
        notes: &types::Annotations,
    ) -> Result<(), Failure> {
        let cpu_max = self.plugin.owner.limits.finish_cpu_max;
        self.call(
            Stage::Audit,
            cpu_max,
            |()| Outcome::Ok,
            |this| {
                let audit = this.exports.audit.as_ref().ok_or_else(missing)?;
                audit.call_completed(&mut this.store, call, finish, usage, notes).map(Ok)
            },
        )
    }

    /// One call into the guest: budget before, epoch while, classification after.
    fn call<R>(
        &mut self,
        stage: Stage,
        cpu_max: Duration,
        outcome: impl FnOnce(&R) -> Outcome,
        guest: impl FnOnce(&mut Self) -> wasmtime::Result<Result<R, types::Error>>,
    ) -> Result<R, Failure> {
        let (answer, elapsed) = self.bounded(cpu_max, guest)?;
        let (result, outcome) = match answer {
            Ok(Ok(value)) => {
                let outcome = outcome(&value);
                (Ok(value), outcome)
            }
            Ok(Err(error)) => match Failure::from(error) {
                invalid @ Failure::Invalid(_) => (Err(invalid), Outcome::Invalid),
                fault @ Failure::Fault(_) => (Err(fault), Outcome::Error),
            },
            Err(trap) => (Err(Fault::from(trap).into()), Outcome::Fault),
        };
        if let Some(meter) = &self.store.data().meter {
            meter.call(stage, outcome, elapsed);
        }
        result
    }

    /// Runs guest code under its budget. Returns how it went, and how long it took.
    fn bounded<R>(
        &mut self,
        cpu_max: Duration,
        guest: impl FnOnce(&mut Self) -> wasmtime::Result<R>,
    ) -> Result<(wasmtime::Result<R>, Duration), Fault> {
        let limits = &self.plugin.owner.limits;
        let request_max = limits.request_cpu_max + limits.request_cpu_per_push * self.pushes;
        self.store.data_mut().budget.begin(cpu_max, request_max)?;
        let plugin = Arc::clone(&self.plugin);
        let in_flight = plugin.sandbox.ticker.watch();
        self.store.set_epoch_deadline(1);
        let answer = guest(self);
        drop(in_flight);
        Ok((answer, self.store.data_mut().budget.end()))
    }

    /// How many requests it has begun to serve.
    pub(crate) fn served(&self) -> u32 {
        self.served
    }

    /// Memory that it gained since it was initialised, in bytes.
    pub(crate) fn growth_bytes(&self) -> usize {
        self.store.data().memory.memory_bytes.saturating_sub(self.initial_memory_bytes)
    }

    /// Makes it ready for another request. See [`Self::clear`], which comes before.
    pub(crate) fn renew(&mut self, cancellation: Arc<Cancellation>) {
        self.store.data_mut().renew(cancellation);
        self.served = self.served.saturating_add(1);
    }

    /// Has the guest drop what it opened for a request. After an error it must not be used again.
    pub(crate) fn clear(&mut self) -> Result<(), Fault> {
        for resource in [self.controller.take(), self.parser.take(), self.filter.take()].into_iter().flatten() {
            let cpu_max = self.plugin.owner.limits.finish_cpu_max;
            self.bounded(cpu_max, |this| resource.resource_drop(&mut this.store))?.0?;
        }
        self.account();
        self.pushes = 0;
        Ok(())
    }

    /// Accounts for the CPU time of the request that has ended.
    fn account(&mut self) {
        let state = self.store.data_mut();
        if let Some(meter) = &state.meter {
            meter.cpu(state.budget.take_used());
        }
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        self.account();
        let state = self.store.data();
        if let Some(meter) = &state.meter {
            meter.instance_ended(state.memory.memory_bytes);
        }
    }
}

/// A stage was called that was not loaded: a mistake of ours that must not become a panic.
fn missing() -> wasmtime::Error {
    wasmtime::Error::msg("the host called a stage that this plugin does not have or that was not opened")
}
