//! What the model's text means: reasoning between `<think>` and `</think>` at the start of the answer, content else.

use outrigger_plugin::{Found, MatchWindow};

/// A part of the answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Text of the answer.
    Content(String),
    /// What the model thought before it answered.
    Reasoning(String),
}

const OPEN: &str = "<think>";
const CLOSE: &str = "</think>";

/// Reads one choice of a reply. The events, joined, are the same however the text is cut into pieces.
#[derive(Debug)]
pub struct Parser {
    state: State,
    /// Not decided yet: less than a tag, and whitespace around it.
    held: String,
    close: MatchWindow,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Nothing but whitespace and perhaps the beginning of `<think>` so far.
    Start,
    /// Behind `<think>`, before the first character of a thought.
    Opened,
    Reasoning,
    /// Behind `</think>`, before the first character of the answer.
    Closed,
    Content,
}

impl Parser {
    /// A parser for an answer that already starts with `prefix`, which the prompt holds.
    #[must_use]
    pub fn new(prefix: &str) -> Self {
        let mut parser = Self { state: State::Start, held: String::new(), close: MatchWindow::new([CLOSE]) };
        if prefix.trim_start().starts_with(OPEN) {
            parser.push(prefix, false);
        }
        parser
    }

    /// Takes more text; with `last` set, everything that was held comes out.
    pub fn push(&mut self, text: &str, last: bool) -> Vec<Event> {
        self.held.push_str(text);
        let mut events = Vec::new();
        while self.advance(last, &mut events) {}
        events
    }

    /// Decides as much as can be decided in the present state; true when the state changed.
    fn advance(&mut self, last: bool, events: &mut Vec<Event>) -> bool {
        let before = self.state;
        match self.state {
            State::Start => {
                let said = self.held.trim_start();
                if let Some(thought) = said.strip_prefix(OPEN) {
                    self.held = thought.to_owned();
                    self.state = State::Opened;
                } else if last || !OPEN.starts_with(said) {
                    self.state = State::Content;
                }
            }
            State::Opened => self.skip_whitespace(State::Reasoning),
            State::Reasoning => match self.close.find(&self.held, last) {
                Found::Match { place, .. } => {
                    let thought = self.held[..place.start].trim_end();
                    if !thought.is_empty() {
                        events.push(Event::Reasoning(thought.to_owned()));
                    }
                    self.held.drain(..place.end);
                    self.state = State::Closed;
                }
                Found::Nothing { free } => {
                    // Whitespace before `</think>` is no thought; only more text shows whether it is one.
                    let thought = self.held[..free].trim_end().len();
                    if thought > 0 {
                        events.push(Event::Reasoning(self.held.drain(..thought).collect()));
                    }
                }
            },
            State::Closed => self.skip_whitespace(State::Content),
            State::Content => {
                if !self.held.is_empty() {
                    events.push(Event::Content(std::mem::take(&mut self.held)));
                }
            }
        }
        self.state != before
    }

    fn skip_whitespace(&mut self, next: State) {
        let rest = self.held.trim_start();
        if rest.is_empty() {
            self.held.clear();
        } else {
            self.held = rest.to_owned();
            self.state = next;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Reasoning and content of an answer that comes in `pieces`.
    fn read(prefix: &str, pieces: &[&str]) -> (String, String) {
        let mut parser = Parser::new(prefix);
        let (mut reasoning, mut content) = (String::new(), String::new());
        for (number, piece) in pieces.iter().enumerate() {
            for event in parser.push(piece, number + 1 == pieces.len()) {
                match event {
                    Event::Reasoning(text) => reasoning.push_str(&text),
                    Event::Content(text) => content.push_str(&text),
                }
            }
        }
        (reasoning, content)
    }

    #[track_caller]
    fn check(prefix: &str, answer: &str, reasoning: &str, content: &str) {
        assert_eq!(read(prefix, &[answer]), (reasoning.to_owned(), content.to_owned()));
    }

    #[test]
    fn an_answer_without_thoughts_is_content() {
        check("", "Hello <think>no</think>", "", "Hello <think>no</think>");
        check("", "  <b>", "", "  <b>");
        check("", "", "", "");
        check("", " <thi", "", " <thi");
    }

    #[test]
    fn thoughts_at_the_start_are_reasoning() {
        check("", "<think>\nTwo and two.\n</think>\n\nFour.", "Two and two.", "Four.");
        check("", "\n<think></think>Four.\n", "", "Four.\n");
        check("", "<think>a\n\nb", "a\n\nb", "");
    }

    #[test]
    fn a_prompt_may_have_opened_the_thoughts() {
        check("<think>\n", "Two and two.\n</think>\nFour.", "Two and two.", "Four.");
        check("The answer: ", "four.", "", "four.");
    }

    #[test]
    fn text_goes_out_as_soon_as_it_is_known_what_it_is() {
        let mut parser = Parser::new("");
        assert_eq!(parser.push("<th", false), []);
        assert_eq!(parser.push("e>", false), [Event::Content("<the>".to_owned())]);
        let mut parser = Parser::new("<think>");
        assert_eq!(parser.push("so </thi", false), [Event::Reasoning("so".to_owned())]);
        assert_eq!(parser.push("s", false), [Event::Reasoning(" </this".to_owned())]);
    }

    proptest! {
        #[test]
        fn every_chunking_reads_the_same(
            answer in "(\n?<think>)?([ab\n]|</?think>|<){0,12}",
            prefix in prop_oneof![Just(""), Just("<think>\n")],
            cuts in proptest::collection::vec(any::<proptest::sample::Index>(), 0..6),
        ) {
            let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(answer.len() + 1)).collect();
            cuts.sort_unstable();
            let mut pieces = Vec::new();
            let mut start = 0;
            for end in cuts.into_iter().chain([answer.len()]) {
                pieces.push(&answer[start..end]);
                start = end;
            }
            prop_assert_eq!(read(prefix, &pieces), read(prefix, &[&answer]));
        }
    }
}
