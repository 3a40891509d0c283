//! What a filter is shown.

use crate::stages::postprocess::{Channel, Output, Token};

/// Text of one channel on its way out.
#[derive(Debug, Clone, PartialEq)]
pub struct Chunk {
    /// Which text this is.
    pub channel: Channel,
    /// All of it that is not consumed yet, in whole characters.
    pub window: String,
    /// Where the part begins that was not shown before.
    pub new_from: usize,
    /// Nothing more will come: what is not consumed now is sent as it is.
    pub last: bool,
    /// The character before the window: the last one consumed.
    pub before: Option<char>,
    /// What the model chose since this filter was last shown text; empty unless [`Profile`](crate::Profile) wants it.
    pub tokens: Vec<Token>,
}

/// A value for each channel.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PerChannel<T> {
    /// Of the answer's text.
    pub content: T,
    /// Of the thoughts before it.
    pub reasoning: T,
    /// Of the JSON of tool calls.
    pub tool_arguments: T,
}

impl<T> PerChannel<T> {
    /// The value of this channel.
    pub fn of(&mut self, channel: Channel) -> &mut T {
        match channel {
            Channel::Content => &mut self.content,
            Channel::Reasoning => &mut self.reasoning,
            Channel::ToolArguments => &mut self.tool_arguments,
        }
    }

    /// All three.
    pub fn all(&self) -> [&T; 3] {
        [&self.content, &self.reasoning, &self.tool_arguments]
    }
}

/// Remembers what stood before each channel's window.
#[derive(Debug, Default)]
pub(crate) struct Before(PerChannel<Option<char>>);

impl Before {
    pub(crate) fn chunk(&mut self, channel: Channel, window: String, new_from: usize, last: bool) -> Chunk {
        Chunk { channel, window, new_from, last, before: *self.0.of(channel), tokens: Vec::new() }
    }

    pub(crate) fn consumed(&mut self, chunk: &Chunk, output: &Output) {
        let before = self.0.of(chunk.channel);
        if chunk.last {
            // The arguments of another tool call may follow in the same channel.
            *before = None;
        } else if let Some(consumed) = chunk.window.get(..(output.consume as usize).min(chunk.window.len())) {
            *before = consumed.chars().next_back().or(*before);
        }
    }
}
