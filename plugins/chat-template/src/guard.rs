//! The boundary between what a template writes and what a client wrote.
//!
//! Only text of the template may become control tokens. Client text that spells one is marked before it is rendered:
//! a noncharacter, which no model and no template knows, goes behind the first character of the spelling. After the
//! rendering, wherever a template moved the text, the mark says which character is to be taken as content; that breaks
//! the spelling, and the mark itself is dropped. Text without such spellings, nearly all there is, passes unchanged.

use outrigger_plugin::model::Span;
use outrigger_plugin::types::Error;
use serde_json::Value;

use crate::limits::JSON_DEPTH_MAX;

/// A part of a prompt, with where it came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Segment {
    /// Written by the template: control tokens are recognised.
    Template(String),
    /// Written by a client: characters, whatever they spell.
    Content(String),
}

/// Unicode reserves it for internal use; in client text it is replaced like any other character that cannot be.
const MARK: char = '\u{FDD0}';
const REPLACEMENT: &str = "\u{FFFD}";

/// Parts texts that are looked at together. A noncharacter too, so nothing is spelled across it.
const BETWEEN: char = '\u{FDD1}';

/// Marks control tokens in client text.
pub(crate) struct Guard<'a> {
    control_tokens: &'a dyn Fn(&str) -> Vec<Span>,
}

impl<'a> Guard<'a> {
    pub(crate) fn new(control_tokens: &'a dyn Fn(&str) -> Vec<Span>) -> Self {
        Self { control_tokens }
    }

    /// Marks every string in `client`, the names of members included.
    pub(crate) fn protect(&self, client: &mut Value) -> Result<(), Error> {
        // One question to the host for all texts together: the answer is nearly always "none".
        let mut together = String::new();
        gather(client, &mut together, JSON_DEPTH_MAX)?;
        if together.contains(MARK) || !(self.control_tokens)(&together).is_empty() {
            self.mark_all(client);
        }
        Ok(())
    }

    fn mark_all(&self, value: &mut Value) {
        match value {
            Value::String(text) => *text = self.mark(text),
            Value::Array(items) => items.iter_mut().for_each(|item| self.mark_all(item)),
            Value::Object(members) => {
                *members = std::mem::take(members)
                    .into_iter()
                    .map(|(name, mut member)| {
                        self.mark_all(&mut member);
                        (self.mark(&name), member)
                    })
                    .collect();
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }

    /// `text` with a mark in every control token that it spells, also in those that begin inside another one.
    fn mark(&self, text: &str) -> String {
        let mut text = text.replace(MARK, REPLACEMENT);
        loop {
            let marks: Vec<usize> = (self.control_tokens)(&text)
                .iter()
                .filter_map(|span| text.get(span.start as usize..))
                .filter_map(|spelled| {
                    let mut characters = spelled.chars();
                    let first = characters.next()?;
                    // A token of a single character is spelled still; once marked it is as good as broken.
                    (characters.next() != Some(MARK)).then_some(text.len() - spelled.len() + first.len_utf8())
                })
                .collect();
            if marks.is_empty() {
                return text;
            }
            for &at in marks.iter().rev() {
                text.insert(at, MARK);
            }
        }
    }
}

fn gather(value: &Value, together: &mut String, depth: usize) -> Result<(), Error> {
    let Some(depth) = depth.checked_sub(1) else {
        return Err(Error::Invalid(format!("JSON in the request is nested deeper than {JSON_DEPTH_MAX} levels")));
    };
    match value {
        Value::String(text) => {
            together.push_str(text);
            together.push(BETWEEN);
        }
        Value::Array(items) => items.iter().try_for_each(|item| gather(item, together, depth))?,
        Value::Object(members) => {
            for (name, member) in members {
                together.push_str(name);
                together.push(BETWEEN);
                gather(member, together, depth)?;
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
    Ok(())
}

/// Cuts what was rendered at the marks.
pub(crate) fn split(rendered: String) -> Vec<Segment> {
    if !rendered.contains(MARK) {
        return vec![Segment::Template(rendered)];
    }
    let mut segments = Vec::new();
    let mut parts = rendered.split(MARK).peekable();
    while let Some(part) = parts.next() {
        let marked = part.chars().next_back().filter(|_| parts.peek().is_some());
        let (template, content) = part.split_at(part.len() - marked.map_or(0, char::len_utf8));
        if !template.is_empty() {
            segments.push(Segment::Template(template.to_owned()));
        }
        if !content.is_empty() {
            segments.push(Segment::Content(content.to_owned()));
        }
    }
    segments
}
