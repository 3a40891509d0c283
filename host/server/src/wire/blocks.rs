//! An answer as the parts it is made of, in order: what forms have that know no `content` beside `tool_calls`.
//!
//! A part ends where the next one begins, for these forms' clients. So a call is not interrupted by text, and it does not begin
//! while a plugin still holds text from before it: that would come out behind the call, and cut in two what was said.

use inference::Delta;

/// The parts of an answer so far. The last one is open: what comes next continues it, or begins another.
#[derive(Debug, Default)]
pub(super) struct Blocks {
    parts: Vec<Block>,
    order: Order,
    /// What its turn has not come for.
    waiting: Vec<Delta>,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Order {
    #[default]
    AsItComes,
    /// This call is under way; text waits for its end.
    InCall(u32),
    /// Calls wait for text that is held, which may be until the end.
    TextFirst,
}

/// A part of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Block {
    Reasoning(String),
    Text(String),
    Call {
        id: String,
        name: String,
        arguments: String,
        /// It came to its end.
        is_whole: bool,
    },
}

/// What a delta did.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Added {
    /// The part that it is of, by place.
    pub(super) place: usize,
    /// It began that part.
    pub(super) is_new: bool,
    /// What it added to it. The beginning of a call adds nothing.
    pub(super) text: String,
}

impl Blocks {
    /// Takes more of the answer, and says what that adds to its parts: nothing where it has to wait, and more where others
    /// waited for it.
    pub(super) fn add(&mut self, delta: Delta) -> Vec<Added> {
        match (self.order, &delta) {
            (Order::AsItComes, Delta::ToolCallStart { overtakes_text: true, .. }) => {
                self.order = Order::TextFirst;
                self.wait(delta);
                Vec::new()
            }
            (Order::AsItComes, &Delta::ToolCallStart { index, .. }) => {
                self.order = Order::InCall(index);
                self.append(delta).into_iter().collect()
            }
            (Order::InCall(open), &Delta::ToolCallEnd { index }) if open == index => {
                self.order = Order::AsItComes;
                self.append(delta);
                let waiting = std::mem::take(&mut self.waiting);
                waiting.into_iter().flat_map(|delta| self.add(delta)).collect()
            }
            (Order::InCall(_), Delta::Content(_) | Delta::Reasoning(_) | Delta::ToolCallStart { .. })
            | (
                Order::TextFirst,
                Delta::Reasoning(_)
                | Delta::ToolCallStart { .. }
                | Delta::ToolArguments { .. }
                | Delta::ToolCallEnd { .. },
            ) => {
                self.wait(delta);
                Vec::new()
            }
            _ => self.append(delta).into_iter().collect(),
        }
    }

    /// The answer is at its end: what still waits has its turn.
    pub(super) fn end(&mut self) -> Vec<Added> {
        self.order = Order::AsItComes;
        let waiting = std::mem::take(&mut self.waiting);
        let in_order = waiting.into_iter().map(|mut delta| {
            if let Delta::ToolCallStart { overtakes_text, .. } = &mut delta {
                *overtakes_text = false;
            }
            delta
        });
        let mut added: Vec<Added> = in_order.flat_map(|delta| self.add(delta)).collect();
        // Said within a call that was cut short.
        let rest = std::mem::take(&mut self.waiting);
        added.extend(rest.into_iter().filter_map(|delta| self.append(delta)));
        added
    }

    pub(super) fn as_slice(&self) -> &[Block] {
        &self.parts
    }

    fn wait(&mut self, delta: Delta) {
        match (self.waiting.last_mut(), delta) {
            (Some(Delta::Content(text)), Delta::Content(more))
            | (Some(Delta::Reasoning(text)), Delta::Reasoning(more)) => text.push_str(&more),
            (Some(Delta::ToolArguments { index, text }), Delta::ToolArguments { index: same, text: more })
                if *index == same =>
            {
                text.push_str(&more);
            }
            (_, delta) => self.waiting.push(delta),
        }
    }

