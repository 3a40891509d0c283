//! Tells thoughts from the answer by the marks of the operator's choice.

use outrigger_plugin::prelude::*;
use outrigger_plugin::types::Tool;
use serde::Deserialize;

/// The `config` table of the plugin. `default`: it works without one. `deny_unknown_fields`: a key that is spelled wrong is an error
/// when the plugin is loaded, not a surprise later.
#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Config {
    open: String,
    close: String,
}

impl Default for Config {
    fn default() -> Self {
        Self { open: "<think>".to_owned(), close: "</think>".to_owned() }
    }
}

/// Made anew for each request.
pub struct This {
    open: MatchWindow,
    close: MatchWindow,
}

/// What is remembered of one answer.
#[derive(Default)]
pub struct Parser {
    is_thinking: bool,
    /// Text that may be the beginning of a mark.
    held: String,
}

impl Plugin for This {
    fn new(cx: &Context) -> Result<Self> {
        let Config { open, close } = cx.config()?;
        Ok(Self { open: MatchWindow::new([open]), close: MatchWindow::new([close]) })
    }
}

impl Parse for This {
    type Parser = Parser;

    fn open(&mut self, _call: &Call, _choice: u32, _tools: Vec<Tool>, _prefix: String) -> Result<Parser> {
        Ok(Parser::default())
    }

    fn parse(&mut self, parser: &mut Parser, text: String, last: bool) -> Result<Vec<Event>> {
        let mut events = Vec::new();
        parser.held.push_str(&text);
        loop {
            let mark = if parser.is_thinking { &self.close } else { &self.open };
            let found = mark.find(&parser.held, last);
            let (end, next) = match &found {
                Found::Match { place, .. } => (place.start, place.end),
                Found::Nothing { free } => (*free, *free),
            };
            let rest = parser.held.split_off(next);
            let mut text = std::mem::replace(&mut parser.held, rest);
            text.truncate(end);
            if !text.is_empty() {
                events.push(if parser.is_thinking { Event::Reasoning(text) } else { Event::Content(text) });
            }
            match found {
                Found::Match { .. } => parser.is_thinking = !parser.is_thinking,
                Found::Nothing { .. } => return Ok(events),
            }
        }
    }
}

outrigger_plugin::export!(This: Parse);

#[cfg(test)]
mod tests {
    use outrigger_plugin::testing::{self, call};

    use super::*;

    #[test]
    fn half_a_mark_is_held_back() {
        let mut plugin = testing::plugin::<This>("{}").unwrap();
        let mut parser = plugin.open(&call(), 0, Vec::new(), String::new()).unwrap();
        assert_eq!(plugin.parse(&mut parser, "<thi".to_owned(), false).unwrap(), []);
        let events = plugin.parse(&mut parser, "nk>Hm".to_owned(), true).unwrap();
        assert_eq!(events, [Event::Reasoning("Hm".to_owned())]);
    }
}
