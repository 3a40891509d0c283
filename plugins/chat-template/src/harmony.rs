//! gpt-oss's form: an answer is messages, each with a channel. Analysis is thought, a message to a function is a call.

use outrigger_plugin::{Found, MatchWindow};
use serde_json::Value;

use crate::calls::Tools;
use crate::event::Event;
use crate::limits::BLANK_BYTES_MAX;
use crate::scan::{Scan, Stop};

const CHANNEL: &str = "<|channel|>";
const MESSAGE: &str = "<|message|>";
const START: &str = "<|start|>";
/// What a message ends with, and what the next one begins with where an end is missing.
const ENDS: [&str; 5] = ["<|end|>", "<|call|>", "<|return|>", START, CHANNEL];
/// Bytes between two messages: a role, a channel and the name of a function.
const HEADER_BYTES_MAX: usize = 256;

/// Reads the messages of one answer.
#[derive(Debug)]
pub(crate) struct Harmony {
    tools: Tools,
    held: String,
    state: State,
    header: MatchWindow,
    ends: MatchWindow,
}

#[derive(Debug)]
enum State {
    /// Before or in a message's header.
    Header,
    Text(fn(String) -> Event),
    Arguments(Scan),
    /// Behind the arguments of a call.
    Called,
}

impl Harmony {
    pub(crate) fn new(tools: Tools) -> Self {
        let (header, ends) = (MatchWindow::new([MESSAGE]), MatchWindow::new(ENDS));
        Self { tools, held: String::new(), state: State::Header, header, ends }
    }

    /// Takes more text; with `last` set, everything that was held comes out.
    pub(crate) fn push(&mut self, text: &str, last: bool, events: &mut Vec<Event>) {
        self.held.push_str(text);
        while self.step(last, events) {}
        if last {
            if let State::Arguments(_) = self.state {
                events.push(Event::CallEnd);
            }
            self.give(self.held.len(), Event::Content, events);
        }
    }

    fn step(&mut self, last: bool, events: &mut Vec<Event>) -> bool {
        match &mut self.state {
            State::Header => self.header(last, events),
            State::Text(as_what) => {
                let as_what = *as_what;
                match self.ends.find(&self.held, last) {
                    Found::Match { place, which } => {
                        self.give(place.start, as_what, events);
                        // What begins the next message is part of its header.
                        let end = if which < 3 { place.len() } else { 0 };
                        self.give(end, Event::Syntax, events);
                        self.state = State::Header;
                        true
                    }
                    Found::Nothing { free } => {
                        self.give(free, as_what, events);
                        false
                    }
                }
            }
            State::Arguments(scan) => {
                let (length, stop) = scan.read(&self.held);
                self.give(length, Event::Arguments, events);
                match stop {
                    Stop::More => return false,
                    Stop::Control => {
                        let escaped = Value::from(&self.held[..1]).to_string();
                        events.push(Event::Written(escaped.trim_matches('"').to_owned()));
                        self.give(1, Event::Syntax, events);
                    }
                    Stop::Ended | Stop::Broken => {
                        events.push(Event::CallEnd);
                        self.state = State::Called;
                    }
                }
                true
            }
            State::Called => {
                let blank = self.held.len() - self.held.trim_ascii_start().len();
                if blank == self.held.len() && blank <= BLANK_BYTES_MAX && !last {
                    return false;
                }
                if blank <= BLANK_BYTES_MAX {
                    self.give(blank, Event::Syntax, events);
                }
                self.state = State::Text(Event::Content);
                !self.held.is_empty()
            }
        }
    }

    fn header(&mut self, last: bool, events: &mut Vec<Event>) -> bool {
        if self.held.is_empty() {
            return false;
        }
        // The prompt ends behind the role, so that an answer begins with a channel or a recipient.
        let begins = [START, CHANNEL, "assistant", " to=", "to="];
        let said = self.held.as_str();
        let may_begin = begins.iter().any(|begin| begin.starts_with(said) || said.starts_with(begin));
        let found = match self.header.find(&self.held, last) {
            _ if !may_begin => None,
            Found::Match { place, .. } => Some(place.end).filter(|&end| end <= HEADER_BYTES_MAX),
            Found::Nothing { .. } if !last && self.held.len() <= HEADER_BYTES_MAX => return false,
            Found::Nothing { .. } => None,
        };
        let Some(end) = found else {
            // A message without a header: text up to its end, a mark at its beginning included.
            let mark = ENDS[3..].iter().find(|mark| self.held.starts_with(**mark)).map_or(0, |mark| mark.len());
            self.give(mark, Event::Content, events);
            self.state = State::Text(Event::Content);
            return true;
        };
        let header = &self.held[..end];
        let channel = header.split(CHANNEL).nth(1).unwrap_or_default().trim_start();
        let recipient = header.split("to=").nth(1).map(|to| to.split([' ', '<']).next().unwrap_or_default());
        let call = recipient.map(|to| self.tools.offered(to.strip_prefix("functions.").unwrap_or(to)));
        match call {
            Some(Ok(name)) => {
                self.give(end, Event::Syntax, events);
                events.push(Event::CallStart(name));
                self.state = State::Arguments(Scan::new());
            }
            // To somebody who is not there.
            Some(Err(_)) => {
                self.give(end, Event::Content, events);
                self.state = State::Text(Event::Content);
            }
            None => {
                self.state =
                    State::Text(if channel.starts_with("analysis") { Event::Reasoning } else { Event::Content });
                self.give(end, Event::Syntax, events);
            }
        }
        true
    }

    fn give(&mut self, length: usize, as_what: fn(String) -> Event, events: &mut Vec<Event>) {
        if length > 0 {
            events.push(as_what(self.held.drain(..length).collect()));
        }
    }
}
