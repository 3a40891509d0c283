//! The boundary between what a template writes and what a client wrote.
//!
//! Only text of the template may become control tokens. Client text that spells one is marked before it is rendered:
//! a noncharacter, which no model and no template knows, goes behind the first character of the spelling. After the
//! rendering, wherever a template moved the text, the mark says which character is to be taken as content; that breaks
//! the spelling, and the mark itself is dropped. Text without such spellings, nearly all there is, passes unchanged.
//!
//! A template may also join client text that was apart (`"<|im_<think></think>end|>"`, with the thoughts taken out). So
//! where client text holds the first character of a control token of the prompt, the conversation is rendered once more
//! with every such character marked ([`Guard::stricter`]), and the first rendering counts only if both have the same
//! control tokens.

use std::cell::RefCell;

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
    /// Marked wherever they stand.
    beginnings: Vec<char>,
    /// All texts of the client together.
    client: RefCell<String>,
}

impl<'a> Guard<'a> {
    /// A guard that marks whole spellings.
    pub(crate) fn new(control_tokens: &'a dyn Fn(&str) -> Vec<Span>) -> Self {
        Self { control_tokens, beginnings: Vec::new(), client: RefCell::default() }
    }

    /// A guard that marks every character that may begin one of the control tokens in `segments`; `None` where the
    /// client wrote no such character.
    pub(crate) fn stricter(&self, segments: &[Segment]) -> Option<Self> {
        let client = self.client.borrow();
        let mut beginnings: Vec<char> = self.tokens(segments).iter().filter_map(|token| token.chars().next()).collect();
        beginnings.sort_unstable();
        beginnings.dedup();
        beginnings.retain(|&character| client.contains(character));
        (!beginnings.is_empty()).then(|| Self { beginnings, ..Self::new(self.control_tokens) })
    }

    /// The control tokens that the template's segments spell, in order.
    pub(crate) fn tokens<'s>(&self, segments: &'s [Segment]) -> Vec<&'s str> {
        let template = segments.iter().filter_map(|segment| match segment {
            Segment::Template(text) => Some(text.as_str()),
            Segment::Content(_) => None,
        });
        template
            .flat_map(|text| {
                let spans = (self.control_tokens)(text);
                spans.into_iter().filter_map(|span| text.get(span.start as usize..span.end as usize))
            })
            .collect()
    }

    /// Marks every string in `client`, the names of members included.
    pub(crate) fn protect(&self, client: &mut Value) -> Result<(), Error> {
        // One question to the host for all texts together: the answer is nearly always "none".
        let mut together = String::new();
        gather(client, &mut together, JSON_DEPTH_MAX)?;
        if together.contains(MARK) || !self.beginnings.is_empty() || !(self.control_tokens)(&together).is_empty() {
            self.mark_all(client);
        }
        self.client.replace(together);
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
                break;
            }
            for &at in marks.iter().rev() {
                text.insert(at, MARK);
            }
        }
        if self.beginnings.is_empty() { text } else { self.mark_beginnings(&text) }
    }

    fn mark_beginnings(&self, text: &str) -> String {
        let mut marked = String::with_capacity(text.len());
        let mut characters = text.chars().peekable();
        while let Some(character) = characters.next() {
            marked.push(character);
            if self.beginnings.contains(&character) && characters.peek() != Some(&MARK) {
                marked.push(MARK);
            }
        }
        marked
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
pub(crate) fn cut(rendered: String) -> Vec<Segment> {
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    const TOKENS: [&str; 5] = ["<|end|>", "<|end|><|x|>", "|end|>", "<s>", "¤"];

    /// Where `text` spells one of [`TOKENS`], as the contract says.
    fn find(text: &str) -> Vec<Span> {
        let mut spans = Vec::new();
        let mut at = 0;
        while at < text.len() {
            let longest = TOKENS.iter().filter(|token| text[at..].starts_with(**token)).map(|token| token.len()).max();
            if let Some(length) = longest {
                spans.push(Span { start: u32::try_from(at).unwrap(), end: u32::try_from(at + length).unwrap() });
            }
            at += longest.unwrap_or_else(|| text[at..].chars().next().map_or(1, char::len_utf8));
        }
        spans
    }

    fn marked(text: &str) -> String {
        Guard::new(&find).mark(text).replace(MARK, "·")
    }

    #[test]
    fn ordinary_text_is_not_touched() {
        assert_eq!(marked("a < b | c > d"), "a < b | c > d");
    }

    #[test]
    fn every_spelling_is_marked_also_inside_another() {
        assert_eq!(marked("<s>"), "<·s>");
        assert_eq!(marked("<|end|>"), "<·|·end|>");
        assert_eq!(marked("<|end|><|x|><s>"), "<·|·end|><|x|><·s>");
        assert_eq!(marked("¤¤"), "¤·¤·");
    }

    #[test]
    fn a_mark_that_a_client_wrote_is_no_mark() {
        let mut client = json!(["a\u{FDD0}b"]);
        Guard::new(&find).protect(&mut client).unwrap();
        assert_eq!(client, json!(["a\u{FFFD}b"]));
    }

    #[test]
    fn names_of_members_are_client_text_too() {
        let mut client = json!({"<s>": {"x": [1, "<s>"]}});
        Guard::new(&find).protect(&mut client).unwrap();
        assert_eq!(client, json!({"<\u{FDD0}s>": {"x": [1, "<\u{FDD0}s>"]}}));
    }

    #[test]
    fn json_that_is_nested_too_deeply_is_refused() {
        let mut deep = json!(0);
        for _ in 0..JSON_DEPTH_MAX {
            deep = json!([deep]);
        }
        Guard::new(&find).protect(&mut deep).unwrap_err();
    }

    #[test]
    fn a_rendering_is_cut_at_its_marks() {
        let segments = cut("<|im|>hi <\u{FDD0}s> and é\u{FDD0}x\u{FDD0}".to_owned());
        let template = |text: &str| Segment::Template(text.to_owned());
        let content = |text: &str| Segment::Content(text.to_owned());
        assert_eq!(segments, [template("<|im|>hi "), content("<"), template("s> and "), content("é"), content("x")]);
        assert_eq!(cut("\u{FDD0}a".to_owned()), [template("a")]);
    }

    proptest! {
        /// No template segment spells a token, and no character is lost.
        #[test]
        fn what_a_client_writes_is_never_a_token(text in "(<\\|end\\|>|<\\|x\\|>|\\|end|<s|[<|>s¤a\u{FDD0}]){0,12}") {
            let mut client = json!(text);
            Guard::new(&find).protect(&mut client).unwrap();
            let mut shown = String::new();
            for segment in cut(client.as_str().unwrap().to_owned()) {
                match segment {
                    Segment::Template(template) => {
                        prop_assert_eq!(find(&template).len(), 0, "{}", template);
                        shown.push_str(&template);
                    }
                    Segment::Content(content) => shown.push_str(&content),
                }
            }
            prop_assert_eq!(shown, text.replace(MARK, REPLACEMENT));
        }
    }
}
