//! Reading a JSON object member by member, so that every refusal names the place and what was expected there.
//!
//! serde's derived structs would do, but their errors are prose about Rust: a client of an API wants
//! ``messages[2].role``, the values that are allowed, and a code. Duplicate names are an error here, since two readers
//! of one body must not disagree on which of them counts; `null` means absent.

use std::ops::RangeInclusive;

use serde::Deserialize;
use serde::de::DeserializeSeed as _;
use serde_json::value::RawValue;

use super::Refusal;
use super::counted::{Items, Members};
use super::names::{self, Problem, shown};
use crate::limits;

/// A value of the body and where it stands.
#[derive(Clone)]
pub(super) struct Member<'a> {
    path: String,
    raw: &'a RawValue,
}

impl<'a> Member<'a> {
    /// The whole body. Syntax and nesting are checked here, once: every part below is well-formed JSON.
    pub(super) fn body(text: &'a str, depth_max: usize) -> Result<Self, Refusal> {
        if depth(text) > depth_max {
            return Err(Refusal::body(format!("the body nests arrays and objects more than {depth_max} deep")));
        }
        let raw = serde_json::from_str(text)
            .map_err(|error| Refusal::body(format!("the body is not valid JSON: {}", syntax(&error))))?;
        Ok(Self { path: String::new(), raw })
    }

    /// [`Member::body`] of a body as it came.
    pub(super) fn body_of(body: &'a [u8], depth_max: usize) -> Result<Self, Refusal> {
        let text = std::str::from_utf8(body)
            .map_err(|error| Refusal::body(format!("the body is not UTF-8 (byte {})", error.valid_up_to())))?;
        Self::body(text, depth_max)
    }

    pub(super) fn path(&self) -> &str {
        &self.path
    }

    pub(super) fn is_null(&self) -> bool {
        self.raw.get() == "null"
    }