    /// Puts it behind what there is; `None`: it is of no part.
    fn append(&mut self, delta: Delta) -> Option<Added> {
        let before = self.parts.len();
        let (place, text) = match delta {
            Delta::Content(text) => match self.parts.last_mut() {
                Some(Block::Text(_)) => (before - 1, text),
                _ => self.begin(Block::Text(String::new()), text),
            },
            Delta::Reasoning(text) => match self.parts.last_mut() {
                Some(Block::Reasoning(_)) => (before - 1, text),
                _ => self.begin(Block::Reasoning(String::new()), text),
            },
            Delta::ToolCallStart { id, name, .. } => {
                self.begin(Block::Call { id, name, arguments: String::new(), is_whole: false }, String::new())
            }
            Delta::ToolArguments { index, text } => (self.place_of_call(index)?, text),
            Delta::ToolCallEnd { index } => {
                let place = self.place_of_call(index)?;
                if let Block::Call { is_whole, .. } = &mut self.parts[place] {
                    *is_whole = true;
                }
                return None;
            }
        };
        let (Block::Text(whole) | Block::Reasoning(whole) | Block::Call { arguments: whole, .. }) =
            &mut self.parts[place];
        whole.push_str(&text);
        Some(Added { place, is_new: self.parts.len() > before, text })
    }

    fn begin(&mut self, block: Block, text: String) -> (usize, String) {
        self.parts.push(block);
        (self.parts.len() - 1, text)
    }

