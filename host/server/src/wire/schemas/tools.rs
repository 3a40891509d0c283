//! Functions, the form of the answer, and what else several forms of the API share.

use serde_json::{Value, json};

use super::{Members, any_of, array, filled, flag, json_schema, one_of_words, or_null, short_text, text_up_to, told};
use crate::limits;

/// A function's name.
pub(super) fn function_name() -> Value {
    json!({"type": "string", "pattern": "^[A-Za-z0-9_-]{1,64}$", "examples": [super::EXAMPLE_FUNCTION]})
}

/// What a function takes: `parameters`, or `input_schema`.
pub(super) fn parameters() -> Value {
    json!({
        "type": "object",
        "properties": {"type": {"enum": ["object", null]}},
        "description": format!("A JSON schema of an object, at most {} bytes.", limits::TOOL_SCHEMA_BYTES_MAX),
    })
}

pub(super) fn description() -> Value {
    text_up_to(limits::TOOL_DESCRIPTION_BYTES_MAX)
}

pub(super) fn function() -> Members {
    Members::new()
        .must("name", function_name())
        .may("description", description())
        .may("parameters", parameters())
        .may("strict", flag())
}

/// `{"type": "function", "function": …}`
fn wrapped(function: Value) -> Value {
    Members::new().must("type", json!({"const": "function"})).must("function", function).object()
}

fn named() -> Value {
    wrapped(Members::new().must("name", function_name()).object())
}

pub(super) fn mode() -> Value {
    one_of_words(&["auto", "required"])
}

fn choice_words() -> Value {
    one_of_words(&["none", "auto", "required"])
}

/// `tools` and what goes with them, in the form of chats.
pub(super) fn chat_tools() -> Vec<(&'static str, Value)> {
    let allowed = Members::new().must("mode", mode()).must("tools", filled(array(named(), limits::TOOLS_MAX)));
    let allowed = Members::new().may("type", json!({"const": "allowed_tools"})).must("allowed_tools", allowed.object());
    vec![
        ("tools", array(wrapped(function().object()), limits::TOOLS_MAX)),
        ("tool_choice", any_of([choice_words(), named(), allowed.object()])),
        ("parallel_tool_calls", flag()),
        ("function_call", one_of_words(&["none", "auto"])),
    ]
}

/// `tools` and what goes with them, in the form of responses.
pub(super) fn response_tools() -> Vec<(&'static str, Value)> {
    let tool = function().must("type", json!({"const": "function"}));
    let named = Members::new().must("type", json!({"const": "function"})).must("name", function_name());
    let one = Members::new().may("type", json!({"const": "function"})).must("name", function_name());
    let allowed = Members::new()
        .must("type", json!({"const": "allowed_tools"}))
        .must("mode", mode())
        .must("tools", filled(array(one.object(), limits::TOOLS_MAX)));
    vec![
        ("tools", array(tool.object(), limits::TOOLS_MAX)),
        ("tool_choice", any_of([choice_words(), named.object(), allowed.object()])),
        ("parallel_tool_calls", flag()),
    ]
}

/// The members of `format::FormatMembers`.
pub(super) fn formats() -> Vec<(&'static str, Value)> {
    let named = named_schema().must("schema", json_schema()).object();
    let kind = |name: &str| Members::new().must("type", json!({"const": name}));
    let response_format = any_of([
        kind("text").object(),
        kind("json_object").may("schema", json_schema()).object(),
        kind("json_schema").must("schema", json_schema()).object(),
        kind("json_schema").must("json_schema", named).object(),
    ]);
    vec![
        ("response_format", told(response_format, "A schema is enforced, whether or not `strict` says so.")),
        ("json_schema", json_schema()),
        ("grammar", told(filled_text(), "GBNF.")),
        ("structured_outputs", structured_outputs()),
    ]
}

/// What is said of a schema beside it.
pub(super) fn named_schema() -> Members {
    Members::new()
        .may("name", short_text())
        .may("description", text_up_to(limits::FORMAT_TEXT_BYTES_MAX))
        .may("strict", flag())
}

/// vLLM's form: one of these members is there.
fn structured_outputs() -> Value {
    let mut choice = short_text();
    choice["minLength"] = json!(1);
    let members = [
        ("json", any_of([json_schema(), filled_text()])),
        ("json_object", json!({"const": true})),
        ("regex", filled_text()),
        ("choice", filled(array(choice, limits::CHOICES_MAX))),
        ("grammar", told(filled_text(), "GBNF, or Lark.")),
    ];
    let alone = members.iter().map(|(name, schema)| {
        let others = members.iter().filter(|(other, _)| other != name);
        let nothing =
            |other: &str| if other == "json_object" { json!({"enum": [false, null]}) } else { json!({"type": "null"}) };
        let mut one = Members::new().must(name, schema.clone());
        for (other, _) in others {
            one.properties.insert((*other).to_owned(), nothing(other));
        }
        one.object()
    });
    any_of(alone.collect::<Vec<_>>())
}

/// A grammar, an expression or a schema's text.
fn filled_text() -> Value {
    let mut text = text_up_to(limits::FORMAT_TEXT_BYTES_MAX);
    text["pattern"] = json!(r"\S");
    text["examples"] = json!(["a"]);
    text
}

pub(super) fn template_arguments() -> Value {
    let bytes_max = limits::TEMPLATE_ARGUMENTS_BYTES_MAX;
    json!({"type": "object", "description": format!("Variables for the chat template, at most {bytes_max} bytes.")})
}

/// What clients tell of themselves, which changes nothing.
pub(super) fn callers() -> Vec<(&'static str, Value)> {
    ["user", "safety_identifier", "prompt_cache_key"].map(|name| (name, told(short_text(), "Without effect."))).into()
}

/// Words that ask for what happens anyway.
pub(super) fn service_tier() -> Value {
    one_of_words(&["auto", "default"])
}

/// A text, or parts of texts.
pub(super) fn text_or_parts(part: Value) -> Value {
    any_of([super::any_text(), array(part, limits::PARTS_MAX)])
}

/// Any value at all: it is not looked at.
pub(super) fn unread() -> Value {
    or_null(json!({}))
}
