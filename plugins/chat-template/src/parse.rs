//! What the model's text means: reasoning between `<think>` and `</think>` at the start of the answer, content else.

use outrigger_plugin::{Found, MatchWindow};

/// A part of the answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Text of the answer.
    Content(String),
    /// What the model thought before it answered.
    Reasoning(String),
}

const OPEN: &str = "<think>";
const CLOSE: &str = "</think>";

/// Reads one choice of a reply. The events, joined, are the same however the text is cut into pieces.
#[derive(Debug)]
pub struct Parser {
    state: State,
    /// Not decided yet: less than a tag, and whitespace around it.
    held: String,
    close: MatchWindow,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Nothing but whitespace and perhaps the beginning of `<think>` so far.
    Start,
    /// Behind `<think>`, before the first character of a thought.
    Opened,
    Reasoning,
    /// Behind `</think>`, before the first character of the answer.
    Closed,
    Content,
}

impl Parser {
    /// A parser for an answer that already starts with `prefix`, which the prompt holds.
    #[must_use]
    pub fn new(prefix: &str) -> Self {
        let mut parser = Self { state: State::Start, held: String::new(), close: MatchWindow::new([CLOSE]) };
        if prefix.trim_start().starts_with(OPEN) {
            parser.push(prefix, false);
        }
        parser
    }

    /// Takes more text; with `last` set, everything that was held comes out.
    pub fn push(&mut self, text: &str, last: bool) -> Vec<Event> {
        self.held.push_str(text);
        let mut events = Vec::new();
        while self.advance(last, &mut events) {}
        events
    }

    /// Decides as much as can be decided in the present state; true when the state changed.
    fn advance(&mut self, last: bool, events: &mut Vec<Event>) -> bool {
        let before = self.state;
        match self.state {
            State::Start => {
                let said = self.held.trim_start();
                if let Some(thought) = said.strip_prefix(OPEN) {
                    self.held = thought.to_owned();
                    self.state = State::Opened;
                } else if last || !OPEN.starts_with(said) {
                    self.state = State::Content;
                }
            }
            State::Opened => self.skip_whitespace(State::Reasoning),
            State::Reasoning => match self.close.find(&self.held, last) {
                Found::Match { place, .. } => {
                    let thought = self.held[..place.start].trim_end();
                    if !thought.is_empty() {
                        events.push(Event::Reasoning(thought.to_owned()));
                    }
                    self.held.drain(..place.end);
                    self.state = State::Closed;
                }
                Found::Nothing { free } => {
                    // Whitespace before `</think>` is no thought; only more text shows whether it is one.
                    let thought = self.held[..free].trim_end().len();
                    if thought > 0 {
                        events.push(Event::Reasoning(self.held.drain(..thought).collect()));
                    }
                }
            },
            State::Closed => self.skip_whitespace(State::Content),
            State::Content => {
                if !self.held.is_empty() {
                    events.push(Event::Content(std::mem::take(&mut self.held)));
                }
            }
        }
        self.state != before
    }

    fn skip_whitespace(&mut self, next: State) {
        let rest = self.held.trim_start();
        if rest.is_empty() {
            self.held.clear();
        } else {
            self.held = rest.to_owned();
            self.state = next;
        }
    }
}
