//! For the author's kit and the benches: a request's stages on the calling thread, without the queue between, and what they used.
//!
//! The caller's stack is the guest's: 2 MiB at least.

use std::sync::Arc;

use inference::{Annotations, Call, ChatRequest, Finish, Output, PipelineError, Prepared, Steer, Token, Usage};
use serde::Serialize;

use crate::instance::{Identity, Instance};
use crate::lane::Lane;
use crate::load::LoadedPlugin;
use crate::plugins::Plugins;

/// A request whose caller is its worker.
pub struct Probe {
    lane: Lane,
    /// The answer that is worked on, by its place among the request's.
    place: usize,
}

/// What one plugin used for a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Used {
    /// The plugin.
    pub plugin: String,
    /// Instructions that it executed, `init` included, where the sandbox counts them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instructions: Option<u64>,
    /// The most linear memory that it had.
    pub memory_bytes: usize,
    /// Calls of the host.
    pub host_calls: u32,
    /// The most bytes of one channel that its filter held back.
    pub held_bytes: usize,
}

/// What a stage said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen {
    /// A policy's verdict on the request.
    Judged {
        /// The plugin.
        plugin: String,
        /// `accept`, `replace` or `reject`.
        verdict: &'static str,
        /// Its notes.
        notes: Annotations,
    },
    /// What a parser made of a piece of the model's text.
    Parsed {
        /// The plugin.
        plugin: String,
        /// The piece.
        text: String,
        /// Whether it was the last.
        last: bool,
        /// The events, in words.
        events: Vec<String>,
    },
    /// What a filter made of its window.
    Filtered {
        /// The plugin.
        plugin: String,
        /// Which text it was.
        channel: &'static str,
        /// All that it had not consumed.
        window: String,
        /// Where the part begins that was new.
        new_from: usize,
        /// Whether nothing more comes.
        last: bool,
        /// Bytes that it is done with.
        consumed: usize,
        /// What goes out in their place.
        instead: Option<String>,
        /// Whether it ended the answer.
        stop: Option<Finish>,
        /// Its notes.
        notes: Annotations,
    },
}

/// What a new instance is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Begun {
    /// What it calls itself.
    pub identity: Identity,
    /// Instructions of `init`, where the sandbox counts them.
    pub instructions: Option<u64>,
    /// Its memory after `init`.
    pub memory_bytes: usize,
}

impl Probe {
    /// Begins a request; `None` where there is no room for its instances.
    #[must_use]
    pub fn begin(plugins: &Plugins, call: Call) -> Option<Self> {
        let set = plugins.set();
        let room = set.sandbox.try_reserve_instances(u32::try_from(set.plugins.len()).ok()?)?;
        Some(Self { lane: Lane::new(Arc::clone(set), call, Arc::default(), room), place: 0 })
    }

    /// Remembers from now on what the stages say.
    pub fn watch(&mut self) {
        self.lane.guests.seen.get_or_insert_default();
    }

    /// What they said since this was last asked.
    pub fn take_seen(&mut self) -> Vec<Seen> {
        self.lane.guests.seen.as_mut().map(std::mem::take).unwrap_or_default()
    }

    /// What is asked from now on is asked of this answer, by its place among the request's.
    pub fn turn_to(&mut self, place: usize) {
        self.place = place;
    }

    /// See [`inference::PipelineRun::open`].
    pub fn open(&mut self) -> Result<bool, PipelineError> {
        self.lane.open(self.place)
    }

    /// See [`inference::PipelineRun::prepare`].
    pub fn prepare(&mut self, request: ChatRequest) -> Result<Prepared, PipelineError> {
        self.lane.prepare(request)
    }

    /// See [`inference::PipelineRun::control`]. Whether a plugin controls the tokens of the answer to this prompt.
    pub fn control(&mut self, prompt: &[Token]) -> Result<bool, PipelineError> {
        let Some(index) = self.lane.guests.set.controller else { return Ok(false) };
        self.lane.open_control(self.place, index, &numbers(prompt))?;
        Ok(true)
    }

    /// How the answer goes on behind `appended`. See [`inference::ControlRun::ask`].
    pub fn step(&mut self, appended: &[Token]) -> Result<Steer, PipelineError> {
        match self.lane.guests.set.controller {
            Some(_) => self.lane.step(self.place, &numbers(appended), &Arc::default()),
            None => Ok(Steer::Free(u32::MAX)),
        }
    }

    /// See [`inference::PipelineRun::push`].
    pub fn push(&mut self, text: String, last: bool) -> Result<Output, PipelineError> {
        self.lane.push(self.place, text, &[], last)
    }

    /// See [`inference::PipelineRun::finish`]. The audit comes with [`Self::end`].
    pub fn finish(&mut self, finish: Finish, usage: Usage) -> Result<Annotations, PipelineError> {
        self.lane.finish(self.place, finish, usage, false)
    }

    /// The notes so far, those of a policy that rejected the request included.
    #[must_use]
    pub fn notes(&self) -> Annotations {
        self.lane.notes()
    }

    /// Tells the plugins that audit, and says what each plugin used. One that broke its contract is left out.
    #[must_use = "ends the request; what it used is the answer"]
    pub fn end(mut self, finish: Finish, usage: Usage) -> Vec<Used> {
        self.lane.audit(finish, usage);
        let used = self.lane.used();
        self.lane.guests.wind_up(finish);
        used
    }
}

fn numbers(tokens: &[Token]) -> Vec<u32> {
    tokens.iter().map(|token| token.0).collect()
}

/// Empties the stores of all plugins, so that the next request is the first that they count.
pub fn clear_stores(plugins: &Plugins) {
    for plugin in &plugins.set().plugins {
        plugin.owner.stores.iter().for_each(|granted| granted.store.clear());
    }
}

/// Makes an instance of a plugin, initialises it and drops it; `None` where it cannot be.
#[must_use]
pub fn instantiate(plugin: &LoadedPlugin) -> Option<Begun> {
    let (instance, identity) = Instance::start(&plugin.plugin, Arc::default(), None).ok()?;
    Some(Begun { identity, instructions: instance.instructions(), memory_bytes: instance.memory_bytes() })
}
