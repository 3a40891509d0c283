//! Arguments that come one by one, as text between tags: `<parameter=key>value</parameter>`.

use serde_json::Value;

use crate::cursor::{Cursor, Read};

/// What comes next inside a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Parameter {
    /// An argument.
    Given { key: String, value: String },
    /// There are no more.
    End,
}

pub(super) fn next(cursor: &mut Cursor<'_>) -> Read<Parameter> {
    cursor.space()?;
    if cursor.one_of(&["<parameter=", "</function>"])? == 1 {
        return Ok(Parameter::End);
    }
    let key = cursor.until(">", &['\n', '<'])?.trim().to_owned();
    let value = cursor.until("</parameter>", &[])?;
    // A line break on both sides belongs to the form.
    let value = value.strip_prefix('\n').unwrap_or(value);
    let value = value.strip_suffix('\n').unwrap_or(value);
    Ok(Parameter::Given { key, value: value.to_owned() })
}

/// An argument as JSON: text where the schema wants a string, else what it spells, if it spells anything. `schema` is that of
/// the argument.
pub(super) fn json(value: &str, schema: Option<&Value>) -> String {
    let text = || Value::from(value).to_string();
    let wants = |kind: &str| schema.is_some_and(|schema| allows(schema, kind));
    let is_known = schema.is_some_and(|schema| ["type", "anyOf"].iter().any(|name| schema.get(name).is_some()));
    match serde_json::from_str::<Value>(value.trim()) {
        Ok(Value::String(_)) | Err(_) => text(),
        Ok(spelled) => {
            let kind = match &spelled {
                Value::Null => "null",
                Value::Bool(_) => "boolean",
                Value::Number(number) if !number.is_f64() && wants("integer") => "integer",
                Value::Number(_) => "number",
                Value::Array(_) => "array",
                Value::Object(_) => "object",
                Value::String(_) => "string",
            };
            if wants(kind) || !is_known { value.trim().to_owned() } else { text() }
        }
    }
}

fn allows(schema: &Value, kind: &str) -> bool {
    let is_kind = |value: &Value| value.as_str() == Some(kind);
    match &schema["type"] {
        Value::Array(kinds) => kinds.iter().any(is_kind),
        Value::Null => schema["anyOf"].as_array().is_some_and(|any| any.iter().any(|schema| allows(schema, kind))),
        value => is_kind(value),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_argument_is_what_its_schema_wants() {
        for (value, schema, expected) in [
            ("5", json!({"type": "string"}), r#""5""#),
            ("5", json!({"type": "integer"}), "5"),
            ("5", json!({}), "5"),
            ("5.5", json!({"type": ["number", "null"]}), "5.5"),
            ("true", json!({"anyOf": [{"type": "boolean"}, {"type": "string"}]}), "true"),
            ("[1,\n2]", json!({"type": "array"}), "[1,\n2]"),
            ("a \"b\"\nc", json!({"type": "integer"}), r#""a \"b\"\nc""#),
            ("\"a\"", json!({"type": "string"}), r#""\"a\"""#),
        ] {
            assert_eq!(json(value, Some(&schema)), expected, "{value} {schema}");
        }
        assert_eq!(json("{\"a\": 1}", None), "{\"a\": 1}");
    }
}
