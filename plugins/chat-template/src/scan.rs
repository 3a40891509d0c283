//! JSON in a stream: where a value ends, and where text stops being JSON.

use crate::limits::JSON_DEPTH_MAX;

/// Reads one JSON value as it comes. What it has taken is the beginning of a value, always.
#[derive(Debug, Clone)]
pub(crate) struct Scan {
    /// Open arrays and objects, outermost first.
    open: Vec<Open>,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Open {
    Array,
    Object,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Value,
    /// Behind `[`: a value, or its end.
    FirstItem,
    /// Behind `{`: a name, or its end.
    FirstName,
    Name,
    Colon,
    /// Behind a value: a comma, or the end of what it is in.
    Next,
    Text {
        is_name: bool,
    },
    Escape {
        is_name: bool,
    },
    /// Hexadecimal digits of `\u` that are still to come.
    Hex {
        is_name: bool,
        digits: u8,
    },
    Number(Number),
    /// What is left of `true`, `false` or `null`.
    Word(&'static [u8]),
    Done,
}

/// What of a number was read last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Number {
    Minus,
    Zero,
    Digits,
    Point,
    Fraction,
    Exponent,
    Sign,
    ExponentDigits,
}

/// Where reading stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stop {
    /// At the end of the text: the value goes on.
    More,
    /// Behind the value.
    Ended,
    /// At a control character inside a string, which JSON has only as an escape, and models write as it is.
    Control,
    /// At what cannot go on a JSON value.
    Broken,
}

impl Scan {
    pub(crate) fn new() -> Self {
        Self { open: Vec::new(), state: State::Value }
    }

    /// Reads on, and says how many bytes of `text` belong to the value.
    pub(crate) fn read(&mut self, text: &str) -> (usize, Stop) {
        for (at, byte) in text.bytes().enumerate() {
            if let (State::Text { .. }, 0..0x20) = (self.state, byte) {
                return (at, Stop::Control);
            }
            // A number ends at what is no part of it.
            if let State::Number(number) = self.state
                && number.next(byte).is_none()
                && number.may_end()
            {
                self.ended();
            }
            if self.state == State::Done {
                return (at, Stop::Ended);
            }
            match self.next(byte) {
                Some(state) => self.state = state,
                None => return (at, Stop::Broken),
            }
            if self.state == State::Done {
                return (at + 1, Stop::Ended);
            }
        }
        (text.len(), Stop::More)
    }

    fn next(&mut self, byte: u8) -> Option<State> {
        Some(match (self.state, byte) {
            (State::Value | State::FirstItem | State::FirstName | State::Name | State::Colon | State::Next, b)
                if b.is_ascii_whitespace() && b != 0x0C =>
            {
                self.state
            }
            (State::FirstItem, b']') | (State::FirstName, b'}') | (State::Next, b']' | b'}') => {
                return self.close(byte);
            }
            (State::Value | State::FirstItem, _) => return self.value(byte),
            (State::FirstName | State::Name, b'"') => State::Text { is_name: true },
            (State::Colon, b':') => State::Value,
            (State::Next, b',') => match self.open.last()? {
                Open::Array => State::Value,
                Open::Object => State::Name,
            },
            (State::Text { is_name }, b'"') => return Some(if is_name { State::Colon } else { self.behind() }),
            (State::Text { is_name }, b'\\') => State::Escape { is_name },
            (State::Text { is_name }, _) => State::Text { is_name },
            (State::Escape { is_name }, b'u') => State::Hex { is_name, digits: 4 },
            (State::Escape { is_name }, b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => {
                State::Text { is_name }
            }
            (State::Hex { is_name, digits }, b) if b.is_ascii_hexdigit() => match digits {
                1 => State::Text { is_name },
                _ => State::Hex { is_name, digits: digits - 1 },
            },
            (State::Number(number), _) => State::Number(number.next(byte)?),
            (State::Word(rest), _) if rest.first() == Some(&byte) => match &rest[1..] {
                [] => self.behind(),
                rest => State::Word(rest),
            },
            _ => return None,
        })
    }

    fn value(&mut self, byte: u8) -> Option<State> {
        Some(match byte {
            b'{' | b'[' => {
                if self.open.len() >= JSON_DEPTH_MAX {
                    return None;
                }
                let (open, state) =
                    if byte == b'{' { (Open::Object, State::FirstName) } else { (Open::Array, State::FirstItem) };
                self.open.push(open);
                state
            }
            b'"' => State::Text { is_name: false },
            b't' => State::Word(b"rue"),
            b'f' => State::Word(b"alse"),
            b'n' => State::Word(b"ull"),
            b'-' => State::Number(Number::Minus),
            b'0' => State::Number(Number::Zero),
            b'1'..=b'9' => State::Number(Number::Digits),
            _ => return None,
        })
    }

    fn close(&mut self, byte: u8) -> Option<State> {
        let open = if byte == b'}' { Open::Object } else { Open::Array };
        (self.open.pop()? == open).then(|| self.behind())
    }

    fn ended(&mut self) {
        self.state = self.behind();
    }

    fn behind(&self) -> State {
        if self.open.is_empty() { State::Done } else { State::Next }
    }
}

impl Number {
    fn next(self, byte: u8) -> Option<Self> {
        Some(match (self, byte) {
            (Self::Minus, b'0') => Self::Zero,
            (Self::Minus, b'1'..=b'9') | (Self::Digits, b'0'..=b'9') => Self::Digits,
            (Self::Zero | Self::Digits, b'.') => Self::Point,
            (Self::Point | Self::Fraction, b'0'..=b'9') => Self::Fraction,
            (Self::Zero | Self::Digits | Self::Fraction, b'e' | b'E') => Self::Exponent,
            (Self::Exponent, b'+' | b'-') => Self::Sign,
            (Self::Exponent | Self::Sign | Self::ExponentDigits, b'0'..=b'9') => Self::ExponentDigits,
            _ => return None,
        })
    }

