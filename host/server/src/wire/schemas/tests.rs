//! The document and the parsers say the same: what one takes the other takes, at every bound, and no member is known to one alone.

use std::collections::BTreeSet;
use std::path::Path;

use jsonschema::Validator;
use serde_json::{Value, json};

use super::super::{
    Refusal, parse_chat, parse_completion, parse_count_tokens, parse_detokenize, parse_embeddings, parse_message,
    parse_rerank, parse_response, parse_tokenize,
};
use super::*;
use crate::service::Defaults;

/// A form of the API, with a body in which most members have what they need beside them.
struct Form {
    name: &'static str,
    schema: fn(&mut Schemas) -> Value,
    parse: fn(&[u8]) -> Result<(), Refusal>,
    base: Value,
}

fn forms() -> Vec<Form> {
    let function = json!({"type": "function", "function": {"name": EXAMPLE_FUNCTION}});
    let chat = json!({
        "model": "m",
        "messages": [{"role": "user", "content": "a"}, {"role": "user", "content": "b"}],
        "stream": true, "logprobs": true, "tools": [function],
    });
    let message = json!({
        "model": "m", "max_tokens": 5,
        "messages": [{"role": "user", "content": "a"}, {"role": "user", "content": "b"}],
        "tools": [{"name": EXAMPLE_FUNCTION, "input_schema": {}}],
    });
    let completion = json!({"model": "m", "prompt": "a", "stream": true});
    vec![
        Form {
            name: "chat",
            schema: chat_request,
            parse: |body| parse_chat(body, &Defaults::default()).map(drop),
            base: chat,
        },
        Form {
            name: "completion",
            schema: completion_request,
            parse: |body| parse_completion(body, &Defaults::default()).map(drop),
            base: completion,
        },
        Form {
            name: "message",
            schema: message_request,
            parse: |body| parse_message(body, &Defaults::default()).map(drop),
            base: message.clone(),
        },
        Form {
            name: "count tokens",
            schema: count_tokens_request,
            parse: |body| parse_count_tokens(body, &Defaults::default()).map(drop),
            base: message,
        },
        Form {
            name: "response",
            schema: response_request,
            parse: |body| parse_response(body, &Defaults::default()).map(drop),
            base: json!({
                "model": "m", "tools": [{"type": "function", "name": EXAMPLE_FUNCTION}],
                "input": [{"role": "user", "content": "a"}, {"role": "user", "content": "b"}],
            }),
        },
        Form {
            name: "embeddings",
            schema: embeddings_request,
            parse: |body| parse_embeddings(body).map(drop),
            base: json!({"model": "m", "input": "a"}),
        },
        Form {
            name: "rerank",
            schema: rerank_request,
            parse: |body| parse_rerank(body).map(drop),
            base: json!({"model": "m", "query": "q", "documents": ["a", "b"]}),
        },
        Form {
            name: "tokenize",
            schema: tokenize_request,
            parse: |body| parse_tokenize(body).map(drop),
            base: json!({"prompt": "a"}),
        },
        Form {
            name: "detokenize",
            schema: detokenize_request,
            parse: |body| parse_detokenize(body).map(drop),
            base: json!({"tokens": [1]}),
        },
    ]
}

/// What members are to each other cannot be said in a schema; refusals that are about that.
const RELATIONS: [&str; 7] = [
    "which is not among `tools`",
    "is the second function with the name",
    "asks for a call; send the functions as `tools`",
    "is not supported beyond `n`",
    "is for log probabilities; set `logprobs`",
    "is for streams; set `stream`",
    "that is not a thought",
];

