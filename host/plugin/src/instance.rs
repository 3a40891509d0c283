//! One live instance of a plugin, and what every call into it is bounded by. The calls themselves are in [`crate::calls`].

use std::sync::Arc;
use std::time::Duration;

use inference::Stage;
use serde::Serialize;
use telemetry::{Outcome, PluginMeter};
use wasmtime::component::ResourceAny;
use wasmtime::{Store, UpdateDeadline};

use crate::bindings::outrigger::plugin::types;
use crate::budget::Cancellation;
use crate::exports::Exports;
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

/// A live instance. Dropping it drops its store, and no guest code runs for that: resources are not dropped one by one.
pub(crate) struct Instance {
    pub(crate) plugin: Arc<Plugin>,
    pub(crate) store: Store<GuestState>,
    pub(crate) exports: Exports,
    /// Controllers, parsers and filters that the guest still has.
    pub(crate) opened: Vec<ResourceAny>,
    /// Pushes and steps.
    pub(crate) pushes: u32,
    served: u32,
    initial_memory_bytes: usize,
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
        let mut this = Self {
            plugin: Arc::clone(plugin),
            store,
            exports: Exports::default(),
            opened: Vec::new(),
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
                let lifecycle;
                (this.exports, lifecycle) = this.plugin.indices.load(&mut this.store, &instance)?;
                lifecycle.call_init(&mut this.store)
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

    /// One call into the guest: budget before, epoch while, classification after.
    pub(crate) fn call<R>(
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
        let answers = self.store.data().answers;
        let request_max = limits.request_cpu_max * answers + limits.request_cpu_per_push * self.pushes;
        self.store.data_mut().budget.begin(cpu_max, request_max)?;
        let plugin = Arc::clone(&self.plugin);
        let in_flight = plugin.sandbox.ticker.watch();
        self.store.set_epoch_deadline(1);
        let answer = guest(self);
        drop(in_flight);
        Ok((answer, self.store.data_mut().budget.end()))
    }

    /// How many answers of the request it has a part in.
    pub(crate) fn serves(&mut self, answers: u32) {
        self.store.data_mut().answers = answers.max(1);
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

    /// Has the guest drop something that it opened. After an error it must not be used again.
    pub(crate) fn release(&mut self, resource: ResourceAny) -> Result<(), Fault> {
        self.opened.retain(|&opened| opened != resource);
        let cpu_max = self.plugin.owner.limits.finish_cpu_max;
        self.bounded(cpu_max, |this| resource.resource_drop(&mut this.store))?.0?;
        Ok(())
    }

    /// Has the guest drop all that it opened for a request. After an error it must not be used again.
    pub(crate) fn clear(&mut self) -> Result<(), Fault> {
        while let Some(&resource) = self.opened.last() {
            self.release(resource)?;
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
