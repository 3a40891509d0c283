//! A controller for tests that says what it was told to say, as late as it was told to.

use std::sync::{Arc, Mutex};
use std::task::Poll;

use inference::{
    ControlFailure, ControlRun, FaultKind, PipelineError, Stage, Steer, Token, TokenControl, TokenController, TokenMask,
};

/// What a controller says, again and again, and what it was told.
#[derive(Debug, Clone, Default)]
pub(crate) struct Script {
    pub(crate) answers: Vec<Steer>,
    /// How often it is looked at in vain for each answer.
    pub(crate) looks: Vec<usize>,
    /// The tokens that it was told of.
    pub(crate) told: Arc<Mutex<Vec<Token>>>,
}

/// What a script says of one token.
#[derive(Debug)]
pub(crate) enum Said {
    Free,
    Only(Arc<TokenMask>),
    Force(Token),
    Bias(Vec<(Token, f32)>),
    Stop,
}

impl Script {
    pub(crate) fn of(answers: impl Into<Vec<Steer>>) -> Self {
        Self { answers: answers.into(), looks: vec![0], ..Self::default() }
    }

    pub(crate) fn control(&self) -> TokenControl {
        TokenControl::new(self.clone())
    }

    /// What it says of one token after the other.
    pub(crate) fn tokens(&self) -> impl Iterator<Item = Said> + '_ {
        self.answers.iter().cycle().flat_map(|answer| match answer {
            Steer::Free(count) => (0..*count).map(|_| Said::Free).collect(),
            Steer::Only(mask) => vec![Said::Only(Arc::clone(mask))],
            Steer::Force(tokens) => tokens.iter().map(|&token| Said::Force(token)).collect(),
            Steer::Stop => vec![Said::Stop],
            Steer::Bias(biases) => vec![Said::Bias(biases.clone())],
        })
    }
}

/// The set of these letters.
pub(crate) fn letters(text: &str) -> Arc<TokenMask> {
    let mut words = vec![0; 9];
    for byte in text.bytes() {
        words[usize::from(byte) / 32] |= 1 << (byte % 32);
    }
    Arc::new(TokenMask::from_words(words))
}

impl TokenController for Script {
    fn begin(&self) -> Box<dyn ControlRun> {
        Box::new(Run { script: self.clone(), asked: 0, looked: None })
    }
}

struct Run {
    script: Script,
    asked: usize,
    /// While it is asked: how often somebody looked.
    looked: Option<usize>,
}

impl ControlRun for Run {
    fn ask(&mut self, appended: Vec<Token>) {
        assert!(self.looked.replace(0).is_none(), "asked again before it has answered");
        assert_eq!(appended.is_empty(), self.asked == 0, "it is asked when tokens have come");
        self.script.told.lock().unwrap().extend(appended);
    }

    fn poll(&mut self) -> Poll<Result<Steer, PipelineError>> {
        let looked = self.looked.as_mut().expect("looked at without a question");
        if *looked < self.script.looks[self.asked % self.script.looks.len()] {
            *looked += 1;
            return Poll::Pending;
        }
        self.looked = None;
        let answer = self.script.answers[self.asked % self.script.answers.len()].clone();
        self.asked += 1;
        Poll::Ready(Ok(answer))
    }

    fn fail(&mut self, failure: ControlFailure) -> PipelineError {
        let kind = match failure {
            ControlFailure::DeadEnd { .. } | ControlFailure::CutShort => FaultKind::Contract,
            ControlFailure::Late { .. } => FaultKind::Timeout,
        };
        let detail = failure.to_string();
        PipelineError::Fault { plugin: "script".to_owned(), stage: Stage::TokenControl, kind, detail }
    }
}
