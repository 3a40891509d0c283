//! Whether a text may still become JSON, byte by byte: what is sent is never looked at again.

use crate::limits::DEPTH_MAX;

/// How far a JSON text has come.
#[derive(Debug, Clone)]
pub struct Syntax {
    /// For each array or object that is open whether it is an object.
    open: Vec<bool>,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// A value has to come; in an array that has just begun its end may come too.
    Value {
        or_end: bool,
    },
    /// A member's name has to come; in an object that has just begun its end may come too.
    Name {
        or_end: bool,
    },
    Colon,
    /// A value is complete: a comma or an end, or nothing at all.
    After,
    Text {
        is_name: bool,
        escape: Escape,
    },
    Number(Number),
    /// What is left of `true`, `false` or `null`.
    Word(&'static [u8]),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Escape {
    No,
    Begun,
    Digits(u8),
}

/// Where in a number we are; named for what was read last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Number {
    Minus,
    Zero,
    Whole,
    Dot,
    Fraction,
    E,
    Sign,
    Exponent,
}

impl Default for Syntax {
    fn default() -> Self {
        Self { open: Vec::new(), state: State::Value { or_end: false } }
    }
}

impl Syntax {
    /// Reads more of the text. `Err` is the offset in `text` of the first byte with which it cannot be JSON any more.
    pub fn read(&mut self, text: &str) -> Result<(), usize> {
        for (at, byte) in text.bytes().enumerate() {
            self.state = self.next(byte).ok_or(at)?;
        }
        Ok(())
    }

    /// Whether what was read is a whole JSON text.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.open.is_empty()
            && match self.state {
                State::After => true,
                State::Number(number) => number.may_end(),
                _ => false,
            }
    }

    fn next(&mut self, byte: u8) -> Option<State> {
        match self.state {
            State::Text { is_name, escape } => text(is_name, escape, byte),
            State::Word([next, rest @ ..]) => {
                (*next == byte).then_some(if rest.is_empty() { State::After } else { State::Word(rest) })
            }
            State::Word([]) => None,
            State::Number(number) => match number.next(byte) {
                Some(number) => Some(State::Number(number)),
                None if number.may_end() => self.after(byte),
                None => None,
            },
            _ if matches!(byte, b' ' | b'\t' | b'\n' | b'\r') => Some(self.state),
            State::Value { or_end } => match byte {
                b']' if or_end => self.close(false),
                _ => self.value(byte),
            },
            State::Name { or_end } => match byte {
                b'"' => Some(State::Text { is_name: true, escape: Escape::No }),
                b'}' if or_end => self.close(true),
                _ => None,
            },
            State::Colon => (byte == b':').then_some(State::Value { or_end: false }),
            State::After => self.after(byte),
        }
    }

    fn value(&mut self, byte: u8) -> Option<State> {
        Some(match byte {
            b'"' => State::Text { is_name: false, escape: Escape::No },
            b'{' | b'[' if self.open.len() < DEPTH_MAX => {
                self.open.push(byte == b'{');
                if byte == b'{' { State::Name { or_end: true } } else { State::Value { or_end: true } }
            }
            b't' => State::Word(b"rue"),
            b'f' => State::Word(b"alse"),
            b'n' => State::Word(b"ull"),
            b'-' => State::Number(Number::Minus),
            b'0' => State::Number(Number::Zero),
            b'1'..=b'9' => State::Number(Number::Whole),
            _ => return None,
        })
    }

    fn after(&mut self, byte: u8) -> Option<State> {
        match (byte, self.open.last()) {
            (b' ' | b'\t' | b'\n' | b'\r', _) => Some(State::After),
            (b',', Some(true)) => Some(State::Name { or_end: false }),
            (b',', Some(false)) => Some(State::Value { or_end: false }),
            (b'}', Some(true)) => self.close(true),
            (b']', Some(false)) => self.close(false),
            _ => None,
        }
    }

    fn close(&mut self, object: bool) -> Option<State> {
        (self.open.pop() == Some(object)).then_some(State::After)
    }
}

