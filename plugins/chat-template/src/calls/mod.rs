//! Calls in an answer: found, read as they come, and told apart from text that only looks like one.

mod head;
mod xml;

use outrigger_plugin::types::Tool;
use outrigger_plugin::{Found, MatchWindow};
use serde_json::Value;

use self::head::{Head, head};
use self::xml::Parameter;
use crate::argument::{self, Spelling};
use crate::cursor::{Cursor, Not, Read};
use crate::event::Event;
use crate::format::Format;
use crate::limits::{BLANK_BYTES_MAX, HEAD_BYTES_MAX, PARAMETER_BYTES_MAX};
use crate::scan::{Scan, Stop};

/// The functions that may be called.
#[derive(Debug)]
pub(crate) struct Tools(Vec<(String, Value)>);

impl Tools {
    pub(crate) fn new(tools: &[Tool]) -> Self {
        let schema = |tool: &Tool| serde_json::from_str(&tool.schema_json).unwrap_or(Value::Null);
        Self(tools.iter().map(|tool| (tool.name.clone(), schema(tool))).collect())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The name, where it is that of a function: a call of another one is no call.
    pub(crate) fn offered(&self, name: &str) -> Read<String> {
        self.0.iter().find(|(known, _)| known == name).map(|(known, _)| known.clone()).ok_or(Not::This)
    }

    /// How the argument `key` of the function `name` is spelled between tags.
    fn spelling(&self, name: &str, key: &str) -> Spelling<'_> {
        let root = self.0.iter().find(|(known, _)| known == name).map_or(&Value::Null, |(_, schema)| schema);
        let schema = argument::members(root).and_then(|members| members.get("properties")?.get(key));
        Spelling::of(schema, root)
    }
}

/// Reads calls of every form but [`Format::Harmony`]'s out of an answer.
#[derive(Debug)]
pub(crate) struct Calls {
    format: Format,
    tools: Tools,
    opens: MatchWindow,
    /// Not decided yet.
    held: String,
    state: State,
    /// Nothing but white space so far.
    is_start: bool,
    /// The call is in a list.
    is_list: bool,
}

#[derive(Debug)]
enum State {
    Text,
    /// What is held begins with what so many bytes of may open a call.
    Head(usize),
    Arguments {
        scan: Scan,
        objects: u8,
    },
    /// Behind the arguments, in so many objects.
    Tail(u8),
    /// Arguments that come one by one.
    Parameters {
        name: String,
        count: usize,
    },
    /// Behind a call.
    Behind,
}

impl Calls {
    pub(crate) fn new(format: Format, tools: Tools) -> Self {
        let opens = MatchWindow::new(format.opens().iter().copied());
        Self { format, tools, opens, held: String::new(), state: State::Text, is_start: true, is_list: false }
    }

    /// Takes more text; with `last` set, everything that was held comes out.
    pub(crate) fn push(&mut self, text: &str, last: bool, events: &mut Vec<Event>) {
        self.held.push_str(text);
        while self.step(last, events) {}
        if last {
            if let State::Arguments { .. } | State::Parameters { .. } = self.state {
                events.push(Event::CallEnd);
            }
            self.state = State::Text;
            self.give(self.held.len(), Event::Content, events);
        }
    }

    /// Decides as much as can be decided; true where there may be more to decide.
    fn step(&mut self, last: bool, events: &mut Vec<Event>) -> bool {
        match &mut self.state {
            State::Text => self.text(last, events),
            State::Head(mark) => {
                let mark = *mark;
                self.head(mark, last, events)
            }
            State::Arguments { scan, objects } => {
                let objects = *objects;
                let (length, stop) = scan.read(&self.held);
                self.give(length, Event::Arguments, events);
                match stop {
                    Stop::More => return false,
                    Stop::Ended => self.state = State::Tail(objects),
                    Stop::Control => {
                        let escaped = Value::from(&self.held[..1]).to_string();
                        events.push(Event::Written(escaped.trim_matches('"').to_owned()));
                        self.give(1, Event::Syntax, events);
                    }
                    Stop::Broken => {
                        events.push(Event::CallEnd);
                        self.state = State::Behind;
                    }
                }
                true
            }
            State::Tail(objects) => {
                let objects = *objects;
                let mut cursor = window(&self.held, 0, HEAD_BYTES_MAX, last);
                let read = tail(&mut cursor, objects);
                let at = cursor.at();
                match read {
                    Err(Not::Yet) => return false,
                    Ok(()) => self.give(at, Event::Syntax, events),
                    Err(Not::This) => {}
                }
                events.push(Event::CallEnd);
                self.state = State::Behind;
                true
            }
            State::Parameters { .. } => self.parameter(last, events),
            State::Behind => self.behind(last, events),
        }
    }

