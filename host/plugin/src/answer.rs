//! The model's text on its way out: `parse` says what it is, the filters in their order say what becomes of it.

use std::sync::Arc;
use std::time::Instant;

use inference::{ChosenToken, FaultKind, Finish, Output, PipelineError, Stage};

use crate::bindings::exports::outrigger::plugin::postprocess::{Channel, Chunk};
use crate::bindings::outrigger::plugin::types;
use crate::convert;
use crate::fault::Fault;
use crate::filter::{Filter, FilterState, place};
use crate::items::{self, Calls, Item, deltas};
use crate::lane::Lane;
use crate::probe::Seen;
use crate::window::Verdict;

/// The channels as an answer has them: thoughts, calls, text.
const IN_ORDER: [Channel; 3] = [Channel::Reasoning, Channel::ToolArguments, Channel::Content];

/// Where an answer stands.
#[derive(Default)]
pub(crate) struct Answer {
    /// What the model writes is the answer: it was given a prompt as it stands, or the parser failed and the operator lets
    /// answers go on as raw text.
    is_raw: bool,
    /// Text since the parser last said something, kept for the case that it fails and answers go on without it.
    unparsed: String,
    /// Bytes that the parser has emitted.
    parsed_bytes: usize,
    calls: Calls,
    filters: Vec<Filter>,
}

impl Answer {
    /// The plugins whose filters are there to be told of the end, and the most bytes that each held.
    pub(crate) fn open_filters(&self) -> Vec<(usize, usize)> {
        let open = self.filters.iter().filter(|filter| filter.state == FilterState::Open);
        open.map(|filter| (filter.plugin, filter.held_bytes_max)).collect()
    }

    /// No parser reads this answer.
    pub(crate) fn goes_on_raw(&mut self) {
        self.is_raw = true;
    }

    /// Whether any filter wants to see tokens.
    pub(crate) fn wants_tokens(&self) -> bool {
        self.filters.iter().any(|filter| filter.tokens.is_some())
    }
}

impl Lane {
    /// Takes more of the model's text through the stages after the model.
    pub(crate) fn push(
        &mut self,
        text: String,
        tokens: &[ChosenToken],
        mut last: bool,
    ) -> Result<Output, PipelineError> {
        self.begin_answer();
        if !tokens.is_empty() {
            for filter in &mut self.answer.filters {
                filter.keep(tokens);
            }
        }
        let mut items = self.parse(text, last)?;
        let mut stop = None;
        for position in 0..self.answer.filters.len() {
            let stopped;
            (items, stopped) = self.pass(position, items, last)?;
            // The first filter to stop decides; those behind it get what it let through, and nothing more.
            stop = stop.or(stopped);
            last |= stopped.is_some();
        }
        let cuts_call = (last || stop.is_some()) && self.answer.calls.cut();
        Ok(Output { deltas: deltas(items), stop, cuts_call })
    }

