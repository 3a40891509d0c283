//! One answer's run: has each step done by a worker, and waits for it.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
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

/// One answer's pass through the plugins.
pub(crate) struct Run {
    request: Arc<Request>,
    /// Its place among the request's answers.
    place: usize,
    /// How the request ends if this is dropped before it has finished: the client has left, unless we had no room for it.
    end: Finish,
    has_finished: bool,
}

/// What the runs of a request share.
struct Request {
    set: Arc<PluginSet>,
    call: Call,
    cancellation: Arc<Cancellation>,
    /// Where the lane is: in there, on a worker, or gone after an error or the end. Empty until there was room for it.
    strand: OnceLock<Arc<Strand>>,
    ledger: Mutex<Ledger>,
}

/// What the request's answers have used so far, and how many of them have not finished.
struct Ledger {
    used: Vec<Usage>,
    open: usize,
}

impl Ledger {
    /// One of the answers has finished. Whether there are others that have not.
    fn finish_one(&mut self) -> bool {
        self.open = self.open.saturating_sub(1);
        self.open > 0
    }

    /// All together. They share the prompt; the one that found the least of it computed says what the request was spared.
    fn total(&self) -> Usage {
        Usage {
            prompt_tokens: self.used.iter().map(|used| used.prompt_tokens).max().unwrap_or_default(),
            completion_tokens: self.used.iter().map(|used| used.completion_tokens).fold(0, u32::saturating_add),
            cached_tokens: self.used.iter().map(|used| used.cached_tokens).min().unwrap_or_default(),
        }
    }
}

/// What becomes of the lane when a step has succeeded.
#[derive(Clone, Copy)]
enum Then {
    Return,
    /// The answer is over, and with the last of them the request.
    Finish,
}

impl Request {
    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        // Nothing that can panic half way runs under this lock.
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn total(&self) -> Usage {
        self.ledger().total()
    }

    fn overloaded(&self, what: &'static str) -> PipelineError {
        self.set.metrics.overloaded(what);
        PipelineError::Overloaded
    }
}

impl Run {
    pub(crate) fn new(set: Arc<PluginSet>, call: Call) -> Self {
        let ledger = Ledger { used: vec![Usage::default()], open: 1 };
        let request =
            Request { set, call, cancellation: Arc::default(), strand: OnceLock::new(), ledger: Mutex::new(ledger) };
        Self { request: Arc::new(request), place: 0, end: Finish::Cancelled, has_finished: false }
    }

    /// Makes room for the request's instances.
    async fn enter(&self) -> Result<(), PipelineError> {
        let request = &self.request;
        if request.strand.get().is_some() {
            return Ok(());
        }
        let (set, cancellation) = (Arc::clone(&request.set), Arc::clone(&request.cancellation));
        let count = u32::try_from(set.plugins.len()).unwrap_or(u32::MAX);
        let room = set.sandbox.reserve_instances(count).await.map_err(|_| request.overloaded("instances"))?;
        let workers = set.sandbox.workers.entrance().clone();
        let lane = Lane::new(set, request.call.clone(), cancellation, room);
        let _ = request.strand.set(Strand::new(Box::new(lane), workers));
        Ok(())
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
        let Some(strand) = self.request.strand.get() else { return Err(gone_before()) };
        let (sender, receiver) = oneshot::channel();
        let (request, queued_at) = (Arc::clone(&self.request), Instant::now());
        let job = move |place: Result<&mut strand::Place, QueueFull>| {
            let Ok(place) = place else {
                drop(sender.send(Err(request.overloaded("queue"))));
                return;
            };
            request.set.metrics.queued(urgency.as_str(), queued_at.elapsed());
            let Some(mut lane) = place.take() else {
                drop(sender.send(Err(gone_before())));
                return;
            };
            if lane.guests.is_cancelled() {
                // The client left while this waited for its turn.
                return lane.give_up(Finish::Cancelled, request.total());
            }
            let result = work(&mut lane);
            let goes_on = match then {
                Then::Return => true,
                Then::Finish => request.ledger().open > 0,
            };
            let end = match &result {
                Ok(_) if goes_on => {
                    match sender.send(result) {
                        Ok(()) => *place = Some(lane),
                        // Nobody listens any more: the client left while we worked.
                        Err(_) => lane.give_up(Finish::Cancelled, request.total()),
                    }
                    return;
                }
                Ok(_) => lane.end().unwrap_or(Finish::Stop),
                Err(_) if lane.guests.is_cancelled() => Finish::Cancelled,
                Err(PipelineError::Rejected { .. }) => Finish::Filtered,
                Err(_) => Finish::Failed,
            };
            // The answer first: the client does not wait for the audit.
            drop(sender.send(result));
            lane.close(end, request.total());
        };
        let cancel = CancelOnDrop(Some(Arc::clone(&self.request.cancellation)));
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

    fn another(&mut self) -> Box<dyn PipelineRun> {
        let mut ledger = self.request.ledger();
        let place = ledger.used.len();
        ledger.used.push(Usage::default());
        ledger.open += 1;
        drop(ledger);
        Box::new(Self { request: Arc::clone(&self.request), place, end: Finish::Cancelled, has_finished: false })
    }

    fn open(&mut self) -> Step<'_, bool> {
        let place = self.place;
        Box::pin(async move {
            self.step(Stage::Postprocess, Urgency::Request, Then::Return, move |lane| lane.open(place)).await
        })
    }

