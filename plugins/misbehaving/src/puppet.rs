//! Answers that a request spells out, for tests that make them up: in the header `x-puppet`, one for each call, with `;`
//! between them.
//!
//! - A filter's: `CONSUME INSTEAD STOP`, each `-` where there is none: `4 .text 0`. Stops are numbers in the contract's order.
//! - A parser's: events with blanks between them: `c.text r.text s.name a.arguments e`.
//!
//! A text is `.` and what follows, or `.PIECE*COUNT`. When the script is over everything passes.

use std::cell::RefCell;
use std::collections::VecDeque;

use crate::bindings::exports::outrigger::plugin::parse::Event;
use crate::bindings::exports::outrigger::plugin::postprocess::Output;
use crate::bindings::outrigger::plugin::types::{Call, Finish};

pub(crate) struct Puppet(RefCell<VecDeque<String>>);

impl Puppet {
    pub(crate) fn of(call: &Call) -> Option<Self> {
        let (_, script) = call.headers.iter().find(|(name, _)| name == "x-puppet")?;
        Some(Self(RefCell::new(script.split(';').map(str::to_owned).collect())))
    }

    pub(crate) fn output(&self) -> Option<Output> {
        let line = self.0.borrow_mut().pop_front()?;
        let mut words = line.split(' ');
        let consume = words.next()?.parse().ok()?;
        let instead = words.next().filter(|word| *word != "-").map(text);
        let stop = words.next().and_then(|word| word.parse::<usize>().ok());
        let finishes =
            [Finish::Stop, Finish::Length, Finish::ToolCalls, Finish::Filtered, Finish::Cancelled, Finish::Failed];
        Some(Output { consume, instead, stop: stop.and_then(|place| finishes.get(place).copied()), notes: Vec::new() })
    }

    pub(crate) fn events(&self) -> Option<Vec<Event>> {
        let line = self.0.borrow_mut().pop_front()?;
        let event = |word: &str| match word.split_at_checked(1) {
            Some(("c", rest)) => Event::Content(text(rest)),
            Some(("r", rest)) => Event::Reasoning(text(rest)),
            Some(("s", rest)) => Event::ToolCallStart((text(rest), None)),
            Some(("a", rest)) => Event::ToolArguments(text(rest)),
            _ => Event::ToolCallEnd,
        };
        Some(line.split(' ').filter(|word| !word.is_empty()).map(event).collect())
    }
}

fn text(word: &str) -> String {
    let word = word.strip_prefix('.').unwrap_or(word);
    match word.split_once('*') {
        Some((piece, count)) => piece.repeat(count.parse().unwrap_or(1)),
        None => word.to_owned(),
    }
}
