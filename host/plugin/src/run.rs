//! One request's run: has each step done by a worker, and waits for it.

use std::sync::Arc;
use std::time::Instant;

use inference::{
    Annotations, Call, ChatRequest, ChosenToken, Delta, FaultKind, Finish, Output, PipelineError, PipelineRun,
    Prepared, Stage, Step, Token, TokenControl, Usage,
};
use tokio::sync::oneshot;

use crate::budget::Cancellation;
use crate::control::Controller;
use crate::lane::Lane;
use crate::plugins::PluginSet;
use crate::strand::{self, Strand};
use crate::workers::{QueueFull, Urgency};

/// One request's pass through the plugins.
pub(crate) struct Run {
    set: Arc<PluginSet>,
    cancellation: Arc<Cancellation>,
    place: Place,
    /// What the request has used so far.
    usage: Usage,
    /// How it ends if nobody says: the client has left, unless we had no room for it.
    end: Finish,
}

/// Where the lane is.
enum Place {
    /// Not made yet.
    Nowhere(Call),
    /// In here, on a worker, or gone after an error or the end.
    Strand(Arc<Strand>),
}

/// What becomes of the lane when a step has succeeded.
enum Then {
    Return,
    Close(Finish, Usage),
}

impl Run {
    pub(crate) fn new(set: Arc<PluginSet>, call: Call) -> Self {
        Self {
            set,
            cancellation: Arc::default(),
            place: Place::Nowhere(call),
            usage: Usage::default(),
            end: Finish::Cancelled,
        }
    }

    /// Makes room for the request's instances.
    async fn enter(&mut self) -> Result<(), PipelineError> {
        let Place::Nowhere(call) = &self.place else { return Ok(()) };
        let call = call.clone();
        let count = u32::try_from(self.set.plugins.len()).unwrap_or(u32::MAX);
        let room = self.set.sandbox.reserve_instances(count).await.map_err(|_| self.overloaded("instances"))?;
        let lane = Lane::new(Arc::clone(&self.set), call, Arc::clone(&self.cancellation), room);
        self.place = Place::Strand(Strand::new(Box::new(lane), self.set.sandbox.workers.entrance().clone()));
        Ok(())
    }

    fn overloaded(&self, what: &'static str) -> PipelineError {
        self.set.metrics.overloaded(what);
        PipelineError::Overloaded
    }

    /// Does `work` with the lane on a worker.
    async fn step<R: Send + 'static>(
        &mut self,
        stage: Stage,
        urgency: Urgency,
        then: Then,
        work: impl FnOnce(&mut Lane) -> Result<R, PipelineError> + Send + 'static,
    ) -> Result<R, PipelineError> {
        let gone_before = move || gone(stage, "the request was given up, or has ended, before this step");
        let Place::Strand(strand) = &self.place else { return Err(gone_before()) };
        let (sender, receiver) = oneshot::channel();
        let (set, usage, queued_at) = (Arc::clone(&self.set), self.usage, Instant::now());
        let job = move |place: Result<&mut strand::Place, QueueFull>| {
            let Ok(place) = place else {
                set.metrics.overloaded("queue");
                drop(sender.send(Err(PipelineError::Overloaded)));
                return;
            };
            set.metrics.queued(urgency.as_str(), queued_at.elapsed());
            let Some(mut lane) = place.take() else {
                drop(sender.send(Err(gone_before())));
                return;
            };
            if lane.is_cancelled() {
                // The client left while this waited for its turn.
                return lane.close(Finish::Cancelled, usage);
            }
            let result = work(&mut lane);
            let finish = match (&result, &then) {
                (Ok(_), Then::Return) => {
                    match sender.send(result) {
                        Ok(()) => *place = Some(lane),
                        // Nobody listens any more: the client left while we worked.
                        Err(_) => lane.close(Finish::Cancelled, usage),
                    }
                    return;
                }
                (Ok(_), &Then::Close(finish, usage)) => (finish, usage),
                (Err(_), _) if lane.is_cancelled() => (Finish::Cancelled, usage),
                (Err(PipelineError::Rejected { .. }), _) => (Finish::Filtered, usage),
                (Err(_), _) => (Finish::Failed, usage),
            };
            // The answer first: the client does not wait for the audit.
            drop(sender.send(result));
            lane.close(finish.0, finish.1);
        };
        let cancel = CancelOnDrop(Some(Arc::clone(&self.cancellation)));
        strand.submit(urgency, Box::new(job)).await;
        let answer = receiver.await;
        cancel.disarm();
        let answer = answer.map_err(|_| gone(stage, "the host panicked; this is a bug of Outrigger"))?;
        if let Err(PipelineError::Overloaded) = answer {
            self.end = Finish::Failed;
        }
        answer
    }
}