fn text(is_name: bool, escape: Escape, byte: u8) -> Option<State> {
    let escape = match (escape, byte) {
        (Escape::No, b'"') => return Some(if is_name { State::Colon } else { State::After }),
        (Escape::No, b'\\') => Escape::Begun,
        (Escape::No, 0..0x20) => return None,
        (Escape::Begun, b'u') => Escape::Digits(4),
        (Escape::No, _) | (Escape::Begun, b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => Escape::No,
        (Escape::Digits(left), _) if byte.is_ascii_hexdigit() => {
            if left == 1 {
                Escape::No
            } else {
                Escape::Digits(left - 1)
            }
        }
        (Escape::Begun | Escape::Digits(_), _) => return None,
    };
    Some(State::Text { is_name, escape })
}

impl Number {
    fn next(self, byte: u8) -> Option<Self> {
        Some(match (self, byte) {
            (Self::Minus, b'0') => Self::Zero,
            (Self::Minus, b'1'..=b'9') | (Self::Whole, b'0'..=b'9') => Self::Whole,
            (Self::Zero | Self::Whole, b'.') => Self::Dot,
            (Self::Dot | Self::Fraction, b'0'..=b'9') => Self::Fraction,
            (Self::Zero | Self::Whole | Self::Fraction, b'e' | b'E') => Self::E,
            (Self::E, b'+' | b'-') => Self::Sign,
            (Self::E | Self::Sign | Self::Exponent, b'0'..=b'9') => Self::Exponent,
            _ => return None,
        })
    }

    fn may_end(self) -> bool {
        matches!(self, Self::Zero | Self::Whole | Self::Fraction | Self::Exponent)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::error::Category;

    use super::*;

    fn check(text: &str, expected: Result<bool, usize>) {
        let mut syntax = Syntax::default();
        assert_eq!(syntax.read(text).map(|()| syntax.is_complete()), expected, "{text:?}");
    }

    #[test]
    fn it_ends_where_it_cannot_be_json_any_more() {
        check(r#" {"a": [1, -0.5e+3, "é\u00e9\n", true, null, {}, []]} "#, Ok(true));
        check(r#"{"a": [1"#, Ok(false));
        check("", Ok(false));
        check("12", Ok(true));
        check("-", Ok(false));
        check("Sure! {", Err(0));
        check("{} and", Err(3));
        check("[1,]", Err(3));
        check("{\"a\":1,}", Err(7));
        check("[1}", Err(2));
        check("01", Err(1));
        check("nul l", Err(3));
        check("\"a\nb\"", Err(2));
        check("\"\\x\"", Err(2));
        check("```json", Err(0));
    }

    #[test]
    fn depth_has_an_end() {
        check(&"[".repeat(127), Ok(false));
        check(&"[".repeat(128), Err(127));
    }

    fn json_like() -> impl Strategy<Value = String> {
        let word = prop_oneof![
            Just("{"),
            Just("}"),
            Just("["),
            Just("]"),
            Just(","),
            Just(":"),
            Just("\"a\""),
            Just("\"\\u00e9"),
            Just("\""),
            Just("1"),
            Just("-"),
            Just("0"),
            Just("."),
            Just("e"),
            Just("true"),
            Just("nul"),
            Just("l"),
            Just(" "),
            Just("\n"),
            Just("é"),
            Just("\\"),
        ];
        prop::collection::vec(word, 0..12).prop_map(|words| words.concat())
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 4096, ..ProptestConfig::default() })]

        #[test]
        fn it_agrees_with_serde(text in json_like()) {
            let mut syntax = Syntax::default();
            let read = syntax.read(&text);
            // `RawValue`-like: numbers out of range and lone surrogates are questions of value, not of syntax.
            // A number that has only begun is a mistake to serde, not an early end.
            let begun = text.ends_with(['-', '+', '.', 'e', 'E']);
            match serde_json::from_str::<serde::de::IgnoredAny>(&text) {
                Ok(_) => prop_assert!(read.is_ok() && syntax.is_complete()),
                Err(error) if error.classify() == Category::Eof => prop_assert!(read.is_ok() && !syntax.is_complete()),
                Err(_) => prop_assert!(read.is_err() || (begun && !syntax.is_complete())),
            }
        }
    }
}
