//! Answers in the form of responses: items one after the other, whole or as they come.

use inference::{Delta, Finish, TokenLogprobs, Usage};
use serde_json::{Value, json};

use super::super::ErrorBody;
use super::super::blocks::{Added, Block, Blocks};
use super::super::parts::{Notes, named_event};
use super::super::writer::{Head, Writer};
use super::object::{Echo, ResponseEvent, ResponseObject, State, item, item_id, part, response, status_of};
use crate::service::Finished;

/// Writes an answer to `POST /v1/responses`.
pub(super) struct ResponseWriter {
    head: Head,
    echo: Echo,
    blocks: Blocks,
    /// The item that a stream has begun and not ended.
    open: Option<usize>,
    /// Events so far.
    sequence: u64,
}

impl ResponseWriter {
    pub(super) fn new(head: Head, echo: Echo) -> Self {
        Self { head, echo, blocks: Blocks::default(), open: None, sequence: 0 }
    }

    /// An event with its number.
    fn event(&mut self, kind: &str, members: Value) -> String {
        let mut event = json!({"type": kind, "sequence_number": self.sequence});
        self.sequence += 1;
        if let (Value::Object(event), Value::Object(members)) = (&mut event, members) {
            event.extend(members);
        }
        named_event(kind, &event.to_string())
    }

    /// An event that shows where the response stands.
    fn state_event(&mut self, kind: &str, state: &State) -> String {
        let event = ResponseEvent { kind, sequence_number: self.sequence, response: &self.response(state) };
        let text = named_event(kind, &serde_json::to_string(&event).expect("strings and numbers serialise"));
        self.sequence += 1;
        text
    }

    fn response<'a>(&'a self, state: &'a State) -> ResponseObject<'a> {
        let blocks = self.blocks.as_slice();
        let end = |place| match state.status {
            // What was cut is the last.
            "incomplete" | "failed" if place + 1 == blocks.len() => "incomplete",
            _ => "completed",
        };
        let output = blocks
            .iter()
            .enumerate()
            .map(|(place, block)| item(&item_id(&self.head, place, block), block, status_of(block, end(place)), false));
        response(&self.head, &self.echo, state, output.collect())
    }

    fn begin_item(&mut self, place: usize) -> String {
        let block = self.blocks.as_slice()[place].clone();
        let id = item_id(&self.head, place, &block);
        self.open = Some(place);
        let begun = item(&id, &block, "in_progress", true);
        let added = self.event("response.output_item.added", json!({"output_index": place, "item": begun}));
        let empty = match &block {
            Block::Reasoning(_) => part(&Block::Reasoning(String::new())),
            Block::Text(_) => part(&Block::Text(String::new())),
            Block::Call { .. } => return added,
        };
        let members = json!({"item_id": id, "output_index": place, "content_index": 0, "part": empty});
        added + &self.event("response.content_part.added", members)
    }

    fn end_item(&mut self, status: &'static str) -> String {
        let Some(place) = self.open.take() else { return String::new() };
        let block = self.blocks.as_slice()[place].clone();
        let id = item_id(&self.head, place, &block);
        let at = |mut members: Value| {
            members["item_id"] = json!(id);
            members["output_index"] = json!(place);
            members
        };
        let mut events = match &block {
            Block::Reasoning(text) => {
                self.event("response.reasoning_text.done", at(json!({"content_index": 0, "text": text})))
            }
            Block::Text(text) => {
                let members = at(json!({"content_index": 0, "text": text, "logprobs": []}));
                self.event("response.output_text.done", members)
            }
            Block::Call { name, arguments, .. } => {
                let members = at(json!({"name": name, "arguments": arguments}));
                self.event("response.function_call_arguments.done", members)
            }
        };
        if !matches!(block, Block::Call { .. }) {
            let members = at(json!({"content_index": 0, "part": part(&block)}));
            events += &self.event("response.content_part.done", members);
        }
        let whole = item(&id, &block, status_of(&block, status), false);
        events + &self.event("response.output_item.done", json!({"output_index": place, "item": whole}))
    }

    /// How the response stands when it has ended.
    fn ended(finished: &Finished, usage: Usage) -> State {
        let incomplete = match finished.finish {
            Finish::Stop | Finish::ToolCalls => None,
            Finish::Length => Some("max_output_tokens"),
            Finish::Filtered | Finish::Cancelled | Finish::Failed => Some("content_filter"),
        };
        let status = if incomplete.is_some() { "incomplete" } else { "completed" };
        let outrigger = Notes::of([finished], 1).map(|notes| json!(notes));
        State { status, incomplete, usage: Some(usage), outrigger, ..State::default() }
    }

    /// More of an item, or another one.
    fn added(&mut self, Added { place, is_new, text }: Added) -> String {
        let mut events = if is_new { self.end_item("completed") + &self.begin_item(place) } else { String::new() };
        if text.is_empty() {
            return events;
        }
        let block = &self.blocks.as_slice()[place];
        let mut members = json!({"item_id": item_id(&self.head, place, block), "output_index": place, "delta": text});
        let kind = match block {
            Block::Reasoning(_) => "response.reasoning_text.delta",
            Block::Text(_) => "response.output_text.delta",
            Block::Call { .. } => "response.function_call_arguments.delta",
        };
        if !matches!(block, Block::Call { .. }) {
            members["content_index"] = json!(0);
        }
        if matches!(block, Block::Text(_)) {
            members["logprobs"] = json!([]);
        }
        events += &self.event(kind, members);
        events
    }
}

impl Writer for ResponseWriter {
    fn begin(&mut self) -> String {
        let begun = State { status: "in_progress", ..State::default() };
        let created = self.state_event("response.created", &begun);
        created + &self.state_event("response.in_progress", &begun)
    }

    fn delta(&mut self, _choice: u32, delta: Delta, _logprobs: Vec<TokenLogprobs>) -> String {
        let added = self.blocks.add(delta);
        added.into_iter().map(|added| self.added(added)).collect()
    }

    fn finish(&mut self, finished: &Finished) -> String {
        let state = Self::ended(finished, finished.usage.unwrap_or_default());
        let mut events: String = self.blocks.end().into_iter().map(|added| self.added(added)).collect();
        events += &self.end_item(state.status);
        events + &self.state_event(&format!("response.{}", state.status), &state)
    }

    fn failed(&mut self, _status: u16, error: &ErrorBody) -> String {
        let error = &error.error;
        let members = json!({"code": error.code, "message": error.message, "param": error.param});
        let told = self.event("error", members);
        let failed = Some((error.code.clone(), error.message.clone()));
        let outrigger = error.outrigger.as_ref().map(|fault| json!(fault));
        let state = State { status: "failed", error: failed, outrigger, ..State::default() };
        told + &self.state_event("response.failed", &state)
    }

    fn collect(&mut self, _choice: u32, delta: Delta, _logprobs: Vec<TokenLogprobs>) {
        self.blocks.add(delta);
    }

    fn whole(&mut self, finished: &[Finished], usage: Usage) -> String {
        let Some(finished) = finished.first() else { return String::new() };
        self.blocks.end();
        let state = Self::ended(finished, usage);
        serde_json::to_string(&self.response(&state)).expect("strings and numbers serialise")
    }
}
