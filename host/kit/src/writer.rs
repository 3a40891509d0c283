//! What a model writes that would like to write a text, where a plugin controls its tokens: the stand-in for the engine's part.

use inference::{Finish, PipelineError, SpecialTokens, Steer, Token, Vocabulary};

use crate::limits::TOKENS_BEYOND_MAX;
use crate::stand_in;

/// A model that would like to write a text and then end. Where it must not, it takes the first token that it may, from the space
/// on, and goes on with what it would have liked next.
pub(crate) struct Writer<'a> {
    vocabulary: &'a dyn Vocabulary,
    wanted: std::vec::IntoIter<Token>,
    /// Tokens since the last step.
    untold: Vec<Token>,
    /// Tokens that may still come.
    left: usize,
    undecoded: Vec<u8>,
    /// The text so far.
    pub(crate) text: String,
    /// What was said of it, without what was said again and again.
    pub(crate) steps: Vec<Steer>,
    /// Why nothing more comes.
    pub(crate) finish: Option<Finish>,
}

impl<'a> Writer<'a> {
    /// Would like to write `text`, in `tokens_max` tokens at most.
    pub(crate) fn new(vocabulary: &'a dyn Vocabulary, text: &str, tokens_max: Option<u32>) -> Self {
        let wanted = vocabulary.tokenize(text, SpecialTokens::Literal);
        let most = wanted.len() + TOKENS_BEYOND_MAX;
        let asked = tokens_max.and_then(|tokens| usize::try_from(tokens).ok());
        let left = asked.map_or(most, |asked| asked.min(most));
        Self { wanted: wanted.into_iter(), left, text: String::new(), finish: None, ..Self::done(vocabulary, "") }
    }

    /// Wrote `text`, and nobody had a say in it.
    pub(crate) fn done(vocabulary: &'a dyn Vocabulary, text: &str) -> Self {
        Self {
            vocabulary,
            wanted: Vec::new().into_iter(),
            untold: Vec::new(),
            left: 0,
            undecoded: Vec::new(),
            text: text.to_owned(),
            steps: Vec::new(),
            finish: Some(Finish::Stop),
        }
    }

    /// Asks how it goes on, and writes what that leads to.
    pub(crate) fn go_on(
        &mut self,
        ask: impl FnOnce(&[Token]) -> Result<Steer, PipelineError>,
    ) -> Result<(), PipelineError> {
        let steer = ask(&std::mem::take(&mut self.untold))?;
        match &steer {
            Steer::Free(tokens) => (0..*tokens).take_while(|_| self.choose(|_| true)).for_each(drop),
            Steer::Only(mask) => {
                self.choose(|token| mask.contains(token));
            }
            Steer::Bias(biases) => {
                let is_banned = |token| biases.iter().any(|&(biased, delta)| biased == token && delta <= -100.0);
                self.choose(|token| !is_banned(token));
            }
            Steer::Force(tokens) => tokens.iter().take_while(|token| self.put(**token)).for_each(drop),
            Steer::Stop => self.finish = Some(Finish::Stop),
        }
        if self.steps.last() != Some(&steer) {
            self.steps.push(steer);
        }
        Ok(())
    }

    /// Writes one token; whether another may follow.
    fn choose(&mut self, is_allowed: impl Fn(Token) -> bool) -> bool {
        let liked = self.wanted.next().unwrap_or(stand_in::END_TOKEN);
        let space = u32::from(b' ');
        let others = (space..self.vocabulary.size()).chain(0..space).map(Token);
        // Only a bias can leave nothing, and then every token is as good.
        let chosen = std::iter::once(liked).chain(others).find(|token| is_allowed(*token)).unwrap_or(liked);
        self.put(chosen)
    }

    fn put(&mut self, token: Token) -> bool {
        self.left = self.left.saturating_sub(1);
        self.untold.push(token);
        if self.vocabulary.ends_generation(token) {
            self.finish = Some(Finish::Stop);
            return false;
        }
        self.vocabulary.append_piece(token, &mut self.undecoded);
        self.decode();
        if self.left == 0 {
            self.finish = Some(Finish::Length);
        }
        self.left > 0
    }

    /// Takes what is whole characters, and what can become none.
    fn decode(&mut self) {
        while let Some(chunk) = self.undecoded.utf8_chunks().next() {
            let (valid, invalid) = (chunk.valid().len(), chunk.invalid().len());
            self.text.push_str(chunk.valid());
            let is_begun = valid + invalid == self.undecoded.len() && invalid > 0 && {
                let error = std::str::from_utf8(&self.undecoded[valid..]).err();
                error.is_some_and(|error| error.error_len().is_none())
            };
            if is_begun {
                self.undecoded.drain(..valid);
                return;
            }
            if invalid > 0 {
                self.text.push(char::REPLACEMENT_CHARACTER);
            }
            self.undecoded.drain(..valid + invalid);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::steps::ExpectedStep;

    /// What comes of `liked` under these steps, the last of them again and again, and what each was told.
    fn written(liked: &str, steps: &[Steer], tokens_max: Option<u32>) -> (String, Option<Finish>, Vec<String>) {
        let model = stand_in::model(None);
        let mut writer = Writer::new(model.vocabulary(), liked, tokens_max);
        let mut told = Vec::new();
        while writer.finish.is_none() {
            let steer = steps.get(told.len()).or(steps.last()).expect("a step").clone();
            let ask = |tokens: &[Token]| {
                told.push(tokens.iter().map(|token| char::from_u32(token.0).unwrap_or('?')).collect());
                Ok(steer)
            };
            writer.go_on(ask).expect("nobody fails");
        }
        (writer.text, writer.finish, told)
    }

    fn only(tokens: &str) -> Steer {
        ExpectedStep::Only(tokens.to_owned()).steer()
    }

    #[test]
    fn it_writes_what_it_may() {
        let told = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        let text = |text: &str| text.to_owned();
        assert_eq!(written("ab", &[Steer::Free(1)], None), (text("ab"), Some(Finish::Stop), told(&["", "a", "b"])));
        assert_eq!(written("ab", &[Steer::Free(u32::MAX)], None), (text("ab"), Some(Finish::Stop), told(&[""])));
        let forced = [ExpectedStep::Force("Oh ".to_owned()).steer(), Steer::Free(9)];
        assert_eq!(written("ab", &forced, None), (text("Oh ab"), Some(Finish::Stop), told(&["", "Oh "])));
        assert_eq!(written("ab", &[only("xyz"), Steer::Stop], None), (text("x"), Some(Finish::Stop), told(&["", "x"])));
        let banned = Steer::Bias(vec![(Token(97), -100.0), (Token(98), 5.0)]);
        assert_eq!(written("ab", &[banned], None).0, " b");
        assert_eq!(written("häé", &[Steer::Free(1)], None).0, "häé");
        assert_eq!(written("ää", &[Steer::Free(1), only("é"), Steer::Free(9)], None).0, "éä");
        assert_eq!(written("ä", &[Steer::Free(1), only("a"), Steer::Free(9)], None).0, "\u{fffd}a");
    }

    #[test]
    fn what_never_lets_it_end_is_cut() {
        let (text, finish, _) = written("ab", &[only("ab")], None);
        assert_eq!((text.len(), finish), (2 + TOKENS_BEYOND_MAX, Some(Finish::Length)));
        assert_eq!(
            written("abc", &[Steer::Free(1)], Some(2)),
            ("ab".to_owned(), Some(Finish::Length), vec![String::new(), "a".to_owned()])
        );
    }
}