    /// Opens the parser and the filters.
    pub(crate) fn open(&mut self, tools: &[types::Tool], prefix: &str) -> Result<(), PipelineError> {
        let (set, choice) = (Arc::clone(&self.set), self.call.choice);
        if let Some(index) = set.parse.filter(|_| !self.answer.is_raw) {
            let call = self.call_for(index);
            match self.run(index, Stage::Parse, |instance| instance.open_parser(&call, choice, tools, prefix)) {
                Ok(()) => {}
                Err(error) if self.parse_is_open(index) && self.may_go_on_after(&error) => self.answer.is_raw = true,
                Err(error) => return Err(error),
            }
        }
        for &index in &set.filters {
            let call = self.call_for(index);
            match self.run(index, Stage::Postprocess, |instance| instance.open_filter(&call, choice)) {
                Ok(profile) => match Filter::new(index, profile, set.plugins[index].owner.limits.holdback_bytes_max) {
                    Ok(filter) => self.answer.filters.push(filter),
                    Err(fault) => {
                        let error = self.fail(index, Stage::Postprocess, fault.into());
                        if !self.postprocess_is_open(index) {
                            return Err(error);
                        }
                    }
                },
                Err(error) if self.postprocess_is_open(index) && self.may_go_on_after(&error) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn parse(&mut self, text: String, last: bool) -> Result<Vec<Item>, PipelineError> {
        let raw = |text| Item::text(Channel::Content, None, text);
        let Some(index) = self.set.parse.filter(|_| !self.answer.is_raw) else { return Ok(vec![raw(text)]) };
        if !self.parse_is_open(index) {
            return self.parse_with(index, &text, last);
        }
        self.answer.unparsed.push_str(&text);
        match self.parse_with(index, &text, last) {
            Ok(items) => {
                if !items.is_empty() {
                    self.answer.unparsed.clear();
                }
                Ok(items)
            }
            Err(error) if self.may_go_on_after(&error) => {
                self.answer.is_raw = true;
                let open = self.answer.calls.open.take().map(|index| Item::CallEnd { index });
                Ok(open.into_iter().chain([raw(std::mem::take(&mut self.answer.unparsed))]).collect())
            }
            Err(error) => Err(error),
        }
    }

    fn parse_with(&mut self, index: usize, text: &str, last: bool) -> Result<Vec<Item>, PipelineError> {
        let events = self.run(index, Stage::Parse, |instance| instance.parse(text, last))?;
        if let Some(seen) = &mut self.seen {
            let events = events.iter().map(items::described).collect();
            seen.push(Seen::Parsed {
                plugin: self.set.plugins[index].owner.name.clone(),
                text: text.to_owned(),
                last,
                events,
            });
        }
        let limit = self.set.plugins[index].owner.limits.output_bytes_max;
        let mut items = Vec::with_capacity(events.len());
        for event in events {
            let item = self.answer.calls.item(event, &self.call);
            let item = item.map_err(|fault| self.fail(index, Stage::Parse, fault.into()))?;
            self.answer.parsed_bytes += item.bytes();
            items::add(&mut items, item);
        }
        items::check_count(&items).map_err(|fault| self.fail(index, Stage::Parse, fault.into()))?;
        if self.answer.parsed_bytes > limit {
            return Err(self.fail(index, Stage::Parse, too_much(limit).into()));
        }
        if last && let Some(index) = self.answer.calls.open {
            items.push(Item::CallEnd { index });
        }
        Ok(items)
    }

    /// Takes `items` through one filter. Says what comes out and whether the filter ends the answer.
    fn pass(
        &mut self,
        position: usize,
        items: Vec<Item>,
        last: bool,
    ) -> Result<(Vec<Item>, Option<Finish>), PipelineError> {
        let now = Instant::now();
        self.answer.filters[position].is_counted = false;
        let mut out = Vec::with_capacity(items.len());
        for item in items {
            let stopped = match item {
                Item::Text { channel, call, text } if self.answer.filters[position].takes(channel) => {
                    self.feed(position, channel, call, &text, now, &mut out)?
                }
                Item::CallEnd { index } => {
                    let stopped = self.show_last(position, Channel::ToolArguments, now, &mut out)?;
                    self.answer.filters[position].call = None;
                    out.push(Item::CallEnd { index });
                    stopped
                }
                item => {
                    out.push(item);
                    None
                }
            };
            if stopped.is_some() {
                self.let_go(position, &IN_ORDER, now, &mut out)?;
                return Ok((out, stopped));
            }
        }
        // A call that a stop cut short has no end.
        for (number, channel) in IN_ORDER.into_iter().enumerate() {
            let stopped = if last {
                self.show_last(position, channel, now, &mut out)?
            } else {
                self.show_if_due(position, channel, now, &mut out)?
            };
            if stopped.is_some() {
                self.let_go(position, &IN_ORDER[..number], now, &mut out)?;
                return Ok((out, stopped));
            }
        }
        Ok((out, None))
    }

    /// Shows a filter that ended the answer what it holds of other channels, for the last time: that came before the place where it
    /// ended.
    fn let_go(
        &mut self,
        position: usize,
        channels: &[Channel],
        now: Instant,
        out: &mut Vec<Item>,
    ) -> Result<(), PipelineError> {
        let end = out.pop();
        for &channel in channels {
            if !self.answer.filters[position].windows[place(channel)].is_empty() {
                // Whether it would end there too makes no difference any more.
                self.show_last(position, channel, now, out)?;
            }
        }
        out.extend(end);
        Ok(())
    }

    fn feed(
        &mut self,
        position: usize,
        channel: Channel,
        call: Option<u32>,
        text: &str,
        now: Instant,
        out: &mut Vec<Item>,
    ) -> Result<Option<Finish>, PipelineError> {
        let filter = &mut self.answer.filters[position];
        if channel == Channel::ToolArguments {
            filter.call = call;
        }
        filter.windows[place(channel)].append(text, now);
        self.show_if_due(position, channel, now, out)
    }

    fn show_if_due(
        &mut self,
        position: usize,
        channel: Channel,
        now: Instant,
        out: &mut Vec<Item>,
    ) -> Result<Option<Finish>, PipelineError> {
        let filter = &self.answer.filters[position];
        let window = &filter.windows[place(channel)];
        if !filter.takes(channel) {
            return Ok(None);
        }
        if window.is_due(&filter.rules, now) {
            return self.show(position, channel, now, false, out);
        }
        match window.check_waiting(&filter.rules) {
            Ok(()) => Ok(None),
            Err(fault) => self.give_up(position, fault, out).map(|()| None),
        }
    }

    /// Shows a filter the end of a channel. Content has one end, always; the others only where they began.
    fn show_last(
        &mut self,
        position: usize,
        channel: Channel,
        now: Instant,
        out: &mut Vec<Item>,
    ) -> Result<Option<Finish>, PipelineError> {
        let filter = &self.answer.filters[position];
        let began = match channel {
            Channel::Content => true,
            Channel::Reasoning => !filter.windows[place(channel)].is_empty(),
            Channel::ToolArguments => filter.call.is_some(),
        };
        if !filter.takes(channel) || !began {
            return Ok(None);
        }
        let waits_for_everything = filter.rules.min_bytes == usize::MAX;
        if waits_for_everything && let Err(fault) = filter.windows[place(channel)].check_waiting(&filter.rules) {
            return self.give_up(position, fault, out).map(|()| None);
        }
        self.show(position, channel, now, true, out)
    }

    /// Shows a filter its window and takes its verdict.
    fn show(
        &mut self,
        position: usize,
        channel: Channel,
        now: Instant,
        last: bool,
        out: &mut Vec<Item>,
    ) -> Result<Option<Finish>, PipelineError> {
        let filter = &mut self.answer.filters[position];
        let (index, rules) = (filter.plugin, filter.rules);
        let (window, new_from) = filter.windows[place(channel)].show();
        let new_from = u32::try_from(new_from).unwrap_or(u32::MAX);
        let tokens = filter.tokens.as_mut().map(std::mem::take).unwrap_or_default();
        let is_first = !std::mem::replace(&mut filter.is_counted, true);
        let chunk = Chunk { channel, window, new_from, last, tokens };
        let answer = self.run(index, Stage::Postprocess, |instance| instance.filter(&chunk, is_first));
        let shown = chunk.window;
        let output = match answer {
            Ok(output) => output,
            Err(error) => return self.bypass(position, channel, shown, error, out).map(|()| None),
        };
        let stop = output.stop.map(convert::finish_back);
        if let Some(seen) = &mut self.seen {
            seen.push(Seen::Filtered {
                plugin: self.set.plugins[index].owner.name.clone(),
                channel: named(channel),
                window: shown.clone(),
                new_from: new_from as usize,
                last,
                consumed: (output.consume as usize).min(shown.len()),
                instead: output.instead.clone(),
                stop,
                notes: output.notes.clone(),
            });
        }
        let verdict = Verdict { consume: output.consume, instead: output.instead, stops: stop.is_some() };
        // Kept for the case that the verdict is nonsense and answers go on without this filter.
        let kept = if self.postprocess_is_open(index) { shown.clone() } else { String::new() };
        let limit = self.set.plugins[index].owner.limits.output_bytes_max;
        let filter = &mut self.answer.filters[position];
        let call = filter.call;
        let settled = filter.windows[place(channel)].settle(shown, verdict, last, &rules).and_then(|text| {
            filter.emitted_bytes += text.len();
            if filter.emitted_bytes <= limit { Ok(text) } else { Err(too_much(limit)) }
        });
        match settled {
            Ok(text) => {
                if let Some(held) = filter.account_for_held(channel, now) {
                    self.set.meters[index].held(held);
                }
                self.note(index, output.notes);
                out.push(Item::text(channel, call, text));
                Ok(stop)
            }
            Err(fault) => {
                let error = self.fail(index, Stage::Postprocess, fault.into());
                self.bypass(position, channel, kept, error, out).map(|()| None)
            }
        }
    }

    fn give_up(&mut self, position: usize, fault: Fault, out: &mut Vec<Item>) -> Result<(), PipelineError> {
        let error = self.fail(self.answer.filters[position].plugin, Stage::Postprocess, fault.into());
        self.bypass(position, Channel::Content, String::new(), error, out)
    }

    /// Goes on without a filter that failed, where the operator allows it: what it held is released, oldest first.
    fn bypass(
        &mut self,
        position: usize,
        channel: Channel,
        shown: String,
        error: PipelineError,
        out: &mut Vec<Item>,
    ) -> Result<(), PipelineError> {
        let filter = &self.answer.filters[position];
        if !self.postprocess_is_open(filter.plugin) || !self.may_go_on_after(&error) {
            return Err(error);
        }
        let filter = &mut self.answer.filters[position];
        filter.state = FilterState::Bypassed;
        out.push(Item::text(channel, filter.call, shown));
        for held in IN_ORDER {
            out.push(Item::text(held, filter.call, filter.windows[place(held)].release()));
        }
        Ok(())
    }
}

/// The channel's name in configurations.
fn named(channel: Channel) -> &'static str {
    match channel {
        Channel::Content => "content",
        Channel::Reasoning => "reasoning",
        Channel::ToolArguments => "tool-arguments",
    }
}

fn too_much(limit: usize) -> Fault {
    Fault::new(
        FaultKind::OutputSize,
        format!("emitted more than {limit} bytes in one answer, its limit `output_bytes`"),
    )
}
