//! Reading a JSON object member by member, so that every refusal names the place and what was expected there.
//!
//! serde's derived structs would do, but their errors are prose about Rust: a client of an API wants
//! ``messages[2].role``, the values that are allowed, and a code. Duplicate names are an error here, since two readers
//! of one body must not disagree on which of them counts; `null` means absent.

use std::collections::HashSet;
use std::fmt;
use std::ops::RangeInclusive;

use serde::Deserialize;
use serde::de::{Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::Refusal;

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
        let Object(members) = self.parse("an object")?;
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
        let Array(items) = self.parse("an array")?;
        if items.len() > items_max {
            return Err(self.wrong(&format!("must have at most {items_max} items, it has {}", items.len())));
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
        matches!(self.kind(), Kind::Array | Kind::Object | Kind::Text)
            && self.raw.get()[1..self.raw.get().len() - 1].trim().is_empty()
    }

    /// Refuses what is read elsewhere as it is, unless every object in it names each member once.
    pub(super) fn check_names(&self) -> Result<(), Refusal> {
        match self.kind() {
            Kind::Object => self.object()?.iter().try_for_each(|(_, member)| member.check_names()),
            Kind::Array => self.array(usize::MAX)?.iter().try_for_each(Member::check_names),
            Kind::Text | Kind::Other => Ok(()),
        }
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
        serde_json::from_str(self.raw.get()).map_err(|error| match Duplicate::in_error(&error) {
            Some(name) => self.wrong(&format!("names the member `{}` twice", shown(&name))),
            None => self.wrong(&format!("must be {expected}")),
        })
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Object,
    Array,
    Text,
    Other,
}

/// A client's name for a member, short and printable enough to send back.
fn shown(name: &str) -> String {
    const CHARACTERS_MAX: usize = 64;
    let mut shown: String = name.escape_debug().take(CHARACTERS_MAX).collect();
    if name.len() > shown.len() {
        shown.push('…');
    }
    shown
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

/// How a repeated name travels through serde's error, whose only content is text.
struct Duplicate;

impl Duplicate {
    const MARK: &'static str = "\u{1}duplicate ";

    fn in_error(error: &serde_json::Error) -> Option<String> {
        let text = error.to_string();
        let name = text.strip_prefix(Self::MARK)?;
        // serde_json appends where it was, after the last ` at line `.
        Some(name.rsplit_once(" at line ").map_or(name, |(name, _)| name).to_owned())
    }
}

struct Object<'a>(Vec<(String, &'a RawValue)>);

impl<'de> Deserialize<'de> for Object<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;
        impl<'de> Visitor<'de> for Members {
            type Value = Object<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let (mut members, mut names) = (Vec::new(), HashSet::new());
                while let Some((name, raw)) = map.next_entry::<String, &RawValue>()? {
                    if !names.insert(name.clone()) {
                        return Err(A::Error::custom(format!("{}{name}", Duplicate::MARK)));
                    }
                    members.push((name, raw));
                }
                Ok(Object(members))
            }
        }
        deserializer.deserialize_map(Members)
    }
}

struct Array<'a>(Vec<&'a RawValue>);

impl<'de> Deserialize<'de> for Array<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Items;
        impl<'de> Visitor<'de> for Items {
            type Value = Array<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an array")
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
                let mut items = Vec::new();
                while let Some(raw) = seq.next_element()? {
                    items.push(raw);
                }
                Ok(Array(items))
            }
        }
        deserializer.deserialize_seq(Items)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        match Member::body(body, 4).and_then(|body| body.check_names()) {
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
    fn what_is_not_json_says_where() {
        assert_eq!(refusal("{\"a\":}"), "the body is not valid JSON: expected value at line 1 column 6");
        assert!(refusal("{\"a\":").contains("it ends too early"), "{}", refusal("{\"a\":"));
        assert_eq!(refusal("[[[[[1]]]]]"), "the body nests arrays and objects more than 4 deep");
    }

    #[test]
    fn nothing_asked_for_is_empty() {
        for (json, expected) in [("[ ]", true), ("{}", true), ("\"\"", true), ("[0]", false), ("1", false)] {
            assert_eq!(Member::body(json, 4).map(|body| body.is_empty()), Ok(expected), "{json}");
        }
    }
}