#[test]
fn the_document_takes_what_the_parsers_take() {
    let mut wrong = Vec::new();
    for form in forms() {
        let mut schemas = Schemas::new();
        let reference = (form.schema)(&mut schemas);
        let mut root = json!({"components": {"schemas": schemas.finish()}});
        root["$ref"] = reference["$ref"].clone();
        let validator = jsonschema::validator_for(&root).expect("a schema");
        let names = words();
        let (mut taken, mut refused) = (0, 0);
        let walk = Walk { root: &root, names: &names };
        walk.bodies(&reference, Some(&form.base), &mut |body, is_probe| {
            let outcome = (form.parse)(body.to_string().as_bytes());
            let is_unknown = outcome.as_ref().is_err_and(|refusal| refusal.code == "unknown_parameter");
            if is_probe && outcome.is_err() {
                return is_unknown;
            }
            *(if outcome.is_ok() { &mut taken } else { &mut refused }) += 1;
            if validator.is_valid(&body) != outcome.is_ok() {
                let why = outcome.map_or_else(|refusal| refusal.message, |()| "taken".to_owned());
                if why == "taken" || !RELATIONS.iter().any(|relation| why.contains(relation)) {
                    let shown: String = body.to_string().chars().take(400).collect();
                    wrong.push(format!("{}: the parser: {why}; the document: otherwise, of {shown}", form.name));
                }
            }
            is_unknown
        });
        assert!(taken > 3 && refused > 3, "{}: {taken} bodies taken, {refused} refused", form.name);
    }
    wrong.sort();
    wrong.dedup();
    assert!(wrong.is_empty(), "{} differences:\n{}", wrong.len(), wrong.join("\n"));
}

/// Every word in quotes in the sources of the parsers: the names of all members that any of them knows, among others.
fn words() -> BTreeSet<String> {
    fn read(folder: &Path, words: &mut BTreeSet<String>) {
        for entry in std::fs::read_dir(folder).expect("the sources") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                read(&path, words);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let source = std::fs::read_to_string(&path).expect("a source");
                let is_word =
                    |text: &&str| !text.is_empty() && text.bytes().all(|it| it.is_ascii_lowercase() || it == b'_');
                words.extend(source.split('"').filter(is_word).map(str::to_owned));
            }
        }
    }
    let mut words = BTreeSet::new();
    read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src/wire"), &mut words);
    for known in ["model", "guided_json", "tool_use_id", "encoding_format", "return_documents", "parse_special"] {
        assert!(words.contains(known), "{known} is not among the words");
    }
    words
}

/// Takes a body, and whether it is only to see if a name is known; says whether it was refused as unknown.
type Take<'a> = &'a mut dyn FnMut(Value, bool) -> bool;

/// Makes bodies from a schema: at each of its bounds and past it, with each member and without.
struct Walk<'a> {
    root: &'a Value,
    names: &'a BTreeSet<String>,
}

/// What a member of any kind may be tried with.
fn pool() -> Vec<Value> {
    vec![json!(true), json!(false), json!(0), json!(1), json!("auto"), json!([]), json!({}), json!("")]
}

