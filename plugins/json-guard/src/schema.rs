//! Whether a JSON value has a schema's form: the keywords that say what shape a value has. `pattern`, `format` and what
//! else README.md names is left to the grammar.

use std::cell::Cell;
use std::collections::HashSet;

use serde_json::{Map, Value};

use crate::form::Judgement;
use crate::limits::SCHEMA_DEPTH_MAX;

/// Checks `value` in at most so many steps. What is wrong is said with the place in the value as a JSON pointer.
#[must_use]
pub fn check(schema: &Value, value: &Value, steps_max: usize) -> Judgement {
    let check = Check { root: schema, steps_left: Cell::new(Some(steps_max)) };
    let problem = check.value(schema, value, "", 0);
    match (check.steps_left.get(), problem) {
        (None, _) => Judgement::NotChecked("it would take too many steps"),
        (_, Some(problem)) => Judgement::Invalid(problem),
        (_, None) => Judgement::Valid,
    }
}

struct Check<'a> {
    root: &'a Value,
    /// `None`: there were too few, and what comes out means nothing.
    steps_left: Cell<Option<usize>>,
}

impl Check<'_> {
    /// Counts so many steps; `None`: they are used up.
    fn step(&self, count: usize) -> Option<()> {
        let left = self.steps_left.get().and_then(|left| left.checked_sub(count));
        self.steps_left.set(left);
        left.map(drop)
    }

    fn value(&self, schema: &Value, value: &Value, at: &str, depth: usize) -> Option<String> {
        self.step(1)?;
        if depth > SCHEMA_DEPTH_MAX {
            return Some(wrong(at, "its schema refers to itself without end"));
        }
        let schema = match schema {
            Value::Object(schema) => schema,
            Value::Bool(false) => return Some(wrong(at, "nothing is allowed here")),
            _ => return None,
        };
        self.reference(schema, value, at, depth)
            .or_else(|| kind(schema, value, at))
            .or_else(|| self.choice(schema, value, at))
            .or_else(|| match value {
                Value::Object(members) => self.object(schema, members, at, depth),
                Value::Array(items) => self.array(schema, items, at, depth),
                Value::String(text) => length(schema, text.chars().count(), at, "Length", "characters"),
                Value::Number(_) => number(schema, value, at),
                Value::Null | Value::Bool(_) => None,
            })
            .or_else(|| self.combined(schema, value, at, depth))
    }

    fn reference(&self, schema: &Map<String, Value>, value: &Value, at: &str, depth: usize) -> Option<String> {
        let reference = schema.get("$ref")?.as_str()?;
        match reference.strip_prefix('#').and_then(|pointer| self.root.pointer(pointer)) {
            Some(target) => self.value(target, value, at, depth + 1),
            // Names of other documents: the grammar refused those before the answer began.
            None => None,
        }
    }

    fn object(
        &self,
        schema: &Map<String, Value>,
        members: &Map<String, Value>,
        at: &str,
        depth: usize,
    ) -> Option<String> {
        let required = schema.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
        if let Some(missing) = required.into_iter().find(|name| !members.contains_key(*name)) {
            return Some(wrong(at, &format!("`{missing}` is missing")));
        }
        if let Some(problem) = length(schema, members.len(), at, "Properties", "members") {
            return Some(problem);
        }
        let properties = schema.get("properties").and_then(Value::as_object);
        // Which names a pattern allows is not known here.
        let others = schema.get("additionalProperties").filter(|_| !schema.contains_key("patternProperties"));
        members.iter().find_map(|(name, value)| {
            let place = || format!("{at}/{}", name.replace('~', "~0").replace('/', "~1"));
            match properties.and_then(|properties| properties.get(name)) {
                Some(schema) => self.value(schema, value, &place(), depth + 1),
                None => match others {
                    Some(Value::Bool(false)) => Some(wrong(at, &format!("`{name}` is not allowed"))),
                    Some(schema) => self.value(schema, value, &place(), depth + 1),
                    None => None,
                },
            }
        })
    }

    fn array(&self, schema: &Map<String, Value>, items: &[Value], at: &str, depth: usize) -> Option<String> {
        if let Some(problem) = length(schema, items.len(), at, "Items", "items") {
            return Some(problem);
        }
        let mut seen = HashSet::new();
        if schema.get("uniqueItems") == Some(&Value::Bool(true))
            && let Some(second) = items.iter().position(|item| !seen.insert(item))
        {
            return Some(wrong(&format!("{at}/{second}"), "the item is there twice"));
        }
        let first: &[Value] = schema.get("prefixItems").and_then(Value::as_array).map_or(&[], Vec::as_slice);
        let rest = schema.get("items");
        items.iter().enumerate().find_map(|(number, item)| {
            let schema = first.get(number).or(rest)?;
            self.value(schema, item, &format!("{at}/{number}"), depth + 1)
        })
    }

    fn choice(&self, schema: &Map<String, Value>, value: &Value, at: &str) -> Option<String> {
        let all = schema.get("enum").and_then(Value::as_array);
        self.step(all.map_or(0, Vec::len))?;
        let is_other = schema.get("const").is_some_and(|only| !same(only, value))
            || all.is_some_and(|all| !all.iter().any(|one| same(one, value)));
        is_other.then(|| wrong(at, "it is none of the values that it may be"))
    }

    fn combined(&self, schema: &Map<String, Value>, value: &Value, at: &str, depth: usize) -> Option<String> {
        let list = |name: &str| schema.get(name).and_then(Value::as_array);
        let fits = |schema: &&Value| self.value(schema, value, at, depth + 1).is_none();
        if let Some(problem) =
            list("allOf").and_then(|all| all.iter().find_map(|s| self.value(s, value, at, depth + 1)))
        {
            return Some(problem);
        }
        if list("anyOf").is_some_and(|any| !any.iter().any(|schema| fits(&schema))) {
            return Some(wrong(at, "it has none of the forms that it may have"));
        }
        if list("oneOf").is_some_and(|one| one.iter().filter(fits).count() != 1) {
            return Some(wrong(at, "it has not exactly one of the forms that it may have"));
        }
        if schema.get("not").is_some_and(|schema| fits(&schema)) {
            return Some(wrong(at, "it has the form that it must not have"));
        }
        None
    }
}

