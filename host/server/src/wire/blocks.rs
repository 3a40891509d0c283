//! An answer as the parts it is made of, in order: what forms have that know no `content` beside `tool_calls`.

use inference::Delta;

/// The parts of an answer so far. The last one is open: what comes next continues it, or begins another.
#[derive(Debug, Default)]
pub(super) struct Blocks(Vec<Block>);

/// A part of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Block {
    Reasoning(String),
    Text(String),
    Call { id: String, name: String, arguments: String },
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
    /// Takes more of the answer; `None`: it is of no part that there is.
    pub(super) fn add(&mut self, delta: Delta) -> Option<Added> {
        let before = self.0.len();
        let (place, text) = match delta {
            Delta::Content(text) => match self.0.last_mut() {
                Some(Block::Text(_)) => (before - 1, text),
                _ => self.begin(Block::Text(String::new()), text),
            },
            Delta::Reasoning(text) => match self.0.last_mut() {
                Some(Block::Reasoning(_)) => (before - 1, text),
                _ => self.begin(Block::Reasoning(String::new()), text),
            },
            Delta::ToolCallStart { id, name, .. } => {
                self.begin(Block::Call { id, name, arguments: String::new() }, String::new())
            }
            Delta::ToolArguments { index, text } => (self.place_of_call(index)?, text),
        };
        let (Block::Text(whole) | Block::Reasoning(whole) | Block::Call { arguments: whole, .. }) = &mut self.0[place];
        whole.push_str(&text);
        Some(Added { place, is_new: self.0.len() > before, text })
    }

    pub(super) fn as_slice(&self) -> &[Block] {
        &self.0
    }

    fn begin(&mut self, block: Block, text: String) -> (usize, String) {
        self.0.push(block);
        (self.0.len() - 1, text)
    }

    /// Where the call number `index` of the answer stands.
    fn place_of_call(&self, index: u32) -> Option<usize> {
        let calls = self.0.iter().enumerate().filter(|(_, block)| matches!(block, Block::Call { .. }));
        calls.map(|(place, _)| place).nth(usize::try_from(index).ok()?)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn call(number: u32) -> Delta {
        Delta::ToolCallStart { index: number, id: format!("c{number}"), name: "f".to_owned() }
    }

    fn argument(index: u32, text: &str) -> Delta {
        Delta::ToolArguments { index, text: text.to_owned() }
    }

    #[test]
    fn what_belongs_together_is_one_part() {
        let mut blocks = Blocks::default();
        let mut add = |delta| blocks.add(delta).map(|added| (added.place, added.is_new));
        assert_eq!(add(Delta::Reasoning("h".to_owned())), Some((0, true)));
        assert_eq!(add(Delta::Reasoning("m".to_owned())), Some((0, false)));
        assert_eq!(add(Delta::Content("I".to_owned())), Some((1, true)));
        assert_eq!(add(call(0)), Some((2, true)));
        assert_eq!(add(call(1)), Some((3, true)));
        assert_eq!(add(argument(1, "{}")), Some((3, false)));
        assert_eq!(add(argument(0, "{\"a\":1}")), Some((2, false)));
        assert_eq!(add(argument(2, "nobody's")), None);
        assert_eq!(add(Delta::Content("!".to_owned())), Some((4, true)));
        let of = |id: &str, arguments: &str| Block::Call {
            id: id.to_owned(),
            name: "f".to_owned(),
            arguments: arguments.to_owned(),
        };
        let text = |text: &str| Block::Text(text.to_owned());
        let expected = [Block::Reasoning("hm".to_owned()), text("I"), of("c0", "{\"a\":1}"), of("c1", "{}"), text("!")];
        assert_eq!(blocks.as_slice(), expected);
    }

    fn delta() -> impl Strategy<Value = Delta> {
        prop_oneof![
            "[ab]{1,3}".prop_map(Delta::Content),
            "[cd]{1,3}".prop_map(Delta::Reasoning),
            (0..4_u32).prop_map(call),
            (0..4_u32, "[ef]{1,3}").prop_map(|(index, text)| argument(index, &text)),
        ]
    }

    proptest! {
        /// Who follows the additions has what the parts have.
        #[test]
        fn additions_make_up_the_parts(deltas in prop::collection::vec(delta(), 0..40)) {
            let (mut blocks, mut followed) = (Blocks::default(), Vec::<String>::new());
            for delta in deltas {
                let Some(Added { place, is_new, text }) = blocks.add(delta) else { continue };
                if is_new {
                    prop_assert_eq!(place, followed.len());
                    followed.push(String::new());
                }
                followed[place].push_str(&text);
            }
            let parts: Vec<String> = blocks.as_slice().iter().map(|block| {
                let (Block::Text(text) | Block::Reasoning(text) | Block::Call { arguments: text, .. }) = block;
                text.clone()
            }).collect();
            prop_assert_eq!(parts, followed);
        }
    }
}
