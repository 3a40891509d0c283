//! An argument that stands between tags, as plain text: how its schema has it spelled. The grammar (`grammar/parameters.rs`)
//! and the parser (`calls/xml.rs`) both ask here, so that what the one lets a model write is what the other reads.

use serde::de::IgnoredAny;
use serde_json::{Map, Value};

use crate::limits::{REFERENCES_MAX, SCHEMA_PLACES_MAX};

static NULL: Value = Value::Null;
static TRUE: Value = Value::Bool(true);
static FALSE: Value = Value::Bool(false);

/// How an argument is spelled.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Spelling<'a> {
    /// As a text, whatever it looks like; `is_any`: every text will do.
    Text { is_any: bool },
    /// As one of these values, a text without quotes.
    OneOf(Vec<&'a Value>),
    /// As any value of these kinds, a text without quotes: what spells nothing else is one.
    Loose(Kinds),
    /// As JSON of these kinds, a text with quotes.
    Json(Kinds),
}

impl<'a> Spelling<'a> {
    /// The spelling of an argument of `schema`, which is part of `root`. `None` as a schema: anything.
    pub(crate) fn of(schema: Option<&'a Value>, root: &'a Value) -> Self {
        let Some(schema) = schema else { return Self::Loose(Kinds::ALL) };
        let mut reader = Reader { root, places_left: SCHEMA_PLACES_MAX };
        let Allowed { kinds, is_exact } = reader.allowed(schema);
        if kinds == Kinds::STRING && is_exact {
            return Self::Text { is_any: true };
        }
        if let Some(values) = reader.values(schema) {
            return Self::OneOf(values);
        }
        match (kinds, is_exact) {
            (Kinds::STRING, _) => Self::Text { is_any: false },
            (kinds, true) if kinds.have(Kinds::STRING) => Self::Loose(kinds),
            (kinds, _) => Self::Json(kinds),
        }
    }

    /// The argument as JSON.
    pub(crate) fn read(&self, text: &str) -> String {
        match self {
            Self::Text { .. } => Value::from(text).to_string(),
            Self::Loose(kinds) | Self::Json(kinds) => json(text, *kinds),
            Self::OneOf(values) if values.iter().any(|value| *value == text) => Value::from(text).to_string(),
            Self::OneOf(values) => json(text, values.iter().copied().map(Kinds::of).fold(Kinds::NONE, Kinds::or)),
        }
    }
}

/// What a text spells, where it is JSON of one of these kinds, and else the text. Quotes are those of JSON: a model writes them
/// around a text where others kinds may stand too.
fn json(text: &str, kinds: Kinds) -> String {
    let spelled = text.trim();
    match Kinds::spelled(spelled) {
        Some(kind) if kind == Kinds::STRING || kinds.have(kind) => spelled.to_owned(),
        _ => Value::from(text).to_string(),
    }
}

/// Kinds of JSON values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Kinds(u8);

impl Kinds {
    const NONE: Self = Self(0);
    const STRING: Self = Self(1);
    const INTEGER: Self = Self(2);
    const FRACTION: Self = Self(4);
    const BOOLEAN: Self = Self(8);
    const NULL: Self = Self(16);
    const ARRAY: Self = Self(32);
    const OBJECT: Self = Self(64);
    const ALL: Self = Self(127);

    fn have(self, kind: Self) -> bool {
        self.0 & kind.0 != 0
    }

    fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    fn named(name: &str) -> Self {
        match name {
            "string" => Self::STRING,
            "integer" => Self::INTEGER,
            "number" => Self::INTEGER.or(Self::FRACTION),
            "boolean" => Self::BOOLEAN,
            "null" => Self::NULL,
            "array" => Self::ARRAY,
            "object" => Self::OBJECT,
            _ => Self::NONE,
        }
    }

    /// What `type` says.
    fn named_by(names: &Value) -> Self {
        match names {
            Value::Array(names) => names.iter().map(Self::named_by).fold(Self::NONE, Self::or),
            name => name.as_str().map_or(Self::NONE, Self::named),
        }
    }

    fn of(value: &Value) -> Self {
        match value {
            Value::Null => Self::NULL,
            Value::Bool(_) => Self::BOOLEAN,
            Value::Number(number) if number.as_f64().is_some_and(|number| number.fract() == 0.0) => Self::INTEGER,
            Value::Number(_) => Self::FRACTION,
            Value::String(_) => Self::STRING,
            Value::Array(_) => Self::ARRAY,
            Value::Object(_) => Self::OBJECT,
        }
    }

