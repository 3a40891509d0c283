//! What the model's text means: `parse` sorts it into content, thoughts and calls, where there is such a plugin.

use inference::{PipelineError, Stage};
use wasmtime::component::ResourceAny;

use crate::answer::{Beginning, too_much};
use crate::bindings::exports::outrigger::plugin::postprocess::Channel;
use crate::guests::Guests;
use crate::instance::Instance;
use crate::items::{self, Calls, Item};
use crate::probe::Seen;

/// How far one answer is read.
pub(crate) struct Parsing {
    /// The plugin and its parser. `None`: what the model writes is the answer.
    parser: Option<(usize, ResourceAny)>,
    /// The parser failed, and the operator lets answers go on as raw text.
    is_raw: bool,
    /// Text since the parser last said something, kept for the case that it fails and answers go on without it.
    unparsed: String,
    /// Bytes that the parser has emitted.
    emitted_bytes: usize,
    calls: Calls,
}

impl Parsing {
    /// Opens the parser of an answer.
    pub(crate) fn open(choice: u32, beginning: &Beginning, guests: &mut Guests) -> Result<Self, PipelineError> {
        let calls = Calls::of(&guests.call.request_id, choice);
        let mut this = Self { parser: None, is_raw: false, unparsed: String::new(), emitted_bytes: 0, calls };
        if let Some(index) = guests.set.parse.filter(|_| !beginning.is_raw) {
            let call = guests.call_for(index);
            let open =
                |instance: &mut Instance| instance.open_parser(&call, choice, &beginning.tools, &beginning.prefix);
            match guests.run(index, Stage::Parse, open) {
                Ok(parser) => this.parser = Some((index, parser)),
                Err(error) if guests.parse_is_open(index) && guests.may_go_on_after(&error) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(this)
    }

    /// Reads more of the text.
    pub(crate) fn read(&mut self, guests: &mut Guests, text: String, last: bool) -> Result<Vec<Item>, PipelineError> {
        let raw = |text| Item::text(Channel::Content, None, text);
        let Some((index, parser)) = self.parser.filter(|_| !self.is_raw) else { return Ok(vec![raw(text)]) };
        if !guests.parse_is_open(index) {
            return self.parse(guests, index, parser, &text, last);
        }
        self.unparsed.push_str(&text);
        match self.parse(guests, index, parser, &text, last) {
            Ok(items) => {
                if !items.is_empty() {
                    self.unparsed.clear();
                }
                Ok(items)
            }
            Err(error) if guests.may_go_on_after(&error) => {
                self.is_raw = true;
                let open = self.calls.open.take().map(|index| Item::CallEnd { index, is_cut: false });
                Ok(open.into_iter().chain([raw(std::mem::take(&mut self.unparsed))]).collect())
            }
            Err(error) => Err(error),
        }
    }

    fn parse(
        &mut self,
        guests: &mut Guests,
        index: usize,
        parser: ResourceAny,
        text: &str,
        last: bool,
    ) -> Result<Vec<Item>, PipelineError> {
        let events = guests.run(index, Stage::Parse, |instance| instance.parse(parser, text, last))?;
        if let Some(seen) = &mut guests.seen {
            let events = events.iter().map(items::described).collect();
            seen.push(Seen::Parsed {
                plugin: guests.set.plugins[index].owner.name.clone(),
                text: text.to_owned(),
                last,
                events,
            });
        }
        let limit = guests.set.plugins[index].owner.limits.output_bytes_max;
        let mut items = Vec::with_capacity(events.len());
        for event in events {
            let item = self.calls.item(event);
            let item = item.map_err(|fault| guests.fail(index, Stage::Parse, fault.into()))?;
            self.emitted_bytes += item.bytes();
            items::add(&mut items, item);
        }
        items::check_count(&items).map_err(|fault| guests.fail(index, Stage::Parse, fault.into()))?;
        if self.emitted_bytes > limit {
            return Err(guests.fail(index, Stage::Parse, too_much(limit).into()));
        }
        if last && let Some(index) = self.calls.open {
            items.push(Item::CallEnd { index, is_cut: true });
        }
        Ok(items)
    }

    /// Whether the answer would end inside a call if it ended now.
    pub(crate) fn is_in_call(&self) -> bool {
        self.calls.open.is_some()
    }

    /// Has the plugin drop its parser, where its instance goes on.
    pub(crate) fn release(&mut self, guests: &mut Guests) {
        if let Some((index, parser)) = self.parser.take() {
            guests.release(index, Stage::Parse, parser);
        }
    }
}
