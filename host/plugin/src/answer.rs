//! The model's text on its way out: `parse` says what it is, the filters in their order say what becomes of it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use inference::{FaultKind, Finish, Output, PipelineError, Stage};

use crate::bindings::exports::outrigger::plugin::postprocess::{Channel, Chunk, Profile};
use crate::bindings::outrigger::plugin::types;
use crate::convert;
use crate::fault::Fault;
use crate::items::{Calls, Item, deltas};
use crate::lane::Lane;
use crate::window::{Rules, Verdict, Window};

/// Where an answer stands.
#[derive(Default)]
pub(crate) struct Answer {
    /// What the parser is opened with.
    pub(crate) tools: Vec<types::Tool>,
    /// See `tools`.
    pub(crate) prefix: String,
    is_open: bool,
    /// Bytes that the parser has emitted.
    parsed_bytes: usize,
    calls: Calls,
    filters: Vec<Filter>,
}

/// One filter of the chain.
struct Filter {
    plugin: usize,
    channels: Vec<Channel>,
    rules: Rules,
    windows: [Window; 3],
    /// The tool call whose arguments its window holds.
    call: Option<u32>,
    emitted_bytes: usize,
    state: FilterState,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FilterState {
    Open,
    /// It failed, and the operator lets answers go on without it.
    Bypassed,
}

impl Answer {
    /// The plugins whose filters are there to be told of the end.
    pub(crate) fn open_filters(&self) -> Vec<usize> {
        self.filters.iter().filter(|filter| filter.state == FilterState::Open).map(|filter| filter.plugin).collect()
    }
}

impl Lane {
    /// Takes more of the model's text through the stages after the model.
    pub(crate) fn push(&mut self, text: String, mut last: bool) -> Result<Output, PipelineError> {
        if !self.answer.is_open {
            self.open()?;
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
        Ok(Output { deltas: deltas(items), stop })
    }

    fn open(&mut self) -> Result<(), PipelineError> {
        self.answer.is_open = true;
        let (set, choice) = (Arc::clone(&self.set), self.call.choice);
        if let Some(index) = set.parse {
            let (call, tools, prefix) =
                (self.call_for(index), std::mem::take(&mut self.answer.tools), std::mem::take(&mut self.answer.prefix));
            self.run(index, Stage::Parse, |instance| instance.open_parser(&call, choice, &tools, &prefix))?;
        }
        for &index in &set.filters {
            let call = self.call_for(index);
            match self.run(index, Stage::Postprocess, |instance| instance.open_filter(&call, choice)) {
                Ok(profile) => {
                    let filter = Filter::new(index, profile, set.plugins[index].owner.limits.holdback_bytes_max);
                    self.answer.filters.push(filter);
                }
                Err(PipelineError::Fault { .. }) if self.postprocess_is_open(index) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn parse(&mut self, text: String, last: bool) -> Result<Vec<Item>, PipelineError> {
        let Some(index) = self.set.parse else {
            return Ok(vec![Item::Text { channel: Channel::Content, call: None, text }]);
        };
        let events = self.run(index, Stage::Parse, |instance| instance.parse(&text, last))?;
        let limit = self.set.plugins[index].owner.limits.output_bytes_max;
        let mut items = Vec::with_capacity(events.len());
        for event in events {
            let item = self.answer.calls.item(event, &self.call);
            let item = item.map_err(|fault| self.fail(index, Stage::Parse, fault.into()))?;
            if let Item::Text { text, .. } = &item {
                self.answer.parsed_bytes += text.len();
            }
            items.push(item);
        }
        if self.answer.parsed_bytes > limit {
            return Err(self.fail(index, Stage::Parse, too_much(limit).into()));
        }
        if last && let Some(index) = self.answer.calls.open.take() {
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
        let mut out = Vec::with_capacity(items.len());
        for item in items {
            let stopped = match item {
                Item::Text { channel, call, text } if self.answer.filters[position].takes(channel) => {
                    self.feed(position, channel, call, &text, now, &mut out)?
                }
                Item::CallEnd { index } => {
                    let stopped = self.show_last(position, Channel::ToolArguments, &mut out)?;
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
                return Ok((out, stopped));
            }
        }
        // The order in which an answer has them: thoughts, calls, text. A call that a stop cut short has no end.
        for channel in [Channel::Reasoning, Channel::ToolArguments, Channel::Content] {
            let stopped = if last {
                self.show_last(position, channel, &mut out)?
            } else {
                self.show_if_due(position, channel, now, &mut out)?
            };
            if stopped.is_some() {
                return Ok((out, stopped));
            }
        }
        Ok((out, None))
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
            return self.show(position, channel, false, out);
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
        self.show(position, channel, true, out)
    }

    /// Shows a filter its window and takes its verdict.
    fn show(
        &mut self,
        position: usize,
        channel: Channel,
        last: bool,
        out: &mut Vec<Item>,
    ) -> Result<Option<Finish>, PipelineError> {
        let filter = &mut self.answer.filters[position];
        let (index, rules) = (filter.plugin, filter.rules);
        let (window, new_from) = filter.windows[place(channel)].show();
        let new_from = u32::try_from(new_from).unwrap_or(u32::MAX);
        let chunk = Chunk { channel, window, new_from, last };
        let answer = self.run(index, Stage::Postprocess, |instance| instance.filter(&chunk));
        let shown = chunk.window;
        let output = match answer {
            Ok(output) => output,
            Err(error) => return self.bypass(position, channel, shown, error, out).map(|()| None),
        };
        let stop = output.stop.map(convert::finish_back);
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
        let is_allowed = matches!(error, PipelineError::Fault { .. }) && self.postprocess_is_open(filter.plugin);
        if !is_allowed || self.is_cancelled() {
            return Err(error);
        }
        let filter = &mut self.answer.filters[position];
        filter.state = FilterState::Bypassed;
        out.push(Item::text(channel, filter.call, shown));
        for held in [Channel::Reasoning, Channel::ToolArguments, Channel::Content] {
            out.push(Item::text(held, filter.call, filter.windows[place(held)].release()));
        }
        Ok(())
    }
}

impl Filter {
    fn new(plugin: usize, profile: Profile, holdback_bytes_max: usize) -> Self {
        Self {
            plugin,
            channels: profile.channels,
            rules: Rules {
                min_bytes: if profile.min_bytes == u32::MAX { usize::MAX } else { profile.min_bytes as usize },
                max_delay: Duration::from_millis(profile.max_delay_ms.into()),
                holdback_max: holdback_bytes_max.min(profile.max_holdback as usize),
                waiting_max: holdback_bytes_max,
            },
            windows: Default::default(),
            call: None,
            emitted_bytes: 0,
            state: FilterState::Open,
        }
    }

    fn takes(&self, channel: Channel) -> bool {
        self.state == FilterState::Open && self.channels.contains(&channel)
    }
}

fn place(channel: Channel) -> usize {
    match channel {
        Channel::Content => 0,
        Channel::Reasoning => 1,
        Channel::ToolArguments => 2,
    }
}

fn too_much(limit: usize) -> Fault {
    Fault::new(
        FaultKind::OutputSize,
        format!("emitted more than {limit} bytes in one answer, its limit `output_bytes`"),
    )
}