    /// The kind of the value that a text is; `None`: it is not JSON. Not read into a [`Value`]: numbers may be out of its range.
    fn spelled(text: &str) -> Option<Self> {
        serde_json::from_str::<IgnoredAny>(text).ok()?;
        Some(match text.as_bytes().first()? {
            b'"' => Self::STRING,
            b't' | b'f' => Self::BOOLEAN,
            b'n' => Self::NULL,
            b'[' => Self::ARRAY,
            b'{' => Self::OBJECT,
            // 5.0 is an integer to JSON Schema.
            _ if text.parse::<f64>().is_ok_and(|number| number.fract() == 0.0) => Self::INTEGER,
            _ => Self::FRACTION,
        })
    }
}

/// What a schema allows at least; with `is_exact` that is all there is to it.
#[derive(Debug, Clone, Copy)]
struct Allowed {
    kinds: Kinds,
    is_exact: bool,
}

impl Allowed {
    const ANYTHING: Self = Self { kinds: Kinds::ALL, is_exact: true };
    /// Not looked at any further.
    const UNKNOWN: Self = Self { kinds: Kinds::ALL, is_exact: false };
}

struct Reader<'a> {
    root: &'a Value,
    /// Subschemas that may still be looked at: references may lead in circles.
    places_left: usize,
}

impl<'a> Reader<'a> {
    fn allowed(&mut self, schema: &'a Value) -> Allowed {
        let Value::Object(members) = schema else {
            let kinds = if schema == &Value::Bool(false) { Kinds::NONE } else { Kinds::ALL };
            return Allowed { kinds, is_exact: true };
        };
        let Some(places_left) = self.places_left.checked_sub(1) else { return Allowed::UNKNOWN };
        self.places_left = places_left;
        let mut all = Allowed::ANYTHING;
        for (keyword, value) in members {
            let one = match (keyword.as_str(), value) {
                ("type", value) => Allowed { kinds: Kinds::named_by(value), is_exact: true },
                ("enum", Value::Array(values)) => {
                    Allowed { kinds: values.iter().map(Kinds::of).fold(Kinds::NONE, Kinds::or), is_exact: false }
                }
                ("const", value) => Allowed { kinds: Kinds::of(value), is_exact: false },
                ("anyOf" | "oneOf", Value::Array(any)) => self.any(any, keyword == "oneOf"),
                ("allOf", Value::Array(all)) => {
                    all.iter().map(|schema| self.allowed(schema)).fold(Allowed::ANYTHING, both)
                }
                ("$ref", Value::String(reference)) => {
                    target(self.root, reference).map_or(Allowed::UNKNOWN, |schema| self.allowed(schema))
                }
                (name, _) if says_nothing(name) => Allowed::ANYTHING,
                _ => Allowed::UNKNOWN,
            };
            all = both(all, one);
        }
        all
    }

    /// What any of these allows; with `is_one` a value must not have two of the forms.
    fn any(&mut self, any: &'a [Value], is_one: bool) -> Allowed {
        any.iter().fold(Allowed { kinds: Kinds::NONE, is_exact: true }, |so_far, schema| {
            let one = self.allowed(schema);
            let is_apart = !is_one || so_far.kinds.and(one.kinds) == Kinds::NONE;
            Allowed { kinds: so_far.kinds.or(one.kinds), is_exact: so_far.is_exact && one.is_exact && is_apart }
        })
    }