    fn may_end(self) -> bool {
        matches!(self, Self::Zero | Self::Digits | Self::Fraction | Self::ExponentDigits)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[track_caller]
    fn check(text: &str, taken: &str, stop: Stop) {
        assert_eq!(Scan::new().read(text), (taken.len(), stop), "{text}");
    }

    #[test]
    fn a_value_ends_where_it_ends() {
        check(
            r#"{"a":[1,-0.5e+3,"}\"é",true,null,{}],"b":{}} x"#,
            r#"{"a":[1,-0.5e+3,"}\"é",true,null,{}],"b":{}}"#,
            Stop::Ended,
        );
        check("12, 3", "12", Stop::Ended);
        check("12", "12", Stop::More);
        check(" {\n}", " {\n}", Stop::Ended);
        check("\"a\u{e9}\"", "\"a\u{e9}\"", Stop::Ended);
    }

    #[test]
    fn what_is_no_json_is_found_at_once() {
        check("{'a': 1}", "{", Stop::Broken);
        check("{\"a\": True}", "{\"a\": ", Stop::Broken);
        check("{\"a\": 1]", "{\"a\": 1", Stop::Broken);
        check("[1,]", "[1,", Stop::Broken);
        check("{\"a\":01}", "{\"a\":0", Stop::Broken);
        check("\"\\x\"", "\"\\", Stop::Broken);
        check("é", "", Stop::Broken);
        check("{\"a\":\"b\nc\"}", "{\"a\":\"b", Stop::Control);
        let deep = "[".repeat(JSON_DEPTH_MAX + 1);
        check(&deep, &deep[1..], Stop::Broken);
    }

    proptest! {
        #[test]
        fn whole_values_are_json_and_json_is_taken_whole(text in r#"[{}\[\],:"a1e.+\-0 \\ntrue]{0,24}"#) {
            let (taken, stop) = Scan::new().read(&text);
            let is_json = |text: &str| serde_json::from_str::<serde_json::Value>(text);
            match stop {
                // A number that is too large for serde_json is JSON still.
                Stop::Ended => if let Err(error) = is_json(&text[..taken]) {
                    prop_assert!(error.to_string().contains("out of range"), "{}: {}", &text[..taken], error);
                },
                Stop::Broken => prop_assert!(is_json(&text).is_err(), "{}", text),
                Stop::More | Stop::Control => {}
            }
        }

        #[test]
        fn every_chunking_reads_the_same(text in r#"(\{"a":|[{}\[\],:"a1e.\- ]){0,16}"#, cut in any::<proptest::sample::Index>()) {
            let cut = cut.index(text.len() + 1);
            let mut scan = Scan::new();
            let (mut taken, mut stop) = scan.read(&text[..cut]);
            if stop == Stop::More {
                let (more, then) = scan.read(&text[cut..]);
                (taken, stop) = (taken + more, then);
            }
            prop_assert_eq!((taken, stop), Scan::new().read(&text));
        }
    }
}
