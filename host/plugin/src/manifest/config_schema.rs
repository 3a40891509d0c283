//! The JSON Schema of a plugin's configuration: what the operator wrote is judged by it before the plugin runs.

use std::fmt::Write as _;
use std::sync::Arc;

use jsonschema::error::ValidationErrorKind;
use jsonschema::{PatternOptions, Validator};
use serde_json::Value;

use super::expansion;
use crate::limits::{
    CONFIG_ERRORS_MAX, CONFIG_PATTERN_CACHE_BYTES, CONFIG_PATTERN_COMPILED_BYTES_MAX, CONFIG_SCHEMA_DEPTH_MAX,
    CONFIG_SCHEMA_PLACES_MAX, CONFIG_STEPS_MAX, CONFIG_STEPS_TOLD_MAX,
};
use crate::text::{cut, escape_into};

/// A schema that judges in bounded time and asks nobody.
#[derive(Clone)]
pub(crate) struct ConfigSchema {
    validator: Arc<Validator>,
    /// Places that it has with its references followed. Judging visits each once for a value, and no more.
    places: u64,
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

/// What an author may not know of patterns.
const PATTERN_HINT: &str = " that is taken here: those of the `regex` crate are, while they are small; use `maxLength` rather than a \
                            repeated `\\pL`";

impl ConfigSchema {
    pub(super) fn new(schema: &Value) -> Result<Self, String> {
        if !schema.is_object() {
            return Err("is no JSON Schema: it is not an object".to_owned());
        }
        let places = expansion::check(schema, CONFIG_SCHEMA_PLACES_MAX, CONFIG_SCHEMA_DEPTH_MAX)?;
        // `regex` takes time in proportion to the text; the crate's own choice tries again and again.
        let patterns = PatternOptions::regex()
            .size_limit(CONFIG_PATTERN_COMPILED_BYTES_MAX)
            .dfa_size_limit(CONFIG_PATTERN_CACHE_BYTES);
        let options = jsonschema::options().with_pattern_options(patterns);
        let validator = options.build(schema).map_err(|error| {
            let hint = match error.kind() {
                ValidationErrorKind::Format { format } if format == "regex" => PATTERN_HINT,
                _ => "",
            };
            format!("is no JSON Schema: {}{hint}", cut(error.to_string(), REASON_BYTES_MAX))
        })?;
        Ok(Self { validator: Arc::new(validator), places })
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
        let steps = self.places.saturating_mul(values(config));
        if steps > CONFIG_STEPS_MAX {
            let reason = format!(
                "is too large to be judged: {} values and a schema of {} places are {steps} steps, and {CONFIG_STEPS_MAX} are the most",
                values(config),
                self.places
            );
            return vec![Objection { path: Vec::new(), reason }];
        }
        // All errors are made before the first is told, so there may be as many as there are steps.
        let mut objections: Vec<_> = if steps <= CONFIG_STEPS_TOLD_MAX {
            self.validator.iter_errors(config).take(CONFIG_ERRORS_MAX).map(objection).collect()
        } else {
            self.validator.validate(config).err().map(objection).into_iter().collect()
        };
        objections.sort();
        objections
    }
}

/// How many there are in a value, itself included.
fn values(value: &Value) -> u64 {
    1 + match value {
        Value::Array(items) => items.iter().map(values).sum::<u64>(),
        Value::Object(members) => members.values().map(values).sum(),
        _ => 0,
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

    #[test]
    fn a_schema_and_a_configuration_are_bounded_together() {
        let schema = json!({ "items": { "allOf": vec![json!({ "type": "string" }); 4_000] } });
        let schema = ConfigSchema::new(&schema).expect("a schema");
        assert_eq!(schema.objections(&json!([1, 2])).len(), CONFIG_ERRORS_MAX);
        // 8,000 places for each of 1,001 values: 4 million errors, of which one is made.
        let objections = schema.objections(&json!(vec![1; 1_000]));
        assert_eq!(objections.iter().map(Objection::key).collect::<Vec<_>>(), ["[0]"]);
        let objections = schema.objections(&json!(vec!["a"; 20_000]));
        assert!(objections.len() == 1 && objections[0].reason.starts_with("is too large to be judged: 20001 values"));
    }

    #[test]
    fn a_pattern_has_a_size() {
        let pattern = |pattern: &str| ConfigSchema::new(&json!({ "pattern": pattern }));
        for fits in ["^[A-Za-z0-9_-]{1,64}$", "^\\w{1,63}$", "^\\pL{1,3}$", "^https?://[^/]+(/.*)?$"] {
            assert!(pattern(fits).is_ok(), "{fits}");
        }
        let refused = pattern("\\pL{60}").expect_err("2 MiB");
        assert!(refused.starts_with("is no JSON Schema: ") && refused.contains("`maxLength`"), "{refused}");
    }

    /// As many as there may be, each as large as it may be, take 28 MiB. Fifty of `\pL{60}` took 118.
    #[test]
    fn patterns_take_little_memory_together() {
        let resident = || {
            let status = std::fs::read_to_string("/proc/self/statm").expect("Linux");
            status.split(' ').nth(1).and_then(|pages| pages.parse::<usize>().ok()).expect("pages") * 4096
        };
        let schema = |count: usize, letters: usize| {
            let patterns = (0..count).map(|number| json!({ "pattern": format!(r"(\pL{{{letters}}}){number}") }));
            ConfigSchema::new(&json!({ "anyOf": patterns.collect::<Vec<_>>() }))
        };
        let largest = (1..60).rev().find(|&letters| schema(1, letters).is_ok()).expect("one fits");
        let before = resident();
        let schema = schema(crate::limits::CONFIG_PATTERNS_MAX, largest).expect("a schema");
        schema.objections(&json!("é".repeat(10_000)));
        let grown = resident().saturating_sub(before);
        assert!(grown < 64 << 20, "{grown} bytes for patterns of {largest} letters");
    }

    /// A pattern that takes an engine with backtracking longer than the universe lasts.
    #[test]
    fn a_pattern_takes_no_time() {
        let schema = json!({ "properties": { "a": { "pattern": "^(a+)+$" } } });
        let schema = ConfigSchema::new(&schema).expect("a schema");
        assert_eq!(schema.objections(&json!({ "a": "a".repeat(10_000) + "b" })).len(), 1);
    }
}
