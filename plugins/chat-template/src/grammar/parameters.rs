//! Parameters without JSON around them, each between tags of its own ([`Format::QwenXml`](crate::format::Format)).

use std::fmt::Write as _;

use serde_json::{Map, Value};

use super::{Grammar, quoted};
use crate::argument::{self, Spelling};
use crate::limits::NAME_BYTES_MAX;

/// What stands behind every value.
const BEHIND: &str = "\n</parameter>\n";

/// Keywords of a function's parameters that no order of parameters can promise.
const BEYOND: [&str; 15] = [
    "allOf",
    "anyOf",
    "const",
    "dependentRequired",
    "dependentSchemas",
    "enum",
    "if",
    "maxProperties",
    "minProperties",
    "not",
    "oneOf",
    "patternProperties",
    "propertyNames",
    "$dynamicRef",
    "dependencies",
];

impl Grammar {
    /// The parameters of a call. `None`: what is promised of them cannot be held.
    pub(super) fn parameters(&mut self, number: usize, root: &Value, is_promised: bool) -> Option<String> {
        let empty = Map::new();
        let members = match argument::members(root) {
            Some(members) => members,
            None if is_promised => return None,
            None => &empty,
        };
        let properties = members.get("properties").and_then(Value::as_object).unwrap_or(&empty);
        let required: Vec<&str> =
            members.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect();
        // What stands beside a reference holds too, and is not looked at.
        let has_more = |name: &str| root.get("$ref").is_some() && root.get(name).is_some_and(|value| !is_empty(value));
        if is_promised
            && (has_more("properties")
                || has_more("required")
                || BEYOND.iter().any(|keyword| members.contains_key(*keyword))
                || required.iter().any(|key| !properties.contains_key(*key)))
        {
            return None;
        }
        let mut parts = Vec::new();
        for (place, (key, schema)) in properties.iter().enumerate() {
            if key.contains(['>', '<', '\n']) || key.trim() != key || key.len() > NAME_BYTES_MAX {
                return None;
            }
            let open = quoted(&format!("<parameter={key}>\n"));
            let value = match Spelling::of(Some(schema), root) {
                Spelling::Text { is_any: false } if is_promised => return None,
                Spelling::Text { .. } | Spelling::Loose(_) => self.free(),
                spelling @ Spelling::OneOf(_) => one_of(&spelling)?,
                Spelling::Json(_) => {
                    let rule = format!("value_{number}_{place}");
                    let _ = writeln!(self.rules, "{rule}: %json {}", alone(schema, root, is_promised)?);
                    format!("{rule} {}", quoted(BEHIND))
                }
            };
            let part = format!("{open} {value}");
            parts.push(if required.contains(&key.as_str()) { part } else { format!("({part})?") });
        }
        Some(parts.join(" "))
    }

    /// A text up to where the parser has it end (`calls/xml.rs`): with the first tag that begins a line, and with none that the
    /// next parameter or the end of the call follows.
    fn free(&mut self) -> String {
        if !self.has_text {
            self.has_text = true;
            self.rules.push_str(
                "text[lazy]: /(.|\\n)*\\n<\\/parameter>/ & ~/<\\/parameter>(.|\\n)*/ \
                 & ~/(.|\\n)*<\\/parameter>[ \\t\\r\\n]*<(parameter=|\\/function>)(.|\\n)*/\n",
            );
        }
        "text \"\\n\"".to_owned()
    }
}

fn is_empty(value: &Value) -> bool {
    value.as_object().is_some_and(Map::is_empty) || value.as_array().is_some_and(Vec::is_empty)
}

/// The values of an enumeration, each spelled as it is read; those that cannot be are left out.
fn one_of(spelling: &Spelling<'_>) -> Option<String> {
    let Spelling::OneOf(values) = spelling else { return None };
    let spelled = values.iter().filter_map(|value| {
        let json = value.to_string();
        let is_read = |text: &&str| !text.contains("</parameter>") && spelling.read(text) == json;
        value.as_str().into_iter().chain([json.as_str()]).find(is_read).map(|text| quoted(&format!("{text}{BEHIND}")))
    });
    let spelled: Vec<String> = spelled.collect();
    (!spelled.is_empty()).then(|| format!("({})", spelled.join(" | ")))
}

/// A part of a schema with what it refers to. `None`: that lies elsewhere than among the definitions.
fn alone(schema: &Value, root: &Value, is_promised: bool) -> Option<Value> {
    const DEFINITIONS: [&str; 2] = ["$defs", "definitions"];
    if !schema.to_string().contains("\"$ref\"") {
        return Some(schema.clone());
    }
    let mut alone = schema.as_object()?.clone();
    for name in DEFINITIONS {
        if let Some(definitions) = root.get(name) {
            alone.insert(name.to_owned(), definitions.clone());
        }
    }
    let alone = Value::Object(alone);
    if refers_within(&alone) { Some(alone) } else { (!is_promised).then(|| Value::Object(Map::new())) }
}

/// Whether all references lead to definitions.
fn refers_within(schema: &Value) -> bool {
    match schema {
        Value::Object(members) => members.iter().all(|(name, value)| match value {
            Value::String(reference) if name == "$ref" => {
                reference.starts_with("#/$defs/") || reference.starts_with("#/definitions/")
            }
            value => refers_within(value),
        }),
        Value::Array(items) => items.iter().all(refers_within),
        _ => true,
    }
}
