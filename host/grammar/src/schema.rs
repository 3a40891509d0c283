//! JSON schemas: what can be enforced and what cannot, and where.

use llguidance::JsonCompileOptions;
use serde_json::{Map, Value};

use crate::limits::{SCHEMA_DEPTH_MAX, SCHEMA_NODES_MAX};

/// Between two tokens of JSON stands nothing, a space, or a line break with indentation: what models write, and nothing
/// that a small one can go on with for ever.
const WHITESPACE: &str = r"( |\n[ \t]{0,32})";

/// Keywords that hold subschemas by name.
const MAPS: [&str; 4] = ["properties", "patternProperties", "$defs", "definitions"];
/// Keywords that hold a list of subschemas.
const LISTS: [&str; 4] = ["anyOf", "oneOf", "allOf", "prefixItems"];
/// Keywords that hold a subschema; `items` may hold a list of them too.
const SINGLE: [&str; 3] = ["items", "additionalItems", "additionalProperties"];
/// Keywords that would change what is valid and that nobody here enforces.
const UNENFORCED: [&str; 19] = [
    "not",
    "if",
    "then",
    "else",
    "contains",
    "minContains",
    "maxContains",
    "propertyNames",
    "dependencies",
    "dependentRequired",
    "dependentSchemas",
    "unevaluatedItems",
    "unevaluatedProperties",
    "uniqueItems",
    "$dynamicRef",
    "$dynamicAnchor",
    "$recursiveRef",
    "$recursiveAnchor",
    "$vocabulary",
];
const TYPES: [&str; 7] = ["null", "boolean", "number", "integer", "string", "array", "object"];

/// Any JSON object.
pub(crate) fn object() -> Value {
    let mut schema = serde_json::json!({ "type": "object" });
    options().apply_to(&mut schema);
    schema
}

/// A schema that llguidance compiles into what it says. The error says what cannot be enforced and where, as a JSON
/// pointer.
pub(crate) fn parse(text: &str) -> Result<Value, String> {
    let depth = depth(text);
    if depth > SCHEMA_DEPTH_MAX {
        return Err(format!("it nests {depth} deep, and at most {SCHEMA_DEPTH_MAX} levels are compiled"));
    }
    let mut schema: Value = serde_json::from_str(text).map_err(|error| format!("it is not JSON: {error}"))?;
    let mut walk = Walk { nodes: 0 };
    walk.schema(&schema, "")?;
    match &mut schema {
        Value::Object(members) => {
            tidy(members);
            options().apply_to(&mut schema);
            Ok(schema)
        }
        Value::Bool(true) => {
            schema = Value::Object(Map::new());
            options().apply_to(&mut schema);
            Ok(schema)
        }
        // `walk` let nothing else through.
        _ => Err("nothing is valid against `false`".to_owned()),
    }
}

/// Whether a schema can be enforced. The error says what cannot and where, as a JSON pointer.
pub fn check(text: &str) -> Result<(), String> {
    parse(text).map(drop)
}

fn options() -> JsonCompileOptions {
    JsonCompileOptions { whitespace_pattern: Some(WHITESPACE.to_owned()), ..JsonCompileOptions::default() }
}

struct Walk {
    nodes: usize,
}

impl Walk {
    fn schema(&mut self, schema: &Value, path: &str) -> Result<(), String> {
        self.nodes += 1;
        if self.nodes > SCHEMA_NODES_MAX {
            return Err(format!("it has more than {SCHEMA_NODES_MAX} subschemas"));
        }
        let members = match schema {
            Value::Bool(_) => return Ok(()),
            Value::Object(members) => members,
            _ => return Err(at(path, "a schema is an object, true or false")),
        };
        for (name, value) in members {
            let place = || format!("{path}/{}", name.replace('~', "~0").replace('/', "~1"));
            self.keyword(name, value, &place(), path.is_empty())?;
        }
        Ok(())
    }