    fn text(&mut self, last: bool, events: &mut Vec<Event>) -> bool {
        if self.is_start && self.format.is_bare() {
            let said = self.held.trim_ascii_start();
            let blank = self.held.len() - said.len();
            if blank <= BLANK_BYTES_MAX {
                if said.is_empty() && !last {
                    return false;
                }
                if said.starts_with(['{', '[']) {
                    self.is_start = false;
                    self.state = State::Head(blank);
                    return true;
                }
            }
            self.is_start = false;
        }
        match self.opens.find(&self.held, last) {
            Found::Match { place, .. } => {
                let blank = blank_before(&self.held[..place.start]);
                self.give(place.start - blank, Event::Content, events);
                self.state = State::Head(blank + place.len());
                true
            }
            Found::Nothing { free } => {
                // White space before a call is no text; only more text shows whether one comes.
                let blank = if last { 0 } else { blank_before(&self.held[..free]) };
                self.give(free - blank, Event::Content, events);
                false
            }
        }
    }

    fn head(&mut self, mark: usize, last: bool, events: &mut Vec<Event>) -> bool {
        let mut cursor = window(&self.held, mark, HEAD_BYTES_MAX, last);
        let mut is_list = self.is_list;
        let read = head(self.format, &mut cursor, &self.tools, &mut is_list);
        let at = cursor.at();
        let head = match read {
            Err(Not::Yet) => return false,
            Err(Not::This) => {
                // No call after all: the mark is text, and what follows it is looked at anew.
                self.give(mark, Event::Content, events);
                self.is_list = false;
                self.state = State::Text;
                return true;
            }
            Ok(head) => head,
        };
        self.is_list = is_list;
        self.give(at, Event::Syntax, events);
        match head {
            Head::Open { name, objects } => {
                events.push(Event::CallStart(name));
                self.state = State::Arguments { scan: Scan::new(), objects };
            }
            Head::Whole { name, arguments } => {
                events.extend([Event::CallStart(name), Event::Written(arguments), Event::CallEnd]);
                self.state = State::Behind;
            }
            Head::Parameters { name } => {
                events.push(Event::CallStart(name.clone()));
                self.state = State::Parameters { name, count: 0 };
            }
        }
        true
    }

    fn parameter(&mut self, last: bool, events: &mut Vec<Event>) -> bool {
        let State::Parameters { name, count } = &mut self.state else { return false };
        let mut cursor = window(&self.held, 0, PARAMETER_BYTES_MAX, last);
        let is_json = |key: &str| matches!(self.tools.spelling(name, key), Spelling::Json(_));
        let read = xml::next(&mut cursor, is_json);
        let at = cursor.at();
        match read {
            Err(Not::Yet) => return false,
            Err(Not::This) => {
                // Closed, unless an argument was begun and is lost: then they stay what no reader takes for all of them.
                let end = match (xml::is_begun(&self.held), *count) {
                    (false, 0) => "{}",
                    (false, _) => "}",
                    (true, 0) => "{",
                    (true, _) => "",
                };
                // More text would have gone on with the call: what there is of it is no text for people.
                let mut cursor = window(&self.held, 0, PARAMETER_BYTES_MAX, false);
                let is_cut = last && xml::next(&mut cursor, is_json) == Err(Not::Yet);
                events.extend(Some(end).filter(|end| !end.is_empty()).map(|end| Event::Written(end.to_owned())));
                events.push(Event::CallEnd);
                self.state = State::Behind;
                if is_cut {
                    self.give(self.held.len(), Event::Syntax, events);
                }
            }
            Ok(Parameter::Given { key, value }) => {
                let separator = if *count == 0 { "{" } else { ", " };
                let value = self.tools.spelling(name, &key).read(&value);
                events.push(Event::Written(format!("{separator}{}: {value}", Value::from(key))));
                *count += 1;
                self.give(at, Event::Syntax, events);
            }
            Ok(Parameter::End) => {
                let end = if *count == 0 { "{}" } else { "}" };
                events.extend([Event::Written(end.to_owned()), Event::CallEnd]);
                self.state = State::Behind;
                self.give(at, Event::Syntax, events);
            }
        }
        true
    }

