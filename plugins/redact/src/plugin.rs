//! The stages: where the contract's calls reach the rest of this crate.

use outrigger_plugin::prelude::*;

use crate::{ChannelName, Config, HOLDBACK_BYTES_MAX, Redactor, Stream};

/// Pairs in one list of notes: the contract's cap.
const NOTES_MAX: usize = 16;

/// The plugin.
#[derive(Debug)]
pub struct Redact {
    redactor: Redactor,
}

impl Plugin for Redact {
    fn new(cx: &Context) -> Result<Self> {
        Ok(Self { redactor: Redactor::new(cx.config::<Config>()?)? })
    }
}

impl Policy for Redact {
    fn inspect(&mut self, request: Request, _call: &Call) -> Result<Decision> {
        Ok(match self.redactor.request(request) {
            Some((replaced, count)) => Decision::replace(replaced).note("redact.request", count.to_string()),
            None => Decision::accept(),
        })
    }
}

impl Postprocess for Redact {
    type Filter = PerChannel<Stream>;

    fn open(&mut self, _call: &Call, _choice: u32) -> Result<(Self::Filter, Profile)> {
        let channels: Vec<Channel> = self.redactor.config().channels.iter().copied().map(channel).collect();
        Ok((PerChannel::default(), Profile { max_holdback: HOLDBACK_BYTES_MAX, ..Profile::of(channels) }))
    }

    fn push(&mut self, filter: &mut Self::Filter, chunk: &Chunk) -> Result<Output> {
        let pushed = filter.of(chunk.channel).push(&self.redactor, &chunk.window, chunk.last);
        Ok(Output { instead: pushed.instead, ..Output::pass_first(pushed.consumed) })
    }

    /// Notes how much of each kind was masked.
    fn finish(&mut self, filter: &mut Self::Filter, _end: Finish, _usage: Usage) -> Result<Annotations> {
        let streams = filter.all();
        let count = |which| streams.iter().filter_map(|stream| stream.counts().get(which)).sum::<usize>();
        let counts = self.redactor.names().iter().enumerate().map(|(which, name)| (name, count(which)));
        Ok(counts
            .filter(|&(_, count)| count > 0)
            .take(NOTES_MAX)
            .map(|(name, count)| (format!("redact.{name}"), count.to_string()))
            .collect())
    }
}

fn channel(name: ChannelName) -> Channel {
    match name {
        ChannelName::Content => Channel::Content,
        ChannelName::Reasoning => Channel::Reasoning,
        ChannelName::ToolArguments => Channel::ToolArguments,
    }
}

outrigger_plugin::export!(Redact: Policy, Postprocess);
