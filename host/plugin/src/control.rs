//! `token-control`: one plugin's say in every token of an answer. The engine asks through a [`Controller`], which sends each step
//! to the request's lane and is looked at later: the decode thread neither runs a guest nor waits for one.

use std::sync::Arc;
use std::task::Poll;
use std::time::Instant;

use inference::{
    ControlFailure, ControlRun, FaultKind, PipelineError, Stage, Steer, Token, TokenControl, TokenController, TokenMask,
};
use tokio::sync::oneshot::{self, error::TryRecvError};
use wasmtime::component::ResourceAny;

use crate::answer::Answer;
use crate::bindings::exports::outrigger::plugin::token_control::{Bias, Constraint};
use crate::budget::{GivenUp, Question};
use crate::fault::{Breach, Fault};
use crate::guests::Guests;
use crate::instance::Instance;
use crate::limits::{BIAS_MAX, FORCED_TOKENS_MAX, MASKS_MAX, TOKEN_IDS_MAX};
use crate::plugins::PluginSet;
use crate::run::gone;
use crate::strand::{self, Strand};
use crate::workers::{QueueFull, Urgency};

/// Who controls the tokens of one answer.
#[derive(Clone)]
pub(crate) struct Controller {
    request: Arc<Request>,
    /// The answer's place among the request's.
    place: usize,
    /// The plugin's place in the set.
    index: usize,
}

/// The request, as the decode thread holds it. With the last of a set's requests all of the set goes, and perhaps the sandbox with
/// its threads: that is no work for the thread that everybody's tokens come from.
struct Request(Option<(Arc<PluginSet>, Arc<Strand>)>);

impl Request {
    fn parts(&self) -> &(Arc<PluginSet>, Arc<Strand>) {
        self.0.as_ref().expect("it is there until it is dropped")
    }
}

impl Drop for Request {
    fn drop(&mut self) {
        let Some((set, strand)) = self.0.take() else { return };
        let workers = set.sandbox.workers.entrance().clone();
        // Where no worker has room it is done here: rare twice over.
        let _ = workers.try_submit(Urgency::Request, Box::new(move || drop((strand, set))));
    }
}

impl Controller {
    pub(crate) fn control(set: Arc<PluginSet>, strand: Arc<Strand>, place: usize, index: usize) -> TokenControl {
        TokenControl::new(Self { request: Arc::new(Request(Some((set, strand)))), place, index })
    }
}

impl TokenController for Controller {
    fn begin(&self) -> Box<dyn ControlRun> {
        Box::new(Steps { controller: self.clone(), asked: None })
    }
}

/// One completion's steps.
struct Steps {
    controller: Controller,
    asked: Option<Asked>,
}

/// A step that was asked for.
struct Asked {
    question: Arc<Question>,
    answer: oneshot::Receiver<Result<Steer, PipelineError>>,
}

impl ControlRun for Steps {
    fn ask(&mut self, appended: Vec<Token>) {
        let (set, strand) = self.controller.request.parts();
        let (sender, answer) = oneshot::channel();
        let question = Arc::new(Question::default());
        let (answer_place, urgency) = (self.controller.place, Urgency::Stream);
        let metrics = set.metrics.clone();
        let asked_at = Instant::now();
        self.asked = Some(Asked { question: Arc::clone(&question), answer });
        let job = move |place: Result<&mut strand::Place, QueueFull>| {
            let answer = match place {
                Err(QueueFull) => {
                    metrics.overloaded("queue");
                    Err(PipelineError::Overloaded)
                }
                Ok(None) => Err(ended()),
                Ok(Some(lane)) => {
                    metrics.queued(urgency.as_str(), asked_at.elapsed());
                    let appended: Vec<u32> = appended.into_iter().map(|token| token.0).collect();
                    lane.step(answer_place, &appended, &question)
                }
            };
            // Where the completion has ended meanwhile, nobody wants to know.
            drop(sender.send(answer));
        };
        strand.try_submit(urgency, Box::new(job));
    }

    fn poll(&mut self) -> Poll<Result<Steer, PipelineError>> {
        let Some(asked) = &mut self.asked else { return Poll::Ready(Err(ended())) };
        let answer = match asked.answer.try_recv() {
            Err(TryRecvError::Empty) => return Poll::Pending,
            Err(TryRecvError::Closed) => Err(ended()),
            Ok(answer) => answer,
        };
        self.asked = None;
        Poll::Ready(answer)
    }

