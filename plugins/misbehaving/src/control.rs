//! Control of tokens.

use std::cell::RefCell;

use crate::Misbehaving;
use crate::act::{Where, act, config, is_told, told};
use crate::bindings::exports::outrigger::plugin::token_control::{self, Bias, Constraint, Controller, GuestController};
use crate::bindings::outrigger::plugin::types::{Call, Error};
use crate::bindings::outrigger::plugin::{log, model};

/// Says what the configuration's `steps` say, in turn and again and again: `free; free-for 3; fixed 0; allow 1 2; deny 1; bias 1 2.5;
/// force 7 8; stop; digits; loop`; or what `long-steps` say where the prompt has more tokens than `long`. Masks are those of `masks`: `1 2; 3`, the tokens of each.
pub(crate) struct Steps {
    size: u32,
    steps: Vec<String>,
    digits: RefCell<Option<Vec<u32>>>,
    seen: RefCell<Vec<u32>>,
    count: RefCell<usize>,
}

impl token_control::Guest for Misbehaving {
    type Controller = Steps;
}

impl GuestController for Steps {
    fn open(_call: Call, choice: u32, prompt: Vec<u32>, vocab_size: u32) -> Result<Controller, Error> {
        act(Where::Control)?;
        let is_long = config("long").and_then(|most| most.parse().ok()).is_some_and(|most: usize| prompt.len() > most);
        let steps = config(if is_long { "long-steps" } else { "steps" }).unwrap_or_else(|| "free".to_owned());
        if config("log-control").is_some() {
            let fields = [("choice", choice.to_string()), ("prompt", format!("{prompt:?}"))];
            log::log(log::Level::Info, "control", &fields.map(|(name, value)| (name.to_owned(), value)));
        }
        Ok(Controller::new(Self {
            size: vocab_size,
            steps: steps.split(';').map(|step| step.trim().to_owned()).collect(),
            digits: RefCell::default(),
            seen: RefCell::default(),
            count: RefCell::default(),
        }))
    }

    fn masks(&self) -> Vec<Vec<u32>> {
        if is_told("many-masks") {
            return vec![self.mask(&[1]); 65];
        }
        if is_told("short-masks") {
            return vec![vec![1]];
        }
        let masks = config("masks").unwrap_or_default();
        masks.split(';').filter(|mask| !mask.is_empty()).map(|mask| self.mask(&numbers(mask))).collect()
    }

    fn step(&self, appended: Vec<u32>) -> Result<Constraint, Error> {
        act(Where::Step)?;
        self.seen.borrow_mut().extend(&appended);
        let words = self.size.div_ceil(32) as usize;
        Ok(match told().as_str() {
            "fixed-99" => Constraint::Fixed(99),
            "mask-empty" => Constraint::Mask(vec![0; words]),
            "mask-of-nothing" => Constraint::Mask(Vec::new()),
            "mask-short" => Constraint::Mask(vec![u32::MAX; words - 1]),
            "mask-long" => Constraint::Mask(vec![u32::MAX; words + 1]),
            "mask-huge" => Constraint::Mask(vec![u32::MAX; 2 << 20]),
            "allow-unknown" => Constraint::Allow(vec![0, self.size]),
            "allow-nothing" => Constraint::Allow(Vec::new()),
            "deny-unknown" => Constraint::Deny(vec![u32::MAX]),
            "deny-all" => Constraint::Deny((0..self.size).collect()),
            "bias-nan" => Constraint::Bias(vec![Bias { token: 1, delta: f32::NAN }]),
            "bias-inf" => Constraint::Bias(vec![Bias { token: 1, delta: f32::INFINITY }]),
            "bias-unknown" => Constraint::Bias(vec![Bias { token: self.size, delta: 1.0 }]),
            "force-a-million" => Constraint::Force(vec![1; 1_000_000]),
            "force-unknown" => Constraint::Force(vec![self.size]),
            "force-nothing" => Constraint::Force(Vec::new()),
            _ => {
                let mut count = self.count.borrow_mut();
                let step = &self.steps[*count % self.steps.len()];
                *count += 1;
                self.say(step)
            }
        })
    }
}

impl Steps {
    fn say(&self, step: &str) -> Constraint {
        let (word, rest) = step.split_once(' ').unwrap_or((step, ""));
        let numbers = numbers(rest);
        match word {
            "free-for" => Constraint::FreeFor(numbers[0]),
            "fixed" => Constraint::Fixed(numbers[0]),
            "allow" => Constraint::Allow(numbers),
            "deny" => Constraint::Deny(numbers),
            "mask" => Constraint::Mask(self.mask(&numbers)),
            "bias" => Constraint::Bias(vec![Bias { token: numbers[0], delta: rest_after(rest) }]),
            "force" => Constraint::Force(numbers),
            "force-text" => Constraint::Force(model::tokenize(rest, false)),
            "stop" => Constraint::Stop,
            // The tokens that are digits and nothing else.
            "digits" => Constraint::Mask(self.digits.borrow_mut().get_or_insert_with(|| self.digits()).clone()),
            // Never an answer.
            "loop" => loop {
                std::hint::black_box(step);
            },
            // What came was this.
            "expect" => {
                assert_eq!(*self.seen.borrow(), numbers, "other tokens were told");
                Constraint::Free
            }
            _ => Constraint::Free,
        }
    }

    fn mask(&self, tokens: &[u32]) -> Vec<u32> {
        let mut words = vec![0; self.size.div_ceil(32) as usize];
        tokens.iter().for_each(|&token| words[(token / 32) as usize] |= 1 << (token % 32));
        words
    }

    fn digits(&self) -> Vec<u32> {
        let table = model::vocabulary();
        let is_digits = |bytes: &[u8]| !bytes.is_empty() && bytes.iter().all(u8::is_ascii_digit);
        let piece = |at: usize| &table.bytes[table.offsets[at] as usize..table.offsets[at + 1] as usize];
        let tokens: Vec<u32> = (0..self.size).filter(|&token| is_digits(piece(token as usize))).collect();
        self.mask(&tokens)
    }
}

fn numbers(text: &str) -> Vec<u32> {
    text.split_whitespace().filter_map(|word| word.parse().ok()).collect()
}

fn rest_after(text: &str) -> f32 {
    text.split_whitespace().nth(1).and_then(|word| word.parse().ok()).unwrap_or_default()
}