impl PipelineRun for Run {
    fn prepare(&mut self, request: ChatRequest) -> Step<'_, Prepared> {
        Box::pin(async move {
            self.enter().await?;
            self.step(Stage::Prompt, Urgency::Request, Then::Return, move |lane| lane.prepare(request)).await
        })
    }

    fn control(&mut self, prompt: &[Token]) -> Step<'_, Option<TokenControl>> {
        let Some(index) = self.set.controller else { return Box::pin(async { Ok(None) }) };
        let prompt: Vec<u32> = prompt.iter().map(|token| token.0).collect();
        Box::pin(async move {
            let work = move |lane: &mut Lane| lane.open_control(index, &prompt);
            self.step(Stage::TokenControl, Urgency::Request, Then::Return, work).await?;
            let Place::Strand(strand) = &self.place else { return Ok(None) };
            Ok(Some(Controller::control(Arc::clone(&self.set), Arc::clone(strand), index)))
        })
    }

    fn push(&mut self, text: String, tokens: Vec<ChosenToken>, last: bool) -> Step<'_, Output> {
        Box::pin(async move {
            if self.set.passes_text_through() {
                let deltas = if text.is_empty() { Vec::new() } else { vec![Delta::Content(text)] };
                return Ok(Output { deltas, ..Output::default() });
            }
            let work = move |lane: &mut Lane| lane.push(text, &tokens, last);
            self.step(Stage::Postprocess, Urgency::Stream, Then::Return, work).await
        })
    }

    fn used(&mut self, usage: Usage) {
        self.usage = usage;
    }

    fn finish(&mut self, finish: Finish, usage: Usage) -> Step<'_, Annotations> {
        Box::pin(async move {
            let then = Then::Close(finish, usage);
            self.step(Stage::Postprocess, Urgency::Stream, then, move |lane| lane.finish(finish, usage)).await
        })
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        let Place::Strand(strand) = &self.place else { return };
        // A step of the answer's tokens may be under way.
        self.cancellation.cancel();
        let (usage, end) = (self.usage, self.end);
        let close = move |place: Result<&mut strand::Place, QueueFull>| {
            if let Ok(Some(lane)) = place.map(Option::take) {
                lane.close(end, usage);
            }
        };
        let Some(lane) = strand.leave(Box::new(close)) else { return };
        if self.set.audits.is_empty() {
            return;
        }
        let audit = Box::new(move || lane.close(end, usage));
        if self.set.sandbox.workers.entrance().try_submit(Urgency::Request, audit).is_err() {
            tracing::warn!("a request that ended early was not audited: the plugins are overloaded");
        }
    }
}

/// Stops the guest when the step that waits for it is dropped.
struct CancelOnDrop(Option<Arc<Cancellation>>);

impl CancelOnDrop {
    fn disarm(mut self) {
        self.0 = None;
    }
}

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        if let Some(cancellation) = &self.0 {
            cancellation.cancel();
        }
    }
}

pub(crate) fn gone(stage: Stage, detail: &str) -> PipelineError {
    PipelineError::Fault { plugin: "host".to_owned(), stage, kind: FaultKind::Error, detail: detail.to_owned() }
}
