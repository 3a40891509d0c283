//! What bodies look like, as JSON schemas for the OpenAPI document.
//!
//! Answers are described by the types that are written (`schemars`). Requests are read member by member and have no such type:
//! their schemas stand here, with the very constants of the parsers, and `tests.rs` holds both against each other.

mod chat;
mod completion;
mod encode;
mod message;
mod response;
mod response_events;
mod sampling;
#[cfg(test)]
mod tests;
mod tokens;
mod tools;

use schemars::JsonSchema;
use schemars::generate::{SchemaGenerator, SchemaSettings};
use serde_json::{Map, Value, json};

use crate::limits;

pub(crate) use chat::{chat_answer, chat_event, chat_request};
pub(crate) use completion::{completion_answer, completion_event, completion_request};
pub(crate) use encode::{embeddings_answer, embeddings_request, rerank_answer, rerank_request};
pub(crate) use message::{count_tokens_request, message_answer, message_event, message_request};
pub(crate) use response::{response_answer, response_request};
pub(crate) use response_events::response_event;
pub(crate) use tokens::{detokenize_request, render_request, tokenize_request};

/// The schemas of a document, each under a name of its own.
pub(crate) struct Schemas(SchemaGenerator);

impl Schemas {
    pub(crate) fn new() -> Self {
        let settings = SchemaSettings::draft2020_12().for_serialize().with(|settings| {
            settings.definitions_path = "/components/schemas".into();
            settings.meta_schema = None;
        });
        Self(settings.into_generator())
    }

    /// A reference to what is written as a `T`.
    pub(crate) fn of<T: JsonSchema>(&mut self) -> Value {
        self.0.subschema_for::<T>().to_value()
    }

    /// A reference to this schema, which gets this name.
    pub(crate) fn named(&mut self, name: &str, schema: Value) -> Value {
        self.0.definitions_mut().insert(name.to_owned(), schema);
        json!({"$ref": format!("#/components/schemas/{name}")})
    }

    /// All of them by name.
    pub(crate) fn finish(mut self) -> Value {
        let mut schemas = self.0.take_definitions(true);
        schemas.sort_keys();
        Value::Object(schemas)
    }
}

/// What a function is called where a name is needed.
const EXAMPLE_FUNCTION: &str = "get_weather";

/// An object of these members and no others; the first so many have to be there, the rest may be left out or null.
struct Members {
    properties: Map<String, Value>,
    required: Vec<&'static str>,
}

impl Members {
    fn new() -> Self {
        Self { properties: Map::new(), required: Vec::new() }
    }

    fn must(mut self, name: &'static str, schema: Value) -> Self {
        self.required.push(name);
        self.properties.insert(name.to_owned(), schema);
        self
    }

    fn may(mut self, name: &str, schema: Value) -> Self {
        self.properties.insert(name.to_owned(), or_null(schema));
        self
    }

    /// Further members, each of which may be left out.
    fn and(self, members: impl IntoIterator<Item = (&'static str, Value)>) -> Self {
        members.into_iter().fold(self, |this, (name, schema)| this.may(name, schema))
    }

    /// Members that are taken where they ask for nothing: some clients always send them.
    fn empty(self, names: &[&'static str]) -> Self {
        let nothing = || json!({"enum": ["", [], {}], "description": "Taken as long as it is empty."});
        names.iter().fold(self, |this, name| this.may(name, nothing()))
    }

    fn object(self) -> Value {
        let mut object = self.written();
        object["additionalProperties"] = json!(false);
        object
    }

    /// As part of an answer, which may get further members one day.
    fn written(self) -> Value {
        let mut object = json!({"type": "object", "properties": self.properties});
        if !self.required.is_empty() {
            object["required"] = json!(self.required);
        }
        object
    }
}

/// R34: what is null counts as absent.
fn or_null(mut schema: Value) -> Value {
    if let Some(members) = schema.as_object_mut() {
        if let Some(values) = members.get_mut("enum").and_then(Value::as_array_mut) {
            values.push(Value::Null);
        } else if let Some(value) = members.remove("const") {
            members.insert("enum".to_owned(), json!([value, null]));
        }
        match members.get("type").cloned() {
            Some(Value::String(kind)) => drop(members.insert("type".to_owned(), json!([kind, "null"]))),
            Some(Value::Array(mut kinds)) => {
                kinds.push(json!("null"));
                members.insert("type".to_owned(), Value::Array(kinds));
            }
            _ if members.contains_key("enum") || members.is_empty() => {}
            _ => {
                if let Some(several) = members.get_mut("anyOf").and_then(Value::as_array_mut) {
                    several.push(json!({"type": "null"}));
                } else {
                    let description = members.remove("description");
                    schema = json!({"anyOf": [schema, {"type": "null"}]});
                    if let Some(description) = description {
                        schema["description"] = description;
                    }
                }
            }
        }
    }
    schema
}

/// The schema with what it is for.
fn told(mut schema: Value, description: &str) -> Value {
    schema["description"] = json!(description);
    schema
}

/// A text of at most so many bytes of UTF-8, and therefore characters.
fn text_up_to(bytes_max: usize) -> Value {
    json!({"type": "string", "maxLength": bytes_max})
}

fn short_text() -> Value {
    text_up_to(limits::SHORT_TEXT_BYTES_MAX)
}

/// A text whose only limit is that of the body.
fn any_text() -> Value {
    json!({"type": "string"})
}

fn flag() -> Value {
    json!({"type": "boolean"})
}

fn integer(bounds: std::ops::RangeInclusive<u64>) -> Value {
    json!({"type": "integer", "minimum": bounds.start(), "maximum": bounds.end()})
}

/// How many tokens at most.
fn token_count() -> Value {
    integer(1..=u64::from(u32::MAX))
}

/// A token of the model's vocabulary, by number.
fn token() -> Value {
    integer(0..=u64::from(u32::MAX))
}

fn array(items: Value, items_max: usize) -> Value {
    let mut array = json!({"type": "array", "maxItems": items_max});
    array["items"] = items;
    array
}

fn filled(mut array: Value) -> Value {
    array["minItems"] = json!(1);
    array
}

fn any_of(schemas: impl Into<Vec<Value>>) -> Value {
    json!({"anyOf": schemas.into()})
}

fn one_of_words(words: &[&str]) -> Value {
    json!({"type": "string", "enum": words})
}

/// A JSON schema, as a client writes it.
fn json_schema() -> Value {
    json!({"type": ["object", "boolean"], "description": "A JSON schema."})
}

fn model() -> Value {
    told(short_text(), "The name of a model; `GET /v1/models` lists what is served.")
}

/// `metadata`, which changes nothing.
fn metadata() -> Value {
    json!({
        "type": "object",
        "additionalProperties": or_null(short_text()),
        "maxProperties": limits::METADATA_PAIRS_MAX,
        "description": "Taken, and without effect.",
    })
}
