//! One filter of an answer's chain: what it asked for, its windows, and what it holds back.

use std::time::{Duration, Instant};

use inference::{Annotations, ChosenToken};
use wasmtime::component::ResourceAny;

use crate::bindings::exports::outrigger::plugin::postprocess::{Channel, Profile, Token};
use crate::bindings::outrigger::plugin::types;
use crate::fault::Fault;
use crate::guests;
use crate::window::{Rules, Window};

/// One filter of the chain.
pub(crate) struct Filter {
    pub(crate) plugin: usize,
    pub(crate) resource: ResourceAny,
    pub(crate) channels: Vec<Channel>,
    pub(crate) rules: Rules,
    pub(crate) windows: [Window; 3],
    /// The tool call whose arguments its window holds.
    pub(crate) call: Option<u32>,
    pub(crate) emitted_bytes: usize,
    /// Tokens that it was not shown yet, where it wants them. No more than an answer has.
    pub(crate) tokens: Option<Vec<Token>>,
    /// Since when text of each channel has been held, and the most that ever was.
    held_since: [Option<Instant>; 3],
    pub(crate) held_bytes_max: usize,
    pub(crate) state: FilterState,
    /// Notes that its plugin has made on the request and on this answer.
    notes: usize,
    /// Whether it was shown any of the push that is under way.
    pub(crate) is_counted: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FilterState {
    Open,
    /// It failed, and the operator lets answers go on without it.
    Bypassed,
}

impl Filter {
    /// `notes`: those that its plugin has made on the request.
    pub(crate) fn new(
        plugin: usize,
        resource: ResourceAny,
        profile: Profile,
        holdback_bytes_max: usize,
        notes: usize,
    ) -> Result<Self, Fault> {
        let min_bytes = if profile.min_bytes == u32::MAX { usize::MAX } else { profile.min_bytes as usize };
        // Otherwise it would depend on the pieces that the text comes in whether it may wait for so much.
        if min_bytes != usize::MAX && min_bytes > holdback_bytes_max {
            return Err(Fault::contract(format!(
                "asks to collect {min_bytes} bytes, more than the {holdback_bytes_max} it may hold back; lower its \
                 `min-bytes` or raise the plugin's limit `holdback_bytes`"
            )));
        }
        Ok(Self {
            plugin,
            resource,
            channels: profile.channels,
            rules: Rules {
                min_bytes,
                max_delay: Duration::from_millis(profile.max_delay_ms.into()),
                holdback_max: holdback_bytes_max.min(profile.max_holdback as usize),
                waiting_max: holdback_bytes_max,
            },
            windows: Default::default(),
            call: None,
            emitted_bytes: 0,
            tokens: profile.want_tokens.then(Vec::new),
            held_since: [None; 3],
            held_bytes_max: 0,
            state: FilterState::Open,
            notes,
            is_counted: false,
        })
    }

    /// Takes over notes of its plugin, called `name`, on this answer.
    pub(crate) fn note(&mut self, name: &str, notes: types::Annotations, kept: &mut Annotations) {
        guests::note(name, notes, &mut self.notes, kept);
    }

    /// Keeps tokens until the filter is shown text.
    pub(crate) fn keep(&mut self, tokens: &[ChosenToken]) {
        if self.state == FilterState::Open
            && let Some(kept) = &mut self.tokens
        {
            kept.extend(tokens.iter().map(|&ChosenToken { token, logprob }| Token { id: token.0, logprob }));
        }
    }

    /// Looks at what a filter left in a window; when it has just let go of all that it held, says how long that was.
    pub(crate) fn account_for_held(&mut self, channel: Channel, now: Instant) -> Option<Duration> {
        let held_bytes = self.windows[place(channel)].len();
        self.held_bytes_max = self.held_bytes_max.max(held_bytes);
        let since = &mut self.held_since[place(channel)];
        if held_bytes > 0 {
            since.get_or_insert(now);
            return None;
        }
        since.take().map(|since| now.duration_since(since))
    }

    pub(crate) fn takes(&self, channel: Channel) -> bool {
        self.state == FilterState::Open && self.channels.contains(&channel)
    }
}

/// Where a channel's window is.
pub(crate) fn place(channel: Channel) -> usize {
    match channel {
        Channel::Content => 0,
        Channel::Reasoning => 1,
        Channel::ToolArguments => 2,
    }
}
