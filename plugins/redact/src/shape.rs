//! Shapes of the operator's own: a fixed number of characters, some of them free.

use outrigger_plugin::lower_case;

use crate::config::ShapeConfig;
use crate::limits::SHAPE_CHARACTERS_MAX;
use crate::place::{Place, Verdict, goes_on};

/// A shape, ready to be looked for.
#[derive(Debug)]
pub(crate) struct Shape {
    pub(crate) kind: String,
    signs: Vec<Sign>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sign {
    Digit,
    Letter,
    Either,
    /// This character, in lower case.
    Itself(char),
}

impl Shape {
    /// Reads a shape; the error says what is wrong with it.
    pub(crate) fn parse(config: &ShapeConfig) -> Result<Self, String> {
        let mut signs = Vec::new();
        let mut characters = config.shape.chars();
        while let Some(character) = characters.next() {
            signs.push(match character {
                '#' => Sign::Digit,
                '@' => Sign::Letter,
                '*' => Sign::Either,
                '\\' => match characters.next() {
                    Some(next @ ('#' | '@' | '*' | '\\')) => Sign::Itself(next),
                    _ => return Err(format!("shape `{}`: `\\` may stand before #, @, * and \\ only", config.shape)),
                },
                other => Sign::Itself(lower_case(other)),
            });
        }
        if signs.is_empty() || signs.len() > SHAPE_CHARACTERS_MAX {
            return Err(format!(
                "shape `{}` has {} characters; it may have 1 to {SHAPE_CHARACTERS_MAX}",
                config.shape,
                signs.len()
            ));
        }
        Ok(Self { kind: config.kind.clone(), signs })
    }

    /// Whether the shape stands here, as a word of its own where it begins or ends like one.
    pub(crate) fn find(&self, place: &Place<'_>) -> Verdict {
        if self.signs[0].is_of_words() && !place.begins_word() {
            return Verdict::No;
        }
        let mut characters = place.rest.char_indices();
        for sign in &self.signs {
            match characters.next() {
                None => return place.undecided(),
                Some((_, character)) if sign.is(character) => {}
                Some(_) => return Verdict::No,
            }
        }
        let ends_word = self.signs.last().is_some_and(|sign| sign.is_of_words());
        match characters.next() {
            Some((_, next)) if ends_word && goes_on(next) => Verdict::No,
            Some((length, _)) => Verdict::whole(length),
            None if ends_word && !place.last => Verdict::More,
            None => Verdict::whole(place.rest.len()),
        }
    }
}

impl Sign {
    fn is(self, character: char) -> bool {
        match self {
            Self::Digit => character.is_ascii_digit(),
            Self::Letter => character.is_alphabetic(),
            Self::Either => character.is_alphanumeric(),
            Self::Itself(own) => lower_case(character) == own,
        }
    }

    fn is_of_words(self) -> bool {
        match self {
            Self::Digit | Self::Letter | Self::Either => true,
            Self::Itself(own) => goes_on(own),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(shape: &str, rest: &str, last: bool, expected: Verdict) {
        let shape = Shape::parse(&ShapeConfig { kind: "own".to_owned(), shape: shape.to_owned() }).unwrap();
        assert_eq!(shape.find(&Place { rest, before: None, before_that: None, last }), expected, "{rest:?}");
    }

    #[test]
    fn shapes_are_words_of_their_own() {
        check("EMP-####", "emp-1234 is", false, Verdict::whole(8));
        check("EMP-####", "EMP-12345", true, Verdict::No);
        check("EMP-####", "EMP-123", false, Verdict::More);
        check("EMP-####", "EMP-1234", false, Verdict::More);
        check("EMP-####", "EMP-1234", true, Verdict::whole(8));
    }

    #[test]
    fn signs_can_stand_for_themselves() {
        check(r"\#@*!", "#é7!", false, Verdict::whole(5));
    }

    #[test]
    fn what_is_no_shape_is_refused() {
        for shape in ["", r"a\b", &"#".repeat(SHAPE_CHARACTERS_MAX + 1)] {
            Shape::parse(&ShapeConfig { kind: "own".to_owned(), shape: shape.to_owned() }).unwrap_err();
        }
    }
}
