//! A model's coming and going: on its way, there, given up for want of requests, and on its way again.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use inference::{EncodingEngine, ModelCard, Pipeline};
use tokio::time::Instant;

use super::encode::endpoint_of;
use super::loaded::Loaded;
use super::{ChatError, Service, Serving};
use crate::limits;

/// Whether requests are answered now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Readiness {
    /// Yes; the next request will have the model fetched and loaded, and waits for it.
    OnFirstUse,
    /// The model is on its way; this far.
    Loading(String),
    /// The model will not come, and why.
    Failed(String),
    /// Yes.
    Ready,
    /// Not any more: the process was told to stop.
    Draining,
}

#[derive(Clone)]
pub(super) enum State {
    OnFirstUse,
    Loading(String),
    Failed(String),
    Ready { loaded: Loaded, fingerprint: String },
}

/// A model that is not served any more and that nobody uses. Dropping it frees its memory and waits for its thread, which is
/// not for a thread of the async runtime.
#[must_use = "dropping it frees the model, which takes its time"]
pub struct Unloaded {
    _loaded: Loaded,
}

/// When the model was last asked for something.
#[derive(Debug)]
pub(super) struct Used {
    begun: Instant,
    /// Since then.
    last_ms: AtomicU64,
}

impl Default for Used {
    fn default() -> Self {
        Self { begun: Instant::now(), last_ms: AtomicU64::new(0) }
    }
}

impl Used {
    pub(super) fn now(&self) {
        self.last_ms.store(self.elapsed_ms(), Ordering::Relaxed);
    }

    fn idle(&self) -> Duration {
        Duration::from_millis(self.elapsed_ms().saturating_sub(self.last_ms.load(Ordering::Relaxed)))
    }

