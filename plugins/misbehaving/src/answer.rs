//! The stages after the model.

use std::cell::{Cell, RefCell};

use crate::Misbehaving;
use crate::act::{Where, act, config, is_told, spin, told};
use crate::bindings::exports::outrigger::plugin::parse::{self, Event, GuestParser};
use crate::bindings::exports::outrigger::plugin::postprocess::{
    self, Channel, Chunk, Filter, GuestFilter, Output, Profile,
};
use crate::bindings::outrigger::plugin::types::{Annotations, Call, Error, Finish, Tool, Usage};
use crate::puppet::Puppet;

/// Everything is content, but a line that begins with `!` says another event: `!reasoning TEXT`, `!call NAME`,
/// `!arguments TEXT`, `!end`.
pub(crate) struct Lines {
    line: RefCell<String>,
    puppet: Option<Puppet>,
}

impl parse::Guest for Misbehaving {
    type Parser = Lines;
}

impl GuestParser for Lines {
    fn open(call: Call, _choice: u32, _tools: Vec<Tool>, _prefix: String) -> Result<parse::Parser, Error> {
        Ok(parse::Parser::new(Self { line: RefCell::default(), puppet: Puppet::of(&call) }))
    }

    fn push(&self, text: String, last: bool) -> Result<Vec<Event>, Error> {
        act(Where::Parse)?;
        if let Some(events) = self.puppet.as_ref().and_then(Puppet::events) {
            return Ok(events);
        }
        assert!(config("panic-at").is_none_or(|at| !text.contains(&at)), "told to panic here");
        if config("lines").is_none() {
            return Ok(vec![Event::Content(text)]);
        }
        let mut line = self.line.borrow_mut();
        line.push_str(&text);
        let mut events = Vec::new();
        while let Some(end) = line.find('\n') {
            let rest = line.split_off(end + 1);
            events.push(event(&std::mem::replace(&mut *line, rest)));
        }
        if last && !line.is_empty() {
            events.push(event(&std::mem::take(&mut *line)));
        }
        Ok(events)
    }
}

fn event(line: &str) -> Event {
    let said = line.strip_prefix('!').and_then(|said| said.trim_end_matches('\n').split_once(' '));
    match said {
        Some(("reasoning", text)) => Event::Reasoning(text.to_owned()),
        Some(("call", name)) => Event::ToolCallStart((name.to_owned(), None)),
        Some(("arguments", text)) => Event::ToolArguments(text.to_owned()),
        Some(("end", _)) => Event::ToolCallEnd,
        _ => Event::Content(line.to_owned()),
    }
}

/// Passes everything on, or masks a word, or ends the answer at one, or answers nonsense. The words must not begin as
/// they end: "secret" is one, "abba" is not.
pub(crate) struct Words {
    mask: Option<String>,
    stop: Option<String>,
    puppet: Option<Puppet>,
}

thread_local! {
    static SEEN: Cell<bool> = const { Cell::new(false) };
}

/// What stands where a masked word stood.
const MASK: &str = "[masked]";

impl postprocess::Guest for Misbehaving {
    type Filter = Words;
}

impl GuestFilter for Words {
    fn open(call: Call, _choice: u32) -> Result<(Filter, Profile), Error> {
        act(Where::Open)?;
        let number = |key, usual| config(key).and_then(|value| value.parse().ok()).unwrap_or(usual);
        let profile = Profile {
            channels: if is_told("want-nothing") {
                Vec::new()
            } else {
                vec![Channel::Content, Channel::Reasoning, Channel::ToolArguments]
            },
            min_bytes: number("min-bytes", 0),
            max_delay_ms: number("max-delay-ms", 0),
            max_holdback: number("max-holdback", 256),
            want_tokens: config("want-tokens").is_some(),
        };
        Ok((Filter::new(Self { mask: config("mask"), stop: config("stop"), puppet: Puppet::of(&call) }), profile))
    }

    fn push(&self, chunk: Chunk) -> Result<Output, Error> {
        act(Where::Push)?;
        if let Some(output) = self.puppet.as_ref().and_then(Puppet::output) {
            return Ok(output);
        }
        let length = chunk.window.len();
        match told().as_str() {
            "consume-past-the-end" => return Ok(consume(length + 1)),
            "consume-inside-a-character" => {
                return Ok(consume(chunk.window.find('é').map_or(length, |place| place + 1)));
            }
            "hold-for-ever" => return Ok(consume(0)),
            "loop-at-end" if chunk.window.contains("END") => spin(),
            "huge-instead" => return Ok(Output { instead: Some("x".repeat(6 << 20)), ..consume(length) }),
            // All `a` but the first are masked, and the first is that of the instance, whichever answer has it.
            "forgets-the-answer" => {
                let masked = |letter| if letter == 'a' && SEEN.replace(true) { 'b' } else { letter };
                return Ok(Output { instead: Some(chunk.window.chars().map(masked).collect()), ..consume(length) });
            }
            "multiply" => return Ok(Output { instead: Some("x".repeat(1 << 20)), ..consume(length) }),
            _ => {}
        }
        let mut output = self.mask_and_stop(&chunk);
        if is_told("note-tokens") {
            let said = |token: &postprocess::Token| format!("{}:{}", token.id, token.logprob);
            let tokens: Vec<_> = chunk.tokens.iter().map(said).collect();
            output.notes.push((format!("{:?} {}", chunk.channel, chunk.window), tokens.join(" ")));
        }
        Ok(output)
    }

    fn finish(&self, end: Finish, _usage: Usage) -> Result<Annotations, Error> {
        act(Where::Finish)?;
        Ok(if is_told("note") { vec![("end".to_owned(), format!("{end:?}"))] } else { Vec::new() })
    }
}

impl Words {
    fn mask_and_stop(&self, chunk: &Chunk) -> Output {
        let window = chunk.window.as_str();
        if let Some(stop) = &self.stop
            && let Some(place) = window.find(stop.as_str())
        {
            return Output { instead: self.masked(&window[..place]), stop: Some(Finish::Filtered), ..consume(place) };
        }
        // What may become a word with what comes next is held.
        let words = [&self.mask, &self.stop];
        let held = words.into_iter().flatten().map(|word| beginning_at_end(window, word)).max().unwrap_or(0);
        if chunk.last && is_told("lose-what-is-held") {
            let kept = &window[..window.len() - held];
            return Output { instead: self.masked(kept).or_else(|| Some(kept.to_owned())), ..consume(window.len()) };
        }
        let done = if chunk.last { window.len() } else { window.len() - held };
        Output { instead: self.masked(&window[..done]), ..consume(done) }
    }

    fn masked(&self, text: &str) -> Option<String> {
        let word = self.mask.as_ref()?;
        text.contains(word.as_str()).then(|| text.replace(word.as_str(), MASK))
    }
}

/// Bytes at the end of `window` that `word` begins with, where the word does not end there.
fn beginning_at_end(window: &str, word: &str) -> usize {
    (1..word.len())
        .rev()
        .find(|&length| word.is_char_boundary(length) && window.ends_with(&word[..length]))
        .unwrap_or(0)
}

fn consume(bytes: usize) -> Output {
    Output { consume: u32::try_from(bytes).unwrap_or(u32::MAX), instead: None, stop: None, notes: Vec::new() }
}