    /// The JSON text, as the client wrote it.
    pub(super) fn json(&self) -> &'a str {
        self.raw.get()
    }

    /// The members of an object, in order; those that are `null` are left out.
    pub(super) fn object(&self) -> Result<Vec<(String, Member<'a>)>, Refusal> {
        self.entries(limits::MEMBERS_MAX, "members")
    }

    /// The same of an object whose names are the client's choice: so many `things` at most.
    pub(super) fn entries(&self, most: usize, things: &str) -> Result<Vec<(String, Member<'a>)>, Refusal> {
        let mut twice = None;
        let mut deserializer = serde_json::Deserializer::from_str(self.raw.get());
        let read = Members { most, twice: &mut twice }.deserialize(&mut deserializer);
        let Some((members, count)) = read.ok() else {
            return Err(match twice {
                Some(name) => self.wrong(&format!("names the member `{}` twice", shown(&name))),
                None => self.wrong("must be an object"),
            });
        };
        if count > most {
            return Err(self.wrong(&format!("must have at most {most} {things}, it has {count}")));
        }
        let prefix = if self.path.is_empty() { String::new() } else { format!("{}.", self.path) };
        Ok(members
            .into_iter()
            .map(|(name, raw)| {
                let path = format!("{prefix}{}", shown(&name));
                (name, Member { path, raw })
            })
            .filter(|(_, member)| !member.is_null())
            .collect())
    }

    /// The items of an array.
    pub(super) fn array(&self, items_max: usize) -> Result<Vec<Member<'a>>, Refusal> {
        let mut deserializer = serde_json::Deserializer::from_str(self.raw.get());
        let read = Items { most: items_max }.deserialize(&mut deserializer);
        let (items, count) = read.map_err(|_| self.wrong("must be an array"))?;
        if count > items_max {
            return Err(self.wrong(&format!("must have at most {items_max} items, it has {count}")));
        }
        let member = |(index, raw)| Member { path: format!("{}[{index}]", self.path), raw };
        Ok(items.into_iter().enumerate().map(member).collect())
    }

    pub(super) fn text(&self, bytes_max: usize) -> Result<String, Refusal> {
        let text: String = self.parse("a string")?;
        if text.len() > bytes_max {
            return Err(self.wrong(&format!("must be at most {bytes_max} bytes long, it has {}", text.len())));
        }
        Ok(text)
    }

    pub(super) fn flag(&self) -> Result<bool, Refusal> {
        self.parse("true or false")
    }

    pub(super) fn integer(&self, bounds: RangeInclusive<u64>) -> Result<u64, Refusal> {
        let expected = format!("an integer from {} to {}", bounds.start(), bounds.end());
        let value: u64 = self.parse(&expected)?;
        if bounds.contains(&value) { Ok(value) } else { Err(self.wrong(&format!("must be {expected}, it is {value}"))) }
    }

    /// An integer of 32 bits.
    pub(super) fn count(&self, bounds: RangeInclusive<u64>) -> Result<u32, Refusal> {
        Ok(u32::try_from(self.integer(bounds)?).unwrap_or(u32::MAX))
    }

    /// An array of integers of 32 bits, read in one go: tokens come by the ten thousand.
    pub(super) fn numbers(&self) -> Result<Vec<u32>, Refusal> {
        self.parse("an array of whole numbers of 32 bits")
    }

    /// Whether this is an array whose first item is a number.
    pub(super) fn starts_with_number(&self) -> bool {
        let inside = self.raw.get().strip_prefix('[').unwrap_or_default();
        inside.trim_start().starts_with(|first: char| first == '-' || first.is_ascii_digit())
    }

    pub(super) fn number(&self, bounds: RangeInclusive<f32>) -> Result<f32, Refusal> {
        let expected = format!("a number from {} to {}", bounds.start(), bounds.end());
        let value: f64 = self.parse(&expected)?;
        #[expect(clippy::cast_possible_truncation, reason = "a sampling parameter; its bounds are checked right after")]
        let narrowed = value as f32;
        if bounds.contains(&narrowed) {
            Ok(narrowed)
        } else {
            Err(self.wrong(&format!("must be {expected}, it is {value}")))
        }
    }

    /// Whether this is an empty array, an empty object or an empty string: a member that asks for nothing.
    pub(super) fn is_empty(&self) -> bool {
        match self.kind() {
            Kind::Array | Kind::Object => self.raw.get()[1..self.raw.get().len() - 1].trim().is_empty(),
            // Blanks in a text are the client's.
            Kind::Text => self.raw.get() == "\"\"",
            Kind::Other => false,
        }
    }

    /// The JSON text without the blanks between its parts, so that it has no line break.
    pub(super) fn compact(&self) -> Box<RawValue> {
        let (mut in_string, mut escaped) = (false, false);
        let is_kept = |character: &char| {
            match character {
                _ if escaped => escaped = false,
                '\\' if in_string => escaped = true,
                '"' => in_string = !in_string,
                _ => {}
            }
            in_string || !matches!(character, ' ' | '\t' | '\n' | '\r')
        };
        let text = self.raw.get().chars().filter(is_kept).collect();
        RawValue::from_string(text).unwrap_or_else(|_| self.raw.to_owned())
    }

    /// The JSON text of what is read elsewhere as it is: no longer than this, and nothing in it that two readers could
    /// understand differently.
    pub(super) fn json_for_others(&self, bytes_max: usize) -> Result<&'a str, Refusal> {
        let bytes = self.raw.get().len();
        if bytes > bytes_max {
            return Err(self.wrong(&format!("must be at most {bytes_max} bytes long, it has {bytes}")));
        }
        names::check(self.raw.get()).map_err(|problem| match problem {
            Problem::Twice { place, name } => {
                let path = format!("{}{place}", self.path);
                let path = path.strip_prefix('.').unwrap_or(&path).to_owned();
                Member { path, raw: self.raw }.wrong(&format!("names the member `{name}` twice"))
            }
            Problem::Unreadable(why) => self.wrong(&format!("has what cannot be read: {why}")),
        })?;
        Ok(self.raw.get())
    }

    pub(super) fn kind(&self) -> Kind {
        match self.raw.get().as_bytes().first() {
            Some(b'{') => Kind::Object,
            Some(b'[') => Kind::Array,
            Some(b'"') => Kind::Text,
            _ => Kind::Other,
        }
    }

    /// `the member … {problem}`.
    pub(super) fn wrong(&self, problem: &str) -> Refusal {
        if self.path.is_empty() {
            Refusal::body(format!("the body {problem}"))
        } else {
            Refusal::member(&self.path, "invalid_value", format!("`{}` {problem}", self.path))
        }
    }

    /// What is asked for here is not to be had.
    pub(super) fn unsupported(&self, why: &str) -> Refusal {
        let message = format!("`{}` {why}", self.path);
        Refusal::member(&self.path, "unsupported_parameter", message)
    }

    /// No member of this name is known here.
    pub(super) fn unknown(&self) -> Refusal {
        let message = format!("`{}` is not a known member of this request; remove it", self.path);
        Refusal::member(&self.path, "unknown_parameter", message)
    }

    fn parse<T: Deserialize<'a>>(&self, expected: &str) -> Result<T, Refusal> {
        serde_json::from_str(self.raw.get()).map_err(|_| self.wrong(&format!("must be {expected}")))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Object,
    Array,
    Text,
    Other,
}

