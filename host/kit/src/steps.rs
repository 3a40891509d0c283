//! The steps of a plugin that controls tokens: what a case expects of them, and how they are shown.

use std::collections::BTreeMap;
use std::sync::Arc;

use inference::{Steer, Token, TokenMask, Vocabulary};
use serde::Deserialize;

use crate::stand_in;

/// What a case expects of a step. Texts are the tokens of the stand-in: a byte each, and its control tokens as they are spelled.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ExpectedStep {
    /// As the model likes, for any number of tokens.
    Free,
    /// As the model likes, for so many.
    FreeFor(u32),
    /// One of these, and each of these.
    Only(String),
    /// All but these.
    Not(String),
    /// These are added to the logits of these tokens.
    Bias(BTreeMap<String, f32>),
    /// These follow.
    Force(String),
    /// The answer is whole.
    Stop,
}

impl ExpectedStep {
    /// Why nothing can be as expected.
    pub(crate) fn check(&self) -> Result<(), String> {
        let is_empty = match self {
            Self::Only(tokens) | Self::Not(tokens) | Self::Force(tokens) => tokens.is_empty(),
            Self::Bias(biases) => biases.is_empty(),
            Self::FreeFor(_) | Self::Free | Self::Stop => false,
        };
        if is_empty {
            return Err("names no token".to_owned());
        }
        let Self::Bias(biases) = self else { return Ok(()) };
        match biases.keys().find(|text| stand_in::tokens(text).len() != 1) {
            Some(text) => {
                Err(format!("has a bias of {text:?}, which is not one token; the stand-in's are single bytes"))
            }
            None => Ok(()),
        }
    }

    /// As a plugin would say it.
    pub(crate) fn steer(&self) -> Steer {
        let mask = |text: &str, is_only: bool| {
            let named = stand_in::tokens(text);
            let mut words = vec![0_u32; stand_in::TOKENS.div_ceil(u32::BITS) as usize];
            for token in (0..stand_in::TOKENS).filter(|token| named.contains(&Token(*token)) == is_only) {
                words[(token / u32::BITS) as usize] |= 1 << (token % u32::BITS);
            }
            Steer::Only(Arc::new(TokenMask::from_words(words)))
        };
        match self {
            Self::Free => Steer::Free(1),
            Self::FreeFor(tokens) => Steer::Free(*tokens),
            Self::Only(text) => mask(text, true),
            Self::Not(text) => mask(text, false),
            Self::Bias(biases) => {
                let tokens = biases
                    .iter()
                    .flat_map(|(text, delta)| stand_in::tokens(text).into_iter().map(move |token| (token, *delta)));
                Steer::Bias(tokens.collect())
            }
            Self::Force(text) => Steer::Force(stand_in::tokens(text)),
            Self::Stop => Steer::Stop,
        }
    }

    /// Whether a plugin said so.
    pub(crate) fn is(&self, said: &Steer) -> bool {
        match (self.steer(), said) {
            (Steer::Free(_), Steer::Free(_)) if *self == Self::Free => true,
            (Steer::Bias(one), Steer::Bias(other)) => {
                let sorted = |biases: &[(Token, f32)]| {
                    let mut biases = biases.to_vec();
                    biases.sort_by_key(|(token, _)| token.0);
                    biases
                };
                sorted(&one) == sorted(other)
            }
            (expected, said) => expected == *said,
        }
    }
}

/// A step in a line, with `most` of its tokens named.
pub(crate) fn line(steer: &Steer, vocabulary: &dyn Vocabulary, most: usize) -> String {
    let spelled = |token: Token| {
        let mut bytes = Vec::new();
        vocabulary.append_piece(token, &mut bytes);
        String::from_utf8(bytes)
            .map_or_else(|error| error.as_bytes().escape_ascii().to_string(), |text| format!("{text:?}"))
    };
    let list = |tokens: &[Token]| tokens.iter().map(|token| spelled(*token)).collect::<Vec<_>>().join(" ");
    let named = |what: &str, tokens: &[Token]| match tokens.len().checked_sub(most).filter(|more| *more > 0) {
        None => format!("{what} {}", list(tokens)),
        Some(more) => format!("{what} {} and {more} more", list(&tokens[..most])),
    };
    match steer {
        Steer::Free(1) => "free".to_owned(),
        Steer::Free(u32::MAX) => "free from here on".to_owned(),
        Steer::Free(tokens) => format!("free for {tokens}"),
        Steer::Only(mask) => {
            let (allowed, others): (Vec<Token>, Vec<Token>) =
                (0..vocabulary.size()).map(Token).partition(|token| mask.contains(*token));
            if allowed.len() <= others.len() { named("only", &allowed) } else { named("not", &others) }
        }
        Steer::Bias(biases) => {
            let shown = biases.iter().take(most).map(|(token, delta)| format!(" {} {delta:+}", spelled(*token)));
            let more = biases.len().saturating_sub(most);
            let more = if more > 0 { format!(" and {more} more") } else { String::new() };
            format!("bias{}{more}", shown.collect::<String>())
        }
        Steer::Force(tokens) => {
            let mut bytes = Vec::new();
            for token in tokens {
                vocabulary.append_piece(*token, &mut bytes);
            }
            format!("force {:?}", String::from_utf8_lossy(&bytes))
        }
        Steer::Stop => "stop".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_is_what_was_meant() {
        let step = |text: &str| toml::from_str::<BTreeMap<String, ExpectedStep>>(text).expect(text)["it"].clone();
        let model = stand_in::model(None);
        let check = |written: &str, said: &Steer, shown: &str| {
            assert!(step(written).is(said), "{written}");
            assert_eq!(line(said, model.vocabulary(), 3), shown);
        };
        check("it = 'free'", &Steer::Free(1), "free");
        check("it = 'free'", &Steer::Free(u32::MAX), "free from here on");
        check("it = { free-for = 3 }", &Steer::Free(3), "free for 3");
        check("it = 'stop'", &Steer::Stop, "stop");
        check(
            "it = { force = 'Hi<|im_end|>' }",
            &Steer::Force([72, 105, 257].map(Token).to_vec()),
            "force \"Hi<|im_end|>\"",
        );
        let biases = [(Token(98), -100.0), (Token(97), 2.5)];
        check("it = { bias = { a = 2.5, b = -100.0 } }", &Steer::Bias(biases.to_vec()), "bias \"b\" -100 \"a\" +2.5");
        let only = |written: &str| step(written).steer();
        check("it = { only = 'ba' }", &only("it = { only = 'ab' }"), "only \"a\" \"b\"");
        check("it = { only = 'edcba' }", &only("it = { only = 'abcde' }"), "only \"a\" \"b\" \"c\" and 2 more");
        check("it = { not = 'ä' }", &only("it = { not = 'ä' }"), "not \\xa4 \\xc3");
        assert!(!step("it = { free-for = 3 }").is(&Steer::Free(4)) && !step("it = { only = 'a' }").is(&Steer::Stop));
        for nothing in ["it = { only = '' }", "it = { bias = {} }", "it = { bias = { ab = 1.0 } }"] {
            step(nothing).check().expect_err(nothing);
        }
    }
}