impl Walk<'_> {
    fn resolved<'b>(&'b self, schema: &'b Value) -> &'b Value {
        match schema["$ref"].as_str() {
            Some(reference) => self.resolved(self.root.pointer(&reference[1..]).expect("a schema of this name")),
            None => schema,
        }
    }

    /// Every value that is interesting here; `base`: one that is fine, to vary.
    fn bodies(&self, schema: &Value, base: Option<&Value>, take: Take<'_>) {
        let schema = self.resolved(schema);
        if let Some(several) = schema["anyOf"].as_array() {
            for one in several {
                let base = base.filter(|base| self.fits(one, base));
                self.bodies(one, base, take);
            }
            return;
        }
        for value in pool().into_iter().chain([Value::Null, json!("no such word"), json!(-1), json!(0.5)]) {
            take(value, false);
        }
        for value in schema["enum"].as_array().into_iter().flatten().chain(schema.get("const")) {
            take(value.clone(), false);
        }
        let of = |kind: &str| {
            schema["type"] == kind || schema["type"].as_array().is_some_and(|it| it.contains(&json!(kind)))
        };
        if of("string") {
            for length in [schema["minLength"].as_u64(), schema["maxLength"].as_u64(), Some(64)].into_iter().flatten() {
                let length = usize::try_from(length).expect("a length");
                take(json!("a".repeat(length)), false);
                take(json!("a".repeat(length + 1)), false);
            }
            take(self.example(schema), false);
        }
        if of("integer") || of("number") {
            for bound in [&schema["minimum"], &schema["maximum"]] {
                take(bound.clone(), false);
                for sign in [-1_i32, 1] {
                    let beside = match bound.as_i64() {
                        Some(bound) if of("integer") => json!(bound + i64::from(sign)),
                        _ => json!(bound.as_f64().expect("a bound") + 0.01 * f64::from(sign)),
                    };
                    take(beside, false);
                }
            }
        }
        if of("array") {
            self.arrays(schema, base, take);
        }
        if of("object") {
            self.objects(schema, base, take);
        }
    }

    fn arrays(&self, schema: &Value, base: Option<&Value>, take: Take<'_>) {
        let Some(item) = schema.get("items") else { return };
        let base = base.and_then(Value::as_array).cloned().unwrap_or_default();
        let fine = base.first().cloned().unwrap_or_else(|| self.example(item));
        if let Some(most) = schema["maxItems"].as_u64().and_then(|most| usize::try_from(most).ok()) {
            take(json!(vec![fine.clone(); most]), false);
            take(json!(vec![fine.clone(); most + 1]), false);
        }
        take(json!([fine]), false);
        // The first is varied and the others stay.
        self.bodies(item, base.first(), &mut |first, is_probe| {
            let others = base.iter().skip(1).cloned();
            take(Value::Array(std::iter::once(first).chain(others).collect()), is_probe)
        });
    }

    fn objects(&self, schema: &Value, base: Option<&Value>, take: Take<'_>) {
        let base = base.filter(|base| base.is_object()).cloned().unwrap_or_else(|| self.example(schema));
        let with = |name: &str, value: Value| {
            let mut object = base.clone();
            object[name] = value;
            object
        };
        take(base.clone(), false);
        for (name, property) in schema["properties"].as_object().into_iter().flatten() {
            self.bodies(property, base.get(name), &mut |value, is_probe| take(with(name, value), is_probe));
            let mut without = base.clone();
            without.as_object_mut().expect("an object").remove(name);
            take(without, false);
        }
        if schema["additionalProperties"].is_object() {
            self.bodies(&schema["additionalProperties"], None, &mut |value, is_probe| {
                take(json!({"5": value}), is_probe)
            });
            take(json!({"05": 1, "a": "b"}), false);
            let fine = self.example(&schema["additionalProperties"]);
            let most = schema["maxProperties"].as_u64();
            for count in most.map_or(vec![1], |most| vec![most, most + 1]) {
                take((0..count).map(|key| (key.to_string(), fine.clone())).collect(), false);
            }
        } else if schema["additionalProperties"] == false {
            for name in self.names.iter().filter(|name| schema["properties"].get(name.as_str()).is_none()) {
                for value in pool() {
                    if take(with(name, value), true) {
                        break;
                    }
                }
            }
        }
    }

    /// A value that is fine.
    fn example(&self, schema: &Value) -> Value {
        let schema = self.resolved(schema);
        let first = |name: &str| schema[name].get(0).cloned();
        if let Some(value) = first("examples").or_else(|| schema.get("const").cloned()).or_else(|| first("enum")) {
            return value;
        }
        if let Some(one) = first("anyOf") {
            return self.example(&one);
        }
        let kind = schema["type"].as_str().or_else(|| schema["type"].get(0)?.as_str()).unwrap_or("null");
        match kind {
            "boolean" => json!(true),
            "string" => json!("a"),
            "integer" | "number" => schema["minimum"].clone(),
            "array" if schema["minItems"].is_null() => json!([]),
            "array" => json!([self.example(&schema["items"])]),
            "object" => {
                let required = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str);
                required.map(|name| (name.to_owned(), self.example(&schema["properties"][name]))).collect()
            }
            _ => Value::Null,
        }
    }

    fn fits(&self, schema: &Value, value: &Value) -> bool {
        let mut root = self.root.clone();
        root.as_object_mut().expect("an object").remove("$ref");
        root["allOf"] = json!([schema]);
        jsonschema::validator_for(&root).is_ok_and(|validator: Validator| validator.is_valid(value))
    }
}
