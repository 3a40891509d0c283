//! One answer's text on its way out: `parse` says what it is, the filters in their order say what becomes of it.

use std::sync::Arc;
use std::time::Instant;

use inference::{Annotations, ChosenToken, FaultKind, Finish, Output, PipelineError, Stage, Usage};

use crate::bindings::exports::outrigger::plugin::postprocess::{Channel, Chunk};
use crate::bindings::outrigger::plugin::types;
use crate::control::Controlled;
use crate::convert;
use crate::fault::Fault;
use crate::filter::{Filter, FilterState, place};
use crate::guests::Guests;
use crate::items::{Item, deltas};
use crate::parsing::Parsing;
use crate::probe::Seen;
use crate::window::Verdict;

/// The channels as an answer has them: thoughts, calls, text.
const IN_ORDER: [Channel; 3] = [Channel::Reasoning, Channel::ToolArguments, Channel::Content];

/// What every answer to a request begins with.
#[derive(Default)]
pub(crate) struct Beginning {
    /// What it may call.
    pub(crate) tools: Vec<types::Tool>,
    /// What it has begun with already.
    pub(crate) prefix: String,
    /// No parser reads it: the model was given a prompt as it stands.
    pub(crate) is_raw: bool,
    /// How many notes each plugin has made on the request.
    pub(crate) notes: Vec<usize>,
}

/// One answer on its way.
pub(crate) struct Answer {
    /// Its place in the reply.
    pub(crate) choice: u32,
    parsing: Parsing,
    pub(crate) controlled: Option<Controlled>,
    filters: Vec<Filter>,
    /// What the filters noted on it.
    pub(crate) notes: Annotations,
}

