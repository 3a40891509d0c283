//! JSON that goes on as it is: whether every object in it names each member once, and whether whoever reads it later can.
//!
//! It is read in one pass. Memory goes to the names of the objects that are open at a time, and a place is spelled out only
//! where it is refused: a path for each value would be many times the text.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};

/// What is wrong with such a text.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Problem {
    /// The object at this place, from the text's outermost value on, has two members of one name.
    Twice { place: String, name: String },
    /// It has what no reader takes: half a character, or a number beyond all numbers.
    Unreadable(String),
}

/// Checks a text that is well-formed and nests no deeper than bodies may.
pub(super) fn check(json: &str) -> Result<(), Problem> {
    let mut twice = None;
    let mut deserializer = serde_json::Deserializer::from_str(json);
    let read = Checked { place: None, twice: &mut twice }.deserialize(&mut deserializer);
    match (read, twice) {
        (Ok(()), _) => Ok(()),
        (Err(_), Some(problem)) => Err(problem),
        (Err(error), None) => Err(Problem::Unreadable(error.to_string())),
    }
}

/// A client's name for a member, short and printable enough to send back.
pub(super) fn shown(name: &str) -> String {
    const CHARACTERS_MAX: usize = 64;
    let mut shown: String = name.escape_debug().take(CHARACTERS_MAX).collect();
    if name.len() > shown.len() {
        shown.push('…');
    }
    shown
}

/// Where a value stands: a step, and the place that it was taken from.
struct Place<'a> {
    outer: Option<&'a Place<'a>>,
    step: Step<'a>,
}

enum Step<'a> {
    Member(&'a str),
    Item(usize),
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(outer) = self.outer {
            outer.fmt(f)?;
        }
        match self.step {
            Step::Member(name) => write!(f, ".{}", shown(name)),
            Step::Item(index) => write!(f, "[{index}]"),
        }
    }
}

/// Reads a value and keeps nothing of it.
struct Checked<'a> {
    place: Option<&'a Place<'a>>,
    twice: &'a mut Option<Problem>,
}

impl<'de> DeserializeSeed<'de> for Checked<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Checked<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E>(self, _value: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _value: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _value: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _value: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _value: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        for index in 0.. {
            let place = Place { outer: self.place, step: Step::Item(index) };
            if items.next_element_seed(Checked { place: Some(&place), twice: self.twice })?.is_none() {
                break;
            }
        }
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<(), A::Error> {
        let mut names = HashSet::new();
        while let Some(Name(name)) = members.next_key()? {
            let place = Place { outer: self.place, step: Step::Member(&name) };
            members.next_value_seed(Checked { place: Some(&place), twice: self.twice })?;
            if names.contains(&name) {
                let place = self.place.map_or_else(String::new, Place::to_string);
                *self.twice = Some(Problem::Twice { place, name: shown(&name) });
                return Err(A::Error::custom("a name stands twice"));
            }
            names.insert(name);
        }
        Ok(())
    }
}

/// A member's name, in the text itself where it stands there without escapes.
#[derive(Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::allocation::peak_bytes;

    fn twice(json: &str, place: &str, name: &str) {
        let expected = Problem::Twice { place: place.to_owned(), name: name.to_owned() };
        assert_eq!(check(json), Err(expected), "{json}");
    }

    #[test]
    fn every_object_is_looked_at() {
        twice(r#"{"a":1,"a":2}"#, "", "a");
        twice(r#"{"a":1,"\u0061":2}"#, "", "a");
        twice(r#"[0,[{"a":{"b":1,"c":[],"b":2}}]]"#, "[1][0].a", "b");
        for json in [r#"{"a":{"a":{"a":1}},"b":[{"a":1},{"a":1}]}"#, "[]", "1", "-1", "0.5", "true", "null", "\"a\""] {
            assert_eq!(check(json), Ok(()), "{json}");
        }
    }

    #[test]
    fn what_nobody_can_read_is_told() {
        for json in [r#"{"a":"\ud800"}"#, r#"{"\ud800":1}"#, "[1e999]"] {
            assert!(matches!(check(json), Err(Problem::Unreadable(_))), "{json}");
        }
    }

    /// A path for each item, or a reading for each level, would be gigabytes and seconds.
    #[test]
    fn deep_and_wide_costs_no_more_than_it_is_long() {
        let name = "\u{1f600}".repeat(64);
        let wide = vec!["1"; 20_000].join(",");
        let open: String = format!("{{\"{name}\":").repeat(60);
        let json = format!("{open}[{wide}]{}", "}".repeat(60));
        let peak = peak_bytes(|| assert_eq!(check(&json), Ok(())));
        assert!(peak < 64 * 1024, "{peak} bytes for a text of {}", json.len());

        let names: Vec<String> = (0..20_000).map(|name| format!("\"{name}\":1")).collect();
        let json = format!("{{{}}}", names.join(","));
        let peak = peak_bytes(|| assert_eq!(check(&json), Ok(())));
        assert!(peak < 12 * json.len() as u64, "{peak} bytes for a text of {}", json.len());
    }
}