    fn elapsed_ms(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

impl Service {
    /// The model is to be loaded when it is [`wanted`](Self::wanted), and not at the start; requests wait for it as long as they
    /// may wait for a slot.
    pub fn on_first_use(&self) {
        self.is_loaded_at_start.store(false, Ordering::Relaxed);
        self.is_loaded_on_use.store(true, Ordering::Relaxed);
        self.has_started.store(true, Ordering::Relaxed);
        self.set(State::OnFirstUse);
    }

    /// Whether it was to be there from the start.
    #[must_use]
    pub fn is_loaded_at_start(&self) -> bool {
        self.is_loaded_at_start.load(Ordering::Relaxed)
    }

    /// Returns when a request has come for a model that is not there, since the last call.
    pub async fn wanted(&self) {
        self.wanted.notified().await;
    }

    /// The model is on its way; `progress` is for people.
    pub fn loading(&self, progress: impl Into<String>) {
        self.set(State::Loading(progress.into()));
    }

    /// The model will not come.
    pub fn failed(&self, reason: impl Into<String>) {
        self.set(State::Failed(reason.into()));
    }

    /// From now on chats are answered.
    pub fn ready(&self, serving: Serving) {
        self.serve(Loaded::Chat(serving));
        self.metrics.inference.model_ready(&self.model_id);
    }

    /// From now on inputs are encoded.
    pub fn ready_to_encode(&self, engine: Arc<dyn EncodingEngine>) {
        let endpoint = endpoint_of(engine.facts().task);
        self.serve(Loaded::Encoder(engine));
        self.metrics.inference.encoder_ready(&self.model_id, endpoint);
    }

    fn serve(&self, loaded: Loaded) {
        let fingerprint = fingerprint(loaded.card());
        // The time until it is given up begins here.
        self.used.now();
        // Before those who wait for it are woken.
        self.has_started.store(true, Ordering::Relaxed);
        self.state.send_replace(State::Ready { loaded, fingerprint });
    }

    fn set(&self, state: State) {
        self.metrics.inference.ready(&self.model_id, false);
        self.state.send_replace(state);
    }

    /// New requests go through these plugins; those that run keep the ones that they began with. Without a model that answers
    /// chats nothing changes.
    pub fn replace_pipeline(&self, pipeline: Arc<dyn Pipeline>) {
        self.state.send_if_modified(|state| match state {
            State::Ready { loaded: Loaded::Chat(serving), .. } => {
                serving.pipeline = pipeline;
                true
            }
            _ => false,
        });
    }

    /// What answers chats now.
    #[must_use]
    pub fn serving(&self) -> Option<Serving> {
        match &*self.state.borrow() {
            State::Ready { loaded: Loaded::Chat(serving), .. } => Some(serving.clone()),
            _ => None,
        }
    }

    /// Gives the model up once nobody has asked for anything for `after`; from then on it is loaded on use. What runs or waits
    /// is never cut: as long as there is such a request, this does not return.
    pub async fn unloaded_when_idle(&self, after: Duration) -> Unloaded {
        loop {
            let left = after.saturating_sub(self.used.idle());
            if !left.is_zero() {
                tokio::time::sleep(left).await;
            } else if let Some(unloaded) = self.unload(after) {
                return unloaded;
            } else {
                tokio::time::sleep(limits::UNLOAD_INTERVAL).await;
            }
        }
    }

    /// Takes the model away if nobody uses it. A request holds the engine until it has a permit, and the permit to its end; so
    /// where nobody else holds the engine, and after that nobody has a permit, nobody uses it. New requests find the model under the
    /// lock that is held here.
    fn unload(&self, after: Duration) -> Option<Unloaded> {
        let mut unloaded = None;
        self.state.send_if_modified(|state| {
            let State::Ready { loaded, .. } = &*state else { return false };
            if self.used.idle() < after || !loaded.is_held_by_nobody_else() || self.active() > 0 {
                return false;
            }
            // What was wanted while it was loaded the last time is served.
            let mut wanted = std::pin::pin!(self.wanted.notified());
            wanted.as_mut().enable();
            self.is_loaded_on_use.store(true, Ordering::Relaxed);
            self.metrics.inference.ready(&self.model_id, false);
            if let State::Ready { loaded, .. } = std::mem::replace(state, State::OnFirstUse) {
                unloaded = Some(Unloaded { _loaded: loaded });
            }
            true
        });
        // What was compiled for its vocabulary holds it.
        if unloaded.is_some() {
            self.grammars.forget();
        }
        unloaded
    }

    /// Whether requests are answered now.
    #[must_use]
    pub fn readiness(&self) -> Readiness {
        if self.is_draining() {
            return Readiness::Draining;
        }
        match &*self.state.borrow() {
            State::OnFirstUse => Readiness::OnFirstUse,
            State::Loading(progress) => Readiness::Loading(progress.clone()),
            State::Failed(reason) => Readiness::Failed(reason.clone()),
            State::Ready { .. } => Readiness::Ready,
        }
    }

    /// The model, if it has this name.
    pub(super) async fn loaded(&self, model: &str) -> Result<(Loaded, String), ChatError> {
        if self.model_id != model {
            return Err(ChatError::ModelNotFound { model: model.to_owned(), served: self.model_id.clone() });
        }
        self.loaded_any().await
    }

    /// The model. One that is loaded on use is asked for here, and waited for in the same bounded line and as long as a slot
    /// is.
    pub(super) async fn loaded_any(&self) -> Result<(Loaded, String), ChatError> {
        let now = self.loaded_now();
        if !matches!(now, Err(ChatError::Loading { .. } | ChatError::LoadFailed { .. })) {
            return now;
        }
        self.wanted.notify_one();
        if !self.is_loaded_on_use.load(Ordering::Relaxed) || matches!(now, Err(ChatError::LoadFailed { .. })) {
            return now;
        }
        let _place = self.admission.set_aside()?;
        let mut state = self.state.subscribe();
        let is_over = |state: &State| self.is_draining() || matches!(state, State::Ready { .. } | State::Failed(_));
        let _in_time = tokio::time::timeout(self.times.now().queue_wait_max, state.wait_for(is_over)).await;
        self.loaded_now()
    }

    fn loaded_now(&self) -> Result<(Loaded, String), ChatError> {
        if self.is_draining() {
            return Err(ChatError::Draining);
        }
        match &*self.state.borrow() {
            State::Ready { loaded, fingerprint } => {
                // Before it is let go of: who gives it up looks at the time under the same lock.
                self.used.now();
                Ok((loaded.clone(), fingerprint.clone()))
            }
            State::OnFirstUse => Err(ChatError::Loading { progress: "it is loaded at its first use".to_owned() }),
            State::Loading(progress) => Err(ChatError::Loading { progress: progress.clone() }),
            State::Failed(reason) => Err(ChatError::LoadFailed { reason: reason.clone() }),
        }
    }
}

impl std::fmt::Debug for Unloaded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Unloaded").finish_non_exhaustive()
    }
}

/// A short name for what determines an answer beside the request: the model's file and this program. FNV-1a, because
/// the standard library's hash may change between releases and nothing here needs more.
fn fingerprint(card: &ModelCard) -> String {
    let version = env!("CARGO_PKG_VERSION");
    let facts = format!("{}\n{}\n{}\n{}\n{version}", card.id, card.revision, card.size_bytes, card.context_length);
    let hash = facts
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
    format!("fp_{hash:016x}")
}