    fn fail(&mut self, failure: ControlFailure) -> PipelineError {
        let (set, strand) = self.controller.request.parts();
        let index = self.controller.index;
        let error = |kind| {
            let (plugin, detail) = (set.plugins[index].owner.name.clone(), failure.to_string());
            PipelineError::Fault { plugin, stage: Stage::TokenControl, kind, detail }
        };
        if let ControlFailure::Late { .. } = failure {
            // A guest that works on it is stopped, and whoever does the step counts that. One that was not even asked is not
            // to blame for our threads.
            return match self.asked.take().map(|asked| asked.question.give_up()) {
                Some(GivenUp::Unasked) => {
                    set.metrics.overloaded("queue");
                    PipelineError::Overloaded
                }
                _ => error(FaultKind::Timeout),
            };
        }
        let fault = Fault::new(FaultKind::Contract, failure.to_string());
        // What a client's grammar rules out is no reason not to ask the plugin for others.
        let job = move |place: Result<&mut strand::Place, QueueFull>| match place {
            Ok(Some(lane)) => lane.guests.count(index, Stage::TokenControl, &fault),
            Ok(None) => {}
            Err(QueueFull) => tracing::warn!("a fault of a plugin was not counted: the plugins are overloaded"),
        };
        strand.try_submit(Urgency::Stream, Box::new(job));
        error(FaultKind::Contract)
    }
}

fn ended() -> PipelineError {
    gone(Stage::TokenControl, "the request had ended before this step, or the host panicked in it")
}

/// Who controls the tokens of one answer, and what `fixed` names.
pub(crate) struct Controlled {
    pub(crate) plugin: usize,
    pub(crate) resource: ResourceAny,
    masks: Vec<Arc<TokenMask>>,
}

impl Answer {
    /// Opens the controller of an answer to this prompt.
    pub(crate) fn open_control(
        &mut self,
        guests: &mut Guests,
        plugin: usize,
        prompt: &[u32],
    ) -> Result<(), PipelineError> {
        let (call, choice, size) = (guests.call_for(plugin), self.choice, vocabulary_size(guests, plugin));
        let open = |instance: &mut Instance| instance.open_controller(&call, choice, prompt, size);
        let (resource, masks) = guests.run(plugin, Stage::TokenControl, open)?;
        let masks = masks_of(masks, size).map_err(|fault| guests.fail(plugin, Stage::TokenControl, fault.into()))?;
        self.controlled = Some(Controlled { plugin, resource, masks });
        Ok(())
    }

    /// How the answer goes on, unless nobody wants to know any more.
    pub(crate) fn step(
        &mut self,
        guests: &mut Guests,
        appended: &[u32],
        question: &Arc<Question>,
    ) -> Result<Steer, PipelineError> {
        let Some(Controlled { plugin, resource, masks }) = &self.controlled else { return Err(ended()) };
        let (plugin, resource) = (*plugin, *resource);
        if !question.ask() {
            return Err(ended());
        }
        let constraint =
            guests.run(plugin, Stage::TokenControl, |instance| instance.step(resource, appended, question));
        if !question.answer() && constraint.is_ok() {
            // It came while it was given up.
            return Err(guests.fail(plugin, Stage::TokenControl, Fault::from(Breach::GivenUp).into()));
        }
        let steer = steer(constraint?, masks, vocabulary_size(guests, plugin));
        steer.map_err(|fault| guests.fail(plugin, Stage::TokenControl, fault.into()))
    }
}

fn vocabulary_size(guests: &Guests, plugin: usize) -> u32 {
    guests.set.plugins[plugin].owner.model.vocabulary().size()
}

fn masks_of(masks: Vec<Vec<u32>>, size: u32) -> Result<Vec<Arc<TokenMask>>, Fault> {
    if masks.len() > MASKS_MAX {
        return Err(Fault::contract(format!("gave {} masks; it may give {MASKS_MAX}", masks.len())));
    }
    masks.into_iter().map(|words| mask(words, size)).collect()
}

/// What a guest said, checked against the vocabulary.
fn steer(constraint: Constraint, masks: &[Arc<TokenMask>], size: u32) -> Result<Steer, Fault> {
    Ok(match constraint {
        Constraint::Free => Steer::Free(1),
        Constraint::FreeFor(tokens) => Steer::Free(tokens.max(1)),
        Constraint::Fixed(number) => {
            let mask = masks.get(number as usize);
            let missing = || Fault::contract(format!("names mask {number}, and it gave {}", masks.len()));
            Steer::Only(Arc::clone(mask.ok_or_else(missing)?))
        }
        Constraint::Allow(tokens) => {
            check(&tokens, TOKEN_IDS_MAX, "allows", size)?;
            let mut words = vec![0; words(size)];
            for token in tokens {
                words[place(token)] |= bit(token);
            }
            Steer::Only(mask(words, size)?)
        }
        Constraint::Deny(tokens) => {
            check(&tokens, TOKEN_IDS_MAX, "denies", size)?;
            let mut words = vec![u32::MAX; words(size)];
            for token in tokens {
                words[place(token)] &= !bit(token);
            }
            Steer::Only(mask(words, size)?)
        }
        Constraint::Bias(biases) => {
            let tokens: Vec<u32> = biases.iter().map(|bias| bias.token).collect();
            check(&tokens, TOKEN_IDS_MAX, "biases", size)?;
            if let Some(Bias { token, delta }) =
                biases.iter().find(|bias| !(-BIAS_MAX..=BIAS_MAX).contains(&bias.delta))
            {
                let reason =
                    format!("adds {delta} to the logit of token {token}; it may add -{BIAS_MAX} to {BIAS_MAX}");
                return Err(Fault::contract(reason));
            }
            Steer::Bias(biases.into_iter().map(|bias| (Token(bias.token), bias.delta)).collect())
        }
        Constraint::Mask(words) => Steer::Only(mask(words, size)?),
        Constraint::Force(tokens) => {
            check(&tokens, FORCED_TOKENS_MAX, "forces", size)?;
            if tokens.is_empty() {
                return Err(Fault::contract("forces no token at all; `free` goes on without saying anything"));
            }
            Steer::Force(tokens.into_iter().map(Token).collect())
        }
        Constraint::Stop => Steer::Stop,
    })
}