    /// Where the call number `index` of the answer stands.
    fn place_of_call(&self, index: u32) -> Option<usize> {
        let calls = self.parts.iter().enumerate().filter(|(_, block)| matches!(block, Block::Call { .. }));
        calls.map(|(place, _)| place).nth(usize::try_from(index).ok()?)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn call(index: u32, overtakes_text: bool) -> Delta {
        Delta::ToolCallStart { index, id: format!("c{index}"), name: "f".to_owned(), overtakes_text }
    }

    fn argument(index: u32, text: &str) -> Delta {
        Delta::ToolArguments { index, text: text.to_owned() }
    }

    fn end(index: u32) -> Delta {
        Delta::ToolCallEnd { index }
    }

    fn said(text: &str) -> Delta {
        Delta::Content(text.to_owned())
    }

    fn thought(text: &str) -> Delta {
        Delta::Reasoning(text.to_owned())
    }

    /// The parts that deltas make, each by what it is and has.
    fn check(deltas: Vec<Delta>, expected: &[&str]) {
        let mut blocks = Blocks::default();
        let followed = follow(&mut blocks, deltas);
        let parts: Vec<String> = blocks.as_slice().iter().map(shown).collect();
        assert_eq!(parts, expected);
        let texts: Vec<&str> = expected.iter().map(|part| part.split_once(' ').expect("a kind").1).collect();
        assert_eq!(followed, texts, "who follows the additions has what the parts have");
    }

    fn shown(block: &Block) -> String {
        match block {
            Block::Reasoning(text) => format!("thinks {text}"),
            Block::Text(text) => format!("says {text}"),
            Block::Call { arguments, is_whole: true, .. } => format!("calls {arguments}"),
            Block::Call { arguments, .. } => format!("would-call {arguments}"),
        }
    }

    /// What a reader has who opens a part where one begins, and takes everything to be of the last one.
    fn follow(blocks: &mut Blocks, deltas: Vec<Delta>) -> Vec<String> {
        let mut followed = Vec::<String>::new();
        let mut read = |added: Vec<Added>| {
            for Added { place, is_new, text } in added {
                if is_new {
                    followed.push(String::new());
                }
                assert_eq!(place + 1, followed.len(), "nothing comes to a part that is over");
                followed[place].push_str(&text);
            }
        };
        for delta in deltas {
            read(blocks.add(delta));
        }
        read(blocks.end());
        followed
    }

    #[test]
    fn what_belongs_together_is_one_part() {
        check(
            vec![
                thought("h"),
                thought("m"),
                said("I"),
                call(0, false),
                argument(0, "{\"a\""),
                argument(0, ":1}"),
                end(0),
                call(1, false),
                argument(1, "{}"),
                end(1),
                said("!"),
            ],
            &["thinks hm", "says I", "calls {\"a\":1}", "calls {}", "says !"],
        );
    }

    #[test]
    fn text_does_not_interrupt_a_call() {
        check(
            vec![call(0, false), argument(0, "{"), said("me"), thought("?"), said("an"), argument(0, "}"), end(0)],
            &["calls {}", "says me", "thinks ?", "says an"],
        );
        // Nor one that is cut short.
        check(vec![call(0, false), said("a"), argument(0, "{")], &["would-call {", "says a"]);
    }

    #[test]
    fn a_call_does_not_overtake_text() {
        check(
            vec![
                said("to "),
                call(0, true),
                argument(0, "{"),
                argument(0, "}"),
                end(0),
                call(1, false),
                end(1),
                said("j"),
                said("oe"),
            ],
            &["says to joe", "calls {}", "calls "],
        );
        check(
            vec![call(0, true), thought("hm"), argument(0, "{"), said("joe")],
            &["says joe", "would-call {", "thinks hm"],
        );
    }

    #[test]
    fn what_is_of_no_part_is_nothing() {
        assert_eq!(Blocks::default().add(argument(2, "nobody's")), []);
        assert_eq!(Blocks::default().add(end(0)), []);
    }

    fn delta() -> impl Strategy<Value = Delta> {
        prop_oneof![
            "[ab]{1,3}".prop_map(Delta::Content),
            "[cd]{1,3}".prop_map(Delta::Reasoning),
            Just(call(0, false)),
            Just(call(0, true)),
            "[ef]{1,3}".prop_map(|text| argument(0, &text)),
            Just(end(0)),
        ]
    }

    /// Deltas as a pipeline makes them: calls by number, none inside another.
    fn answer() -> impl Strategy<Value = Vec<Delta>> {
        prop::collection::vec(delta(), 0..40).prop_map(|deltas| {
            let (mut begun, mut open) = (0, None);
            let numbered = deltas.into_iter().filter_map(|mut delta| {
                match &mut delta {
                    Delta::ToolCallStart { index, .. } => {
                        if open.is_some() {
                            return None;
                        }
                        *index = begun;
                        open = Some(begun);
                        begun += 1;
                    }
                    Delta::ToolArguments { index, .. } => *index = open?,
                    Delta::ToolCallEnd { index } => *index = open.take()?,
                    Delta::Content(_) | Delta::Reasoning(_) => {}
                }
                Some(delta)
            });
            numbered.collect()
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]
        /// Who follows the additions has what the parts have, and all that was said is there.
        #[test]
        fn additions_make_up_the_parts(deltas in answer()) {
            let texts = |kind: fn(&Delta) -> Option<&str>| deltas.iter().filter_map(kind).collect::<String>();
            let said = texts(|delta| if let Delta::Content(text) = delta { Some(text) } else { None });
            let thought = texts(|delta| if let Delta::Reasoning(text) = delta { Some(text) } else { None });
            let arguments = texts(|delta| if let Delta::ToolArguments { text, .. } = delta { Some(text) } else { None });
            let mut blocks = Blocks::default();
            let followed = follow(&mut blocks, deltas);
            let (mut parts, mut whole) = (Vec::new(), [String::new(), String::new(), String::new()]);
            for block in blocks.as_slice() {
                let (kind, text) = match block {
                    Block::Text(text) => (0, text),
                    Block::Reasoning(text) => (1, text),
                    Block::Call { arguments, .. } => (2, arguments),
                };
                whole[kind].push_str(text);
                parts.push(text.clone());
            }
            prop_assert_eq!(parts, followed);
            prop_assert_eq!(whole, [said, thought, arguments]);
        }
    }
}