fn kind(schema: &Map<String, Value>, value: &Value, at: &str) -> Option<String> {
    let is = |name: &str| match name {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "number" => value.is_number(),
        "integer" => value.is_i64() || value.is_u64() || value.as_f64().is_some_and(|number| number.fract() == 0.0),
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        _ => true,
    };
    let fits = match schema.get("type")? {
        Value::String(name) => is(name),
        Value::Array(names) => names.iter().filter_map(Value::as_str).any(is),
        _ => true,
    };
    (!fits).then(|| wrong(at, &format!("it is not of type {}", schema["type"])))
}

/// JSON has one kind of number: 1 and 1.0 are the same.
fn same(a: &Value, b: &Value) -> bool {
    a == b || (a.is_number() && a.as_f64() == b.as_f64())
}

fn length(schema: &Map<String, Value>, length: usize, at: &str, what: &str, unit: &str) -> Option<String> {
    let bound = |side: &str| schema.get(&format!("{side}{what}")).and_then(Value::as_u64);
    let length = length as u64;
    if let Some(least) = bound("min").filter(|&least| length < least) {
        return Some(wrong(at, &format!("it has {length} {unit} and must have at least {least}")));
    }
    let most = bound("max").filter(|&most| length > most)?;
    Some(wrong(at, &format!("it has {length} {unit} and may have at most {most}")))
}

fn number(schema: &Map<String, Value>, value: &Value, at: &str) -> Option<String> {
    let number = value.as_f64()?;
    let bound = |name: &str| schema.get(name).and_then(Value::as_f64);
    let is_out = bound("minimum").is_some_and(|least| number < least)
        || bound("maximum").is_some_and(|most| number > most)
        || bound("exclusiveMinimum").is_some_and(|least| number <= least)
        || bound("exclusiveMaximum").is_some_and(|most| number >= most);
    is_out.then(|| wrong(at, "the number is out of range"))
}