    fn keyword(&mut self, name: &str, value: &Value, path: &str, is_root: bool) -> Result<(), String> {
        match name {
            // Asks for nothing.
            "uniqueItems" if *value == Value::Bool(false) => Ok(()),
            _ if UNENFORCED.contains(&name) => Err(at(path, &format!("the keyword `{name}` is not supported"))),
            // Of llguidance's own: it would loosen what is enforced.
            "x-guidance" => Err(at(path, "the keyword `x-guidance` is not supported")),
            // It changes what references below it mean.
            "$id" | "id" if !is_root && value.is_string() => {
                Err(at(path, &format!("`{name}` is supported at the root only")))
            }
            "$ref" => match value.as_str() {
                Some(target) if target == "#" || target.starts_with("#/") => Ok(()),
                Some(target) => Err(at(path, &format!("`{target}` is not in this document: only `#/…` is followed"))),
                None => Err(at(path, "`$ref` is a string")),
            },
            "type" => types(value).ok_or_else(|| {
                at(path, "`type` is one of null, boolean, number, integer, string, array and object, or a list of them")
            }),
            "required" if !is_texts(value) => Err(at(path, "`required` is a list of strings")),
            "enum" if value.as_array().is_none_or(Vec::is_empty) => {
                Err(at(path, "`enum` is a list with at least one value"))
            }
            _ if MAPS.contains(&name) => {
                let Value::Object(members) = value else { return Err(at(path, &format!("`{name}` is an object"))) };
                members.iter().try_for_each(|(name, schema)| self.schema(schema, &format!("{path}/{name}")))
            }
            _ if LISTS.contains(&name) || name == "items" && value.is_array() => {
                let Value::Array(schemas) = value else { return Err(at(path, &format!("`{name}` is a list"))) };
                let mut places = schemas.iter().enumerate();
                places.try_for_each(|(place, schema)| self.schema(schema, &format!("{path}/{place}")))
            }
            _ if SINGLE.contains(&name) => self.schema(value, path),
            _ => Ok(()),
        }
    }
}

/// Takes out what asks for nothing and what llguidance refuses to see.
fn tidy(members: &mut Map<String, Value>) {
    members.retain(|name, value| !(name == "uniqueItems" && *value == Value::Bool(false)));
    for (name, value) in members {
        match value {
            Value::Object(inner) if MAPS.contains(&name.as_str()) => {
                inner.values_mut().filter_map(Value::as_object_mut).for_each(tidy);
            }
            Value::Object(inner) if SINGLE.contains(&name.as_str()) => tidy(inner),
            Value::Array(inner) if LISTS.contains(&name.as_str()) || name == "items" => {
                inner.iter_mut().filter_map(Value::as_object_mut).for_each(tidy);
            }
            _ => {}
        }
    }
}

fn at(path: &str, what: &str) -> String {
    if path.is_empty() { what.to_owned() } else { format!("at `{path}`: {what}") }
}

fn types(value: &Value) -> Option<()> {
    let is_type = |value: &Value| value.as_str().is_some_and(|name| TYPES.contains(&name));
    let known = match value {
        Value::Array(types) => !types.is_empty() && types.iter().all(is_type),
        value => is_type(value),
    };
    known.then_some(())
}

fn is_texts(value: &Value) -> bool {
    value.as_array().is_some_and(|values| values.iter().all(Value::is_string))
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

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(schema: &str, expected: &str) {
        let error = parse(schema).expect_err(schema);
        assert!(error.contains(expected), "{schema:.80}: {error}");
    }

    #[test]
    fn what_is_not_enforced_is_named_with_its_place() {
        refused(r#"{"properties":{"a":{"items":{"not":{}}}}}"#, "at `/properties/a/items/not`: the keyword `not`");
        refused(
            r#"{"anyOf":[{},{"$ref":"https://example.com/s"}]}"#,
            "at `/anyOf/1/$ref`: `https://example.com/s` is not in",
        );
        refused(r#"{"x-guidance":{"lenient":true}}"#, "`x-guidance`");
        refused(r#"{"type":"text"}"#, "at `/type`: `type` is one of");
        refused(r#"{"uniqueItems":true}"#, "uniqueItems");
        refused(r#"{"properties":{"a/b":{"if":{}}}}"#, "/properties/a/b/if");
        refused(r#"{"enum":[]}"#, "at least one value");
        refused("[]", "a schema is an object");
        refused("{", "not JSON");
    }

    #[test]
    fn names_of_properties_are_not_keywords() {
        let schema = r#"{"properties":{"not":{"const":{"not":1}},"$ref":{"enum":[{"if":1}]},"id":{"type":"string"}}}"#;
        assert!(parse(schema).is_ok());
    }

    #[test]
    fn what_asks_for_nothing_is_left_out() {
        let schema = parse(r#"{"items":{"uniqueItems":false,"type":"null"}}"#).unwrap();
        assert_eq!(schema["items"], serde_json::json!({"type":"null"}));
    }

    #[test]
    fn depth_and_size_are_bounded() {
        refused(&"[".repeat(60_000), "nests 60000 deep");
        let many = vec!["{}"; SCHEMA_NODES_MAX].join(",");
        refused(&format!(r#"{{"anyOf":[{many}]}}"#), "more than 5000 subschemas");
    }
}