    fn behind(&mut self, last: bool, events: &mut Vec<Event>) -> bool {
        let mut cursor = Cursor::new(&self.held, 0, last);
        let mut is_list = self.is_list;
        let read = behind(self.format, &mut cursor, &mut is_list);
        let at = cursor.at();
        match read {
            Err(_) => return false,
            Ok(Next::Call) => self.state = State::Head(at),
            Ok(Next::Text) => {
                is_list = false;
                self.give(at, Event::Syntax, events);
                self.state = State::Text;
            }
        }
        self.is_list = is_list;
        true
    }

    /// Gives away the first `length` bytes of what is held.
    fn give(&mut self, length: usize, as_what: fn(String) -> Event, events: &mut Vec<Event>) {
        if length > 0 {
            events.push(as_what(self.held.drain(..length).collect()));
        }
    }
}

/// A cursor over at most `bytes_max` bytes behind `mark`: what does not end within them is not waited for.
fn window(held: &str, mark: usize, bytes_max: usize, last: bool) -> Cursor<'_> {
    let end = held.floor_char_boundary(held.len().min(mark + bytes_max));
    Cursor::new(&held[..end], mark, last || end < held.len())
}

/// Bytes of white space at the end of `text`, as far as they may belong to a mark behind it.
fn blank_before(text: &str) -> usize {
    (text.len() - text.trim_ascii_end().len()).min(BLANK_BYTES_MAX)
}

/// The rest of the objects around the arguments.
fn tail(cursor: &mut Cursor<'_>, objects: u8) -> Read<()> {
    for _ in 0..objects {
        loop {
            cursor.space()?;
            if cursor.one_of(&["}", ","])? == 0 {
                break;
            }
            cursor.space()?;
            cursor.string()?;
            cursor.space()?;
            cursor.literal(":")?;
            cursor.space()?;
            cursor.value()?;
        }
    }
    Ok(())
}

/// What follows a call.
enum Next {
    /// Another one, and this is where it begins.
    Call,
    /// Text, or a mark that opens another call.
    Text,
}

/// Skips what closes a call.
fn behind(format: Format, cursor: &mut Cursor<'_>, is_list: &mut bool) -> Read<Next> {
    let mut closes = format.closes();
    loop {
        let start = cursor.at();
        if cursor.rest().len() - cursor.rest().trim_ascii_start().len() > BLANK_BYTES_MAX {
            return Ok(Next::Text);
        }
        cursor.space()?;
        if cursor.rest().is_empty() {
            return Ok(Next::Text);
        }
        if *is_list && let Some(which) = optional(cursor.one_of(&["]", ","]))? {
            if which == 0 {
                *is_list = false;
                continue;
            }
            cursor.space()?;
            if cursor.peek() == Ok('{') {
                return Ok(Next::Call);
            }
            cursor.back(start);
            return Ok(Next::Text);
        }
        if let Some(which) = optional(cursor.one_of(closes))? {
            closes = &closes[which + 1..];
            continue;
        }
        if format.is_bare() {
            if optional(cursor.one_of(&[";", ","]))?.is_some() {
                cursor.space()?;
            }
            if cursor.peek() == Ok('{') {
                return Ok(Next::Call);
            }
        }
        cursor.back(start);
        return Ok(Next::Text);
    }
}

fn optional<T>(read: Read<T>) -> Read<Option<T>> {
    match read {
        Ok(found) => Ok(Some(found)),
        Err(Not::This) => Ok(None),
        Err(Not::Yet) => Err(Not::Yet),
    }
}