fn wrong(at: &str, what: &str) -> String {
    if at.is_empty() { what.to_owned() } else { format!("{at}: {what}") }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[track_caller]
    fn fits(schema: &Value, values: &[Value]) {
        for value in values {
            assert_eq!(check(schema, value, 1000), Judgement::Valid, "{value} in {schema}");
        }
    }

    #[track_caller]
    fn fails(schema: &Value, value: &Value, words: &str) {
        let Judgement::Invalid(problem) = check(schema, value, 1000) else { panic!("{value} fits {schema}") };
        assert!(problem.contains(words), "{problem}");
    }

    #[test]
    fn objects() {
        let schema = json!({
            "type": "object",
            "properties": {"name": {"type": "string", "minLength": 2}, "age": {"type": "integer", "minimum": 0}},
            "required": ["name"],
            "additionalProperties": false,
            "maxProperties": 2
        });
        fits(&schema, &[json!({"name": "Jo", "age": 3.0}), json!({"name": "日本"})]);
        fails(&schema, &json!([]), "not of type");
        fails(&schema, &json!({"age": 3}), "`name` is missing");
        fails(&schema, &json!({"name": "J"}), "/name: it has 1 characters and must have at least 2");
        fails(&schema, &json!({"name": "Jo", "age": -1}), "/age: the number is out of range");
        fails(&schema, &json!({"name": "Jo", "age": 1.5}), "/age: it is not of type \"integer\"");
        fails(&schema, &json!({"name": "Jo", "x": 1}), "`x` is not allowed");
        let schema = json!({"additionalProperties": {"type": "null"}});
        fits(&schema, &[json!({"a": null}), json!(7)]);
        fails(&schema, &json!({"a/b": 1}), "/a~1b");
    }

    #[test]
    fn arrays() {
        let schema =
            json!({"prefixItems": [{"const": 1}], "items": {"enum": ["a", 2]}, "maxItems": 3, "uniqueItems": true});
        fits(&schema, &[json!([]), json!([1.0]), json!([1, "a", 2.0])]);
        fails(&schema, &json!([2]), "/0");
        fails(&schema, &json!([1, "b"]), "/1");
        fails(&schema, &json!([1, "a", "a"]), "/2: the item is there twice");
        fails(&schema, &json!([1, "a", 2, 2]), "4 items");
    }

    #[test]
    fn combinations_and_references() {
        let schema =
            json!({"anyOf": [{"type": "null"}, {"$ref": "#/$defs/text"}], "$defs": {"text": {"type": "string"}}});
        fits(&schema, &[json!(null), json!("x")]);
        fails(&schema, &json!(1), "none of the forms");
        let schema = json!({"oneOf": [{"type": "integer"}, {"minimum": 2}], "not": {"const": 7.5}});
        fits(&schema, &[json!(1), json!(2.5)]);
        fails(&schema, &json!(3), "exactly one");
        fails(&schema, &json!(7.5), "must not have");
        fails(&json!({"allOf": [true, {"exclusiveMaximum": 1}]}), &json!(1), "out of range");
        let list = json!({"properties": {"next": {"$ref": "#"}}, "additionalProperties": false});
        fits(&list, &[json!({"next": {"next": {}}})]);
        fails(&list, &json!({"next": {"nxt": {}}}), "/next: `nxt`");
    }

    #[test]
    fn a_schema_that_is_its_own_answer_has_an_end() {
        fails(&json!({"$ref": "#"}), &json!(1), "refers to itself");
    }

    #[test]
    fn what_would_take_too_long_is_not_checked() {
        let not_checked = Judgement::NotChecked("it would take too many steps");
        let doubling = json!({"anyOf": [{"$ref": "#"}, {"$ref": "#"}]});
        assert_eq!(check(&doubling, &json!(1), 10_000), not_checked);
        assert_eq!(check(&json!({"not": doubling, "anyOf": doubling["anyOf"]}), &json!(1), 10_000), not_checked);
        let long = json!({"enum": (0..2000).collect::<Vec<_>>()});
        assert_eq!(check(&json!({"items": long}), &json!([0, 1, 2, 3, 4, 5]), 10_000), not_checked);
        let many: Vec<usize> = (0..100_000).collect();
        assert_eq!(check(&json!({"uniqueItems": true}), &json!(many), 10_000), Judgement::Valid, "and at once");
        fails(
            &json!({"uniqueItems": true}),
            &json!([{"a": 1, "b": 2}, {"b": 2, "a": 1}]),
            "/1: the item is there twice",
        );
    }
}
