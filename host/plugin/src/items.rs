//! The pieces of an answer between two stages: from a parser's events to what the client is sent.

use inference::{Delta, RequestId};

use crate::bindings::exports::outrigger::plugin::parse::Event;
use crate::bindings::exports::outrigger::plugin::postprocess::Channel;
use crate::fault::Fault;
use crate::limits::{ITEMS_PER_PUSH_MAX, NOTE_BYTES_MAX, TOOL_CALLS_MAX};
use crate::text::cut;

/// A piece of an answer between two stages.
#[derive(Debug)]
pub(crate) enum Item {
    Text {
        channel: Channel,
        call: Option<u32>,
        text: String,
    },
    /// `overtakes_text`: a filter holds text from before it.
    CallStart {
        index: u32,
        id: String,
        name: String,
        overtakes_text: bool,
    },
    /// `is_cut`: the answer ends within the call.
    CallEnd {
        index: u32,
        is_cut: bool,
    },
}

/// The tool calls of an answer.
pub(crate) struct Calls {
    begun: u32,
    pub(crate) open: Option<u32>,
    /// What the ids begin with that the host chooses.
    id_prefix: String,
}

impl Calls {
    /// Those of the answer number `choice`, which has none yet.
    pub(crate) fn of(request: &RequestId, choice: u32) -> Self {
        // At most 40 bytes with the call's number, as OpenAI's clients and some templates expect of an id. A conversation has
        // 16 answers at most, so that no two of them make the same one.
        Self { begun: 0, open: None, id_prefix: format!("call_{request}{choice:x}") }
    }

    /// What an event of the parser is, if it makes sense where it stands.
    pub(crate) fn item(&mut self, event: Event) -> Result<Item, Fault> {
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
                let id = id.unwrap_or_else(|| format!("{}{index:02x}", self.id_prefix));
                let [id, name] = [id, name].map(|text| cut(text, NOTE_BYTES_MAX));
                Ok(Item::CallStart { index, id, name, overtakes_text: false })
            }
            Event::ToolCallEnd => match self.open.take() {
                Some(index) => Ok(Item::CallEnd { index, is_cut: false }),
                None => Err(Fault::contract("the parser ended a tool call that is not open")),
            },
        }
    }
}

impl Item {
    pub(crate) fn text(channel: Channel, call: Option<u32>, text: String) -> Self {
        Self::Text { channel, call, text }
    }

    /// Whether a thought before it is over.
    pub(crate) fn ends_thought(&self) -> bool {
        match self {
            Self::Text { channel, text, .. } => *channel == Channel::Content && !text.is_empty(),
            Self::CallStart { .. } => true,
            Self::CallEnd { .. } => false,
        }
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
            Item::CallEnd { is_cut: true, .. } => continue,
            Item::CallEnd { index, is_cut: false } => Delta::ToolCallEnd { index },
            Item::Text { text, .. } if text.is_empty() => continue,
            Item::CallStart { index, id, name, overtakes_text } => {
                Delta::ToolCallStart { index, id, name, overtakes_text }
            }
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
