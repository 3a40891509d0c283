//! What the model's text means: thoughts, calls, and content.

use outrigger_plugin::types::Tool;

use crate::calls::{Calls, Tools};
use crate::config::{Config, ToolFormat};
use crate::event::Event;
use crate::format::Format;
use crate::harmony::Harmony;
use crate::reasoning::{Reasoning, Thoughts};

/// How answers are to be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reading {
    /// The form of calls; `None`: there are none to be found.
    pub(crate) calls: Option<Format>,
    pub(crate) thoughts: Vec<Thoughts>,
}

impl Reading {
    /// How answers to the prompts of a template are to be read.
    #[must_use]
    pub fn new(config: &Config, template: &str) -> Self {
        let calls = match config.tool_format {
            ToolFormat::Auto => Some(Format::of(template).unwrap_or(Format::Json)),
            ToolFormat::None => None,
            ToolFormat::Of(format) => Some(format),
        };
        Self { calls, thoughts: config.reasoning.thoughts(template) }
    }

    /// Control tokens that the parser has to see.
    pub(crate) fn marks(&self, has_tools: bool) -> Vec<String> {
        let calls = self.calls.filter(|&format| has_tools || format == Format::Harmony);
        let calls = calls.map(Format::marks).unwrap_or_default();
        let thoughts = self.thoughts.iter().flat_map(|pair| [pair.open.as_str(), pair.close.as_str()]);
        calls.into_iter().chain(thoughts).map(str::to_owned).collect()
    }
}

/// Reads one choice of a reply. The events, joined, are the same however the text is cut into pieces.
#[derive(Debug)]
pub struct Parser(Kind);

#[derive(Debug)]
enum Kind {
    Harmony(Harmony),
    Other { reasoning: Reasoning, calls: Option<Calls> },
}

impl Parser {
    /// A parser for an answer that already starts with `prefix`, which the prompt holds.
    #[must_use]
    pub fn new(reading: &Reading, tools: &[Tool], prefix: &str) -> Self {
        let tools = Tools::new(tools);
        Self(match reading.calls {
            Some(Format::Harmony) => Kind::Harmony(Harmony::new(tools)),
            format => Kind::Other {
                reasoning: Reasoning::new(reading.thoughts.clone(), prefix),
                calls: format.filter(|_| !tools.is_empty()).map(|format| Calls::new(format, tools)),
            },
        })
    }

    /// Takes more text; with `last` set, everything that was held comes out.
    pub fn push(&mut self, text: &str, last: bool) -> Vec<Event> {
        let mut events = Vec::new();
        match &mut self.0 {
            Kind::Harmony(harmony) => harmony.push(text, last, &mut events),
            Kind::Other { reasoning, calls: None } => reasoning.push(text, last, &mut events),
            Kind::Other { reasoning, calls: Some(calls) } => {
                let mut sorted = Vec::new();
                reasoning.push(text, last, &mut sorted);
                for event in sorted {
                    match event {
                        Event::Content(text) => calls.push(&text, false, &mut events),
                        other => events.push(other),
                    }
                }
                if last {
                    calls.push("", true, &mut events);
                }
            }
        }
        events
    }
}

#[cfg(test)]
mod tests;
