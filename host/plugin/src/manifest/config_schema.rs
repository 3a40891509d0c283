//! The JSON Schema of a plugin's configuration: what the operator wrote is judged by it before the plugin runs.

use std::fmt::Write as _;
use std::sync::Arc;

use jsonschema::{PatternOptions, Validator};
use serde_json::Value;

use super::expansion;
use crate::limits::{CONFIG_ERRORS_MAX, CONFIG_SCHEMA_DEPTH_MAX, CONFIG_SCHEMA_PLACES_MAX};
use crate::text::{cut, escape_into};

/// A schema that judges in bounded time and asks nobody.
#[derive(Clone)]
pub(crate) struct ConfigSchema {
    validator: Arc<Validator>,
}

/// Something in a configuration that the schema does not allow.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Objection {
    /// The way to the value, as keys and indices.
    pub(crate) path: Vec<String>,
    /// What is wrong with it. Never the value: it may be a secret.
    pub(crate) reason: String,
}

/// Bytes of one objection; a list of all allowed values may be long.
const REASON_BYTES_MAX: usize = 500;

impl ConfigSchema {
    pub(super) fn new(schema: &Value) -> Result<Self, String> {
        if !schema.is_object() {
            return Err("is no JSON Schema: it is not an object".to_owned());
        }
        expansion::check(schema, CONFIG_SCHEMA_PLACES_MAX, CONFIG_SCHEMA_DEPTH_MAX)?;
        // `regex` takes time in proportion to the text; the crate's own choice tries again and again.
        let options = jsonschema::options().with_pattern_options(PatternOptions::regex());
        let validator = options.build(schema).map_err(|error| format!("is no JSON Schema: {error}"))?;
        Ok(Self { validator: Arc::new(validator) })
    }

    /// What is wrong with a configuration, as much of it as somebody would read.
    pub(crate) fn objections(&self, config: &Value) -> Vec<Objection> {
        let objection = |error: jsonschema::ValidationError<'_>| {
            let pointer = error.instance_path().to_string();
            let path = pointer.split('/').skip(1).map(|part| part.replace("~1", "/").replace("~0", "~")).collect();
            let mut reason = String::new();
            escape_into(&mut reason, &error.masked().to_string());
            Objection { path, reason: cut(reason, REASON_BYTES_MAX) }
        };
        let mut objections: Vec<_> =
            self.validator.iter_errors(config).take(CONFIG_ERRORS_MAX).map(objection).collect();
        objections.sort();
        objections
    }
}

impl std::fmt::Debug for ConfigSchema {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ConfigSchema").finish_non_exhaustive()
    }
}

impl Objection {
    /// The key as the operator writes it: `kinds[1].name`.
    pub(crate) fn key(&self) -> String {
        let mut key = String::new();
        for part in &self.path {
            if part.bytes().all(|byte| byte.is_ascii_digit()) && !part.is_empty() {
                write!(key, "[{part}]").expect("a string takes everything");
            } else {
                let dot = if key.is_empty() { "" } else { "." };
                key.push_str(dot);
                escape_into(&mut key, part);
            }
        }
        key
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(config: &Value, expected: &[(&str, &str)]) {
        let schema = ConfigSchema::new(&json!({
            "type": "object",
            "additionalProperties": false,
            "properties": {
                "token": { "type": "string", "pattern": "^sk-" },
                "kinds": { "type": "array", "items": { "enum": ["email", "iban"] } },
                "shapes": { "type": "array", "items": { "type": "object", "required": ["kind"] } },
            },
        }));
        let objections = schema.expect("a schema").objections(config);
        let shown: Vec<_> = objections.iter().map(|objection| (objection.key(), objection.reason.as_str())).collect();
        let shown: Vec<_> = shown.iter().map(|(key, reason)| (key.as_str(), *reason)).collect();
        assert_eq!(shown, expected);
    }

    #[test]
    fn what_is_allowed_passes() {
        check(&json!({ "token": "sk-1", "kinds": ["iban"], "shapes": [{ "kind": "x" }] }), &[]);
        check(&json!({}), &[]);
    }

    #[test]
    fn an_objection_names_the_key_and_never_the_value() {
        check(&json!({ "token": "hunter2" }), &[("token", "value does not match \"^sk-\"")]);
        check(&json!({ "kinds": ["email", "phone"] }), &[("kinds[1]", "value is not one of \"email\" or \"iban\"")]);
        check(&json!({ "shapes": [{}] }), &[("shapes[0]", "\"kind\" is a required property")]);
        check(&json!({ "tokens": "x" }), &[("", "Additional properties are not allowed ('tokens' was unexpected)")]);
        check(&json!({ "token": 7 }), &[("token", "value is not of type \"string\"")]);
    }

    #[test]
    fn what_is_no_schema() {
        for schema in [json!(true), json!({ "type": "objekt" }), json!({ "properties": { "a": { "pattern": "(" } } })] {
            let refused = ConfigSchema::new(&schema).expect_err("no schema");
            assert!(refused.starts_with("is no JSON Schema: "), "{schema}: {refused}");
        }
    }

    /// A pattern that takes an engine with backtracking longer than the universe lasts.
    #[test]
    fn a_pattern_takes_no_time() {
        let schema = json!({ "properties": { "a": { "pattern": "^(a+)+$" } } });
        let schema = ConfigSchema::new(&schema).expect("a schema");
        assert_eq!(schema.objections(&json!({ "a": "a".repeat(10_000) + "b" })).len(), 1);
    }
}