/// How deep arrays and objects nest; counted before any parser recurses.
fn depth(text: &str) -> usize {
    let (mut depth, mut deepest, mut in_string, mut escaped) = (0_usize, 0, false, false);
    for byte in text.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'{' | b'[' if !in_string => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b'}' | b']' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

/// `serde_json`'s message, which ends with line and column.
fn syntax(error: &serde_json::Error) -> String {
    if error.is_eof() { format!("it ends too early ({error})") } else { error.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::allocation::peak_bytes;

    fn check_depth(text: &str, expected: usize) {
        assert_eq!(depth(text), expected, "{text}");
    }

    #[test]
    fn depth_counts_structure_only() {
        check_depth("1", 0);
        check_depth("[{},[[]]]", 3);
        check_depth(r#"{"a[[[[":"\"{{{","b":[]}"#, 2);
        check_depth("]]][", 1);
    }

    fn refusal(body: &str) -> String {
        match Member::body(body, 4).and_then(|body| body.json_for_others(100).map(drop)) {
            Ok(()) => "accepted".to_owned(),
            Err(refusal) => refusal.message,
        }
    }

    #[test]
    fn a_name_counts_once_wherever_it_stands() {
        assert_eq!(refusal(r#"{"a":{"b":1,"c":[{"d":1,"d":2}]}}"#), "`a.c[0]` names the member `d` twice");
        assert_eq!(refusal(r#"{"a":1,"\u0061":2}"#), "the body names the member `a` twice");
        assert_eq!(refusal(r#"{"a":1,"b":{"a":1}}"#), "accepted");
    }

    #[test]
    fn what_goes_on_as_it_is_has_an_end() {
        assert_eq!(refusal(&format!("\"{}\"", "a".repeat(99))), "the body must be at most 100 bytes long, it has 101");
        assert!(refusal(r#"{"a":1e999}"#).contains("cannot be read"));
    }

    #[test]
    fn what_is_too_much_is_counted_and_not_kept() {
        let items = format!("[{}]", vec!["1"; 100_000].join(","));
        let array = Member::body(&items, 4).expect("JSON");
        let mut message = String::new();
        let peak = peak_bytes(|| message = array.array(3).err().expect("too many").message);
        assert_eq!(message, "the body must have at most 3 items, it has 100000");
        assert!(peak < 4096, "{peak} bytes");
        assert_eq!(array.array(100_000).map(|items| items.len()), Ok(100_000));

        let members: Vec<String> = (0..50_000).map(|name| format!("\"{name}\":1")).collect();
        let members = format!("{{{}}}", members.join(","));
        let object = Member::body(&members, 4).expect("JSON");
        let peak = peak_bytes(|| message = object.object().err().expect("too many").message);
        assert_eq!(message, format!("the body must have at most {} members, it has 50000", limits::MEMBERS_MAX));
        assert!(peak < 256 * 1024, "{peak} bytes");
    }

    #[test]
    fn what_is_not_json_says_where() {
        assert_eq!(refusal("{\"a\":}"), "the body is not valid JSON: expected value at line 1 column 6");
        assert!(refusal("{\"a\":").contains("it ends too early"), "{}", refusal("{\"a\":"));
        assert_eq!(refusal("[[[[[1]]]]]"), "the body nests arrays and objects more than 4 deep");
    }

    #[test]
    fn compact_json_says_the_same_in_one_line() {
        let json = "{ \"a b\" : [ 1 ,\r\n\t\"c\\\" \\n  d\" , { } ] }";
        let body = Member::body(json, 4).expect("JSON");
        assert_eq!(body.compact().get(), r#"{"a b":[1,"c\" \n  d",{}]}"#);
    }

    #[test]
    fn nothing_asked_for_is_empty() {
        for (json, expected) in
            [("[ ]", true), ("{}", true), ("\"\"", true), ("\" \"", false), ("[0]", false), ("1", false)]
        {
            assert_eq!(Member::body(json, 4).map(|body| body.is_empty()), Ok(expected), "{json}");
        }
    }
}
