//! The pieces of an answer between two stages: from a parser's events to what the client is sent.

use inference::{Call, Delta};

use crate::bindings::exports::outrigger::plugin::parse::Event;
use crate::bindings::exports::outrigger::plugin::postprocess::Channel;
use crate::fault::Fault;
use crate::limits::{ITEMS_PER_PUSH_MAX, NOTE_BYTES_MAX, TOOL_CALLS_MAX};
use crate::text::cut;

/// A piece of an answer between two stages.
#[derive(Debug)]
pub(crate) enum Item {
    Text { channel: Channel, call: Option<u32>, text: String },
    CallStart { index: u32, id: String, name: String },
    CallEnd { index: u32 },
}

/// The tool calls of an answer.
#[derive(Default)]
pub(crate) struct Calls {
    begun: u32,
    pub(crate) open: Option<u32>,
}

impl Calls {
    /// Whether the answer would end inside a call if it ended now.
    pub(crate) fn cut(&self) -> bool {
        self.open.is_some()
    }

    /// What an event of the parser is, if it makes sense where it stands.
    pub(crate) fn item(&mut self, event: Event, call: &Call) -> Result<Item, Fault> {
        match event {
            Event::Content(text) => Ok(Item::text(Channel::Content, None, text)),
            Event::Reasoning(text) => Ok(Item::text(Channel::Reasoning, None, text)),
            Event::ToolArguments(text) => match self.open {
                Some(index) => Ok(Item::text(Channel::ToolArguments, Some(index), text)),
                None => Err(Fault::contract("the parser gave arguments of a tool call that is not open")),
            },
            Event::ToolCallStart((name, id)) => {
                if self.open.is_some() {
                    return Err(Fault::contract("the parser began a tool call inside another one"));
                }
                if self.begun == TOOL_CALLS_MAX {
                    return Err(Fault::contract(format!("the parser began more than {TOOL_CALLS_MAX} tool calls")));
                }
                let index = self.begun;
                self.begun += 1;
                self.open = Some(index);
                // At most 40 bytes, as OpenAI's clients and some templates expect of an id. A request has fewer than 16
                // answers, so that no two of them make the same one.
                let id = id.unwrap_or_else(|| format!("call_{}{:x}{index:02x}", call.request_id, call.choice));
                let [id, name] = [id, name].map(|text| cut(text, NOTE_BYTES_MAX));
                Ok(Item::CallStart { index, id, name })
            }
            Event::ToolCallEnd => match self.open.take() {
                Some(index) => Ok(Item::CallEnd { index }),
                None => Err(Fault::contract("the parser ended a tool call that is not open")),
            },
        }
    }
}

impl Item {
    pub(crate) fn text(channel: Channel, call: Option<u32>, text: String) -> Self {
        Self::Text { channel, call, text }
    }

    /// Bytes of text in it.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::Text { text, .. } => text.len(),
            Self::CallStart { id, name, .. } => id.len() + name.len(),
            Self::CallEnd { .. } => 0,
        }
    }
}

/// Adds a piece; text that goes on where the last piece ended becomes one with it, so that a parser that says much in small
/// events is no dearer to the filters behind it.
pub(crate) fn add(items: &mut Vec<Item>, item: Item) {
    match (items.last_mut(), item) {
        (Some(Item::Text { channel, call, text }), Item::Text { channel: its_channel, call: its_call, text: more })
            if *channel == its_channel && *call == its_call =>
        {
            text.push_str(&more);
        }
        (_, item) => items.push(item),
    }
}

/// Whether these are few enough for the filters: each piece is a call of each.
pub(crate) fn check_count(items: &[Item]) -> Result<(), Fault> {
    match items.len() {
        ..=ITEMS_PER_PUSH_MAX => Ok(()),
        count => Err(Fault::contract(format!(
            "the parser made {count} pieces of one piece of text, and {ITEMS_PER_PUSH_MAX} are the most; text of one channel that \
             stands together is one piece"
        ))),
    }
}

/// A parser's event, for people.
pub(crate) fn described(event: &Event) -> String {
    match event {
        Event::Content(text) => format!("content {text:?}"),
        Event::Reasoning(text) => format!("reasoning {text:?}"),
        Event::ToolCallStart((name, _)) => format!("call of {name} begins"),
        Event::ToolArguments(text) => format!("arguments {text:?}"),
        Event::ToolCallEnd => "call ends".to_owned(),
    }
}

/// What the client is sent: no empty texts, and neighbours of a kind joined.
pub(crate) fn deltas(items: Vec<Item>) -> Vec<Delta> {
    let mut deltas: Vec<Delta> = Vec::with_capacity(items.len());
    for item in items {
        let next = match item {
            Item::CallEnd { .. } => continue,
            Item::Text { text, .. } if text.is_empty() => continue,
            Item::CallStart { index, id, name } => Delta::ToolCallStart { index, id, name },
            Item::Text { channel: Channel::Content, text, .. } => Delta::Content(text),
            Item::Text { channel: Channel::Reasoning, text, .. } => Delta::Reasoning(text),
            Item::Text { channel: Channel::ToolArguments, call, text } => {
                Delta::ToolArguments { index: call.unwrap_or_default(), text }
            }
        };
        match (deltas.last_mut(), &next) {
            (Some(Delta::Content(text)), Delta::Content(more))
            | (Some(Delta::Reasoning(text)), Delta::Reasoning(more)) => text.push_str(more),
            (Some(Delta::ToolArguments { index, text }), Delta::ToolArguments { index: same, text: more })
                if index == same =>
            {
                text.push_str(more);
            }
            _ => deltas.push(next),
        }
    }
    deltas
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parser_may_make_many_pieces_and_not_any_number() {
        let pieces = |count| (0..count).map(|_| Item::text(Channel::Content, None, String::new())).collect::<Vec<_>>();
        assert_eq!(check_count(&pieces(ITEMS_PER_PUSH_MAX)), Ok(()));
        let fault = check_count(&pieces(ITEMS_PER_PUSH_MAX + 1)).expect_err("one more");
        assert!(fault.detail.starts_with("the parser made 1025 pieces"), "{}", fault.detail);
    }
}
