//! A sequence whose tokens somebody controls: when he is asked, what he said, and what that makes of a choice.
//!
//! The question goes out as soon as a token is known, and is answered while the model computes. Where the logits are there
//! first, they are put aside ([`crate::Decoder::park`]) and the other sequences go on.

use std::task::Poll;
use std::time::Instant;

use inference::{CONTROL_WAIT_MAX, ControlFailure, ControlRun, EngineFault, Steer, Token, TokenMask};

use crate::decoder::Choice;
use crate::limits::FORCED_TOKENS_PER_STEP;

/// What bounds a choice beside the controller, for people.
pub(crate) const GRAMMAR: &str = "the grammar of the request";

/// The same, where the grammar left something or there is none.
const BANS: &str = "what the request's `logit_bias`, its grammar and the model leave";

/// How a sequence goes on whose logits are there.
pub(crate) enum Turn {
    /// A token is chosen.
    Choose,
    /// Nobody has said yet.
    Wait,
    /// These tokens follow.
    Force(Vec<Token>),
    /// It ends.
    End,
}

/// One sequence's controller, and where it stands with it.
pub(crate) struct Control {
    run: Box<dyn ControlRun>,
    state: State,
    /// Tokens that it was not told of.
    untold: Vec<Token>,
    /// What it allows, and what the grammar allows too.
    both: TokenMask,
}

enum State {
    /// Since when.
    Asked(Instant),
    /// It said so of the next token.
    Told(Steer),
}

impl Control {
    /// Asks for the first token.
    pub(crate) fn begin(mut run: Box<dyn ControlRun>, now: Instant) -> Self {
        run.ask(Vec::new());
        Self { run, state: State::Asked(now), untold: Vec::new(), both: TokenMask::default() }
    }

    /// How the sequence goes on, by what its controller says of the next token.
    pub(crate) fn turn(&mut self, now: Instant) -> Result<Turn, EngineFault> {
        if let State::Asked(since) = self.state {
            match self.run.poll() {
                Poll::Ready(answer) => self.state = State::Told(answer.map_err(EngineFault::Control)?),
                Poll::Pending => {
                    let waited = now.saturating_duration_since(since);
                    let is_late = waited > CONTROL_WAIT_MAX;
                    return if is_late { Err(self.fail(ControlFailure::Late { waited })) } else { Ok(Turn::Wait) };
                }
            }
        }
        Ok(match &mut self.state {
            State::Told(Steer::Force(tokens)) => {
                let later = tokens.split_off(tokens.len().min(FORCED_TOKENS_PER_STEP));
                Turn::Force(std::mem::replace(tokens, later))
            }
            State::Told(Steer::Stop) => Turn::End,
            State::Told(Steer::Free(_) | Steer::Only(_) | Steer::Bias(_)) => Turn::Choose,
            State::Asked(_) => Turn::Wait,
        })
    }

    /// What bounds the next choice, where the grammar allows `grammar`.
    pub(crate) fn choice<'a>(&'a mut self, grammar: Option<&'a TokenMask>) -> Result<Choice<'a>, EngineFault> {
        if let (State::Told(Steer::Only(mask)), Some(grammar)) = (&self.state, grammar) {
            self.both.set_to_both(mask, grammar);
            if self.both.is_empty() {
                return Err(self.dead_end(GRAMMAR));
            }
            return Ok(Choice { allowed: Some(&self.both), ..Choice::default() });
        }
        Ok(match &self.state {
            State::Told(Steer::Only(mask)) => Choice { allowed: Some(mask), ..Choice::default() },
            State::Told(Steer::Bias(biases)) => Choice { allowed: grammar, biases, ..Choice::default() },
            _ => Choice { allowed: grammar, ..Choice::default() },
        })
    }

    /// Nothing was left to choose. Where the controller left everything, it had no part in that.
    pub(crate) fn no_token(&mut self) -> EngineFault {
        match self.state {
            State::Told(Steer::Only(_) | Steer::Bias(_)) => self.dead_end(BANS),
            _ => EngineFault::NoToken,
        }
    }

    /// It ends what its grammar does not let end here.
    pub(crate) fn cut_short(&mut self) -> EngineFault {
        self.fail(ControlFailure::CutShort)
    }

    /// No token was left beside this, or one that was forced is not allowed by it.
    pub(crate) fn dead_end(&mut self, beside: &'static str) -> EngineFault {
        self.fail(ControlFailure::DeadEnd { beside })
    }

    /// Takes note of the tokens that came of what it said, and asks on when that is used up.
    pub(crate) fn appended(&mut self, tokens: &[Token], now: Instant) {
        self.untold.extend_from_slice(tokens);
        match &mut self.state {
            State::Told(Steer::Free(left)) if *left > 1 => {
                *left -= 1;
                return;
            }
            State::Told(Steer::Force(later)) if !later.is_empty() => return,
            _ => {}
        }
        self.run.ask(std::mem::take(&mut self.untold));
        self.state = State::Asked(now);
    }

    fn fail(&mut self, failure: ControlFailure) -> EngineFault {
        EngineFault::Control(self.run.fail(failure))
    }
}