    /// All values that a schema allows, where it names them.
    fn values(&mut self, schema: &'a Value) -> Option<Vec<&'a Value>> {
        self.places_left = self.places_left.checked_sub(1)?;
        let members = schema.as_object()?;
        let mut said = members.iter().filter(|(name, _)| !says_nothing(name) && *name != "type");
        let (named, more) = (said.next(), said.next());
        if more.is_some() {
            return None;
        }
        let mut values = match named.map(|(name, value)| (name.as_str(), value)) {
            Some(("enum", Value::Array(values))) => values.iter().collect(),
            Some(("const", value)) => vec![value],
            Some((keyword @ ("anyOf" | "oneOf"), Value::Array(any))) => {
                let mut values = Vec::new();
                for schema in any {
                    let more = self.values(schema)?;
                    if keyword == "oneOf" && more.iter().any(|value| values.contains(value)) {
                        return None;
                    }
                    values.extend(more);
                }
                values
            }
            Some(("$ref", Value::String(reference))) => self.values(target(self.root, reference)?)?,
            None => match members.get("type")?.as_str()? {
                "null" => vec![&NULL],
                "boolean" => vec![&TRUE, &FALSE],
                _ => return None,
            },
            Some(_) => return None,
        };
        if let Some(kinds) = members.get("type") {
            let kinds = Kinds::named_by(kinds);
            values.retain(|value| kinds.have(Kinds::of(value)));
        }
        Some(values)
    }
}

fn both(a: Allowed, b: Allowed) -> Allowed {
    Allowed { kinds: a.kinds.and(b.kinds), is_exact: a.is_exact && b.is_exact }
}

/// Keywords that ask nothing of a value.
fn says_nothing(keyword: &str) -> bool {
    const NOTES: [&str; 12] = [
        "$comment",
        "$defs",
        "$id",
        "$schema",
        "default",
        "definitions",
        "deprecated",
        "description",
        "examples",
        "readOnly",
        "title",
        "writeOnly",
    ];
    NOTES.contains(&keyword)
}

/// What `reference` names in `root`.
fn target<'a>(root: &'a Value, reference: &str) -> Option<&'a Value> {
    root.pointer(reference.strip_prefix('#')?)
}

/// The members of the schema that says which arguments there are: of `root`, or of what it refers to.
pub(crate) fn members(root: &Value) -> Option<&Map<String, Value>> {
    let mut members = root.as_object()?;
    for _ in 0..REFERENCES_MAX {
        match members.get("$ref").and_then(Value::as_str) {
            Some(reference) => members = target(root, reference)?.as_object()?,
            None => return Some(members),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_argument_is_what_its_schema_wants() {
        let optional = json!({"anyOf": [{"type": "string"}, {"type": "null"}]});
        let limited = json!({"anyOf": [{"type": "string", "maxLength": 9}, {"type": "null"}]});
        let unit = json!({"enum": ["celsius", "5", 5, 6, null]});
        for (text, schema, expected) in [
            ("5", json!({"type": "string"}), r#""5""#),
            ("5", json!({"type": "integer"}), "5"),
            ("5.0", json!({"type": "integer"}), "5.0"),
            ("1e999", json!({"type": "number"}), "1e999"),
            ("5.5", json!({"type": "integer"}), r#""5.5""#),
            ("5", json!({}), "5"),
            ("Paris", json!({}), r#""Paris""#),
            ("5.5", json!({"type": ["number", "null"]}), "5.5"),
            ("true", json!({"anyOf": [{"type": "boolean"}, {"type": "string"}]}), "true"),
            ("[1,\n2]", json!({"type": "array"}), "[1,\n2]"),
            ("a \"b\"\nc", json!({"type": "integer"}), r#""a \"b\"\nc""#),
            ("\"a\"", json!({"type": "string"}), r#""\"a\"""#),
            ("\"a\"", json!({"type": "string", "minLength": 1}), r#""\"a\"""#),
            ("\"a\"", limited.clone(), "\"a\""),
            ("a", limited, "\"a\""),
            ("Paris", optional.clone(), "\"Paris\""),
            ("\"Paris\"", optional.clone(), "\"Paris\""),
            ("null", optional, "null"),
            ("\"a\"", json!({}), "\"a\""),
            ("celsius", unit.clone(), "\"celsius\""),
            ("\"celsius\"", unit.clone(), "\"celsius\""),
            ("5", unit.clone(), "\"5\""),
            ("6", unit.clone(), "6"),
            ("null", unit, "null"),
            ("null", json!({"$ref": "#/$defs/text"}), "\"null\""),
        ] {
            let root = json!({"$defs": {"text": {"type": "string"}}});
            assert_eq!(Spelling::of(Some(&schema), &root).read(text), expected, "{text} {schema}");
        }
        assert_eq!(Spelling::of(None, &Value::Null).read("{\"a\": 1}"), "{\"a\": 1}");
    }

    #[test]
    fn a_schema_that_refers_to_itself_has_an_end() {
        let root = json!({"$defs": {"a": {"anyOf": [{"$ref": "#/$defs/a"}, {"$ref": "#/$defs/a"}]}}, "$ref": "#"});
        let schema = json!({"$ref": "#/$defs/a"});
        assert_eq!(Spelling::of(Some(&schema), &root), Spelling::Json(Kinds::ALL));
        assert_eq!(members(&root), None);
    }
}
