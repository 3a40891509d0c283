//! The steps of a controller of tokens, told as they are taken. They run where they are asked for, on the decode thread where
//! there is an engine: here is one request, and nobody whom it could hold up.

use std::sync::Arc;
use std::task::Poll;

use inference::{ControlFailure, ControlRun, FaultKind, PipelineError, Stage, Steer, Token, TokenController};

use super::{Shared, Teller};
use crate::limits::TOKENS_SHOWN_MAX;
use crate::stand::Loaded;
use crate::steps;

/// Who controls the tokens of one answer.
#[derive(Clone)]
pub(super) struct Control {
    pub(super) request: Shared,
    /// Its place among the request's.
    pub(super) place: usize,
    pub(super) loaded: Arc<Loaded>,
    pub(super) tell: Teller,
}

/// One answer's steps.
pub(super) struct Steps {
    control: Control,
    answer: Option<Result<Steer, PipelineError>>,
    /// What was told last.
    told: Option<Steer>,
}

impl TokenController for Control {
    fn begin(&self) -> Box<dyn ControlRun> {
        Box::new(Steps::new(self.clone()))
    }
}

impl Steps {
    pub(super) fn new(control: Control) -> Self {
        Self { control, answer: None, told: None }
    }

    /// Takes a step, and tells it unless it says what the one before said.
    pub(super) fn step(&mut self, appended: &[Token]) -> Result<Steer, PipelineError> {
        let Control { request, place, loaded, tell } = &self.control;
        let vocabulary = loaded.model().vocabulary();
        let answer = request.ask(*place, tell, |probe| probe.step(appended));
        let steer = answer.inspect_err(|error| tell(format!("failed\n  {}", crate::answer::described(error))))?;
        if self.told.as_ref() != Some(&steer) {
            let name = loaded.plugins().controller().unwrap_or_default();
            tell(format!("    {name}: {}", steps::line(&steer, vocabulary, TOKENS_SHOWN_MAX)));
        }
        self.told = Some(steer.clone());
        Ok(steer)
    }
}

impl ControlRun for Steps {
    fn ask(&mut self, appended: Vec<Token>) {
        self.answer = Some(self.step(&appended));
    }

    fn poll(&mut self) -> Poll<Result<Steer, PipelineError>> {
        self.answer.take().map_or(Poll::Pending, Poll::Ready)
    }

    fn fail(&mut self, failure: ControlFailure) -> PipelineError {
        let kind = match failure {
            ControlFailure::DeadEnd { .. } | ControlFailure::CutShort => FaultKind::Contract,
            ControlFailure::Late { .. } => FaultKind::Timeout,
        };
        let plugin = self.control.loaded.plugins().controller().unwrap_or_default().to_owned();
        PipelineError::Fault { plugin, stage: Stage::TokenControl, kind, detail: failure.to_string() }
    }
}