    fn control(&mut self, prompt: &[Token]) -> Step<'_, Option<TokenControl>> {
        let (set, place) = (Arc::clone(&self.request.set), self.place);
        let Some(index) = set.controller else { return Box::pin(async { Ok(None) }) };
        let prompt: Vec<u32> = prompt.iter().map(|token| token.0).collect();
        Box::pin(async move {
            let work = move |lane: &mut Lane| lane.open_control(place, index, &prompt);
            self.step(Stage::TokenControl, Urgency::Request, Then::Return, work).await?;
            let strand = self.request.strand.get();
            Ok(strand.map(|strand| Controller::control(set, Arc::clone(strand), place, index)))
        })
    }

    fn push(&mut self, text: String, tokens: Vec<ChosenToken>, last: bool) -> Step<'_, Output> {
        let place = self.place;
        Box::pin(async move {
            if self.request.set.passes_text_through() {
                let deltas = if text.is_empty() { Vec::new() } else { vec![Delta::Content(text)] };
                return Ok(Output { deltas, ..Output::default() });
            }
            let work = move |lane: &mut Lane| lane.push(place, text, &tokens, last);
            self.step(Stage::Postprocess, Urgency::Stream, Then::Return, work).await
        })
    }

    fn used(&mut self, usage: Usage) {
        self.request.ledger().used[self.place] = usage;
    }

    fn finish(&mut self, finish: Finish, usage: Usage) -> Step<'_, Annotations> {
        self.used(usage);
        let (request, place) = (Arc::clone(&self.request), self.place);
        Box::pin(async move {
            let work = move |lane: &mut Lane| {
                let goes_on = request.ledger().finish_one();
                lane.finish(place, finish, usage, goes_on)
            };
            let notes = self.step(Stage::Postprocess, Urgency::Stream, Then::Finish, work).await;
            // Where it could not be asked, dropping this ends the request.
            self.has_finished = notes.is_ok();
            notes
        })
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        if self.has_finished {
            return;
        }
        let request = Arc::clone(&self.request);
        let Some(strand) = request.strand.get() else { return };
        // A step of the request's tokens, or of another answer's text, may be under way.
        request.cancellation.cancel();
        let (usage, end) = (request.total(), self.end);
        let give_up = move |place: Result<&mut strand::Place, QueueFull>| {
            if let Ok(Some(lane)) = place.map(Option::take) {
                lane.give_up(end, usage);
            }
        };
        let Some(lane) = strand.leave(Box::new(give_up)) else { return };
        let set = &request.set;
        if set.audits.is_empty() {
            return;
        }
        let audit = Box::new(move || lane.give_up(end, usage));
        if set.sandbox.workers.entrance().try_submit(Urgency::Request, audit).is_err() {
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
