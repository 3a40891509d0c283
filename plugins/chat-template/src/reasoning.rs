//! Thoughts at the start of an answer, told from what follows them.

use outrigger_plugin::{Found, MatchWindow};

use crate::event::Event;

/// What stands around thoughts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Thoughts {
    pub(crate) open: String,
    pub(crate) close: String,
}

/// The marks in use. The first are read in every answer: models think without their template spelling it.
const KNOWN: [(&str, &str); 6] = [
    ("<think>", "</think>"),
    ("[THINK]", "[/THINK]"),
    ("<reasoning>", "</reasoning>"),
    ("<thinking>", "</thinking>"),
    ("<seed:think>", "</seed:think>"),
    ("<|START_THINKING|>", "<|END_THINKING|>"),
];

impl Thoughts {
    pub(crate) fn new(open: &str, close: &str) -> Self {
        Self { open: open.to_owned(), close: close.to_owned() }
    }

    /// Those that answers to the prompts of `template` may have.
    pub(crate) fn of(template: &str) -> Vec<Self> {
        let is_said = |(number, (open, _)): &(usize, &(&str, &str))| *number == 0 || template.contains(open);
        KNOWN.iter().enumerate().filter(is_said).map(|(_, (open, close))| Self::new(open, close)).collect()
    }
}

/// Reads the thoughts of one answer. What follows them comes out as [`Event::Content`].
#[derive(Debug)]
pub(crate) struct Reasoning {
    pairs: Vec<Thoughts>,
    state: State,
    /// Not decided yet: less than a mark, and white space around it.
    held: String,
}

#[derive(Debug)]
enum State {
    /// Nothing but white space and perhaps the beginning of a mark so far.
    Start,
    /// Behind the mark, before the first character of a thought.
    Opened(MatchWindow),
    Thinking(MatchWindow),
    /// Behind the thoughts, before the first character of the answer.
    Closed,
    Content,
}

impl Reasoning {
    /// For an answer that already starts with `prefix`, which the prompt holds.
    pub(crate) fn new(pairs: Vec<Thoughts>, prefix: &str) -> Self {
        let is_open = pairs.iter().any(|pair| prefix.trim_start().starts_with(&pair.open));
        let mut reasoning = Self { pairs, state: State::Start, held: String::new() };
        if is_open {
            reasoning.push(prefix, false, &mut Vec::new());
        }
        reasoning
    }

    /// Takes more text; with `last` set, everything that was held comes out.
    pub(crate) fn push(&mut self, text: &str, last: bool, events: &mut Vec<Event>) {
        self.held.push_str(text);
        while self.step(last, events) {}
    }

    /// Decides as much as can be decided in the present state; true when the state changed.
    fn step(&mut self, last: bool, events: &mut Vec<Event>) -> bool {
        match &self.state {
            State::Start => {
                let said = self.held.trim_start();
                let blank = self.held.len() - said.len();
                if let Some(pair) = self.pairs.iter().find(|pair| said.starts_with(&pair.open)) {
                    self.state = State::Opened(MatchWindow::new([pair.close.as_str()]));
                    self.give(blank + pair.open.len(), Event::Syntax, events);
                } else if last || !self.pairs.iter().any(|pair| pair.open.starts_with(said)) {
                    self.state = State::Content;
                } else {
                    return false;
                }
                true
            }
            State::Opened(close) => {
                let next = State::Thinking(close.clone());
                self.skip_blank(next, events)
            }
            State::Thinking(close) => match close.find(&self.held, last) {
                Found::Match { place, .. } => {
                    let thought = self.held[..place.start].trim_end().len();
                    self.state = State::Closed;
                    self.give(thought, Event::Reasoning, events);
                    self.give(place.end - thought, Event::Syntax, events);
                    true
                }
                Found::Nothing { free } => {
                    // White space before the mark is no thought; only more text shows whether it is one.
                    let thought = self.held[..free].trim_end().len();
                    self.give(thought, Event::Reasoning, events);
                    if last {
                        self.give(self.held.len(), Event::Syntax, events);
                    }
                    false
                }
            },
            State::Closed => self.skip_blank(State::Content, events),
            State::Content => {
                self.give(self.held.len(), Event::Content, events);
                false
            }
        }
    }

    fn skip_blank(&mut self, next: State, events: &mut Vec<Event>) -> bool {
        let rest = self.held.trim_start().len();
        self.give(self.held.len() - rest, Event::Syntax, events);
        if rest > 0 {
            self.state = next;
        }
        rest > 0
    }

    fn give(&mut self, length: usize, as_what: fn(String) -> Event, events: &mut Vec<Event>) {
        if length > 0 {
            events.push(as_what(self.held.drain(..length).collect()));
        }
    }
}