/// A mask of the right length that holds a token.
fn mask(mut given: Vec<u32>, size: u32) -> Result<Arc<TokenMask>, Fault> {
    if given.len() != words(size) {
        let (length, wanted) = (given.len(), words(size));
        return Err(Fault::contract(format!(
            "gave a mask of {length} words; the vocabulary's {size} tokens take {wanted}"
        )));
    }
    // Bits behind the last token are no tokens.
    if let Some(last) = given.last_mut().filter(|_| !size.is_multiple_of(u32::BITS)) {
        *last &= bit(size) - 1;
    }
    let mask = TokenMask::from_words(given);
    if mask.is_empty() {
        return Err(Fault::contract("dead end: allows no token at all; `stop` ends an answer"));
    }
    Ok(Arc::new(mask))
}

fn check(tokens: &[u32], most: usize, verb: &str, size: u32) -> Result<(), Fault> {
    if tokens.len() > most {
        return Err(Fault::contract(format!("{verb} {} tokens by number; it may name {most} at once", tokens.len())));
    }
    match tokens.iter().find(|&&token| token >= size) {
        Some(token) => Err(Fault::contract(format!("{verb} token {token}, and the vocabulary has {size}"))),
        None => Ok(()),
    }
}

fn words(size: u32) -> usize {
    size.div_ceil(u32::BITS) as usize
}

fn place(token: u32) -> usize {
    (token / u32::BITS) as usize
}

fn bit(token: u32) -> u32 {
    1 << (token % u32::BITS)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(constraint: Constraint, size: u32) -> Vec<u32> {
        match steer(constraint, &[], size) {
            Ok(Steer::Only(mask)) => (0..100).filter(|&token| mask.contains(Token(token))).collect(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn lists_and_masks_are_the_same_set() {
        assert_eq!(held(Constraint::Allow(vec![0, 33, 33, 34]), 35), [0, 33, 34]);
        assert_eq!(held(Constraint::Deny((1..33).collect()), 35), [0, 33, 34]);
        assert_eq!(held(Constraint::Mask(vec![1, u32::MAX << 1]), 35), [0, 33, 34], "there is no token 35");
        assert_eq!(held(Constraint::Mask(vec![1 << 31]), 32), [31]);
    }

    #[test]
    fn what_is_no_token_is_refused() {
        for (constraint, words) in [
            (Constraint::Fixed(0), "names mask 0, and it gave 0"),
            (Constraint::Allow(vec![]), "allows no token"),
            (Constraint::Deny((0..35).collect()), "allows no token"),
            (Constraint::Mask(vec![0, 8]), "allows no token"),
            (Constraint::Mask(vec![1]), "a mask of 1 words"),
            (Constraint::Mask(vec![1; 3]), "a mask of 3 words"),
            (Constraint::Allow(vec![35]), "allows token 35, and the vocabulary has 35"),
            (Constraint::Deny(vec![u32::MAX]), "denies token 4294967295"),
            (Constraint::Force(vec![35]), "forces token 35"),
            (Constraint::Force(vec![]), "forces no token"),
            (Constraint::Force(vec![0; FORCED_TOKENS_MAX + 1]), "it may name 1024"),
            (Constraint::Allow(vec![0; TOKEN_IDS_MAX + 1]), "it may name 16384"),
            (Constraint::Bias(vec![Bias { token: 35, delta: 0.0 }]), "biases token 35"),
            (Constraint::Bias(vec![Bias { token: 0, delta: f32::NAN }]), "adds NaN"),
            (Constraint::Bias(vec![Bias { token: 0, delta: f32::NEG_INFINITY }]), "adds -inf"),
            (Constraint::Bias(vec![Bias { token: 0, delta: 100.5 }]), "adds 100.5"),
        ] {
            let fault = steer(constraint, &[], 35).expect_err(words);
            assert_eq!(fault.kind, FaultKind::Contract);
            assert!(fault.detail.contains(words), "{} lacks {words:?}", fault.detail);
        }
    }
}