impl Answer {
    /// Opens the parser and the filters.
    pub(crate) fn open(choice: u32, beginning: &Beginning, guests: &mut Guests) -> Result<Self, PipelineError> {
        let set = Arc::clone(&guests.set);
        let parsing = Parsing::open(choice, beginning, guests)?;
        let filters = Vec::with_capacity(set.filters.len());
        let mut this = Self { choice, parsing, controlled: None, filters, notes: Vec::new() };
        for &index in &set.filters {
            let call = guests.call_for(index);
            let limit = set.plugins[index].owner.limits.holdback_bytes_max;
            match guests.run(index, Stage::Postprocess, |instance| instance.open_filter(&call, choice)) {
                Ok((resource, profile)) => match Filter::new(index, resource, profile, limit, beginning.notes[index]) {
                    Ok(filter) => this.filters.push(filter),
                    Err(fault) => {
                        let error = guests.fail(index, Stage::Postprocess, fault.into());
                        if !guests.postprocess_is_open(index) {
                            return Err(error);
                        }
                    }
                },
                Err(error) if guests.postprocess_is_open(index) && guests.may_go_on_after(&error) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(this)
    }

    /// Takes more of the model's text through the stages after the model.
    pub(crate) fn push(
        &mut self,
        guests: &mut Guests,
        text: String,
        tokens: &[ChosenToken],
        mut last: bool,
    ) -> Result<Output, PipelineError> {
        if !tokens.is_empty() {
            for filter in &mut self.filters {
                filter.keep(tokens);
            }
        }
        let mut items = self.parsing.read(guests, text, last)?;
        let mut stop = None;
        for position in 0..self.filters.len() {
            let stopped;
            (items, stopped) = self.pass(guests, position, items, last)?;
            // The first filter to stop decides; those behind it get what it let through, and nothing more.
            stop = stop.or(stopped);
            last |= stopped.is_some();
        }
        let cuts_call = (last || stop.is_some()) && self.parsing.is_in_call();
        Ok(Output { deltas: deltas(items), stop, cuts_call })
    }

    /// Tells the filters how it ended.
    pub(crate) fn finish(&mut self, guests: &mut Guests, finish: Finish, usage: Usage) -> Result<(), PipelineError> {
        let (finish, usage) = (convert::finish(finish), convert::usage(usage));
        for filter in self.filters.iter_mut().filter(|filter| filter.state == FilterState::Open) {
            let (index, resource) = (filter.plugin, filter.resource);
            if filter.held_bytes_max > 0 {
                guests.set.meters[index].held_bytes(filter.held_bytes_max);
            }
            match guests.run(index, Stage::Postprocess, |instance| instance.finish_filter(resource, finish, usage)) {
                Ok(notes) => filter.note(guests.plugin(index), notes, &mut self.notes),
                Err(error) if guests.postprocess_is_open(index) && guests.may_go_on_after(&error) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Has the plugins drop what they opened for it, where their instances go on.
    pub(crate) fn release(&mut self, guests: &mut Guests) {
        if let Some(controlled) = self.controlled.take() {
            guests.release(controlled.plugin, Stage::TokenControl, controlled.resource);
        }
        self.parsing.release(guests);
        for filter in &self.filters {
            guests.release(filter.plugin, Stage::Postprocess, filter.resource);
        }
    }

    /// The plugins whose filters are there to be told of the end, and the most bytes that each held.
    pub(crate) fn open_filters(&self) -> impl Iterator<Item = (usize, usize)> {
        let open = self.filters.iter().filter(|filter| filter.state == FilterState::Open);
        open.map(|filter| (filter.plugin, filter.held_bytes_max))
    }

    /// Whether any filter wants to see tokens.
    pub(crate) fn wants_tokens(&self) -> bool {
        self.filters.iter().any(|filter| filter.tokens.is_some())
    }

    /// Takes `items` through one filter. Says what comes out and whether the filter ends the answer.
    fn pass(
        &mut self,
        guests: &mut Guests,
        position: usize,
        items: Vec<Item>,
        last: bool,
    ) -> Result<(Vec<Item>, Option<Finish>), PipelineError> {
        let now = Instant::now();
        self.filters[position].is_counted = false;
        let mut out = Vec::with_capacity(items.len());
        for item in items {
            // So that nobody reads the end of a thought behind what follows it.
            if item.ends_thought() && !self.filters[position].windows[place(Channel::Reasoning)].is_empty() {
                let stopped = self.show_last(guests, position, Channel::Reasoning, now, &mut out)?;
                if stopped.is_some() {
                    self.let_go(guests, position, &IN_ORDER, now, &mut out)?;
                    return Ok((out, stopped));
                }
            }
            let stopped = match item {
                Item::Text { channel, call, text } if self.filters[position].takes(channel) => {
                    let filter = &mut self.filters[position];
                    if channel == Channel::ToolArguments {
                        filter.call = call;
                    }
                    filter.windows[place(channel)].append(&text, now);
                    self.show_if_due(guests, position, channel, now, &mut out)?
                }
                Item::CallStart { index, id, name, overtakes_text } => {
                    let holds_text = !self.filters[position].windows[place(Channel::Content)].is_empty();
                    out.push(Item::CallStart { index, id, name, overtakes_text: overtakes_text || holds_text });
                    None
                }
                Item::CallEnd { .. } => {
                    let stopped = self.show_last(guests, position, Channel::ToolArguments, now, &mut out)?;
                    self.filters[position].call = None;
                    out.push(item);
                    stopped
                }
                item @ Item::Text { .. } => {
                    out.push(item);
                    None
                }
            };
            if stopped.is_some() {
                self.let_go(guests, position, &IN_ORDER, now, &mut out)?;
                return Ok((out, stopped));
            }
        }
        // What is under way: a thought, or a call, which has no end where a stop cut it short, and text.
        for (number, channel) in IN_ORDER.into_iter().enumerate() {
            let stopped = if last {
                self.show_last(guests, position, channel, now, &mut out)?
            } else {
                self.show_if_due(guests, position, channel, now, &mut out)?
            };
            if stopped.is_some() {
                self.let_go(guests, position, &IN_ORDER[..number], now, &mut out)?;
                return Ok((out, stopped));
            }
        }
        Ok((out, None))
    }

    /// Shows a filter that ended the answer what it holds of other channels, for the last time: that came before the place where it
    /// ended.
    fn let_go(
        &mut self,
        guests: &mut Guests,
        position: usize,
        channels: &[Channel],
        now: Instant,
        out: &mut Vec<Item>,
    ) -> Result<(), PipelineError> {
        let end = out.pop();
        for &channel in channels {
            if !self.filters[position].windows[place(channel)].is_empty() {
                // Whether it would end there too makes no difference any more.
                self.show_last(guests, position, channel, now, out)?;
            }
        }
        out.extend(end);
        Ok(())
    }

    fn show_if_due(
        &mut self,
        guests: &mut Guests,
        position: usize,
        channel: Channel,
        now: Instant,
        out: &mut Vec<Item>,
    ) -> Result<Option<Finish>, PipelineError> {
        let filter = &self.filters[position];
        let window = &filter.windows[place(channel)];
        if !filter.takes(channel) {
            return Ok(None);
        }
        if window.is_due(&filter.rules, now) {
            return self.show(guests, position, channel, now, false, out);
        }
        match window.check_waiting(&filter.rules) {
            Ok(()) => Ok(None),
            Err(fault) => self.give_up(guests, position, fault, out).map(|()| None),
        }
    }

    /// Shows a filter the end of a channel. Content has one end, always; the others only where they began.
    fn show_last(
        &mut self,
        guests: &mut Guests,
        position: usize,
        channel: Channel,
        now: Instant,
        out: &mut Vec<Item>,
    ) -> Result<Option<Finish>, PipelineError> {
        let filter = &self.filters[position];
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
            return self.give_up(guests, position, fault, out).map(|()| None);
        }
        self.show(guests, position, channel, now, true, out)
    }

    /// Shows a filter its window and takes its verdict.
    fn show(
        &mut self,
        guests: &mut Guests,
        position: usize,
        channel: Channel,
        now: Instant,
        last: bool,
        out: &mut Vec<Item>,
    ) -> Result<Option<Finish>, PipelineError> {
        let filter = &mut self.filters[position];
        let (index, resource, rules) = (filter.plugin, filter.resource, filter.rules);
        let (window, new_from) = filter.windows[place(channel)].show();
        let new_from = u32::try_from(new_from).unwrap_or(u32::MAX);
        let tokens = filter.tokens.as_mut().map(std::mem::take).unwrap_or_default();
        let is_first = !std::mem::replace(&mut filter.is_counted, true);
        let chunk = Chunk { channel, window, new_from, last, tokens };
        let answer = guests.run(index, Stage::Postprocess, |instance| instance.filter(resource, &chunk, is_first));
        let shown = chunk.window;
        let output = match answer {
            Ok(output) => output,
            Err(error) => return self.bypass(guests, position, channel, shown, error, out).map(|()| None),
        };
        let stop = output.stop.map(convert::finish_back);
        if let Some(seen) = &mut guests.seen {
            seen.push(Seen::Filtered {
                plugin: guests.set.plugins[index].owner.name.clone(),
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
        let kept = if guests.postprocess_is_open(index) { shown.clone() } else { String::new() };
        let limit = guests.set.plugins[index].owner.limits.output_bytes_max;
        let filter = &mut self.filters[position];
        let call = filter.call;
        let settled = filter.windows[place(channel)].settle(shown, verdict, last, &rules).and_then(|text| {
            filter.emitted_bytes += text.len();
            if filter.emitted_bytes <= limit { Ok(text) } else { Err(too_much(limit)) }
        });
        match settled {
            Ok(text) => {
                if let Some(held) = filter.account_for_held(channel, now) {
                    guests.set.meters[index].held(held);
                }
                filter.note(guests.plugin(index), output.notes, &mut self.notes);
                out.push(Item::text(channel, call, text));
                Ok(stop)
            }
            Err(fault) => {
                let error = guests.fail(index, Stage::Postprocess, fault.into());
                self.bypass(guests, position, channel, kept, error, out).map(|()| None)
            }
        }
    }

    fn give_up(
        &mut self,
        guests: &mut Guests,
        position: usize,
        fault: Fault,
        out: &mut Vec<Item>,
    ) -> Result<(), PipelineError> {
        let error = guests.fail(self.filters[position].plugin, Stage::Postprocess, fault.into());
        self.bypass(guests, position, Channel::Content, String::new(), error, out)
    }

    /// Goes on without a filter that failed, where the operator allows it: what it held is released, oldest first.
    fn bypass(
        &mut self,
        guests: &mut Guests,
        position: usize,
        channel: Channel,
        shown: String,
        error: PipelineError,
        out: &mut Vec<Item>,
    ) -> Result<(), PipelineError> {
        let filter = &self.filters[position];
        if !guests.postprocess_is_open(filter.plugin) || !guests.may_go_on_after(&error) {
            return Err(error);
        }
        let filter = &mut self.filters[position];
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

/// What it is when a stage emits more than its plugin may.
pub(crate) fn too_much(limit: usize) -> Fault {
    Fault::new(
        FaultKind::OutputSize,
        format!("emitted more than {limit} bytes in one answer, its limit `output_bytes`"),
    )
}
