//! What a model reads of a request besides its messages: the descriptions of tools, and texts that a template puts somewhere.

use outrigger_plugin::types::{Part, Request};
use serde_json::{Map, Value};

/// The request's `chat_template_kwargs`. The host has seen that they are an object.
pub(crate) fn template_arguments(request: &Request) -> Map<String, Value> {
    template_arguments_json(request).and_then(|json| serde_json::from_str(json).ok()).unwrap_or_default()
}

fn template_arguments_json(request: &Request) -> Option<&str> {
    request.extra.iter().find(|(name, _)| name == "chat_template_kwargs").map(|(_, json)| json.as_str())
}

/// The first argument that is not among those that are allowed.
pub(crate) fn not_allowed<'a>(arguments: &'a Map<String, Value>, allowed: Option<&[String]>) -> Option<&'a str> {
    let allowed = allowed?;
    arguments.keys().map(String::as_str).find(|name| !allowed.iter().any(|known| known == name))
}

/// A text beside the messages.
pub(crate) struct Beside {
    /// As it is in the request: what is counted.
    pub(crate) written: String,
    /// What its JSON stands for, where it has some.
    pub(crate) meant: Option<String>,
}

impl Beside {
    fn json(text: &str, json: &str) -> Self {
        let mut written = text.to_owned();
        if !json.is_empty() {
            add_line(json, &mut written);
        }
        Self { written, meant: meant(json) }
    }
}

/// The texts of tools, each with all that it has, of template arguments, and names and identifiers that stand beside messages.
pub(crate) fn texts(request: &Request) -> Vec<Beside> {
    let described = request.tools.iter().map(|tool| {
        let mut text = tool.name.clone();
        if let Some(description) = &tool.description {
            add_line(description, &mut text);
        }
        Beside::json(&text, &tool.schema_json)
    });
    let names = request.messages.iter().flat_map(|message| {
        let beside = message.parts.iter().flat_map(|part| match part {
            Part::ToolCall(call) => vec![&call.name, &call.id],
            Part::ToolResult(result) => vec![&result.id],
            _ => Vec::new(),
        });
        message.name.iter().chain(beside).filter(|name| !name.is_empty())
    });
    let names = names.map(|name| Beside { written: name.clone(), meant: None });
    let given = template_arguments_json(request).map(|json| Beside::json("", json));
    described.chain(given).chain(names).collect()
}

/// The strings and numbers that a JSON text stands for: a template writes them anew, so that neither escapes nor exponents hide
/// anything. `None`: it is no JSON.
pub(crate) fn meant(json: &str) -> Option<String> {
    let mut text = String::new();
    add(&serde_json::from_str(json).ok()?, &mut text);
    Some(text)
}

/// Every string and number of a value, names of members included, as lines.
fn add(value: &Value, text: &mut String) {
    match value {
        Value::String(said) => add_line(said, text),
        Value::Number(number) => add_line(&number.to_string(), text),
        Value::Array(items) => items.iter().for_each(|item| add(item, text)),
        Value::Object(members) => {
            for (name, member) in members {
                add_line(name, text);
                add(member, text);
            }
        }
        Value::Null | Value::Bool(_) => {}
    }
}

fn add_line(line: &str, text: &mut String) {
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    text.push_str(line);
}
