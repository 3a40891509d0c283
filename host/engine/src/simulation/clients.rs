//! Who asks the engine for something, and what he should have got.

use std::cell::RefCell;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use inference::{Completion, Finish, Generation, GenerationEvent, GenerationRequest, Steer, Token};

use crate::fake::{END, choose, following};
use crate::fake_control::{Said, Script, letters};
use crate::random::Random;

/// A client: what it asked for, what it has read, and the generation until it leaves or has the end.
pub(super) struct Client {
    pub(super) request: GenerationRequest,
    pub(super) script: Option<Script>,
    pub(super) text: String,
    pub(super) tokens_told: u32,
    pub(super) generation: Option<Generation>,
    pub(super) ends: usize,
}

pub(super) type Clients = Rc<RefCell<Vec<Client>>>;

/// Every sixth request is controlled.
pub(super) fn random_script(random: &mut Random) -> Option<Script> {
    if !random.chance(170) {
        return None;
    }
    let mut number = |least, most| random.between(least, most);
    let text: String = (0..8).map(|_| char::from(b'a' + u8::try_from(number(0, 25)).unwrap())).collect();
    let answers: Vec<Steer> = (0..number(1, 6))
        .map(|_| match number(0, 19) {
            0..8 => Steer::Free(u32::try_from(number(1, 4)).unwrap()),
            8..12 => Steer::Only(letters(&text[number(0, 7)..])),
            12..14 => Steer::Bias(
                text.bytes().take(2).map(|byte| (Token(u32::from(byte)), [-100.0, 5.0][number(0, 1)])).collect(),
            ),
            14..19 => Steer::Force(text.bytes().take(number(1, 8)).map(|byte| Token(u32::from(byte))).collect()),
            _ => Steer::Stop,
        })
        .collect();
    let slow = number(0, 1);
    let looks = (0..5).map(|_| slow * number(0, 3)).collect();
    Some(Script { looks, ..Script::of(answers) })
}

pub(super) fn poll_next(generation: &mut Generation) -> Poll<GenerationEvent> {
    pin!(generation.next()).poll(&mut Context::from_waker(Waker::noop()))
}

/// A random client leaves.
pub(super) fn leave(clients: &Clients, random: &mut Random) {
    let mut clients = clients.borrow_mut();
    if !clients.is_empty() {
        let place = random.between(0, clients.len() - 1);
        let client = &mut clients[place];
        client.ends += usize::from(client.generation.take().is_some());
    }
}

impl Client {
    /// Compares with what the request would have got alone and in one piece.
    pub(super) fn check(&self, completion: &Completion) {
        let mut text = String::new();
        let mut tokens = self.request.prompt.clone();
        let ends_after = self.request.prompt[0].0;
        let (mut finish, mut sampled) = (Finish::Length, 0);
        let mut said = self.script.iter().flat_map(Script::tokens);
        while sampled < self.request.max_tokens {
            let said = said.next().unwrap_or(Said::Free);
            if matches!(said, Said::Stop) {
                finish = Finish::Stop;
                break;
            }
            sampled += 1;
            let wanted = if sampled == ends_after { END } else { following(&tokens) };
            let token = match said {
                Said::Force(token) => token,
                Said::Only(mask) => choose(wanted, &[], |token| mask.contains(token)).unwrap(),
                Said::Bias(biases) => choose(wanted, &biases, |_| true).unwrap(),
                Said::Free | Said::Stop => wanted,
            };
            tokens.push(token);
            if token == END {
                if self.request.ignore_end {
                    continue;
                }
                finish = Finish::Stop;
                break;
            }
            text.push(char::from(u8::try_from(token.0).unwrap()));
            if let Some(stop) = self.request.stop.iter().find(|stop| text.ends_with(stop.as_str())) {
                text.truncate(text.len() - stop.len());
                finish = Finish::Stop;
                break;
            }
        }
        assert_eq!((&self.text, completion.finish), (&text, finish), "{:?}", self.request);
        assert_eq!(completion.usage.completion_tokens, sampled);
        assert_eq!(completion.usage.prompt_tokens as usize, self.request.prompt.len());
        assert!(completion.usage.cached_tokens < completion.usage.prompt_tokens);
        assert!(self.tokens_told <= sampled);
        if let Some(script) = &self.script {
            let answer = &tokens[self.request.prompt.len()..];
            assert!(answer.starts_with(&script.told.lock().unwrap()), "the controller was told of other tokens");
        }
    }
}
