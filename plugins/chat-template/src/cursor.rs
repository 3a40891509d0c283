//! Reading the beginning of text that may go on: every question has three answers.

use crate::limits::NAME_BYTES_MAX;
use crate::scan::{Scan, Stop};

/// Why nothing was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Not {
    /// More text decides.
    Yet,
    /// It is something else, whatever follows.
    This,
}

pub(crate) type Read<T> = Result<T, Not>;

/// A place in text that may go on. What it reads depends on the text alone and not on how much of it has come, so that
/// asking again with more text never changes an answer that was given.
pub(crate) struct Cursor<'a> {
    text: &'a str,
    at: usize,
    /// Nothing more will come.
    last: bool,
}

impl<'a> Cursor<'a> {
    pub(crate) fn new(text: &'a str, at: usize, last: bool) -> Self {
        Self { text, at, last }
    }

    /// Bytes that were read, those before the start included.
    pub(crate) fn at(&self) -> usize {
        self.at
    }

    /// Goes back to where [`Cursor::at`] was.
    pub(crate) fn back(&mut self, at: usize) {
        self.at = at;
    }

    /// Goes on by so many bytes of [`Cursor::rest`].
    pub(crate) fn skip(&mut self, length: usize) {
        self.at += length;
    }

    /// Whether nothing comes behind [`Cursor::rest`].
    pub(crate) fn is_last(&self) -> bool {
        self.last
    }

    pub(crate) fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn end<T>(&self) -> Read<T> {
        Err(if self.last { Not::This } else { Not::Yet })
    }

    /// The next character, which stays.
    pub(crate) fn peek(&self) -> Read<char> {
        self.rest().chars().next().map_or_else(|| self.end(), Ok)
    }

    /// White space, as much as there is, and what follows has to be there to know.
    pub(crate) fn space(&mut self) -> Read<()> {
        self.at = self.text.len() - self.rest().trim_ascii_start().len();
        if self.rest().is_empty() && !self.last { Err(Not::Yet) } else { Ok(()) }
    }

    pub(crate) fn literal(&mut self, literal: &str) -> Read<()> {
        self.one_of(&[literal]).map(drop)
    }

    /// The first of `literals` that stands here, by its number. None is the beginning of another one.
    pub(crate) fn one_of(&mut self, literals: &[&str]) -> Read<usize> {
        let rest = self.rest();
        if let Some(which) = literals.iter().position(|literal| rest.starts_with(literal)) {
            self.at += literals[which].len();
            return Ok(which);
        }
        if literals.iter().any(|literal| literal.starts_with(rest)) { self.end() } else { Err(Not::This) }
    }

    /// A name up to `end`, which is read too. It has none of `never`, and at most so many bytes that a text without an end is
    /// not looked at over and over.
    pub(crate) fn name(&mut self, end: &str, never: &[char]) -> Read<&'a str> {
        let rest = self.rest();
        let near = &rest[..rest.floor_char_boundary(NAME_BYTES_MAX + end.len())];
        let found = near.find(end);
        let before = &near[..found.unwrap_or(near.len())];
        if before.contains(never) || (found.is_none() && near.len() < rest.len()) {
            return Err(Not::This);
        }
        let Some(length) = found else { return self.end() };
        self.at += length + end.len();
        Ok(before)
    }

    /// A run of characters that names of functions have; what follows has to be there to know.
    pub(crate) fn word(&mut self) -> Read<&'a str> {
        let rest = self.rest();
        let is_word = |character: char| character.is_ascii_alphanumeric() || matches!(character, '_' | '-');
        let length = rest.find(|character| !is_word(character)).unwrap_or(rest.len());
        if length == rest.len() && !self.last {
            return Err(Not::Yet);
        }
        self.at += length;
        Ok(&rest[..length])
    }

    /// A JSON value, as it stands.
    pub(crate) fn value(&mut self) -> Read<&'a str> {
        let rest = self.rest();
        match Scan::new().read(rest) {
            (length, Stop::Ended) => {
                self.at += length;
                Ok(&rest[..length])
            }
            (_, Stop::More) => self.end(),
            (_, Stop::Broken | Stop::Control) => Err(Not::This),
        }
    }

    /// What a JSON string says.
    pub(crate) fn string(&mut self) -> Read<String> {
        if self.peek()? != '"' {
            return Err(Not::This);
        }
        serde_json::from_str(self.value()?).map_err(|_| Not::This)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_waits_for_the_text_that_decides() {
        let read = |text, last| Cursor::new(text, 0, last).one_of(&["</a>", "<b>"]);
        assert_eq!(read("<", false), Err(Not::Yet));
        assert_eq!(read("<", true), Err(Not::This));
        assert_eq!(read("<b>", false), Ok(1));
        assert_eq!(read("<c", false), Err(Not::This));
        assert_eq!(Cursor::new(" \n", 0, false).space(), Err(Not::Yet));
        assert_eq!(Cursor::new("ab", 0, false).word(), Err(Not::Yet));
        assert_eq!(Cursor::new("ab ", 0, false).word(), Ok("ab"));
        assert_eq!(Cursor::new("\"a\\", 0, false).string(), Err(Not::Yet));
        assert_eq!(Cursor::new("\"a\\n\"", 0, false).string(), Ok("a\n".to_owned()));
        assert_eq!(Cursor::new("a>b", 0, false).name(">", &['\n']), Ok("a"));
        assert_eq!(Cursor::new("a\nb", 0, false).name(">", &['\n']), Err(Not::This));
        let long = "x".repeat(NAME_BYTES_MAX);
        assert_eq!(Cursor::new(&format!("{long}>"), 0, false).name(">", &[]), Ok(long.as_str()));
        assert_eq!(Cursor::new(&long, 0, false).name(">", &[]), Err(Not::Yet));
        assert_eq!(Cursor::new(&format!("{long}é"), 0, false).name(">", &[]), Err(Not::This));
    }
}
